"""Answers and streams of providers that speak as Ollama does, and those that its clients get."""

import itertools
import json
from collections.abc import Iterable
from typing import Any

import ollama as sdk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.dialects import ollama
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
    events_of,
    response_of,
)
from dwctl.dialects.canonical import Reasoning, Refusal, Request, Text, ToolCall
from dwctl.dialects.codec import Codec
from dwctl.dialects.ollama import generate
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError, unavailable
from tests.dialects.ollama.machine import Machine

ANSWERING = Answering("0123456789abcdef0123456789abcdef", "alias", 1_790_000_000)
REQUEST = Request(model="alias", messages=[], stream=True)
HEAD = '"model":"llama3.2","created_at":"2026-09-17T15:42:59.5670387Z"'
LAST = (
    f'{{{HEAD},"message":{{"role":"assistant","content":""}},"done":true,"done_reason":"stop","total_duration":30258609300,'
    '"load_duration":19906358300,"prompt_eval_count":29,"prompt_eval_cached_count":20,"prompt_eval_duration":10175903000,'
    '"eval_count":5,"eval_duration":173639000}\n'
)


def line(message: str, rest: str = '"done":false') -> str:
    return f'{{{HEAD},"message":{{"role":"assistant",{message}}},{rest}}}\n'


CAPTURED = (
    line('"content":"","thinking":"Two "')
    + line('"content":"","thinking":"cities."')
    + line('"content":"Ich prüfe "')
    + line('"content":"das 🙂."')
    + line('"content":"","tool_calls":[{"function":{"index":0,"name":"weather","arguments":{"city":"Rom","deep":{"a":[1,2.5,null]}}}}]')
    + line(
        '"content":"","tool_calls":[{"function":{"name":"weather","arguments":{"city":"Oslo"}}},{"id":"call_x","function":{"name":"now"}}]'
    )
    + LAST
).encode()


def read(data: bytes, codec: Codec = ollama) -> list[Event]:
    parser = codec.parse_stream()
    events = [event for unit in parser.split(data) for event in parser.take(unit)]
    return events + (parser.take(parser.rest()) if parser.rest() else [])


def write(events: Iterable[Event], codec: Codec = ollama) -> bytes:
    renderer = codec.render_stream(REQUEST, ANSWERING)
    return b"".join(renderer.render(event) for event in events if not isinstance(event, Ended)) + renderer.end()


def test_a_stream_is_read() -> None:
    events = read(CAPTURED)
    assert events[:6] == [
        Started(model="llama3.2"),
        ReasoningDelta("Two "),
        ReasoningDelta("cities."),
        ReasoningEnd(origin="ollama"),
        TextDelta("Ich prüfe "),
        TextDelta("das 🙂."),
    ]
    starts = [event for event in events if isinstance(event, ToolStart)]
    assert [(start.index, start.name) for start in starts] == [(0, "weather"), (1, "weather"), (2, "now")]
    assert starts[2].id == "call_x"
    assert len({start.id for start in starts}) == 3
    arguments = [json.loads(event.fragment) for event in events if isinstance(event, ToolDelta)]
    assert arguments == [{"city": "Rom", "deep": {"a": [1, 2.5, None]}}, {"city": "Oslo"}, {}]
    raw = b'{"prompt_eval_count":29,"prompt_eval_cached_count":20,"eval_count":5}'
    assert events[-3:] == [Finished("tool_calls"), Counted(Usage(9, 20, 0, 0, 5), raw), Ended()]


def test_a_stream_is_read_the_same_wherever_it_is_cut() -> None:
    expected = read(CAPTURED)
    for place in range(len(CAPTURED) + 1):
        parser = ollama.parse_stream()
        units = [*parser.split(CAPTURED[:place]), *parser.split(CAPTURED[place:])]
        assert b"".join(units) == CAPTURED
        assert [event for unit in units for event in parser.take(unit)] == expected
    parser = ollama.parse_stream()
    units = [unit for byte in CAPTURED for unit in parser.split(bytes([byte]))]
    assert [event for unit in units for event in parser.take(unit)] == expected


def test_the_last_line_may_have_no_end_and_lines_may_end_as_on_windows() -> None:
    assert read(CAPTURED.rstrip()) == read(CAPTURED)
    assert [type(event) for event in read(CAPTURED.replace(b"\n", b"\r\n\r\n"))] == [type(event) for event in read(CAPTURED)]


def test_calls_of_two_turns_have_different_ids() -> None:
    """Though the model calls the same tool with the same arguments."""
    turn = CAPTURED.replace(b"15:42:59.5670387Z", b"15:43:07.1670387Z")
    first, second = ({event.id for event in read(data) if isinstance(event, ToolStart)} for data in (CAPTURED, turn))
    assert first & second == {"call_x"}
    assert len(first | second) == 5


def test_an_id_that_comes_again_in_an_answer_is_replaced() -> None:
    call = '{"id":"call_0","function":{"name":"f","arguments":{}}}'
    events = read(line(f'"content":"","tool_calls":[{call},{call}]', '"done":true').encode())
    ids = [event.id for event in events if isinstance(event, ToolStart)]
    assert ids[0] == "call_0"
    assert len(set(ids)) == 2


@pytest.mark.parametrize(
    ("reason", "finish"),
    [('"stop"', "stop"), ('"length"', "length"), ('"load"', "load"), ('"unload"', "unload"), ('""', "stop"), ("null", "stop")],
)
def test_why_an_answer_ended(reason: str, finish: str) -> None:
    events = read(line('"content":""', f'"done":true,"done_reason":{reason}').encode())
    assert events == [Started(model="llama3.2"), Finished(finish), Ended()]  # type: ignore[arg-type]
    assert ollama.parse_response({"message": {"content": ""}, "done_reason": json.loads(reason)}).choices[0].finish == finish


def test_an_old_server_s_last_line_has_no_message() -> None:
    assert read(f'{{{HEAD},"done":true,"eval_count":3}}'.encode())[-2:] == [Counted(Usage(output=3), b'{"eval_count":3}'), Ended()]


@pytest.mark.parametrize(
    "counts",
    ['"prompt_eval_count":"30","eval_count":null', '"prompt_eval_count":30,"eval_count":null', '"prompt_eval_count":-3,"eval_count":3'],
)
def test_counts_that_are_none_are_no_usage(counts: str) -> None:
    assert read(line('"content":"Hi"', f'"done":true,{counts}').encode())[-2:] == [Finished("stop"), Ended()]


def test_logprobs_go_with_the_text_that_they_are_of() -> None:
    events = read(
        (
            line('"content":"","thinking":"Hm"', '"done":false,"logprobs":[{"token":"Hm","logprob":-1}]')
            + line('"content":""', '"done":false,"logprobs":[{"token":"O","logprob":-2,"bytes":[79]}]')
            + line(
                '"content":"OK"',
                '"done":false,"logprobs":[{"token":"K","logprob":-3,"top_logprobs":[{"token":"k","logprob":-4}]}]',
            )
            + LAST
        ).encode()
    )
    (text,) = (event for event in events if isinstance(event, TextDelta))
    assert text.logprobs == {
        "content": [
            {"token": "O", "logprob": -2, "bytes": [79], "top_logprobs": []},
            {"token": "K", "logprob": -3, "bytes": None, "top_logprobs": [{"token": "k", "logprob": -4, "bytes": None}]},
        ]
    }
    machine = Machine()
    machine.feed(write(events))
    assert machine.logprobs == text.logprobs["content"]


@pytest.mark.parametrize("error", ['"out of memory"', '{"message":"out of memory","code":500}'])
def test_a_line_that_is_an_error(error: str) -> None:
    *_, failed = read((line('"content":"I"') + f'{{"error":{error}}}').encode())
    assert isinstance(failed, Failed)
    assert (failed.said, failed.error.status) == ("out of memory", 500)
    assert "memory" not in failed.error.message


@pytest.mark.parametrize("nothing", ['""', "null", "{}"])
def test_an_error_that_is_none(nothing: str) -> None:
    assert TextDelta("I") in read(line('"content":"I"', f'"done":false,"error":{nothing}').encode())
    assert ollama.read_error({"error": json.loads(nothing)}) is None


def test_errors_are_read_and_written() -> None:
    assert ollama.read_error({"error": "model 'x' not found"}) == ("model 'x' not found", None, None, None, None)
    told = ollama.read_error({"StatusCode": 404, "Status": "404 Not Found", "error": "no such model"})
    assert told is not None
    assert told.status == 404
    assert ollama.read_error({"message": {"content": "error"}}) is None
    assert json.loads(ollama.render_error(unavailable("busy", "Come back."), "id")) == {"error": "Come back."}
    assert ollama.stream_error(unavailable("busy", "Come back."), "id") == b'{"error":"Come back."}\n'


@pytest.mark.parametrize(
    "data",
    [
        b"<html>\n",
        b'data: {"choices":[]}\n',
        b'{"id":"c","choices":[{"delta":{"content":"hi"}}]}\n',
        b'["hi"]\n',
        b'{"message":"hi"}\n',
        b'{"response":"hi"}\n',
        b'{"message":{"content":5}}\n',
        b'{"message":{"content":"","thinking":[]}}\n',
        b'{"message":{"content":"","tool_calls":{"f":1}}}\n',
        b'{"message":{"content":"","tool_calls":[{"name":"f"}]}}\n',
        b'{"message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}\n',
    ],
)
def test_what_is_not_of_the_dialect(data: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        read(data)
    if data.startswith(b"{"):
        with pytest.raises(MalformedAnswer):
            ollama.parse_response(json.loads(data))


def test_an_answer_that_is_not_done() -> None:
    with pytest.raises(MalformedAnswer):
        ollama.parse_response({"message": {"content": "I"}, "done": False})


GOLDEN = Response(
    "id",
    "llama",
    [
        Choice(
            [
                Reasoning("Two cities.", origin="anthropic", signature="s"),
                Text("I look."),
                Refusal(" But."),
                ToolCall("c1", "weather", '{"city": "Rom"}'),
                ToolCall("c2", "write", "any text", custom=True),
            ],
            "tool_calls",
            logprobs={"content": [{"token": "I", "logprob": -0.5, "bytes": None, "top_logprobs": []}], "refusal": None},
        ),
        Choice([Text("another")], "stop"),
    ],
    Usage(9, 20, 3, 4, 5, 2),
    b"{}",
)
CALLS = [
    {"id": "c1", "function": {"index": 0, "name": "weather", "arguments": {"city": "Rom"}}},
    {"id": "c2", "function": {"index": 1, "name": "write", "arguments": {"input": "any text"}}},
]
COUNTS = {"prompt_eval_count": 36, "prompt_eval_cached_count": 20, "eval_count": 5}


def test_a_whole_answer_is_written() -> None:
    body = ollama.render_response(GOLDEN, REQUEST, ANSWERING)
    assert body == {
        "model": "alias",
        "created_at": "2026-09-21T14:13:20Z",
        "message": {"role": "assistant", "content": "I look. But.", "thinking": "Two cities.", "tool_calls": CALLS},
        "done": True,
        "done_reason": "stop",
        "logprobs": [{"token": "I", "logprob": -0.5, "bytes": None, "top_logprobs": []}],
        **COUNTS,
    }
    answer = sdk.ChatResponse.model_validate(body, strict=True)
    assert answer.message.tool_calls is not None
    assert [call.function.arguments for call in answer.message.tool_calls] == [{"city": "Rom"}, {"input": "any text"}]


def test_generate_s_answer_is_flat() -> None:
    body = generate.render_response(GOLDEN, REQUEST, ANSWERING)
    assert (body["response"], body["thinking"], body["tool_calls"], body["eval_count"]) == ("I look. But.", "Two cities.", CALLS, 5)
    assert "message" not in body
    assert sdk.GenerateResponse.model_validate(body, strict=True).done
    assert generate.parse_response(body).choices[0].parts[:2] == [Reasoning("Two cities.", origin="ollama"), Text("I look. But.")]
    with pytest.raises(MalformedAnswer):
        generate.parse_response({"message": {"content": "hi"}, "done": True})


def test_a_whole_answer_is_read_as_it_was_written() -> None:
    response = ollama.parse_response(ollama.render_response(GOLDEN, REQUEST, ANSWERING))
    (choice,) = response.choices
    assert choice.parts == [
        Reasoning("Two cities.", origin="ollama"),
        Text("I look. But."),
        ToolCall("c1", "weather", '{"city":"Rom"}'),
        ToolCall("c2", "write", '{"input":"any text"}'),
    ]
    assert (choice.finish, response.model, response.usage) == ("tool_calls", "alias", Usage(16, 20, 0, 0, 5))


@pytest.mark.parametrize(("codec", "endpoint"), [(ollama, "chat"), (generate, "generate")])
def test_a_stream_says_what_the_whole_answer_says(codec: Codec, endpoint: Any) -> None:
    machine = Machine(endpoint)
    machine.feed(write(events_of(GOLDEN), codec))
    machine.end()
    assert (machine.content, machine.thinking, machine.calls) == ("I look. But.", "Two cities.", CALLS)
    assert machine.last is not None
    assert {name: machine.last[name] for name in COUNTS} == COUNTS
    again = response_of(read(write(events_of(GOLDEN), codec), codec))
    assert again.choices[0].parts == codec.parse_response(codec.render_response(GOLDEN, REQUEST, ANSWERING)).choices[0].parts


def test_an_answer_without_anything() -> None:
    body = ollama.render_response(Response(None, None, []), REQUEST, ANSWERING)
    assert (body["message"], body["done_reason"]) == ({"role": "assistant", "content": ""}, "stop")
    assert not body.keys() & COUNTS.keys()
    assert write([]) == json.dumps(body, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize(
    ("finish", "said"), [("length", "length"), ("context_overflow", "length"), ("refusal", "stop"), ("stop_sequence", "stop")]
)
def test_why_an_answer_ended_is_said(finish: Any, said: str) -> None:
    assert ollama.render_response(Response(None, None, [Choice([], finish)]), REQUEST, ANSWERING)["done_reason"] == said
    assert json.loads(write([Finished(finish)]))["done_reason"] == said


@pytest.mark.parametrize("arguments", ["[1]", '{"city": "R', "Rom"])
def test_a_call_that_is_not_whole(arguments: str) -> None:
    events: list[Event] = [ToolStart(0, "c", "f"), ToolDelta(0, arguments)]
    whole = Response(None, None, [Choice([ToolCall("c", "f", arguments)], "tool_calls")])
    with pytest.raises(MalformedAnswer):
        write([*events, Finished("tool_calls")])
    with pytest.raises(MalformedAnswer):
        write(events)
    with pytest.raises(MalformedAnswer):
        ollama.render_response(whole, REQUEST, ANSWERING)
    machine = Machine()
    machine.feed(write([*events, Finished("length")]))
    machine.end()
    assert machine.calls[0]["function"]["arguments"] == {}


def test_half_of_a_surrogate_pair_is_passed_on() -> None:
    events = read((line('"content":"\\ud83d"') + line('"content":"\\ude42"') + LAST).encode())
    machine = Machine()
    machine.feed(write(events).replace(b"\\ud83d", b"half ").replace(b"\\ude42", b"and half"))
    assert machine.content == "half and half"


texts = st.text(max_size=5)
choices = st.sampled_from([0, 0, 0, 1])
indexes = st.integers(0, 2)
fragments = st.sampled_from(["", "{", "}", '{"a":', "1", "{}", '"b"'])
counts = st.builds(Usage, *[st.integers(0, 9)] * 6)
finishes: Any = st.sampled_from(["stop", "length", "tool_calls", "refusal", "stop_sequence", "pause", "context_overflow"])
events_: Any = st.lists(
    st.one_of(
        st.builds(Started, st.none() | texts, st.none() | texts, st.none() | counts),
        st.builds(TextDelta, texts, choices, st.none() | st.just({"content": [{"token": "a", "logprob": -1.0}]})),
        st.builds(ReasoningDelta, texts, choices, st.booleans()),
        st.builds(ReasoningEnd, choices, st.none() | texts),
        st.builds(RefusalDelta, texts, choices),
        st.builds(ToolStart, indexes, st.uuids().map(str), texts, choices, st.booleans()),
        st.builds(ToolDelta, indexes, fragments, choices),
        st.builds(Finished, finishes, choices),
        st.builds(Counted, counts, st.just(b"{}")),
    ),
    max_size=12,
)


@given(events_, st.none() | st.integers(0, 12), st.sampled_from(["chat", "generate"]))
def test_whatever_comes_a_stream_is_valid(events: list[Event], failure: int | None, endpoint: Any) -> None:
    codec: Codec = ollama if endpoint == "chat" else generate
    renderer = codec.render_stream(REQUEST, ANSWERING)
    machine = Machine(endpoint)
    for place, event in enumerate(events):
        if place == failure:
            break
        machine.feed(renderer.render(event))
    try:
        if failure is None:
            machine.feed(renderer.end())
        else:
            machine.feed(renderer.fail(unavailable("gone", "Gone.")))
    except MalformedAnswer:
        machine.feed(renderer.fail(unavailable("gone", "Gone.")))
    machine.feed(renderer.end() + renderer.fail(unavailable("gone", "Gone.")) + renderer.render(TextDelta("late")))
    machine.end()
    if failure is not None:
        assert machine.error == "Gone."
    else:
        said = [event.text for event in events if isinstance(event, TextDelta | RefusalDelta) and event.choice == 0]
        assert machine.content == "".join(said)


@given(st.lists(st.tuples(indexes, st.text(max_size=3)), max_size=30))
def test_parallel_calls_may_grow_in_any_order(pieces: list[tuple[int, str]]) -> None:
    values = ["".join(text for place, text in pieces if place == index) for index in range(3)]
    texts_ = [json.dumps({"text": value}) for value in values]
    cut = [[text[place : place + 3] for place in range(0, len(text), 3)] for text in texts_]
    growing = [ToolDelta(index, part) for parts in itertools.zip_longest(*cut) for index, part in enumerate(parts) if part]
    machine = Machine()
    machine.feed(write([*(ToolStart(index, f"c{index}", "f") for index in range(3)), *growing, Finished("tool_calls")]))
    assert [call["function"]["arguments"]["text"] for call in machine.calls] == values


def test_a_failed_stream_ends_with_a_line_of_its_own() -> None:
    """Though the provider's last line had no end."""
    whole = CAPTURED.splitlines(keepends=True)[:2]
    parser = ollama.parse_stream()
    passed = parser.split(b"".join(whole).rstrip())
    passed.append(parser.rest())
    *lines, last = (b"".join(passed) + ollama.stream_error(unavailable("gone", "Gone."), "id")).splitlines(keepends=True)
    assert lines == whole
    assert last == b'{"error":"Gone."}\n'


def test_a_line_that_has_begun_and_is_not_whole() -> None:
    parser = ollama.parse_stream()
    assert parser.split(CAPTURED[:20]) == []
    with pytest.raises(MalformedAnswer):
        parser.take(parser.rest())


def test_an_idle_stream_is_not_kept_open_by_lines() -> None:
    """The SDK takes an empty line for JSON."""
    assert (ollama.PING, generate.PING) == (b"", b"")


def test_gateway_errors_of_any_kind_are_lines() -> None:
    machine = Machine()
    machine.feed(ollama.render_stream(REQUEST, ANSWERING).fail(GatewayError(400, "t", "c", 'Bad "thing".\n', param="x")))
    machine.end()
    assert machine.error == 'Bad "thing".\n'
