"""The parts of messages: of users and systems, of the model's earlier turns, of tools."""

import itertools
from typing import Any

from dwctl.dialects import answers, reading
from dwctl.dialects.canonical import Audio, CacheControl, File, Foreign, Image, Part, Refusal, Text, ToolCall, ToolResult
from dwctl.dialects.chat.reasoning import thoughts_of
from dwctl.dialects.media import is_data_url, plain_text, split_data_url


class Calls:
    """The calls of a conversation so far, by which results are known."""

    def __init__(self) -> None:
        self.custom: set[str] = set()
        """Ids of the calls of custom tools."""
        self.functions: dict[str, str] = {}
        """The id that stands for the last old ``function_call`` of a name; it has none of its own."""
        self.count = itertools.count()


def content_parts(message: dict[str, Any], path: str) -> list[Part]:
    """What ``content`` holds: a string, or a list of parts. Texts without a character are nothing."""
    content = message.get("content")
    cache = reading.optional_object(message, "cache_control", f"{path}.cache_control")
    if content is None:
        return []
    place = f"{path}.content"
    if isinstance(content, str):
        return [Text(content, cache=cache)] if content else []
    if not isinstance(content, list):
        raise reading.wrong_type(place, "a string or an array", content)
    parts = [_part(reading.an_object(item, f"{place}[{index}]"), f"{place}[{index}]") for index, item in enumerate(content)]
    return [part for part in parts if not isinstance(part, Text) or part.text]


def _part(part: dict[str, Any], path: str) -> Part:
    kind = reading.string(part, "type", f"{path}.type")
    cache = reading.optional_object(part, "cache_control", f"{path}.cache_control")
    match kind:
        case "text":
            return Text(reading.string(part, "text", f"{path}.text"), cache=cache)
        case "refusal":
            return Refusal(reading.string(part, "refusal", f"{path}.refusal"))
        case "image_url":
            return _image(reading.required(part, "image_url", f"{path}.image_url"), f"{path}.image_url", cache)
        case "input_audio":
            place = f"{path}.input_audio"
            audio = reading.an_object(reading.required(part, "input_audio", place), place)
            return Audio(place, reading.string(audio, "data", f"{place}.data"), reading.string(audio, "format", f"{place}.format"))
        case "file":
            place = f"{path}.file"
            return _file(reading.an_object(reading.required(part, "file", place), place), place, cache)
    return Foreign(f"{path}.type", kind)


def _image(image: Any, path: str, cache: CacheControl | None) -> Image:
    if isinstance(image, str):
        image = {"url": image}  # as many clients write it
    url = reading.string(reading.an_object(image, path), "url", f"{path}.url")
    detail = reading.optional_string(image, "detail", f"{path}.detail")
    if not is_data_url(url):
        return Image(f"{path}.url", url=url, detail=detail, cache=cache)
    media_type, data = split_data_url(url, f"{path}.url")
    return Image(f"{path}.url", data=data, media_type=media_type or "image/png", detail=detail, cache=cache)


def _file(file: dict[str, Any], path: str, cache: CacheControl | None) -> File:
    name = reading.optional_string(file, "filename", f"{path}.filename")
    file_id = reading.optional_string(file, "file_id", f"{path}.file_id")
    if file_id is not None:
        return File(f"{path}.file_id", file_id=file_id, name=name, cache=cache)
    path = f"{path}.file_data"
    data = reading.string(file, "file_data", path)
    media_type = None
    if is_data_url(data):
        media_type, data = split_data_url(data, path)
    media_type = media_type or "application/pdf"
    if (text := plain_text(media_type, data)) is not None:
        return File(path, media_type=media_type, text=text, name=name, cache=cache)
    return File(path, data=data, media_type=media_type, name=name, cache=cache)


def assistant_parts(message: dict[str, Any], path: str, calls: Calls) -> list[Part]:
    """An earlier turn of the model: what it thought, said, and called."""
    parts: list[Part] = [*thoughts_of(message), *content_parts(message, path)]
    annotations = message.get("annotations")
    if isinstance(annotations, list) and annotations and isinstance(last := parts[-1] if parts else None, Text):
        last.annotations = annotations
    if refusal := reading.optional_string(message, "refusal", f"{path}.refusal"):
        parts.append(Refusal(refusal))
    if message.get("audio") is not None:
        parts.append(Foreign(f"{path}.audio", "audio"))
    for index, item in enumerate(reading.optional_array(message, "tool_calls", f"{path}.tool_calls") or []):
        place = f"{path}.tool_calls[{index}]"
        call = _tool_call(reading.an_object(item, place), place)
        if call.custom:
            calls.custom.add(call.id)
        parts.append(call)
    if (old := reading.optional_object(message, "function_call", f"{path}.function_call")) is not None:
        call = _function(old, f"{path}.function_call", f"function_call_{next(calls.count)}")
        calls.functions[call.name] = call.id
        parts.append(call)
    return parts


def _tool_call(call: dict[str, Any], path: str) -> ToolCall:
    call_id = reading.string(call, "id", f"{path}.id")
    if call.get("type", "function") == "custom":
        inner = f"{path}.custom"
        custom = reading.an_object(reading.required(call, "custom", inner), inner)
        read = ToolCall(
            call_id, reading.string(custom, "name", f"{inner}.name"), reading.string(custom, "input", f"{inner}.input"), custom=True
        )
    else:
        inner = f"{path}.function"
        read = _function(reading.an_object(reading.required(call, "function", inner), inner), inner, call_id)
    read.cache = reading.optional_object(call, "cache_control", f"{path}.cache_control")
    return read


def _function(function: dict[str, Any], path: str, call_id: str) -> ToolCall:
    arguments = reading.optional_string(function, "arguments", f"{path}.arguments") or ""
    try:
        whole = answers.arguments_object(arguments, None)
    except answers.MalformedAnswer:
        raise reading.wrong_value(f"{path}.arguments", "a JSON object as text") from None
    return ToolCall(call_id, reading.string(function, "name", f"{path}.name"), arguments if whole else "{}")


def tool_result(message: dict[str, Any], path: str, calls: Calls) -> list[Part]:
    """What a tool answered; parts that a result cannot hold stand beside it, to be refused by their name."""
    content = content_parts(message, path)
    if message["role"] == "function":
        name = reading.string(message, "name", f"{path}.name")
        call_id = calls.functions.get(name)
        if call_id is None:
            raise reading.wrong_value(f"{path}.name", "the name of a function that was called before")
    else:
        call_id = reading.string(message, "tool_call_id", f"{path}.tool_call_id")
    held = [part for part in content if isinstance(part, Text | Image | File)]
    result = ToolResult(call_id, held, custom=call_id in calls.custom)
    return [result, *(part for part in content if not isinstance(part, Text | Image | File))]
