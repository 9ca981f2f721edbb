"""Who acts: the identity behind an administrative request, and how it was established."""

from typing import Literal

import msgspec

from dwctl.accounts.principals import NIL

Via = Literal["session", "api_key", "proxy_header", "cli", "system"]


class Actor(msgspec.Struct, frozen=True):
    """A person (or the program itself) that performs an administrative act.

    ``via`` says how the identity was established. ``session_hash`` is set for sessions, ``key_id`` for API keys.
    """

    user_id: str
    email: str
    is_admin: bool
    roles: frozenset[str]
    via: Via
    client_ip: str | None = None
    key_id: str | None = None
    session_hash: str | None = None
    must_change_password: bool = False
    """They signed in with a password that somebody else made, and may do nothing on pages until they have one of their own."""


SYSTEM = Actor(user_id=NIL, email="system", is_admin=True, roles=frozenset(), via="system")
"""The program itself: start-up and background work."""

CLI = Actor(user_id=NIL, email="cli", is_admin=True, roles=frozenset(), via="cli")
"""Whoever may run the program on the data directory: ``apply`` and ``admin`` commands."""


class ProxyUser(msgspec.Struct, frozen=True):
    """Whom a trusted proxy says that it signed in. ``groups`` None: the proxy's groups are not ours to know."""

    external_id: str
    email: str
    provider: str
    groups: tuple[str, ...] | None
    client_ip: str
