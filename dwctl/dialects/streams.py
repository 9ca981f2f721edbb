"""Streams on their way from a provider to a client: translated, or watched while they pass.

Both offer what `openai_stream.CompletionStream` does, which is the same for chat to chat at the least cost.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec

from dwctl.dialects import openai_errors, sse
from dwctl.dialects.answers import (
    Counted,
    Ended,
    Event,
    Failed,
    Finished,
    MalformedAnswer,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolDelta,
    ToolStart,
)
from dwctl.dialects.codec import StreamParser, StreamRenderer
from dwctl.dialects.openai_stream import KEPT_BYTES, MalformedStream
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError

_ANY = msgspec.json.Decoder()


def decode_object(data: bytes) -> dict[str, Any]:
    """A JSON object, also one with text that is not quite UTF-8. Raises MalformedAnswer."""
    try:
        value = _ANY.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            value = json.loads(data.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise MalformedAnswer("what should be a JSON object is none") from None
    if not isinstance(value, dict):
        raise MalformedAnswer("what should be a JSON object is another value")
    return value


class _Parser:
    """What parsers of events and of lines have in common; ``on`` and ``usage_of`` are the dialect's."""

    def close(self) -> None:
        pass

    def on(self, data: dict[str, Any]) -> list[Event]:
        """What one event or line means. Raises MalformedAnswer."""
        raise NotImplementedError

    def usage_of(self, data: dict[str, Any]) -> Counted | None:
        """The usage that an event or line reports which cannot be used otherwise."""
        raise NotImplementedError


class SseParser(_Parser):
    """Base of parsers of server-sent events; ``on_done`` is the dialect's, too."""

    def __init__(self) -> None:
        self._splitter = sse.EventSplitter()

    def split(self, chunk: bytes) -> list[bytes]:
        try:
            return self._splitter.feed(chunk)
        except sse.EventTooLarge:
            raise MalformedAnswer("an event that is too large") from None

    def rest(self) -> bytes:
        return self._splitter.rest

    def take(self, unit: bytes) -> list[Event]:
        data = sse.data_of(unit)
        if not data or not (data := data.strip()):
            return []
        if data == b"[DONE]":
            return self.on_done()
        event = decode_object(data)
        try:
            return self.on(event)
        except MalformedAnswer as fault:
            fault.counted = self.usage_of(event)
            raise

    def on_done(self) -> list[Event]:
        """What the event ``[DONE]`` means. Raises MalformedAnswer."""
        return [Ended()]


class LineParser(_Parser):
    """Base of parsers of newline-delimited JSON."""

    def __init__(self) -> None:
        self._rest = b""

    def split(self, chunk: bytes) -> list[bytes]:
        lines = (self._rest + chunk).splitlines(keepends=True) if b"\n" in chunk else []
        if not lines:
            self._rest += chunk
        else:
            self._rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
        if len(self._rest) > sse.MAX_EVENT:
            raise MalformedAnswer("a line that is too large")
        return lines

    def rest(self) -> bytes:
        """Made a line, so that what is written after it is one of its own."""
        return self._rest + b"\n" if self._rest else b""

    def take(self, unit: bytes) -> list[Event]:
        if not unit.strip():
            return []
        line = decode_object(unit)
        try:
            return self.on(line)
        except MalformedAnswer as fault:
            fault.counted = self.usage_of(line)
            raise


class _Stream:
    """What is learned of a stream: see `openai_stream.CompletionStream`."""

    def __init__(self, parser: StreamParser, ping: bytes, choices: int = 1) -> None:
        self._parser = parser
        self.ping = ping
        self._choices = choices
        self._finished: set[int] = set()
        self._text = bytearray()  # a list of small strings would be ten times as large
        self._kept: list[bytes] = []
        self._kept_size = 0
        self.unkept = 0
        self.done = False
        self.error: GatewayError | None = None
        self.said: str | None = None
        """The provider's words for its error."""
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.output_seen = False
        self.raw_usage: bytes | None = None
        self.usage: Usage | None = None
        self._counted_at = 0
        self.beforehand: Usage | None = None
        """What was known before the answer: its input, and hardly any of its output."""

    @property
    def complete(self) -> bool:
        """Whether the answer may count as whole: the terminal event was there, or every choice said why it finished."""
        return self.done or len(self._finished) >= self._choices

    @property
    def has_output(self) -> bool:
        """Whether there was any output."""
        return self.finish_reason is not None or self.unkept > 0 or bool(self._text)

    @property
    def went_on(self) -> bool:
        """Whether more was written after the last usage that was reported."""
        return self._counted_at < len(self._text) + self.unkept

    @property
    def error_status(self) -> int | None:
        return self.error.status if self.error is not None else None

    def kept(self) -> bytes:
        """The first ``KEPT_BYTES`` of what the client was sent."""
        return b"".join(self._kept)

    def written_text(self) -> str:
        """What the model wrote, for counting its tokens."""
        return self._text.decode("utf-8", "surrogatepass")

    def feed(self, chunk: bytes) -> bytes:
        """What may be released now. Raises MalformedStream; what came before it in the same chunk is in ``args[0]``."""
        released: list[bytes] = []
        try:
            for unit in self._parser.split(chunk):
                if self.done:
                    break
                self._pass(unit, released)
        except MalformedAnswer as fault:
            raise self._malformed(fault, released) from None
        return self._keep(b"".join(released))

    def finish(self) -> bytes:
        """The provider ended the message: what was held back. Raises MalformedStream if a unit had begun and is not whole."""
        if self.done:
            return b""
        released: list[bytes] = []
        try:
            if rest := self._parser.rest():
                self._pass(rest, released)
            self._parser.close()
            if not self.done and self.error is None and self.complete:
                released.append(self._close())
        except MalformedAnswer as fault:
            raise self._malformed(fault, released) from None
        return self._keep(b"".join(released))

    def _malformed(self, fault: MalformedAnswer, released: list[bytes]) -> MalformedStream:
        """Learns first what the fault reports, as it is done of JSON answers: it is charged, whatever else was wrong."""
        if fault.counted is not None:
            self._learn(fault.counted)
        return MalformedStream(b"".join(released), str(fault))

    def fail(self, error: GatewayError) -> bytes:
        """The end of a stream that failed, after whatever was released."""
        raise NotImplementedError

    def _pass(self, unit: bytes, released: list[bytes]) -> None:
        """Add what one unit releases; what it released before a fault in it counts, too, for a renderer remembers it."""
        raise NotImplementedError

    def _close(self) -> bytes:
        """The end of an answer whose provider forgot the terminal event."""
        return b""

    def _learn(self, event: Event) -> None:
        text = ""
        match event:
            case TextDelta() | ReasoningDelta() | RefusalDelta():
                text = event.text
            case ToolStart():
                text = event.name
            case ToolDelta():
                text = event.fragment
            case Started():
                self.model = event.model or self.model
                self.beforehand, self.raw_usage = event.usage or self.beforehand, event.raw_usage or self.raw_usage
            case Finished():
                self.output_seen = True
                self.finish_reason = event.finish
                self._finished.add(event.choice)
            case Counted():
                self.usage, self.raw_usage = event.usage, event.raw
                self._counted_at = len(self._text) + self.unkept
            case Failed():
                self.error, self.said = self.error or event.error, self.said or event.said
            case Ended():
                self.done = True
        if text:
            self.output_seen = True
            if len(self._text) < KEPT_BYTES:
                self._text += text.encode("utf-8", "surrogatepass")
            else:
                self.unkept += len(text)

    def _keep(self, released: bytes) -> bytes:
        if released and self._kept_size < KEPT_BYTES:
            self._kept.append(released)
            self._kept_size += len(released)
        return released


_WORDLESS = re.compile(rb'"type": ?"response\.(?:[a-z_.]+\.(?:delta|partial_image)|output_item\.done)"')
"""Output of Responses that no event of ours stands for, such as pictures."""


class WatchedStream(_Stream):
    """A stream whose client speaks as its provider does: what passes is the provider's own bytes, but for its opinion of our account."""

    def __init__(self, parser: StreamParser, ping: bytes, stream_error: Callable[[GatewayError], bytes]) -> None:
        super().__init__(parser, ping)
        self._stream_error = stream_error

    @property
    def has_output(self) -> bool:
        return super().has_output or _WORDLESS.search(self.kept()) is not None

    def fail(self, error: GatewayError) -> bytes:
        return self._stream_error(error)

    def _pass(self, unit: bytes, released: list[bytes]) -> None:
        for event in self._parser.take(unit):
            self._learn(event)
            if isinstance(event, Failed) and openai_errors.is_told_instead(event.error):
                self.done = True
                released.append(self.fail(event.error))
                return
        released.append(unit)


class TranslatedStream(_Stream):
    """A stream that is read in one dialect and written in another."""

    def __init__(self, parser: StreamParser, renderer: StreamRenderer, ping: bytes, choices: int = 1) -> None:
        super().__init__(parser, ping, choices)
        self._renderer = renderer

    def fail(self, error: GatewayError) -> bytes:
        return self._renderer.fail(error)

    def _pass(self, unit: bytes, released: list[bytes]) -> None:
        events = self._parser.take(unit)
        try:
            for event in events:
                self._learn(event)
                if isinstance(event, Ended):
                    released.append(self._renderer.end())
                elif isinstance(event, Failed):
                    self.done = True
                    released.append(self._renderer.fail(event.error.told or event.error))
                else:
                    released.append(self._renderer.render(event))
                    continue
                break
        except MalformedAnswer as fault:
            fault.counted = next((event for event in events if isinstance(event, Counted)), None)
            raise

    def _close(self) -> bytes:
        self.done = True
        return self._renderer.end()
