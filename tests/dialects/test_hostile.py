"""Whatever a client sends is read or refused with 400, and whatever a provider sends is read or called malformed: nothing else is raised.

Bodies that have nearly everything are broken in a few places, with values that no dialect has there.
"""

import contextlib
import copy
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dwctl.dialects import embeddings, fields, foreign_thoughts, openai_errors, raw_request, surfaces
from dwctl.dialects.answers import Answering, Ended, MalformedAnswer, events_of, response_of, text_of
from dwctl.dialects.json_text import encode
from dwctl.dialects.names import DialectName
from dwctl.dialects.openai_stream import CompletionStream, MalformedStream
from dwctl.dialects.streams import TranslatedStream, WatchedStream, decode_object
from dwctl.errors import GatewayError
from tests.dialects import golden

ANSWERING = Answering("0" * 32, "alias", 1)
ERROR = GatewayError(502, "internal_error", "upstream_malformed", "The provider failed.")
MODELS = {"anthropic": ["claude-sonnet-4-5", "claude-opus-4-7"], "openai-chat": ["gpt-5", "qwen"]}
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 127, 128, 2**31, 2**63, 2**64, 10**30, 1.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "x", "é", "\ud83d", "\x00", "null", "{}", "[1]", "data:", "data:image/png;base64,é", "dwctl.e30="),
    *([], {}, [[]], [None], [{}], {"type": []}, {"type": {}}, {"a": {"b": []}}),
]
WORST: list[Any] = ["\ud83d", True, [1], {"a": 1}]


def _words(value: Any) -> set[str]:
    match value:
        case dict():
            return {*value, *(word for inner in value.values() for word in _words(inner))}
        case list():
            return {word for inner in value for word in _words(inner)}
        case str():
            return {value}
    return set()


WORDS = sorted(_words([golden.REQUESTS, golden.EMBEDDINGS, golden.ANSWERS, golden.STREAMS, golden.EMBEDDED, golden.ERRORS]))
VALUES = st.recursive(
    st.sampled_from(ODD) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=2),
    max_leaves=4,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in inside for place in _places(inner, (*path, key)))]


@st.composite
def broken(draw: st.DrawFn, body: Any) -> Any:
    """The body with one to three of its values changed, left out, repeated or joined by another."""
    body = copy.deepcopy(body)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from([place for place in _places(body) if place] or [("a",)]))
        inner = body
        for key in path:
            inner = inner[key]
        match draw(st.sampled_from(["change", "change", "leave", "join", "repeat"])):
            case "leave" if inner:
                del inner[last]
            case "join" if isinstance(inner, dict):
                inner[draw(st.sampled_from(WORDS))] = copy.deepcopy(draw(VALUES))
            case "repeat" if isinstance(inner, list):
                inner.append(copy.deepcopy(inner[last]))
            case _:
                inner[last] = copy.deepcopy(draw(VALUES))
    return body


def broken_once(body: Any) -> Iterator[Any]:
    """The body with each of its values changed to each of the worst."""
    for *path, last in _places(body)[1:]:
        for value in WORST:
            changed = inner = copy.deepcopy(body)
            for key in path:
                inner = inner[key]
            inner[last] = copy.deepcopy(value)
            yield changed


CANONICAL = {path: surfaces.surface_of(path).codec.parse_request(copy.deepcopy(body)) for path, body in golden.REQUESTS.items()}


many = settings(max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def read_request(path: str, body: Any) -> None:
    surface = surfaces.surface_of(path)
    raw = json.dumps(body).encode()
    try:
        request = raw_request.parse(raw, None, surface.dialect)
        raw_request.input_text(request)
        raw_request.prompts(request)
        raw_request.outgoing(foreign_thoughts.without(request)[0], b'"m"', ask_usage=True, max_tokens=5)
        canonical = surface.codec.parse_request(_decoded(raw))
    except GatewayError as error:
        assert error.status == 400
        return
    for provider, codec in surfaces.PROVIDERS.items():
        if provider != surface.dialect:
            for model in MODELS.get(provider, ["m"]):
                try:
                    settled, _ = fields.settle(canonical, surface.dialect, provider)
                    msgspec.json.encode(codec.render_request(settled, model))
                except GatewayError as error:
                    assert error.status == 400


def _decoded(raw: bytes) -> dict[str, Any]:
    return {**json.loads(raw), "model": "alias"}


def read_answer(provider: DialectName, body: Any) -> None:
    codec = surfaces.PROVIDERS[provider]
    try:
        decoded = decode_object(json.dumps(body).encode())
        codec.read_error(decoded)
        response = codec.parse_response(decoded)
    except MalformedAnswer:
        return
    text_of(response)
    for path in golden.REQUESTS:
        client, request = surfaces.surface_of(path).codec, CANONICAL[path]
        with contextlib.suppress(MalformedAnswer):
            encode(client.render_response(response, request, ANSWERING))
        with contextlib.suppress(MalformedAnswer):
            renderer = client.render_stream(request, ANSWERING)
            for event in events_of(response):
                renderer.end() if isinstance(event, Ended) else renderer.render(event)


def read_stream(provider: DialectName, body: list[Any]) -> None:
    parse = surfaces.PROVIDERS[provider].parse_stream
    events = [json.dumps(event).encode() for event in body]
    wire = b"".join(event + b"\n" if provider == "ollama" else b"data: " + event + b"\n\n" for event in events)
    streams: list[TranslatedStream | WatchedStream | CompletionStream] = [
        TranslatedStream(parse(), surfaces.surface_of(path).codec.render_stream(CANONICAL[path], ANSWERING), b"")
        for path in golden.REQUESTS
    ]
    streams.append(WatchedStream(parse(), b"", openai_errors.stream_end))
    if provider == "openai-chat":
        streams.append(CompletionStream(keep_usage=False))
    for stream in streams:
        try:
            stream.feed(wire)
            stream.finish()
        except MalformedStream:
            stream.fail(ERROR)
        stream.written_text()
        assert stream.said is None or isinstance(stream.said, str)
    with contextlib.suppress(MalformedAnswer, GatewayError):
        parser = parse()
        response_of(event for unit in [*parser.split(wire), parser.rest()] for event in parser.take(unit))


@pytest.mark.parametrize("path", golden.REQUESTS)
def test_requests_broken_in_one_place(path: str) -> None:
    for body in broken_once(golden.REQUESTS[path]):
        read_request(path, body)


@pytest.mark.parametrize("path", golden.REQUESTS)
@many
@given(st.data())
def test_requests(path: str, data: st.DataObject) -> None:
    read_request(path, data.draw(broken(golden.REQUESTS[path])))


@pytest.mark.parametrize("provider", golden.ANSWERS)
def test_answers_broken_in_one_place(provider: DialectName) -> None:
    for body in broken_once(golden.ANSWERS[provider]):
        read_answer(provider, body)


@pytest.mark.parametrize("provider", golden.ANSWERS)
@many
@given(st.data())
def test_answers(provider: DialectName, data: st.DataObject) -> None:
    read_answer(provider, data.draw(broken(golden.ANSWERS[provider])))


@pytest.mark.parametrize("provider", golden.STREAMS)
def test_streams_broken_in_one_place(provider: DialectName) -> None:
    for body in broken_once(golden.STREAMS[provider]):
        read_stream(provider, body)


@pytest.mark.parametrize("provider", golden.STREAMS)
@many
@given(st.data())
def test_streams(provider: DialectName, data: st.DataObject) -> None:
    read_stream(provider, data.draw(broken(golden.STREAMS[provider])))


@many
@given(st.sampled_from(golden.ERRORS).flatmap(broken))
def test_errors(body: Any) -> None:
    raw = json.dumps(body).encode()
    openai_errors.shown_to_client(400, "application/json", raw, None)
    try:
        decoded = decode_object(raw)
    except MalformedAnswer:
        return
    for codec in surfaces.PROVIDERS.values():
        if (said := codec.read_error(decoded)) is not None:
            error = GatewayError(400, said.type or "a", said.code or "b", said.message, param=said.param)
            for client in surfaces.PROVIDERS.values():
                client.render_error(error, "id")
                client.stream_error(error, "id")


@pytest.mark.parametrize("path", golden.EMBEDDINGS)
@many
@given(st.data())
def test_embeddings(path: str, data: st.DataObject) -> None:
    client = surfaces.surface_of(path).embeds
    assert client is not None
    raw = json.dumps(data.draw(st.just(golden.EMBEDDINGS[path]) | broken(golden.EMBEDDINGS[path]))).encode()
    for provider, wanted in golden.EMBEDDED.items():
        embedder = surfaces.EMBEDDERS[provider]
        try:
            raw_request.parse(raw)
            request = client.parse_request(_decoded(raw))
            embeddings.settle(request, embedder)
            msgspec.json.encode(embedder.render_request(request, "m"))
        except GatewayError as error:
            assert error.status == 400
            continue
        with contextlib.suppress(MalformedAnswer):
            response = embedder.parse_response(decode_object(json.dumps(data.draw(broken(wanted))).encode()))
            encode(client.render_response(response, request))
