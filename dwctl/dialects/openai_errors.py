"""Errors in OpenAI's envelope: ``{"error": {"message", "type", "param", "code", ...}}`` (API reference: error codes)."""

from typing import Any, TypeGuard

import msgspec

from dwctl.dialects import sse
from dwctl.dialects.json_text import encode
from dwctl.errors import GatewayError, bad_request

DONE = b"data: [DONE]\n\n"
_SHOWN_BODY = 16 * 1024
_MASKED = {401, 402, 403, 407, 451}
"""The provider's opinion of *our* account is not the caller's business."""


def body(error: GatewayError) -> bytes:
    """The JSON body of an error."""
    return encode({"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code, **error.fields}})


def stream_end(error: GatewayError) -> bytes:
    """How a stream that has begun says that it failed: an error event, then the terminal event."""
    return sse.encode(body(error)) + DONE


def error_object(value: Any) -> dict[str, Any] | None:
    """The provider's error, if ``value`` (the field ``error``) is one; null, ``{}`` and the like are not."""
    if isinstance(value, str) and value:
        return {"message": value}
    if isinstance(value, dict) and ("message" in value or "code" in value):
        return value
    return None


_WORDS = {"invalid_api_key": 401, "rate_limit": 429, "rate_limit_error": 429, "rate_limit_exceeded": 429}


def said_status(error: dict[str, Any]) -> int | None:
    """The HTTP status that an error object names: its numeric code, or one of few words."""
    code = error.get("code")
    if isinstance(code, str):
        code = int(code) if code.isascii() and code.isdigit() and len(code) == 3 else _WORDS.get(code)
    return code if isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599 else None


def embedded_status(error: dict[str, Any]) -> int:
    """The HTTP status that an error object inside a 200 stands for; 500 if it names none."""
    return said_status(error) or 500


def is_of_our_account(status: int | None) -> TypeGuard[int]:
    """Whether an error speaks of the account that dwctl has at the provider; then its words are not for the client."""
    return status in _MASKED


def is_told_instead(error: GatewayError) -> bool:
    """Whether this is what the client is told of such an error."""
    return error.code == "provider_refused_gateway"


def shown_to_client(status: int, content_type: str, answer: bytes, retry_after: str | None) -> GatewayError | bytes:
    """What of a provider's error the client may see: the one place where that is decided.

    The provider's own JSON body (an error object, of bounded size) with the same status, or, where the status speaks of the account
    that dwctl has there or the body is not an error in JSON, an error of ours.
    """
    if 400 <= status < 600 and not is_of_our_account(status) and len(answer) <= _SHOWN_BODY and "json" in content_type:
        try:
            decoded = msgspec.json.decode(answer)
        except (msgspec.DecodeError, RecursionError):
            decoded = None
        if isinstance(decoded, dict) and (error_object(decoded.get("error")) or "message" in decoded or "detail" in decoded):
            return answer
    return of_status(status, seconds(retry_after))


def seconds(retry_after: str | None) -> float | None:
    """What ``Retry-After`` says, if it is a number and no absurd one."""
    return float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 8 else None


def of_status(status: int, retry: float | None = None) -> GatewayError:
    """What the client is told of a provider's error in our words; ``retry`` in seconds."""
    if status >= 600:
        return bad_redirect(status)
    if is_of_our_account(status):
        return GatewayError(
            502,
            "internal_error",
            "provider_refused_gateway",
            "The model's provider refused the gateway's own credentials or account. Please tell your administrator.",
        )
    if status == 408:
        return GatewayError(504, "internal_error", "gateway_timeout", "The upstream service took too long to respond. Please try again.")
    if status == 429:
        return GatewayError(
            429, "rate_limit_error", "rate_limit", "The model's provider is limiting requests. Please slow down.", retry_after=retry
        )
    if status >= 500:
        return GatewayError(status, "internal_error", "upstream_error", "The model's provider failed. Please try again.", retry_after=retry)
    if status >= 400:
        return GatewayError(status, "invalid_request_error", "upstream_error", "The upstream provider rejected the request.")
    return bad_redirect(status)


def bad_redirect(status: int) -> GatewayError:
    """A provider answered with something that is neither success nor an error."""
    return GatewayError(
        502, "internal_error", "upstream_protocol_error", f"The model's provider answered with status {status}, which makes no sense here."
    )


def not_json() -> GatewayError:
    return bad_request("Request body must be valid JSON.")


def no_model() -> GatewayError:
    return bad_request(
        "Could not parse the model from the request. The 'model' parameter must be supplied in the body or the Model-Override header.",
        param="model",
    )
