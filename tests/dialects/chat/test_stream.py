"""Chat streams: of every kind of server, understood wherever they are cut; to clients, as the protocol has them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.dialects import chat
from dwctl.dialects.answers import (
    Answering,
    Counted,
    Ended,
    Event,
    Failed,
    Finished,
    MalformedAnswer,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Started,
    TextDelta,
    ToolDelta,
    ToolStart,
    events_of,
    response_of,
)
from dwctl.dialects.canonical import Reasoning, Refusal, Request, Text, Tool, ToolCall
from dwctl.dialects.openai_stream import MalformedStream
from dwctl.dialects.streams import TranslatedStream
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError
from tests.dialects.chat.machine import Machine
from tests.dialects.strategies import event_streams, responses

ANSWERING = Answering("0" * 31 + "1", "alias", 1_700_000_000)
CITATION = {"type": "url_citation", "url_citation": {"start_index": 0, "end_index": 2, "title": "t", "url": "https://h"}}
LOGPROBS = {"content": [{"token": "hi", "logprob": -0.1, "bytes": [104, 105], "top_logprobs": []}]}
DOWN = GatewayError(502, "internal_error", "upstream_disconnected", "The provider went away.")


def event(*choices: dict[str, Any], **fields: Any) -> bytes:
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": list(choices), **fields}
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def delta(index: int = 0, **fields: Any) -> bytes:
    return event({"index": index, "delta": fields, "finish_reason": None})


def finish(reason: str = "stop", index: int = 0, **fields: Any) -> bytes:
    return event({"index": index, "delta": {}, "finish_reason": reason, **fields})


def call(number: int | None, name: str | None = None, arguments: str | None = None, **fields: Any) -> bytes:
    piece = {"index": number, "function": {"name": name, "arguments": arguments}, **fields}
    return delta(tool_calls=[{key: value for key, value in piece.items() if value is not None}])


DONE = b"data: [DONE]\n\n"
START = Started("c1", "m")


def parsed(*chunks: bytes) -> list[Event]:
    parser = chat.parse_stream()
    events = [event for chunk in chunks for unit in parser.split(chunk) for event in parser.take(unit)]
    parser.close()
    return events


OPENAI = [
    delta(role="assistant", content="", refusal=None),
    event({"index": 0, "delta": {"content": "hi "}, "logprobs": LOGPROBS, "finish_reason": None}, service_tier="default"),
    delta(content="thére 😀"),
    delta(annotations=[CITATION]),
    finish(),
    event(usage={"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4}}),
    DONE,
]
OPENAI_EVENTS = [
    START,
    TextDelta("hi ", 0, LOGPROBS),
    TextDelta("thére 😀"),
    TextDelta("", annotations=[CITATION]),
    Finished("stop"),
    Counted(
        Usage(3, 4, output=3),
        b'{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10,"prompt_tokens_details":{"cached_tokens":4}}',
    ),
    Ended(),
]
PARALLEL = [
    b": OPENROUTER PROCESSING\r\n\r\n",
    delta(role="assistant", reasoning="h", reasoning_details=[{"type": "reasoning.text", "text": "h", "index": 0}]),
    delta(reasoning="m", reasoning_details=[{"type": "reasoning.text", "text": "m", "index": 0}]),
    delta(reasoning_details=[{"type": "reasoning.text", "signature": "sig", "index": 0}]),
    call(0, "f", "", id="a", type="function"),
    call(1, "g", "", id="b", type="function"),
    call(0, None, '{"x":'),
    call(1, None, "{}"),
    call(0, None, " 1}"),
    finish("tool_calls"),
    DONE,
]
SIGNATURE = '[{"type":"reasoning.text","text":"hm","index":0,"signature":"sig"}]'
PARALLEL_EVENTS = [
    START,
    ReasoningDelta("h"),
    ReasoningDelta("m"),
    ReasoningEnd(0, SIGNATURE, "openai-chat"),
    ToolStart(0, "a", "f"),
    ToolStart(1, "b", "g"),
    ToolDelta(0, '{"x":'),
    ToolDelta(1, "{}"),
    ToolDelta(0, " 1}"),
    Finished("tool_calls"),
    Ended(),
]


def test_a_stream_of_openai() -> None:
    assert parsed(*OPENAI) == OPENAI_EVENTS


def test_parallel_calls_after_a_signed_thought() -> None:
    assert parsed(*PARALLEL) == PARALLEL_EVENTS


@pytest.mark.parametrize(("chunks", "events"), [(OPENAI, OPENAI_EVENTS), (PARALLEL, PARALLEL_EVENTS)])
@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
def test_a_stream_may_be_cut_anywhere(chunks: list[bytes], events: list[Event], ends: bytes) -> None:
    data = b"".join(chunks).replace(b"\r\n", b"\n").replace(b"\n", ends)
    for cut in range(len(data) + 1):
        assert parsed(data[:cut], data[cut:]) == events
    assert parsed(*(data[place : place + 1] for place in range(len(data)))) == events


def test_a_chunk_over_several_lines_and_without_a_space() -> None:
    data = b'data:{"id":"c1","model":"m",\ndata:"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
    assert parsed(data) == [START, TextDelta("hi")]


@pytest.mark.parametrize(
    "chunk",
    [
        b"data: {\n\n",
        b"data: []\n\n",
        b"data: <html>\n\n",
        b'data: {"type":"message_start","message":{}}\n\n',
        b'data: {"type":"response.created","response":{}}\n\n',
        b'data: {"choices":{}}\n\n',
        b'data: {"choices":[1]}\n\n',
        b'data: {"choices":[{"index":0,"delta":"x"}]}\n\n',
        b'data: {"choices":[{"index":4000000000,"delta":{"content":"x"}}]}\n\n',
        delta(tool_calls=["x"]),
        call(0, None, "{}", id="a") + finish("tool_calls"),
        finish("error"),
    ],
)
def test_what_is_no_chunk_is_malformed(chunk: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        parsed(chunk)


@pytest.mark.parametrize("beside", [True, False])
def test_a_provider_that_could_not_end_its_answer_still_says_what_was_used(beside: bool) -> None:
    """With the last choice or in a chunk of its own; until then nothing that is said is lost."""
    usage = {"prompt_tokens": 2, "completion_tokens": 1}
    stream = TranslatedStream(chat.parse_stream(), chat.render_stream(Request(model="alias", messages=[]), ANSWERING), b"", 2)
    broken = {"index": 0, "delta": {"content": "hi"}, "finish_reason": "abort"}
    chunks = [event(broken, usage=usage)] if beside else [event(broken), delta(1, content="lo"), event(usage=usage)]
    with pytest.raises(MalformedStream, match="an answer that ended with 'abort'"):
        stream.feed(b"".join([*chunks, DONE]))
    assert (stream.usage, stream.raw_usage) == (Usage(2, output=1), b'{"prompt_tokens":2,"completion_tokens":1}')
    assert stream.written_text() == ("" if beside else "hilo")


def test_an_answer_that_was_not_ended_is_not_whole_without_its_usage() -> None:
    stream = TranslatedStream(chat.parse_stream(), chat.render_stream(Request(model="alias", messages=[]), ANSWERING), b"")
    stream.feed(delta(content="hi") + finish("error"))
    with pytest.raises(MalformedStream, match="an answer that ended with 'error'"):
        stream.finish()
    assert (stream.complete, stream.usage) == (False, None)


def test_chunks_without_content_mean_nothing() -> None:
    filters = event(prompt_filter_results=[])
    assert parsed(filters, *[delta()] * 1000, delta(content=None), delta(content="hi"), b"data:\n\n") == [START, TextDelta("hi")]


def test_usage_with_the_last_choice_and_without_choices_both_count() -> None:
    usage = {"prompt_tokens": 2, "completion_tokens": 1}
    both = parsed(event({"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}, usage=usage))
    assert both == [START, TextDelta("hi"), Finished("stop"), Counted(Usage(2, output=1), b'{"prompt_tokens":2,"completion_tokens":1}')]
    [_, counted] = parsed(b'data: {"usage":{"prompt_tokens":2,"completion_tokens":1}}\n\n')
    assert isinstance(counted, Counted)
    assert parsed(delta(), event(usage=None)) == [START]


def test_the_stop_sequence_that_ended_it() -> None:
    assert parsed(delta(content="hi"), finish(stop_reason="###"))[-1] == Finished("stop_sequence", 0, "###")
    assert parsed(finish(matched_stop=151645))[-1] == Finished("stop")


def test_a_turn_with_calls_ends_for_them() -> None:
    assert parsed(call(0, "f", "{}", id="a"), finish("stop"))[-1] == Finished("tool_calls")
    assert parsed(delta(refusal="no"), finish("stop"))[1:] == [RefusalDelta("no"), Finished("refusal")]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_in_every_spelling(name: str) -> None:
    assert parsed(delta(**{name: "hm"}), delta(content="hi"), finish()) == [
        START,
        ReasoningDelta("hm"),
        ReasoningEnd(0, None, "openai-chat"),
        TextDelta("hi"),
        Finished("stop"),
    ]


def test_the_same_thought_in_two_spellings_counts_once() -> None:
    chunk = delta(reasoning_content="hm", reasoning="other", reasoning_details=[{"type": "reasoning.text", "text": "hm"}])
    assert parsed(chunk)[1:] == [ReasoningDelta("hm")]


def test_a_ciphertext_that_comes_after_the_answer_is_kept() -> None:
    secret = {"type": "reasoning.encrypted", "data": "abc"}
    assert parsed(delta(content="hi"), delta(reasoning_details=[secret]), finish())[1:] == [
        TextDelta("hi"),
        ReasoningEnd(0, '[{"type":"reasoning.encrypted","data":"abc"}]', "openai-chat", redacted=True),
        Finished("stop"),
    ]


def test_details_that_say_nothing_are_no_thought() -> None:
    assert parsed(delta(reasoning_details=[{"type": "reasoning.text", "index": 0}]), delta(content="hi"))[1:] == [TextDelta("hi")]


def test_content_in_parts() -> None:
    thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]
    assert parsed(delta(content=thinking), delta(content="hi"))[1:3] == [ReasoningDelta("hm"), ReasoningEnd(0, None, "openai-chat")]


def test_calls_of_servers_that_do_not_count_them() -> None:
    without_index = parsed(call(None, "f", '{"a":', id="a"), call(None, None, "1}"), call(None, "g", "{}", id="b"))
    all_first = parsed(call(0, "f", '{"a":', id="a"), call(0, None, "1}"), call(0, "g", "{}", id="b"))
    for events in (without_index, all_first):
        assert response_of(events).choices[0].parts == [ToolCall("a", "f", '{"a":1}'), ToolCall("b", "g", "{}")]


def test_calls_of_servers_that_say_everything_again() -> None:
    events = parsed(call(0, "f", '{"a":', id="a"), call(0, "f", "1}", id="a"))
    assert response_of(events).choices[0].parts == [ToolCall("a", "f", '{"a":1}')]


def test_a_call_whose_name_comes_late() -> None:
    assert parsed(call(0, None, '{"a"', id="a"), call(0, "f", ":1}"))[1:] == [ToolStart(0, "a", "f"), ToolDelta(0, '{"a":1}')]


def test_calls_without_ids_and_the_old_function_call() -> None:
    old = parsed(delta(function_call={"name": "f", "arguments": "{"}), delta(function_call={"arguments": "}"}), finish("function_call"))
    [part] = response_of(old).choices[0].parts
    assert isinstance(part, ToolCall)
    assert (part.name, part.arguments) == ("f", "{}")
    assert part.id
    new = response_of(parsed(call(0, "f", "{}"), call(1, "f", "{}"))).choices[0].parts
    assert len({part.id for part in new if isinstance(part, ToolCall)}) == 2


def test_a_custom_tool() -> None:
    pieces = [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "patch", "input": "x"}}, {"index": 0, "custom": {"input": "y"}}]
    events = parsed(*(delta(tool_calls=[piece]) for piece in pieces))
    assert response_of(events).choices[0].parts == [ToolCall("a", "patch", "xy", custom=True)]


def test_several_choices() -> None:
    events = parsed(delta(1, content="b"), delta(0, content="a"), finish(index=1), finish("length", 0), DONE)
    assert [(choice.parts, choice.finish) for choice in response_of(events).choices] == [([Text("a")], "length"), ([Text("b")], "stop")]


@pytest.mark.parametrize(
    ("error", "status", "code", "told", "said"),
    [
        ({"message": "context too long", "code": 400}, 400, "400", "context too long", "400: context too long"),
        ({"message": "slow", "code": "rate_limit_exceeded"}, 429, "rate_limit_exceeded", "slow", "rate_limit_exceeded: slow"),
        ({"message": "no", "type": "theirs"}, 500, "upstream_error", "no", "theirs: no"),
        ("it broke", 500, "upstream_error", "it broke", "it broke"),
        ({"code": 503}, 503, "503", "The model's provider failed. Please try again.", "503"),
    ],
)
def test_an_error_in_the_stream(error: Any, status: int, code: str, told: str, said: str) -> None:
    """The client is told in the provider's words; what is recorded and measured is ours."""
    [failure] = parsed(b"data: " + json.dumps({"choices": [], "error": error}).encode() + b"\n\n")
    assert isinstance(failure, Failed)
    shown = failure.error.told
    assert shown is not None
    assert (shown.status, shown.code, shown.message, failure.said) == (status, code, told, said)
    assert (failure.error.status, failure.error.code) == (status, "rate_limit" if status == 429 else "upstream_error")
    assert "context" not in failure.error.message


def test_what_a_provider_thinks_of_our_account_is_not_told() -> None:
    [failure] = parsed(b'data: {"error":{"message":"key sk-123 has no credits","code":402}}\n\n')
    assert isinstance(failure, Failed)
    assert failure.error.status == 502
    assert "sk-123" not in failure.error.message


def test_an_error_that_is_none_is_ignored() -> None:
    assert parsed(event({"index": 0, "delta": {"content": "hi"}}, error=None), event(error={})) == [START, TextDelta("hi")]


# Written streams.


def rendered(events: list[Event], machine: Machine | None = None, *, wants_usage: bool = False, tools: list[Tool] | None = None) -> Machine:
    machine = machine or Machine(wants_usage=wants_usage)
    renderer = chat.render_stream(Request(model="alias", messages=[], stream=True, include_usage=wants_usage, tools=tools or []), ANSWERING)
    for event in events:
        machine.feed(renderer.render(event))
    machine.feed(renderer.end())
    machine.end()
    return machine


@pytest.mark.parametrize("arguments", [['{"y":', "1}"], ["null"], []])
def test_who_offers_old_functions_is_told_of_one_call_in_their_words(arguments: list[str]) -> None:
    begin: list[Event] = [Started(), ToolStart(0, "a", "f"), ToolStart(1, "b", "g"), ToolDelta(1, '{"x"')]
    events = [*begin, *(ToolDelta(0, piece) for piece in arguments), ToolDelta(1, ":1}"), Finished("tool_calls")]
    choices = [chunk["choices"][0] for chunk in lines(events, old_functions=True)]
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["function_call"]
    assert choices[0]["delta"] == {"role": "assistant", "content": None, "refusal": None}
    pieces = [choice["delta"]["function_call"] for choice in choices[1:-1]]
    assert pieces == [{"name": "f", "arguments": ""}, *({"arguments": piece} for piece in (arguments if len(arguments) > 1 else ["{}"]))]
    whole = chat.render_response(response_of(events), Request(model="alias", messages=[], old_functions=True), ANSWERING)["choices"][0]
    assert whole["finish_reason"] == "function_call"
    assert whole["message"]["function_call"] == {"name": "f", "arguments": "".join(piece["arguments"] for piece in pieces)}
    assert "tool_calls" not in whole["message"]


def lines(events: list[Event], *, wants_usage: bool = False, old_functions: bool = False) -> list[Any]:
    renderer = chat.render_stream(Request(model="alias", messages=[], include_usage=wants_usage, old_functions=old_functions), ANSWERING)
    data = b"".join(map(renderer.render, events)) + renderer.end()
    return [json.loads(line[6:]) for line in data.decode().split("\n\n")[:-2]]


def test_a_stream_to_a_client_word_for_word() -> None:
    events: list[Event] = [
        START,
        ReasoningDelta("hm"),
        ReasoningEnd(0, None, "ollama"),
        TextDelta("hi", logprobs=LOGPROBS),
        Counted(Usage(3, output=2), b"{}"),
        Finished("stop_sequence", 0, "###"),
    ]
    head = {"id": "chatcmpl-" + ANSWERING.id, "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "alias"}

    def chunk(delta: dict[str, Any], finish: str | None = None, logprobs: Any = None, **fields: Any) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish, **fields}]}

    chunks = [
        chunk({"role": "assistant", "content": "", "refusal": None}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "hi"}, logprobs=LOGPROBS),
        chunk({}, "stop", stop_reason="###"),
    ]
    assert lines(events) == chunks
    *others, usage = lines(events, wants_usage=True)
    assert others == [{**chunk, "usage": None} for chunk in chunks]
    assert (usage["choices"], usage["usage"]["prompt_tokens"], usage["usage"]["completion_tokens"]) == ([], 3, 2)


def test_usage_known_beforehand_is_told_where_no_other_is() -> None:
    machine = rendered([Started("c", "m", Usage(9)), TextDelta("hi")], wants_usage=True)
    assert machine.usage is not None
    assert machine.usage["prompt_tokens"] == 9


def test_an_empty_answer_is_a_stream_too() -> None:
    machine = rendered([])
    assert machine.choices[0].finish == "stop"


def test_a_call_without_arguments_has_empty_ones() -> None:
    for fragments in ([], [""], ["nu", "ll"], [" "]):
        events = [ToolStart(0, "a", "f"), *(ToolDelta(0, fragment) for fragment in fragments), Finished("tool_calls")]
        assert rendered(events).choices[0].calls[0].arguments == "{}"


def test_a_call_that_is_not_whole_ends_the_stream_with_an_error() -> None:
    renderer = chat.render_stream(Request(model="alias", messages=[]), ANSWERING)
    machine = Machine(wants_usage=True)
    for event in (TextDelta("hi"), ToolStart(0, "a", "f"), ToolDelta(0, '{"a'), Finished("tool_calls")):
        machine.feed(renderer.render(event))
    with pytest.raises(MalformedAnswer):
        renderer.end()
    machine.feed(renderer.fail(DOWN))
    machine.end()
    assert machine.error is not None


def test_a_call_that_the_limit_cut_is_told_as_far_as_it_came() -> None:
    machine = rendered([ToolStart(0, "a", "f"), ToolDelta(0, '{"a'), Finished("length")])
    assert (machine.choices[0].calls[0].arguments, machine.choices[0].finish) == ('{"a', "length")


def test_a_custom_tool_at_a_provider_that_knows_functions_only() -> None:
    events = [ToolStart(0, "a", "patch"), ToolDelta(0, '{"inp'), ToolDelta(0, 'ut": "x\\ny"}'), Finished("tool_calls")]
    [call] = rendered(events, tools=[Tool("tools[0]", "patch", custom=True)]).choices[0].calls
    assert (call.kind, call.arguments) == ("custom", "x\ny")
    bare = [ToolStart(0, "a", "patch"), ToolDelta(0, "x = 1")]
    assert rendered(bare, tools=[Tool("tools[0]", "patch", custom=True)]).choices[0].calls[0].arguments == "x = 1"


def test_a_refusal_is_told_as_one() -> None:
    machine = rendered([RefusalDelta("I can"), RefusalDelta("not"), Finished("refusal")])
    assert (machine.choices[0].refusal, machine.choices[0].content, machine.choices[0].finish) == ("I cannot", None, "stop")
    assert rendered([TextDelta("I"), Finished("refusal")]).choices[0].finish == "content_filter"


def test_what_a_provider_signed_comes_back_from_a_client_of_a_stream() -> None:
    thoughts = [
        Reasoning("one", signature="sig==", origin="anthropic"),
        Reasoning("", signature="cipher", origin="anthropic", redacted=True),
        Reasoning("short", summary=True, signature="enc", origin="openai-responses", id="rs_1"),
    ]
    events: list[Event] = []
    for thought in thoughts:
        events += [ReasoningDelta(letter, summary=thought.summary) for letter in thought.text]
        events.append(ReasoningEnd(0, thought.signature, thought.origin, thought.id, thought.redacted))
    choice = rendered([*events, TextDelta("hi"), Finished("stop")]).choices[0]
    turn = {"role": "assistant", "content": choice.content, "reasoning_content": choice.reasoning, "reasoning_details": choice.details}
    [message] = chat.parse_request({"model": "m", "messages": [turn]}).messages
    assert message.parts == [*thoughts, Text("hi")]


@given(event_streams(), st.booleans())
def test_any_stream_of_events_is_a_stream_of_the_protocol(events: list[Event], wants_usage: bool) -> None:
    machine = rendered(events, wants_usage=wants_usage)
    answer = response_of(events)
    for index, choice in machine.choices.items():
        parts = answer.choices[index].parts if index < len(answer.choices) else []
        assert (choice.content or "") == "".join(part.text for part in parts if isinstance(part, Text))
        assert (choice.refusal or "") == "".join(part.text for part in parts if isinstance(part, Refusal))
        assert choice.reasoning == "".join(part.text for part in parts if isinstance(part, Reasoning))
        calls = [part for part in parts if isinstance(part, ToolCall)]
        assert [(call.id, call.name) for call in choice.calls] == [(call.id, call.name) for call in calls]
        for told, meant in zip(choice.calls, calls, strict=True):
            if meant.custom:
                assert told.arguments == meant.arguments
            else:
                assert json.loads(told.arguments) == (json.loads(meant.arguments or "{}") or {})
    assert (machine.usage is not None) <= wants_usage


@given(event_streams(), st.data())
def test_a_stream_may_fail_at_any_moment(events: list[Event], data: st.DataObject) -> None:
    renderer = chat.render_stream(Request(model="alias", messages=[], include_usage=False), ANSWERING)
    machine = Machine()
    for event in events[: data.draw(st.integers(0, len(events)))]:
        machine.feed(renderer.render(event))
    machine.feed(renderer.fail(DOWN))
    machine.end()
    assert machine.error is not None


@given(responses())
def test_an_answer_is_the_same_whole_or_in_pieces(answer: Any) -> None:
    whole = chat.render_response(answer, Request(model="alias", messages=[]), ANSWERING)
    machine = rendered(list(events_of(answer))[:-1])
    for said in whole["choices"][: len(answer.choices)]:
        message, choice = said["message"], machine.choices[said["index"]]
        assert (message["content"] or "", message["refusal"]) == (choice.content or "", choice.refusal)
        assert message.get("reasoning_content", "") == choice.reasoning
        assert message.get("reasoning_details", []) == choice.details
        assert message.get("annotations", []) == choice.annotations
        assert said["finish_reason"] == choice.finish
        assert said.get("stop_reason") == choice.stop_reason
        assert ((said["logprobs"] or {}).get("content") or []) == choice.logprobs
        arguments = [call[call["type"]]["input" if call["type"] == "custom" else "arguments"] for call in message.get("tool_calls", [])]
        assert arguments == [call.arguments for call in choice.calls]


@given(responses())
def test_what_is_written_reads_as_it_was(answer: Any) -> None:
    request = Request(model="alias", messages=[], include_usage=True)
    renderer = chat.render_stream(request, ANSWERING)
    data = b"".join(renderer.render(event) for event in list(events_of(answer))[:-1]) + renderer.end()
    read = response_of(parsed(data))
    assert read.usage == answer.usage
    for choice, meant in zip(read.choices, answer.choices, strict=False):
        for kind in (Text, Refusal, ToolCall):
            assert _said(choice.parts, kind) == _said(meant.parts, kind)


def _said(parts: list[Any], kind: type) -> list[str]:
    said = [part.arguments if kind is ToolCall else part.text for part in parts if isinstance(part, kind)]
    return said if kind is ToolCall else ["".join(said)]
