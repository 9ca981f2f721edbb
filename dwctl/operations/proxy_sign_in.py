"""Signing in by the word of a trusted proxy: finding, linking or making the account of its user."""

import secrets
from typing import Any

import structlog
from tortoise.exceptions import IntegrityError

from dwctl import clock, ids
from dwctl.accounts import NIL, SYSTEM, Actor, ProxyUser
from dwctl.accounts.principals import roles_of
from dwctl.errors import GatewayError
from dwctl.operations.audit import audit
from dwctl.operations.groups import insert_group
from dwctl.operations.services import Services
from dwctl.operations.users import insert_user, refuse_taken, with_standard
from dwctl.store import Changes, Row, Store, Tx

_log = structlog.get_logger("dwctl.operations")

_PROXY_COLUMNS = "id, email, is_admin, roles, external_user_id"


async def proxy_sign_in(services: Services, proxy_user: ProxyUser) -> Actor | None:
    """The account of a proxy's user: known by the proxy's id, else by the e-mail address of an account without such an id, else
    (with ``auth.proxy_header.auto_create_users``) a new one. None if there is none. Raises StoreUnavailable.

    An account that somebody registered is nobody else's: that its address is theirs is their own word, and they have its password."""
    if not _storable(proxy_user):
        return None
    row = await _known(services, proxy_user) or await _new(services, proxy_user)
    if row is None:
        return None
    user_id = str(row["id"])
    if proxy_user.groups is not None:
        await _follow_groups(services, user_id, proxy_user)
    services.keyring.touches.login(user_id, clock.now_us())
    return Actor(
        user_id=user_id,
        email=row["email"],
        is_admin=bool(row["is_admin"]),
        roles=frozenset(roles_of(row["roles"])),
        via="proxy_header",
        client_ip=proxy_user.client_ip,
    )


def _storable(proxy_user: ProxyUser) -> bool:
    texts = (proxy_user.external_id, proxy_user.email, proxy_user.provider, *(proxy_user.groups or ()))
    return (
        all(text.isprintable() and len(text) <= 255 for text in texts) and proxy_user.external_id != "" and len(proxy_user.provider) <= 64
    )


async def _known(services: Services, proxy_user: ProxyUser) -> Row | None:
    rows = await services.store.fetch(
        f"SELECT {_PROXY_COLUMNS} FROM users WHERE deleted_at IS NULL AND id <> ? AND"
        " (external_user_id = ? OR (external_user_id IS NULL AND live_email = ? AND auth_source <> 'native'))",
        (NIL, proxy_user.external_id, proxy_user.email.lower()),
    )
    for row in rows:
        if row["external_user_id"] == proxy_user.external_id:
            return row
    return await _link(services, rows[0], proxy_user) if rows else None


async def _link(services: Services, row: Row, proxy_user: ProxyUser) -> Row | None:
    user_id = str(row["id"])

    async def write(tx: Tx) -> Row | None:
        linked = await tx.execute(
            "UPDATE users SET external_user_id = ?, revision = revision + 1, updated_at = ? "
            "WHERE id = ? AND external_user_id IS NULL AND deleted_at IS NULL",
            (proxy_user.external_id, clock.now_us(), user_id),
        )
        if not linked:
            return await _by_external_id(tx, proxy_user)
        await audit(tx, _proxy_actor(row, proxy_user), "users.link", "user", user_id, None, {"external_user_id": proxy_user.external_id})
        return row

    try:
        return await services.store.write(write)
    except IntegrityError:
        # Another request of the same user was first.
        return await _by_external_id(services.store, proxy_user)


async def _by_external_id(source: Store | Tx, proxy_user: ProxyUser) -> Row | None:
    rows = await source.fetch(
        f"SELECT {_PROXY_COLUMNS} FROM users WHERE deleted_at IS NULL AND external_user_id = ?", (proxy_user.external_id,)
    )
    return rows[0] if rows else None


async def _new(services: Services, proxy_user: ProxyUser) -> Row | None:
    if not services.config.auth.proxy_header.auto_create_users:
        return None
    columns: dict[str, Any] = {
        "username": proxy_user.email,
        "email": proxy_user.email,
        "roles": with_standard(services.config.auth.default_user_roles),
        "auth_source": "proxy-header",
        "external_user_id": proxy_user.external_id,
    }
    user_id = ids.new_text()
    actor = Actor(user_id, proxy_user.email, False, frozenset(columns["roles"]), "proxy_header", proxy_user.client_ip)
    initial = services.config.credits.initial_credits_for_standard_users

    async def write(tx: Tx) -> tuple[Row | None, int | None]:
        # Looked up again in here: what another request of the same user is about to commit cannot be read outside yet.
        if (row := await _by_external_id(tx, proxy_user)) is not None:
            return row, None
        if await tx.fetch("SELECT 1 AS found FROM users WHERE live_username = ?", (columns["username"],)):
            # Names are anybody's to choose: somebody may have this one whose address it is not.
            columns["username"] = f"{proxy_user.email[:240]}-{secrets.token_hex(4)}"
        await refuse_taken(tx, columns["username"], columns["email"])
        seq = await insert_user(tx, actor, user_id, columns, initial_credits_nano=initial)
        return await _by_external_id(tx, proxy_user), seq

    try:
        row, seq = await services.store.write(write)
    except (IntegrityError, GatewayError):
        # Another request of the same user committed in between; or the address belongs to somebody else.
        row = await _by_external_id(services.store, proxy_user)
        if row is None:
            _log.info(
                "no account made for a proxy's user: the address belongs to another account",
                provider=proxy_user.provider,
                remedy="delete that account if it is not theirs",
            )
        return row
    if seq is not None:
        await services.changes.applied(seq)
    return row


def _proxy_actor(row: Row, proxy_user: ProxyUser) -> Actor:
    return Actor(
        user_id=str(row["id"]),
        email=row["email"],
        is_admin=bool(row["is_admin"]),
        roles=frozenset(roles_of(row["roles"])),
        via="proxy_header",
        client_ip=proxy_user.client_ip,
    )


async def _follow_groups(services: Services, user_id: str, proxy_user: ProxyUser) -> None:
    """Make the user's memberships in groups of this provider those that the proxy named. Our own groups are nobody's to fill,
    whatever a provider calls its groups or itself."""
    if proxy_user.provider == "native":
        return
    named = set(proxy_user.groups or ())
    rows = await services.store.fetch(
        "SELECT g.name FROM user_groups m JOIN groups g ON g.id = m.group_id WHERE m.user_id = ? AND g.source = ? AND g.deleted_at IS NULL",
        (user_id, proxy_user.provider),
    )
    held = {row["name"] for row in rows}
    if missing := sorted(named - held):
        others = await services.store.fetch(
            f"SELECT live_name FROM groups WHERE source <> ? AND live_name IN ({', '.join('?' * len(missing))})",
            [proxy_user.provider, *missing],
        )
        named -= {row["live_name"] for row in others}
    if held == named:
        return

    async def write(tx: Tx) -> int:
        for name in sorted(named - held):
            await _join(tx, user_id, name, proxy_user.provider)
        for name in sorted(held - named):
            await tx.execute(
                "DELETE FROM user_groups WHERE user_id = ? AND group_id IN (SELECT id FROM groups WHERE name = ? AND source = ?)",
                (user_id, name, proxy_user.provider),
            )
        await audit(tx, SYSTEM, "users.groups", "user", user_id, {"groups": sorted(held)}, {"groups": sorted(named)})
        return await Changes.note(tx, "user", user_id)

    try:
        seq = await services.store.write(write)
    except IntegrityError:
        return  # Another request of the same user was first.
    await services.changes.applied(seq)


async def _join(tx: Tx, user_id: str, name: str, provider: str) -> None:
    rows = await tx.fetch("SELECT id, source FROM groups WHERE live_name = ?", (name,))
    if rows and rows[0]["source"] != provider:
        # A group of our own with this name is not the provider's to fill.
        return
    group_id = str(rows[0]["id"]) if rows else ids.new_text()
    if not rows:
        await insert_group(tx, SYSTEM, group_id, name=name, description=None, source=provider)
    await tx.execute("INSERT INTO user_groups (user_id, group_id) VALUES (?, ?) ON CONFLICT DO NOTHING", (user_id, group_id))
