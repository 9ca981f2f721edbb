"""What goes back: JSON, an ETag where there is a revision, and errors in one shape.

An error is ``{"message": ..., "error": {"type", "code", "message", "param"}}`` with the error's further fields beside
``message``; where Doubleword's control layer sends bare text, ``message`` is that text.
"""

from typing import Any

import msgspec
from sanic.response import HTTPResponse, ResponseStream

from dwctl.errors import GatewayError

_encode = msgspec.json.Encoder().encode

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "strict-origin-when-cross-origin",
}
"""On every answer that a browser might show."""


class Answer(msgspec.Struct):
    """A handler's answer with more than a body. ``status`` None: as the route declares."""

    body: Any = None
    status: int | None = None
    revision: int | None = None
    headers: dict[str, str] = {}
    cookies: list[str] = []
    """Values of ``Set-Cookie``."""


def respond(result: Any, status: int) -> HTTPResponse | ResponseStream:
    """The HTTP response for what a handler returned."""
    if isinstance(result, HTTPResponse | ResponseStream):
        return result
    answer = result if isinstance(result, Answer) else Answer(result)
    headers = {**SECURITY_HEADERS, "cache-control": "no-store", **answer.headers}
    revision = answer.revision if answer.revision is not None else getattr(answer.body, "revision", None)
    if revision is not None:
        headers["etag"] = f'"{revision}"'
    code = answer.status or status
    if answer.body is None and code in (200, 201, 202, 204):
        response = HTTPResponse(b"", 204 if code == 200 else code, headers)
    else:
        response = HTTPResponse(_encode(answer.body), code, headers, "application/json")
    for cookie in answer.cookies:
        response.headers.add("set-cookie", cookie)
    return response


def respond_error(error: GatewayError) -> HTTPResponse:
    """The HTTP response for an error."""
    headers = {**SECURITY_HEADERS, "cache-control": "no-store", **error.headers}
    fields = dict(error.fields)
    if error.retry_after is not None:
        seconds = max(1, -int(-error.retry_after // 1))
        headers["retry-after"] = str(seconds)
        fields["retry_after_seconds"] = seconds
    body = {
        "message": error.message,
        **fields,
        "error": {"type": error.type, "code": error.code, "message": error.message, "param": error.param},
    }
    return HTTPResponse(_encode(body), error.status, headers, "application/json")
