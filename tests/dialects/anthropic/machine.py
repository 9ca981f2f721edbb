"""What a client of Anthropic's stream relies on, as a machine that accepts nothing else."""

import json
from typing import Any

from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from dwctl.dialects import sse

_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
_STOPS = {"end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded"}
_DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "redacted_thinking": set(),
    "tool_use": {"input_json_delta"},
}
_ERRORS = {
    "invalid_request_error", "authentication_error", "billing_error", "permission_error", "not_found_error", "request_too_large",
    "rate_limit_error", "timeout_error", "api_error", "overloaded_error",
}  # fmt: skip


class Machine:
    """Asserts, event by event, that a stream is one of Anthropic's; ``message`` is what a client has put together by then."""

    def __init__(self) -> None:
        self._splitter = sse.EventSplitter()
        self._open: dict[str, Any] | None = None
        self._arguments: list[str] = []
        self._delta_seen = False
        self.done = False
        self.error: dict[str, Any] | None = None
        self.message: dict[str, Any] | None = None
        self.pings = 0

    def feed(self, data: bytes) -> None:
        for event in self._splitter.feed(data):
            lines = event.decode().split("\n")
            assert len(lines) == 4, event
            assert lines[0].startswith("event: "), event
            assert lines[1].startswith("data: "), event
            value = json.loads(lines[1][6:])
            assert value["type"] == lines[0][7:], event
            self._take(value)

    def end(self) -> None:
        assert self._splitter.rest == b"", "the stream ends within an event"
        assert self.done or self.error, "the stream ends before its end"

    def _take(self, event: dict[str, Any]) -> None:
        assert not self.done, "an event after message_stop"
        assert not self.error, "an event after an error"
        kind = event["type"]
        if kind == "error":
            assert set(event) == {"type", "error", "request_id"}
            assert event["error"]["type"] in _ERRORS
            assert isinstance(event["error"]["message"], str)
            assert event["request_id"].startswith("req_")
            self.error = event["error"]
            return
        if kind == "ping":
            assert self.message is not None
            self.pings += 1
            return
        _EVENT.validate_python(event, strict=True)
        getattr(self, f"_{kind}")(event)

    def _message_start(self, event: dict[str, Any]) -> None:
        assert self.message is None, "a second message_start"
        message = self.message = event["message"]
        assert message["content"] == []
        assert message["stop_reason"] is message["stop_sequence"] is None
        assert message["id"].startswith("msg_")
        assert len(message["id"]) >= 28
        _check_usage(message["usage"])
        assert message["usage"]["service_tier"] in ("standard", "priority", "batch")

    def _content_block_start(self, event: dict[str, Any]) -> None:
        assert self.message is not None
        assert not self._delta_seen
        assert self._open is None, "a block begins within another"
        assert event["index"] == len(self.message["content"])
        block = self._open = event["content_block"]
        self._arguments = []
        match block["type"]:
            case "text":
                assert block["text"] == ""
            case "thinking":
                assert block["thinking"] == block["signature"] == ""
            case "tool_use":
                assert block["input"] == {}
                assert block["id"]
            case "redacted_thinking":
                assert block["data"]
            case kind:
                raise AssertionError(f"a block of type {kind}")
        self.message["content"].append(block)

    def _content_block_delta(self, event: dict[str, Any]) -> None:
        block, delta = self._grown(event), event["delta"]
        assert delta["type"] in _DELTAS[block["type"]]
        match delta["type"]:
            case "text_delta":
                block["text"] += delta["text"]
            case "citations_delta":
                block.setdefault("citations", []).append(delta["citation"])
            case "thinking_delta":
                assert not block["signature"], "a thought that grows after its signature"
                block["thinking"] += delta["thinking"]
            case "signature_delta":
                block["signature"] += delta["signature"]
            case "input_json_delta":
                self._arguments.append(delta["partial_json"])

    def _grown(self, event: dict[str, Any]) -> dict[str, Any]:
        assert self.message is not None
        assert self._open is not None, "nothing is open"
        assert event["index"] == len(self.message["content"]) - 1
        return self._open

    def _content_block_stop(self, event: dict[str, Any]) -> None:
        block = self._grown(event)
        if block["type"] == "thinking":
            assert block["signature"], "a thought without a signature"
        if block["type"] == "text":
            assert block["text"] or block.get("citations")
        if arguments := "".join(self._arguments):
            try:
                block["input"] = json.loads(arguments)
            except ValueError:
                block["input"] = None  # which only an answer that was cut may hold
        self._open = None

    def _message_delta(self, event: dict[str, Any]) -> None:
        assert self.message is not None
        assert self._open is None
        assert not self._delta_seen
        self._delta_seen = True
        reason = event["delta"]["stop_reason"]
        assert reason in _STOPS
        assert (reason == "stop_sequence") or event["delta"]["stop_sequence"] is None
        calls = [block for block in self.message["content"] if block["type"] == "tool_use"]
        assert reason != "tool_use" or calls
        assert reason != "end_turn" or not calls
        assert reason == "max_tokens" or all(isinstance(block["input"], dict) for block in calls)
        _check_usage(event["usage"])
        self.message.update(event["delta"])
        self.message["usage"].update(event["usage"])

    def _message_stop(self, event: dict[str, Any]) -> None:
        assert self._delta_seen
        self.done = True


def _check_usage(usage: dict[str, Any]) -> None:
    for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
        assert type(usage[name]) is int
        assert usage[name] >= 0
    by_ttl = usage["cache_creation"]
    assert by_ttl["ephemeral_5m_input_tokens"] + by_ttl["ephemeral_1h_input_tokens"] == usage["cache_creation_input_tokens"]
    assert usage["output_tokens_details"]["thinking_tokens"] >= 0
