"""A kept body of chat as people read it: who said what, and which tools were called. Of a stream the deltas are put together."""

import contextlib
import json
import re
from typing import Any

import msgspec

from dwctl.dialects.sse import EventSplitter, EventTooLarge, data_of
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


def conversation(body: str) -> list[Turn]:
    """The turns of a request's or an answer's body; empty if it is not chat. Of one that breaks off those that are whole."""
    if body.lstrip().startswith(("data:", "event:", ":")):
        turns = _streamed(body)
    else:
        whole = decoded(body)
        answers = [_object(choice.get("message")) for choice in objects(whole.get("choices"))]
        messages = objects(whole.get("messages")) + answers if whole else _begun(body)
        turns = [_turn(message) for message in messages if message]
    for turn in turns:
        for call in turn.calls:
            call.arguments = _in_lines(call.arguments)
    return turns


_MESSAGES = re.compile(r'(?<!\\)"messages"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")


def _begun(body: str) -> list[dict[str, Any]]:
    """The whole messages of a request that breaks off."""
    start = _MESSAGES.search(body)
    found: list[Any] = []
    at = start.end() if start is not None else len(body)
    with contextlib.suppress(ValueError, RecursionError):
        while between := _BETWEEN.match(body, at):
            message, at = _DECODER.raw_decode(body, between.end())
            found.append(message)
    return objects(found)


_DECODER = json.JSONDecoder()


def _streamed(body: str) -> list[Turn]:
    turns: dict[Any, Turn] = {}
    try:
        events = EventSplitter().feed(body.encode("utf-8", "replace"))
    except EventTooLarge:
        return []
    for event in events:
        for choice in objects(decoded(data_of(event) or b"").get("choices")):
            turn = turns.setdefault(str(choice.get("index")), Turn("assistant"))
            _add(turn, _object(choice.get("delta")))
    return list(turns.values())


def _turn(message: dict[str, Any]) -> Turn:
    turn = Turn(str(message.get("role") or "?"), answers=_text(message.get("tool_call_id")))
    _add(turn, message)
    return turn


def _add(turn: Turn, said: dict[str, Any]) -> None:
    """Add a message, or a piece of one, to a turn."""
    turn.text += _text(said.get("content")) or _text(said.get("refusal"))
    turn.thought += _text(said.get("reasoning_content")) or _text(said.get("reasoning"))
    for place, given in enumerate(objects(said.get("tool_calls"))):
        index = given.get("index", place)
        if not isinstance(index, int) or not 0 <= index <= len(turn.calls):
            continue
        if index == len(turn.calls):
            turn.calls.append(Call())
        function = _object(given.get("function"))
        turn.calls[index].name += _text(function.get("name"))
        turn.calls[index].arguments += _text(function.get("arguments"))


def _text(value: Any) -> str:
    """The text of a message's content: as it is, or its parts, of which those that are no text are named."""
    if isinstance(value, str):
        return value
    return "\n".join(_text(part.get("text")) or f"[{part.get('type', 'part')}]" for part in objects(value))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _in_lines(text: str) -> str:
    try:
        return msgspec.json.format(text.encode(), indent=2).decode()
    except (msgspec.DecodeError, UnicodeError):
        return text
