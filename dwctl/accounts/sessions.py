"""Browser sessions: the cookie holds 256 random bits, the store their SHA-256 and whose session it is.

Nothing about the user is kept in the session: roles are read with it on every request, and deleting the row ends it.
"""

import hashlib
import secrets
from typing import TYPE_CHECKING

import msgspec

from dwctl.accounts.principals import roles_of
from dwctl.store.changes import Changes

if TYPE_CHECKING:
    from dwctl.store import Store, Tx


class SessionUser(msgspec.Struct, frozen=True):
    """A live session and the user behind it, as of now."""

    session_hash: str
    user_id: str
    email: str
    is_admin: bool
    roles: frozenset[str]
    must_change_password: bool


def hash_token(token: str) -> str:
    """What the store keeps of a session's token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


async def open_session(
    tx: "Tx", user_id: str, *, now_us: int, lifetime_seconds: float, client_ip: str | None, user_agent: str | None
) -> str:
    """Begin a session and return its token. Sessions that have run out are removed on the way."""
    token = secrets.token_urlsafe(32)
    await tx.execute("DELETE FROM sessions WHERE expires_at <= ?", (now_us,))
    await tx.execute(
        "INSERT INTO sessions (id_hash, user_id, created_at, expires_at, client_ip, user_agent) VALUES (?, ?, ?, ?, ?, ?)",
        (
            hash_token(token),
            user_id,
            now_us,
            now_us + int(lifetime_seconds * 1_000_000),
            client_ip and client_ip[:64],
            user_agent and _stored_text(user_agent, 255),
        ),
    )
    return token


async def find_session(store: "Store", token: str, now_us: int) -> SessionUser | None:
    """The live session of a token, with its live user; None for anything else. Raises StoreUnavailable."""
    session_hash = hash_token(token)
    rows = await store.fetch(
        "SELECT u.id, u.email, u.is_admin, u.roles, u.must_change_password FROM sessions s JOIN users u ON u.id = s.user_id"
        " WHERE s.id_hash = ? AND s.expires_at > ? AND u.deleted_at IS NULL",
        (session_hash, now_us),
    )
    if not rows:
        return None
    row = rows[0]
    return SessionUser(
        session_hash=session_hash,
        user_id=str(row["id"]),
        email=row["email"],
        is_admin=bool(row["is_admin"]),
        roles=frozenset(roles_of(row["roles"])),
        must_change_password=bool(row["must_change_password"]),
    )


async def end_session(tx: "Tx", session_hash: str) -> None:
    """End one session; every node hears of it."""
    await tx.execute("DELETE FROM sessions WHERE id_hash = ?", (session_hash,))
    await Changes.note(tx, "session")


async def end_sessions_of(tx: "Tx", user_id: str, *, keep: str | None = None) -> None:
    """End every session of a user, except the one whose hash is ``keep``; every node hears of it."""
    await tx.execute("DELETE FROM sessions WHERE user_id = ? AND id_hash <> ?", (user_id, keep or ""))
    await Changes.note(tx, "session")


async def end_access_of(tx: "Tx", user_id: str, *, keep: str | None = None) -> None:
    """End what was opened to whoever could sign in as a user until now: sessions, except ``keep``, and links to choose a password."""
    await tx.execute("DELETE FROM password_resets WHERE user_id = ?", (user_id,))
    await end_sessions_of(tx, user_id, keep=keep)


def _stored_text(text: str, length: int) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "")[:length]
