"""A client's request to /v1/messages, read into the canonical one (API reference: create a message, count tokens)."""

import json
from typing import Any, NamedTuple

from dwctl.dialects import efforts
from dwctl.dialects.canonical import (
    File,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    is_silent,
)
from dwctl.dialects.reading import (
    a_string,
    an_array,
    an_object,
    missing,
    optional_array,
    optional_boolean,
    optional_integer,
    optional_number,
    optional_object,
    optional_string,
    required,
    silent,
    string,
    wrong_type,
    wrong_value,
)
from dwctl.dialects.signatures import unwrap
from dwctl.errors import bad_request

MIN_BUDGET = 1024
"""Tokens; the least that a request may grant for thinking."""

_KNOWN = {
    "model", "messages", "max_tokens", "system", "stream", "tools", "tool_choice", "temperature", "top_p", "top_k", "stop_sequences",
    "thinking", "output_config", "output_format", "metadata", "service_tier",
}  # fmt: skip


def parse_request(body: dict[str, Any]) -> Request:
    """Raises GatewayError 400 that names the field."""
    if body.get("max_tokens") is None:
        raise missing("max_tokens")
    return _parse(body)


def parse_count_request(body: dict[str, Any]) -> Request:
    """The request whose input tokens /v1/messages/count_tokens is to count. Raises GatewayError 400 that names the field."""
    return _parse(body)


def _parse(body: dict[str, Any]) -> Request:
    others = {name: value for name, value in body.items() if name not in _KNOWN}
    request = Request(
        model=string(body, "model", "model"),
        messages=_system(body.get("system")),
        stream=optional_boolean(body, "stream", "stream") or False,
        max_output=optional_integer(body, "max_tokens", "max_tokens", least=0),
        temperature=optional_number(body, "temperature", "temperature"),
        top_p=optional_number(body, "top_p", "top_p"),
        top_k=optional_integer(body, "top_k", "top_k", least=0),
        service_tier=optional_string(body, "service_tier", "service_tier"),
        others=others,
    )
    if request.service_tier == "standard_only":
        request.service_tier = "default"
    messages = an_array(required(body, "messages", "messages"), "messages")
    if not messages:
        raise bad_request("messages: at least one message is required", code="empty_array", param="messages")
    for index, message in enumerate(messages):
        request.messages += _message(an_object(message, f"messages.{index}"), f"messages.{index}", others)
    if is_silent(request.messages):
        raise silent("messages")
    if (stops := optional_array(body, "stop_sequences", "stop_sequences")) is not None:
        request.stop = [a_string(stop, f"stop_sequences.{index}") for index, stop in enumerate(stops)]
    for index, tool in enumerate(optional_array(body, "tools", "tools") or []):
        request.tools.append(_tool(an_object(tool, f"tools.{index}"), f"tools.{index}", others))
    _read_tool_choice(request, optional_object(body, "tool_choice", "tool_choice"))
    _read_output(request, body)
    _read_thinking(request, optional_object(body, "thinking", "thinking"))
    if (metadata := optional_object(body, "metadata", "metadata")) is not None:
        request.user = optional_string(metadata, "user_id", "metadata.user_id")
        _note(others, metadata, "metadata", {"user_id"})
    return request


def _note(others: dict[str, Any], value: dict[str, Any], path: str, known: set[str]) -> None:
    """What of ``value`` has no meaning here, once for all elements of a list."""
    for name in value.keys() - known:
        if value[name] is not None:
            others.setdefault(f"{path}.{name}", value[name])


def _system(system: Any) -> list[Message]:
    return [Message("system", _texts(system, "system"))] if system else []


def _texts(content: Any, path: str) -> list[Part]:
    """A system prompt: a string or text blocks."""
    parts: list[Part] = []
    for place, block in _blocks(content, path):
        if block["type"] != "text":
            raise wrong_value(f"{place}.type", "'text'")
        parts.append(_text(block, place))
    return parts


def _blocks(content: Any, path: str) -> list[tuple[str, dict[str, Any]]]:
    """The content blocks that ``content``, a string or an array, holds; each with its path, and a string for its type."""
    if isinstance(content, str):
        return [(path, {"type": "text", "text": content})]
    if not isinstance(content, list):
        raise wrong_type(path, "a string or an array", content)
    blocks = []
    for index, value in enumerate(content):
        place = f"{path}.{index}"
        block = an_object(value, place)
        string(block, "type", f"{place}.type")
        blocks.append((place, block))
    return blocks


def _message(message: dict[str, Any], path: str, others: dict[str, Any]) -> list[Message]:
    role = string(message, "role", f"{path}.role")
    content = required(message, "content", f"{path}.content")
    match role:
        case "system":
            return [Message("system", _texts(content, f"{path}.content"))]
        case "assistant":
            return [Message("assistant", _parts(content, f"{path}.content", others).rest)]
        case "user":
            parts = _parts(content, f"{path}.content", others)
            results: list[Part] = list(parts.results)
            messages = [Message("tool", results)] if results else []
            return [*messages, Message("user", parts.rest)] if parts.rest or not results else messages
    raise bad_request(f"{path}.role: unsupported message role: {role}", code="invalid_value", param=f"{path}.role")


class _Parts(NamedTuple):
    results: list[ToolResult]
    rest: list[Part]


def _parts(content: Any, path: str, others: dict[str, Any]) -> _Parts:
    found = _Parts([], [])
    for place, block in _blocks(content, path):
        match block["type"]:
            case "tool_use":
                found.rest.append(_tool_use(block, place))
            case "tool_result":
                result, foreign = _tool_result(block, place, others)
                found.results.append(result)
                found.rest.extend(foreign)
            case "thinking":
                signature = optional_string(block, "signature", f"{place}.signature")
                found.rest.append(unwrap(string(block, "thinking", f"{place}.thinking"), signature or None, "anthropic"))
            case "redacted_thinking":
                found.rest.append(_redacted(string(block, "data", f"{place}.data")))
            case _:
                found.rest.extend(_shown(block, place, others))
    return found


def _shown(block: dict[str, Any], path: str, others: dict[str, Any]) -> list[Text | Image | File | Foreign]:
    """A block that a message and a tool's result may hold."""
    match block["type"]:
        case "text":
            return [_text(block, path)]
        case "image":
            return [_image(block, path)]
        case "document":
            return _document(block, path, others)
        case "search_result":
            return [_search_result(block, path)]
    return [Foreign(path, block["type"])]


def _cache(block: dict[str, Any], path: str) -> dict[str, Any] | None:
    return optional_object(block, "cache_control", f"{path}.cache_control")


def _text(block: dict[str, Any], path: str) -> Text:
    return Text(string(block, "text", f"{path}.text"), _cache(block, path))


def _redacted(data: str) -> Reasoning:
    thought = unwrap("", data, "anthropic")
    thought.redacted = True
    return thought


def _image(block: dict[str, Any], path: str) -> Image | Foreign:
    at = f"{path}.source"
    source = an_object(required(block, "source", at), at)
    cache = _cache(block, path)
    match string(source, "type", f"{at}.type"):
        case "base64":
            media_type = string(source, "media_type", f"{at}.media_type")
            return Image(f"{at}.data", data=string(source, "data", f"{at}.data"), media_type=media_type, cache=cache)
        case "url":
            return Image(f"{at}.url", url=string(source, "url", f"{at}.url"), cache=cache)
        case "file":
            return Image(f"{at}.file_id", file_id=string(source, "file_id", f"{at}.file_id"), cache=cache)
    return Foreign(f"{at}.type", source["type"])


def _document(block: dict[str, Any], path: str, others: dict[str, Any]) -> list[Text | Image | File | Foreign]:
    at = f"{path}.source"
    source = an_object(required(block, "source", at), at)
    citations = optional_object(block, "citations", f"{path}.citations")
    if citations is not None and citations.get("enabled"):
        others.setdefault("messages.content.citations", citations)
    document = File(
        at,
        name=optional_string(block, "title", f"{path}.title"),
        context=optional_string(block, "context", f"{path}.context"),
        cache=_cache(block, path),
    )
    pictures: list[Text | Image | File | Foreign] = []
    match string(source, "type", f"{at}.type"):
        case "base64":
            document.path = f"{at}.data"
            document.data = string(source, "data", document.path)
            document.media_type = optional_string(source, "media_type", f"{at}.media_type") or "application/pdf"
        case "text":
            document.path = f"{at}.data"
            document.text = string(source, "data", document.path)
            document.media_type = "text/plain"
        case "url":
            document.path = f"{at}.url"
            document.url = string(source, "url", document.path)
        case "file":
            document.path = f"{at}.file_id"
            document.file_id = string(source, "file_id", document.path)
        case "content":
            document.path = f"{at}.content"
            document.media_type = "text/plain"
            texts = []
            for place, inner in _blocks(required(source, "content", document.path), document.path):
                if inner["type"] == "text":
                    texts.append(string(inner, "text", f"{place}.text"))
                else:
                    pictures += _shown(inner, place, others)
            document.text = "\n\n".join(texts)
        case kind:
            return [Foreign(f"{at}.type", kind)]
    return [document, *pictures]


def _search_result(block: dict[str, Any], path: str) -> Text:
    lines = [optional_string(block, name, f"{path}.{name}") or "" for name in ("title", "source")]
    at = f"{path}.content"
    for place, inner in _blocks(required(block, "content", at), at):
        lines.append(string(inner, "text", f"{place}.text"))
    return Text("\n".join(line for line in lines if line), _cache(block, path))


def _tool_use(block: dict[str, Any], path: str) -> ToolCall:
    arguments = an_object(required(block, "input", f"{path}.input"), f"{path}.input")
    return ToolCall(
        string(block, "id", f"{path}.id"),
        string(block, "name", f"{path}.name"),
        json.dumps(arguments, ensure_ascii=False, separators=(",", ":")),
        cache=_cache(block, path),
    )


def _tool_result(block: dict[str, Any], path: str, others: dict[str, Any]) -> tuple[ToolResult, list[Foreign]]:
    result = ToolResult(
        string(block, "tool_use_id", f"{path}.tool_use_id"),
        [],
        is_error=optional_boolean(block, "is_error", f"{path}.is_error") or False,
        cache=_cache(block, path),
    )
    foreign: list[Foreign] = []
    if block.get("content") is not None:
        for place, inner in _blocks(block["content"], f"{path}.content"):
            for part in _shown(inner, place, others):
                if isinstance(part, Foreign):
                    foreign.append(part)
                else:
                    result.parts.append(part)
    return result, foreign


def _tool(tool: dict[str, Any], path: str, others: dict[str, Any]) -> Tool:
    kind = optional_string(tool, "type", f"{path}.type") or "custom"
    if kind != "custom":
        return Tool(path, optional_string(tool, "name", f"{path}.name") or kind, hosted=kind, cache=_cache(tool, path))
    _note(others, tool, "tools", {"type", "name", "description", "input_schema", "strict", "cache_control"})
    return Tool(
        path,
        string(tool, "name", f"{path}.name"),
        optional_string(tool, "description", f"{path}.description"),
        optional_object(tool, "input_schema", f"{path}.input_schema"),
        strict=optional_boolean(tool, "strict", f"{path}.strict"),
        cache=_cache(tool, path),
    )


def _read_tool_choice(request: Request, choice: dict[str, Any] | None) -> None:
    if choice is None:
        return
    match string(choice, "type", "tool_choice.type"):
        case "auto":
            request.tool_choice = ToolChoice("auto")
        case "any":
            request.tool_choice = ToolChoice("required")
        case "none":
            request.tool_choice = ToolChoice("none")
        case "tool":
            request.tool_choice = ToolChoice("named", [string(choice, "name", "tool_choice.name")])
        case _:
            raise wrong_value("tool_choice.type", "'auto', 'any', 'tool' or 'none'")
    disabled = optional_boolean(choice, "disable_parallel_tool_use", "tool_choice.disable_parallel_tool_use")
    request.parallel_tool_calls = None if disabled is None else not disabled


def _read_output(request: Request, body: dict[str, Any]) -> None:
    config = optional_object(body, "output_config", "output_config") or {}
    request.effort = optional_string(config, "effort", "output_config.effort")
    if request.effort not in (None, *efforts.WORDS):
        raise wrong_value("output_config.effort", "'low', 'medium', 'high', 'xhigh' or 'max'")
    _note(request.others, config, "output_config", {"effort", "format"})
    path, wanted = "output_config.format", optional_object(config, "format", "output_config.format")
    if wanted is None:
        path, wanted = "output_format", optional_object(body, "output_format", "output_format")
    if wanted is None:
        return
    if string(wanted, "type", f"{path}.type") != "json_schema":
        raise wrong_value(f"{path}.type", "'json_schema'")
    if "schema" not in wanted:
        raise missing(f"{path}.schema")
    request.output_format = OutputFormat(
        an_object(wanted["schema"], f"{path}.schema"), name=optional_string(wanted, "name", f"{path}.name")
    )


def _read_thinking(request: Request, thinking: dict[str, Any] | None) -> None:
    if thinking is not None:
        match string(thinking, "type", "thinking.type"):
            case "enabled":
                request.thinking = "enabled"
                request.thinking_budget = _budget(thinking, request.max_output)
            case "adaptive":
                request.thinking = "adaptive"
            case "disabled":
                request.thinking = "disabled"
            case kind:
                request.others["thinking.type"] = kind
        match optional_string(thinking, "display", "thinking.display"):
            case "omitted":
                request.reasoning_summary = "omitted"
            case "summarized":
                request.reasoning_summary = "auto"
        _note(request.others, thinking, "thinking", {"type", "budget_tokens", "display"})
    # Anthropic's thoughts are always signed, and come back with the next turn.
    if request.thinking in ("enabled", "adaptive") or request.effort is not None:
        request.encrypted_reasoning = True


def _budget(thinking: dict[str, Any], max_output: int | None) -> int:
    path = "thinking.budget_tokens"
    budget = optional_integer(thinking, "budget_tokens", path, least=MIN_BUDGET)
    if budget is None:
        raise missing(path)
    if max_output is not None and budget >= max_output:
        raise bad_request(
            "'max_tokens' must be greater than 'thinking.budget_tokens'.", code="reasoning_budget_exceeds_max_tokens", param=path
        )
    return budget
