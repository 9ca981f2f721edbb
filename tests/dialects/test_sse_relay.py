"""The relay of event streams: byte for byte, wherever the stream is cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.dialects import sse
from dwctl.dialects.openai_stream import CompletionStream, MalformedStream, as_stream, output_text
from dwctl.dialects.usage import Usage

USAGE = b'{"id":"c","model":"m","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}'


def chunk_json(text: str, finish: str | None = None, index: int = 0) -> bytes:
    end = f'"{finish}"' if finish else "null"
    return f'{{"id":"c","model":"m","choices":[{{"index":{index},"delta":{{"content":"{text}"}},"finish_reason":{end}}}]}}'.encode()


def relay(stream: CompletionStream, pieces: list[bytes]) -> bytes:
    released = b""
    for piece in pieces:
        released += stream.feed(piece)
        if stream.done:
            return released
    return released + stream.finish()


def cuts(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
texts = st.text(st.characters(blacklist_characters='"\\', blacklist_categories=("Cs", "Cc")), max_size=12)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A stream as a provider may send it, and what a client that did not ask for usage must get."""
    end = draw(line_ends)
    sent = kept = b""
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["data", "tight", "comment", "multi", "named", "utf8", "empty"]))
        payload = chunk_json(draw(texts))
        if kind == "data":
            event = b"data: " + payload + end + end
        elif kind == "tight":
            event = b"data:" + payload + end + end
        elif kind == "comment":
            event = b": keep-alive" + end + end
        elif kind == "multi":
            event = b"data: {" + end + b'data: "choices":[{"index":0,"delta":{}}]}' + end + end
        elif kind == "named":
            event = b"event: message" + end + b"id: 7" + end + b"data: " + payload + end + end
        elif kind == "utf8":
            event = b'data: {"choices":[{"index":0,"delta":{"content":"\xff\xfe"}}]}' + end + end
        else:
            event = b"data:" + end + end
        sent += event
        kept += event
    last = b"data: " + chunk_json("", "stop") + end + end
    sent, kept = sent + last, kept + last
    sent += b"data: " + USAGE + end + end
    if draw(st.booleans()):
        sent, kept = sent + b"data: [DONE]" + end + end, kept + b"data: [DONE]" + end + end
    return sent, kept


@given(streams(), st.lists(st.integers(0, 10_000), max_size=8))
def test_identical_but_for_the_unrequested_usage(stream: tuple[bytes, bytes], places: list[int]) -> None:
    sent, kept = stream
    watched = CompletionStream(keep_usage=False)
    assert relay(watched, cuts(sent, places)) == kept
    assert watched.complete
    assert watched.usage is not None
    assert (watched.usage.input, watched.usage.output) == (7, 3)


@given(streams(), st.lists(st.integers(0, 10_000), max_size=8))
def test_identical_when_usage_was_asked_for(stream: tuple[bytes, bytes], places: list[int]) -> None:
    sent, _ = stream
    assert relay(CompletionStream(keep_usage=True), cuts(sent, places)) == sent


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_split_point(end: bytes) -> None:
    sent = (
        b"data: " + chunk_json("grüße 🙂") + end + end + b": ping" + end + end
        + b"data: " + chunk_json("", "stop") + end + end + b"data: [DONE]" + end + end
    )  # fmt: skip
    for place in range(len(sent) + 1):
        stream = CompletionStream(keep_usage=False)
        assert relay(stream, [sent[:place], sent[place:]]) == sent, place
        assert stream.complete


def test_many_events_in_one_read() -> None:
    events = [b"data: " + chunk_json(f"{number:0700}") + b"\n\n" for number in range(300)]
    stream = CompletionStream(keep_usage=False)
    assert stream.feed(b"".join(events)) == b"".join(events)


def test_an_event_that_has_begun_is_held_back() -> None:
    stream = CompletionStream(keep_usage=False)
    whole = b"data: " + chunk_json("a") + b"\n\n"
    assert stream.feed(whole + b'data: {"choi') == whole
    with pytest.raises(MalformedStream):
        stream.finish()
    assert not stream.complete


def test_what_follows_done_is_ignored() -> None:
    stream = CompletionStream(keep_usage=False)
    done = b"data: [DONE]\n\n"
    assert stream.feed(done + b"data: {broken\n\n") == done
    assert stream.done


def test_what_is_of_another_dialect_is_a_fault_and_its_usage_is_learned() -> None:
    stream = CompletionStream(keep_usage=False)
    good = b"data: " + chunk_json("a") + b"\n\n"
    with pytest.raises(MalformedStream) as fault:
        stream.feed(good + b'data: {"type":"odd","usage":{"prompt_tokens":2,"completion_tokens":1}}\n\n' + good)
    assert (fault.value.args[0], stream.usage, stream.went_on) == (good, Usage(2, output=1), False)


def test_not_json_is_a_fault_and_what_came_before_is_kept() -> None:
    stream = CompletionStream(keep_usage=False)
    good = b"data: " + chunk_json("a") + b"\n\n"
    with pytest.raises(MalformedStream) as fault:
        stream.feed(good + b"data: {oops\n\n" + good)
    assert fault.value.args[0] == good


@pytest.mark.parametrize(
    "shape", [b'{"error":null,"choices":[]}', b'{"error":{},"choices":[]}', b'{"choices":"odd"}', b"[1]", b'{"usage":5}']
)
def test_odd_shapes_pass(shape: bytes) -> None:
    event = b"data: " + shape + b"\n\n"
    stream = CompletionStream(keep_usage=False)
    assert stream.feed(event) == event
    assert stream.error is None


@pytest.mark.parametrize("code", [402, 500])
def test_what_an_error_has_used_counts(code: int) -> None:
    stream = CompletionStream(keep_usage=False)
    stream.feed(b'data: {"error":{"message":"no","code":%d},"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n' % code)
    assert (stream.error_status, stream.usage) == (code, Usage(1, output=2))


def test_first_error_wins_and_is_forwarded() -> None:
    event = b'data: {"error":{"message":"first","code":"429"}}\n\n'
    stream = CompletionStream(keep_usage=False)
    assert stream.feed(event + b'data: {"error":{"message":"second"}}\n\n').startswith(event)
    assert stream.error == {"message": "first", "code": "429"}


def test_every_choice_must_finish() -> None:
    stream = CompletionStream(keep_usage=False)
    stream.feed(b"data: " + chunk_json("a", None, 0) + b"\n\ndata: " + chunk_json("b", "stop", 1) + b"\n\n")
    assert not stream.complete
    stream.feed(b"data: " + chunk_json("", "length", 0) + b"\n\n")
    assert stream.complete
    assert stream.finish_reason == "length"


def test_thousands_of_keepalives_take_no_memory() -> None:
    stream = CompletionStream(keep_usage=False)
    for _ in range(10_000):
        stream.feed(b": keep-alive\n\n")
    assert stream.kept() == b""


def test_an_event_beyond_the_bound_is_a_fault() -> None:
    stream = CompletionStream(keep_usage=False)
    for _ in range(8):
        stream.feed(b"x" * 1024 * 1024)
    with pytest.raises(MalformedStream):
        stream.feed(b"x")


def test_text_of_a_kept_stream() -> None:
    stream = CompletionStream(keep_usage=False)
    stream.feed(b"data: " + chunk_json("Hel") + b"\n\ndata: " + chunk_json("lo") + b"\n\n")
    assert output_text(stream.kept()) == "Hello"


def test_a_whole_answer_as_a_stream() -> None:
    answer = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    }
    stream = CompletionStream(keep_usage=True)
    sent = as_stream(answer, include_usage=True)
    assert stream.feed(sent) == sent
    assert stream.done
    assert stream.complete
    assert stream.usage is not None
    assert b'"usage"' not in as_stream(answer, include_usage=False)


@given(st.binary(max_size=200), st.lists(st.integers(0, 400), max_size=6))
def test_the_splitter_loses_nothing(data: bytes, places: list[int]) -> None:
    splitter = sse.EventSplitter()
    events = [event for piece in cuts(data, places) for event in splitter.feed(piece)]
    assert b"".join(events) + splitter.rest == data


def test_half_a_surrogate_pair_passes() -> None:
    event = b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\n'
    stream = CompletionStream(keep_usage=False)
    assert stream.feed(event) == event
    assert stream.output_seen


def test_a_missing_choice_keeps_a_stream_from_being_whole() -> None:
    stream = CompletionStream(keep_usage=False, choices=2)
    stream.feed(b"data: " + chunk_json("a", "stop", 0) + b"\n\n")
    assert not stream.complete


def test_events_of_other_paths_need_not_be_json() -> None:
    event = b"event: audio\ndata: bytes, not JSON\n\n"
    assert CompletionStream(keep_usage=True, lenient=True).feed(event) == event


@pytest.mark.parametrize(
    ("rest", "lenient"),
    [
        *(
            (rest, lenient)
            for rest in (b'data: {"ty', b"data: [DON", b'event: a\ndata: {"b', b'{"a": 1}\n{"b')
            for lenient in (False, True)
        ),
        (b"data: some te", False),
        (b"dat", False),
    ],
)
def test_half_an_event_at_the_end_is_not_released(rest: bytes, lenient: bool) -> None:
    stream = CompletionStream(keep_usage=True, lenient=lenient)
    assert stream.feed(b"data: {}\n\n" + rest) == b"data: {}\n\n"
    with pytest.raises(MalformedStream) as fault:
        stream.finish()
    assert fault.value.args[0] == b""


@pytest.mark.parametrize(
    ("rest", "lenient"),
    [
        *((rest, True) for rest in (b'event: a\ndata: {"a": 1}', b"data: [1]\n", b'{"a": 1}\n{"b": 2}', b"data: bye")),
        *(
            (rest, lenient)
            for rest in (b": pi", b"\n", b" ", b"event: a\n", b"id: 5", b"retry: 9\n", b"data:")
            for lenient in (False, True)
        ),
    ],
)
def test_a_whole_event_at_the_end_needs_no_blank_line(rest: bytes, lenient: bool) -> None:
    stream = CompletionStream(keep_usage=True, lenient=lenient)
    assert relay(stream, [b"data: {}\n\n" + rest]) == b"data: {}\n\n" + rest
