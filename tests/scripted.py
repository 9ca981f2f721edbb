"""A provider on a loopback socket that answers every connection with given bytes, for what the simulator does not do wrong."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator


class Scripted:
    """``answer`` is what the next connection gets; None: silence until the client leaves. ``answers`` go before it where one is for the
    request line and body (``GET /v1/models``, ``POST /api/show {"model":"a"}``). ``requests`` are the heads that came."""

    def __init__(self) -> None:
        self.answer: bytes | None = b""
        self.answers: dict[str, bytes | None] = {}
        self.requests: list[str] = []
        self.url = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.requests.append(head)
            length = re.search(r"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(length[1])) if length else b""
            answer = self.answers.get(f"{head.splitlines()[0].removesuffix(' HTTP/1.1')} {body.decode()}".strip(), self.answer)
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @property
    def root(self) -> str:
        """The URL without a path."""
        return self.url.removesuffix("/v1")

    def models(self, *names: str) -> None:
        """Answer with a list of these models."""
        entries = ", ".join(f'{{"id": "{name}", "object": "model", "owned_by": "them"}}' for name in names)
        self.answer = reply(f'{{"object": "list", "data": [{entries}]}}'.encode())


def reply(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """An HTTP answer."""
    head = "\r\n".join((f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers))
    return head.encode() + b"\r\n\r\n" + body


@contextlib.asynccontextmanager
async def scripted() -> AsyncIterator[Scripted]:
    provider = Scripted()
    server = await asyncio.start_server(provider._serve, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield provider
    finally:
        server.close()
        await server.wait_closed()
