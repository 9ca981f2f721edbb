"""One connection: how long a client may take to say what it wants, and to take what it is given.

An answer counts as sent when the system has all of it, and not before: as long as bytes wait here, the request is under way, and a
connection is neither idle nor closed. A client may be as slow as it likes, if only it takes something.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Any

from sanic.exceptions import RequestCancelled, RequestTimeout
from sanic.http.constants import Stage
from sanic.server.protocols.http_protocol import HttpProtocol

from dwctl.clock import monotonic
from dwctl.doorway.framing import StrictHttp
from dwctl.errors import ClientStalled

_TLS_PIECE = 64 * 1024
_CLOSING_PERIOD = 0.1
_TCP_INFO = struct.Struct("=24xI92xQ16xI")
"""Of Linux's ``struct tcp_info``: segments that are not acknowledged, bytes that are, bytes that are not sent. Other systems have none."""


class PatientProtocol(HttpProtocol):
    """Sanic's protocol, with a deadline that trickling bytes do not push back (slow-loris): for the head of every request, and for a
    body that Sanic reads itself. Bodies of model calls have the gateway's own deadline. A client that takes nothing of its
    answer for ``CLIENT_WRITE_TIMEOUT`` seconds (of Sanic's configuration) is dropped."""

    HTTP_CLASS = StrictHttp

    __slots__ = ("_leaving", "_owed", "endless")

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.endless = False
        """Whether what is being sent has no end of its own, and need not be waited for."""
        self._leaving = False
        self._owed = False
        """Whether the client had yet to get something when its connection was closed."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # Writing is paused from the first byte on that has to wait; uvloop's TLS would take 0 for always.
        transport.set_write_buffer_limits(1 if self._encrypts() else 0, 0)

    async def send(self, data: bytes) -> None:
        """Return when the system has all of ``data``. Raises RequestCancelled if the client is gone, ClientStalled if it now is
        because it took nothing."""
        if len(data) > _TLS_PIECE and self._encrypts():
            data = await self._send_pieces(data)
        if not self._can_write.is_set():
            await self._taken()
        transport = self.transport
        if transport is None or transport.is_closing():
            raise RequestCancelled
        transport.write(data)
        self._time = monotonic()
        if not self._can_write.is_set():
            await self._taken()
            self._time = monotonic()

    async def _send_pieces(self, data: bytes) -> bytes:
        """Send all but the last piece, which is returned: TLS takes whatever it is given, and does not say how much of it waits.

        Whoever is cancelled in the middle hands over the rest, so that what comes next does not stand in it.
        """
        if not self._can_write.is_set():
            await self._taken()
        sent = 0
        try:
            while len(data) - sent > _TLS_PIECE:
                sent += _TLS_PIECE
                await self.send(data[sent - _TLS_PIECE : sent])
        except asyncio.CancelledError:
            if self.transport is not None and not self.transport.is_closing():
                self.transport.write(data[sent:])
            raise
        return data[sent:]

    async def _taken(self) -> None:
        """Wait until nothing waits."""
        if self.transport is None:
            raise RequestCancelled
        limit = self.app.config.CLIENT_WRITE_TIMEOUT
        client = _Client(self.transport)
        while not self._can_write.is_set():
            if client.idle_seconds() >= limit:
                self._drop()
                raise ClientStalled
            try:
                async with asyncio.timeout(limit / 4):
                    await self._can_write.wait()
            except TimeoutError:
                pass

    def _drop(self) -> None:
        """Break off, so that the system does not go on offering what it holds."""
        connection = self.transport.get_extra_info("socket") if self.transport is not None else None
        if connection is not None:
            with contextlib.suppress(OSError, ValueError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()

    def _encrypts(self) -> bool:
        return self.conn_info is not None and self.conn_info.ssl

    def close(self, timeout: float | None = None) -> None:
        """Close, once the client has what it was sent. Sanic would give it a few seconds, and over TLS none."""
        if self.transport is None or self._leaving:
            return
        client = _Client(self.transport)
        client.idle_seconds()
        self._leaving, self._owed = True, not client.has_all
        timer: Any = self._callback_check_timeouts
        if timer is not None:
            timer.cancel()
        self.transport.close()
        self.loop.call_soon(self._see_off, client, False)

    def _see_off(self, client: "_Client", has_all: bool) -> None:
        """Called by a timer until the connection has ended. With TLS the client is to say that it leaves, too; who has it all is not
        waited for. ``has_all``: whether that was so a while ago, since uvloop may be about to send more."""
        if self.transport is None:
            return
        if self.conn_info is None or self.conn_info.lost:
            self.transport = None
            return
        if client.idle_seconds() >= self.app.config.CLIENT_WRITE_TIMEOUT:
            self._drop()
        elif has_all and client.has_all:
            self.abort()
        else:
            self.loop.call_later(_CLOSING_PERIOD, self._see_off, client, client.has_all)

    def close_if_idle(self) -> bool:
        """Close, unless a request has come, or an answer is under way that will end; whether it was closed."""
        if self.endless:
            self.close()
            return True
        return not self._has_unread and bool(super().close_if_idle())

    @property
    def answering(self) -> bool:
        """Whether the client is owed something yet."""
        return self._owed if self._leaving else self._has_unread or bool(self.http)

    @property
    def _has_unread(self) -> bool:
        """Whether bytes of a request have come that Sanic's task, which takes its turn, has yet to look at."""
        return self.http is not None and self.http.stage is Stage.IDLE and bool(self.recv_buffer)

    def data_received(self, data: bytes) -> None:
        since = self._time
        http = self.http
        awaited = http is not None and (http.stage is Stage.REQUEST or _reads_body(http))
        super().data_received(data)
        if awaited:
            self._time = since

    def check_timeouts(self) -> None:
        """Called by a timer. A request whose body is late is refused; when the refusal is out and the body still missing, cut off."""
        http = self.http
        now = monotonic()
        sends = not self._can_write.is_set()
        if self._task and http is not None and not sends and _reads_body(http) and now - self._time > self.request_timeout:
            if http.stage is Stage.HANDLER:
                http.exception = RequestTimeout()
            self._time = now
            self._callback_check_timeouts = self.loop.call_later(self.request_timeout / 2, self.check_timeouts)
            self._task.cancel()
        else:
            super().check_timeouts()


class _Client:
    """What a client takes of what it is sent: its system's word for it, so that neither buffers nor TLS stand between."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._seen = (-1, -1)
        self._since = 0.0
        self.has_all = False

    def idle_seconds(self) -> float:
        """Look; for how long it has taken nothing."""
        waiting, acknowledged, on_the_way = self._transport.get_write_buffer_size(), 0, 0
        connection = self._transport.get_extra_info("socket")
        if connection is not None and hasattr(socket, "TCP_INFO"):
            try:
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            except (OSError, ValueError):
                pass  # it has been closed
            else:
                unacknowledged, acknowledged, unsent = _TCP_INFO.unpack(info)
                on_the_way = unacknowledged + unsent
        self.has_all = not waiting and not on_the_way
        now = monotonic()
        if self._seen != (waiting, acknowledged):
            self._seen, self._since = (waiting, acknowledged), now
        return now - self._since


def _reads_body(http: Any) -> bool:
    """Whether bytes of a body are to come that no streaming handler asked for; Sanic lifts the size limit for those that do."""
    return bool(getattr(http, "request_body", None)) and http.request_max_size != float("inf")
