"""Errors in Anthropic's envelope: ``{"type": "error", "error": {"type", "message"}, "request_id"}`` (API reference: errors)."""

from typing import Any

from dwctl.dialects import openai_errors, sse
from dwctl.dialects.answers import Failed
from dwctl.dialects.codec import ProviderError
from dwctl.dialects.json_text import encode
from dwctl.errors import GatewayError

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def _type(status: int) -> str:
    return _TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")


def render_error(error: GatewayError, request_id: str) -> bytes:
    """The JSON body of an error."""
    name = request_id if request_id.startswith("req_") else f"req_{request_id}"
    return encode({"type": "error", "error": {"type": _type(error.status), "message": error.message, **error.fields}, "request_id": name})


def stream_error(error: GatewayError, request_id: str) -> bytes:
    """The event that ends a stream that failed."""
    return sse.encode(render_error(error, request_id), "error")


def read_error(body: dict[str, Any]) -> ProviderError | None:
    """The error that a JSON body is; None if it is none."""
    error = openai_errors.error_object(body.get("error"))
    if error is None:
        return None
    kind, message = error.get("type"), error.get("message")
    return ProviderError(
        message if isinstance(message, str) else "",
        type=kind if isinstance(kind, str) else None,
        status=_STATUSES.get(kind) if isinstance(kind, str) else None,
    )


def failure(data: dict[str, Any]) -> Failed:
    """What an error event says: to the client in our words, to the record in the provider's."""
    error = read_error(data) or ProviderError("")
    return Failed(openai_errors.of_status(error.status or 500), error.message or error.type or "an error without words")
