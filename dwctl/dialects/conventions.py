"""What providers of a dialect have in common beside the requests themselves: where their paths begin, how a key is sent, which headers
they want, and where they are usually found.

Sources: Anthropic's API reference ("API overview": ``x-api-key``, ``anthropic-version``), Ollama's ("Introduction": port and paths).
"""

import re
from collections.abc import Mapping

from yarl import URL

from dwctl.dialects.names import DialectName

_HEADERS: Mapping[DialectName, Mapping[str, str]] = {"anthropic": {"anthropic-version": "2023-06-01"}}
_ANTHROPIC_HOST = "api.anthropic.com"
_OLLAMA_PORT = 11434


def base_of(url: str, dialect: DialectName) -> URL:
    """The URL that the dialect's paths are appended to, from whichever base URL somebody has copied.

    Anthropic's ``/messages`` is below ``/v1``, which its SDKs leave out of a base URL and others do not. Ollama's ``/api/chat`` is
    below the server's root, or what a proxy puts there; its documentation has base URLs ending in ``/api``, and in ``/v1`` for OpenAI's
    API. Scheme, host and port stay. ``url`` is one that ``check_url`` accepts.
    """
    base = URL(url)
    path = base.raw_path.rstrip("/")
    if dialect == "anthropic" and not path.endswith("/v1"):
        path += "/v1"
    elif dialect == "ollama":
        path = re.sub(r"/(?:api|v1)$", "", path)
    return base.origin().with_path(path, encoded=True)


def headers_of(dialect: DialectName) -> Mapping[str, str]:
    """Headers without which a provider refuses requests, with the values that our requests are written for."""
    return _HEADERS.get(dialect, {})


def key_header(dialect: DialectName, name: str | None = None) -> tuple[str, str]:
    """The header that carries a provider's key, and what stands before the key; ``name`` if another header is wished for."""
    usual, prefix = ("x-api-key", "") if dialect == "anthropic" else ("Authorization", "Bearer ")
    if name is None or name.lower() == usual.lower():
        return name or usual, prefix
    return name, "Bearer "


def guess_dialect(url: str) -> DialectName | None:
    """The dialect that a host or a port is known for; None for all others, and for what is no URL."""
    try:
        place = URL(url.strip())
    except ValueError:
        return None
    if place.host == _ANTHROPIC_HOST:
        return "anthropic"
    return "ollama" if place.explicit_port == _OLLAMA_PORT else None
