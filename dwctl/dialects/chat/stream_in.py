"""Streams of providers, read chunk by chunk."""

from typing import Any

import msgspec

from dwctl.dialects import openai_errors
from dwctl.dialects.answers import (
    Counted,
    Ended,
    Event,
    Finished,
    MalformedAnswer,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Started,
    TextDelta,
    ToolDelta,
    ToolStart,
)
from dwctl.dialects.chat.errors import failed
from dwctl.dialects.chat.reasoning import Details, details_of, text_of
from dwctl.dialects.chat.response import BrokenOff, called_of, fragment_of, made_id, read_finish, spoken, text_or_none
from dwctl.dialects.openai_usage import read_usage
from dwctl.dialects.streams import SseParser

_MOST_CHOICES = 128
"""OpenAI's bound on ``n``."""


def parse_stream() -> "Parser":
    return Parser()


class Parser(SseParser):
    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._id: str | None = None
        self._choices: dict[int, _Choice] = {}
        self._broken: BrokenOff | None = None
        """How an answer ended; its usage may yet come, also in a chunk of its own."""

    def on(self, data: dict[str, Any]) -> list[Event]:
        counted = read_usage(data)
        usage: list[Event] = [] if counted is None else [counted]
        if (error := openai_errors.error_object(data.get("error"))) is not None:
            return [*usage, failed(error)]
        choices = data.get("choices")
        if choices is None and (data.get("usage") is not None or data.get("object") == "chat.completion.chunk"):
            choices = []
        if not isinstance(choices, list):
            raise MalformedAnswer("an event without choices")
        events: list[Event] = []
        if not self._started:
            self._started = True
            self._id = text_or_none(data.get("id"))
            events.append(Started(self._id, text_or_none(data.get("model")), service_tier=text_or_none(data.get("service_tier"))))
        for place, chunk in enumerate(choices):
            if not isinstance(chunk, dict):
                raise MalformedAnswer("a choice that is not an object")
            index = chunk.get("index")
            index = index if isinstance(index, int) else place
            if not 0 <= index < _MOST_CHOICES:
                raise MalformedAnswer("a choice of an impossible index")
            choice = self._choices.get(index)
            if choice is None:
                choice = self._choices[index] = _Choice(index, self._id)
            try:
                choice.take(chunk, events)
            except BrokenOff as fault:
                self._broken = fault
        if self._broken is not None and usage:
            raise self._broken
        return events + usage

    def close(self) -> None:
        if self._broken is not None:
            raise self._broken

    def usage_of(self, data: dict[str, Any]) -> Counted | None:
        return read_usage(data)

    def on_done(self) -> list[Event]:
        self.close()
        return [*(event for choice in self._choices.values() for event in choice.close()), Ended()]


class _Call(msgspec.Struct):
    """A call that has begun; ``held`` are arguments that came before its name."""

    number: int
    id: str
    custom: bool = False
    named: bool = False
    held: str = ""


class _Choice:
    """One of the answers, as far as it was read."""

    def __init__(self, index: int, response_id: str | None) -> None:
        self._index = index
        self._response_id = response_id
        self._details: Details | None = None
        """Of the thought that is being thought."""
        self._worded = False
        """Whether that thought has text."""
        self._calls: dict[Any, _Call] = {}
        """By what the provider tells the calls apart with."""
        self._last: _Call | None = None
        self._count = 0
        self._refused = False
        self._finished = False

    def take(self, chunk: dict[str, Any], events: list[Event]) -> None:
        """Add what a chunk says of this choice. Raises MalformedAnswer; BrokenOff after all that the chunk says besides."""
        delta = chunk.get("delta")
        if isinstance(delta, dict):
            self._take_delta(delta, chunk.get("logprobs"), events)
        elif delta is not None:
            raise MalformedAnswer("a delta that is not an object")
        finish, stop_sequence = read_finish(chunk, called=self._count > 0, refused=self._refused)
        if finish is not None and not self._finished:
            self._finished = True
            events += self.close()
            events.append(Finished(finish, self._index, stop_sequence))

    def close(self) -> list[Event]:
        """The end of all that has begun."""
        if any(not call.named for call in self._calls.values()):
            raise MalformedAnswer("a tool call without a name")
        return self._end_thought()

    def _take_delta(self, delta: dict[str, Any], logprobs: Any, events: list[Event]) -> None:
        index = self._index
        thought, text = spoken(delta.get("content"))
        details = details_of(delta)
        thought = text_of(delta) or thought
        if thought or details:
            self._details = self._details or Details()
            self._details.add(details)
            if thought:
                self._worded = True
                events.append(ReasoningDelta(thought, index, self._details.summary()))
        refusal = text_or_none(delta.get("refusal"))
        calls = delta.get("tool_calls")
        calls = calls if isinstance(calls, list) else []
        if isinstance(old := delta.get("function_call"), dict):
            calls = [*calls, {"index": "function_call", "function": old}]
        annotations = delta.get("annotations")
        annotations = annotations if isinstance(annotations, list) and annotations else None
        logprobs = logprobs if isinstance(logprobs, dict) else None
        if text or refusal or calls:
            events += self._end_thought()
        if text or annotations or logprobs:
            events.append(TextDelta(text, index, logprobs, annotations))
        if refusal is not None:
            self._refused = True
            events.append(RefusalDelta(refusal, index))
        for piece in calls:
            if not isinstance(piece, dict):
                raise MalformedAnswer("a tool call that is not an object")
            self._take_call(piece, events)

    def _end_thought(self) -> list[Event]:
        if (details := self._details) is None:
            return []
        signature, worded = details.signature(), self._worded
        self._details, self._worded = None, False
        if not worded and signature is None:
            return []
        return [ReasoningEnd(self._index, signature, "openai-chat", redacted=not worded)]

    def _take_call(self, piece: dict[str, Any], events: list[Event]) -> None:
        call = self._call_of(piece)
        called = called_of(piece) or {}
        if "custom" in piece:
            call.custom = True
        if not call.named and (name := text_or_none(called.get("name"))) is not None:
            call.named = True
            events.append(ToolStart(call.number, call.id, name, self._index, call.custom))
        call.held += fragment_of(called.get("input" if call.custom else "arguments"))
        if call.named and call.held:
            events.append(ToolDelta(call.number, call.held, self._index))
            call.held = ""

    def _call_of(self, piece: dict[str, Any]) -> _Call:
        """The call that a piece belongs to. Some servers leave the index out, or give each call the same one with another id."""
        key, given = piece.get("index"), text_or_none(piece.get("id"))
        if not isinstance(key, int | str | None):
            raise MalformedAnswer("a tool call of an impossible index")
        call = self._last if key is None and given is None else self._calls.get(key)
        names_another = (called_of(piece) or {}).get("name") is not None and given is not None and call is not None and call.id != given
        if call is None or names_another or (key is None and given is not None and given != call.id):
            call = _Call(self._count, given or made_id(self._response_id, self._index, self._count))
            self._count += 1
        self._calls[key] = self._last = call
        return call
