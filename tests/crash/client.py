"""A client that knows exactly what it received: HTTP/1.1 by hand, a connection each.

"In full" is the point of it: the declared length or the last chunk of a whole answer was read, or the terminal event
``data: [DONE]`` of a stream. A library would hide the difference between a stream that ended and one that broke off.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from tests.appliance import KEY

TERMINAL = b"data: [DONE]"
_BROKEN = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, EOFError)


class Answer(msgspec.Struct):
    """What one request brought. ``status`` is 0 if not even a head arrived."""

    status: int = 0
    headers: dict[str, str] = {}
    body: bytes = b""
    in_full: bool = False
    left: bool = False
    """The client itself went away before the end."""

    @property
    def id(self) -> str | None:
        return self.headers.get("x-request-id")

    @property
    def ok(self) -> bool:
        """A whole answer of the model's, and no error inside the stream."""
        return self.status == 200 and self.in_full and b'data: {"error":' not in self.body

    @property
    def error(self) -> dict[str, Any]:
        """The ``error`` object of a JSON answer."""
        found: dict[str, Any] = json.loads(self.body)["error"]
        return found

    @property
    def code(self) -> str | None:
        found: str | None = self.error["code"]
        return found


class Client:
    """One connection, kept open between requests and made anew when it broke."""

    def __init__(self, port: int, *, secret: str = KEY, host: str = "127.0.0.1") -> None:
        self._host, self._port, self._secret = host, port, secret
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def connect(self) -> None:
        """Raises OSError."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=1 << 20)

    def close(self) -> None:
        """Leave at once, whatever is under way."""
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.transport.abort()

    async def post(self, path: str, body: Mapping[str, Any], *, leave_after: int | None = None) -> Answer:
        """Send a request and read its answer as far as it comes. Raises OSError only if there is no connection at all.

        ``leave_after``: go away after this many bytes of the body; 0 is right after the request was sent.
        """
        payload = msgspec.json.encode(body)
        await self.connect()
        answer = Answer()
        try:
            await self._exchange(answer, path, payload, leave_after)
        except _BROKEN:
            self.close()
        except BaseException:
            self.close()
            raise
        return answer

    async def _exchange(self, answer: Answer, path: str, payload: bytes, leave_after: int | None) -> None:
        reader, writer = self._reader, self._writer
        assert reader is not None
        assert writer is not None
        writer.write(
            b"POST %b HTTP/1.1\r\nHost: dwctl\r\nAuthorization: Bearer %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (path.encode(), self._secret.encode(), len(payload), payload)
        )
        if leave_after == 0:
            await writer.drain()
            answer.left = True
            self.close()
            return
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        answer.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        answer.status = int(head[0].split()[1])
        if "content-length" in answer.headers:
            answer.body = await reader.readexactly(int(answer.headers["content-length"]))
            answer.in_full = True
        else:
            await self._chunks(answer, reader, leave_after)
        if answer.headers.get("connection", "").lower() == "close":
            self.close()

    async def _chunks(self, answer: Answer, reader: asyncio.StreamReader, leave_after: int | None) -> None:
        is_stream = answer.headers["content-type"].startswith("text/event-stream")
        while size := int(await reader.readuntil(b"\r\n"), 16):
            answer.body += (await reader.readexactly(size + 2))[:-2]
            answer.in_full = is_stream and TERMINAL in answer.body[-2 * size - len(TERMINAL) :]
            if leave_after is not None and len(answer.body) >= leave_after and not answer.in_full:
                answer.left = True
                self.close()
                return
        await reader.readexactly(2)
        if not is_stream:
            answer.in_full = True


async def one(port: int, path: str, body: Mapping[str, Any], *, leave_after: int | None = None) -> Answer:
    """A request on a connection of its own."""
    client = Client(port)
    try:
        with contextlib.suppress(OSError):
            return await client.post(path, body, leave_after=leave_after)
        return Answer()
    finally:
        client.close()


CHAT = "/ai/v1/chat/completions"


def chat(model: str, *, stream: bool = False, text: str = "Say something short", **fields: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream, **fields}
