"""The last requests as they arrived, so that a test can read what a gateway sends. Keys are told by their hash only."""

import hashlib
from collections import deque
from typing import Any

from dwctl.simulator.connection import Request

KEEP = 200
"""Requests kept; the oldest go first."""
LONGEST = 1 << 20
"""Bytes of a body that are kept."""
SECRET = frozenset({b"authorization", b"x-api-key", b"api-key", b"proxy-authorization", b"cookie"})


class Recorded:
    """The last requests of one simulator."""

    def __init__(self) -> None:
        self._requests: deque[Request] = deque(maxlen=KEEP)

    def add(self, request: Request) -> None:
        """A request with a body was read whole."""
        if len(request.body) > LONGEST:
            request = Request(request.method, request.target, request.version, request.headers, request.body[:LONGEST], request.keep_alive)
        self._requests.append(request)

    def report(self, request_id: str | None) -> dict[str, Any]:
        """The body of GET /_requests, oldest first; of one ``x-request-id`` only, if given."""
        wanted = None if request_id is None else request_id.encode("latin-1", "replace")
        chosen = [request for request in self._requests if wanted is None or request.header(b"x-request-id") == wanted]
        return {"requests": [_shown(request) for request in chosen]}

    def reset(self) -> None:
        self._requests.clear()


def _shown(request: Request) -> dict[str, Any]:
    identity = request.header(b"x-request-id")
    return {
        "id": None if identity is None else identity.decode("latin-1"),
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": [[name.decode("latin-1"), _value(name, value)] for name, value in request.headers],
        "body": request.body.decode("utf-8", "replace"),
    }


def _value(name: bytes, value: bytes) -> str:
    """A header's value; of a secret one ``sha256:`` and the hex digest of the value as it arrived."""
    return f"sha256:{hashlib.sha256(value).hexdigest()}" if name in SECRET else value.decode("latin-1")
