"""The actor behind an administrative request: API key, session cookie or proxy header, the first that succeeds.

A method that fails does not stop the next: a wrong bearer token beside a good cookie is the cookie's user. If none succeeds
nobody is told which one failed.
"""

from collections.abc import Awaitable, Callable
from typing import Literal

from sanic.request import Request

from dwctl.accounts.actors import Actor, ProxyUser
from dwctl.accounts.sessions import find_session
from dwctl.clock import now_us
from dwctl.doorway.context import Parts
from dwctl.doorway.peers import Peer, sent_by_dwctl

ProxySignIn = Callable[[ProxyUser], Awaitable[Actor | None]]
"""Finds or makes the account of a proxy's user; None if there is none and none may be made."""


Keys = Literal["none", "platform", "every"]
"""Which API keys count as an identity."""


async def identify(services: Parts, request: Request, peer: Peer, *, keys: Keys, proxy_sign_in: ProxySignIn | None) -> Actor | None:
    """The actor, or None. Raises StoreUnavailable."""
    return (
        _by_key(services, request, peer, keys)
        or await _by_session(services, request, peer)
        or await _by_proxy(services, request, peer, proxy_sign_in)
    )


def _by_key(services: Parts, request: Request, peer: Peer, keys: Keys) -> Actor | None:
    if keys == "none":
        return None
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    principal = services.keyring.find(secret.strip())
    if principal is None or principal.key_id is None or not (keys == "every" or principal.purpose == "platform"):
        return None
    now = now_us()
    if principal.expires_us is not None and principal.expires_us <= now:
        return None
    holder = services.keyring.person(principal.holder_id)
    if holder is None:
        return None
    services.keyring.touch(principal.key_id, now)
    services.keyring.touches.login(principal.holder_id, now)
    return Actor(
        user_id=principal.holder_id,
        email=holder.email,
        is_admin=principal.is_admin,
        roles=principal.roles,
        via="api_key",
        client_ip=peer.ip,
        key_id=principal.key_id,
    )


def session_cookie_name(services: Parts, peer: Peer) -> str:
    """The cookie's name: with the ``__Host-`` prefix (RFC 6265bis) exactly when the browser sees https."""
    name = services.config.auth.native.session.cookie_name
    return f"__Host-{name}" if peer.scheme == "https" else name


def session_cookie(services: Parts, peer: Peer, token: str | None) -> str:
    """``Set-Cookie`` of a session; None ends it."""
    session = services.config.auth.native.session
    lifetime = int(session.timeout) if token else 0
    secure = "; Secure" if peer.scheme == "https" else ""
    same_site = session.cookie_same_site.capitalize()
    name = session_cookie_name(services, peer)
    return f"{name}={token or ''}; Path=/; HttpOnly{secure}; SameSite={same_site}; Max-Age={lifetime}"


async def _by_session(services: Parts, request: Request, peer: Peer) -> Actor | None:
    if not services.config.auth.native.enabled:
        return None
    token = request.cookies.get(session_cookie_name(services, peer))
    if not token:
        return None
    now = now_us()
    session = await find_session(services.store, token, now)
    if session is None:
        return None
    services.keyring.touches.login(session.user_id, now)
    return Actor(
        user_id=session.user_id,
        email=session.email,
        is_admin=session.is_admin,
        roles=session.roles,
        via="session",
        client_ip=peer.ip,
        session_hash=session.session_hash,
        must_change_password=session.must_change_password,
    )


async def _by_proxy(services: Parts, request: Request, peer: Peer, proxy_sign_in: ProxySignIn | None) -> Actor | None:
    settings = services.config.auth.proxy_header
    if not settings.enabled or not peer.trusted or proxy_sign_in is None or sent_by_dwctl(request):
        return None
    headers = request.headers
    if any(len(headers.getall(name, ())) > 1 for name in settings.names):
        # The proxy added its own beside the client's instead of replacing it: whose is whose cannot be told.
        return None
    external_id = _header(request, settings.header_name)
    if not external_id:
        return None
    groups: tuple[str, ...] | None = None
    if settings.import_idp_groups:
        listed = (name.strip() for name in _header(request, settings.groups_field_name).split(","))
        groups = tuple(sorted({name for name in listed if name and name not in settings.blacklisted_sso_groups}))
    return await proxy_sign_in(
        ProxyUser(
            external_id=external_id,
            email=_header(request, settings.email_header_name) or external_id,
            provider=_header(request, settings.provider_field_name) or "unknown",
            groups=groups,
            client_ip=peer.ip,
        ),
    )


def _header(request: Request, name: str) -> str:
    value: str = request.headers.get(name, "")
    return value.strip()
