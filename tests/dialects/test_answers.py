"""The model of answers: whole and in pieces are the same answer."""

import pytest
from hypothesis import given

from dwctl.dialects.answers import (
    Choice,
    Counted,
    Ended,
    Failed,
    Finished,
    MalformedAnswer,
    ReasoningDelta,
    ReasoningEnd,
    Response,
    Started,
    TextDelta,
    ToolDelta,
    ToolStart,
    arguments_object,
    events_of,
    response_of,
)
from dwctl.dialects.canonical import Reasoning, Text, ToolCall
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError
from tests.dialects.strategies import responses


@given(responses())
def test_an_answer_in_pieces_is_put_together_again(answer: Response) -> None:
    events = list(events_of(answer))
    assert response_of(events) == answer
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Ended)


def test_calls_that_interleave_are_put_together() -> None:
    events = [ToolStart(0, "a", "f"), ToolStart(1, "b", "g"), ToolDelta(0, '{"x"'), ToolDelta(1, "{}"), ToolDelta(0, ":1}")]
    assert response_of(events).choices == [Choice([ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", "{}")])]


def test_a_thought_goes_on_until_it_ends() -> None:
    events = [
        ReasoningDelta("o"),
        ReasoningDelta("ne"),
        ReasoningEnd(0, "sig", "anthropic"),
        ReasoningDelta("two", summary=True),
        ReasoningEnd(0, None, "ollama"),
        ReasoningEnd(0, "cipher", "anthropic", redacted=True),
        TextDelta("hi"),
    ]
    assert response_of(events).choices[0].parts == [
        Reasoning("one", signature="sig", origin="anthropic"),
        Reasoning("two", summary=True, origin="ollama"),
        Reasoning(signature="cipher", origin="anthropic", redacted=True),
        Text("hi"),
    ]


def test_the_last_usage_counts_and_nothing_after_the_end() -> None:
    events = [Counted(Usage(1), b"1"), TextDelta("hi"), Counted(Usage(2), b"2"), Finished("length"), Ended(), TextDelta("more")]
    answer = response_of(events)
    assert (answer.usage, answer.raw_usage) == (Usage(2), b"2")
    assert answer.choices == [Choice([Text("hi")], "length")]


def test_log_probabilities_are_put_one_after_the_other() -> None:
    events = [TextDelta("a", logprobs={"content": [1], "refusal": None}), TextDelta("b"), TextDelta("c", logprobs={"content": [2]})]
    assert response_of(events).choices[0].logprobs == {"content": [1, 2]}


def test_a_failure_is_raised() -> None:
    error = GatewayError(502, "t", "c", "m")
    with pytest.raises(GatewayError) as raised:
        response_of([TextDelta("hi"), Failed(error, "theirs")])
    assert raised.value is error


@pytest.mark.parametrize("arguments", ["", " ", "null", "{}"])
def test_no_arguments_are_an_empty_object(arguments: str) -> None:
    assert arguments_object(arguments, "tool_calls") == {}


@pytest.mark.parametrize("arguments", ["[]", '"x"', "1", '{"a', "[" * 100_000])
def test_arguments_are_an_object_unless_the_answer_was_cut(arguments: str) -> None:
    with pytest.raises(MalformedAnswer):
        arguments_object(arguments, "tool_calls")
    assert arguments_object(arguments, "length") == {}
    assert arguments_object('{"a": [1]}', None) == {"a": [1]}
