"""Addresses of pages: a path and the words of its query, without those that say nothing."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
from sanic.request import Request
from sanic.response import HTTPResponse

from dwctl.errors import bad_request
from dwctl.web.context import Context


class Query(msgspec.Struct, kw_only=True):
    """Words of an address. What cannot be understood is said on the page, so that all of them are texts."""

    def words(self) -> dict[str, Any]:
        """As they are in the address."""
        return {field.encode_name: getattr(self, field.name) for field in msgspec.structs.fields(self)}


class Chip(msgspec.Struct, frozen=True):
    """A filter in force, and the address without it."""

    name: str
    value: str
    without: str


def refuse(problems: Mapping[str, str]) -> None:
    """Where there is no page to say it on: raise GatewayError 400 with the first word that cannot be understood."""
    for field, sentence in problems.items():
        raise bad_request(sentence, param=field)


def address(path: str, words: Mapping[str, Any]) -> str:
    """``/requests?model=a``; empty words are left out."""
    kept = [(name, str(value)) for name, value in words.items() if value not in (None, "")]
    return f"{path}?{urlencode(kept)}" if kept else path


def origin(context: Context) -> str:
    """Where the visitor has these pages from: scheme and host."""
    return f"{context.peer.scheme}://{context.peer.host}"


def api_base(context: Context) -> str:
    """The base URL of the inference API that visitors are told: ``metadata.ai_api_base_url``, else at the host of these pages."""
    return context.services.config.metadata.ai_api_base_url or f"{origin(context)}/ai/v1"


def tidied(request: Request) -> HTTPResponse | None:
    """A redirect to the same page without the empty words that a form of filters sends; None if there are none."""
    given = parse_qsl(request.query_string, keep_blank_values=True)
    kept = [(name, value) for name, value in given if value.strip()]
    if len(kept) == len(given):
        return None
    target = f"{request.path}?{urlencode(kept)}" if kept else request.path
    return HTTPResponse("", 303, {"location": target, "cache-control": "no-store"})
