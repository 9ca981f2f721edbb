"""The audit trail: who changed what, from where, what it was before and after. Written in the transaction of the act."""

import json
from typing import TYPE_CHECKING, Any

import msgspec

from dwctl.accounts import policy
from dwctl.accounts.actors import Actor
from dwctl.clock import now_us, to_rfc3339
from dwctl.store.tables import AuditRow

if TYPE_CHECKING:
    from dwctl.store import Row, Store, Tx

_NEVER = frozenset(
    {
        "password",
        "password_hash",
        "current_password",
        "new_password",
        "key",
        "api_key",
        "secret",
        "secret_hash",
        "credential",
        "sealed_credential",
    }
)
"""Fields that stay out of the trail whoever passes them."""


async def audit(
    tx: "Tx",
    actor: Actor,
    action: str,
    resource: str,
    resource_id: str | None,
    before: Any = None,
    after: Any = None,
) -> None:
    """Append an audit row.

    ``action`` e.g. ``groups.update``; ``before`` and ``after`` are structs or dicts, None when there was nothing. When both are
    given only the fields that differ are kept.
    """
    old, new = _plain(before), _plain(after)
    if old is not None and new is not None:
        differing = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
        old = {name: value for name, value in old.items() if name in differing}
        new = {name: value for name, value in new.items() if name in differing}
    await AuditRow.create(
        using_db=tx.orm,
        at=now_us(),
        actor_id=actor.user_id,
        actor=actor.email[:320],
        via=actor.via,
        client_ip=actor.client_ip and actor.client_ip[:64],
        action=action,
        resource=resource,
        resource_id=resource_id,
        before=old,
        after=new,
    )


def _plain(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    built = msgspec.to_builtins(value, str_keys=True)
    if not isinstance(built, dict):
        raise TypeError("an audit row keeps an object's fields")
    return {name: item for name, item in built.items() if name not in _NEVER}


class AuditEntry(msgspec.Struct, kw_only=True):
    """One act. ``seq`` ascends in commit order; ``before`` and ``after`` hold the fields that changed."""

    seq: int
    at: str
    actor_id: str | None
    actor: str
    via: str
    client_ip: str | None
    action: str
    resource: str
    resource_id: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditFilter(msgspec.Struct, kw_only=True):
    """Which acts; None: whichever. ``before_seq``: older than that one. Times are microseconds."""

    action: str | None = None
    resource: str | None = None
    resource_id: str | None = None
    actor_id: str | None = None
    from_us: int | None = None
    until_us: int | None = None
    before_seq: int | None = None


async def list_audit(store: "Store", actor: Actor, chosen: AuditFilter, *, limit: int) -> list[AuditEntry]:
    """Acts, newest first. Raises GatewayError 403."""
    policy.require(actor, "System", "read_all")
    conditions = [
        ("action = ?", chosen.action),
        ("resource = ?", chosen.resource),
        ("resource_id = ?", chosen.resource_id),
        ("actor_id = ?", chosen.actor_id),
        ("at >= ?", chosen.from_us),
        ("at < ?", chosen.until_us),
        ("seq < ?", chosen.before_seq),
    ]
    given = [(sql, value) for sql, value in conditions if value is not None]
    where = f"WHERE {' AND '.join(sql for sql, _ in given)}" if given else ""
    rows = await store.fetch_report(
        "SELECT seq, at, actor_id, actor, via, client_ip, action, resource, resource_id, before, after"
        f" FROM audit_log {where} ORDER BY seq DESC LIMIT ?",
        [*(value for _, value in given), limit],
    )
    return [_entry(row) for row in rows]


async def recent_actions(store: "Store", actor: Actor) -> list[str]:
    """The names of the newest acts, each once, by alphabet. Raises GatewayError 403."""
    policy.require(actor, "System", "read_all")
    rows = await store.fetch_report(
        "SELECT DISTINCT action FROM (SELECT action FROM audit_log ORDER BY seq DESC LIMIT 5000) AS newest ORDER BY action"
    )
    return [row["action"] for row in rows]


def _entry(row: "Row") -> AuditEntry:
    return AuditEntry(
        seq=row["seq"],
        at=to_rfc3339(row["at"]),
        actor_id=None if row["actor_id"] is None else str(row["actor_id"]),
        actor=row["actor"],
        via=row["via"],
        client_ip=row["client_ip"],
        action=row["action"],
        resource=row["resource"],
        resource_id=row["resource_id"],
        before=_stored(row["before"]),
        after=_stored(row["after"]),
    )


def _stored(value: str | dict[str, Any] | None) -> dict[str, Any] | None:
    """JSON as the store gives it: text, or already an object, depending on the database."""
    return json.loads(value) if isinstance(value, str) else value
