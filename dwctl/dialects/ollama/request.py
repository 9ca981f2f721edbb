"""What clients of Ollama's API ask (docs.ollama.com: API reference, "Generate a chat message")."""

import binascii
import re
from collections import deque
from collections.abc import Iterable
from typing import Any

from dwctl.dialects.answers import Finish
from dwctl.dialects.canonical import (
    Image,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Request,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    is_silent,
)
from dwctl.dialects.json_text import encode
from dwctl.dialects.reading import (
    a_string,
    an_array,
    an_object,
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

_SETTINGS = frozenset({"model", "stream", "options", "think", "format", "logprobs", "top_logprobs"})
_NUMBERS = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty")
_INTEGERS = ("top_k", "seed")
_OPTIONS = frozenset({"num_predict", "stop", *_NUMBERS, *_INTEGERS})
_EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh", "max"})
_MESSAGE = frozenset({"role", "content", "thinking", "images", "tool_calls", "tool_name", "tool_call_id"})
_TOOL = frozenset({"type", "function"})
_FUNCTION = frozenset({"name", "description", "parameters"})
_ROLES: dict[str, Role] = {"system": "system", "developer": "developer", "user": "user", "assistant": "assistant", "tool": "tool"}
_SOME_TIME = re.compile("[1-9]")
_SIGNATURES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}


def parse_request(body: dict[str, Any]) -> Request:
    """Without messages it `loads`. Raises GatewayError 400 that names the field."""
    request = settings(body, {"messages", "tools"})
    request.messages = _messages(optional_array(body, "messages", "messages") or [], request.others)
    if request.messages and is_silent(request.messages):
        raise silent("messages")
    request.tools = [
        _tool(tool, f"tools[{index}]", request.others) for index, tool in enumerate(optional_array(body, "tools", "tools") or [])
    ]
    return request


def loads(request: Request) -> Finish | None:
    """Whether a request asks nothing, but has its model loaded, or unloaded by a ``keep_alive`` of no time."""
    if request.messages:
        return None
    kept = request.others.get("keep_alive")
    return "unload" if kept == 0 or (isinstance(kept, str) and "0" in kept and not _SOME_TIME.search(kept)) else "load"


def settings(body: dict[str, Any], content: Iterable[str]) -> Request:
    """All of a request but what the model is told, which is in the fields ``content``; its ``others`` are there, too."""
    options = optional_object(body, "options", "options") or {}
    sampling: dict[str, Any] = {
        **{name: optional_number(options, name, f"options.{name}") for name in _NUMBERS},
        **{name: optional_integer(options, name, f"options.{name}") for name in _INTEGERS},
    }
    request = Request(
        model=optional_string(body, "model", "model") or "",
        messages=[],
        stream=optional_boolean(body, "stream", "stream") is not False,
        output_format=_output_format(body.get("format")),
        **sampling,
    )
    limit = optional_integer(options, "num_predict", "options.num_predict")
    request.max_output = limit if limit is not None and limit > 0 else None  # the others mean: no limit
    request.stop = _stop(options.get("stop"))
    if optional_boolean(body, "logprobs", "logprobs"):
        request.logprobs = True
        request.top_logprobs = optional_integer(body, "top_logprobs", "top_logprobs", least=0) or None
    _think(body.get("think"), request)
    others: dict[str, Any] = {}
    _remember(body, _SETTINGS.union(content), "", others)
    _remember(options, _OPTIONS, "options.", others)
    request.others = others
    return request


def pictures(value: Any, path: str) -> list[Image]:
    """Pictures, of which Ollama's API has nothing but their bytes in base64."""
    return [_image(item, f"{path}[{index}]") for index, item in enumerate(an_array(value or [], path))]


def _remember(value: dict[str, Any], known: Iterable[str], path: str, others: dict[str, Any]) -> None:
    """Keep what is not known by its path."""
    for name in value.keys() - known:
        if value[name] is not None:
            others[path + name] = value[name]


def _output_format(value: Any) -> OutputFormat | None:
    if value is None or value == "":
        return None
    if isinstance(value, dict):
        return OutputFormat(schema=value)
    if a_string(value, "format") != "json":
        raise wrong_value("format", "'json' or a JSON schema")
    return OutputFormat()


def _stop(value: Any) -> list[str] | None:
    if isinstance(value, str):
        value = [value] if value else []
    return [a_string(item, f"options.stop[{index}]") for index, item in enumerate(an_array(value or [], "options.stop"))] or None


def _think(value: Any, request: Request) -> None:
    if isinstance(value, bool):
        request.thinking = "enabled" if value else "disabled"
    elif isinstance(value, str) and value in _EFFORTS:
        request.thinking, request.effort = "enabled", value
    elif isinstance(value, str):
        raise wrong_value("think", "true, false, 'low', 'medium', 'high' or 'max'")
    elif value is not None:
        raise wrong_type("think", "a boolean or a string", value)


def _tool(value: Any, path: str, others: dict[str, Any]) -> Tool:
    tool = an_object(value, path)
    kind = optional_string(tool, "type", f"{path}.type") or "function"
    if kind != "function":
        return Tool(path, kind, hosted=kind)
    function = an_object(required(tool, "function", f"{path}.function"), f"{path}.function")
    _remember(tool, _TOOL, f"{path}.", others)
    _remember(function, _FUNCTION, f"{path}.function.", others)
    return Tool(
        path,
        string(function, "name", f"{path}.function.name"),
        optional_string(function, "description", f"{path}.function.description"),
        optional_object(function, "parameters", f"{path}.function.parameters"),
    )


def _image(value: Any, path: str) -> Image:
    data = a_string(value, path).replace("\n", "").replace("\r", "")
    try:
        begin = binascii.a2b_base64(data, strict_mode=True)[:12]
    except ValueError:
        raise wrong_value(path, "the picture's bytes in base64") from None
    if begin.startswith(b"RIFF") and begin.endswith(b"WEBP"):
        media_type = "image/webp"
    else:
        media_type = next((kind for signature, kind in _SIGNATURES.items() if begin.startswith(signature)), "image/png")
    return Image(path, data, media_type)


def _messages(values: list[Any], others: dict[str, Any]) -> list[Message]:
    messages = []
    calls = _Calls()
    for index, item in enumerate(values):
        path = f"messages[{index}]"
        message = an_object(item, path)
        role = _ROLES.get(string(message, "role", f"{path}.role").lower())
        if role is None:
            raise wrong_value(f"{path}.role", "'system', 'user', 'assistant' or 'tool'")
        text = optional_string(message, "content", f"{path}.content") or ""
        thinking = optional_string(message, "thinking", f"{path}.thinking")
        images = pictures(message.get("images"), f"{path}.images")
        asked = calls.ask(optional_array(message, "tool_calls", f"{path}.tool_calls") or [], index)
        call_id = optional_string(message, "tool_call_id", f"{path}.tool_call_id")
        name_field = "tool_name" if "tool_name" in message or role != "tool" else "name"  # what older clients call it
        tool_name = optional_string(message, name_field, f"{path}.{name_field}")
        _remember(message, _MESSAGE | {name_field}, f"{path}.", others)
        if role == "tool":
            messages.append(Message(role, [ToolResult(calls.answered(call_id, tool_name, index), [Text(text), *images])]))
            continue
        parts: list[Part] = [Reasoning(thinking, origin="ollama")] if thinking else []
        parts += images
        if text or not (parts or asked):
            parts.append(Text(text))
        messages.append(Message(role, [*parts, *asked]))
    return messages


_ANY = ("any", None)


class _Calls:
    """The calls of a conversation, whose ids are unique in it, and which of them have no result yet.

    Ollama's calls have an id since 2025 only, and its SDKs for Python and JavaScript leave it out still. A result names its call by id, or
    says the name of the tool, or comes in the order of the calls.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        """How often each was wanted."""
        self._waiting: set[str] = set()
        self._in_order: dict[tuple[str, str | None], deque[str]] = {}
        """Of those that may be waited for: all of them, those of one id as it was said, and those of one name."""

    def ask(self, values: list[Any], message: int) -> list[ToolCall]:
        """The calls of message number ``message``; if it has any, none before it is waited for."""
        if values:
            self._waiting, self._in_order = set(), {}
        asked = []
        for index, value in enumerate(values):
            path = f"messages[{message}].tool_calls[{index}]"
            call = an_object(value, path)
            said = optional_string(call, "id", f"{path}.id")
            function = an_object(required(call, "function", f"{path}.function"), f"{path}.function")
            name = string(function, "name", f"{path}.function.name")
            arguments = optional_object(function, "arguments", f"{path}.function.arguments")
            call_id = self._unique(said or f"call_{message}_{index}")
            asked.append(ToolCall(call_id, name, encode(arguments or {}).decode()))
            self._waiting.add(call_id)
            for place in (("id", said), ("name", name), _ANY):
                self._in_order.setdefault(place, deque()).append(call_id)
        return asked

    def answered(self, said: str | None, name: str | None, message: int) -> str:
        """The id of the call that message number ``message`` answers; one of its own if nobody called."""
        for place in (("id", said or ""), ("name", name), _ANY):
            queue = self._in_order.get(place)
            while queue:
                if (call_id := queue.popleft()) in self._waiting:
                    self._waiting.remove(call_id)
                    return call_id
        return said or self._unique(f"call_{message}")

    def _unique(self, call_id: str) -> str:
        unique = call_id
        while unique in self._ids:
            self._ids[call_id] += 1
            unique = f"{call_id}_{self._ids[call_id]}"
        self._ids[unique] = 1
        return unique
