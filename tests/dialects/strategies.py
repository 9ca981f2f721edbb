"""Answers and streams of every shape that the model of them allows, for properties."""

import json
from typing import get_args

from hypothesis import strategies as st

from dwctl.dialects.answers import (
    Choice,
    Counted,
    Event,
    Finish,
    Finished,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Response,
    Started,
    TextDelta,
    ToolDelta,
    ToolStart,
)
from dwctl.dialects.canonical import Part, Reasoning, Refusal, Text, ToolCall
from dwctl.dialects.names import DIALECTS
from dwctl.dialects.usage import Usage

texts = st.text("aé😀 \n\"\\{}[]:,'<data>", max_size=8)
names = st.sampled_from(["weather", "run", "lookup_2"])
objects = st.dictionaries(st.sampled_from(["a", "b"]), st.integers(-5, 5) | texts | st.none(), max_size=2).map(json.dumps)
usages = st.builds(Usage, *[st.integers(0, 1000)] * 5, st.just(0))
finishes: st.SearchStrategy[Finish] = st.sampled_from(get_args(Finish))
logprobs = st.lists(
    st.builds(lambda token: {"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": []}, texts), min_size=1, max_size=2
).map(lambda tokens: {"content": tokens})
citations = st.just([{"type": "url_citation", "url_citation": {"start_index": 0, "end_index": 1, "title": "t", "url": "https://h"}}])


@st.composite
def thoughts(draw: st.DrawFn) -> Reasoning:
    text = draw(texts)
    signature = draw(st.none() | st.just("c2ln"))
    return Reasoning(
        text,
        summary=bool(text) and draw(st.booleans()),
        signature=signature,
        origin=draw(st.sampled_from(DIALECTS)),
        id=draw(st.none() | st.just("rs_1")),
        redacted=not text,
    )


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    parts: list[Part] = []
    for number in range(draw(st.integers(0, 4))):
        part: Part = draw(
            st.one_of(
                thoughts(),
                st.builds(Text, texts, annotations=st.none() | citations),
                st.builds(Refusal, texts),
                st.builds(ToolCall, st.just(f"call_{number}"), names, objects, custom=st.booleans()),
            )
        )
        if isinstance(part, Text | Refusal) and parts and type(parts[-1]) is type(part):
            continue  # two of them in a row are one
        parts.append(part)
    spoken = any(isinstance(part, Text) for part in parts)
    return Choice(parts, draw(finishes), draw(st.none() | st.just("###")), draw(st.none() | logprobs) if spoken else None)


@st.composite
def responses(draw: st.DrawFn, *, most: int = 2) -> Response:
    """Whole answers, whose parts are as a stream could have brought them."""
    usage = draw(st.none() | usages)
    return Response(
        draw(st.none() | st.just("up-1")),
        draw(st.none() | st.just("theirs")),
        draw(st.lists(choices(), max_size=most)),
        usage,
        b'{"n":1}' if usage is not None else None,
        draw(st.none() | st.just("default")),
    )


@st.composite
def _events_of_a_choice(draw: st.DrawFn, index: int) -> list[Event]:
    events: list[Event] = []
    pending: dict[int, list[str]] = {}
    for _ in range(draw(st.integers(0, 8))):
        match draw(st.sampled_from(["text", "thought", "signed", "refusal", "call", "call", "grow", "grow"])):
            case "text":
                events.append(TextDelta(draw(texts), index, draw(st.none() | logprobs), draw(st.none() | citations)))
            case "thought":
                events.append(ReasoningDelta(draw(texts), index, draw(st.booleans())))
            case "signed":
                events.append(
                    ReasoningEnd(index, draw(st.none() | st.just("c2ln")), draw(st.sampled_from(DIALECTS)), redacted=draw(st.booleans()))
                )
            case "refusal":
                events.append(RefusalDelta(draw(texts), index))
            case "call":
                number = len(pending)
                custom = draw(st.booleans())
                arguments = draw(st.one_of(objects, texts if custom else st.sampled_from(["", "null", "{}"])))
                cut = draw(st.integers(0, len(arguments)))
                pending[number] = [arguments[:cut], arguments[cut:]]
                events.append(ToolStart(number, f"call_{index}_{number}", draw(names), index, custom))
            case "grow" if open_calls := [number for number, rest in pending.items() if rest]:
                number = draw(st.sampled_from(open_calls))
                events.append(ToolDelta(number, pending[number].pop(0), index))
    for number, rest in pending.items():
        events += [ToolDelta(number, fragment, index) for fragment in rest]
    if draw(st.booleans()):
        events.append(Finished(draw(finishes), index, draw(st.none() | st.just("###"))))
    return events


@st.composite
def event_streams(draw: st.DrawFn, *, most: int = 2) -> list[Event]:
    """Streams of at most ``most`` choices whose tool calls are whole, but for the last event: parallel calls and choices interleave,
    thoughts come late or are not ended, usage comes at any time, reasons to finish are forgotten."""
    tracks = [draw(_events_of_a_choice(index)) for index in range(draw(st.integers(0, most)))]
    for _ in range(draw(st.integers(0, 2))):
        tracks.append([Counted(draw(usages), b"{}")])
    events: list[Event] = []
    while tracks := [track for track in tracks if track]:
        events.append(draw(st.sampled_from(tracks)).pop(0))
    if draw(st.booleans()):
        events.insert(0, Started("up-1", "theirs", draw(st.none() | usages), draw(st.none() | st.sampled_from(["default", "standard"]))))
    return events
