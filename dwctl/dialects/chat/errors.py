"""Errors of the dialect, written and read."""

from typing import Any

from dwctl.dialects import openai_errors
from dwctl.dialects.answers import Failed
from dwctl.dialects.codec import ProviderError
from dwctl.dialects.json_text import encode
from dwctl.errors import GatewayError


def render_error(error: GatewayError, request_id: str) -> bytes:
    """The JSON body of an error. OpenAI names the request in a header only."""
    return openai_errors.body(error)


def stream_error(error: GatewayError, request_id: str) -> bytes:
    """The error event, and the terminal event that must follow it."""
    return openai_errors.stream_end(error)


def read_error(body: dict[str, Any]) -> ProviderError | None:
    """The error that a JSON body is: OpenAI's ``{"error": {...}}``, the same without its envelope (vLLM), or FastAPI's ``detail``."""
    error = openai_errors.error_object(body.get("error"))
    if error is None and "choices" not in body:
        if isinstance(body.get("message"), str):
            error = body
        elif (detail := body.get("detail")) is not None:
            error = {"message": detail if isinstance(detail, str) else encode(detail).decode()}
    return None if error is None else _read(error)


def _read(error: dict[str, Any]) -> ProviderError:
    return ProviderError(
        message=_word(error.get("message")) or "",
        type=_word(error.get("type")),
        code=_word(error.get("code")),
        param=_word(error.get("param")),
        status=openai_errors.said_status(error),
    )


def failed(error: dict[str, Any]) -> Failed:
    """What an error object inside a stream means."""
    said, status = _read(error), openai_errors.embedded_status(error)
    shown = openai_errors.shown_to_client(status, "application/json", encode({"error": error}), None)
    return Failed(shown if isinstance(shown, GatewayError) else said.told_by(openai_errors.of_status(status)), said.words)


def _word(value: Any) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None
