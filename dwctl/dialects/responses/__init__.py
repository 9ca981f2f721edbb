"""OpenAI's Responses, and Open Responses, which is the same with a few fields more.

In an answer every field of the response object is there. Reasoning comes as content where it is the model's own thought, and as
summary where the provider gives no more; asked for ``reasoning.encrypted_content`` it carries an envelope with which any provider
gets its thoughts back.
"""

from dwctl.dialects.answers import Answering
from dwctl.dialects.canonical import Request
from dwctl.dialects.codec import StreamParser, StreamRenderer
from dwctl.dialects.names import DialectName
from dwctl.dialects.openai_usage import read_usage
from dwctl.dialects.responses.answer_reading import parse_response
from dwctl.dialects.responses.answer_rendering import Renderer, render_response
from dwctl.dialects.responses.client_request import parse_request
from dwctl.dialects.responses.errors import read_error, render_error, stream_error
from dwctl.dialects.responses.provider_request import render_request
from dwctl.dialects.responses.stream_reading import Parser
from dwctl.dialects.sse import PING

DIALECT: DialectName = "openai-responses"
PATH = "/responses"
STREAM_TYPE = "text/event-stream; charset=utf-8"


def parse_stream() -> StreamParser:
    return Parser()


def render_stream(request: Request, answering: Answering) -> StreamRenderer:
    return Renderer(request, answering)


__all__ = [
    "DIALECT",
    "PATH",
    "PING",
    "STREAM_TYPE",
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
