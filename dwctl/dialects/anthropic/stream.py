"""A provider's stream of Anthropic's events, read (API reference: streaming messages)."""

import json
from typing import Any

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
from dwctl.dialects.anthropic import blocks, errors, usage
from dwctl.dialects.json_text import encode
from dwctl.dialects.streams import SseParser
from dwctl.dialects.usage import count


class _Block:
    """A block that has begun. ``call``: which of the calls it is; ``whole``: arguments that came with its start."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.call = 0
        self.signature = ""
        self.whole = ""
        self.length = 0


class Parser(SseParser):
    """Events and blocks that are not known are passed over, as the API asks its clients to do."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._usage: dict[str, Any] = {}

    def on_done(self) -> list[Event]:
        return []

    def on(self, data: dict[str, Any]) -> list[Event]:
        match data.get("type"):
            case "message_start":
                return self._start(_object(data, "message"))
            case "content_block_start":
                return self._begin(_index(data), _object(data, "content_block"))
            case "content_block_delta":
                block = self._blocks.get(_index(data))
                if block is None:
                    raise MalformedAnswer("a delta of a block that is not open")
                return self._grow(block, _object(data, "delta"))
            case "content_block_stop":
                block = self._blocks.pop(_index(data), None)
                return [] if block is None else self._close(block)
            case "message_delta":
                return self._finish(_object(data, "delta"), data)
            case "message_stop":
                return [Ended()]
            case "error":
                return self._fail(data)
            case str():
                return []
        if errors.read_error(data) is not None:
            return self._fail(data)
        raise MalformedAnswer("an event without a type")

    def _start(self, message: dict[str, Any]) -> list[Event]:
        counted = self._count(message.get("usage"))
        id, model = (name if isinstance(name, str) else None for name in (message.get("id"), message.get("model")))
        read = usage.read(counted)
        return [Started(id, model, read, usage.tier_of(counted), None if read is None else encode(counted))]

    def _count(self, counted: Any) -> dict[str, Any]:
        """The usage so far."""
        if isinstance(counted, dict):
            self._usage = usage.grown(self._usage, counted)
        return self._usage

    def _begin(self, index: int, start: dict[str, Any]) -> list[Event]:
        kind = start.get("type")
        block = self._blocks[index] = _Block(kind if isinstance(kind, str) else "")
        match kind:
            case "text" | "thinking":
                first = {"type": f"{kind}_delta", kind: start.get(kind) or ""}
                if signature := start.get("signature"):
                    block.signature = _string(signature)
                events = self._grow(block, first)
                if cited := blocks.annotations_of(start.get("citations"), block.length):
                    events.append(TextDelta("", annotations=cited))
                return events
            case "redacted_thinking":
                block.signature = _string(start.get("data"))
            case "tool_use":
                block.call, self._calls = self._calls, self._calls + 1
                if isinstance(given := start.get("input"), dict) and given:
                    block.whole = json.dumps(given, ensure_ascii=False, separators=(",", ":"))
                return [ToolStart(block.call, _string(start.get("id")), _string(start.get("name")))]
        return []

    def _grow(self, block: _Block, delta: dict[str, Any]) -> list[Event]:
        match delta.get("type"), block.kind:
            case "text_delta", "text":
                text = _string(delta.get("text"))
                block.length += len(text)
                return [TextDelta(text)] if text else []
            case "thinking_delta", "thinking":
                thought = _string(delta.get("thinking"))
                return [ReasoningDelta(thought)] if thought else []
            case "signature_delta", "thinking":
                block.signature += _string(delta.get("signature"))
            case "input_json_delta", "tool_use":
                if fragment := _string(delta.get("partial_json")):
                    block.whole = ""
                    return [ToolDelta(block.call, fragment)]
            case "citations_delta", "text":
                if cited := blocks.annotations_of([delta.get("citation")], block.length):
                    return [TextDelta("", annotations=cited)]
        return []

    def _close(self, block: _Block) -> list[Event]:
        match block.kind:
            case "thinking" | "redacted_thinking":
                redacted = block.kind == "redacted_thinking"
                return [ReasoningEnd(0, block.signature or None, "anthropic", redacted=redacted)]
            case "tool_use" if block.whole:
                return [ToolDelta(block.call, block.whole)]
        return []

    def _finish(self, delta: dict[str, Any], data: dict[str, Any]) -> list[Event]:
        events: list[Event] = []
        for index in sorted(self._blocks):
            events += self._close(self._blocks.pop(index))
        reason = delta.get("stop_reason")
        if reason == "refusal" and (words := blocks.explanation(delta.get("stop_details"))):
            events.append(RefusalDelta(words))
        if isinstance(reason, str):
            sequence = delta.get("stop_sequence")
            events.append(Finished(blocks.STOPS.get(reason, "stop"), 0, sequence if isinstance(sequence, str) else None))
        if (whole := self.usage_of(data)) is not None:
            events.append(whole)
        return events

    def usage_of(self, data: dict[str, Any]) -> Counted | None:
        counted = data.get("usage")
        if not isinstance(counted, dict) or (read := usage.read(self._count(counted))) is None:
            return None
        whole = count(counted.get("output_tokens")) is not None  # else the output would be that of the start
        return Counted(read, encode(self._usage)) if whole else None

    def _fail(self, data: dict[str, Any]) -> list[Event]:
        counted = usage.read_usage(data)
        return [errors.failure(data)] if counted is None else [counted, errors.failure(data)]


def _object(data: dict[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name)
    if not isinstance(value, dict):
        raise MalformedAnswer(f"an event of type {data['type']} without its {name}")
    return value


def _index(data: dict[str, Any]) -> int:
    value = data.get("index")
    if not isinstance(value, int) or isinstance(value, bool):
        raise MalformedAnswer(f"an event of type {data['type']} without its index")
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise MalformedAnswer("a block or delta without its text")
    return value
