"""A kept body of any dialect as people read it: who said what, and which tools were called. Of a stream the deltas are put together.

Bodies are read by the codecs of the dialects, and may break off anywhere, since only their beginning may have been kept.
"""

import contextlib
import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from dwctl.dialects.answers import Event, Failed, MalformedAnswer, response_of
from dwctl.dialects.canonical import Audio, File, Foreign, Image, Part, Reasoning, Refusal, Text, ToolCall, ToolResult
from dwctl.dialects.codec import Codec
from dwctl.dialects.surfaces import Surface, surface_of
from dwctl.errors import GatewayError
from dwctl.operations.loose_json import decoded, objects


class Call(msgspec.Struct):
    """A call of a tool. ``arguments`` are JSON, in lines if it is whole."""

    name: str = ""
    arguments: str = ""


class Turn(msgspec.Struct):
    """What one said. ``thought`` is reasoning that came before it; ``answers`` is the id of the call whose result it is."""

    role: str
    text: str = ""
    thought: str = ""
    calls: list[Call] = []
    answers: str = ""

    @property
    def length(self) -> int:
        return len(self.text) + len(self.thought) + sum(len(call.arguments) for call in self.calls)


def asked(body: str, path: str) -> list[Turn]:
    """The turns of a request's body, sent to ``path``; empty if it is no conversation. Of one that breaks off those that are whole."""
    surface = surface_of(path)
    if surface.operation != "chat":
        return []
    name = "input" if surface.dialect == "openai-responses" else "messages"
    whole = decoded(body) or {name: _begun(body, name)}
    try:
        needed = {"model": "-", "max_tokens": 1} if surface.dialect == "anthropic" else {"model": "-"}
        request = surface.codec.parse_request({**needed, **whole})
    except GatewayError:
        return []
    turns: list[Turn] = []
    for message in request.messages:
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        turns += [Turn(message.role, _text(result.parts), answers=result.call_id) for result in results]
        if not results:
            turns.append(_turn(message.role, message.parts))
    return turns


def answered(body: str, path: str) -> list[Turn]:
    """The turns of an answer's body, one for each choice; empty if it is none."""
    surface = surface_of(path)
    if surface.operation != "chat":
        return []
    try:
        if _is_stream(body, surface):
            response = response_of(event for event in _events(body, surface.codec) if not isinstance(event, Failed))
        else:
            response = surface.codec.parse_response(decoded(body))
    except MalformedAnswer:
        return []
    return [_turn("assistant", choice.parts) for choice in response.choices]


def _is_stream(body: str, surface: Surface) -> bool:
    return body.lstrip().startswith(("data:", "event:", ":")) or (surface.dialect == "ollama" and not decoded(body))


def _events(body: str, codec: Codec) -> Iterable[Event]:
    """What a stream says, up to where it breaks off."""
    parser = codec.parse_stream()
    with contextlib.suppress(MalformedAnswer):
        for unit in parser.split(body.encode("utf-8", "replace")):
            yield from parser.take(unit)


_BETWEEN = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()


def _begun(body: str, name: str) -> list[dict[str, Any]]:
    """The whole messages of a request that breaks off."""
    start = re.search(rf'(?<!\\)"{name}"\s*:\s*\[', body)
    found: list[Any] = []
    at = start.end() if start is not None else len(body)
    with contextlib.suppress(ValueError, RecursionError):
        while between := _BETWEEN.match(body, at):
            message, at = _DECODER.raw_decode(body, between.end())
            found.append(message)
    return objects(found)


def _turn(role: str, parts: Iterable[Part]) -> Turn:
    parts = list(parts)
    thought = "\n".join(part.text for part in parts if isinstance(part, Reasoning) and part.text)
    calls = [Call(part.name, _in_lines(part.arguments)) for part in parts if isinstance(part, ToolCall)]
    return Turn(role, _text(parts), thought, calls)


def _text(parts: Iterable[Part]) -> str:
    """The text of parts; those that are no text are named."""
    texts = []
    for part in parts:
        match part:
            case Text() | Refusal():
                texts.append(part.text)
            case File() if part.text is not None:
                texts.append(part.text)
            case Image():
                texts.append("[image]")
            case Audio():
                texts.append("[audio]")
            case File():
                texts.append(f"[{part.name or 'file'}]")
            case Foreign():
                texts.append(f"[{part.kind}]")
    return "\n".join(texts)


def _in_lines(text: str) -> str:
    try:
        return msgspec.json.format(text.encode(), indent=2).decode()
    except (msgspec.DecodeError, UnicodeError):
        return text
