"""What a new installation must have: the system user, the group Everyone, an administrator with a password."""

from typing import Any
from uuid import UUID

from tortoise.exceptions import IntegrityError

from dwctl import clock, ids
from dwctl.accounts import NIL, SYSTEM
from dwctl.accounts.passwords import generate
from dwctl.operations.audit import audit
from dwctl.operations.services import Services
from dwctl.operations.users import check_email, insert_user, with_standard
from dwctl.store import Changes, Tx
from dwctl.store.tables import Group, User


async def ensure_administrator(services: Services) -> str | None:
    """See to it that the system user, Everyone and the configured administrator exist and the latter has a password.

    ``admin_password`` is used only while the account has none; without it one is made, to be changed at the first sign-in, and
    returned, so that it can be shown once. Raises StoreUnavailable.
    """
    email = check_email(services.config.admin_email)
    rows = await services.store.fetch("SELECT password_hash FROM users WHERE live_email = ?", (email.lower(),))
    complete = await services.store.fetch("SELECT id FROM users WHERE id = ? AND EXISTS (SELECT 1 FROM groups WHERE id = ?)", (NIL, NIL))
    if complete and rows and rows[0]["password_hash"]:
        return None
    configured = services.config.admin_password
    password = configured or generate()
    fresh = await services.passwords.hash(password)

    async def write(tx: Tx) -> bool:
        await ensure_foundations(tx)
        return await _ensure_administrator(tx, email, fresh, must_change=configured is None)

    try:
        used = await services.store.write(write)
    except IntegrityError:
        # Another node was first.
        return None
    return password if used and configured is None else None


async def ensure_foundations(tx: Tx) -> None:
    """Insert the system user and the group Everyone where they are missing."""
    now = clock.now_us()
    if not await tx.fetch("SELECT id FROM users WHERE id = ?", (NIL,)):
        await User.create(
            using_db=tx.orm,
            id=UUID(NIL),
            username="system",
            email="system@internal",
            live_username="system",
            live_email="system@internal",
            display_name="System",
            roles=[],
            auth_source="system",
            created_at=now,
            updated_at=now,
        )
        await Changes.note(tx, "user", NIL)
    if not await tx.fetch("SELECT id FROM groups WHERE id = ?", (NIL,)):
        await Group.create(
            using_db=tx.orm,
            id=UUID(NIL),
            name="Everyone",
            live_name="Everyone",
            description="Every user is a member",
            source="native",
            created_by=UUID(NIL),
            created_at=now,
            updated_at=now,
        )


async def _ensure_administrator(tx: Tx, email: str, password_hash: str, *, must_change: bool) -> bool:
    rows = await tx.fetch("SELECT id, password_hash FROM users WHERE live_email = ?", (email.lower(),))
    if not rows:
        columns: dict[str, Any] = {
            "username": email,
            "email": email,
            "is_admin": True,
            "roles": with_standard(["PlatformManager"]),
            "auth_source": "system",
            "password_hash": password_hash,
            "must_change_password": must_change,
        }
        await insert_user(tx, SYSTEM, ids.new_text(), columns, initial_credits_nano=0)
        return True
    if rows[0]["password_hash"]:
        return False
    user_id = str(rows[0]["id"])
    await tx.execute(
        "UPDATE users SET password_hash = ?, must_change_password = ?, revision = revision + 1 WHERE id = ?",
        (password_hash, must_change, user_id),
    )
    await audit(tx, SYSTEM, "users.reset_password", "user", user_id)
    return True
