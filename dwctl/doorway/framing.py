"""Where one request ends and the next begins: read as RFC 9112 has it and in no other way.

Whoever stands in front of the server may read loose framing otherwise than it does, and what is a body to one is a request to the
other. Sanic lets some of that pass; here it is refused with 400, and the connection ends.
"""

import re
from typing import Any

from sanic.exceptions import BadRequest
from sanic.http import Http
from sanic.http.http1 import HTTP_CONTINUE

from dwctl.errors import GatewayError, bad_request

_HEAD = re.compile(rb"[^\r\n\0]++(?:\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[^\x00-\x08\x0a-\x1f\x7f]*+)*+")
_LENGTH = re.compile(rb"\r\n(?:content-length:[ \t]*[0-9]+|transfer-encoding:[ \t]*chunked)[ \t]*(?:\r\n|\Z)")
_CHUNK = re.compile(rb"\r\n([0-9A-Fa-f]+)(?:;[^\r\n\0]*)?\r\n")
"""The end of what was before, and the line before a chunk."""
_LONGEST_CHUNK_LINE = 256


class StrictHttp(Http):
    """Sanic's connection, which looks again at what Sanic has taken for a request. Raises GatewayError 400 and BadRequest."""

    __slots__ = ()
    request: Any
    request_body: Any

    async def http1_request_header(self) -> None:
        await Http.http1_request_header(self)
        self.upgrade_websocket = False  # there are none here, and Sanic would look at no deadline any more
        if self.request._parsed_url.path is None:  # http://host alone: whatever handles a request takes a path for granted
            self.request = None
            self.request_body = None
            raise bad_request("The request's target has no path.")
        head = self.request.head
        if not _HEAD.fullmatch(head):
            raise self._faulty("A header's name is not a token, or its value holds a control character.")
        lowered = head.lower()
        hosts = lowered.count(b"\r\nhost:")
        if hosts != 1 and (hosts or self.request.version == "1.1"):
            raise self._faulty("The Host header must be there, and once.")
        # To Sanic blanks and digits are Unicode's; of those in ASCII the checks so far have left what HTTP knows.
        if not head.isascii() and self.request_body and not _LENGTH.search(lowered):
            raise self._faulty("Content-Length must be a number, or Transfer-Encoding 'chunked'.")

    def _faulty(self, what: str) -> GatewayError:
        self.request_body = None  # nobody knows where it ends
        self.request.conn_info = self.protocol.conn_info
        return bad_request(f"The request is not framed as HTTP asks for. {what}")

    async def read(self) -> bytes | None:
        if self.request_body == "chunked" and not self.request_bytes_left:
            await self._check_chunk()
        return await super().read()

    async def _check_chunk(self) -> None:
        """Return when the line before the next chunk is there; of the last chunk, which is empty, all of it.

        Sanic counts the body as read before it waits for the end of that one, and nobody would look how long it takes.
        """
        if self.expecting_continue:
            self.expecting_continue = False
            await self._send(HTTP_CONTINUE)
        buffer = self.recv_buffer
        while not (line := _CHUNK.match(buffer)):
            if buffer.find(b"\r\n", 2) >= 0 or len(buffer) > _LONGEST_CHUNK_LINE:
                self.keep_alive = False
                raise BadRequest("Bad chunked encoding")
            await self._receive_more()
        if not line[1].strip(b"0"):
            while len(buffer) < line.end() + 2:
                await self._receive_more()

    def create_empty_request(self) -> None:
        self.url = None  # a target that cannot be read is not read again for the refusal
        super().create_empty_request()
        self.request.conn_info = self.protocol.conn_info
