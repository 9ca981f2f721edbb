"""The audit trail: who changed what, from where, what it was before and after. Written in the transaction of the act."""

from typing import TYPE_CHECKING, Any

import msgspec

from dwctl.accounts.actors import Actor
from dwctl.clock import now_us
from dwctl.store.tables import AuditRow

if TYPE_CHECKING:
    from dwctl.store import Tx

_NEVER = frozenset(
    {"password", "password_hash", "current_password", "new_password", "key", "api_key", "secret", "secret_hash", "credential", "sealed_credential"}
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
