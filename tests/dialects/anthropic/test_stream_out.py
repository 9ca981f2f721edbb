"""The stream that a client of Anthropic's dialect gets, whatever a provider's was like."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.dialects import anthropic
from dwctl.dialects.answers import (
    Answering,
    Counted,
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
    response_of,
)
from dwctl.dialects.canonical import Request
from dwctl.dialects.signatures import unwrap
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError
from tests.dialects.anthropic.machine import Machine

ANSWERING = Answering("0123456789abcdef" * 2, "our-name", 1)
REQUEST = Request(model="our-name", messages=[])


def rendered(events: list[Event], request: Request = REQUEST) -> Machine:
    machine = Machine()
    renderer = anthropic.render_stream(request, ANSWERING)
    for event in events:
        machine.feed(renderer.render(event))
    machine.feed(renderer.end())
    machine.end()
    assert renderer.render(TextDelta("late")) + renderer.end() + renderer.fail(GatewayError(500, "", "", "")) == b""
    return machine


def content(events: list[Event], request: Request = REQUEST) -> Any:
    message = rendered(events, request).message
    assert message is not None
    return message["content"]


def test_a_text_to_the_byte() -> None:
    renderer = anthropic.render_stream(REQUEST, ANSWERING)
    out = renderer.render(Started("theirs", "their-name", Usage(12, cache_read=3)))
    out += renderer.render(TextDelta("Hel")) + renderer.render(TextDelta("lo"))
    out += renderer.render(Finished("stop")) + renderer.render(Counted(Usage(12, 3, 2, 1, 5, 4), b"{}")) + renderer.end()
    id = ANSWERING.id
    usage = '"cache_creation":{"ephemeral_5m_input_tokens":%d,"ephemeral_1h_input_tokens":%d},"output_tokens":%d,"output_tokens_details"'
    assert out.decode() == (
        'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_' + id + '","type":"message","role":"assistant",'
        '"model":"our-name","content":[],"stop_reason":null,"stop_sequence":null,"stop_details":null,"usage":{"input_tokens":12,'
        '"cache_creation_input_tokens":0,"cache_read_input_tokens":3,' + usage % (0, 0, 0) + ':{"thinking_tokens":0},'
        '"server_tool_use":null,"service_tier":"standard"}}}\n\n'
        'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
        'event: ping\ndata: {"type": "ping"}\n\n'
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}\n\n'
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"lo"}}\n\n'
        'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null,"stop_details":null},'
        '"usage":{"input_tokens":12,"cache_creation_input_tokens":3,"cache_read_input_tokens":3,'
        + usage
        % (2, 1, 5)
        + ':{"thinking_tokens":4}}}\n\n'
        'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )


def test_interleaved_arguments_of_parallel_calls_reach_their_own_block() -> None:
    calls: list[Event] = [ToolStart(0, "a", "f"), ToolStart(1, "b", "g")]
    calls += [ToolDelta(0, '{"x"'), ToolDelta(1, '{"y":'), ToolDelta(0, ":1}"), ToolDelta(1, "2}")]
    found = content([*calls, Finished("stop")])
    assert [(block["id"], block["name"], block["input"]) for block in found] == [("a", "f", {"x": 1}), ("b", "g", {"y": 2})]


def test_calls_one_after_the_other_are_not_held_back() -> None:
    renderer = anthropic.render_stream(REQUEST, ANSWERING)
    for event in (ToolStart(0, "a", "f"), ToolDelta(0, '{"x":1}'), ToolStart(1, "b", "g")):
        renderer.render(event)
    assert b'\\"y\\"' in renderer.render(ToolDelta(1, '{"y"'))


def test_a_stop_with_calls_is_tool_use_and_one_without_is_not() -> None:
    called = rendered([ToolStart(0, "a", "f"), Finished("stop")]).message
    assert called is not None
    assert called["stop_reason"] == "tool_use"
    assert called["content"][0]["input"] == {}
    plain = rendered([TextDelta("x"), Finished("tool_calls")]).message
    assert plain is not None
    assert plain["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("stop_sequence", "stop_sequence"),
        ("pause", "pause_turn"),
        ("refusal", "refusal"),
        ("context_overflow", "model_context_window_exceeded"),
    ],
)
def test_why_it_ended(finish: Any, reason: str) -> None:
    machine = rendered([TextDelta("x"), Finished(finish, stop_sequence="###")])
    assert machine.message is not None
    assert machine.message["stop_reason"] == reason
    assert machine.message["stop_sequence"] == ("###" if reason == "stop_sequence" else None)
    assert (machine.message["stop_details"] is None) == (reason != "refusal")


def test_a_refusal_is_text_with_its_own_reason() -> None:
    machine = rendered([RefusalDelta("I will "), RefusalDelta("not."), Finished("stop")])
    assert machine.message is not None
    assert machine.message["content"] == [{"type": "text", "text": "I will not."}]
    assert machine.message["stop_reason"] == "refusal"


def test_thoughts_of_another_provider_come_back_as_they_were() -> None:
    thought = ReasoningEnd(0, "ciphertext", "openai-responses", "rs_1")
    found = content([ReasoningDelta("a "), ReasoningDelta("plan"), thought, TextDelta("x"), Finished("stop")])
    assert found[0]["thinking"] == "a plan"
    back = unwrap(found[0]["thinking"], found[0]["signature"], "anthropic")
    assert (back.text, back.signature, back.origin, back.id) == ("a plan", "ciphertext", "openai-responses", "rs_1")


def test_each_thought_is_a_block_with_its_own_signature_that_ends_with_it() -> None:
    thoughts: list[Event] = [ReasoningDelta("a"), ReasoningEnd(0, "1", "anthropic"), ReasoningDelta("b"), ReasoningEnd(0, "2", "anthropic")]
    found = content([*thoughts, ReasoningDelta("c"), ReasoningDelta("d", summary=True), Finished("stop")])
    assert [block["thinking"] for block in found] == ["a", "b", "c", "d"]
    assert [block["signature"] for block in found[:2]] == ["1", "2"]
    assert [unwrap("", block["signature"], "anthropic").summary for block in found[2:]] == [False, True]
    renderer = anthropic.render_stream(REQUEST, ANSWERING)
    renderer.render(ReasoningDelta("a"))
    assert b"content_block_stop" in renderer.render(ReasoningEnd(0, "1", "anthropic"))


def test_thoughts_that_are_not_to_be_shown_leave_their_signature() -> None:
    quiet = Request(model="m", messages=[], reasoning_summary="omitted")
    found = content([ReasoningDelta("secret"), ReasoningEnd(0, "sig", "anthropic"), TextDelta("x"), Finished("stop")], quiet)
    assert found[0] == {"type": "thinking", "thinking": "", "signature": "sig"}


def test_a_redacted_thought() -> None:
    found = content([ReasoningEnd(0, "blob", "anthropic", redacted=True), TextDelta("x"), Finished("stop")])
    assert found[0] == {"type": "redacted_thinking", "data": "blob"}


def test_cited_pages_are_citations() -> None:
    cited = [{"type": "url_citation", "url_citation": {"url": "https://a.example/", "title": "A", "start_index": 0, "end_index": 1}}]
    found = content([TextDelta("x", annotations=cited), Finished("stop")])
    assert [(citation["url"], citation["title"]) for citation in found[0]["citations"]] == [("https://a.example/", "A")]


def test_a_ping_follows_the_first_block_and_an_empty_answer_is_whole() -> None:
    assert rendered([TextDelta("x"), ToolStart(0, "a", "f"), Finished("stop")]).pings == 1
    empty = rendered([])
    assert empty.message is not None
    assert empty.message["content"] == []
    assert empty.message["stop_reason"] == "end_turn"


def test_arguments_that_are_no_object_are_an_error_unless_cut_by_length() -> None:
    events: list[Event] = [ToolStart(0, "a", "f"), ToolDelta(0, '{"x": ')]
    with pytest.raises(MalformedAnswer):
        rendered([*events, Finished("tool_calls")])
    assert content([*events, Finished("length")])[0]["input"] is None
    for nothing in ("", "null", "  "):
        assert content([ToolStart(0, "a", "f"), ToolDelta(0, nothing), Finished("stop")])[0]["input"] == {}


def test_a_failure_names_its_kind_and_ends_the_stream() -> None:
    for status, kind in ((429, "rate_limit_error"), (503, "overloaded_error"), (504, "timeout_error"), (402, "billing_error")):
        machine = Machine()
        renderer = anthropic.render_stream(REQUEST, ANSWERING)
        machine.feed(renderer.render(TextDelta("x")) + renderer.fail(GatewayError(status, "t", "c", "Sorry.")))
        machine.feed(renderer.end())
        machine.end()
        assert machine.error == {"type": kind, "message": "Sorry."}


texts = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.dictionaries(texts, st.integers(-9, 9) | texts | st.lists(st.none(), max_size=2), max_size=3)


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[Event], list[dict[str, Any]]]:
    """Events in any order that a parser might give, and the arguments of the calls among them."""
    others: list[Event] = draw(
        st.lists(
            st.builds(TextDelta, texts)
            | st.builds(ReasoningDelta, texts, summary=st.booleans())
            | st.builds(ReasoningEnd, signature=st.none() | st.just("s"), origin=st.sampled_from([None, "anthropic", "openai-responses"]))
            | st.builds(ReasoningEnd, signature=st.just("s"), origin=st.just("anthropic"), redacted=st.just(True))
            | st.builds(RefusalDelta, texts)
            | st.builds(TextDelta, texts, choice=st.just(1))
            | st.builds(Counted, st.builds(Usage, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), st.just(b"{}"))
            | st.builds(Started, usage=st.none() | st.just(Usage(3))),
            max_size=8,
        )
    )
    arguments = draw(st.lists(values, max_size=4))
    lanes: list[list[Event]] = [others]
    for index, value in enumerate(arguments):
        text = json.dumps(value, indent=draw(st.none() | st.just(1)))
        cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=6)) | {0, len(text)})
        lane: list[Event] = [ToolStart(index, f"call_{index}", f"tool_{index}")]
        lane += [ToolDelta(index, text[start:end]) for start, end in pairwise(cuts)]
        lanes.append(lane)
    events: list[Event] = []
    while waiting := [lane for lane in lanes if lane]:
        events.append(draw(st.sampled_from(waiting)).pop(0))
    finish = draw(st.none() | st.sampled_from(["stop", "length", "tool_calls", "refusal", "stop_sequence", "pause", "context_overflow"]))
    if finish is not None:
        events.insert(draw(st.integers(0, len(events))), Finished(finish))
    return events, arguments


@given(answers())
def test_any_order_of_events_is_a_valid_stream_that_says_the_same(drawn: tuple[list[Event], list[dict[str, Any]]]) -> None:
    events, arguments = drawn
    found = content(events)
    calls = {block["id"]: block["input"] for block in found if block["type"] == "tool_use"}
    assert [calls[f"call_{index}"] for index in range(len(arguments))] == arguments
    said = "".join(event.text for event in events if isinstance(event, TextDelta | RefusalDelta) and event.choice == 0)
    assert "".join(block["text"] for block in found if block["type"] == "text") == said
    thought = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    assert "".join(block["thinking"] for block in found if block["type"] == "thinking") == thought


@given(answers(), st.data())
def test_a_failure_at_any_moment_is_a_valid_end(drawn: tuple[list[Event], list[dict[str, Any]]], data: st.DataObject) -> None:
    events, _ = drawn
    machine = Machine()
    renderer = anthropic.render_stream(REQUEST, ANSWERING)
    for event in events[: data.draw(st.integers(0, len(events)))]:
        machine.feed(renderer.render(event))
    machine.feed(renderer.fail(GatewayError(500, "t", "c", "Sorry.")))
    machine.end()
    assert not machine.done


@given(answers())
def test_what_is_written_is_read_again_the_same(drawn: tuple[list[Event], list[dict[str, Any]]]) -> None:
    events, _ = drawn
    renderer = anthropic.render_stream(REQUEST, ANSWERING)
    parser = anthropic.parse_stream()
    out = b"".join(renderer.render(event) for event in events) + renderer.end()
    response = response_of([read for unit in parser.split(out) for read in parser.take(unit)])
    whole = anthropic.render_response(response, REQUEST, ANSWERING)
    assert whole["content"] == content(events)


def test_the_input_is_estimated_until_it_is_known() -> None:
    renderer = anthropic.render_stream(Request(model="m", messages=[]), Answering("a" * 32, "m", 0, input_estimate=77))
    machine = Machine()
    machine.feed(renderer.render(TextDelta("Hi")))
    assert machine.message is not None
    assert machine.message["usage"]["input_tokens"] == 77
    machine.feed(renderer.render(Finished("stop")) + renderer.render(Counted(Usage(uncached_input=5, output=1), b"{}")) + renderer.end())
    machine.end()
    assert machine.message["usage"]["input_tokens"] == 5
