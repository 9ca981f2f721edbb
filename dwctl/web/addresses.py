"""Addresses of pages: a path and the words of its query, without those that say nothing."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from sanic.request import Request
from sanic.response import HTTPResponse


def address(path: str, words: Mapping[str, Any]) -> str:
    """``/requests?model=a``; empty words are left out."""
    kept = [(name, str(value)) for name, value in words.items() if value not in (None, "")]
    return f"{path}?{urlencode(kept)}" if kept else path


def tidied(request: Request) -> HTTPResponse | None:
    """A redirect to the same page without the empty words that a form of filters sends; None if there are none."""
    given = parse_qsl(request.query_string, keep_blank_values=True)
    kept = [(name, value) for name, value in given if value.strip()]
    if len(kept) == len(given):
        return None
    target = f"{request.path}?{urlencode(kept)}" if kept else request.path
    return HTTPResponse("", 303, {"location": target, "cache-control": "no-store"})
