"""One's own sessions: where one is signed in, and ending one of them. They are named by the beginning of their hash."""

import msgspec

from dwctl import clock
from dwctl.accounts import Actor
from dwctl.accounts.sessions import end_sessions_of
from dwctl.clock import to_rfc3339
from dwctl.errors import not_found
from dwctl.operations.audit import audit
from dwctl.operations.services import Services
from dwctl.store import Changes, Tx

_NAME = 16


class SessionView(msgspec.Struct):
    """A live session. ``present``: it is the one that asks."""

    name: str
    created_at: str
    expires_at: str
    client_ip: str | None
    user_agent: str | None
    present: bool


async def own_sessions(services: Services, actor: Actor) -> list[SessionView]:
    """The actor's live sessions, newest first."""
    rows = await services.store.fetch(
        "SELECT id_hash, created_at, expires_at, client_ip, user_agent FROM sessions WHERE user_id = ? AND expires_at > ?"
        " ORDER BY created_at DESC LIMIT 100",
        (actor.user_id, clock.now_us()),
    )
    return [
        SessionView(
            row["id_hash"][:_NAME],
            to_rfc3339(row["created_at"]),
            to_rfc3339(row["expires_at"]),
            row["client_ip"],
            row["user_agent"],
            row["id_hash"] == actor.session_hash,
        )
        for row in rows
    ]


async def end_own_session(services: Services, actor: Actor, name: str) -> None:
    """End one of the actor's sessions. Raises GatewayError 404."""

    async def write(tx: Tx) -> None:
        found = len(name) == _NAME and await tx.execute(
            "DELETE FROM sessions WHERE user_id = ? AND SUBSTR(id_hash, 1, 16) = ?", (actor.user_id, name)
        )
        if not found:
            raise not_found("This session has already ended")
        await Changes.note(tx, "session")
        await audit(tx, actor, "sessions.delete", "session", None)

    await services.store.write(write)


async def end_other_sessions(services: Services, actor: Actor) -> None:
    """End every session of the actor's but the one that asks."""

    async def write(tx: Tx) -> None:
        await end_sessions_of(tx, actor.user_id, keep=actor.session_hash)
        await audit(tx, actor, "sessions.delete_others", "session", None)

    await services.store.write(write)
