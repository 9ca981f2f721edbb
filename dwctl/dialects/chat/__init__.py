"""OpenAI's Chat Completions (API reference: chat completions), and what the many servers that speak it have added.

Read leniently: both names of the limit on output, the old ``functions``, every spelling of reasoning. Written so that the most
servers take it.
"""

from dwctl.dialects.chat.errors import read_error, render_error, stream_error
from dwctl.dialects.chat.read_request import parse_request
from dwctl.dialects.chat.response import parse_response, render_response
from dwctl.dialects.chat.stream_in import parse_stream
from dwctl.dialects.chat.stream_out import render_stream
from dwctl.dialects.chat.write_request import render_request
from dwctl.dialects.names import DialectName
from dwctl.dialects.openai_usage import read_usage
from dwctl.dialects.sse import PING

DIALECT: DialectName = "openai-chat"
PATH = "/chat/completions"
STREAM_TYPE = "text/event-stream; charset=utf-8"

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
