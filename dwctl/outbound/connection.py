"""One HTTP/1.1 connection to a provider, which takes one request after the other; its answers are read by llhttp."""

import asyncio
import select
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import httptools
from aiohttp.connector import Connection

Kind = Literal["connect", "connect_timeout", "reset", "truncated", "protocol", "denied", "too_large"]

_PIECE_BYTES = 64 * 1024
"""Up to this size head and body of a request are written as one piece, a larger body in several."""
_READ_BUFFER = 256 * 1024
"""Bytes of an answer that may wait for their reader, before the provider has to."""
_LONGEST_HEAD = 128 * 1024
"""Bytes of an answer that may come in a row without one of its body: heads, and what surrounds chunks."""
_SWITCHING_PROTOCOLS = 101


class OutboundError(Exception):
    """The provider could not be reached, or broke off. ``kind`` says how; the message never holds a secret."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class Keeper(Protocol):
    """Where connections are kept between their requests."""

    def keep(self, connection: "HttpConnection") -> None: ...

    def forget(self, connection: "HttpConnection") -> None: ...


class OutboundResponse:
    """Status and headers of an answer (names in lower case, of one name the first), and its bytes as they arrive."""

    __slots__ = ("_chunks", "_connection", "_ended", "_fault", "_waiter", "_waiting_bytes", "headers", "status")

    def __init__(self, connection: "HttpConnection") -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self._connection: HttpConnection | None = connection
        self._chunks: list[bytes] = []
        self._waiting_bytes = 0
        self._ended = False
        self._fault: OutboundError | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def begun(self) -> None:
        """Return when status and headers are there. Raises OutboundError."""
        while not self.status:
            if self._fault is not None:
                raise self._fault
            await self._news()

    async def read_chunk(self) -> bytes:
        """The next bytes, as soon as there are any; ``b""`` at the end. Raises OutboundError."""
        while not self._chunks:
            if self._fault is not None:
                raise self._fault
            if self._ended:
                return b""
            await self._news()
        chunks = self._chunks
        chunk = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._waiting_bytes = 0
        if self._connection is not None:
            self._connection.read_on()
        return chunk

    async def read(self, limit: int, heard: Callable[[], None] | None = None) -> bytes:
        """The whole body, at most ``limit`` bytes; ``heard`` is called when some came and more are to come.

        Raises OutboundError (``too_large`` beyond the limit).
        """
        chunks: list[bytes] = []
        size = 0
        while chunk := await self.read_chunk():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise OutboundError("too_large", f"the provider's answer is larger than {limit} bytes")
            if heard is not None and not self._ended:
                heard()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def close(self) -> None:
        """Drop the answer; the connection is used again only if the answer had come to its end."""
        if self._connection is not None:
            self._connection.close()

    async def _news(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the connection tells.

    def begin(self, status: int, headers: dict[str, str]) -> None:
        self.status, self.headers = status, headers
        self._wake()

    def take(self, chunk: bytes) -> bool:
        """Whether the provider should wait before it sends more."""
        self._chunks.append(chunk)
        self._waiting_bytes += len(chunk)
        self._wake()
        return self._waiting_bytes > _READ_BUFFER

    def end(self, fault: OutboundError | None = None) -> None:
        self._ended, self._fault, self._connection = fault is None, fault, None
        self._wake()

    def spoil(self, fault: OutboundError) -> None:
        """End it, and what nobody has read yet is not worth reading: where its end was declared, more has come."""
        self._chunks = []
        self.end(fault)


class HttpConnection(asyncio.Protocol):
    """A connection that was made, and takes one request after the other.

    ``socket`` is the connector's name for it, and is told when it ends. Between requests ``keeper`` has it.
    """

    def __init__(self, socket: Connection, transport: asyncio.Transport, keeper: Keeper) -> None:
        self.idle_since = 0.0
        self._fields: dict[bytes, bytes] = {}
        self.on_header = self._fields.setdefault
        """For llhttp: of one name the first counts."""
        self._socket = socket
        self._handler = socket.protocol
        self._transport = transport
        self._readable = select.poll()
        self._readable.register(transport.get_extra_info("socket"), select.POLLIN)
        self._keeper = keeper
        self._parser = httptools.HttpResponseParser(self)
        # As loose as other clients are: a provider's line ends and blanks cost nobody an answer.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._answer: OutboundResponse | None = None
        self._head_bytes = 0
        self._is_interim = False
        self._is_complete = False
        self._ends_by_closing = False
        self._can_be_kept = False
        self._is_paused = False
        transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    @property
    def is_silent(self) -> bool:
        """Whether it is open and nothing waits to be read, be it only its end: nobody has asked for anything."""
        return self.is_open and not self._readable.poll(0)

    def send(self, head: bytes, body: bytes | None) -> OutboundResponse:
        """Write a request; the answer to it has yet to begin."""
        self._answer = answer = OutboundResponse(self)
        self._head_bytes = 0
        self._is_complete = False
        if body and len(body) > _PIECE_BYTES:
            # In pieces, since TLS encrypts what it is given at once, and what it has encrypted cannot be counted or taken back.
            self._transport.write(head)
            whole = memoryview(body)
            for start in range(0, len(body), _PIECE_BYTES):
                self._transport.write(whole[start : start + _PIECE_BYTES])
        else:
            self._transport.write(head + body if body else head)
        return answer

    def read_on(self) -> None:
        if self._is_paused and self.is_open:
            self._is_paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        """End it, at once if it was in the middle of something: what was not sent or read by now is wanted by nobody."""
        if not self._is_complete or self._transport.get_write_buffer_size():
            self._transport.abort()
        self._socket.close()

    # asyncio's side

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            # What comes unasked would be read as the answer to the next request, whose sender is another than that of the last one.
            self._keeper.forget(self)
            self.close()
            return
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._can_be_kept = False
        except httptools.HttpParserError:
            self._break_off("the provider's answer is not valid HTTP")
            return
        if self._is_complete:
            self._finish(answer)
        elif self._head_bytes > _LONGEST_HEAD:
            self._break_off("the head of the provider's answer does not end")

    def connection_lost(self, exc: Exception | None) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            self._keeper.forget(self)
        elif not answer.status:
            answer.end(OutboundError("reset", "the provider closed the connection"))
        elif self._ends_by_closing and exc is None:
            answer.end()
        else:
            answer.end(OutboundError("truncated", "the provider's answer ended before its declared end"))
        self._socket.close()
        if self._handler is not None:
            self._handler.connection_lost(exc)

    def _finish(self, answer: OutboundResponse) -> None:
        """The answer is there: others may use the connection, unless the request has yet to be taken by the provider."""
        self._answer = None
        self.read_on()
        if self._can_be_kept and self.is_open and not self._transport.get_write_buffer_size():
            self._keeper.keep(self)
        else:
            self.close()
        answer.end()

    def _break_off(self, message: str) -> None:
        answer, self._answer = self._answer, None
        assert answer is not None
        answer.spoil(OutboundError("protocol", message))
        self.close()

    # llhttp's side

    def on_message_begin(self) -> None:
        self._fields.clear()
        if self._is_complete:
            self._can_be_kept = False  # an answer that nobody asked for follows the one that was

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        answer = self._answer
        if answer is None or self._is_complete:
            return
        if status < 100 or b"\0" in b"".join(self._fields.values()):
            raise ValueError("not a head of HTTP, which the parser has let pass")
        self._is_interim = status < 200 and status != _SWITCHING_PROTOCOLS
        if not self._is_interim:
            headers = {
                name.decode("latin-1").rstrip().lower(): value.decode("utf-8", "surrogateescape").rstrip(" \t")
                for name, value in reversed(self._fields.items())
            }
            self._ends_by_closing = "content-length" not in headers and "transfer-encoding" not in headers
            answer.begin(status, headers)

    def on_body(self, chunk: bytes) -> None:
        answer = self._answer
        self._head_bytes = 0
        if answer is not None and not self._is_complete and answer.take(chunk) and not self._is_paused and self.is_open:
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if not self._is_interim and not self._is_complete:
            self._is_complete = True
            self._can_be_kept = self._parser.should_keep_alive()
