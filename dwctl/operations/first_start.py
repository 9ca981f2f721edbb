"""What a new installation must have: the system user, the group Everyone, an administrator with a password."""

from typing import Any
from uuid import UUID

from dwctl import clock, ids
from dwctl.accounts import NIL, SYSTEM
from dwctl.accounts.passwords import generate
from dwctl.config import SYSTEM_EMAIL
from dwctl.errors import ConfigurationError
from dwctl.operations.audit import audit
from dwctl.operations.rows import change_row
from dwctl.operations.services import Services
from dwctl.operations.users import check_email, insert_user, with_standard
from dwctl.store import Changes, Store, Tx
from dwctl.store.tables import Group, User

_SYSTEM = "system"
_ADMINISTRATORS = "SELECT id FROM users WHERE is_admin AND deleted_at IS NULL LIMIT 1"
_ROLES = ("PlatformManager",)


async def ensure_administrator(services: Services) -> str | None:
    """See to it that the system user, Everyone and the configured administrator exist and the latter has a password.

    An account that has the administrator's address already (``apply`` may have made it) becomes one if there is no other.

    ``admin_password`` is used only while the account has none; without it one is made, to be changed at the first sign-in, and
    returned, so that it can be shown once; but none is made where nobody signs in with a password. Raises ConfigurationError where
    another account has a name that one of these needs, and StoreUnavailable.
    """
    email = check_email(services.config.admin_email)
    rows = await services.store.fetch("SELECT password_hash FROM users WHERE live_email = ?", (email.lower(),))
    complete = await services.store.fetch("SELECT id FROM users WHERE id = ? AND EXISTS (SELECT 1 FROM groups WHERE id = ?)", (NIL, NIL))
    configured = services.config.admin_password
    password = configured or (generate() if services.config.auth.native.enabled else None)
    if complete and rows and (rows[0]["password_hash"] or password is None) and await services.store.fetch(_ADMINISTRATORS):
        return None
    fresh = None if password is None else await services.passwords.hash(password)

    async def write(tx: Tx) -> bool:
        await _ensure_foundations(tx)
        return await _ensure_administrator(tx, email, fresh, must_change=fresh is not None and configured is None)

    used = await services.store.write(write)
    return password if used and configured is None else None


async def ensure_foundations(store: Store) -> None:
    """Insert the system user and the group Everyone where they are missing. Raises ConfigurationError and StoreUnavailable."""
    await store.write(_ensure_foundations)


async def _ensure_foundations(tx: Tx) -> None:
    now = clock.now_us()
    if not await tx.fetch("SELECT id FROM users WHERE id = ?", (NIL,)):
        await _refuse_taken(tx, _SYSTEM, SYSTEM_EMAIL, "start with a new database, or change that account in the table users")
        await User.create(
            using_db=tx.orm,
            id=UUID(NIL),
            username=_SYSTEM,
            email=SYSTEM_EMAIL,
            live_username=_SYSTEM,
            live_email=SYSTEM_EMAIL,
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


async def _ensure_administrator(tx: Tx, email: str, password_hash: str | None, *, must_change: bool) -> bool:
    row = await User.get_or_none(live_email=email.lower(), using_db=tx.orm)
    if row is None:
        await _refuse_taken(tx, email, email, "give it another username with `dwctl apply`, or set another admin_email")
        columns: dict[str, Any] = {
            "username": email,
            "email": email,
            "is_admin": True,
            "roles": with_standard(_ROLES),
            "auth_source": "system",
            "password_hash": password_hash,
            "must_change_password": must_change,
        }
        await insert_user(tx, SYSTEM, ids.new_text(), columns, initial_credits_nano=0)
        return True
    if not await tx.fetch(_ADMINISTRATORS):
        if row.auth_source == "native":
            raise ConfigurationError(f"the account {email} was registered by whoever has its password: set another admin_email")
        await _promote(tx, row)
    if row.password_hash or password_hash is None:
        return False
    await change_row(tx, row, {"password_hash": password_hash, "must_change_password": must_change})
    await audit(tx, SYSTEM, "users.reset_password", "user", str(row.id))
    return True


async def _refuse_taken(tx: Tx, username: str, email: str, remedy: str) -> None:
    """Raise ConfigurationError, which says what to do, if an account has the username or the e-mail address."""
    rows = await tx.fetch("SELECT email, username FROM users WHERE live_username = ? OR live_email = ?", (username, email.lower()))
    if rows:
        holder = rows[0]
        name = f"username {username}" if holder["username"] == username else f"e-mail address {email}"
        raise ConfigurationError(f"the {name}, which is needed here, belongs to the account {holder['email']}: {remedy}")


async def _promote(tx: Tx, row: User) -> None:
    """Make somebody an administrator."""
    changes = {"is_admin": True, "roles": with_standard([*row.roles, *_ROLES])}
    before = {name: getattr(row, name) for name in changes}
    await change_row(tx, row, changes)
    await audit(tx, SYSTEM, "users.update", "user", str(row.id), before, changes)
    await Changes.note(tx, "user", str(row.id))
