"""aiohttp's connections behind a narrow interface.

Pools, name resolution, TLS, and the parsing of answers are aiohttp's: its connector and its response handler. The request itself is
written here as one piece of bytes, and the answer is read off the handler: what aiohttp's session adds (cookies, redirects, proxies,
sniffed bodies, timers) nobody needs here, and it costs more than all the rest of a request together.

Deadlines are the caller's (one timer for all phases of an exchange); only the wait for a TCP connection is bounded here.
"""

import asyncio
import errno
import functools
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Literal

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from aiohttp.resolver import ThreadedResolver
from aiohttp.streams import EofStream
from yarl import URL

from dwctl.outbound.addresses import is_denied
from dwctl.outbound.trust import trusting

Kind = Literal["connect", "connect_timeout", "reset", "truncated", "protocol", "denied", "too_large"]

_KEEPALIVE_SECONDS = 15.0
_READ_BUFFER = 256 * 1024
_JOINED_BYTES = 64 * 1024
"""Up to this size head and body of a request are written as one piece."""


class OutboundError(Exception):
    """The provider could not be reached, or broke off. ``kind`` says how; the message never holds a secret."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class _PublicResolver(AbstractResolver):
    """Resolves names as the system does and refuses addresses that must never be called."""

    def __init__(self) -> None:
        self._inner = ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        results = await self._inner.resolve(host, port, family)
        allowed = [result for result in results if not is_denied(result["host"])]
        if not allowed:
            raise OSError(errno.EACCES, "the name resolves to an address that is not allowed")
        return allowed

    async def close(self) -> None:
        await self._inner.close()


def _fault(error: Exception) -> OutboundError:
    """Translate what aiohttp raises; the library's own texts can hold URLs, so only their kind is kept."""
    if isinstance(error, aiohttp.ServerTimeoutError | TimeoutError):
        return OutboundError("connect_timeout", "no connection to the provider within the connect timeout")
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return OutboundError("connect", "TLS handshake with the provider failed")
    if isinstance(error, aiohttp.ClientConnectorError):
        if error.os_error.errno == errno.EACCES:
            return OutboundError("denied", "the provider's name resolves to an address that is not allowed")
        reason = error.os_error.strerror or "connection failed"
        return OutboundError("connect", f"cannot connect to the provider: {reason}")
    if isinstance(error, aiohttp.ClientPayloadError):
        return OutboundError("truncated", "the provider's answer ended before its declared end")
    if isinstance(error, HttpProcessingError):
        return OutboundError("protocol", "the provider's answer is not valid HTTP")
    return OutboundError("reset", "the provider closed the connection")


class OutboundResponse:
    """Status and headers of an answer, and its bytes as they arrive."""

    __slots__ = ("_connection", "_content", "headers", "status")

    def __init__(self, connection: Connection, message: Any, content: aiohttp.StreamReader) -> None:
        self._connection = connection
        self._content = content
        self.status: int = message.code
        self.headers: Mapping[str, str] = message.headers
        content.on_eof(self._ended)

    def _ended(self) -> None:
        """The answer is there: others may use the connection, unless the request has yet to be taken by the provider."""
        transport = self._connection.transport
        if transport is None or transport.get_write_buffer_size():
            self._connection.close()
        else:
            self._connection.release()

    async def read_chunk(self) -> bytes:
        """The next bytes, as soon as there are any; ``b""`` at the end. Raises OutboundError."""
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise _fault(error) from None

    async def read(self, limit: int, heard: Callable[[], None] | None = None) -> bytes:
        """The whole body, at most ``limit`` bytes; ``heard`` is called when some came and more are to come.

        Raises OutboundError (``too_large`` beyond the limit).
        """
        chunk = await self.read_chunk()
        if self._content.at_eof():
            if len(chunk) > limit:
                raise OutboundError("too_large", f"the provider's answer is larger than {limit} bytes")
            return chunk
        chunks = [chunk]
        size = len(chunk)
        while chunk:
            if size > limit:
                raise OutboundError("too_large", f"the provider's answer is larger than {limit} bytes")
            if heard is not None:
                heard()
            chunk = await self.read_chunk()
            chunks.append(chunk)
            size += len(chunk)
        return b"".join(chunks)

    def close(self) -> None:
        """Drop the answer; the connection is reused only if the answer was read to its end."""
        self._connection.close()


class _Pool:
    """The connections of one endpoint."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._connector = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=_KEEPALIVE_SECONDS, resolver=_PublicResolver(), ttl_dns_cache=10, ssl=tls
        )
        self._places: dict[tuple[str, str | None, int | None], _Place] = {}

    async def connect(self, url: URL, timeout: aiohttp.ClientTimeout) -> Connection:
        """A connection of its own to the URL's host, kept or new, on which nothing waits to be read. Raises what aiohttp raises."""
        origin = (url.scheme, url.raw_host, url.port)
        place = self._places.get(origin)
        if place is None:
            place = self._places[origin] = _Place("GET", url.origin(), loop=asyncio.get_running_loop())
        while True:
            connection = await self._connector.connect(place, [], timeout)
            handler = connection.protocol
            assert handler is not None
            if not handler.should_close:
                return connection
            # What came unasked would be read as the answer to this request, whose sender is another than that of the last one.
            is_new = handler._parser is None
            connection.close()
            if is_new:
                raise HttpProcessingError(message="the provider spoke first")

    async def close(self) -> None:
        await self._connector.close()


class _Place(aiohttp.ClientRequest):
    """Where to connect to, in the form that aiohttp's connector takes."""

    @functools.cached_property
    def connection_key(self) -> Any:
        return super().connection_key


class Outbound:
    """Connection pools, one an endpoint (``pool`` is its id)."""

    def __init__(self) -> None:
        self._pools: dict[str, _Pool] = {}
        self._tls: ssl.SSLContext | None = None

    def _pool(self, name: str) -> _Pool:
        pool = self._pools.get(name)
        if pool is None:
            if self._tls is None:
                self._tls = trusting()
            pool = self._pools[name] = _Pool(self._tls)
        return pool

    async def send(
        self,
        *,
        pool: str,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | None,
        connect_timeout: aiohttp.ClientTimeout | float,
    ) -> OutboundResponse:
        """Send one request and return when the answer's headers are there.

        ``connect_timeout`` in seconds bounds the TCP and TLS handshakes only. Raises OutboundError.
        """
        if not isinstance(connect_timeout, aiohttp.ClientTimeout):
            connect_timeout = connect_bound(connect_timeout)
        head = _head(method, url, headers, body)
        try:
            connection = await self._pool(pool).connect(url, connect_timeout)
        except (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError) as error:
            raise _fault(error) from None
        try:
            handler = connection.protocol
            assert handler is not None
            handler.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=_READ_BUFFER)
            _write(handler, head, body)
            while True:
                message, content = await handler.read()
                if message.code >= 200 or message.code == 101:
                    return OutboundResponse(connection, message, content)
        except (aiohttp.ClientError, HttpProcessingError, OSError, EofStream) as error:
            connection.close()
            raise _fault(error) from None
        except BaseException:
            connection.close()
            raise

    async def drop(self, pool: str) -> None:
        """Close the pool of an endpoint that is gone."""
        dropped = self._pools.pop(pool, None)
        if dropped is not None:
            await dropped.close()

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.close()
        self._pools.clear()


def _head(method: str, url: URL, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """The request line and the headers. Raises ValueError for one that would be more than a line."""
    lines = [f"{method} {url.raw_path_qs} HTTP/1.1\r\nhost: {url.host_port_subcomponent}\r\n"]
    lines.extend([f"{name}: {value}\r\n" for name, value in headers.items()])
    lines.append(f"content-length: {len(body)}\r\n\r\n" if body is not None else "\r\n")
    text = "".join(lines)
    ends = len(headers) + (4 if body is not None else 3)
    if text.count("\n") != ends or text.count("\r") != ends or "\0" in text:
        raise ValueError("a header holds the end of a line")
    return text.encode()


def _write(handler: ResponseHandler, head: bytes, body: bytes | None) -> None:
    transport = handler.transport
    if transport is None:
        raise ConnectionResetError
    if body and len(body) > _JOINED_BYTES:
        transport.writelines((head, body))
    else:
        transport.write(head + body if body else head)


def connect_bound(seconds: float) -> aiohttp.ClientTimeout:
    """The prebuilt form of a connect timeout, for the hot path."""
    return aiohttp.ClientTimeout(total=None, connect=None, sock_connect=seconds, sock_read=None)
