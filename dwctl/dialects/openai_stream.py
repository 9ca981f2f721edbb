"""OpenAI's event streams, watched while they pass (API reference: chat completions and completions, streaming).

``CompletionStream`` is fed what the provider sends and returns what the client may have: whole events, byte for byte, without
the usage chunk that the client did not ask for. On the way it learns usage, finish reasons and errors. Every event is decoded by a
small schema that skips what it does not name: that costs less than searching the bytes for the interesting ones first, and finds
an event that is not JSON before the client does.
"""

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from dwctl.dialects import openai_errors, sse
from dwctl.dialects.json_text import encode
from dwctl.dialects.openai_usage import read
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError

KEPT_BYTES = 1024 * 1024
"""How much of a stream is kept for an estimate or a stored body."""


NO_USAGE = msgspec.Raw(b"null")


class _Choice(msgspec.Struct):
    index: int = 0
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = NO_USAGE
    error: Any = None
    type: Any = None
    """What events of other dialects have, and chunks do not."""


_CHUNK = msgspec.json.Decoder(_Chunk)
_ANY = msgspec.json.Decoder()


class MalformedStream(Exception):
    """An event is not of its dialect, or larger than any event may be. ``args``: what may be released before, and what is wrong."""


def _decode(data: bytes) -> _Chunk:
    try:
        return _CHUNK.decode(data)
    except msgspec.ValidationError:
        return _loose(_ANY.decode(data.decode("utf-8", "replace")))
    except UnicodeDecodeError:
        return _CHUNK.decode(data.decode("utf-8", "replace"))
    except msgspec.DecodeError:
        # Half of a surrogate pair, as some servers send that cut an emoji in two, is JSON to everybody else.
        return _loose(json.loads(data.decode("utf-8", "replace")))


def _loose(decoded: Any) -> _Chunk:
    """A chunk whose shape is not quite OpenAI's: take what is there, never fail on the rest."""
    if not isinstance(decoded, dict):
        return _Chunk()
    choices = decoded.get("choices")
    model = decoded.get("model")
    usage = decoded.get("usage")
    return _Chunk(
        model=model if isinstance(model, str) else None,
        choices=[
            _Choice(
                index=choice["index"] if isinstance(choice.get("index"), int) else 0,
                finish_reason=str(choice["finish_reason"]) if choice.get("finish_reason") is not None else None,
            )
            for choice in choices
            if isinstance(choice, dict)
        ]
        if isinstance(choices, list)
        else None,
        usage=msgspec.Raw(encode(usage)) if isinstance(usage, dict) else NO_USAGE,
        error=decoded.get("error"),
        type=decoded.get("type"),
    )


class CompletionStream:
    """State of one stream of chat or text completion chunks.

    ``done`` the terminal event ``[DONE]`` was there; ``raw_usage`` the last usage object, ``usage`` what it says; ``error`` the
    first error object; ``finish_reason`` the last one said; ``model`` as the provider names it; ``output_seen`` a chunk with a
    choice was there. ``choices`` are expected at least; ``lenient`` streams may hold events that are not JSON.
    """

    __slots__ = (
        "_choices",
        "_counted_at",
        "_finished",
        "_keep_usage",
        "_kept",
        "_kept_size",
        "_lenient",
        "_splitter",
        "done",
        "error",
        "finish_reason",
        "model",
        "output_seen",
        "raw_usage",
        "unkept",
        "usage",
    )

    def __init__(self, *, keep_usage: bool, choices: int = 1, lenient: bool = False) -> None:
        self._choices = choices
        self._lenient = lenient
        self._splitter = sse.EventSplitter()
        self._keep_usage = keep_usage
        self._finished: dict[int, bool] = {}
        self.done = False
        self.raw_usage: bytes | None = None
        self.usage: Usage | None = None
        self._counted_at = 0
        self.error: dict[str, Any] | None = None
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.output_seen = False
        self._kept: list[bytes] = []
        self._kept_size = 0
        self.unkept = 0

    def feed(self, chunk: bytes) -> bytes:
        """What may be released now. Raises MalformedStream; what came before it in the same chunk is in ``args[0]``."""
        try:
            events = self._splitter.feed(chunk)
        except sse.EventTooLarge:
            raise MalformedStream(b"", "an event that is too large") from None
        if len(events) == 1:
            return self._take(events[0], b"")
        released: list[bytes] = []
        for event in events:
            if self.done:
                break
            released.append(self._take(event, released))
        return b"".join(released)

    def finish(self) -> bytes:
        """The provider ended the message: what was held back, if it is a whole event but for its blank line, else nothing.

        Raises MalformedStream if an event had begun and is not whole.
        """
        rest = self._splitter.rest
        if self.done or not rest:
            return b""
        self._splitter.rest = b""
        if not _is_whole(rest, self._lenient):
            raise MalformedStream(b"", "half an event")
        return self._take(rest, b"")

    ping = sse.PING
    beforehand: Usage | None = None
    """Chunks say nothing of usage before the end."""

    def fail(self, error: GatewayError) -> bytes:
        """The end of a stream that failed, after whatever was released."""
        return openai_errors.stream_end(error)

    @property
    def error_status(self) -> int | None:
        """The HTTP status that the error in the stream stands for."""
        return openai_errors.embedded_status(self.error) if self.error is not None else None

    @property
    def said(self) -> str | None:
        """The provider's words for its error."""
        return encode(self.error).decode() if self.error is not None else None

    def written_text(self) -> str:
        """What the model wrote, as far as it was kept, for counting its tokens."""
        return output_text(self.kept())

    @property
    def complete(self) -> bool:
        """Whether the answer may count as whole: the terminal event was there, or every choice said why it finished."""
        return self.done or (len(self._finished) >= self._choices and all(self._finished.values()))

    @property
    def has_output(self) -> bool:
        """Whether there was any output, of whatever kind. Reads what was kept: for a stream that broke off."""
        return self.finish_reason is not None or self.unkept > 0 or any(map(_is_output, _said(self.kept())))

    @property
    def went_on(self) -> bool:
        """Whether more was written after the last usage that was reported. Reads what was kept: for a stream that broke off."""
        if self._counted_at >= self._kept_size + self.unkept:
            return False
        return self.unkept > 0 or any(map(_is_output, _said(self.kept()[self._counted_at :])))

    def kept(self) -> bytes:
        """The first ``KEPT_BYTES`` of what the provider sent, usage chunk included."""
        return b"".join(self._kept)

    def _take(self, event: bytes, released: list[bytes] | bytes) -> bytes:
        """Learn from one event; what the client gets for it."""
        data = sse.data_of(event)
        if not data:
            return event
        if data.strip() == b"[DONE]":
            self.done = True
            return event
        try:
            chunk = _decode(data)
        except (ValueError, RecursionError):
            if self._lenient:
                return event
            raise MalformedStream(_joined(released), "an event that is not JSON") from None
        if self._kept_size < KEPT_BYTES:
            self._kept.append(event)
            self._kept_size += len(event)
        else:
            self.unkept += len(event)
        if chunk.model is not None:
            self.model = chunk.model
        if (raw := bytes(chunk.usage)) != b"null" and (counted := read(raw)) is not None:
            self.raw_usage, self.usage = raw, counted
            self._counted_at = self._kept_size + self.unkept
        if chunk.choices is None and chunk.type is not None and chunk.error is None and not self._lenient:
            raise MalformedStream(_joined(released), "an event of another dialect")
        if chunk.error is not None and self.error is None:
            self.error = openai_errors.error_object(chunk.error)
            if openai_errors.is_of_our_account(status := self.error_status):
                self.done = True
                return self.fail(openai_errors.of_status(status))
        if chunk.choices:
            self.output_seen = True
            for choice in chunk.choices:
                if choice.finish_reason is not None:
                    self.finish_reason = choice.finish_reason
                    self._finished[choice.index] = True
                else:
                    self._finished.setdefault(choice.index, False)
        if raw.startswith(b"{") and not chunk.choices and not self._keep_usage and chunk.error is None:
            return b""
        return event


_SAYS_NOTHING = (b":", b"event", b"id", b"retry")
"""How the lines begin that without data make no event."""


def _is_whole(rest: bytes, lenient: bool) -> bool:
    """Whether what no blank line ends is an event all the same, or nothing that anybody misses: the most lenient of clients drops one
    that is not JSON. Lines of JSON have no blank lines at all."""
    data = sse.data_of(rest)
    lines = [data] if data is not None else [line for line in rest.splitlines() if not line.startswith(_SAYS_NOTHING)]
    try:
        for line in map(bytes.strip, lines):
            if line not in (b"", b"[DONE]") and (line.startswith((b"{", b"[")) or not lenient):
                _decode(line)
    except (ValueError, RecursionError):
        return False
    return True


def _joined(released: list[bytes] | bytes) -> bytes:
    return released if isinstance(released, bytes) else b"".join(released)


def output_text(kept: bytes) -> str:
    """The text that a kept stream carried: contents, reasoning, tool calls; for counting its tokens."""
    return "".join(_strings(said) for said in _said(kept))


def _said(kept: bytes) -> Iterator[Any]:
    """The delta, or the text, of each choice of each chunk that can be read."""
    splitter = sse.EventSplitter()
    for event in [*splitter.feed(kept), splitter.rest]:
        data = sse.data_of(event)
        if not data or data.strip() == b"[DONE]":
            continue
        try:
            decoded = _ANY.decode(data.decode("utf-8", "replace"))
        except (msgspec.DecodeError, RecursionError):
            continue
        if isinstance(decoded, dict) and isinstance(decoded.get("choices"), list):
            for choice in decoded["choices"]:
                if isinstance(choice, dict):
                    yield choice.get("delta", choice.get("text"))


def _is_output(said: Any) -> bool:
    """Whether a delta or a text says more than whose turn it is."""
    return any(value for name, value in said.items() if name != "role") if isinstance(said, dict) else bool(said)


_SPOKEN = (
    "content",
    "text",
    "reasoning_content",
    "reasoning",
    "refusal",
    "name",
    "arguments",
    "tool_calls",
    "function",
    "function_call",
    "audio",
    "transcript",
    "thinking",
)


def _strings(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_strings(item) for item in value)
    if isinstance(value, dict):
        return "".join(_strings(value[key]) for key in _SPOKEN if key in value)
    return ""


def answer_text(answer: dict[str, Any]) -> str:
    """The text of a JSON answer, for counting its tokens."""
    choices = answer.get("choices")
    if not isinstance(choices, list):
        return ""
    return "".join(_strings(choice.get("message", choice.get("text"))) for choice in choices if isinstance(choice, dict))


def as_stream(answer: dict[str, Any], *, include_usage: bool) -> bytes:
    """A whole JSON answer as the stream that the client asked for: one chunk with everything, its end, usage if wanted.

    Raises ValueError for an answer whose choices are not what OpenAI's are.
    """
    choices = answer.get("choices") or []
    if not isinstance(choices, list):
        raise ValueError("choices are not a list")
    is_chat = answer.get("object") != "text_completion"
    head = {
        "id": answer.get("id"),
        "object": "chat.completion.chunk" if is_chat else "text_completion",
        "created": answer.get("created"),
        "model": answer.get("model"),
    }
    events = []
    for choice in choices:
        if not isinstance(choice, dict) or not isinstance(choice.get("message") or {}, dict):
            raise ValueError("a choice is not an object")
        index = choice.get("index", 0)
        if is_chat:
            delta = dict(choice.get("message") or {})
            if isinstance(delta.get("tool_calls"), list):
                delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(delta["tool_calls"]) if isinstance(call, dict)]
            events.append({**head, "choices": [{"index": index, "delta": delta, "finish_reason": None}]})
            events.append({**head, "choices": [{"index": index, "delta": {}, "finish_reason": choice.get("finish_reason")}]})
        else:
            events.append({**head, "choices": [choice]})
    if include_usage and answer.get("usage") is not None:
        events.append({**head, "choices": [], "usage": answer["usage"]})
    return b"".join(sse.encode(encode(event)) for event in events) + openai_errors.DONE
