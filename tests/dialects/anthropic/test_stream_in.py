"""A provider's stream of Anthropic's events, as it was recorded, and what is read from it."""

import json
from typing import Any

import pytest

from dwctl.dialects import anthropic
from dwctl.dialects.answers import (
    Counted,
    Ended,
    Event,
    Failed,
    Finished,
    MalformedAnswer,
    ReasoningDelta,
    ReasoningEnd,
    Started,
    TextDelta,
    ToolDelta,
    ToolStart,
    response_of,
)
from dwctl.dialects.canonical import Reasoning, Refusal, Text, ToolCall
from dwctl.dialects.usage import Usage


def wire(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode() for event in events)


def start(**usage: Any) -> dict[str, Any]:
    message = {"id": "msg_01", "type": "message", "role": "assistant", "model": "claude-opus-5", "content": [], "stop_reason": None}
    return {"type": "message_start", "message": {**message, "usage": {"input_tokens": 25, "output_tokens": 1, **usage}}}


def block(index: int, begin: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": begin},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def end(reason: str, **more: Any) -> list[dict[str, Any]]:
    usage = more.pop("usage", {"output_tokens": 15})
    delta = {"stop_reason": reason, "stop_sequence": None, **more}
    return [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]


def read(stream: bytes) -> list[Event]:
    parser = anthropic.parse_stream()
    found = [event for unit in parser.split(stream) for event in parser.take(unit)]
    assert parser.rest() == b""
    return found


TEXT, THINKING, PING = {"type": "text", "text": ""}, {"type": "thinking", "thinking": "", "signature": ""}, {"type": "ping"}

EVERYTHING = wire(
    start(
        cache_read_input_tokens=7,
        cache_creation_input_tokens=5,
        cache_creation={"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3},
    ),
    PING,
    *block(0, THINKING, {"type": "thinking_delta", "thinking": "Überlegt 🤔"}, {"type": "signature_delta", "signature": "EqQB=="}),
    *block(1, {"type": "redacted_thinking", "data": "blob"}),
    *block(2, TEXT, {"type": "text_delta", "text": "Gute"}, {"type": "text_delta", "text": " Frage"}),
    *block(
        3,
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"city": "Mü'},
        {"type": "input_json_delta", "partial_json": 'nchen"}'},
    ),
    *block(4, {"type": "tool_use", "id": "toolu_2", "name": "time", "input": {}}, {"type": "input_json_delta", "partial_json": "{}"}),
    *end("tool_use", usage={"output_tokens": 42, "output_tokens_details": {"thinking_tokens": 9}}),
)  # fmt: skip


def test_every_kind_of_block() -> None:
    response = response_of(read(EVERYTHING))
    assert (response.id, response.model, response.usage) == ("msg_01", "claude-opus-5", Usage(25, 7, 2, 3, 42, 9))
    assert response.choices[0].finish == "tool_calls"
    assert response.choices[0].parts == [
        Reasoning("Überlegt 🤔", signature="EqQB==", origin="anthropic"),
        Reasoning(signature="blob", origin="anthropic", redacted=True),
        Text("Gute Frage"),
        ToolCall("toolu_1", "weather", '{"city": "München"}'),
        ToolCall("toolu_2", "time", "{}"),
    ]
    assert json.loads(response.raw_usage or b"") == {
        "input_tokens": 25,
        "output_tokens": 42,
        "cache_read_input_tokens": 7,
        "cache_creation_input_tokens": 5,
        "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3},
        "output_tokens_details": {"thinking_tokens": 9},
    }


@pytest.mark.parametrize("stream", [EVERYTHING, EVERYTHING.replace(b"\n", b"\r\n")], ids=["lf", "crlf"])
def test_cut_anywhere_the_events_are_the_same(stream: bytes) -> None:
    expected = read(stream)
    for cut in range(len(stream) + 1):
        parser = anthropic.parse_stream()
        units = parser.split(stream[:cut]) + parser.split(stream[cut:])
        assert b"".join(units) + parser.rest() == stream
        assert [event for unit in units for event in parser.take(unit)] == expected
    parser = anthropic.parse_stream()
    found = [event for byte in stream for unit in parser.split(bytes([byte])) for event in parser.take(unit)]
    assert found == expected


def test_events_come_as_they_arrive_and_in_order() -> None:
    kinds = [type(event) for event in read(EVERYTHING)]
    assert kinds == [
        Started, ReasoningDelta, ReasoningEnd, ReasoningEnd, TextDelta, TextDelta, ToolStart, ToolDelta, ToolDelta, ToolStart,
        ToolDelta, Finished, Counted, Ended,
    ]  # fmt: skip
    assert [event.index for event in read(EVERYTHING) if isinstance(event, ToolStart)] == [0, 1]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("stop_sequence", "stop_sequence"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("model_context_window_exceeded", "context_overflow"),
        ("something_new", "stop"),
    ],
)
def test_why_it_ended(reason: str, finish: str) -> None:
    events = read(wire(start(), *block(0, TEXT, {"type": "text_delta", "text": "x"}), *end(reason, stop_sequence="###")))
    assert [(event.finish, event.stop_sequence) for event in events if isinstance(event, Finished)] == [(finish, "###")]


def test_a_refusal_is_explained() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "Not that."}
    response = response_of(read(wire(start(), *end("refusal", stop_details=details))))
    assert response.choices[0].parts == [Refusal("Not that.")]


def test_cited_pages_are_annotations_and_what_the_provider_ran_is_passed_over() -> None:
    cited = {"type": "web_search_result_location", "url": "https://a.example/", "title": "A", "cited_text": "x", "encrypted_index": "e"}
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    text = block(1, TEXT, {"type": "text_delta", "text": "It is."}, {"type": "citations_delta", "citation": cited})
    searched = block(0, search, {"type": "input_json_delta", "partial_json": '{"query": "x"}'})
    response = response_of(read(wire(start(), *searched, *text, {"type": "something_new"}, *end("end_turn"))))
    [part] = response.choices[0].parts
    assert isinstance(part, Text)
    assert part.annotations == [
        {"type": "url_citation", "url_citation": {"url": "https://a.example/", "title": "A", "start_index": 0, "end_index": 6}}
    ]


def test_arguments_that_came_whole_with_the_start() -> None:
    tool = {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}
    again = block(1, tool, {"type": "input_json_delta", "partial_json": '{"y":2}'})
    response = response_of(read(wire(start(), *block(0, tool), *again, *end("tool_use"))))
    assert response.choices[0].parts == [ToolCall("t", "f", '{"x":1}'), ToolCall("t", "f", '{"y":2}')]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("overloaded_error", 529),
        ("rate_limit_error", 429),
        ("api_error", 500),
        ("timeout_error", 504),
        ("invalid_request_error", 400),
        ("authentication_error", 502),
        ("billing_error", 502),
        ("something_new", 500),
    ],
)
def test_an_error_within_the_stream(kind: str, status: int) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "the provider's secret words"}}
    [_, failed] = read(wire(start(), error))
    assert isinstance(failed, Failed)
    assert failed.error.status == status
    assert failed.said == "the provider's secret words"
    assert "secret" not in failed.error.message


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"id":"x","object":"chat.completion.chunk","choices":[]}\n\n',
        b"data: <html>\n\n",
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}\n\n',
        b'data: {"type":"content_block_start","index":0}\n\n',
        b'data: {"type":"message_start","message":null}\n\n',
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":1,"name":"f"}}\n\n',
    ],
)
def test_what_is_not_of_the_dialect(data: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        read(data)


def test_input_that_turns_out_to_be_cached_is_counted_once() -> None:
    first = start(input_tokens=10_000, output_tokens=0)
    last = {"input_tokens": 1000, "cache_read_input_tokens": 9000, "output_tokens": 2}
    [counted] = [
        event
        for event in read(wire(first, *block(0, TEXT, {"type": "text_delta", "text": "x"}), *end("end_turn", usage=last)))
        if isinstance(event, Counted)
    ]
    assert counted.usage == Usage(uncached_input=1000, cache_read=9000, output=2)
    assert json.loads(counted.raw).items() >= last.items()


def test_zeros_at_the_end_take_nothing_back() -> None:
    by_ttl = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 400}
    first = start(input_tokens=1000, cache_creation_input_tokens=500, cache_creation=by_ttl)
    zeros = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_creation": dict.fromkeys(by_ttl, 0), "output_tokens": 20.0}
    events = read(wire(first, *block(0, TEXT, {"type": "text_delta", "text": "x"}), *end("end_turn", usage=zeros)))
    assert [event.usage for event in events if isinstance(event, Counted)] == [Usage(1000, 0, 100, 400, 20)]


@pytest.mark.parametrize("usage", [{"output_tokens": None}, {"output_tokens": "9"}, {"output_tokens": -9}, {"input_tokens": 30}])
def test_an_end_without_the_output_is_no_usage(usage: dict[str, Any]) -> None:
    events = read(wire(start(), *block(0, TEXT, {"type": "text_delta", "text": "x"}), *end("end_turn", usage=usage)))
    assert not [event for event in events if isinstance(event, Counted)]


def test_usage_that_was_said_only_at_the_start_is_not_the_whole_count() -> None:
    events = read(wire(start(), *block(0, TEXT, {"type": "text_delta", "text": "x"}), *end("end_turn", usage=None)))
    assert not [event for event in events if isinstance(event, Counted)]
    assert [event.usage for event in events if isinstance(event, Started)] == [Usage(25, output=1)]
