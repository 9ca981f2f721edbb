"""Users: listing, creating, changing and deleting them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType
from tortoise.exceptions import IntegrityError
from tortoise.expressions import Q

from dwctl import clock, ids
from dwctl.accounts import NIL, Actor, policy
from dwctl.config import Role, is_email
from dwctl.errors import GatewayError, bad_request, conflict, forbidden, not_found
from dwctl.ledger import transactions
from dwctl.operations.account_views import USER_COLUMNS, GroupResponse, UserResponse, groups_of_users, user_view
from dwctl.operations.audit import audit
from dwctl.operations.bounds import check_text, optional_text
from dwctl.operations.rows import about, among, canonical, change_row, changes_of, check_revision
from dwctl.operations.services import Services
from dwctl.store import Changes, Tx
from dwctl.store.tables import ApiKey, User, UserGroup

EMAIL_TAKEN = "An account with this email address already exists"
USERNAME_TAKEN = "This username is already taken"


class UserCreate(msgspec.Struct, kw_only=True):
    """Body of POST /users."""

    username: str
    email: str
    display_name: str | None = None
    avatar_url: str | None = None
    roles: list[Role] = []


class _Unsupported(msgspec.Struct, kw_only=True):
    batch_notifications_enabled: bool | None = False
    low_balance_threshold: float | None = None
    auto_topup_amount: float | None = None
    auto_topup_threshold: float | None = None
    auto_topup_monthly_limit: float | None = None


class UserUpdate(_Unsupported, kw_only=True):
    """Body of PATCH /users/{id}: a field left out stays, and so does null; an empty text clears the name and the picture. Notifications
    and automatic payments are not supported: refused, unless they are off."""

    display_name: str | UnsetType | None = UNSET
    avatar_url: str | UnsetType | None = UNSET
    roles: list[Role] | UnsetType | None = UNSET
    verified: bool | UnsetType | None = UNSET
    zero_data_retention: bool | UnsetType | None = UNSET


async def list_users(
    services: Services,
    actor: Actor,
    *,
    skip: int,
    limit: int,
    search: str | None = None,
    ids: Sequence[str] | None = None,
    include: Collection[str] = (),
) -> tuple[list[UserResponse], int]:
    """Users, newest first, and how many there are. ``ids``: only these; ``include``: groups, billing (for those who may read credits).
    Raises GatewayError 403."""
    policy.require(actor, "Users", "read_all")
    where = f"deleted_at IS NULL AND id <> '{NIL}'"
    args: list[object] = []
    if search and search.strip():
        condition, found = services.store.containing(search.strip(), "email", "username", "display_name")
        where += f" AND {condition}"
        args += found
    if ids is not None:
        where += f" AND {among('id', ids)}"
        args += ids
    rows = await services.store.fetch(
        f"SELECT {USER_COLUMNS} FROM users WHERE {where} ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?", [*args, limit, skip]
    )
    total = await services.store.fetch(f"SELECT COUNT(*) AS total FROM users WHERE {where}", args)
    users = [user_view(row) for row in rows]
    billing = "billing" in include and policy.allows(actor, "Credits", "read_all")
    await _include(services, actor, users, groups="groups" in include, billing=billing)
    return users, total[0]["total"]


async def get_user(services: Services, actor: Actor, user_id: str, *, include: Collection[str] = ()) -> UserResponse:
    """One user. Raises GatewayError 403, 404."""
    policy.require_for(actor, "Users", "read_all", user_id)
    user = await read_user(services, user_id)
    billing = "billing" in include and policy.allows_for(actor, "Credits", "read_all", user_id)
    await _include(services, actor, [user], groups="groups" in include, billing=billing)
    if "organizations" in include:
        user.organizations = []
    return user


async def read_user(services: Services, user_id: str) -> UserResponse:
    """A live user, whoever asks. Raises GatewayError 404."""
    rows = await services.store.fetch(f"SELECT {USER_COLUMNS} FROM users WHERE id = ? AND deleted_at IS NULL", (user_id,))
    if not rows:
        raise user_missing(user_id)
    return user_view(rows[0])


async def find_user(services: Services, actor: Actor, email: str) -> UserResponse | None:
    """The live user with an e-mail address, in whatever case, or None. Raises GatewayError 403."""
    policy.require(actor, "Users", "read_all")
    rows = await services.store.fetch(f"SELECT {USER_COLUMNS} FROM users WHERE live_email = ?", (email.strip().lower(),))
    return user_view(rows[0]) if rows else None


async def groups_seen(services: Services, actor: Actor, user_ids: Sequence[str]) -> Mapping[str, list[GroupResponse]]:
    """``groups_of_users`` as the actor may see them: who made a group is not for everybody."""
    found = await groups_of_users(services.store, user_ids)
    if not policy.allows(actor, "Groups", "read_all"):
        for groups in found.values():
            for group in groups:
                group.created_by = UNSET
    return found


async def _include(services: Services, actor: Actor, users: Sequence[UserResponse], *, groups: bool, billing: bool) -> None:
    if groups:
        memberships = await groups_seen(services, actor, [user.id for user in users])
        for user in users:
            user.groups = memberships[user.id]
    if billing:
        for user in users:
            user.credit_balance = services.ledger.balances.balance(user.id) / 1e9


async def create_user(services: Services, actor: Actor, body: UserCreate, *, password: str | None = None) -> UserResponse:
    """A new user, with a first password that they must change, or one who signs in through a proxy or is given a password later.
    Raises GatewayError 400, 403, 409."""
    policy.require(actor, "Users", "create_all")
    columns: dict[str, Any] = {
        "username": check_text(body.username, "username"),
        "email": check_email(body.email),
        "display_name": optional_text(body.display_name, "display_name"),
        "avatar_url": optional_text(body.avatar_url, "avatar_url", 2048),
        "roles": with_standard(body.roles),
        "auth_source": "system",
    }
    if password is not None:
        services.passwords.check_length(password, field="password")
        columns |= {"password_hash": await services.passwords.hash(password), "must_change_password": True}
    user_id = ids.new_text()
    await add_user(services, actor, user_id, columns)
    return await read_user(services, user_id)


async def add_user(services: Services, actor: Actor, user_id: str, columns: dict[str, Any]) -> None:
    """Insert a user with the configured first credits, and wait until this node knows them. Raises GatewayError 409."""
    initial = services.config.credits.initial_credits_for_standard_users

    async def write(tx: Tx) -> int:
        await refuse_taken(tx, columns["username"], columns["email"])
        return await insert_user(tx, actor, user_id, columns, initial_credits_nano=initial)

    try:
        seq = await services.store.write(write)
    except IntegrityError as error:
        raise conflict("Resource already exists", resource="user") from error
    await services.changes.applied(seq)


async def insert_user(tx: Tx, actor: Actor, user_id: str, columns: dict[str, Any], *, initial_credits_nano: int) -> int:
    """Insert a row with its audit row and first credits; the change's number."""
    now = clock.now_us()
    await User.create(
        using_db=tx.orm,
        id=UUID(user_id),
        live_username=columns["username"],
        live_email=columns["email"].lower(),
        created_at=now,
        updated_at=now,
        **columns,
    )
    await audit(tx, actor, "users.create", "user", user_id, None, columns)
    if initial_credits_nano and "StandardUser" in columns["roles"]:
        await transactions.grant(tx, user_id, initial_credits_nano, f"initial-credits-{user_id}", "Initial credits")
        await Changes.note(tx, "balance", user_id)
    return await Changes.note(tx, "user", user_id)


async def refuse_taken(tx: Tx, username: str, email: str) -> None:
    """Raise GatewayError 409 if a live user has the username or the e-mail address."""
    rows = await tx.fetch("SELECT live_email FROM users WHERE live_email = ? OR live_username = ?", (email.lower(), username))
    if any(row["live_email"] == email.lower() for row in rows):
        raise conflict(EMAIL_TAKEN, param="email", resource="user")
    if rows:
        raise conflict(USERNAME_TAKEN, param="username", resource="user")


async def update_user(services: Services, actor: Actor, user_id: str, body: UserUpdate, *, revision: int | None = None) -> UserResponse:
    """Change a user. Roles, and whether they are verified, need the right over everybody's, also for oneself.
    Raises GatewayError 400, 403, 404, 412."""
    policy.require_for(actor, "Users", "update_all", user_id)
    keeps = ("display_name", "avatar_url", "roles", "verified", "zero_data_retention")
    changes = changes_of(body, null_keeps=keeps, unsupported=_Unsupported)
    if changes.keys() & {"roles", "verified"}:
        policy.require(actor, "Users", "update_all")
    if "roles" in changes:
        changes["roles"] = with_standard(changes["roles"])
    for name, length in (("display_name", 255), ("avatar_url", 2048)):
        if name in changes:
            changes[name] = optional_text(changes[name], name, length)

    async def write(tx: Tx) -> int | None:
        row = await live_user(tx, user_id)
        difference = await change_row(tx, row, changes, revision=revision)
        if not difference:
            return None
        before, after = ({name: pair[side] for name, pair in difference.items()} for side in (0, 1))
        await audit(tx, actor, "users.update", "user", user_id, before, after)
        return await Changes.note(tx, "user", user_id)

    seq = await services.store.write(write)
    if seq is not None:
        await services.changes.applied(seq)
    return await read_user(services, user_id)


async def delete_user(services: Services, actor: Actor, user_id: str, *, revision: int | None = None) -> None:
    """Delete a user softly: their keys and sessions end at once, and name and e-mail address are free again.
    Raises GatewayError 400 (oneself), 403 (also for an administrator, to others), 404, 412."""
    policy.require(actor, "Users", "delete_all")

    async def write(tx: Tx) -> int:
        row = await live_user(tx, user_id)
        check_revision(row, revision)
        await _delete_user(tx, actor, row)
        return await Changes.note(tx, "user", str(row.id))

    await services.changes.applied(await services.store.write(write))


async def delete_users(services: Services, actor: Actor, user_ids: Sequence[str]) -> None:
    """As ``delete_user``, of several in one transaction; what it raises says of which: then none is deleted."""
    policy.require(actor, "Users", "delete_all")

    async def write(tx: Tx) -> int | None:
        seq = None
        for user_id in user_ids:
            row = await live_user(tx, user_id)
            with about(row.email, of=len(user_ids)):
                await _delete_user(tx, actor, row)
            seq = await Changes.note(tx, "user", str(row.id))
        return seq

    seq = await services.store.write(write)
    if seq is not None:
        await services.changes.applied(seq)


async def _delete_user(tx: Tx, actor: Actor, row: User) -> None:
    """Delete one with keys, sessions and memberships, audited. The change is the caller's to note."""
    user_id = str(row.id)
    if user_id == actor.user_id:
        raise bad_request("You cannot delete your own account")
    if row.is_admin and not actor.is_admin:
        raise forbidden("Only an administrator can delete an administrator", code="insufficient_permissions")
    now = clock.now_us()
    for key in await ApiKey.filter(Q(user_id=row.id) | Q(created_by=row.id), deleted_at=None).using_db(tx.orm):
        await delete_key_row(tx, actor, key)
    await tx.execute("DELETE FROM sessions WHERE user_id = ?", (user_id,))
    await UserGroup.filter(user_id=row.id).using_db(tx.orm).delete()
    await (
        User.filter(id=row.id)
        .using_db(tx.orm)
        .update(
            email=f"deleted-{user_id}@deleted.local",
            live_username=None,
            live_email=None,
            external_user_id=None,
            password_hash=None,
            display_name=None,
            avatar_url=None,
            deleted_at=now,
            updated_at=now,
            revision=row.revision + 1,
        )
    )
    await audit(tx, actor, "users.delete", "user", user_id, {"username": row.username, "email": row.email}, None)


async def delete_key_row(tx: Tx, actor: Actor, row: ApiKey) -> None:
    """Delete one live key softly, with its audit row. The change is the caller's to note."""
    await change_row(tx, row, {"deleted_at": clock.now_us(), "live_name": None})
    was = {"name": row.name, "user_id": str(row.user_id), "created_by": str(row.created_by), "hint": row.secret_hint}
    await audit(tx, actor, "api_keys.delete", "api_key", str(row.id), was, None)


async def live_user(tx: Tx, user_id: str) -> User:
    """A live user's row inside a transaction. Raises GatewayError 403 for the system user, 404."""
    if user_id == NIL:
        raise forbidden("The system user is protected", code="protected")
    known = canonical(user_id)
    row = await User.get_or_none(id=known, deleted_at=None, using_db=tx.orm) if known else None
    if row is None:
        raise user_missing(user_id)
    return row


def user_missing(user_id: str) -> GatewayError:
    """404 in the words of Doubleword's control layer."""
    return not_found(f"User with ID {user_id} not found")


def with_standard(roles: Iterable[str]) -> list[str]:
    """The roles without repetition; StandardUser is always among them."""
    return list(dict.fromkeys(["StandardUser", *roles]))


def check_email(text: str) -> str:
    """A trimmed e-mail address. Raises GatewayError 400."""
    email = text.strip()
    if not is_email(email):
        raise bad_request("email is not an e-mail address", param="email")
    return email
