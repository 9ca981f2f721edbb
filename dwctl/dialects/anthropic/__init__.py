"""The dialect of Anthropic's Messages API: /v1/messages and /v1/messages/count_tokens."""

from typing import Any

from dwctl.dialects.answers import Answering
from dwctl.dialects.anthropic.errors import read_error, render_error, stream_error
from dwctl.dialects.anthropic.outgoing import DEFAULT_MAX_TOKENS, render_request
from dwctl.dialects.anthropic.rendering import PING, Renderer
from dwctl.dialects.anthropic.request import parse_count_request, parse_request
from dwctl.dialects.anthropic.response import parse_response, render_response
from dwctl.dialects.anthropic.stream import Parser
from dwctl.dialects.anthropic.usage import read_usage
from dwctl.dialects.canonical import Request
from dwctl.dialects.names import DialectName

DIALECT: DialectName = "anthropic"
PATH = "/messages"
STREAM_TYPE = "text/event-stream; charset=utf-8"


def parse_stream() -> Parser:
    return Parser()


def render_stream(request: Request, answering: Answering) -> Renderer:
    return Renderer(request, answering)


def render_count(tokens: int) -> dict[str, Any]:
    """The answer of count_tokens."""
    return {"input_tokens": tokens}


__all__ = [
    "DEFAULT_MAX_TOKENS",
    "DIALECT",
    "PATH",
    "PING",
    "STREAM_TYPE",
    "parse_count_request",
    "parse_request",
    "parse_response",
    "parse_stream",
    "read_error",
    "read_usage",
    "render_count",
    "render_error",
    "render_request",
    "render_response",
    "render_stream",
    "stream_error",
]
