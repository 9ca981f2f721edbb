"""Streams on their way to a client: cut into units wherever the reads end, watched, and translated."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.dialects import responses, sse
from dwctl.dialects.answers import (
    Counted,
    Ended,
    Event,
    Failed,
    Finished,
    MalformedAnswer,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolDelta,
    ToolStart,
)
from dwctl.dialects.openai_stream import KEPT_BYTES, CompletionStream, MalformedStream
from dwctl.dialects.streams import LineParser, SseParser, TranslatedStream, WatchedStream, decode_object
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError

DOWN = GatewayError(502, "internal_error", "upstream_error", "It failed.")
EVENTS: dict[str, Event] = {
    "start": Started("id", "theirs", Usage(4), raw_usage=b'{"n":1}'),
    "call": ToolStart(0, "c", "f"),
    "arguments": ToolDelta(0, "{}"),
    "thought": ReasoningDelta("hm"),
    "refusal": RefusalDelta("no"),
    "stop": Finished("stop"),
    "second": Finished("length", 1),
    "usage": Counted(Usage(4, output=2), b'{"n":2}'),
    "fail": Failed(DOWN, "their words"),
    "end": Ended(),
}


def meant(data: dict[str, Any]) -> list[Event]:
    """A dialect for these tests: ``{"say": [...]}``, a name of `EVENTS` or a text each."""
    if "say" not in data:
        raise MalformedAnswer("nothing said")
    return [EVENTS.get(word, TextDelta(word)) for word in data["say"]]


def used(data: dict[str, Any]) -> Counted | None:
    return Counted(Usage(data["used"]), b"{}") if "used" in data else None


class Sse(SseParser):
    def on(self, data: dict[str, Any]) -> list[Event]:
        return meant(data)

    def usage_of(self, data: dict[str, Any]) -> Counted | None:
        return used(data)


class Lines(LineParser):
    def on(self, data: dict[str, Any]) -> list[Event]:
        return meant(data)

    def usage_of(self, data: dict[str, Any]) -> Counted | None:
        return used(data)


class Bracketed:
    """A renderer for these tests, which shows what it is told, and refuses ``unwritable`` and to end an answer that says ``broken``."""

    def __init__(self) -> None:
        self._broken = False

    def render(self, event: Event) -> bytes:
        assert not isinstance(event, Failed | Ended)
        text = event.text if isinstance(event, TextDelta) else type(event).__name__
        if text == "unwritable":
            raise MalformedAnswer("a call without a beginning")
        self._broken = self._broken or text == "broken"
        return f"<{text}>".encode()

    def end(self) -> bytes:
        if self._broken:
            raise MalformedAnswer("a broken call")
        return b"<end>"

    def fail(self, error: GatewayError) -> bytes:
        return f"<failed {error.code}>".encode()


def said(*words: str) -> bytes:
    return b"data: " + json.dumps({"say": words}).encode() + b"\n\n"


def watched() -> WatchedStream:
    return WatchedStream(Sse(), b"", lambda error: f"<failed {error.code}>".encode())


def translated(choices: int = 1) -> TranslatedStream:
    return TranslatedStream(Sse(), Bracketed(), b"", choices)


line_ends = st.sampled_from([b"\n", b"\r\n"])
words = st.text("aé😀 \u2028\u0085", max_size=5)


@given(st.lists(st.tuples(words, line_ends, st.booleans()), max_size=6), st.lists(st.integers(0, 500), max_size=6))
def test_lines_are_the_same_wherever_they_are_cut(lines: list[tuple[str, bytes, bool]], places: list[int]) -> None:
    data = b"".join(json.dumps({"say": [word]}, ensure_ascii=ascii).encode() + end for word, end, ascii in lines) + b'{"say": []}'
    parser = Lines()
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    units = [unit for start, end in itertools.pairwise(edges) for unit in parser.split(data[start:end])]
    assert b"".join(units) + parser.rest() == data + b"\n"
    assert [event for unit in units for event in parser.take(unit)] == [TextDelta(word) for word, _, _ in lines]
    assert parser.take(parser.rest()) == []


def test_empty_lines_mean_nothing() -> None:
    parser = Lines()
    assert [parser.take(unit) for unit in parser.split(b"\n  \r\n\n")] == [[], [], []]


def test_a_line_that_grows_too_large_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT", 100)
    parser = Lines()
    assert parser.split(b"x" * 100) == []
    with pytest.raises(MalformedAnswer):
        parser.split(b"x")


def test_an_event_that_grows_too_large_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT", 100)
    with pytest.raises(MalformedAnswer):
        Sse().split(b"x" * 101)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_events_are_the_same_wherever_they_are_cut(ends: str) -> None:
    text = ': hello\n\nevent: x\ndata: {"say":["é😀"]}\n\ndata:{"say":\ndata:["b"]}\n\ndata\n\ndata: [DONE]\n\n'
    data = text.replace("\n", ends).encode()
    for cut in range(len(data) + 1):
        parser = Sse()
        units = [*parser.split(data[:cut]), *parser.split(data[cut:])]
        if parser.rest():
            units.append(parser.rest())
        assert b"".join(units) == data
        assert [event for unit in units for event in parser.take(unit)] == [TextDelta("é😀"), TextDelta("b"), Ended()]


@pytest.mark.parametrize("data", [b"", b"[]", b'"x"', b"1", b"null", b"<html>", b'{"a":', b"\xff", b"[" * 100_000, b'{"a":' * 100_000])
def test_what_is_no_object_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        decode_object(data)


def test_an_object_with_bad_text_is_read() -> None:
    assert decode_object(b'{"a":"\xff"}') == {"a": "\ufffd"}
    assert decode_object(b'{"a":"\\ud83d"}') == {"a": "\ud83d"}


def test_a_watched_stream_passes_byte_for_byte_and_is_learned_from() -> None:
    stream = watched()
    data = b": hi\r\n\r\n" + said("start", "he", "thought") + said("call", "arguments", "refusal") + said("stop", "usage") + said("end")
    released = b"".join(stream.feed(data[place : place + 7]) for place in range(0, len(data), 7))
    assert released == data == stream.kept()
    assert (stream.done, stream.complete, stream.output_seen, stream.error) == (True, True, True, None)
    assert (stream.model, stream.finish_reason) == ("theirs", "stop")
    assert (stream.usage, stream.raw_usage) == (Usage(4, output=2), b'{"n":2}')
    assert stream.written_text() == "hehmf{}no"


def test_nothing_passes_after_the_end() -> None:
    stream = watched()
    assert stream.feed(said("end") + said("more")) == said("end")
    assert stream.finish() == b""


def test_what_is_known_beforehand_is_not_the_usage() -> None:
    stream = watched()
    stream.feed(said("start"))
    assert (stream.beforehand, stream.usage, stream.raw_usage, stream.output_seen) == (Usage(4), None, b'{"n":1}', False)


@pytest.mark.parametrize("make", [watched, translated])
def test_an_error_of_the_provider_is_learned(make: Any) -> None:
    stream = make()
    stream.feed(said("he", "fail"))
    assert (stream.error, stream.said, stream.error_status) == (DOWN, "their words", 502)


@pytest.mark.parametrize("make", [watched, translated])
def test_what_came_before_a_fault_is_released(make: Any) -> None:
    stream, same = make(), make()
    with pytest.raises(MalformedStream) as raised:
        stream.feed(said("he") + b"data: {}\n\n" + said("more"))
    assert raised.value.args == (same.feed(said("he")), "nothing said")
    assert stream.fail(DOWN) == b"<failed upstream_error>"


@pytest.mark.parametrize("blank", [True, False])
@pytest.mark.parametrize("make", [watched, translated])
def test_usage_beside_a_fault_is_learned(make: Any, blank: bool) -> None:
    stream = make()
    stream.feed(said("he"))
    with pytest.raises(MalformedStream):
        stream.feed(b'data: {"used": 7}\n\n') if blank else stream.feed(b'data: {"used": 7}\n') or stream.finish()
    assert (stream.usage, stream.raw_usage, stream.went_on) == (Usage(7), b"{}", False)


def test_usage_behind_what_cannot_be_written_is_learned() -> None:
    stream = translated()
    with pytest.raises(MalformedStream):
        stream.feed(said("start", "he", "unwritable", "stop", "usage", "end"))
    assert (stream.usage, stream.raw_usage) == (Usage(4, output=2), b'{"n":2}')


@pytest.mark.parametrize("make", [watched, translated])
def test_an_event_whose_blank_line_is_missing_is_whole(make: Any) -> None:
    stream, same = make(), make()
    assert stream.feed(said("he")[:-2]) == b""
    assert stream.finish() == same.feed(said("he"))[: -2 if make is watched else None]


@pytest.mark.parametrize("make", [watched, translated])
def test_an_event_that_was_cut_is_a_fault(make: Any) -> None:
    stream = make()
    stream.feed(said("he")[:-8])
    with pytest.raises(MalformedStream):
        stream.finish()
    assert not stream.complete


def test_a_translated_stream_is_written_anew() -> None:
    stream = translated()
    assert stream.feed(b": hi\n\n" + said("start", "he")) == b"<Started><he>"
    assert stream.feed(said("stop") + said("usage", "end", "more") + said("more")) == b"<Finished><Counted><end>"
    assert stream.finish() == b""
    assert stream.kept() == b"<Started><he><Finished><Counted><end>"


def test_a_translated_stream_that_fails_says_so_and_nothing_more() -> None:
    stream = translated()
    assert stream.feed(said("he", "fail", "more") + said("more")) == b"<he><failed upstream_error>"
    assert (stream.done, stream.finish()) == (True, b"")


def test_an_answer_whose_provider_forgot_the_end_is_ended() -> None:
    stream = translated()
    assert stream.feed(said("he", "stop")) == b"<he><Finished>"
    assert stream.finish() == b"<end>"


def test_an_answer_is_not_ended_before_each_of_its_choices_is() -> None:
    stream = translated(choices=2)
    stream.feed(said("he", "stop"))
    assert (stream.complete, stream.finish()) == (False, b"")
    stream = translated(choices=2)
    stream.feed(said("he", "stop", "second"))
    assert (stream.complete, stream.finish()) == (True, b"<end>")


def test_what_a_unit_said_before_it_broke_is_released() -> None:
    stream = translated()
    with pytest.raises(MalformedStream) as raised:
        stream.feed(said("he") + said("broken", "end"))
    assert raised.value.args == (b"<he><broken>", "a broken call")
    stream = translated()
    stream.feed(said("broken", "end")[:-2])
    with pytest.raises(MalformedStream) as raised:
        stream.finish()
    assert raised.value.args[0] == b"<broken>"


@pytest.mark.parametrize("make", [watched, translated])
def test_memory_is_bounded(make: Any) -> None:
    stream = make()
    piece = "x" * (KEPT_BYTES // 2)
    for _ in range(5):
        stream.feed(said(piece))
    assert len(stream.written_text()) == KEPT_BYTES
    assert stream.unkept == 3 * len(piece)
    assert KEPT_BYTES <= len(stream.kept()) <= KEPT_BYTES + len(said(piece))


def event_of(data: dict[str, Any]) -> bytes:
    return f"event: {data.get('type', 'message')}\ndata: {json.dumps(data)}\n\n".encode()


@pytest.mark.parametrize(
    ("delta", "is_output"),
    [
        ({"role": "assistant", "content": "", "tool_calls": [], "refusal": None}, False),
        ({"content": "hi"}, True),
        ({"audio": {"id": "a", "data": "AAAA"}}, True),
        ({"images": [{"image_url": {"url": "data:"}}]}, True),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}, True),
    ],
)
def test_output_of_any_kind_is_output(delta: dict[str, Any], is_output: bool) -> None:
    stream = CompletionStream(keep_usage=False)
    stream.feed(event_of({"choices": [{"index": 0, "delta": delta}]}))
    assert stream.has_output is is_output


def test_pictures_are_output_of_responses() -> None:
    stream = WatchedStream(responses.parse_stream(), b"", lambda error: b"")
    item = {"type": "image_generation_call", "id": "ig", "status": "in_progress"}
    stream.feed(event_of({"type": "response.created", "response": {"id": "r", "object": "response", "model": "m", "output": []}}))
    stream.feed(event_of({"type": "response.output_item.added", "output_index": 0, "item": item}))
    assert not stream.has_output
    picture = {"type": "response.image_generation_call.partial_image", "output_index": 0, "item_id": "ig", "partial_image_b64": "AAAA"}
    stream.feed(event_of(picture))
    assert stream.has_output


def test_words_that_are_spoken_are_counted() -> None:
    stream = CompletionStream(keep_usage=False)
    stream.feed(event_of({"choices": [{"index": 0, "delta": {"audio": {"data": "AAAA", "transcript": "hello "}}}]}))
    stream.feed(event_of({"choices": [{"index": 0, "delta": {"content": [{"type": "thinking", "thinking": [{"text": "well"}]}]}}]}))
    assert stream.written_text() == "hello well"
