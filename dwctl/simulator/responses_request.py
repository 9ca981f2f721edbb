"""A request to POST /responses, read as strictly as OpenAI reads it.

Nothing is kept: a ``previous_response_id`` is never found. Items without ``type`` are messages. The messages of the errors
are OpenAI's where they are known.
"""

from typing import Any

import msgspec

from dwctl.simulator.behaviour import Behaviour
from dwctl.simulator.connection import Request
from dwctl.simulator.openai import closed, invalid, missing, unknown, wrong_type
from dwctl.simulator.responses import Response
from dwctl.simulator.script import Asked, Tool, last_text, words
from dwctl.simulator.signing import opened
from dwctl.simulator.wire import Refused, decoded

MEMBERS = {
    "access_programs", "background", "client_metadata", "context_management", "conversation", "image", "include", "input", "instructions",
    "max_output_tokens", "max_tool_calls", "metadata", "model", "moderation", "parallel_tool_calls", "previous_response_id", "prompt",
    "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning", "safety_identifier", "service_tier", "store",
    "stream", "stream_options", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user",
}  # fmt: skip
TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "model": (str, "a string"),
    "instructions": (str, "a string"),
    "max_output_tokens": (int, "an integer"),
    "stream": (bool, "a boolean"),
    "store": (bool, "a boolean"),
    "background": (bool, "a boolean"),
    "parallel_tool_calls": (bool, "a boolean"),
    "temperature": ((int, float), "a decimal"),
    "top_p": ((int, float), "a decimal"),
    "metadata": (dict, "an object"),
    "reasoning": (dict, "an object"),
    "text": (dict, "an object"),
    "tools": (list, "an array of objects"),
    "include": (list, "an array of strings"),
    "stream_options": (dict, "an object"),
    "user": (str, "a string"),
}
INCLUDES = [
    "file_search_call.results", "web_search_call.results", "web_search_call.action.sources", "message.input_image.image_url",
    "computer_call_output.output.image_url", "code_interpreter_call.outputs", "reasoning.encrypted_content",
    "message.output_text.logprobs",
]  # fmt: skip
TIERS = ["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"]
EFFORTS = ["none", "minimal", "low", "medium", "high", "xhigh", "max"]
ROLES = ["assistant", "system", "developer", "user"]
PARTS = {
    "input_text": ({"text"}, {"prompt_cache_breakpoint"}),
    "input_image": (set[str](), {"image_url", "file_id", "detail", "prompt_cache_breakpoint"}),
    "input_file": (set[str](), {"file_data", "file_id", "file_url", "filename", "detail", "prompt_cache_breakpoint"}),
    "input_audio": ({"input_audio"}, set[str]()),
    "output_text": ({"text"}, {"annotations", "logprobs"}),
    "refusal": ({"refusal"}, set[str]()),
}
GIVEN, MADE = ["input_text", "input_image", "input_file", "input_audio"], ["output_text", "refusal"]
ITEMS = {
    "message": ({"role", "content"}, {"id", "status", "phase"}),
    "function_call": ({"call_id", "name", "arguments"}, {"id", "status", "caller", "namespace", "async"}),
    "function_call_output": ({"call_id", "output"}, {"id", "status", "caller", "name", "namespace"}),
    "reasoning": ({"summary"}, {"id", "content", "encrypted_content", "status"}),
    "item_reference": ({"id"}, set[str]()),
}
"""The items that are checked: members that must be there, and that may."""
OTHERS = {
    "file_search_call", "computer_call", "computer_call_output", "web_search_call", "tool_search_call", "tool_search_output",
    "additional_tools", "configuration_update", "compaction", "image_generation_call", "code_interpreter_call", "local_shell_call",
    "local_shell_call_output", "shell_call", "shell_call_output", "apply_patch_call", "apply_patch_call_output", "mcp_list_tools",
    "mcp_approval_request", "mcp_approval_response", "mcp_call", "custom_tool_call", "custom_tool_call_output", "compaction_trigger",
    "program", "program_output",
}  # fmt: skip
"""The other items of the API: known, and not looked into."""
IDS = {"message": "msg", "function_call": "fc", "reasoning": "rs"}
TOOLS = {
    "web_search", "web_search_preview", "web_search_2025_08_26", "file_search", "computer", "computer_use_preview", "mcp",
    "code_interpreter", "image_generation", "local_shell", "shell", "custom", "apply_patch", "namespace", "tool_search",
    "programmatic_tool_calling",
}  # fmt: skip
FUNCTION = {"type", "name", "description", "parameters", "strict", "allowed_callers", "async", "defer_loading", "output_schema"}


class Asking:
    """A request to /responses."""

    generates = True

    def __init__(self, request: Request, path: str) -> None:
        """Raises `Refused` for what OpenAI refuses."""
        try:
            body = decoded(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Refused(400, "We could not parse the JSON body of your request.") from None
        if not isinstance(body, dict):
            raise Refused(400, "Invalid type for request body: expected an object.")
        for name in body:
            if name not in MEMBERS:
                raise unknown(name)
        for name, (kind, wanted) in TYPES.items():
            value = body.get(name)
            if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
                raise wrong_type(name, value, wanted)
        if not body.get("model"):
            raise missing("model")
        if body.get("previous_response_id"):
            message = f"Previous response with id '{body['previous_response_id']}' not found."
            raise Refused(400, message, code="previous_response_not_found", param="previous_response_id")
        if body.get("input") is None and not body.get("prompt") and not body.get("conversation"):
            raise missing("input")
        _settings(body)
        self._body = body
        self.model: str = body["model"]
        self.stream = body.get("stream") is True
        items = _items(body.get("input", ""))
        tools = _tools(body.get("tools") or [])
        last = items[-1] if items else {}
        self._asked = Asked(
            prompt=words(body.get("instructions")) + sum(words(item) for item in items),
            last=last_text(last),
            entries=len(items),
            limit=body.get("max_output_tokens"),
            tools=tools,
            choice=_choice(body.get("tool_choice"), tools),
            parallel=body.get("parallel_tool_calls") is not False,
            answered=last.get("type") == "function_call_output",
            schema=_schema((body.get("text") or {}).get("format")),
            thinks=(body.get("reasoning") or {}).get("effort") != "none",
        )

    def check(self, behaviour: Behaviour) -> None:
        """Nothing that only a model refuses."""

    def tokens(self, behaviour: Behaviour) -> int:
        return behaviour.tokens if self._asked.limit is None else min(behaviour.tokens, self._asked.limit)

    def answer(self, behaviour: Behaviour, told: bool) -> Response:
        return Response(self._body, self._asked, behaviour, told)


def _settings(body: dict[str, Any]) -> None:
    limit = body.get("max_output_tokens")
    if limit is not None and limit < 16:
        message = f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got {limit} instead."
        raise Refused(400, message, code="integer_below_min_value", param="max_output_tokens")
    for name, top in (("temperature", 2), ("top_p", 1)):
        value = body.get(name)
        if value is not None and not 0 <= value <= top:
            message = f"Invalid '{name}': decimal above maximum value. Expected a value <= {top}, but got {value} instead."
            raise Refused(400, message, code="decimal_above_max_value", param=name)
    for index, name in enumerate(body.get("include") or []):
        if name not in INCLUDES:
            raise invalid(f"include[{index}]", name, INCLUDES)
    if body.get("service_tier") is not None and body["service_tier"] not in TIERS:
        raise invalid("service_tier", body["service_tier"], TIERS)
    if body.get("truncation") not in (None, "auto", "disabled"):
        raise invalid("truncation", body["truncation"], ["auto", "disabled"])
    _members(body.get("stream_options") or {}, {"include_obfuscation"}, "stream_options")
    reasoning = body.get("reasoning") or {}
    _members(reasoning, {"context", "effort", "generate_summary", "mode", "summary"}, "reasoning")
    if reasoning.get("effort") is not None and reasoning["effort"] not in EFFORTS:
        raise invalid("reasoning.effort", reasoning["effort"], EFFORTS)
    if reasoning.get("summary") not in (None, "auto", "concise", "detailed"):
        raise invalid("reasoning.summary", reasoning["summary"], ["auto", "concise", "detailed"])
    _members(body.get("text") or {}, {"format", "verbosity"}, "text")


def _members(holder: dict[str, Any], known: set[str], at: str) -> None:
    for name in holder:
        if name not in known:
            raise unknown(f"{at}.{name}")


def _items(given: Any) -> list[dict[str, Any]]:
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    if not isinstance(given, list):
        raise wrong_type("input", given, "one of an array of objects or string")
    for index, item in enumerate(given):
        _item(item, f"input[{index}]")
    _pairs(given)
    return given


def _item(item: Any, at: str) -> None:
    if not isinstance(item, dict):
        raise wrong_type(at, item, "an object")
    kind = item.get("type", "message")
    if kind in OTHERS:
        return
    if kind not in ITEMS:
        raise invalid(at, kind, sorted({*ITEMS, *OTHERS}))
    needed, allowed = ITEMS[kind]
    for name in sorted(needed):
        if item.get(name) is None:
            raise missing(f"{at}.{name}")
    for name in item:
        if name not in needed and name not in allowed and name != "type":
            raise unknown(f"{at}.{name}")
    identity = item.get("id")
    if identity is not None and kind in IDS and not str(identity).startswith(IDS[kind] + "_"):
        message = f"Invalid '{at}.id': '{identity}'. Expected an ID that begins with '{IDS[kind]}'."
        raise Refused(400, message, code="invalid_value", param=f"{at}.id")
    for name in ("call_id", "name", "arguments"):
        if not isinstance(item.get(name, ""), str):
            raise wrong_type(f"{at}.{name}", item[name], "a string")
    if kind == "message":
        if item["role"] not in ROLES:
            raise invalid(f"{at}.role", item["role"], ROLES)
        _content(item["content"], MADE if item["role"] == "assistant" else GIVEN, f"{at}.content")
    elif kind == "function_call_output":
        _content(item["output"], GIVEN[:3], f"{at}.output")
    elif kind == "reasoning":
        sealed = item.get("encrypted_content")
        if sealed is not None and (not isinstance(sealed, str) or opened(sealed) is None):
            message = (
                f"The encrypted content {str(sealed)[:4]}...{str(sealed)[-4:]} could not be verified. "
                "Reason: Encrypted content could not be decrypted or parsed."
            )
            raise Refused(400, message, code="invalid_encrypted_content")


def _content(content: Any, known: list[str], at: str) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise wrong_type(at, content, "one of an array of objects or string")
    for index, part in enumerate(content):
        where = f"{at}[{index}]"
        if not isinstance(part, dict):
            raise wrong_type(where, part, "an object")
        kind = part.get("type")
        if kind is None:
            raise missing(f"{where}.type")
        if kind not in known:
            raise invalid(where, kind, known)
        needed, allowed = PARTS[kind]
        for name in needed:
            if part.get(name) is None:
                raise missing(f"{where}.{name}")
        for name in part:
            if name not in needed and name not in allowed and name != "type":
                raise unknown(f"{where}.{name}")
        if kind == "input_image" and not isinstance(part.get("image_url", ""), str | None):
            raise wrong_type(f"{where}.image_url", part["image_url"], "a string")


def _pairs(items: list[dict[str, Any]]) -> None:
    """Every output has its call before it, every call its output, every thought what it led to."""
    called: list[str] = []
    answered: set[str] = set()
    for index, item in enumerate(items):
        kind = item.get("type", "message")
        if kind == "function_call":
            called.append(item["call_id"])
        elif kind == "function_call_output":
            if item["call_id"] not in called:
                raise Refused(400, f"No tool call found for function call output with call_id {item['call_id']}.", param="input")
            answered.add(item["call_id"])
        elif kind == "reasoning":
            following = items[index + 1] if index + 1 < len(items) else {"type": "message", "role": "user"}
            if following.get("type", "message") == "message" and following.get("role") != "assistant":
                name = item.get("id", "")
                raise Refused(400, f"Item '{name}' of type 'reasoning' was provided without its required following item.", param="input")
    for name in called:
        if name not in answered:
            raise Refused(400, f"No tool output found for function call {name}.", param="input")


def _tools(tools: list[Any]) -> list[Tool]:
    found = []
    for index, tool in enumerate(tools):
        at = f"tools[{index}]"
        if not isinstance(tool, dict):
            raise wrong_type(at, tool, "an object")
        kind = tool.get("type")
        if kind is None:
            raise missing(f"{at}.type")
        if kind in TOOLS:
            continue
        if kind != "function":
            raise invalid(at, kind, ["function", *sorted(TOOLS)])
        if not isinstance(tool.get("name"), str) or not tool["name"]:
            raise missing(f"{at}.name")
        for name in tool:
            if name not in FUNCTION:
                raise unknown(f"{at}.{name}")
        if tool.get("strict") is True:
            closed(tool.get("parameters"), f"function '{tool['name']}'", f"{at}.parameters")
        found.append(Tool(tool["name"], tool.get("parameters")))
    return found


def _choice(choice: Any, tools: list[Tool]) -> str | None:
    if choice in (None, "auto"):
        return None
    if choice in ("none", "required"):
        return "none" if choice == "none" else "any"
    if not isinstance(choice, dict):
        raise invalid("tool_choice", choice, ["none", "auto", "required"])
    if choice.get("type") == "function":
        if not choice.get("name"):
            raise missing("tool_choice.name")
        if all(tool.name != choice["name"] for tool in tools):
            raise Refused(400, f"Tool choice 'function' not found in 'tools' parameter: {choice['name']}.", param="tool_choice")
        return f"={choice['name']}"
    if choice.get("type") == "allowed_tools":
        return None if choice.get("mode") == "auto" else "any"
    return None


def _schema(wanted: Any) -> Any:
    if wanted is None:
        return None
    if not isinstance(wanted, dict):
        raise wrong_type("text.format", wanted, "an object")
    kind = wanted.get("type")
    if kind not in ("text", "json_object", "json_schema"):
        raise invalid("text.format.type", kind, ["json_object", "json_schema", "text"])
    if kind != "json_schema":
        return None if kind == "text" else {}
    for name in ("name", "schema"):
        if not wanted.get(name):
            raise missing(f"text.format.{name}")
    _members(wanted, {"type", "name", "schema", "strict", "description"}, "text.format")
    if wanted.get("strict"):
        closed(wanted["schema"], f"response_format '{wanted['name']}'", "text.format.schema")
    return wanted["schema"]
