"""The one error of the gateway and of the administrative API.

An error is raised once, with everything that a reader needs (what happened, which field, what to do, when to come
back), and rendered once, by the caller's dialect. Messages never quote request bodies, provider text or secrets: what a provider
said, and the client may read, is in ``told``.
"""

import asyncio
from typing import Any


class ClientStalled(asyncio.CancelledError):
    """A client that is gone because it took nothing of its answer for ``timeouts.client_write``."""


class GatewayError(Exception):
    """A refusal or failure that the caller is told about.

    ``status`` HTTP status; ``type`` and ``code`` in OpenAI's words; ``param`` the field at fault; ``retry_after``
    seconds until it is worth trying again; ``fields`` further JSON fields of the error object (balance, hold, ...);
    ``headers`` further response headers (x-ratelimit-*); ``told`` the same error in a provider's words, for the client and for nobody
    else: status and code are for the record and the metrics, whose values are ours and few.
    """

    def __init__(
        self,
        status: int,
        type: str,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        fields: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        told: "GatewayError | None" = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.fields = fields or {}
        self.headers = headers or {}
        self.told = told
        self.missing_right: tuple[Any, Any] | None = None
        """The resource and operation that the caller may not, where that is what was wrong."""


class ConfigurationError(Exception):
    """The configuration, a file named by it, or the environment is wrong; the message names the place and the remedy."""


INVALID = "invalid_request_error"


def bad_request(message: str, *, code: str = "bad_request", param: str | None = None) -> GatewayError:
    return GatewayError(400, INVALID, code, message, param=param)


def unauthenticated(message: str = "Please supply an authentication token to access this resource") -> GatewayError:
    return GatewayError(401, INVALID, "unauthenticated", message, headers={"www-authenticate": "Bearer"})


def forbidden(message: str = "Forbidden", *, code: str = "forbidden") -> GatewayError:
    return GatewayError(403, INVALID, code, message)


def not_found(message: str, *, code: str = "not_found", param: str | None = None) -> GatewayError:
    return GatewayError(404, INVALID, code, message, param=param)


def body_overdue() -> GatewayError:
    return GatewayError(408, INVALID, "request_timeout", "The request body did not arrive in time. Please send it without pauses.")


def conflict(message: str, *, param: str | None = None, **fields: Any) -> GatewayError:
    return GatewayError(409, INVALID, "conflict", message, param=param, fields=fields)


def internal_error() -> GatewayError:
    return GatewayError(500, "internal_error", "internal_error", "An internal error occurred. Please try again later.")


def unavailable(code: str, message: str) -> GatewayError:
    return GatewayError(503, "internal_error", code, message, retry_after=5)
