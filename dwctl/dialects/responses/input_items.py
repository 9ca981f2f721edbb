"""The items of a request's ``input``, read into messages (API reference: responses, create)."""

import mimetypes
from collections.abc import Sequence
from typing import Any

from dwctl.dialects.answers import MalformedAnswer, arguments_object
from dwctl.dialects.canonical import Audio, File, Foreign, Image, Message, Part, Reasoning, Refusal, Role, Text, ToolCall, ToolResult
from dwctl.dialects.fields import RESPONSES
from dwctl.dialects.media import is_data_url, plain_text, split_data_url
from dwctl.dialects.reading import (
    a_string,
    an_object,
    missing,
    optional_array,
    optional_string,
    required,
    string,
    wrong_type,
    wrong_value,
)
from dwctl.dialects.responses.namespaces import joined
from dwctl.dialects.signatures import unwrap

_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "developer"}
_TEXTS = frozenset({"input_text", "output_text", "text", "summary_text"})


def read(value: Any, *, whole: bool) -> list[Message]:
    """The conversation. ``whole``: nothing came before it, so that each output has its call in it."""
    if isinstance(value, str):
        return [Message("user", [Text(value)])]
    if not isinstance(value, list):
        raise wrong_type("input", "a string or an array", value)
    conversation = _Conversation()
    messages = conversation.messages
    calls: set[str] = set()
    for index, item in enumerate(value):
        path = f"input[{index}]"
        item = an_object(item, path)
        match _kind(item, path):
            case "message":
                _add_message(conversation, item, path)
            case "reasoning":
                conversation.say([_reasoning(item, path)], begins=True)
            case "function_call" | "custom_tool_call" as kind:
                call = _call(item, path, custom=kind == "custom_tool_call")
                calls.add(call.id)
                conversation.say([call], begins=False)
            case "function_call_output" | "custom_tool_call_output" as kind:
                result = _result(item, path, custom=kind == "custom_tool_call_output")
                if whole and result.call_id not in calls:
                    raise wrong_value(f"{path}.call_id", "the call_id of a tool call before it in 'input'")
                if not messages or messages[-1].role != "tool":
                    messages.append(Message("tool", []))
                messages[-1].parts.append(result)
            case kind:
                messages.append(Message("user", [Foreign(f"{path}.type", kind)]))
    return messages


def _kind(item: dict[str, Any], path: str) -> str:
    kind = item.get("type")
    if kind is None:
        return "item_reference" if "id" in item and "role" not in item and "content" not in item else "message"
    return a_string(kind, f"{path}.type")


class _Conversation:
    """The messages, and whether the last turn, if it is the assistant's, has said something and called tools."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._said = self._called = False

    def say(self, parts: Sequence[Part], *, begins: bool) -> None:
        """Add to the assistant's turn. A message or a thought ``begins`` another turn after one that has said something, unless
        that has called tools: all calls of a turn stand before their results."""
        goes_on = bool(self.messages) and self.messages[-1].role == "assistant"
        if not goes_on or (begins and self._said and not self._called):
            self.messages.append(Message("assistant", []))
            self._said = self._called = False
        self.messages[-1].parts.extend(parts)
        self._said = self._said or any(isinstance(part, Text | Refusal) for part in parts)
        self._called = self._called or any(isinstance(part, ToolCall) for part in parts)


def _add_message(conversation: _Conversation, item: dict[str, Any], path: str) -> None:
    role = _ROLES.get(string(item, "role", f"{path}.role"))
    if role is None:
        raise wrong_value(f"{path}.role", "one of 'user', 'assistant', 'system', 'developer'")
    content = required(item, "content", f"{path}.content")
    if not isinstance(content, str | list):
        raise wrong_type(f"{path}.content", "a string or an array", content)
    parts = _parts(content, f"{path}.content")
    if role == "assistant":
        conversation.say(parts, begins=True)
    else:
        conversation.messages.append(Message(role, parts))


def _parts(content: str | list[Any], path: str) -> list[Part]:
    if isinstance(content, str):
        return [Text(content)] if content else []
    parts = [_part(an_object(part, f"{path}[{index}]"), f"{path}[{index}]") for index, part in enumerate(content)]
    return [part for part in parts if not isinstance(part, Text) or part.text]


def _part(part: dict[str, Any], path: str) -> Part:
    match string(part, "type", f"{path}.type"):
        case kind if kind in _TEXTS:
            annotations = optional_array(part, "annotations", f"{path}.annotations")
            return Text(string(part, "text", f"{path}.text"), annotations=annotations or None)
        case "refusal":
            return Refusal(string(part, "refusal", f"{path}.refusal"))
        case "input_image":
            return _image(part, path)
        case "input_file":
            return _file(part, path)
        case "input_audio":
            sound = an_object(required(part, "input_audio", f"{path}.input_audio"), f"{path}.input_audio")
            return Audio(
                f"{path}.input_audio",
                string(sound, "data", f"{path}.input_audio.data"),
                string(sound, "format", f"{path}.input_audio.format"),
            )
        case kind:
            return Foreign(f"{path}.type", kind)


def _image(part: dict[str, Any], path: str) -> Image:
    detail = optional_string(part, "detail", f"{path}.detail")
    url = optional_string(part, "image_url", f"{path}.image_url")
    if url is not None:
        if not is_data_url(url):
            return Image(f"{path}.image_url", url=url, detail=detail)
        media_type, data = split_data_url(url, f"{path}.image_url")
        return Image(f"{path}.image_url", data, media_type or "image/png", detail=detail)
    file_id = optional_string(part, "file_id", f"{path}.file_id")
    if file_id is None:
        raise missing(f"{path}.image_url")
    return Image(f"{path}.file_id", file_id=file_id, detail=detail)


def _file(part: dict[str, Any], path: str) -> File:
    name = optional_string(part, "filename", f"{path}.filename")
    if (data := optional_string(part, "file_data", f"{path}.file_data")) is not None:
        media_type = ""
        if is_data_url(data):
            media_type, data = split_data_url(data, f"{path}.file_data")
        media_type = media_type or (mimetypes.guess_type(name)[0] if name else None) or "application/pdf"
        if (text := plain_text(media_type, data)) is not None:
            return File(f"{path}.file_data", media_type=media_type, text=text, name=name)
        return File(f"{path}.file_data", data, media_type, name=name)
    if (url := optional_string(part, "file_url", f"{path}.file_url")) is not None:
        return File(f"{path}.file_url", url=url, name=name)
    if (file_id := optional_string(part, "file_id", f"{path}.file_id")) is not None:
        return File(f"{path}.file_id", file_id=file_id, name=name)
    raise missing(f"{path}.file_data")


def _call(item: dict[str, Any], path: str, *, custom: bool) -> ToolCall:
    call_id = string(item, "call_id", f"{path}.call_id")
    name = joined(optional_string(item, "namespace", f"{path}.namespace"), string(item, "name", f"{path}.name"))
    if custom:
        return ToolCall(call_id, name, string(item, "input", f"{path}.input"), custom=True)
    arguments = string(item, "arguments", f"{path}.arguments")
    try:
        whole = arguments_object(arguments, None)
    except MalformedAnswer:
        raise wrong_value(f"{path}.arguments", "a JSON object as text") from None
    return ToolCall(call_id, name, arguments if whole else "{}")


def _result(item: dict[str, Any], path: str, *, custom: bool) -> ToolResult:
    call_id = string(item, "call_id", f"{path}.call_id")
    output = required(item, "output", f"{path}.output")
    if not isinstance(output, str | list):
        raise wrong_type(f"{path}.output", "a string or an array", output)
    parts: list[Text | Image | File] = []
    for part in _parts(output, f"{path}.output"):
        if not isinstance(part, Text | Image | File):
            raise wrong_value(getattr(part, "path", f"{path}.output"), "a text, a picture or a file")
        parts.append(part)
    return ToolResult(call_id, parts, custom=custom)


def _reasoning(item: dict[str, Any], path: str) -> Reasoning:
    content = _texts(item, "content", path)
    summary = _texts(item, "summary", path)
    carried = optional_string(item, "encrypted_content", f"{path}.encrypted_content")
    thought = unwrap("\n\n".join(content or summary), carried, RESPONSES)
    if thought.origin == RESPONSES and thought.signature == carried:
        thought.summary = not content
        thought.id = optional_string(item, "id", f"{path}.id")
    return thought


def _texts(item: dict[str, Any], name: str, path: str) -> list[str]:
    parts = optional_array(item, name, f"{path}.{name}") or []
    places = [f"{path}.{name}[{index}]" for index in range(len(parts))]
    return [string(an_object(part, place), "text", f"{place}.text") for part, place in zip(parts, places, strict=True)]
