"""API keys as pages list them: one's own or everybody's, with owner, last use, spend and state."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from dwctl import clock
from dwctl.accounts import NIL, Actor, policy
from dwctl.operations.api_keys import key_missing
from dwctl.operations.consequences import Consequences, consequences
from dwctl.operations.rows import among, canonical
from dwctl.operations.services import Services
from dwctl.store import Row, Store

State = Literal["active", "ending", "expired"]
Sort = Literal["name", "-name", "owner", "-owner", "created", "-created", "last_used", "-last_used", "spent", "-spent"]
ENDING_US = 7 * 86_400 * clock.MICROSECONDS
"""How long before its end a key is said to be ending; and how long after its last use it counts as used."""

_COLUMNS = (
    "k.id, k.name, k.description, k.secret_hint, k.purpose, k.user_id, u.email, k.requests_per_second, k.burst_size, k.max_concurrency,"
    " k.expires_at, k.last_used_at, k.created_at, k.revision, COALESCE(s.total_nano, 0) AS spent_nano"
)
_FROM = "FROM api_keys k JOIN users u ON u.id = k.user_id LEFT JOIN key_spend s ON s.key_id = k.id"
_LIVE = "k.deleted_at IS NULL AND NOT k.hidden AND u.deleted_at IS NULL"
_ORDERS = {"name": "LOWER(k.name)", "owner": "u.email", "created": "k.created_at", "last_used": "COALESCE(k.last_used_at, 0)"} | {
    "spent": "COALESCE(s.total_nano, 0)"
}


class ListedKey(msgspec.Struct, kw_only=True):
    """A key without its secret. Times are microseconds since the epoch, money is nano-credits."""

    id: str
    name: str
    description: str | None
    hint: str
    purpose: str
    owner_id: str
    owner_email: str
    requests_per_second: float | None
    burst_size: int | None
    max_concurrency: int | None
    expires_us: int | None
    last_used_us: int | None
    created_us: int
    spent_nano: int
    revision: int
    state: State
    """``ending``: within a week."""


class KeyFilter(msgspec.Struct, kw_only=True):
    """Which keys. ``owner_id`` None: everybody's. ``search``: in name, hint and owner's address. ``ids``: only these."""

    owner_id: str | None = None
    search: str | None = None
    state: State | None = None
    sort: Sort = "-created"
    ids: Sequence[str] | None = None


class Deletion(msgspec.Struct):
    """What deleting a key would end. ``used_lately``: within a week, so that its name has to be typed."""

    consequences: Consequences
    used_lately: bool


async def list_keys(services: Services, actor: Actor, chosen: KeyFilter, *, skip: int, limit: int) -> tuple[list[ListedKey], int]:
    """Keys, and how many there are. Raises GatewayError 403."""
    if chosen.owner_id is None:
        policy.require(actor, "ApiKeys", "read_all")
    else:
        policy.require_for(actor, "ApiKeys", "read_all", chosen.owner_id)
    now = clock.now_us()
    where, args = _condition(services.store, chosen, now)
    order = f"{_ORDERS[chosen.sort.lstrip('-')]} {'DESC' if chosen.sort.startswith('-') else 'ASC'}, k.id DESC"
    rows = await services.store.fetch(f"SELECT {_COLUMNS} {_FROM} WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?", [*args, limit, skip])
    [total] = await services.store.fetch(f"SELECT COUNT(*) AS total {_FROM} WHERE {where}", args)
    return [_listed(services, row, now) for row in rows], int(total["total"])


async def read_key(services: Services, actor: Actor, key_id: str) -> ListedKey:
    """One key, whoever's it is. Raises GatewayError 404, also for one that the actor may not see."""
    rows = await services.store.fetch(f"SELECT {_COLUMNS} {_FROM} WHERE {_LIVE} AND k.id = ?", (canonical(key_id) or NIL,))
    if not rows or not policy.allows_for(actor, "ApiKeys", "read_all", str(rows[0]["user_id"])):
        raise key_missing(key_id)
    return _listed(services, rows[0], clock.now_us())


async def deletion_of(services: Services, actor: Actor, key: ListedKey) -> Deletion:
    """What deleting it would end. Raises GatewayError 403, 404."""
    counted = await consequences(services, actor, "api_key", key.id)
    lately = key.last_used_us is not None and clock.now_us() - key.last_used_us < ENDING_US
    return Deletion(counted, lately)


def _condition(store: Store, chosen: KeyFilter, now: int) -> tuple[str, list[Any]]:
    parts, args = [_LIVE], []  # type: list[str], list[Any]
    if chosen.owner_id is not None:
        parts.append("k.user_id = ?")
        args.append(chosen.owner_id)
    if chosen.search and chosen.search.strip():
        condition, found = store.containing(chosen.search.strip(), "k.name", "k.secret_hint", "u.email")
        parts.append(condition)
        args += found
    if chosen.state == "expired":
        parts.append("k.expires_at <= ?")
        args.append(now)
    elif chosen.state == "ending":
        parts.append("k.expires_at > ? AND k.expires_at <= ?")
        args += [now, now + ENDING_US]
    elif chosen.state == "active":
        parts.append("(k.expires_at IS NULL OR k.expires_at > ?)")
        args.append(now + ENDING_US)
    if chosen.ids is not None:
        parts.append(among("k.id", chosen.ids))
        args += chosen.ids
    return " AND ".join(parts), args


def _listed(services: Services, row: Row, now: int) -> ListedKey:
    key_id, ends = str(row["id"]), row["expires_at"]
    state: State = "active" if ends is None or ends > now + ENDING_US else "expired" if ends <= now else "ending"
    return ListedKey(
        id=key_id,
        name=row["name"],
        description=row["description"],
        hint=row["secret_hint"],
        purpose=row["purpose"],
        owner_id=str(row["user_id"]),
        owner_email=row["email"],
        requests_per_second=row["requests_per_second"],
        burst_size=row["burst_size"],
        max_concurrency=row["max_concurrency"],
        expires_us=ends,
        last_used_us=max(filter(None, (row["last_used_at"], services.keyring.last_used(key_id))), default=None),
        created_us=row["created_at"],
        spent_nano=row["spent_nano"],
        revision=row["revision"],
        state=state,
    )
