"""Custom tools behind functions: the text that went in comes out."""

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from dwctl.dialects.answers import Choice, Event, Finished, Response, TextDelta, ToolDelta, ToolStart
from dwctl.dialects.canonical import Request, Tool, ToolCall
from dwctl.dialects.custom_tools import Unwrapper, unwrapped

REQUEST = Request(model="m", messages=[], tools=[Tool("t", "patch", custom=True), Tool("t", "f")])


def turned(arguments: list[str], name: str = "patch") -> list[Event]:
    unwrapper = Unwrapper(REQUEST)
    events: list[Event] = [ToolStart(0, "a", name), *(ToolDelta(0, fragment) for fragment in arguments), Finished("tool_calls")]
    return [event for before in events for event in unwrapper.turn(before)]


def text(events: list[Event]) -> str:
    return "".join(event.fragment for event in events if isinstance(event, ToolDelta))


@given(st.text(st.characters(codec="utf-8")), st.booleans(), st.booleans(), st.sets(st.integers(0, 60)))
def test_a_text_cut_anywhere_in_any_spelling(said: str, ascii: bool, last: bool, cuts: set[int]) -> None:
    fields = {"other": 1, "input": said} if last else {"input": said, "other": 1}
    arguments = json.dumps(fields, ensure_ascii=ascii)
    places = [0, *sorted(cut for cut in cuts if 0 < cut < len(arguments)), len(arguments)]
    fragments = [arguments[start:end] for start, end in itertools.pairwise(places)]
    events = turned(fragments)
    assert text(events) == said
    assert events[0] == ToolStart(0, "a", "patch", custom=True)
    whole = Response(None, None, [Choice([ToolCall("a", "patch", arguments)])])
    assert unwrapped(whole, REQUEST).choices[0].parts == [ToolCall("a", "patch", said, custom=True)]


def test_the_text_is_not_held_back() -> None:
    unwrapper = Unwrapper(REQUEST)
    unwrapper.turn(ToolStart(0, "a", "patch"))
    assert unwrapper.turn(ToolDelta(0, '{"input": "one\\')) == [ToolDelta(0, "one")]
    assert unwrapper.turn(ToolDelta(0, 'ntwo"}')) == [ToolDelta(0, "\ntwo")]
    assert unwrapper.turn(TextDelta("x")) == [TextDelta("x")]


def test_what_models_write_that_is_not_quite_json() -> None:
    assert text(turned([r'{"input": "\d+\ud83dx"}'])) == "\\d+\ufffdx"
    assert text(turned(["plain ", "text"])) == "plain text"
    assert text(turned(['{"input": "cut\\u00'])) == "cut"


def test_functions_are_left_alone() -> None:
    assert text(turned(['{"input": "x"}'], name="f")) == '{"input": "x"}'
