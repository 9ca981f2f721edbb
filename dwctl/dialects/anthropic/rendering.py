"""The client's stream of Anthropic's events, written (API reference: streaming messages).

One block is open at a time, and what has been stopped does not grow. The parts of an answer wait in a queue whose head is
the open block; a head is stopped as soon as something follows it, but a tool call only once its arguments are a whole object, since
the arguments of parallel calls may interleave.
"""

import json
from collections import deque
from typing import Any, Literal

from dwctl.dialects import sse
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
from dwctl.dialects.anthropic import blocks, errors, usage
from dwctl.dialects.anthropic.response import message
from dwctl.dialects.canonical import Request
from dwctl.dialects.custom_tools import wrapped_arguments
from dwctl.dialects.json_text import encode
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError

PING = b'event: ping\ndata: {"type": "ping"}\n\n'


class _Part:
    """One block to be: its start, the deltas that wait to go out, and whether it has begun on the wire, and is over."""

    def __init__(self, kind: Literal["text", "thinking", "redacted_thinking", "tool_use"], start: dict[str, Any]) -> None:
        self.kind = kind
        self.start = {"type": kind, **start}
        self.deltas: list[dict[str, Any]] = []
        self.begun = False
        self.over = False


class _Thought(_Part):
    def __init__(self, summary: bool) -> None:
        super().__init__("thinking", {"thinking": "", "signature": ""})
        self.summary = summary
        self.signature = blocks.signature(None, None, None, False, summary)
        """Thoughts that nobody signed come back, too."""


class _Call(_Part):
    def __init__(self, id: str, name: str, custom: bool) -> None:
        super().__init__("tool_use", {"id": id, "name": name, "input": {}})
        self.custom = custom
        self._texts: list[str] = []
        self._unsent: list[str] = []
        self._object: bool | None = None
        """Whether the arguments begin as an object does, once they begin."""
        self._checked = 0

    @property
    def arguments(self) -> str:
        return "".join(self._texts)

    def grow(self, fragment: str) -> None:
        self._texts.append(fragment)
        self._unsent.append(fragment)
        if self._object is None and fragment.strip():
            self._object = fragment.lstrip().startswith("{")

    def whole(self) -> bool:
        """Whether nothing can be added: what follows a JSON object is white space."""
        if self.custom or self._checked == len(self._texts) or not self._texts[-1].rstrip().endswith("}"):
            return False
        self._checked = len(self._texts)
        try:
            return isinstance(json.loads(self.arguments), dict)
        except (ValueError, RecursionError):
            return False

    def say(self, final: bool) -> None:
        """What of the arguments may go out. Of null, or of nothing at all, nothing does: the start says ``{}`` already."""
        text = ""
        if self.custom:
            text = json.dumps(wrapped_arguments(self.arguments), ensure_ascii=False) if final else ""
        elif self._object:
            text = "".join(self._unsent)
            self._unsent.clear()
        if text:
            self.deltas.append({"type": "input_json_delta", "partial_json": text})


class Renderer:
    """Writes one answer; choices beyond the first are left out."""

    def __init__(self, request: Request, answering: Answering) -> None:
        self._answering = answering
        self._omitted = request.reasoning_summary == "omitted"
        self._queue: deque[_Part] = deque()
        self._calls: dict[int, _Call] = {}
        self._index = 0
        self._started = False
        self._over = False
        self._finish: Finish | None = None
        self._sequence: str | None = None
        self._refused = False
        self._usage: Usage | None = None
        self._tier: str | None = None

    def render(self, event: Event) -> bytes:
        if self._over or getattr(event, "choice", 0) != 0:
            return b""
        first = b""
        if not self._started:
            if isinstance(event, Started):
                self._usage, self._tier = event.usage, event.service_tier
            first = self._start()
        match event:
            case TextDelta():
                self._say(event.text, blocks.citations_of(event.annotations))
            case RefusalDelta():
                self._refused = True
                self._say(event.text, [])
            case ReasoningDelta() if event.text:
                thought = self._thought(event.summary)
                if not self._omitted:
                    thought.deltas.append({"type": "thinking_delta", "thinking": event.text})
            case ReasoningEnd():
                self._sign(event)
            case ToolStart():
                call = self._calls[event.index] = _Call(event.id, event.name, event.custom)
                self._queue.append(call)
            case ToolDelta() if event.index in self._calls:
                self._calls[event.index].grow(event.fragment)
            case Finished():
                self._finish, self._sequence = event.finish, event.stop_sequence
            case Counted():
                self._usage = event.usage
        return first + self._flush()

    def end(self) -> bytes:
        """Raises MalformedAnswer for a tool call that is not whole."""
        if self._over:
            return b""
        for call in self._calls.values():
            if not call.custom:
                arguments_object(call.arguments, self._finish)
        head = b"" if self._started else self._start()
        rest = self._flush(last=True)
        self._over = True
        reason = blocks.stop_reason(self._finish, called=bool(self._calls), refused=self._refused)
        delta = {"type": "message_delta", "delta": blocks.ending(reason, self._sequence), "usage": usage.counts(self._usage)}
        return head + rest + _event(delta) + _event({"type": "message_stop"})

    def fail(self, error: GatewayError) -> bytes:
        if self._over:
            return b""
        self._over = True
        return errors.stream_error(error, self._answering.id)

    def _start(self) -> bytes:
        self._started = True
        known = self._usage or Usage(uncached_input=self._answering.input_estimate)
        begun = message(self._answering, [], blocks.ending(None, None), usage.rendered(known, self._tier))
        begun["usage"]["output_tokens"] = 0
        return _event({"type": "message_start", "message": begun})

    def _say(self, text: str, citations: list[dict[str, Any]]) -> None:
        if not text and not citations:
            return
        part = self._queue[-1] if self._queue else None
        if part is None or part.kind != "text":
            part = _Part("text", {"text": ""})
            self._queue.append(part)
        if text:
            part.deltas.append({"type": "text_delta", "text": text})
        part.deltas += [{"type": "citations_delta", "citation": citation} for citation in citations]

    def _thought(self, summary: bool | None) -> _Thought:
        """The thought that is being thought; one that is over has left the queue, or is marked so."""
        last = self._queue[-1] if self._queue else None
        if isinstance(last, _Thought) and not last.over and summary in (None, last.summary):
            return last
        thought = _Thought(bool(summary))
        self._queue.append(thought)
        return thought

    def _sign(self, event: ReasoningEnd) -> None:
        open_thought = bool(self._queue) and isinstance(last := self._queue[-1], _Thought) and not last.over
        if not open_thought and event.signature is None:
            return
        if event.redacted and not open_thought:
            data = blocks.signature(event.origin, event.signature, event.id, True, False)
            self._queue.append(_Part("redacted_thinking", {"data": data}))
            self._queue[-1].over = True
            return
        thought = self._thought(None)
        thought.signature = blocks.signature(event.origin, event.signature, event.id, event.redacted, thought.summary)
        thought.over = True

    def _flush(self, last: bool = False) -> bytes:
        """What may go out now; with ``last`` everything."""
        written = []
        while self._queue:
            part = self._queue[0]
            if not part.begun:
                part.begun = True
                written.append(_event({"type": "content_block_start", "index": self._index, "content_block": part.start}))
                if self._index == 0:
                    written.append(PING)
            over = last or part.over or (len(self._queue) > 1 and (not isinstance(part, _Call) or part.whole()))
            if isinstance(part, _Call):
                part.say(over)
            elif isinstance(part, _Thought) and over:
                part.deltas.append({"type": "signature_delta", "signature": part.signature})
            written += [_event({"type": "content_block_delta", "index": self._index, "delta": delta}) for delta in part.deltas]
            part.deltas.clear()
            if not over:
                break
            written.append(_event({"type": "content_block_stop", "index": self._index}))
            self._queue.popleft()
            self._index += 1
        return b"".join(written)


def _event(data: dict[str, Any]) -> bytes:
    return sse.encode(encode(data), data["type"])
