"""The client's side of an exchange, written straight to Sanic's connection.

The head of an answer is formed here, once, and sent with the first bytes: Sanic's own response objects would cost a sixth of the
gateway's time. What Sanic keeps for itself (parsing, keep-alive, backpressure, timeouts of the head) stays its own; when an answer
has ended, its connection finds the state that it would have left itself.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from sanic.http.constants import Stage
from sanic.request import Request
from sanic.response import BaseHTTPResponse

_ALWAYS = "x-content-type-options: nosniff\r\ncache-control: no-store\r\n"
_BEGINNINGS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n{_ALWAYS}" for status in HTTPStatus}


class _Sent(BaseHTTPResponse):
    """Stands for the answer that was already written."""

    async def send(self, data: Any = None, end_stream: bool | None = None) -> None:
        pass


_SENT = _Sent()
_SENT.status = 0


class SanicSink:
    """Writes one answer. ``started`` is true once its head was handed to the connection; ``lines`` are further lines of the head."""

    __slots__ = ("_chunked", "_headers", "_lines", "_request", "_status", "started")

    def __init__(self, request: Request, lines: str = "") -> None:
        self._request = request
        self._lines = lines
        self._status = 500
        self._headers: dict[str, str] = {}
        self._chunked = False
        self.started = False

    def head(self, status: int, headers: dict[str, str]) -> None:
        """Status and headers (names in lower case) of the answer; sent with its first bytes."""
        self._status = status
        self._headers = headers

    async def send(self, data: bytes, *, last: bool) -> None:
        """Hand bytes to the connection, as fast as the client takes them. Raises CancelledError if the client is gone."""
        stream: Any = self._request.stream
        if stream is None:
            raise asyncio.CancelledError
        data = self._framed(stream, data, last)
        if data:
            await stream.protocol.send(data)
        if last:
            stream.response_func = None
            stream.stage = Stage.IDLE

    def offer(self, data: bytes) -> None:
        """Hand over bytes that may as well be left out: not if the client is gone, or has yet to take what it was sent."""
        stream: Any = self._request.stream
        if stream is None:
            return
        protocol = stream.protocol
        if protocol.transport is not None and not protocol.transport.is_closing() and protocol._can_write.is_set():
            protocol.transport.write(self._framed(stream, data, False))

    def _framed(self, stream: Any, data: bytes, last: bool) -> bytes:
        if self.started:
            if self._chunked:
                data = b"%x\r\n%b\r\n%b" % (len(data), data, b"0\r\n\r\n" if last else b"") if data else b"0\r\n\r\n" if last else b""
        else:
            self.started = True
            data = self._first(stream, data, last)
            stream.response = _SENT
            stream.stage = Stage.RESPONSE
        return data

    def _first(self, stream: Any, data: bytes, last: bool) -> bytes:
        """The head, and the first bytes in the framing that the rest will have."""
        lines = [_BEGINNINGS.get(self._status) or f"HTTP/1.1 {self._status} \r\n{_ALWAYS}", self._lines]
        if self._status in (204, 304):  # these have no body, and no length (RFC 9110, 8.6)
            self._headers.pop("content-length", None)
            data = b""
        for name, value in self._headers.items():
            if "\n" not in value and "\r" not in value:
                lines.append(f"{name}: {value}\r\n")
        if last:
            if "content-length" not in self._headers and self._status not in (204, 304):
                lines.append(f"content-length: {len(data)}\r\n")
        elif "content-length" not in self._headers:
            if self._request.version == "1.0":
                stream.keep_alive = False  # an old client reads until the connection closes
            else:
                self._chunked = True
                lines.append("transfer-encoding: chunked\r\n")
                data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        if stream.expecting_continue:
            stream.expecting_continue = False
            stream.keep_alive = False
        lines.append("connection: keep-alive\r\n\r\n" if stream.keep_alive else "connection: close\r\n\r\n")
        return "".join(lines).encode("latin-1", "replace") + data

    def abort(self) -> None:
        """Break the connection."""
        transport: Any = self._request.transport
        if transport is not None:
            transport.abort()
