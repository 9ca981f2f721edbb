"""Bodies as they arrive: of nobody more than its receiver can use, and of whoever must say who they are nothing before that is known.

Handlers that use a body are ``streamed``, and read it themselves. What is left of it after the answer Sanic takes and drops, up to
``MOST_DROPPED`` bytes and for as long as a request may take to arrive, so that a client that is still sending gets to read the answer;
then it ends the connection.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import sanic
from sanic.exceptions import BadRequest

from dwctl.errors import INVALID, GatewayError, bad_request, body_overdue

MOST_DROPPED = 64 * 1024 * 1024
_MAX_BYTES = 1024 * 1024
"""Nothing that is administered comes near it, and decoding more would keep model calls waiting."""
_MAX_PUBLIC_BYTES = 16 * 1024
"""From somebody unknown, whom nothing has slowed down yet."""
_NEVER_PAUSED_BYTES = 32 * 1024
"""A body up to this size does not fill Sanic's buffer (64 kB, head included)."""

_Handler = TypeVar("_Handler", bound=Callable[..., Any])


class LeanRequest(sanic.Request):
    """Sanic's request, whose body nobody keeps who has not asked for it."""

    async def receive_body(self) -> None:
        """Called by Sanic before a handler that is not ``streamed``. The next request begins where this body ends; nothing is kept."""
        stream: Any = self.stream
        async for _ in stream:
            pass


def streamed(handler: _Handler) -> _Handler:
    """Mark a handler that reads bodies itself. Returns it."""
    handler.is_stream = True  # type: ignore[attr-defined]
    return handler


async def read_body(request: sanic.Request, limit: int) -> bytes:
    """All of a body, of so many bytes at most; 0: no limit. Raises GatewayError 400 and 413."""
    stream: Any = request.stream
    if stream is None or not stream.request_body:
        return b""
    if limit and stream.request_bytes > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        while stream.request_body:
            chunk = await stream.read()
            if chunk:
                chunks.append(chunk)
                size += len(chunk)
                if limit and size > limit:
                    raise _too_large(limit)
    except BadRequest:
        raise bad_request("The request body is not framed as HTTP asks for.") from None
    transport: Any = request.transport
    if size > _NEVER_PAUSED_BYTES and transport is not None and not transport.is_closing():
        # Sanic pauses a connection that has much to be read, and only one that is read tells that the client has left.
        transport.resume_reading()
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def take_body(request: sanic.Request, *, public: bool, seconds: float) -> None:
    """Read ``request.body`` where no model is called: of somebody unknown if ``public``, in so many seconds. Raises GatewayError 400,
    408 and 413."""
    try:
        async with asyncio.timeout(seconds):
            request.body = await read_body(request, _MAX_PUBLIC_BYTES if public else _MAX_BYTES)
    except TimeoutError:
        raise body_overdue() from None


def _too_large(limit: int) -> GatewayError:
    return GatewayError(413, INVALID, "payload_too_large", f"Request body too large: the maximum allowed size is {limit} bytes.")
