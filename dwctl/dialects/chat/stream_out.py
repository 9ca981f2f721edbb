"""Streams to clients, written chunk by chunk."""

from typing import Any

import msgspec

from dwctl.dialects import openai_errors, sse
from dwctl.dialects.answers import (
    Answering,
    Counted,
    Event,
    Finish,
    Finished,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Started,
    TextDelta,
    ToolDelta,
    ToolStart,
    arguments_object,
)
from dwctl.dialects.canonical import Reasoning, Request
from dwctl.dialects.chat.reasoning import shown_detail
from dwctl.dialects.chat.response import known_tier, written_finish
from dwctl.dialects.chat.usage import render_usage
from dwctl.dialects.custom_tools import Unwrapper
from dwctl.dialects.json_text import encode
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError


def render_stream(request: Request, answering: Answering) -> "Renderer":
    return Renderer(request, answering)


class _Call(msgspec.Struct):
    custom: bool
    arguments: str = ""
    written: bool = False
    """Whether any of the arguments was."""


class _Choice(msgspec.Struct):
    begun: bool = False
    calls: dict[int, _Call] = msgspec.field(default_factory=dict)
    thought: Reasoning | None = None
    """The one that is being thought."""
    thoughts: int = 0
    refused: bool = False
    finished: Finished | None = None


class Renderer:
    """Reasons to finish are held back to the end: whoever has seen one believes the answer to be whole."""

    def __init__(self, request: Request, answering: Answering) -> None:
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{answering.digits}",
            "object": "chat.completion.chunk",
            "created": answering.created,
            "model": answering.model,
        }
        self._wants_usage = request.include_usage
        self._old_functions = request.old_functions
        self._usage: Usage | None = None
        self._unwrapper = Unwrapper(request)
        self._choices: dict[int, _Choice] = {}

    def render(self, event: Event) -> bytes:
        return b"".join(self._render(turned) for turned in self._unwrapper.turn(event))

    def end(self) -> bytes:
        written = [self._render(event) for event in self._unwrapper.rest()]
        if not self._choices:
            self._choice(0)  # an empty answer is one, too
        ends = []
        for index, choice in self._choices.items():
            finish = choice.finished.finish if choice.finished is not None else None
            for number, call in choice.calls.items():
                written.append(self._close(index, number, call, finish))
            ends.append(self._finish(index, choice))
        usage = [self._chunk([], usage=render_usage(self._usage))] if self._wants_usage and self._usage is not None else []
        return b"".join([*written, *ends, *usage, openai_errors.DONE])

    def fail(self, error: GatewayError) -> bytes:
        return openai_errors.stream_end(error)

    def _render(self, event: Event) -> bytes:
        match event:
            case Started():
                self._usage = event.usage
                if (tier := known_tier(event.service_tier)) is not None:
                    self._head["service_tier"] = tier
            case TextDelta() if event.text or event.logprobs or event.annotations:
                delta: dict[str, Any] = {"content": event.text}
                if event.annotations:
                    delta["annotations"] = event.annotations
                return self._delta(event.choice, delta, event.logprobs)
            case RefusalDelta() if event.text:
                self._choice(event.choice).refused = True
                return self._delta(event.choice, {"refusal": event.text})
            case ReasoningDelta() if event.text:
                choice = self._choice(event.choice)
                choice.thought = choice.thought or Reasoning(summary=event.summary)
                choice.thought.text += event.text
                return self._delta(event.choice, {"reasoning_content": event.text})
            case ReasoningEnd():
                return self._end_thought(event)
            case ToolStart():
                return self._start_call(event)
            case ToolDelta():
                return self._grow_call(event)
            case Finished():
                self._choice(event.choice).finished = event
            case Counted():
                self._usage = event.usage
        return b""

    def _end_thought(self, event: ReasoningEnd) -> bytes:
        choice = self._choice(event.choice)
        thought, choice.thought = choice.thought or Reasoning(), None
        thought.signature, thought.origin, thought.id, thought.redacted = event.signature, event.origin, event.id, event.redacted
        detail = shown_detail(thought, choice.thoughts)
        choice.thoughts += 1
        return self._delta(event.choice, {"reasoning_details": [detail]}) if detail is not None else b""

    def _start_call(self, event: ToolStart) -> bytes:
        calls = self._choice(event.choice).calls
        if self._old_functions:
            if calls:
                return b""  # there is a place for one
            calls[event.index] = _Call(False)
            return self._delta(event.choice, {"function_call": {"name": event.name, "arguments": ""}})
        calls[event.index] = _Call(event.custom)
        kind, arguments = ("custom", "input") if event.custom else ("function", "arguments")
        call = {"index": event.index, "id": event.id, "type": kind, kind: {"name": event.name, arguments: ""}}
        return self._delta(event.choice, {"tool_calls": [call]})

    def _grow_call(self, event: ToolDelta) -> bytes:
        call = self._choice(event.choice).calls.get(event.index)
        if call is None:
            return b""
        call.arguments += event.fragment
        if call.custom or call.written:
            return self._arguments(event.choice, event.index, call, event.fragment)
        if "null".startswith(call.arguments.strip()):
            return b""  # what may yet be no arguments at all is said when the call is over
        return self._arguments(event.choice, event.index, call, call.arguments)

    def _arguments(self, choice: int, number: int, call: _Call, text: str) -> bytes:
        if not text:
            return b""
        call.written = True
        if self._old_functions:
            return self._delta(choice, {"function_call": {"arguments": text}})
        piece = {"custom": {"input": text}} if call.custom else {"function": {"arguments": text}}
        return self._delta(choice, {"tool_calls": [{"index": number, **piece}]})

    def _close(self, choice: int, number: int, call: _Call, finish: Finish | None) -> bytes:
        if call.custom:
            return b""
        arguments_object(call.arguments, finish)
        return b"" if call.written else self._arguments(choice, number, call, "{}")

    def _finish(self, index: int, choice: _Choice) -> bytes:
        finished = choice.finished
        reason = written_finish(
            finished.finish if finished else None,
            called=bool(choice.calls),
            refused=choice.refused,
            old_functions=self._old_functions,
        )
        end: dict[str, Any] = {"index": index, "delta": {}, "logprobs": None, "finish_reason": reason}
        if finished is not None and finished.stop_sequence is not None:
            end["stop_reason"] = finished.stop_sequence
        return self._begin(index, "") + self._chunk([end])

    def _choice(self, index: int) -> _Choice:
        return self._choices.setdefault(index, _Choice())

    def _begin(self, index: int, content: str | None) -> bytes:
        """The role, which a choice begins with."""
        choice = self._choice(index)
        if choice.begun:
            return b""
        choice.begun = True
        return self._grown(index, {"role": "assistant", "content": content, "refusal": None}, None)

    def _delta(self, index: int, delta: dict[str, Any], logprobs: Any = None) -> bytes:
        content = "" if delta.keys().isdisjoint(("tool_calls", "function_call", "refusal")) else None
        return self._begin(index, content) + self._grown(index, delta, logprobs)

    def _grown(self, index: int, delta: dict[str, Any], logprobs: Any) -> bytes:
        return self._chunk([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}])

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        chunk = {**self._head, "choices": choices}
        if self._wants_usage:
            chunk["usage"] = usage
        return sse.encode(encode(chunk))
