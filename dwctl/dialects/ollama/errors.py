"""Errors in Ollama's words: ``{"error": "..."}``, also as the last line of a stream (docs.ollama.com: "Errors")."""

from typing import Any

from dwctl.dialects import openai_errors
from dwctl.dialects.codec import ProviderError
from dwctl.dialects.json_text import encode
from dwctl.errors import GatewayError


def render_error(error: GatewayError, request_id: str) -> bytes:
    """The JSON body of an error."""
    return encode({"error": error.message})


def stream_error(error: GatewayError, request_id: str) -> bytes:
    """The line that ends a stream which failed; nothing follows it."""
    return render_error(error, request_id) + b"\n"


def read_error(body: dict[str, Any]) -> ProviderError | None:
    """The error that a JSON body is; an object in the place of the text comes from a proxy of another dialect."""
    error = openai_errors.error_object(body.get("error"))
    if error is None:
        return None
    message, status = error.get("message"), body.get("StatusCode")
    return ProviderError(
        message if isinstance(message, str) else "",
        status=status if isinstance(status, int) and 400 <= status <= 599 else None,
    )
