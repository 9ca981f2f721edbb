"""A provider's answers, whole and as a stream, as OpenAI and those who imitate it send them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwctl.dialects import responses
from dwctl.dialects.answers import (
    Answering,
    Choice,
    Counted,
    Ended,
    Event,
    Failed,
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
from dwctl.dialects.canonical import Reasoning, Refusal, Text, ToolCall
from dwctl.dialects.usage import Usage

USAGE = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 300},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 1050,
}
COUNTED = Usage(100, 600, 300, 0, 50, 20)
REASONING = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Sum."}], "encrypted_content": "gAAA"}
LOGPROB = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}
CITED = {"type": "url_citation", "url": "https://x", "title": "X", "start_index": 0, "end_index": 2}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hi Zoë", "annotations": [CITED], "logprobs": [LOGPROB]}],
}
CALL_1 = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a":1}', "status": "completed"}
CALL_2 = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": "*** Begin", "status": "completed"}
SEARCH = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "x"}}
OUTPUT = [REASONING, SEARCH, MESSAGE, CALL_1, CALL_2]
BODY = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "gpt-5",
    "service_tier": "flex",
    "output": OUTPUT,
    "usage": USAGE,
}
PARTS = [
    Reasoning("Sum.", summary=True, signature="gAAA", origin="openai-responses", id="rs_1"),
    Text("Hi Zoë", annotations=[{"type": "url_citation", "url_citation": {name: CITED[name] for name in CITED if name != "type"}}]),
    ToolCall("call_1", "f", '{"a":1}'),
    ToolCall("call_2", "patch", "*** Begin", custom=True),
]
PARSED = Response(
    "resp_1", "gpt-5", [Choice(PARTS, "tool_calls", logprobs={"content": [LOGPROB]})], COUNTED, json.dumps(USAGE).encode(), "flex"
)


def wire(*events: tuple[str, dict[str, Any]]) -> bytes:
    told = [{"type": kind, "sequence_number": number, **fields} for number, (kind, fields) in enumerate(events)]
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode() for event in told)


def _at(place: int, item_id: str, **fields: Any) -> dict[str, Any]:
    return {"output_index": place, "item_id": item_id, "content_index": 0, **fields}


BEGIN = {**BODY, "status": "in_progress", "output": [], "usage": None}
TEXT_PART = {"type": "output_text", "text": "", "annotations": []}
STREAM = wire(
    ("response.created", {"response": BEGIN}),
    ("response.in_progress", {"response": BEGIN}),
    ("response.output_item.added", {"output_index": 0, "item": {"id": "rs_1", "type": "reasoning", "summary": []}}),
    ("response.reasoning_summary_part.added", _at(0, "rs_1", summary_index=0, part={"type": "summary_text", "text": ""})),
    ("response.reasoning_summary_text.delta", _at(0, "rs_1", summary_index=0, delta="Su", obfuscation="xyz")),
    ("response.reasoning_summary_text.delta", _at(0, "rs_1", summary_index=0, delta="m.")),
    ("response.reasoning_summary_text.done", _at(0, "rs_1", summary_index=0, text="Sum.")),
    ("response.reasoning_summary_part.done", _at(0, "rs_1", summary_index=0, part={"type": "summary_text", "text": "Sum."})),
    ("response.output_item.done", {"output_index": 0, "item": REASONING}),
    ("response.output_item.added", {"output_index": 1, "item": {**SEARCH, "status": "in_progress"}}),
    ("response.web_search_call.searching", {"output_index": 1, "item_id": "ws_1"}),
    ("response.output_item.done", {"output_index": 1, "item": SEARCH}),
    ("response.output_item.added", {"output_index": 2, "item": {**MESSAGE, "status": "in_progress", "content": []}}),
    ("response.content_part.added", _at(2, "msg_1", part=TEXT_PART)),
    ("response.output_text.delta", _at(2, "msg_1", delta="Hi ", logprobs=[LOGPROB])),
    ("response.output_text.delta", _at(2, "msg_1", delta="Zoë", logprobs=[])),
    ("response.output_text.annotation.added", _at(2, "msg_1", annotation_index=0, annotation=CITED)),
    ("response.output_text.done", _at(2, "msg_1", text="Hi Zoë", logprobs=[LOGPROB])),
    ("response.content_part.done", _at(2, "msg_1", part=MESSAGE["content"][0])),
    ("response.output_item.done", {"output_index": 2, "item": MESSAGE}),
    ("response.output_item.added", {"output_index": 3, "item": {**CALL_1, "arguments": ""}}),
    ("response.output_item.added", {"output_index": 4, "item": {**CALL_2, "input": ""}}),
    ("response.function_call_arguments.delta", _at(3, "fc_1", delta='{"a"')),
    ("response.custom_tool_call_input.delta", _at(4, "ctc_1", delta="*** ")),
    ("response.function_call_arguments.delta", _at(3, "fc_1", delta=":1}")),
    ("response.custom_tool_call_input.delta", _at(4, "ctc_1", delta="Begin")),
    ("response.function_call_arguments.done", _at(3, "fc_1", arguments='{"a":1}', name="f")),
    ("response.output_item.done", {"output_index": 3, "item": CALL_1}),
    ("response.custom_tool_call_input.done", _at(4, "ctc_1", input="*** Begin")),
    ("response.output_item.done", {"output_index": 4, "item": CALL_2}),
    ("response.something.new", {"detail": 1}),
    ("response.completed", {"response": BODY}),
)
EVENTS: list[Event] = [
    Started("resp_1", "gpt-5", service_tier="flex"),
    ReasoningDelta("Su", summary=True),
    ReasoningDelta("m.", summary=True),
    ReasoningEnd(0, "gAAA", "openai-responses", "rs_1"),
    TextDelta("Hi ", logprobs={"content": [LOGPROB]}),
    TextDelta("Zoë"),
    TextDelta("", annotations=PARTS[1].annotations),
    ToolStart(0, "call_1", "f"),
    ToolStart(1, "call_2", "patch", custom=True),
    ToolDelta(0, '{"a"'),
    ToolDelta(1, "*** "),
    ToolDelta(0, ":1}"),
    ToolDelta(1, "Begin"),
    Finished("tool_calls"),
    Counted(COUNTED, json.dumps(USAGE, separators=(",", ":")).encode()),
    Ended(),
]


def read(*chunks: bytes) -> list[Event]:
    parser = responses.parse_stream()
    events = [event for chunk in chunks for unit in parser.split(chunk) for event in parser.take(unit)]
    assert parser.rest() == b""
    return events


def plain(response: Response) -> Response:
    response.raw_usage = None
    return response


def test_a_whole_answer() -> None:
    parsed = responses.parse_response(BODY)
    assert json.loads(parsed.raw_usage or b"") == USAGE
    assert plain(parsed) == plain(PARSED)


def test_a_stream() -> None:
    assert read(STREAM) == EVENTS
    assert plain(response_of(EVENTS)).choices == PARSED.choices


def test_a_stream_in_any_two_pieces() -> None:
    for cut in range(len(STREAM)):
        assert read(STREAM[:cut], STREAM[cut:]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=40).map(sorted))
@settings(deadline=None, max_examples=50)
def test_a_stream_in_many_pieces(cuts: list[int]) -> None:
    assert read(*(STREAM[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(STREAM)], strict=True))) == EVENTS


@pytest.mark.parametrize("ending", [b"\r\n", b"\r"])
def test_other_line_ends(ending: bytes) -> None:
    assert read(STREAM.replace(b"\n", ending) + b": comment" + ending + ending) == EVENTS


def test_a_server_that_tells_items_whole() -> None:
    items = [
        ("response.output_item.done", {"output_index": place, "item": item})
        for place, item in enumerate([REASONING, MESSAGE, CALL_1, CALL_2])
    ]
    events = read(wire(("response.created", {"response": BEGIN}), *items, ("response.completed", {"response": {**BODY, "output": []}})))
    assert response_of(events).choices == PARSED.choices


def test_a_server_that_tells_everything_at_the_end() -> None:
    assert plain(response_of(read(wire(("response.completed", {"response": BODY}))))) == plain(PARSED)


def test_raw_thoughts_of_either_spelling() -> None:
    item = {"id": "rs_1", "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "I think."}]}
    for kind in ("response.reasoning_text.delta", "response.reasoning.delta"):
        events = read(wire((kind, _at(0, "rs_1", delta="I think.")), ("response.output_item.done", {"output_index": 0, "item": item})))
        assert events == [ReasoningDelta("I think."), ReasoningEnd(0, None, "openai-responses", "rs_1")]
    assert responses.parse_response({"output": [item]}).choices[0].parts == [Reasoning("I think.", origin="openai-responses", id="rs_1")]


def test_several_summaries_are_paragraphs() -> None:
    events = read(
        wire(
            ("response.reasoning_summary_part.added", _at(0, "rs_1", summary_index=0)),
            ("response.reasoning_summary_text.delta", _at(0, "rs_1", summary_index=0, delta="One.")),
            ("response.reasoning_summary_part.added", _at(0, "rs_1", summary_index=1)),
            ("response.reasoning_summary_text.delta", _at(0, "rs_1", summary_index=1, delta="Two.")),
        )
    )
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "One.\n\nTwo."


def test_an_encrypted_thought_without_words() -> None:
    item = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAA"}
    assert read(wire(("response.output_item.done", {"output_index": 0, "item": item}))) == [
        ReasoningEnd(0, "gAAA", "openai-responses", "rs_1", redacted=True)
    ]


def test_a_refusal() -> None:
    item = {**MESSAGE, "content": [{"type": "refusal", "refusal": "No."}]}
    body = {**BODY, "output": [item]}
    choice = Choice([Refusal("No.")], "refusal")
    assert responses.parse_response(body).choices == [choice]
    events = read(
        wire(
            ("response.refusal.delta", _at(0, "msg_1", delta="No.")),
            ("response.refusal.done", _at(0, "msg_1", refusal="No.")),
            ("response.output_item.done", {"output_index": 0, "item": item}),
            ("response.completed", {"response": body}),
        )
    )
    assert RefusalDelta("No.") in events
    assert response_of(events).choices == [choice]


@pytest.mark.parametrize(("reason", "finish"), [("max_output_tokens", "length"), ("content_filter", "refusal"), ("steered", "length")])
def test_incomplete(reason: str, finish: str) -> None:
    body = {**BODY, "status": "incomplete", "incomplete_details": {"reason": reason}}
    assert responses.parse_response(body).choices[0].finish == finish
    events = read(wire(("response.incomplete", {"response": body})))
    assert Finished(finish) in events
    assert events[-1] == Ended()


@pytest.mark.parametrize(
    ("event", "status", "said"),
    [
        (
            ("response.failed", {"response": {**BODY, "status": "failed", "error": {"code": "rate_limit_exceeded", "message": "slow"}}}),
            429,
            "rate_limit_exceeded: slow",
        ),
        (("response.failed", {"response": {**BODY, "status": "failed"}}), 500, ""),
        (("error", {"code": "server_error", "message": "boom", "param": None}), 500, "server_error: boom"),
        (("error", {"error": {"type": "invalid_request_error", "code": None, "message": "bad"}}), 400, "invalid_request_error: bad"),
        (("error", {"error": {"code": 401, "message": "your key sk-1"}}), 502, "401: your key sk-1"),
    ],
)
def test_a_failure_is_told_to_the_record_in_the_providers_words_and_to_the_client_in_ours(event: Any, status: int, said: str) -> None:
    failed = read(wire(event))[-1]
    assert isinstance(failed, Failed)
    assert (failed.error.status, failed.said) == (status, said)
    assert "sk-1" not in failed.error.message


def test_an_error_without_a_type() -> None:
    assert isinstance(read(b'data: {"error":{"message":"boom"}}\n\n')[0], Failed)


def test_a_failure_still_counts() -> None:
    events = read(wire(("response.failed", {"response": {**BODY, "error": {"code": "server_error", "message": "x"}}})))
    assert isinstance(events[0], Counted)


@pytest.mark.parametrize(
    "stream",
    [
        b"data: <html>\n\n",
        b'data: {"id":"x","object":"chat.completion.chunk","choices":[]}\n\n',
        b"data: []\n\n",
        b'data: {"type":"response.output_text.delta","output_index":0}\n\n',
        b'data: {"type":"response.function_call_arguments.delta","output_index":0,"delta":"{}"}\n\n',
        b'data: {"type":"response.output_item.added","output_index":0,"item":{"type":"function_call"}}\n\n',
        b'data: {"type":"response.completed"}\n\n',
        b'data: {"type":"response.cancelled","response":{}}\n\n',
    ],
)
def test_what_is_not_of_the_dialect(stream: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        read(stream)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": [{"message": {"content": "x"}}]},
        {**BODY, "output": "x"},
        {**BODY, "status": "in_progress"},
        {**BODY, "status": "queued"},
        {**BODY, "output": [{"type": "function_call", "name": "f", "arguments": "{}"}]},
    ],
)
def test_an_answer_that_is_not_of_the_dialect(body: dict[str, Any]) -> None:
    with pytest.raises(MalformedAnswer):
        responses.parse_response(body)


def test_done_alone_is_no_end() -> None:
    assert read(b"data: [DONE]\n\n") == []


def test_what_we_write_we_can_read() -> None:
    request = responses.parse_request(
        {"model": "m", "input": "x", "include": ["message.output_text.logprobs"], "tools": [{"type": "custom", "name": "patch"}]}
    )
    answering = Answering("0" * 32, "m", 1)
    renderer = responses.render_stream(request, answering)
    rendered = b"".join(renderer.render(event) for event in EVENTS[:-1]) + renderer.end()
    read_back = response_of(read(rendered)).choices[0]
    assert read_back.parts[1:] == PARTS[1:]
    assert (read_back.finish, read_back.logprobs) == ("tool_calls", {"content": [LOGPROB]})
    body = responses.render_response(plain(responses.parse_response(BODY)), request, answering)
    assert responses.parse_response(body).choices[0].parts[1:] == PARTS[1:]
