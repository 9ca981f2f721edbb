"""The load: wrk for JSON, a raw client for streams, and an upstream that writes the time into its chunks."""

import asyncio
import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from tests.bench import machine
from tests.bench.contenders import Contender

GIVE_UP = 60.0
"""Seconds after which a measurement of streams that do not end fails."""
REST_SECONDS = 0.25
REST_CHECKS = 40
AT_REST = 0.03
"""A server that uses less than this share of a core has nothing left to do."""
END = b"\r\n0\r\n\r\n"
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
STAMP = re.compile(rb'"content":"([0-9]+)"')


@dataclass
class Sample:
    """One measurement of one contender. Latencies in milliseconds, CPU in microseconds a request."""

    requests: int
    seconds: float
    p50: float
    p99: float
    first_p50: float = 0.0
    """Until the first byte of a stream."""
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Clock:
    """CPU seconds of a contender's process tree between entering and `stop`."""

    def __init__(self, contender: Contender) -> None:
        self._pid = contender.pid
        self._began = machine.cpu_seconds(self._pid) if self._pid is not None else 0.0

    def stop(self) -> float:
        """Seconds until the contender has come to rest: records that it still has to write belong to the requests that it answered."""
        if self._pid is None:
            return 0.0
        used = machine.cpu_seconds(self._pid)
        for _ in range(REST_CHECKS):
            time.sleep(REST_SECONDS)
            before, used = used, machine.cpu_seconds(self._pid)
            if used - before < REST_SECONDS * AT_REST:
                break
        return used - self._began


SCRIPT = """
wrk.method = "POST"
wrk.body = [==[%s]==]
wrk.headers["content-type"] = "application/json"
%s
function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("RESULT %%d %%d %%d %%d %%d\\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), failed))
end
"""


def json_load(contender: Contender, connections: int, seconds: float, directory: Path) -> Sample:
    """wrk on one thread. Raises RuntimeError if any request failed."""
    script = directory / "wrk.lua"
    headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in contender.headers.items())
    script.write_text(SCRIPT % (contender.body("json").decode(), headers))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "30s", "-s", str(script), contender.urls["json"]]
    clock = Clock(contender)
    run = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=machine.pinned(machine.LOAD_CORES))
    used = clock.stop()
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", run.stdout)
    if found is None:
        raise RuntimeError(run.stdout + run.stderr)
    requests, microseconds, p50, p99, errors = map(int, found.groups())
    if errors or not requests:
        raise RuntimeError(f"{contender.name}: {errors} of {requests} requests failed:\n{run.stdout}")
    contender.requests += requests
    return Sample(requests, microseconds / 1e6, p50 / 1000, p99 / 1000, cpu=used / requests * 1e6)


@dataclass
class Streams:
    """What a set of streaming clients has seen. Seconds."""

    until: float
    first: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    """Between the sending and the arrival of each stamped chunk."""


class StreamClient(asyncio.Protocol):
    """One connection that asks for one stream after the other until the time is up."""

    def __init__(self, request: bytes, seen: Streams, stamped: bool) -> None:
        self._request, self._seen, self._stamped = request, seen, stamped
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self._first = True
        self._left: int | None = None
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self._first:
            self._first = False
            self._seen.first.append(now - self._began)
            head, found, _ = data.partition(b"\r\n\r\n")
            if not data.startswith(b"HTTP/1.1 200") or not found:
                self._fail(data.decode("utf-8", "replace"))
                return
            length = LENGTH.search(head)
            if length is not None:
                self._left = int(length[1]) + len(head) + 4
        if self._stamped:
            joined = self._tail + data
            arrived = time.monotonic_ns()
            end = 0
            for stamp in STAMP.finditer(joined):
                self._seen.delays.append((arrived - int(stamp[1])) / 1e9)
                end = stamp.end()
            self._tail = joined[max(end, len(joined) - 64) :]
        else:
            self._tail = self._tail[-16:] + data[-16:]
        if self._left is not None:
            self._left -= len(data)
        if self._left == 0 or (self._left is None and self._tail.endswith(END)):
            self._tail = b""
            self._seen.total.append(now - self._began)
            if now < self._seen.until:
                self._ask()
            else:
                self._transport.close()

    def _fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(reason))
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            if time.perf_counter() < self._seen.until:
                self.done.set_exception(RuntimeError(f"connection lost in the middle: {exc}"))
            else:
                self.done.set_result(None)


def stream_request(contender: Contender, kind: str) -> tuple[str, int, bytes]:
    """Host, port and the bytes of one streaming request."""
    url = urlsplit(contender.urls[kind])
    body = contender.body(kind)
    extra = "".join(f"{name}: {value}\r\n" for name, value in contender.headers.items())
    head = f"POST {url.path} HTTP/1.1\r\nhost: {url.netloc}\r\ncontent-type: application/json\r\n{extra}content-length: {len(body)}\r\n\r\n"
    return url.hostname or "", url.port or 0, head.encode() + body


async def stream_load(contender: Contender, kind: str, connections: int, seconds: float) -> Sample:
    """``connections`` clients, each with one stream after the other, for about ``seconds``."""
    host, port, request = stream_request(contender, kind)
    seen = Streams(time.perf_counter() + seconds)
    clock, began = Clock(contender), time.perf_counter()
    await _run(host, port, [StreamClient(request, seen, stamped=False) for _ in range(connections)], spread=0.0)
    lasted, used = time.perf_counter() - began, clock.stop()
    count = len(seen.total)
    contender.requests += count
    return Sample(
        count,
        lasted,
        percentile(seen.total, 0.5) * 1000,
        percentile(seen.total, 0.99) * 1000,
        percentile(seen.first, 0.5) * 1000,
        used / count * 1e6,
    )


def _itself(client: StreamClient) -> StreamClient:
    return client


async def _run(host: str, port: int, clients: list[StreamClient], spread: float) -> None:
    loop = asyncio.get_running_loop()
    for client in clients:
        await loop.create_connection(partial(_itself, client), host, port)
        if spread:
            await asyncio.sleep(spread / len(clients))
    async with asyncio.timeout(GIVE_UP):
        await asyncio.gather(*(client.done for client in clients))


@dataclass
class Delays:
    """Chunk delays of the paced streams, in milliseconds; CPU in microseconds a chunk."""

    chunks: int
    p50: float
    p99: float
    p999: float
    worst: float
    cpu: float
    core: float
    """Share of its core that the server used."""


async def paced_load(contender: Contender, streams: int, chunks: int) -> Delays:
    """``streams`` at once, each of ``chunks`` stamped chunks, 10 a second. Raises RuntimeError if a chunk is lost."""
    host, port, request = stream_request(contender, "paced")
    seen = Streams(0.0)
    clock, began = Clock(contender), time.perf_counter()
    clients = [StreamClient(request, seen, stamped=True) for _ in range(streams)]
    await _run(host, port, clients, spread=2.0)
    lasted, used = time.perf_counter() - began, clock.stop()
    contender.requests += streams
    if len(seen.delays) != streams * chunks:
        raise RuntimeError(f"{contender.name}: {len(seen.delays)} of {streams * chunks} chunks arrived")
    delays = [delay * 1000 for delay in seen.delays]
    return Delays(
        len(delays),
        percentile(delays, 0.5),
        percentile(delays, 0.99),
        percentile(delays, 0.999),
        max(delays),
        used / len(delays) * 1e6,
        used / lasted,
    )


class PacedUpstream(asyncio.Protocol):
    """Answers every request with a stream of ``chunks`` chunks, 10 a second, each with the nanosecond of its sending as text."""

    chunks = 100

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not found or length is None or len(body) < int(length[1]):
            return
        self._received = b""
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        self._left = self.chunks
        self._due = asyncio.get_running_loop().time()
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        if self._left:
            self._left -= 1
            self._write(
                b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1767225600,"model":"bench","choices":[{"index":0,"delta":'
                b'{"content":"%d"},"logprobs":null,"finish_reason":null}]}' % time.monotonic_ns()
            )
            self._due += 0.1
            self._timer = loop.call_at(self._due, self._next)
            return
        self._timer = None
        self._write(
            b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1767225600,"model":"bench","choices":[{"index":0,"delta":{},'
            b'"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":160,"completion_tokens":100,"total_tokens":260}}'
        )
        self._write(b"[DONE]")
        self._transport.write(b"0\r\n\r\n")

    def _write(self, payload: bytes) -> None:
        event = b"data: " + payload + b"\n\n"
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
