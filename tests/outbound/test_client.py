"""Requests as a provider sees them, and what becomes of the connection behind every kind of answer."""

import asyncio
import contextlib
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from dwctl.outbound import Outbound, OutboundError, OutboundResponse, client
from tests.certificates import self_signed
from tests.waiting import until


class Provider:
    """Answers each request with ``answer`` and keeps the connection, unless told otherwise."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
        self.reads_bodies = True
        self.closes = False
        self.greeting = b""
        self.connections = 0
        self.gone = 0
        self.requests: list[tuple[str, bytes]] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.url = URL()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        writer.write(self.greeting)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length and self.reads_bodies else b""
                self.requests.append((head, body))
                writer.write(self.answer)
                await writer.drain()
                if self.closes:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self.gone += 1


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    scripted = Provider()
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions")
    yield scripted
    server.close()


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    client = Outbound()
    yield client
    await client.close()


async def ask(outbound: Outbound, url: URL, body: bytes | None = b"{}", **headers: str) -> OutboundResponse:
    method = "GET" if body is None else "POST"
    return await outbound.send(pool="p", method=method, url=url, headers=headers, body=body, connect_timeout=5)


async def turns() -> None:
    """Turns of the loop, in which the client hears of what the provider has done."""
    for _ in range(2):
        await asyncio.sleep(0)


async def test_the_request_as_it_is_sent(outbound: Outbound, provider: Provider) -> None:
    answer = await ask(outbound, URL(f"{provider.url}?a=b%20c", encoded=True), "{ü}".encode(), authorization="Bearer x")
    assert (answer.status, await answer.read(100)) == (200, b"{}")
    await ask(outbound, provider.url, None)
    port = provider.url.port
    assert provider.requests == [
        (
            f"POST /v1/chat/completions?a=b%20c HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nvia: 1.1 dwctl\r\n"
            "authorization: Bearer x\r\ncontent-length: 4\r\n\r\n",
            "{ü}".encode(),
        ),
        (f"GET /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nvia: 1.1 dwctl\r\n\r\n", b""),
    ]


@pytest.mark.parametrize("value", ["a\r\nx-injected: 1", "a\nb", "a\rb", "a\0b"])
async def test_no_header_becomes_two(outbound: Outbound, provider: Provider, value: str) -> None:
    with pytest.raises(ValueError, match="end of a line"):
        await ask(outbound, provider.url, traceparent=value)
    assert not provider.connections


async def test_a_connection_is_used_again_after_a_whole_answer(outbound: Outbound, provider: Provider) -> None:
    for _ in range(3):
        answer = await ask(outbound, provider.url)
        assert await answer.read(100) == b"{}"
        answer.close()
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    empty = b"HTTP/1.1 204 No Content\r\n\r\n"
    for provider.answer, body in ((chunked, b"abc"), (empty, b"")):
        answer = await ask(outbound, provider.url)
        assert await answer.read(100) == body
    await ask(outbound, provider.url)
    assert provider.connections == 1


async def test_parallel_requests_have_a_connection_each(outbound: Outbound, provider: Provider) -> None:
    answers = await asyncio.gather(*(ask(outbound, provider.url) for _ in range(10)))
    assert [await answer.read(100) for answer in answers] == [b"{}"] * 10
    assert provider.connections == 10


async def test_an_answer_that_is_dropped_takes_its_connection_with_it(outbound: Outbound, provider: Provider) -> None:
    provider.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun"
    answer = await ask(outbound, provider.url)
    assert await answer.read_chunk() == b"begun"
    answer.close()
    await until(lambda: provider.gone == 1)
    await ask(outbound, provider.url)
    assert provider.connections == 2


async def test_a_caller_that_leaves_takes_its_connection_with_it(outbound: Outbound, provider: Provider) -> None:
    provider.answer = b""
    asking = asyncio.create_task(ask(outbound, provider.url))
    await until(lambda: provider.requests)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: provider.gone == 1)


async def test_interim_answers_are_passed_over(outbound: Outbound, provider: Provider) -> None:
    provider.answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + provider.answer
    answer = await ask(outbound, provider.url)
    assert (answer.status, await answer.read(100)) == (200, b"{}")


@pytest.mark.parametrize("secure", [False, True])
async def test_a_refusal_before_the_body_was_taken_is_heard_and_its_connection_is_not_used_again(
    secure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = 0
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\n{}")
        await over.wait()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls_of(tmp_path, monkeypatch) if secure else None) as server:
        outbound = Outbound()
        url = URL(f"http{'s' if secure else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        for body in (b"x" * 50_000_000, b"{}"):
            answer = await asyncio.wait_for(ask(outbound, url, body), 20)
            assert (answer.status, await answer.read(100)) == (413, b"{}")
        assert connections == 2
        over.set()
        await outbound.close()


async def test_a_large_body_arrives_whole(outbound: Outbound, provider: Provider) -> None:
    body = bytes(range(256)) * 20_000
    answer = await ask(outbound, provider.url, body)
    assert await answer.read(100) == b"{}"
    assert provider.requests[0][1] == body


async def test_a_connection_that_the_provider_has_closed_is_not_used_again(outbound: Outbound, provider: Provider) -> None:
    provider.closes = True
    await (await ask(outbound, provider.url)).read(100)
    await until(lambda: provider.gone == 1)
    await turns()
    answer = await ask(outbound, provider.url)
    assert (answer.status, provider.connections) == (200, 2)


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize(
    "stray", [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray", b"HTTP/1.1 102 Processing\r\n\r\n", b"garbage", b""]
)
async def test_what_comes_unasked_is_nobodys_answer(outbound: Outbound, provider: Provider, stray: bytes, is_read: bool) -> None:
    """The connections that it came on (if it is only their end) are not used again, though nobody may have read it yet."""
    for answer in await asyncio.gather(*(ask(outbound, provider.url) for _ in range(3))):
        await answer.read(100)
    for writer in provider.writers:
        sent = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
        with sent:
            sent.sendall(stray) if stray else sent.shutdown(socket.SHUT_WR)
    if is_read:
        await turns()
    answer = await ask(outbound, provider.url)
    assert (await answer.read(100), provider.connections) == (b"{}", 4)


async def test_a_second_answer_behind_the_first_is_nobodys(outbound: Outbound, provider: Provider) -> None:
    whole, stray = provider.answer, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray"
    provider.answer = whole[:-1]
    answer = await ask(outbound, provider.url)
    provider.writers[0].write(whole[-1:] + stray)
    assert await answer.read(100) == b"{}"
    provider.answer = whole
    answer = await ask(outbound, provider.url)
    assert (await answer.read(100), provider.connections) == (b"{}", 2)


async def test_a_provider_that_speaks_first_does_not_speak_http(
    outbound: Outbound, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = aiohttp.TCPConnector._create_connection

    async def connect_and_hear(*args: Any) -> ResponseHandler:
        handler = await connect(*args)
        await until(lambda: handler.should_close)
        return handler

    monkeypatch.setattr(aiohttp.TCPConnector, "_create_connection", connect_and_hear)
    provider.greeting = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    with pytest.raises(OutboundError) as caught:
        await ask(outbound, provider.url)
    assert (caught.value.kind, provider.connections) == ("protocol", 1)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "truncated"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", "truncated"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "protocol"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000, "protocol"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, "protocol"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx: " + b"y" * 1_000_000, "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}", "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length : 10\r\n\r\nhalf", "truncated"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", "truncated"),
        (b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\n{}", "protocol"),
        (b"HTTP/1.1 000 OK\r\ncontent-length: 2\r\n\r\n{}", "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-len", "reset"),
        (b"", "reset"),
    ],
)
async def test_broken_answers(outbound: Outbound, provider: Provider, answer: bytes, kind: str) -> None:
    provider.closes, provider.answer = True, answer
    with pytest.raises(OutboundError) as caught:
        await (await ask(outbound, provider.url)).read(100)
    assert caught.value.kind == kind


async def test_a_body_without_a_length_ends_with_the_connection(outbound: Outbound, provider: Provider) -> None:
    provider.closes, provider.answer = True, b"HTTP/1.1 200 OK\r\n\r\nall of it"
    assert await (await ask(outbound, provider.url)).read(100) == b"all of it"


async def test_more_than_is_wanted(outbound: Outbound, provider: Provider) -> None:
    provider.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n" + b"x" * 101
    with pytest.raises(OutboundError) as caught:
        await (await ask(outbound, provider.url)).read(100)
    assert caught.value.kind == "too_large"


async def test_nobody_listens(outbound: Outbound, unused_tcp_port: int) -> None:
    with pytest.raises(OutboundError) as caught:
        await ask(outbound, URL(f"http://127.0.0.1:{unused_tcp_port}/"))
    assert caught.value.kind == "connect"
    with pytest.raises(OutboundError) as caught:
        await ask(outbound, URL("http://name.invalid/"))
    assert caught.value.kind == "connect"


async def test_a_name_for_an_address_that_must_not_be_called(outbound: Outbound, monkeypatch: pytest.MonkeyPatch) -> None:
    async def metadata(*_: object) -> list[dict[str, object]]:
        return [{"hostname": "", "host": "169.254.169.254", "port": 80, "family": socket.AF_INET, "proto": 6, "flags": 0}]

    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", metadata)
    with pytest.raises(OutboundError) as caught:
        await ask(outbound, URL("http://looks-harmless.example/"))
    assert caught.value.kind == "denied"


async def test_an_answer_waits_for_its_reader(outbound: Outbound, provider: Provider) -> None:
    whole = bytes(range(256)) * 200_000
    provider.answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(whole), whole)
    provider.reads_bodies = False
    answer = await ask(outbound, provider.url, None)
    first = await answer.read_chunk()
    waiting = provider.writers[0].transport.get_write_buffer_size
    before = -1
    while waiting() != before:
        before = waiting()
        await asyncio.sleep(0.05)
    assert before > len(whole) // 2
    assert first + await answer.read(len(whole)) == whole
    provider.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    assert await (await ask(outbound, provider.url, None)).read(100) == b"{}"
    assert provider.connections == 1


@pytest.mark.parametrize("secure", [False, True])
async def test_a_request_that_nobody_waits_for_is_not_sent_to_its_end(
    secure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is its connection held until a provider that has stopped reading goes on."""
    size = 50_000_000
    taken = 0
    asked, left, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await left.wait()
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(1 << 20):
                taken += len(chunk)
        writer.close()
        ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls_of(tmp_path, monkeypatch) if secure else None) as server:
        outbound = Outbound()
        url = URL(f"http{'s' if secure else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        asking = asyncio.create_task(ask(outbound, url, b"x" * size))
        await asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await outbound.close()
        left.set()
        await asyncio.wait_for(ended.wait(), 20)
        assert taken < size // 2


async def test_a_connection_that_nobody_needs_is_closed(outbound: Outbound, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_KEEPALIVE_SECONDS", 0.2)
    for answer in await asyncio.gather(*(ask(outbound, provider.url) for _ in range(3))):
        await answer.read(100)
    await until(lambda: provider.gone == 3)


async def test_trailers_belong_to_nobody(outbound: Outbound, provider: Provider) -> None:
    provider.answer = b"HTTP/1.1 200 OK\r\nX-One: a\r\nx-one: b\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-two: c\r\n\r\n"
    for _ in range(2):
        answer = await ask(outbound, provider.url)
        assert await answer.read(100) == b"{}"
        assert answer.headers == {"x-one": "a", "transfer-encoding": "chunked"}
    assert provider.connections == 1


async def test_a_provider_that_changes_the_protocol_is_not_asked_again_on_that_connection(outbound: Outbound, provider: Provider) -> None:
    provider.answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\nother"
    answer = await ask(outbound, provider.url)
    assert (answer.status, await answer.read(100)) == (101, b"")
    await ask(outbound, provider.url)
    assert provider.connections == 2


def tls_of(directory: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A provider's side of TLS, under a certificate that clients trust from now on."""
    certificate = self_signed(directory)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(certificate)
    monkeypatch.setattr(client, "trusting", lambda: ssl.create_default_context(cafile=certificate))
    return theirs


async def test_tls(provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whom_nobody_trusts = Outbound()
    await whom_nobody_trusts.send(pool="p", method="GET", url=provider.url, headers={}, body=None, connect_timeout=5)
    context = tls_of(tmp_path, monkeypatch)
    async with await asyncio.start_server(provider.serve, "127.0.0.1", 0, ssl=context) as server:
        url = URL(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions")
        with pytest.raises(OutboundError, match="TLS handshake") as caught:
            await ask(whom_nobody_trusts, url)
        assert (caught.value.kind, provider.connections) == ("connect", 1)
        outbound = Outbound()
        body = bytes(range(256)) * 20_000
        for _ in range(3):
            answer = await ask(outbound, url, body)
            assert await answer.read(100) == b"{}"
        assert (provider.connections, provider.requests[3][1]) == (2, body)
        await outbound.close()
        await until(lambda: provider.gone == 1)
        await whom_nobody_trusts.close()


async def test_a_pool_is_dropped_beside_an_answer_that_is(outbound: Outbound, provider: Provider) -> None:
    provider.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun"
    answer = await ask(outbound, provider.url)
    dropping = asyncio.create_task(outbound.drop("p"))
    await asyncio.sleep(0)
    answer.close()
    await asyncio.wait_for(dropping, 20)
    await until(lambda: provider.gone == 1)
