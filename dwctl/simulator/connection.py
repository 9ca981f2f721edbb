"""One HTTP/1.1 connection of the simulator: requests in, answers and broken answers out.

Parsing is httptools', framing is written here by hand, since an orderly server could not tell the lies that the faults
need. Requests of one connection are answered one after the other; a pipelined one waits. A long answer is written as
the socket takes it (`Pump`), so that a client that reads nothing holds its own stream up and no memory.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from typing import cast

import httptools

from dwctl.simulator.served import Entry, Served

BATCH = 65_536
"""Bytes handed to the socket at once when no rate is set."""
REASONS = {
    200: b"OK", 302: b"Found", 400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed",
    429: b"Too Many Requests", 500: b"Internal Server Error", 502: b"Bad Gateway", 503: b"Service Unavailable",
}  # fmt: skip


class Request:
    """One request as it arrived. Header names are lower case, in order of arrival."""

    __slots__ = ("body", "headers", "keep_alive", "method", "path", "query", "target", "version")

    def __init__(self, method: str, target: bytes, version: str, headers: list[tuple[bytes, bytes]], body: bytes, keep_alive: bool) -> None:
        self.method, self.target, self.version, self.headers, self.body, self.keep_alive = (
            method,
            target,
            version,
            headers,
            body,
            keep_alive,
        )
        path, _, query = target.decode("latin-1").partition("?")
        self.path, self.query = path, query

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, None without one."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


Answer = Callable[["Connection", Request], None]
"""Answers one request on its connection, at once or later; must lead to exactly one `finish`, `hang_up` or silence."""


class Connection(asyncio.Protocol):
    """The server's side of one connection."""

    def __init__(self, answer: Answer, served: Served, open_connections: set["Connection"]) -> None:
        self._answer, self._served, self._all = answer, served, open_connections
        self.loop = asyncio.get_running_loop()
        self.entry: Entry | None = None
        """The request in the making, if it named a model."""
        self.closed = False
        self.lost: asyncio.Future[None] = self.loop.create_future()
        self.paused = False
        self.on_resume: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: deque[Request] = deque()
        self._busy = False
        self._keep_alive = True
        self._parser = httptools.HttpRequestParser(self)

    # transport -----------------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._all.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.transport.close()
        except httptools.HttpParserError:
            if not self._busy:
                self._keep_alive = False
                self.respond(400, b"text/plain", b"not HTTP\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._all.discard(self)
        self.lost.set_result(None)
        self._waiting.clear()
        self.on_resume = None
        if self._timer is not None:
            self._timer.cancel()
        if self.entry is not None:
            self._served.close(self.entry, "aborted")
            self.entry = None

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        resume, self.on_resume = self.on_resume, None
        if resume is not None:
            resume()

    # parser --------------------------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if any(name == b"expect" and value.lower() == b"100-continue" for name, value in self._headers):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        parser = self._parser
        request = Request(
            parser.get_method().decode(),
            self._target,
            parser.get_http_version(),
            self._headers,
            b"".join(self._body),
            parser.should_keep_alive(),
        )
        if self._busy:
            self._waiting.append(request)
        else:
            self._begin(request)

    def _begin(self, request: Request) -> None:
        self._busy = True
        self._keep_alive = request.keep_alive
        self._answer(self, request)

    # answers -------------------------------------------------------------------------------------------------------------------

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Run ``action`` after a delay, unless the client has left by then; at once for no delay."""
        if seconds > 0:
            self._timer = self.loop.call_later(seconds, action)
        else:
            action()

    def head(self, status: int, content_type: bytes, length: int | None, headers: bytes = b"") -> bytes:
        """Status line and headers; ``length`` None means chunks, -1 means that the end of the connection ends the body."""
        framing = b"transfer-encoding: chunked\r\n" if length is None else b"" if length < 0 else b"content-length: %d\r\n" % length
        closing = b"" if self._keep_alive else b"connection: close\r\n"
        return b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\n%b%b%b\r\n" % (
            status, REASONS.get(status, b"Status"), content_type, framing, closing, headers
        )  # fmt: skip

    def respond(self, status: int, content_type: bytes, body: bytes, headers: bytes = b"") -> None:
        """A whole, orderly answer."""
        self.transport.write(self.head(status, content_type, len(body), headers) + body)
        self.finish()

    def finish(self) -> None:
        """The answer is handed over: close if either side wants that, else go on with the next request."""
        self.entry = None
        self._busy = False
        if not self._keep_alive:
            self.transport.close()
        elif self._waiting and not self.closed:
            self._begin(self._waiting.popleft())

    def will_close(self) -> None:
        """This answer is the last of the connection."""
        self._keep_alive = False

    def hang_up(self, reset: bool) -> None:
        """End the connection in the middle of things, with FIN or with RST."""
        self.entry = None
        self._waiting.clear()
        self._keep_alive = False
        if reset:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.close()


class Pump:
    """Writes blocks one after the other: as quickly as the socket takes them, or one every ``interval`` seconds."""

    def __init__(self, connection: Connection, blocks: Iterator[bytes], interval: float, end: Callable[[], bytes]) -> None:
        """``end`` is called when the blocks are used up, before the last ones are written, and gives the completing bytes.

        The connection's state is up to `after`, set by the caller, which runs once all is written.
        """
        self._connection, self._blocks, self._interval, self._end = connection, blocks, interval, end
        self._due = connection.loop.time()
        self.after: Callable[[], None] = connection.finish

    def start(self) -> None:
        if self._interval > 0:
            self._paced()
        else:
            self._unpaced()

    def _unpaced(self) -> None:
        connection = self._connection
        if connection.closed:
            return
        batch: list[bytes] = []
        size = 0
        for block in self._blocks:
            batch.append(block)
            size += len(block)
            if size >= BATCH:
                connection.transport.write(b"".join(batch))
                if connection.paused:
                    connection.on_resume = self._unpaced
                else:
                    connection.loop.call_soon(self._unpaced)
                return
        self._finish(b"".join(batch))

    def _paced(self) -> None:
        connection = self._connection
        if connection.closed:
            return
        if connection.paused:
            connection.on_resume = self._paced
            return
        block = next(self._blocks, None)
        if block is None:
            self._finish(b"")
            return
        connection.transport.write(block)
        self._due += self._interval
        connection.later(max(self._due - connection.loop.time(), 1e-6), self._paced)

    def _finish(self, rest: bytes) -> None:
        rest += self._end()
        if rest:
            self._connection.transport.write(rest)
        self.after()


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """``data`` in pieces of at most ``size`` bytes."""
    return (data[at : at + size] for at in range(0, len(data), size))
