"""Ollama's streams, one JSON object a line (docs.ollama.com: "Streaming")."""

import hashlib
from typing import Any

from dwctl.dialects import openai_errors
from dwctl.dialects.answers import (
    LOADS,
    Answering,
    Counted,
    Ended,
    Event,
    Failed,
    Finish,
    Finished,
    MalformedAnswer,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Response,
    Started,
    TextDelta,
    ToolDelta,
    ToolStart,
    response_of,
)
from dwctl.dialects.canonical import ToolCall
from dwctl.dialects.json_text import encode
from dwctl.dialects.ollama import usage
from dwctl.dialects.ollama.errors import read_error, stream_error
from dwctl.dialects.ollama.response import Hear, Say, chat_logprobs, ending, head, logprobs_of, tool_call
from dwctl.dialects.streams import LineParser
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError


def whole(body: dict[str, Any], hear: Hear) -> Response:
    """A whole answer, which is all lines of a stream in one. Raises MalformedAnswer."""
    if hear(body) is None:
        raise MalformedAnswer("an answer without a message")
    if body.get("done") is False:
        raise MalformedAnswer("an answer that is not done")
    return response_of(Parser(hear).on({**body, "error": None, "done": True}))


class Parser(LineParser):
    """Reads a provider's stream."""

    def __init__(self, hear: Hear) -> None:
        super().__init__()
        self._hear = hear
        self._started = False
        self._thinking = False
        self._calls: set[str] = set()
        self._logprobs: list[Any] = []

    def on(self, data: dict[str, Any]) -> list[Event]:
        if (error := read_error(data)) is not None:
            failed = Failed(openai_errors.of_status(error.status or 500), error.message)
            return [failed] if (counted := usage.read_usage(data)) is None else [counted, failed]
        done = data.get("done") is True
        message = self._hear(data)
        if message is None and not done:
            raise MalformedAnswer("a line that holds no part of an answer")
        events: list[Event] = []
        if not self._started:
            self._started = True
            model = data.get("model")
            events.append(Started(model=model if isinstance(model, str) else None))
        if message is not None:
            self._said(message, data, events)
        if done:
            self._end_thought(events)
            said: Any = data.get("done_reason")
            stopped: Finish = "tool_calls" if self._calls else "stop"
            events.append(Finished(said if said in ("length", *LOADS) else stopped))
            if (counted := usage.read_usage(data)) is not None:
                events.append(counted)
            events.append(Ended())
        return events

    def usage_of(self, data: dict[str, Any]) -> Counted | None:
        return usage.read_usage(data)

    def _said(self, message: dict[str, Any], data: dict[str, Any], events: list[Event]) -> None:
        if thinking := _text(message, "thinking"):
            self._thinking = True
            events.append(ReasoningDelta(thinking))
        if isinstance(logprobs := data.get("logprobs"), list):
            self._logprobs += logprobs
        if content := _text(message, "content"):
            self._end_thought(events)
            events.append(TextDelta(content, logprobs=chat_logprobs(self._logprobs)))
        if content or thinking:
            self._logprobs = []  # those of thoughts have no place in an answer
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list):
            raise MalformedAnswer("tool calls that are no list")
        for place, call in enumerate(calls):
            self._end_thought(events)
            events += self._call(call, data, place)

    def _end_thought(self, events: list[Event]) -> None:
        if self._thinking:
            self._thinking = False
            events.append(ReasoningEnd(origin="ollama"))

    def _call(self, call: Any, data: dict[str, Any], place: int) -> list[Event]:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(name := function.get("name"), str):
            raise MalformedAnswer("a tool call without a name")
        arguments = function.get("arguments") or {}
        if not isinstance(arguments, dict):
            raise MalformedAnswer("a tool call whose arguments are not a JSON object")
        call_id = call.get("id")
        if not isinstance(call_id, str) or not call_id or call_id in self._calls:
            # Older servers give none. One made of the line, which holds the time, is the same whenever it is read, and another each turn.
            call_id = "call_" + hashlib.sha256(b"%d %b" % (place, encode(data))).hexdigest()[:24]
        index = len(self._calls)
        self._calls.add(call_id)
        return [ToolStart(index, call_id, name), ToolDelta(index, encode(arguments).decode())]


def _text(message: dict[str, Any], name: str) -> str:
    value = message.get(name)
    if value is not None and not isinstance(value, str):
        raise MalformedAnswer(f"a message whose {name} is no text")
    return value or ""


class Renderer:
    """Writes a client's stream. Tool calls go out at the end, since Ollama's are whole; choices but the first have no place."""

    def __init__(self, answering: Answering, say: Say) -> None:
        self._say = say
        self._head = head(answering)
        self._calls: dict[int, ToolCall] = {}
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._over = False

    def render(self, event: Event) -> bytes:
        if self._over or getattr(event, "choice", 0) != 0:
            return b""
        match event:
            case TextDelta():
                logprobs = logprobs_of(event.logprobs)
                return self._line(event.text, beside={"logprobs": logprobs} if logprobs else None) if event.text or logprobs else b""
            case RefusalDelta():
                return self._line(event.text) if event.text else b""
            case ReasoningDelta():
                return self._line(thinking=event.text) if event.text else b""
            case ToolStart():
                self._calls[event.index] = ToolCall(event.id, event.name, "", event.custom)
            case ToolDelta() if event.index in self._calls:
                self._calls[event.index].arguments += event.fragment
            case Finished():
                self._finish = event.finish
            case Started(usage=Usage() as counted) | Counted(usage=counted):
                self._usage = counted
        return b""

    def end(self) -> bytes:
        if self._over:
            return b""
        calls = [tool_call(call, index, self._finish) for index, (_, call) in enumerate(sorted(self._calls.items()))]
        self._over = True
        last = self._line(beside={**ending(self._finish), **usage.written(self._usage)})
        return self._line(calls=calls) + last if calls else last

    def fail(self, error: GatewayError) -> bytes:
        if self._over:
            return b""
        self._over = True
        return stream_error(error, "")

    def _line(
        self, content: str = "", thinking: str = "", calls: list[dict[str, Any]] | None = None, beside: dict[str, Any] | None = None
    ) -> bytes:
        return encode({**self._head, **self._say(content, thinking, calls or []), "done": False, **(beside or {})}) + b"\n"
