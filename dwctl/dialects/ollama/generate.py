"""``/api/generate``: one prompt, one answer, without messages (docs.ollama.com: API reference, "Generate a response")."""

from typing import Any

from dwctl.dialects.answers import Answering, Response
from dwctl.dialects.canonical import Message, Part, Request, Text, is_silent
from dwctl.dialects.codec import StreamParser, StreamRenderer
from dwctl.dialects.names import DialectName
from dwctl.dialects.ollama import rendering, response, stream
from dwctl.dialects.ollama.errors import read_error, render_error, stream_error
from dwctl.dialects.ollama.request import pictures, settings
from dwctl.dialects.ollama.usage import read_usage
from dwctl.dialects.reading import optional_string, refused, silent

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

DIALECT: DialectName = "ollama"
PATH = "/api/generate"
STREAM_TYPE = "application/x-ndjson"
PING = b""
_SINGLE = "its provider answers single prompts only"


def parse_request(body: dict[str, Any]) -> Request:
    """Without a prompt or pictures it `loads`, whatever its system prompt. Raises GatewayError 400 that names the field."""
    request = settings(body, {"prompt", "system", "images"})
    system = optional_string(body, "system", "system")
    parts: list[Part] = [*pictures(body.get("images"), "images")]
    if prompt := optional_string(body, "prompt", "prompt"):
        parts.append(Text(prompt))
    if not parts:
        return request
    if system:
        request.messages.append(Message("system", [Text(system)]))
    request.messages.append(Message("user", parts))
    if is_silent(request.messages):
        raise silent("prompt")
    return request


def render_request(request: Request, model: str) -> dict[str, Any]:
    """Raises GatewayError 400 for what is more than a prompt."""
    system = [rendering.text(message) for message in request.messages if message.role in ("system", "developer")]
    prompt = [message for message in request.messages if message.role not in ("system", "developer")]
    if request.tools:
        raise refused("tools", _SINGLE)
    if len(prompt) > 1 or any(message.role != "user" for message in prompt):
        raise refused("messages", _SINGLE)
    body = {"model": model, "prompt": rendering.text(prompt[0]) if prompt else "", **rendering.settings(request)}
    if system:
        body["system"] = "\n\n".join(system)
    if prompt and (images := rendering.pictures(prompt[0].parts)):
        body["images"] = images
    return body


def parse_response(body: dict[str, Any]) -> Response:
    return stream.whole(body, _said)


def render_response(response_: Response, request: Request, answering: Answering) -> dict[str, Any]:
    return response.rendered(response_, answering, _say)


def parse_stream() -> StreamParser:
    return stream.Parser(_said)


def render_stream(request: Request, answering: Answering) -> StreamRenderer:
    return stream.Renderer(answering, _say)


def _say(content: str, thinking: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    return {"response": content, **response.beside(thinking, calls)}


def _said(data: dict[str, Any]) -> dict[str, Any] | None:
    if not isinstance(data.get("response"), str):
        return None
    return {"content": data["response"], "thinking": data.get("thinking"), "tool_calls": data.get("tool_calls")}
