"""Requests that another web site made a browser send (cross-site request forgery), told by the browser's own headers.

A cookie, or a proxy that signs people in, vouches for whoever makes the browser ask. So an unsafe request that rests on one
passes only if ``Sec-Fetch-Site`` (Fetch Metadata) says that it comes from our own pages or from the person, or, in browsers
without it, if ``Origin`` (RFC 6454) names our own host. Requests with neither come from programs, not from browsers.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from sanic.request import Request

from dwctl.errors import GatewayError, forbidden

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def refuse_cross_site(request: Request, host: str, allowed_origins: Collection[str]) -> GatewayError | None:
    """The 403 for an unsafe request from another site, or None. ``host`` is ours as the browser names it."""
    if request.method in SAFE_METHODS:
        return None
    origin = request.headers.get("origin")
    if origin is not None and origin in allowed_origins:
        return None
    site = request.headers.get("sec-fetch-site")
    passes = site in ("same-origin", "none") if site is not None else origin is None or _host(origin) == host.lower()
    return None if passes else forbidden("This request comes from another web site", code="cross_site_request")


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
