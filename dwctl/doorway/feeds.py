"""Server-sent events for pages (WHATWG HTML, 9.2): messages with ids that a page can resume from, a sign of life, a proper end.

Only unnamed messages put HTML into a page; the one named event, ``end``, tells the page to stop asking. It is sent when there is
nothing more to come, and when whoever listens may no longer. That is looked up anew when a session ends or an account changes, and
so often besides that it holds within a minute, as for a session whose time has run out.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from sanic.response import ResponseStream

from dwctl.clock import monotonic
from dwctl.doorway.context import Context, Parts
from dwctl.errors import GatewayError
from dwctl.store import StoreUnavailable

HEARTBEAT_SECONDS = 15.0
RECHECK_SECONDS = 60.0 - HEARTBEAT_SECONDS
MOST_FEEDS = 20
"""What one person may follow at once. What happens is told to each of their feeds."""

_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no", "x-content-type-options": "nosniff"}


class Message(msgspec.Struct, frozen=True):
    """One message. ``id`` orders messages of a feed, across restarts too; ``html`` is what the page takes in."""

    id: str
    html: str

    def encode(self) -> str:
        lines = "".join(f"data: {line}\n" for line in self.html.splitlines()) or "data:\n"
        return f"id: {self.id}\n{lines}\n"


def feed(context: Context[Parts], messages: Callable[[str | None], AsyncIterator[Message]]) -> ResponseStream:
    """A page's feed. ``messages`` is called with the id of the last message that the page has seen, None at first.
    Raises GatewayError 429."""
    # An answer to a form is no feed that somebody keeps open: it ends by itself.
    listener = context.visitor.user_id if context.visitor is not None and context.request.method == "GET" else None
    listening = context.services.listening
    if listener is not None and listening[listener] >= MOST_FEEDS:
        raise GatewayError(
            429,
            "rate_limit_error",
            "too_many_feeds",
            f"You follow {MOST_FEEDS} lists already, as many as one person may at once. Close pages that you do not need, and reload this.",
        )
    last = context.request.headers.get("last-event-id") or None

    async def stream(response: Any) -> None:
        if listener is None:
            await follow(response)
            return
        http: Any = context.request.stream
        connection = http.protocol
        listening[listener] += 1
        connection.endless = True
        try:
            await follow(response)
        finally:
            connection.endless = False
            listening[listener] -= 1
            if not listening[listener]:
                del listening[listener]

    async def follow(response: Any) -> None:
        await response.write(": here\n\n")
        iterator = messages(last)
        upcoming: asyncio.Task[Message] | None = None
        changed = _next_change(context)
        checked = monotonic()
        try:
            while True:
                upcoming = upcoming or asyncio.ensure_future(anext(iterator))
                await asyncio.wait({upcoming, changed}, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if changed.done() or monotonic() - checked >= RECHECK_SECONDS:
                    changed.cancel()
                    changed = _next_change(context)
                    checked = monotonic()
                    if not await _still_admitted(context):
                        break
                if not upcoming.done():
                    await response.write(": still here\n\n")
                    continue
                try:
                    message = upcoming.result()
                except StopAsyncIteration:
                    break
                upcoming = None
                await response.write(message.encode())
            await response.write("event: end\ndata:\n\n")
        finally:
            changed.cancel()
            if upcoming is not None:
                upcoming.cancel()

    return ResponseStream(stream, headers=_HEADERS, content_type="text/event-stream; charset=utf-8")


def _next_change(context: Context[Parts]) -> "asyncio.Task[bool]":
    return asyncio.ensure_future(context.services.access.next().wait())


async def _still_admitted(context: Context[Parts]) -> bool:
    try:
        await context.readmit()
    except GatewayError:
        return False
    except StoreUnavailable:
        return True  # it cannot be known, and was so a minute ago
    return True
