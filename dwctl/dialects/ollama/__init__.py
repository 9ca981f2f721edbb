"""Ollama's native API, ``/api/chat`` (docs.ollama.com: API reference, "Generate a chat message", "Streaming", "Errors").

Streams are JSON objects, one a line, the last with ``done``. Durations are left out: nobody here measures them, and Ollama leaves
out those that are zero.
"""

from typing import Any

from dwctl.dialects.answers import Answering, Response
from dwctl.dialects.canonical import Request
from dwctl.dialects.codec import StreamParser, StreamRenderer
from dwctl.dialects.names import DialectName
from dwctl.dialects.ollama import response, stream
from dwctl.dialects.ollama.errors import read_error, render_error, stream_error
from dwctl.dialects.ollama.rendering import render_request
from dwctl.dialects.ollama.request import loads, parse_request
from dwctl.dialects.ollama.usage import read_usage

__all__ = [
    "DIALECT",
    "PATH",
    "PING",
    "STREAM_TYPE",
    "loads",
    "parse_request",
    "parse_response",
    "parse_stream",
    "read_error",
    "read_usage",
    "render_error",
    "render_request",
    "render_response",
    "render_stream",
    "stream_error",
]

DIALECT: DialectName = "ollama"
PATH = "/api/chat"
STREAM_TYPE = "application/x-ndjson"
PING = b""
"""Nothing: clients take every line for JSON, also an empty one, and fail on it."""


def parse_response(body: dict[str, Any]) -> Response:
    return stream.whole(body, response.message_of)


def render_response(response_: Response, request: Request, answering: Answering) -> dict[str, Any]:
    return response.rendered(response_, answering, response.message)


def parse_stream() -> StreamParser:
    return stream.Parser(response.message_of)


def render_stream(request: Request, answering: Answering) -> StreamRenderer:
    return stream.Renderer(answering, response.message)
