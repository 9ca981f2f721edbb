"""Cross-origin requests from the web pages that the configuration names (Fetch standard, CORS protocol)."""

from sanic.request import Request
from sanic.response import HTTPResponse

from dwctl.config.schema import Cors

_METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
_REQUEST_HEADERS = "content-type, authorization, accept, if-match"
_EXPOSED = "location, etag, retry-after"


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

    def mark(self, request: Request, response: HTTPResponse) -> None:
        """Let the asking page read the response, if its origin is allowed."""
        origin = request.headers.get("origin")
        if not self.enabled or origin is None:
            return
        response.headers.add("vary", "Origin")
        if self._any:
            response.headers["access-control-allow-origin"] = "*"
        elif origin in self._origins:
            response.headers["access-control-allow-origin"] = origin
            if self._credentials:
                response.headers["access-control-allow-credentials"] = "true"
        else:
            return
        response.headers["access-control-expose-headers"] = _EXPOSED

    async def preflight(self, request: Request, **_: str) -> HTTPResponse:
        """Answer a browser that asks whether it may ask."""
        response = HTTPResponse(b"", 204)
        self.mark(request, response)
        if "access-control-allow-origin" in response.headers:
            response.headers["access-control-allow-methods"] = _METHODS
            response.headers["access-control-allow-headers"] = _REQUEST_HEADERS
            response.headers["access-control-max-age"] = self._max_age
        return response
