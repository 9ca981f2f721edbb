"""Cross-origin requests from the web pages that the configuration names (Fetch standard, CORS protocol)."""

from sanic.request import Request
from sanic.response import HTTPResponse

from dwctl.config import TOKEN
from dwctl.config.schema import Cors
from dwctl.doorway.answers import SECURITY_HEADERS

_METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
_REQUEST_HEADERS = "content-type, authorization, accept, if-match"
_EXPOSED = ", ".join(
    (
        *("location", "etag", "retry-after", "x-request-id", "request-id"),
        *("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    )
)


class CrossOrigin:
    """Which other origins may read answers; ``*`` stands for every origin, without credentials."""

    def __init__(self, settings: Cors) -> None:
        self._any = "*" in settings.allowed_origins
        self._credentials = settings.allow_credentials and not self._any
        self._max_age = str(int(settings.max_age))
        self._origins = frozenset(origin.rstrip("/") for origin in settings.allowed_origins) - {"*"}
        self.trusted = self._origins if self._credentials else frozenset[str]()
        """Origins whose unsafe requests may rest on a cookie."""
        self.enabled = bool(settings.allowed_origins)

    def headers(self, request: Request) -> dict[str, str]:
        """What lets the asking page read the answer, if its origin is allowed."""
        origin = request.headers.get("origin")
        if origin is None:
            return {}
        headers = {"vary": "Origin"}
        if self._any or origin in self._origins:
            headers["access-control-allow-origin"] = "*" if self._any else origin
            headers["access-control-expose-headers"] = _EXPOSED
            if self._credentials:
                headers["access-control-allow-credentials"] = "true"
        return headers

    def mark(self, request: Request, response: HTTPResponse) -> HTTPResponse:
        """The response, with what lets the asking page read it."""
        if self.enabled:
            for name, value in self.headers(request).items():
                response.headers.add(name, value)
        return response

    async def preflight(self, request: Request, **_: str) -> HTTPResponse:
        """Answer a browser that asks whether it may ask."""
        return self._preflight(request, _REQUEST_HEADERS)

    async def preflight_of_call(self, request: Request, **_: str) -> HTTPResponse:
        """The same of calls of models: clients send headers of their own (``x-stainless-*``), of which nobody has a list."""
        asked = [name.strip() for name in request.headers.get("access-control-request-headers", "").split(",")]
        return self._preflight(request, ", ".join(name for name in asked if TOKEN.fullmatch(name)))

    def _preflight(self, request: Request, request_headers: str) -> HTTPResponse:
        response = self.mark(request, HTTPResponse(b"", 204, SECURITY_HEADERS))
        if "access-control-allow-origin" in response.headers:
            response.headers["access-control-allow-methods"] = _METHODS
            response.headers["access-control-allow-headers"] = request_headers
            response.headers["access-control-max-age"] = self._max_age
        return response
