"""A translated stream is the same wherever the provider's is cut: inside a character, between two line ends, within a name."""

import itertools

import pytest

from dwctl.dialects import surfaces
from dwctl.dialects.answers import Answering
from dwctl.dialects.canonical import Request
from dwctl.dialects.names import DIALECTS, DialectName
from dwctl.dialects.streams import TranslatedStream
from tests.dialects import wire
from tests.e2e.speaking import SPEAKERS

PAIRS = [pair for pair in itertools.product(DIALECTS, DIALECTS) if pair[0] != pair[1]]
EVERY_PAIR = pytest.mark.parametrize(("client", "provider"), PAIRS, ids=[">".join(pair) for pair in PAIRS])


def begun(client: DialectName, provider: DialectName) -> TranslatedStream:
    request = Request(model="alias", messages=[], stream=True, include_usage=True)
    renderer = surfaces.PROVIDERS[client].render_stream(request, Answering("0" * 32, "alias", 1_700_000_000))
    return TranslatedStream(surfaces.PROVIDERS[provider].parse_stream(), renderer, b"")


def translated(client: DialectName, provider: DialectName, *chunks: bytes) -> bytes:
    stream = begun(client, provider)
    return b"".join(map(stream.feed, chunks)) + stream.finish()


@EVERY_PAIR
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_every_split_point(client: DialectName, provider: DialectName, end: bytes) -> None:
    sent = b"".join(wire.stream(provider, calls=True)).replace(b"\n", end)
    expected = translated(client, provider, sent)
    said = SPEAKERS[client].streamed(expected)
    assert (said.text, said.calls, said.tokens, said.error) == (wire.TEXT, wire.CALLS, wire.TOKENS, None)
    for place in range(1, len(sent)):
        assert translated(client, provider, sent[:place], sent[place:]) == expected, sent[:place][-40:]
    assert translated(client, provider, *(sent[place : place + 1] for place in range(len(sent)))) == expected


@EVERY_PAIR
def test_hundreds_of_events_in_one_read(client: DialectName, provider: DialectName) -> None:
    pieces = tuple(f"{number:0700} " for number in range(300))
    sent = b"".join(wire.stream(provider, pieces=pieces))
    assert len(sent) > 200 * 1024
    stream = begun(client, provider)
    released = stream.feed(sent)
    assert stream.complete
    assert SPEAKERS[client].streamed(released + stream.finish()).text == "".join(pieces)
