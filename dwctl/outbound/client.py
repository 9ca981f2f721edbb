"""Connection pools behind a narrow interface.

Connecting is aiohttp's: its connector resolves names, races addresses, and speaks TLS. What passes over a connection is
`dwctl.outbound.connection`'s. What aiohttp's session adds (cookies, redirects, proxies, sniffed bodies, timers) nobody needs here, and
it costs more than all the rest of a request together.

Deadlines are the caller's (one timer for all phases of an exchange); only the wait for a TCP connection is bounded here.
"""

import asyncio
import errno
import functools
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from dwctl.clock import monotonic
from dwctl.outbound.addresses import is_denied
from dwctl.outbound.connection import HttpConnection, OutboundError, OutboundResponse
from dwctl.outbound.headers import VIA
from dwctl.outbound.trust import trusting

_KEEPALIVE_SECONDS = 15.0


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
    return OutboundError("reset", "the provider closed the connection")


class _Pool:
    """The connections of one endpoint, to each place that its URLs name."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._connector = aiohttp.TCPConnector(limit=0, force_close=True, resolver=_PublicResolver(), ttl_dns_cache=10, ssl=tls)
        self._places: dict[tuple[str, str | None, int | None], _Place] = {}

    async def connection(self, url: URL, timeout: aiohttp.ClientTimeout) -> HttpConnection:
        """A connection of its own to the URL's host, kept or new, on which nothing waits to be read. Raises OutboundError."""
        origin = (url.scheme, url.raw_host, url.port)
        place = self._places.get(origin)
        if place is None:
            place = self._places[origin] = _Place(_Address("GET", url.origin(), loop=asyncio.get_running_loop()))
        return place.take() or await self._connect(place, timeout)

    async def _connect(self, place: "_Place", timeout: aiohttp.ClientTimeout) -> HttpConnection:
        try:
            made = await self._connector.connect(place.address, [], timeout)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _fault(error) from None
        handler, transport = made.protocol, made.transport
        if handler is None or transport is None or transport.is_closing():
            made.close()
            raise OutboundError("reset", "the provider closed the connection")
        if handler.should_close:
            made.close()
            raise OutboundError("protocol", "the provider spoke first, which is not HTTP")
        return HttpConnection(made, transport, place)

    async def close(self) -> None:
        for place in self._places.values():
            place.close()
        await self._connector.close(abort_ssl=True)


class _Place:
    """Where to connect to, and the connections to it that wait for their next request; the last one used is the next."""

    def __init__(self, address: "_Address") -> None:
        self.address = address
        self._idle: list[HttpConnection] = []
        self._sweep: asyncio.TimerHandle | None = None

    def take(self) -> HttpConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_silent:
                return connection
            connection.close()
        return None

    def keep(self, connection: HttpConnection) -> None:
        connection.idle_since = monotonic()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(_KEEPALIVE_SECONDS, self._close_old)

    def forget(self, connection: HttpConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def _close_old(self) -> None:
        self._sweep = None
        oldest = monotonic() - _KEEPALIVE_SECONDS
        old = [connection for connection in self._idle if connection.idle_since <= oldest]
        self._idle = self._idle[len(old) :]
        for connection in old:
            connection.close()
        if self._idle:
            self._sweep = asyncio.get_running_loop().call_later(self._idle[0].idle_since - oldest, self._close_old)

    def close(self) -> None:
        """Keep nothing more; the connections are the connector's to close."""
        if self._sweep is not None:
            self._sweep.cancel()
        self._idle = []


class _Address(aiohttp.ClientRequest):
    """An address in the form that aiohttp's connector takes."""

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
        connected: Callable[[], None] | None = None,
    ) -> OutboundResponse:
        """Send one request and return when the answer's headers are there.

        ``connect_timeout`` in seconds bounds the TCP and TLS handshakes only; ``connected`` is called when there is a connection.
        Raises OutboundError.
        """
        if not isinstance(connect_timeout, aiohttp.ClientTimeout):
            connect_timeout = connect_bound(connect_timeout)
        head = _head(method, url, headers, body)
        # What the requests of one turn of the event loop have to write is written at its end, one right after the other: waking a reader
        # costs more than all the rest of a write, and one that was just woken need not be woken again.
        await asyncio.sleep(0)
        connection = await self._pool(pool).connection(url, connect_timeout)
        if connected is not None:
            connected()
        answer = connection.send(head, body)
        try:
            await answer.begun()
        except BaseException:
            answer.close()
            raise
        return answer

    async def drop(self, pool: str) -> None:
        """Close the pool of an endpoint that is gone."""
        dropped = self._pools.pop(pool, None)
        if dropped is not None:
            await dropped.close()

    async def close(self) -> None:
        while self._pools:
            _, pool = self._pools.popitem()
            await pool.close()


def _head(method: str, url: URL, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """The request line and the headers. Raises ValueError for one that would be more than a line."""
    lines = [f"{method} {url.raw_path_qs} HTTP/1.1\r\nhost: {url.host_port_subcomponent}\r\nvia: {VIA}\r\n"]
    lines.extend([f"{name}: {value}\r\n" for name, value in headers.items()])
    lines.append(f"content-length: {len(body)}\r\n\r\n" if body is not None else "\r\n")
    text = "".join(lines)
    ends = len(headers) + (5 if body is not None else 4)
    if text.count("\n") != ends or text.count("\r") != ends or "\0" in text:
        raise ValueError("a header holds the end of a line")
    return text.encode()


def connect_bound(seconds: float) -> aiohttp.ClientTimeout:
    """The prebuilt form of a connect timeout, for the hot path."""
    return aiohttp.ClientTimeout(total=None, connect=None, sock_connect=seconds, sock_read=None)
