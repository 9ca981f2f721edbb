"""Errors: OpenAI's envelope in an answer, the event ``error`` in a stream, and ``error`` of a response that failed."""

from typing import Any

from dwctl.dialects import openai_errors, sse
from dwctl.dialects.codec import ProviderError
from dwctl.dialects.json_text import encode
from dwctl.errors import GatewayError

Item = dict[str, Any]

_STATUSES = {
    "authentication_error": 401,
    "context_length_exceeded": 400,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "invalid_prompt": 400,
    "invalid_request_error": 400,
    "not_found_error": 404,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "server_error": 500,
    "server_is_overloaded": 503,
}


def render_error(error: GatewayError, request_id: str) -> bytes:
    """The JSON body of an error."""
    return openai_errors.body(error)


def error_event(error: GatewayError) -> Item:
    """The event: flat as OpenAI has it, and with the object that Open Responses and older clients read."""
    flat = {"code": error.code, "message": error.message, "param": error.param}
    return {"type": "error", **flat, "error": {"type": error.type, **flat}}


def failure(error: GatewayError) -> Item:
    """The ``error`` of a response that failed; its codes are few."""
    code = "rate_limit_exceeded" if error.status == 429 else "invalid_prompt" if 400 <= error.status < 500 else "server_error"
    return {"code": code, "message": error.message}


def stream_error(error: GatewayError, request_id: str) -> bytes:
    """The event alone, after a provider's own stream, whose numbers and response object are not known here."""
    event = {"sequence_number": 0, **error_event(error)}
    return sse.encode(encode(event), "error") + openai_errors.DONE


def read_error(body: dict[str, Any]) -> ProviderError | None:
    """Also that of a response whose status is ``failed``."""
    said = openai_errors.error_object(body.get("error"))
    if said is None and (body.get("type") == "error" or body.get("object") == "error"):
        said = body
    if said is None and isinstance(detail := body.get("detail"), str):
        said = {"message": detail}
    return None if said is None else provider_error(said)


def provider_error(said: dict[str, Any]) -> ProviderError:
    code, kind = _word(said.get("code")), _word(said.get("type"))
    number = int(code) if code is not None and code.isascii() and code.isdigit() and len(code) == 3 else 0
    status = number if 400 <= number <= 599 else _STATUSES.get(code or "", _STATUSES.get(kind or ""))
    return ProviderError(_word(said.get("message")) or "", kind, code, _word(said.get("param")), status)


def _word(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
