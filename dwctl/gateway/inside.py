"""A call of a model from inside the program, for somebody who is known already: the same exchange, whose answer is read here.

Nothing goes out and in again over HTTP. Whoever reads slowly slows the provider down, as a client on a connection would.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from multidict import CIMultiDict

from dwctl.errors import ClientStalled, GatewayError
from dwctl.gateway.exchange import Exchange
from dwctl.ledger.records import Record

if TYPE_CHECKING:
    from dwctl.accounts.principals import Principal
    from dwctl.gateway.gateway import Gateway

_CHUNKS = 64
"""Pieces of an answer that may wait to be read."""


class _QueueSink:
    """Keeps an answer for its reader, who may take nothing for so many seconds."""

    def __init__(self, patience: float) -> None:
        self.started = False
        self.is_json = False
        self._patience = patience
        self._blocked: asyncio.Task[None] | None = None
        self.waiting: asyncio.Queue[bytes] = asyncio.Queue(_CHUNKS)

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.is_json = "json" in headers.get("content-type", "")

    async def send(self, data: bytes, *, last: bool) -> None:
        self.started = True
        self._blocked = asyncio.current_task()
        try:
            async with asyncio.timeout(self._patience):
                await self.waiting.put(data)
        except TimeoutError:
            raise ClientStalled from None
        finally:
            self._blocked = None

    def offer(self, data: bytes) -> None:
        """What may be left out is: the reader gives its own signs of life."""

    def abort(self) -> None:
        """The reader sees by the record that the answer did not end; nobody waits for it any more."""
        if self._blocked is not None:
            self._blocked.cancel()


class InsideCall:
    """One call that is under way from the moment it is made. ``body`` is JSON, ``path`` as below the API's root."""

    def __init__(self, gateway: "Gateway", principal: "Principal", path: str, body: bytes, client_ip: str | None) -> None:
        self._sink = _QueueSink(gateway.config.timeouts.client_write)

        async def read_body(limit: int) -> bytes:
            if limit and len(body) > limit:
                raise GatewayError(413, "invalid_request_error", "payload_too_large", "The request is too large.")
            return body

        headers = CIMultiDict({"content-type": "application/json"})
        self._exchange = Exchange(
            gateway, self._sink, read_body, path=path, query="", headers=headers, client_ip=client_ip, principal=principal
        )
        self._records = gateway.events.subscribe(lambda payload: isinstance(payload, Record) and payload.id == self.id)
        self._records.__enter__()
        self._task = self._exchange.task = asyncio.create_task(self._exchange.run(), name="inside call")
        self._task.add_done_callback(lambda _: self._records.__exit__(None, None, None))

    @property
    def id(self) -> str:
        """The request's id, under which it is recorded."""
        return self._exchange.id

    @property
    def is_json(self) -> bool:
        """Whether the answer is one JSON text, and not a stream of events; known from the first bytes on."""
        return self._sink.is_json

    async def chunks(self) -> AsyncIterator[bytes]:
        """The answer's bytes, as they come, until the call has ended."""
        waiting = self._sink.waiting
        while not self._task.done() or not waiting.empty():
            upcoming = asyncio.ensure_future(waiting.get())
            try:
                await asyncio.wait({upcoming, self._task}, return_when=asyncio.FIRST_COMPLETED)
                if upcoming.done():
                    yield upcoming.result()
            finally:
                upcoming.cancel()

    async def record(self) -> Record | None:
        """What is kept of the call, once it has ended; None if that cannot be known."""
        await asyncio.wait({self._task})
        event = await self._records.next(0.1)
        payload = getattr(event, "payload", None)
        return payload if isinstance(payload, Record) else None

    def stop(self) -> None:
        """Leave, as a client that hangs up: the provider is let go. Nothing happens if the call has ended."""
        self._task.cancel()
