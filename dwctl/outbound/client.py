"""aiohttp behind a narrow interface.

Deadlines are the caller's (one timer for all phases of an exchange); only the wait for a TCP connection is bounded here.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Literal

import aiohttp
import certifi
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from dwctl.outbound.addresses import is_denied

Kind = Literal["connect", "connect_timeout", "reset", "truncated", "protocol", "denied", "too_large"]

_SKIP = frozenset({"User-Agent", "Accept", "Accept-Encoding", "Content-Type"})
_KEEPALIVE_SECONDS = 15.0
_READ_BUFFER = 256 * 1024


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
    if isinstance(error, aiohttp.ClientResponseError):
        return OutboundError("protocol", "the provider's answer is not valid HTTP")
    return OutboundError("reset", "the provider closed the connection")


class OutboundResponse:
    """Status and headers of an answer, and its bytes as they arrive."""

    __slots__ = ("_content", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._content = response.content
        self.status = response.status
        self.headers = response.headers

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
        self._response.close()


class Outbound:
    """Connection pools, one an endpoint (``pool`` is its id)."""

    def __init__(self) -> None:
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._tls: ssl.SSLContext | None = None

    def _session(self, pool: str) -> aiohttp.ClientSession:
        session = self._sessions.get(pool)
        if session is None:
            if self._tls is None:
                self._tls = ssl.create_default_context()
                self._tls.load_verify_locations(certifi.where())
            connector = aiohttp.TCPConnector(
                limit=0, keepalive_timeout=_KEEPALIVE_SECONDS, resolver=_PublicResolver(), ttl_dns_cache=10, ssl=self._tls
            )
            session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=_SKIP,
                read_bufsize=_READ_BUFFER,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            )
            self._sessions[pool] = session
        return session

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
        try:
            response = await self._session(pool).request(
                method, url, headers=headers, data=body, allow_redirects=False, timeout=connect_timeout
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _fault(error) from None
        return OutboundResponse(response)

    async def drop(self, pool: str) -> None:
        """Close the pool of an endpoint that is gone."""
        session = self._sessions.pop(pool, None)
        if session is not None:
            await session.close()

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


def connect_bound(seconds: float) -> aiohttp.ClientTimeout:
    """The prebuilt form of a connect timeout, for the hot path."""
    return aiohttp.ClientTimeout(total=None, connect=None, sock_connect=seconds, sock_read=None)
