"""A request to POST /messages, read as strictly as Anthropic reads it.

Unknown members are refused, except those of a beta when the request names one (``anthropic-beta``). Both versions of the API
are known. The messages of the errors are Anthropic's where they are known.
"""

import re
from typing import Any

import msgspec

from dwctl.simulator.anthropic import Counted, Messages
from dwctl.simulator.anthropic_messages import TOOL_NAME, check_block, check_newest, must, only, read_messages
from dwctl.simulator.behaviour import Behaviour
from dwctl.simulator.connection import Request
from dwctl.simulator.script import Asked, Tool, last_text, words
from dwctl.simulator.wire import Refused, decoded

COUNTED = {
    "model", "messages", "cache_control", "output_config", "speed", "system", "thinking", "tool_choice", "tools", "user_profile_id",
    "workspace_id",
}  # fmt: skip
MEMBERS = COUNTED | {
    "max_tokens", "container", "diagnostics", "inference_geo", "metadata", "service_tier", "stop_sequences", "stream",
}  # fmt: skip
SAMPLING = {"temperature", "top_k", "top_p"}
"""Gone with the version of October 2026."""
VERSIONS = ("2026-10-21", "2023-06-01")
BETA = {
    "betas", "billing_policy", "compaction", "context_management", "fallback_credit_token", "fallbacks", "mcp_servers", "output_format",
    "thread",
}  # fmt: skip


class Asking:
    """A request to /messages or /messages/count_tokens."""

    def __init__(self, request: Request, path: str) -> None:
        """Raises `Refused` for what Anthropic refuses."""
        version = (request.header(b"anthropic-version") or b"").decode("latin-1")
        must(bool(version), "anthropic-version: header is required")
        must(version in VERSIONS, f'anthropic-version: "{version}" is not a valid version')
        newest = version == VERSIONS[0]
        try:
            body = decoded(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(400, f"The request body is not valid JSON: {error}") from None
        if not isinstance(body, dict):
            raise Refused(400, "Input should be an object")
        self._counts = path.endswith("/count_tokens")
        known = (COUNTED if self._counts else MEMBERS) | (set() if newest else SAMPLING)
        only(body, known | (BETA if request.header(b"anthropic-beta") else set()), "")
        for name in ("model", "messages") if self._counts else ("model", "max_tokens", "messages"):
            must(name in body, f"{name}: Field required")
        must(isinstance(body["model"], str) and bool(body["model"]), "model: Input should be a valid string")
        self.model: str = body["model"]
        stream = body.get("stream", False)
        must(isinstance(stream, bool), "stream: Input should be a valid boolean")
        self.stream: bool = stream
        self.generates = not self._counts
        thinking = _thinking(body)
        system = _system(body)
        messages = read_messages(body["messages"], thinking)
        if newest:
            check_newest(messages)
        tools = _tools(body)
        _scalars(body)
        self._omitted = thinking.get("display") == "omitted"
        self._tier = "standard"
        last = messages[-1]
        result = isinstance(last["content"], list) and any(block["type"] == "tool_result" for block in last["content"])
        self._asked = Asked(
            prompt=words(system) + sum(words(message["content"]) for message in messages),
            last=last_text(last["content"]),
            entries=len(messages),
            limit=body.get("max_tokens"),
            tools=tools,
            choice=_choice(body, tools, thinking),
            parallel=not (body.get("tool_choice") or {}).get("disable_parallel_tool_use", False),
            answered=result,
            stops=body.get("stop_sequences") or [],
            schema=_format(body),
            thinks=thinking.get("type") not in ("disabled", "between_tools"),
        )

    def check(self, behaviour: Behaviour) -> None:
        """Nothing that only a model refuses."""

    def tokens(self, behaviour: Behaviour) -> int:
        return 0 if self._counts else min(behaviour.tokens, self._asked.limit or 0)

    def answer(self, behaviour: Behaviour, told: bool) -> Messages | Counted:
        if self._counts:
            return Counted(self._asked, behaviour)
        return Messages(self.model, self._tier, self._omitted, self._asked, behaviour, told)


def _scalars(body: dict[str, Any]) -> None:
    if "max_tokens" in body:
        limit = body["max_tokens"]
        must(type(limit) is int, "max_tokens: Input should be a valid integer")
        must(limit >= 0, "max_tokens: Input should be greater than or equal to 0")
    for name, top in (("temperature", 1), ("top_p", 1)):
        value = body.get(name)
        must(value is None or type(value) in (int, float), f"{name}: Input should be a valid number")
        must(value is None or 0 <= value <= top, f"{name}: range: 0..{top}")
    must(type(body.get("top_k", 1)) is int, "top_k: Input should be a valid integer")
    stops = body.get("stop_sequences", [])
    must(isinstance(stops, list) and all(isinstance(stop, str) for stop in stops), "stop_sequences: Input should be a valid list")
    must(all(stop.strip() for stop in stops), "stop_sequences: each stop sequence must contain non-whitespace")
    must(body.get("service_tier", "auto") in ("auto", "standard_only"), "service_tier: Input should be 'auto' or 'standard_only'")
    metadata = body.get("metadata", {})
    must(isinstance(metadata, dict), "metadata: Input should be an object")
    only(metadata, {"user_id"}, "metadata.")
    effort = (body.get("output_config") or {}).get("effort")
    must(
        effort in (None, "low", "medium", "high", "xhigh", "max"),
        "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'",
    )


def _thinking(body: dict[str, Any]) -> dict[str, Any]:
    thinking: Any = body.get("thinking")
    if thinking is None:
        return {}
    known = {
        "enabled": {"type", "budget_tokens", "display"}, "adaptive": {"type", "display"}, "disabled": {"type"}, "between_tools": {"type"}
    }  # fmt: skip
    must(isinstance(thinking, dict), "thinking: Input should be an object")
    kind = thinking.get("type")
    must(
        kind in known,
        f"thinking: Input tag '{kind}' found using 'type' does not match any of the expected tags: 'adaptive', 'disabled', 'enabled'",
    )
    only(thinking, known[kind], f"thinking.{kind}.")
    if kind == "enabled":
        budget = thinking.get("budget_tokens")
        must(budget is not None, "thinking.enabled.budget_tokens: Field required")
        must(type(budget) is int, "thinking.enabled.budget_tokens: Input should be a valid integer")
        must(budget >= 1024, "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        limit = body.get("max_tokens")
        must(
            type(limit) is not int or limit > budget,
            "`max_tokens` must be greater than `thinking.budget_tokens`. Please consult our documentation at https://docs.claude.com/en/docs/build-with-claude/extended-thinking#max-tokens-and-context-window-size",
        )
        must(body.get("temperature", 1) == 1, "`temperature` may only be set to 1 when thinking is enabled.")
    return dict(thinking)


def _system(body: dict[str, Any]) -> Any:
    system = body.get("system", "")
    if isinstance(system, str):
        return system
    must(isinstance(system, list), "system: Input should be a valid list")
    for index, block in enumerate(system):
        must(isinstance(block, dict) and block.get("type") == "text", f"system.{index}.type: Input should be 'text'")
        check_block(block, f"system.{index}.")
    return system


def _tools(body: dict[str, Any]) -> list[Tool]:
    tools = body.get("tools") or []
    must(isinstance(tools, list), "tools: Input should be a valid list")
    known = {
        "type", "name", "description", "input_schema", "cache_control", "allowed_callers", "defer_loading", "eager_input_streaming",
        "input_examples", "strict",
    }  # fmt: skip
    found = []
    for index, tool in enumerate(tools):
        must(isinstance(tool, dict), f"tools.{index}: Input should be an object")
        kind = tool.get("type") or "custom"
        if kind != "custom":
            must(
                re.fullmatch(r"[a-z0-9_]+_20\d{6}|mcp_toolset", kind) is not None,
                f"tools.{index}: Input tag '{kind}' found using 'type' does not match any of the expected tags: 'custom', 'bash_20250124', "
                "'text_editor_20250728', 'web_search_20250305'",
            )
            continue
        for name in ("name", "input_schema"):
            must(name in tool, f"tools.{index}.custom.{name}: Field required")
        only(tool, known, f"tools.{index}.custom.")
        must(
            isinstance(tool["name"], str) and bool(TOOL_NAME.fullmatch(tool["name"])),
            f"tools.{index}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'",
        )
        schema = tool["input_schema"]
        must(isinstance(schema, dict), f"tools.{index}.custom.input_schema: Input should be an object")
        must("type" in schema, f"tools.{index}.custom.input_schema.type: Field required")
        must(schema["type"] == "object", f"tools.{index}.custom.input_schema.type: Input should be 'object'")
        must(isinstance(tool.get("description", ""), str), f"tools.{index}.custom.description: Input should be a valid string")
        found.append(Tool(tool["name"], schema))
    must(len({tool.name for tool in found}) == len(found), "tools: Tool names must be unique.")
    return found


def _choice(body: dict[str, Any], tools: list[Tool], thinking: dict[str, Any]) -> str | None:
    choice = body.get("tool_choice")
    if choice is None:
        return None
    known = {
        "auto": {"type", "disable_parallel_tool_use"},
        "any": {"type", "disable_parallel_tool_use"},
        "tool": {"type", "name", "disable_parallel_tool_use"},
        "none": {"type"},
    }
    must(isinstance(choice, dict), "tool_choice: Input should be an object")
    kind = choice.get("type")
    must(
        kind in known,
        f"tool_choice: Input tag '{kind}' found using 'type' does not match any of the expected tags: 'auto', 'any', 'tool', 'none'",
    )
    only(choice, known[kind], f"tool_choice.{kind}.")
    must(bool(body.get("tools")) or kind == "none", "tool_choice may only be specified while providing tools")
    must(
        kind not in ("any", "tool") or thinking.get("type") not in ("enabled", "adaptive"),
        "Thinking may not be enabled when tool_choice forces tool use.",
    )
    if kind == "tool":
        must("name" in choice, "tool_choice.tool.name: Field required")
        must(any(tool.name == choice["name"] for tool in tools), f"Tool '{choice['name']}' not found in provided tools")
        return f"={choice['name']}"
    return None if kind == "auto" else str(kind)


def _format(body: dict[str, Any]) -> Any:
    config = body.get("output_config")
    if config is None:
        return None
    must(isinstance(config, dict), "output_config: Input should be an object")
    only(config, {"effort", "format", "task_budget"}, "output_config.")
    wanted = config.get("format")
    if wanted is None:
        return None
    must(isinstance(wanted, dict) and wanted.get("type") == "json_schema", "output_config.format.type: Input should be 'json_schema'")
    must(isinstance(wanted.get("schema"), dict), "output_config.format.schema: Field required")
    only(wanted, {"type", "schema"}, "output_config.format.")
    _closed(wanted["schema"])
    return wanted["schema"]


def _closed(schema: Any) -> None:
    """Every object of a schema says that it has no other members."""
    if isinstance(schema, list):
        for item in schema:
            _closed(item)
    if isinstance(schema, dict):
        must(
            schema.get("type") != "object" or schema.get("additionalProperties") is False,
            "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false",
        )
        for name, inner in schema.items():
            if name in ("properties", "$defs", "definitions") and isinstance(inner, dict):
                for item in inner.values():
                    _closed(item)
            elif name in ("items", "anyOf", "allOf", "oneOf"):
                _closed(inner)
