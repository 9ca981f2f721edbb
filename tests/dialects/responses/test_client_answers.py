"""Answers as clients of Responses get them: whole and as a stream."""

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
    Event,
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
)
from dwctl.dialects.canonical import Reasoning, Refusal, Text, ToolCall
from dwctl.dialects.signatures import unwrap
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError
from tests.dialects.responses.machine import Machine, check_response

ANSWERING = Answering("0123456789abcdef0123456789abcdef", "alias", 1_700_000_000)
USAGE = Usage(uncached_input=10, cache_read=600, cache_write_5m=300, cache_write_1h=90, output=50, reasoning=20)
TOOLS = [{"type": "function", "name": "f"}, {"type": "custom", "name": "patch"}]
FAILURE = GatewayError(503, "internal_error", "upstream_error", "The model's provider failed.")


def streamed(*events: Event, **fields: Any) -> Machine:
    renderer = responses.render_stream(responses.parse_request({"model": "alias", "input": "x", **fields}), ANSWERING)
    machine = Machine()
    for event in events:
        machine.feed(renderer.render(event))
    machine.feed(renderer.end())
    machine.end()
    return machine


def whole(*parts: Any, finish: Any = "stop", logprobs: Any = None, **fields: Any) -> dict[str, Any]:
    response = Response("x", "upstream", [Choice([*parts], finish, logprobs=logprobs)], USAGE, b"{}", "flex")
    answer = responses.render_response(response, responses.parse_request({"model": "alias", "input": "x", **fields}), ANSWERING)
    check_response(answer)
    return answer


def kinds(machine: Machine) -> list[str]:
    return [event["type"].removeprefix("response.") for event in machine.events]


def test_a_text() -> None:
    machine = streamed(Started("x", "upstream"), TextDelta("Hel"), TextDelta("lo"), Finished("stop"), Counted(USAGE, b"{}"))
    assert kinds(machine) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    response = machine.response
    assert response["id"] == "resp_0123456789abcdef0123456789abcdef"
    assert (response["model"], response["created_at"], response["status"]) == ("alias", 1_700_000_000, "completed")
    assert response["output"][0]["content"][0]["text"] == "Hello"
    assert response["usage"] == {
        "input_tokens": 1000,
        "input_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 390},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 20},
        "total_tokens": 1050,
    }


def test_a_stream_and_a_whole_answer_say_the_same() -> None:
    machine = streamed(
        Started(service_tier="flex"),
        ReasoningDelta("hm"),
        ReasoningEnd(),
        TextDelta("Hello"),
        ToolStart(0, "call_1", "f"),
        ToolDelta(0, '{"a"'),
        ToolDelta(0, ":1}"),
        Finished("tool_calls"),
        Counted(USAGE, b"{}"),
        tools=TOOLS,
    )
    answer = whole(Reasoning("hm"), Text("Hello"), ToolCall("call_1", "f", '{"a":1}'), finish="tool_calls", tools=TOOLS)
    assert machine.response == answer
    assert answer["status"] == "completed"
    assert [item["type"] for item in answer["output"]] == ["reasoning", "message", "function_call"]
    assert answer["service_tier"] == "flex"


def test_what_the_client_asked_for_is_repeated() -> None:
    asked = {
        "instructions": "Be brief.",
        "tools": [{"type": "function", "name": "f"}],
        "tool_choice": {"type": "function", "name": "f"},
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 100,
        "metadata": {"a": "b"},
        "reasoning": {"effort": "low"},
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {}}},
        "parallel_tool_calls": False,
        "store": True,
        "truncation": "auto",
        "user": "u",
        "top_logprobs": 2,
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "max_tool_calls": 3,
    }
    answer = whole(Text("Hello"), **asked)
    for name in asked.keys() - {"tools", "reasoning", "text"}:
        assert answer[name] == asked[name], name
    assert answer["tools"] == [{"type": "function", "name": "f", "description": None, "parameters": None, "strict": None}]
    assert answer["reasoning"] == {"effort": "low", "summary": None}
    assert answer["text"] == {
        "verbosity": "low",
        "format": {"type": "json_schema", "name": "n", "schema": {}, "description": None, "strict": False},
    }


def test_length_is_incomplete() -> None:
    machine = streamed(TextDelta("Hel"), Finished("length"))
    assert kinds(machine)[:2] == ["created", "in_progress"]
    assert "output_text.done" in kinds(machine)
    assert kinds(machine)[-1] == "incomplete"
    assert machine.response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert machine.response["output"][0]["status"] == "incomplete"


def test_a_filter_is_incomplete_and_a_refusal_is_an_answer() -> None:
    assert streamed(TextDelta("Hel"), Finished("refusal")).response["incomplete_details"] == {"reason": "content_filter"}
    machine = streamed(RefusalDelta("I "), RefusalDelta("won't."), Finished("refusal"))
    assert kinds(machine)[4:7] == ["refusal.delta", "refusal.delta", "refusal.done"]
    assert machine.response["status"] == "completed"
    assert machine.response["output"][0]["content"] == [{"type": "refusal", "refusal": "I won't."}]
    assert whole(Refusal("I won't."), finish="refusal")["output"] == machine.response["output"]


def test_calls_that_interleave_follow_each_other_whole() -> None:
    machine = streamed(
        ToolStart(0, "call_1", "f"),
        ToolStart(1, "call_2", "g"),
        ToolDelta(0, '{"a"'),
        ToolDelta(1, '{"b"'),
        ToolDelta(0, ":1}"),
        ToolDelta(1, ":2}"),
        Finished("tool_calls"),
    )
    calls = machine.response["output"]
    assert [(call["call_id"], call["name"], call["arguments"]) for call in calls] == [
        ("call_1", "f", '{"a":1}'),
        ("call_2", "g", '{"b":2}'),
    ]


def test_calls_that_follow_each_other_are_told_as_they_come() -> None:
    renderer = responses.render_stream(responses.parse_request({"model": "m", "input": "x"}), ANSWERING)
    for event in (ToolStart(0, "call_1", "f"), ToolDelta(0, '{"a":1}')):
        renderer.render(event)
    assert b"response.output_item.done" in renderer.render(ToolStart(1, "call_2", "g"))
    assert b'"delta":"{' in renderer.render(ToolDelta(1, '{"b'))


@pytest.mark.parametrize("arguments", ["", "  ", "null"])
def test_no_arguments_are_an_empty_object(arguments: str) -> None:
    machine = streamed(ToolStart(0, "call_1", "f"), ToolDelta(0, arguments), TextDelta("And."), Finished("tool_calls"))
    assert machine.response["output"][0]["arguments"] == "{}"
    assert whole(ToolCall("call_1", "f", arguments), finish="tool_calls")["output"][0]["arguments"] == "{}"


def test_arguments_that_are_no_object_are_no_answer_unless_they_were_cut() -> None:
    with pytest.raises(MalformedAnswer):
        streamed(ToolStart(0, "call_1", "f"), ToolDelta(0, '{"a":'), Finished("tool_calls"))
    with pytest.raises(MalformedAnswer):
        whole(ToolCall("call_1", "f", "[1]"))
    call = streamed(ToolStart(0, "call_1", "f"), ToolDelta(0, '{"a":'), Finished("length")).response["output"][0]
    assert (call["arguments"], call["status"]) == ('{"a":', "incomplete")


def test_custom_tools_are_called_with_their_text() -> None:
    native = streamed(
        ToolStart(0, "c", "patch", custom=True), ToolDelta(0, "*** "), ToolDelta(0, "Begin"), Finished("tool_calls"), tools=TOOLS
    )
    wrapped = streamed(
        ToolStart(0, "c", "patch"), ToolDelta(0, '{"input":"*** '), ToolDelta(0, 'Begin"}'), Finished("tool_calls"), tools=TOOLS
    )
    assert kinds(native) == kinds(wrapped)
    assert kinds(native)[3:6] == ["custom_tool_call_input.delta", "custom_tool_call_input.delta", "custom_tool_call_input.done"]
    (call,) = native.response["output"]
    assert (call["type"], call["call_id"], call["name"], call["input"]) == ("custom_tool_call", "c", "patch", "*** Begin")
    assert wrapped.response == native.response
    assert whole(ToolCall("c", "patch", '{"input":"*** Begin"}'), finish="tool_calls", tools=TOOLS)["output"] == native.response["output"]


def test_a_tool_of_a_namespace_is_called_by_both_its_names() -> None:
    group = {"type": "namespace", "name": "crm", "description": "Customers.", "tools": TOOLS}
    begun = [ToolStart(0, "c1", "crm__f"), ToolDelta(0, "{}"), ToolStart(1, "c2", "crm__patch"), ToolDelta(1, '{"input":"x"}')]
    machine = streamed(*begun, Finished("tool_calls"), tools=[group, TOOLS[0]])
    function, custom = machine.response["output"]
    assert (function["type"], function["namespace"], function["name"]) == ("function_call", "crm", "f")
    assert (custom["type"], custom["namespace"], custom["name"], custom["input"]) == ("custom_tool_call", "crm", "patch", "x")
    added = [event["item"] for event in machine.events if event["type"] == "response.output_item.added"]
    assert [(item["namespace"], item["name"]) for item in added] == [("crm", "f"), ("crm", "patch")]
    assert [event["name"] for event in machine.events if event["type"].endswith("arguments.done")] == ["f"]
    (bare,) = whole(ToolCall("c", "f", "{}"), finish="tool_calls", tools=[group, TOOLS[0]])["output"]
    assert (bare["name"], "namespace" in bare) == ("f", False)


def test_custom_text_that_a_model_did_not_wrap_is_told_at_the_end() -> None:
    (call,) = streamed(ToolStart(0, "c", "patch"), ToolDelta(0, "*** Begin"), tools=TOOLS).response["output"]
    assert call["input"] == "*** Begin"


def test_thoughts_are_content_and_summaries_are_summaries() -> None:
    machine = streamed(
        ReasoningDelta("I "), ReasoningDelta("think."), ReasoningDelta("Short.", summary=True), TextDelta("Hello"), Finished("stop")
    )
    thought, summary, _ = machine.response["output"]
    assert (thought["content"], thought["summary"]) == ([{"type": "reasoning_text", "text": "I think."}], [])
    assert summary["summary"] == [{"type": "summary_text", "text": "Short."}]
    assert "encrypted_content" not in thought
    assert "reasoning_text.delta" in kinds(machine)
    assert "reasoning_summary_text.done" in kinds(machine)


def test_a_thought_comes_back_as_its_provider_gave_it_even_if_the_client_keeps_nothing_but_the_envelope() -> None:
    include = {"include": ["reasoning.encrypted_content"]}
    machine = streamed(ReasoningDelta("I think."), ReasoningEnd(0, "c2ln", "anthropic"), TextDelta("Hello"), Finished("stop"), **include)
    answer = whole(Reasoning("I think.", signature="c2ln", origin="anthropic"), Text("Hello"), **include)
    assert machine.response["output"] == answer["output"]
    carried = answer["output"][0]["encrypted_content"]
    assert unwrap("", carried, "openai-responses") == Reasoning("I think.", signature="c2ln", origin="anthropic")
    back = responses.parse_request({"model": "m", "input": [{"type": "reasoning", "summary": [], "encrypted_content": carried}]})
    assert back.messages[0].parts == [Reasoning("I think.", signature="c2ln", origin="anthropic")]


def test_a_thought_of_which_only_the_signature_is_there_is_for_those_who_can_bring_it_back() -> None:
    hidden = Reasoning(signature="gAAA", origin="anthropic", redacted=True)
    assert [item["type"] for item in whole(hidden, Text("Hello"))["output"]] == ["message"]
    thought, _ = whole(hidden, Text("Hello"), include=["reasoning.encrypted_content"])["output"]
    assert unwrap("", thought["encrypted_content"], "openai-responses") == hidden


def test_thoughts_without_a_signature_come_back_too() -> None:
    thought, _ = streamed(ReasoningDelta("I think."), TextDelta("Hi"), Finished("stop"), include=["reasoning.encrypted_content"]).response[
        "output"
    ]
    assert unwrap("", thought["encrypted_content"], "openai-responses") == Reasoning("I think.", origin="openai-chat")


def test_citations_are_flat() -> None:
    cited = {"type": "url_citation", "url_citation": {"url": "https://x", "title": "X", "start_index": 0, "end_index": 5}}
    flat = {"type": "url_citation", "url": "https://x", "title": "X", "start_index": 0, "end_index": 5}
    machine = streamed(TextDelta("Hello"), TextDelta("", annotations=[cited, {"type": "odd"}]), Finished("stop"))
    assert "output_text.annotation.added" in kinds(machine)
    assert machine.response["output"][0]["content"][0]["annotations"] == [flat]
    assert whole(Text("Hello", annotations=[flat]))["output"] == machine.response["output"]


def test_probabilities_are_there_when_asked_for() -> None:
    said = {"content": [{"token": "Hi", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "Ho", "logprob": -1.0}]}]}
    token = {
        "token": "Hi",
        "logprob": -0.5,
        "bytes": [72, 105],
        "top_logprobs": [{"token": "Ho", "logprob": -1.0, "bytes": [72, 111]}],
    }
    include = {"include": ["message.output_text.logprobs"]}
    machine = streamed(TextDelta("Hi", logprobs=said), Finished("stop"), **include)
    assert machine.response["output"][0]["content"][0]["logprobs"] == [token]
    assert whole(Text("Hi"), logprobs=said, **include)["output"] == machine.response["output"]
    assert whole(Text("Hi"), logprobs=said)["output"][0]["content"][0]["logprobs"] == []


def test_nothing_at_all_is_an_answer() -> None:
    assert kinds(streamed()) == ["created", "in_progress", "completed"]
    assert whole()["output"] == []


@pytest.mark.parametrize(
    "before",
    [
        [],
        [Started()],
        [TextDelta("Hel")],
        [ReasoningDelta("hm")],
        [ToolStart(0, "c", "f"), ToolDelta(0, '{"a')],
        [ToolStart(0, "c", "f"), ToolStart(1, "d", "f")],
    ],
)
def test_a_failure_at_any_moment(before: list[Event]) -> None:
    renderer = responses.render_stream(responses.parse_request({"model": "m", "input": "x"}), ANSWERING)
    machine = Machine()
    for event in before:
        machine.feed(renderer.render(event))
    machine.feed(renderer.fail(FAILURE))
    machine.feed(renderer.render(TextDelta("more")) + renderer.end() + renderer.fail(FAILURE))
    machine.end()
    assert kinds(machine)[-2:] == ["error", "failed"]
    assert machine.response["error"] == {"code": "server_error", "message": "The model's provider failed."}
    event = machine.events[-2]
    assert (event["code"], event["message"], event["param"]) == ("upstream_error", "The model's provider failed.", None)
    assert event["error"] == {"type": "internal_error", "code": "upstream_error", "message": "The model's provider failed.", "param": None}


def test_an_end_that_could_not_be_told_is_a_failure() -> None:
    renderer = responses.render_stream(responses.parse_request({"model": "m", "input": "x"}), ANSWERING)
    machine = Machine()
    for event in (ToolStart(0, "c", "f"), ToolDelta(0, '{"a'), ToolStart(1, "d", "f"), Finished("tool_calls")):
        machine.feed(renderer.render(event))
    with pytest.raises(MalformedAnswer):
        renderer.end()
    machine.feed(renderer.fail(FAILURE))
    machine.end()
    assert machine.response["status"] == "failed"


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_OBJECTS = st.dictionaries(_TEXTS, st.one_of(st.integers(), _TEXTS, st.lists(st.integers(), max_size=3)), max_size=3)


@st.composite
def _parts(draw: st.DrawFn) -> list[list[Event]]:
    """The events of each part, calls numbered in order."""
    parts: list[list[Event]] = []
    calls = 0
    for kind in draw(st.lists(st.sampled_from(["text", "refusal", "thought", "summary", "signed", "call", "patch"]), max_size=6)):
        cut = draw(st.lists(_TEXTS, max_size=3))
        match kind:
            case "text":
                parts.append([TextDelta(text) for text in cut])
            case "refusal":
                parts.append([RefusalDelta(text) for text in cut])
            case "thought" | "summary":
                parts.append([ReasoningDelta(text, summary=kind == "summary") for text in cut])
            case "signed":
                parts.append([*(ReasoningDelta(text) for text in cut), ReasoningEnd(0, "sig", "anthropic")])
            case "call" | "patch":
                value = json.dumps({"input": "".join(cut)} if kind == "patch" else draw(_OBJECTS), ensure_ascii=draw(st.booleans()))
                at = sorted(draw(st.lists(st.integers(0, len(value)), max_size=4)))
                pieces = [value[begin:end] for begin, end in zip([0, *at], [*at, len(value)], strict=True)]
                name = "patch" if kind == "patch" else "f"
                parts.append([ToolStart(calls, f"call_{calls}", name), *(ToolDelta(calls, piece) for piece in pieces)])
                calls += 1
    return parts


@st.composite
def _orders(draw: st.DrawFn) -> list[Event]:
    """Parts one after the other, or with their events mixed as no provider should; each part's own order is kept."""
    parts = draw(_parts())
    if not draw(st.booleans()):
        return [event for part in parts for event in part]
    events = []
    pending = [list(part) for part in parts if part]
    while pending:
        part = draw(st.sampled_from(pending))
        events.append(part.pop(0))
        pending = [part for part in pending if part]
    return events


@given(_orders(), st.sampled_from(["stop", "length", "tool_calls", "refusal", None]), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=300)
def test_any_order_of_events_is_a_valid_stream_that_says_everything(
    events: list[Event], finish: Any, encrypted: bool, counted_first: bool
) -> None:
    end: list[Event] = [] if finish is None else [Finished(finish)]
    end.insert(0 if counted_first else len(end), Counted(USAGE, b"{}"))
    fields: dict[str, Any] = {"include": ["reasoning.encrypted_content"]} if encrypted else {}
    machine = streamed(Started(), *events, *end, tools=TOOLS, **fields)
    output = machine.response["output"]
    said = "".join(part.get("text", "") for item in output if item["type"] == "message" for part in item["content"])
    assert said == "".join(event.text for event in events if isinstance(event, TextDelta))
    starts = {event.index: event for event in events if isinstance(event, ToolStart)}
    for index, start in starts.items():
        value = json.loads("".join(event.fragment for event in events if isinstance(event, ToolDelta) and event.index == index))
        (call,) = [item for item in output if item.get("call_id") == start.id]
        assert value == (json.loads(call["arguments"]) if call["type"] == "function_call" else {"input": call["input"]})
    assert machine.response["usage"]["input_tokens"] == 1000


_WILD = st.one_of(
    st.builds(TextDelta, _TEXTS, st.integers(0, 1)),
    st.builds(RefusalDelta, _TEXTS),
    st.builds(ReasoningDelta, _TEXTS, st.just(0), st.booleans()),
    st.builds(ReasoningEnd, st.just(0), st.none() | st.just("sig")),
    st.builds(ToolStart, st.integers(0, 2), st.just("call"), st.sampled_from(["f", "patch"]), st.just(0), st.booleans()),
    st.builds(ToolDelta, st.integers(0, 2), st.sampled_from(["{", "}", "{}", '"a":1', " ", "null", "x"])),
    st.builds(Finished, st.sampled_from(["stop", "length", "tool_calls", "refusal", "pause", "context_overflow"])),
    st.builds(Counted, st.just(USAGE), st.just(b"{}")),
    st.just(Started()),
)


@given(st.lists(_WILD, max_size=14), st.booleans())
@settings(deadline=None, max_examples=300)
def test_nonsense_is_a_valid_stream_or_a_failure(events: list[Event], encrypted: bool) -> None:
    fields = {"include": ["reasoning.encrypted_content"]} if encrypted else {}
    renderer = responses.render_stream(responses.parse_request({"model": "m", "input": "x", "tools": TOOLS, **fields}), ANSWERING)
    machine = Machine()
    try:
        for event in events:
            machine.feed(renderer.render(event))
        machine.feed(renderer.end())
    except MalformedAnswer:
        machine.feed(renderer.fail(FAILURE))
        assert machine.response["status"] == "failed"
    machine.end()
