"""Groups: listing, creating, changing and deleting them, and who is a member.

Everyone (the nil UUID) has every user but the system user as a member, without rows, and cannot be changed. Which models
a group may call is granted in ``dwctl.operations.models``.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType
from tortoise.exceptions import IntegrityError

from dwctl import clock, ids
from dwctl.accounts import NIL, Actor, policy
from dwctl.errors import GatewayError, conflict, forbidden, not_found
from dwctl.operations import catalog_views
from dwctl.operations.account_views import (
    GROUP_COLUMNS,
    USER_COLUMNS,
    GroupResponse,
    UserResponse,
    group_view,
    in_chunks,
    user_view,
    users_by_id,
)
from dwctl.operations.audit import audit
from dwctl.operations.bounds import check_description, check_text
from dwctl.operations.rows import about, canonical, change_row, changes_of, check_revision, count_up
from dwctl.operations.services import Services
from dwctl.operations.users import groups_seen, live_user, read_user
from dwctl.store import Changes, Tx
from dwctl.store.tables import Group, ModelGroup, User, UserGroup


class GroupCreate(msgspec.Struct, kw_only=True):
    """Body of POST /groups."""

    name: str
    description: str | None = None


class GroupUpdate(msgspec.Struct, kw_only=True):
    """Body of PATCH /groups/{id}: a field left out stays, and so does null; an empty text clears the description."""

    name: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET


async def list_groups(
    services: Services, actor: Actor, *, skip: int, limit: int, search: str | None = None, include: Collection[str] = ()
) -> tuple[list[GroupResponse], int]:
    """Groups by name, and how many there are. ``include``: users, models. Raises GatewayError 403."""
    policy.require(actor, "Groups", "read_all")
    where = "deleted_at IS NULL"
    args: list[object] = []
    if search and search.strip():
        condition, found = services.store.containing(search.strip(), "name", "description")
        where += f" AND {condition}"
        args += found
    rows = await services.store.fetch(
        f"SELECT {GROUP_COLUMNS} FROM groups WHERE {where} ORDER BY name, id LIMIT ? OFFSET ?", [*args, limit, skip]
    )
    total = await services.store.fetch(f"SELECT COUNT(*) AS total FROM groups WHERE {where}", args)
    groups = [group_view(row) for row in rows]
    if "users" in include:
        await _include_users(services, groups)
    if "models" in include:
        await _include_models(services, actor, groups)
    return groups, total[0]["total"]


async def _include_users(services: Services, groups: Sequence[GroupResponse]) -> None:
    members = {group.id: await _member_ids(services, group.id) for group in groups}
    users = await users_by_id(services.store, {user_id for user_ids in members.values() for user_id in user_ids})
    for group in groups:
        group.users = [users[user_id] for user_id in members[group.id] if user_id in users]


async def _include_models(services: Services, actor: Actor, groups: Sequence[GroupResponse]) -> None:
    held = {group.id: await catalog_views.group_models(actor, group.id) for group in groups}
    distinct = {model_id for model_ids in held.values() for model_id in model_ids}
    models = {model_id: await catalog_views.get_model(services, actor, model_id) for model_id in distinct}
    for group in groups:
        group.models = [models[model_id] for model_id in held[group.id]]


async def _member_ids(services: Services, group_id: str) -> list[str]:
    if group_id == NIL:
        rows = await services.store.fetch(f"SELECT id AS user_id FROM users WHERE deleted_at IS NULL AND id <> '{NIL}' ORDER BY id")
    else:
        rows = await services.store.fetch("SELECT user_id FROM user_groups WHERE group_id = ? ORDER BY user_id", (group_id,))
    return [str(row["user_id"]) for row in rows]


async def get_group(services: Services, actor: Actor, group_id: str) -> GroupResponse:
    """One group. Raises GatewayError 403, 404."""
    policy.require(actor, "Groups", "read_all")
    return await _read_group(services, group_id)


async def _read_group(services: Services, group_id: str) -> GroupResponse:
    rows = await services.store.fetch(f"SELECT {GROUP_COLUMNS} FROM groups WHERE id = ? AND deleted_at IS NULL", (group_id,))
    if not rows:
        raise group_missing(group_id)
    return group_view(rows[0])


async def create_group(services: Services, actor: Actor, body: GroupCreate) -> GroupResponse:
    """A new group without members. Raises GatewayError 400, 403, 409."""
    policy.require(actor, "Groups", "create_all")
    name = check_text(body.name, "name")
    description = check_description(body.description)
    group_id = ids.new_text()

    async def write(tx: Tx) -> int:
        await _refuse_taken(tx, name)
        await insert_group(tx, actor, group_id, name=name, description=description, source="native")
        return await Changes.note(tx, "catalog", group_id)

    try:
        seq = await services.store.write(write)
    except IntegrityError as error:
        raise _name_taken() from error
    await services.changes.applied(seq)
    return await _read_group(services, group_id)


async def insert_group(tx: Tx, actor: Actor, group_id: str, *, name: str, description: str | None, source: str) -> None:
    """Insert a group with its audit row."""
    now = clock.now_us()
    columns: dict[str, Any] = {"name": name, "description": description, "source": source}
    await Group.create(
        using_db=tx.orm, id=UUID(group_id), live_name=name, created_by=UUID(actor.user_id), created_at=now, updated_at=now, **columns
    )
    await audit(tx, actor, "groups.create", "group", group_id, None, columns)


async def update_group(services: Services, actor: Actor, group_id: str, body: GroupUpdate, *, revision: int | None = None) -> GroupResponse:
    """Change a group. Raises GatewayError 400, 403 (also for Everyone), 404, 409, 412."""
    policy.require(actor, "Groups", "update_all")
    changes = changes_of(body, null_keeps=("name", "description"))
    if "name" in changes:
        changes["name"] = changes["live_name"] = check_text(changes["name"], "name")
    if "description" in changes:
        changes["description"] = check_description(changes["description"])

    async def write(tx: Tx) -> int | None:
        row = await _live_group(tx, group_id, "Update")
        if "name" in changes and changes["name"] != row.name:
            await _refuse_taken(tx, changes["name"])
        difference = await change_row(tx, row, changes, revision=revision)
        if not difference:
            return None
        difference.pop("live_name", None)
        before, after = ({name: pair[side] for name, pair in difference.items()} for side in (0, 1))
        await audit(tx, actor, "groups.update", "group", group_id, before, after)
        return await Changes.note(tx, "catalog", group_id)

    seq = await services.store.write(write)
    if seq is not None:
        await services.changes.applied(seq)
    return await _read_group(services, group_id)


async def delete_group(services: Services, actor: Actor, group_id: str, *, revision: int | None = None) -> None:
    """Delete a group; its members lose what only it gave them. Raises GatewayError 403 (also for Everyone), 404, 412."""
    policy.require(actor, "Groups", "delete_all")

    async def write(tx: Tx) -> int:
        row = await _live_group(tx, group_id, "Delete")
        check_revision(row, revision)
        now = clock.now_us()
        await Group.filter(id=row.id).using_db(tx.orm).update(deleted_at=now, live_name=None, updated_at=now, revision=row.revision + 1)
        await ModelGroup.filter(group_id=row.id).using_db(tx.orm).delete()
        await UserGroup.filter(group_id=row.id).using_db(tx.orm).delete()
        await audit(tx, actor, "groups.delete", "group", group_id, {"name": row.name}, None)
        # Members keep the id in memory until they change otherwise. It opens nothing any more, and no id comes twice.
        return await Changes.note(tx, "catalog", group_id)

    await services.changes.applied(await services.store.write(write))


async def members_of(services: Services, actor: Actor, group_id: str) -> list[str]:
    """Ids of the group's users. Raises GatewayError 403, 404."""
    policy.require(actor, "Users", "read_all")
    await _read_group(services, group_id)
    return await _member_ids(services, group_id)


async def list_members(services: Services, actor: Actor, group_id: str, *, skip: int, limit: int) -> tuple[list[UserResponse], int]:
    """The group's users by e-mail address, and how many there are. Raises GatewayError 403, 404."""
    policy.require(actor, "Users", "read_all")
    await _read_group(services, group_id)
    where, args = f"deleted_at IS NULL AND id <> '{NIL}'", list[object]()
    if group_id != NIL:
        where, args = f"{where} AND id IN (SELECT user_id FROM user_groups WHERE group_id = ?)", [group_id]
    rows = await services.store.fetch(
        f"SELECT {USER_COLUMNS} FROM users WHERE {where} ORDER BY live_email LIMIT ? OFFSET ?", [*args, limit, skip]
    )
    [count] = await services.store.fetch(f"SELECT COUNT(*) AS total FROM users WHERE {where}", args)
    return [user_view(row) for row in rows], count["total"]


class Size(msgspec.Struct, frozen=True):
    """How many users a group has, and how many models it may call."""

    members: int
    models: int


async def sizes(services: Services, actor: Actor, group_ids: Sequence[str]) -> dict[str, Size]:
    """The size of each group. Raises GatewayError 403."""
    policy.require(actor, "Groups", "read_all")
    store = services.store
    members = await in_chunks(
        store, "SELECT group_id, COUNT(*) AS total FROM user_groups WHERE group_id IN ({places}) GROUP BY group_id", group_ids
    )
    held = await in_chunks(
        store,
        "SELECT d.group_id, COUNT(*) AS total FROM deployment_groups d JOIN deployed_models m ON m.id = d.model_id AND m.deleted_at IS NULL"
        " WHERE d.group_id IN ({places}) GROUP BY d.group_id",
        group_ids,
    )
    [everyone] = await store.fetch(f"SELECT COUNT(*) AS total FROM users WHERE deleted_at IS NULL AND id <> '{NIL}'")
    counted = {str(row["group_id"]): int(row["total"]) for row in members} | {NIL: int(everyone["total"])}
    models = {str(row["group_id"]): int(row["total"]) for row in held}
    return {group_id: Size(counted.get(group_id, 0), models.get(group_id, 0)) for group_id in group_ids}


async def groups_of(services: Services, actor: Actor, user_id: str) -> list[GroupResponse]:
    """A user's groups by name, then Everyone. Raises GatewayError 403, 404."""
    policy.require_for(actor, "Users", "read_all", user_id)
    await read_user(services, user_id)
    return (await groups_seen(services, actor, [user_id]))[user_id]


Membership = tuple[str, str]
"""A user's id and a group's."""


async def add_member(services: Services, actor: Actor, group_id: str, user_id: str) -> None:
    """Make a user a member; nothing happens if they are. Raises GatewayError 403 (also for Everyone), 404."""
    await set_memberships(services, actor, {(user_id, group_id): True})


async def remove_member(services: Services, actor: Actor, group_id: str, user_id: str) -> dict[Membership, bool]:
    """End a membership; what takes that back (see ``set_memberships``). Raises GatewayError 403 (also for Everyone), 404 (also when
    there is none)."""
    before = await set_memberships(services, actor, {(user_id, group_id): False})
    if not before:
        raise not_found(f"User with ID {user_id} not found in group {group_id}")
    return before


async def set_memberships(services: Services, actor: Actor, wanted: Mapping[Membership, bool]) -> dict[Membership, bool]:
    """Make users members of groups, or no longer, in one transaction. Those memberships that changed, as they were before: the same
    call with them takes it back. Raises GatewayError 403 (also for Everyone), 404: then nothing is done."""
    policy.require(actor, "Groups", "update_all")
    by_user: dict[str, dict[str, bool]] = {}
    for (user_id, group_id), member in wanted.items():
        by_user.setdefault(user_id, {})[group_id] = member

    async def write(tx: Tx) -> tuple[dict[Membership, bool], int | None]:
        before: dict[Membership, bool] = {}
        seq = None
        for user_id, groups in by_user.items():
            user = await live_user(tx, user_id)
            with about(user.email, of=len(by_user)):
                changed = await _set_memberships(tx, actor, user, groups)
            if changed:
                before |= changed
                seq = await Changes.note(tx, "user", str(user.id))
        return before, seq

    before, seq = await services.store.write(write)
    if seq is not None:
        await services.changes.applied(seq)
    return before


async def set_groups_of(
    services: Services, actor: Actor, user_id: str, group_ids: Collection[str], *, revision: int | None = None
) -> dict[Membership, bool]:
    """Make these the user's groups, besides Everyone; what takes that back (see ``set_memberships``). ``revision`` is the user's, as
    the caller saw it. Raises GatewayError 403, 404, 412."""
    policy.require(actor, "Groups", "update_all")
    wanted = {canonical(group_id) or group_id for group_id in group_ids} - {NIL}

    async def write(tx: Tx) -> tuple[dict[Membership, bool], int | None]:
        user = await live_user(tx, user_id)
        check_revision(user, revision)
        rows = await UserGroup.filter(user_id=user.id).using_db(tx.orm).values_list("group_id", flat=True)
        changes = {group_id: group_id in wanted for group_id in wanted ^ {str(held) for held in rows}}
        before = await _set_memberships(tx, actor, user, changes)
        return before, await Changes.note(tx, "user", user_id) if before else None

    before, seq = await services.store.write(write)
    if seq is not None:
        await services.changes.applied(seq)
    return before


async def _set_memberships(tx: Tx, actor: Actor, user: User, wanted: Mapping[str, bool]) -> dict[Membership, bool]:
    """Write a user's memberships (group id -> whether); those that changed, as they were. The change is the caller's to note."""
    before: dict[Membership, bool] = {}
    for group_id, member in sorted(wanted.items()):
        group = await _live_group(tx, group_id, "Update")
        if await _set_membership(tx, actor, group, str(user.id), add=member):
            before[str(user.id), str(group.id)] = not member
    if before:
        await count_up(tx, user)
    return before


async def _set_membership(tx: Tx, actor: Actor, group: Group, user_id: str, *, add: bool) -> bool:
    """Write one membership with its audit row; whether that changed anything."""
    if add:
        sql = "INSERT INTO user_groups (user_id, group_id) VALUES (?, ?) ON CONFLICT DO NOTHING"
    else:
        sql = "DELETE FROM user_groups WHERE user_id = ? AND group_id = ?"
    if not await tx.execute(sql, (user_id, str(group.id))):
        return False
    change = {"group_id": str(group.id), "group": group.name}
    action = "users.join_group" if add else "users.leave_group"
    await audit(tx, actor, action, "user", user_id, None if add else change, change if add else None)
    return True


async def _live_group(tx: Tx, group_id: str, verb: str) -> Group:
    if group_id == NIL:
        raise forbidden(f"Cannot {verb} Group: Everyone is protected", code="protected")
    known = canonical(group_id)
    row = await Group.get_or_none(id=known, deleted_at=None, using_db=tx.orm) if known else None
    if row is None:
        raise group_missing(group_id)
    return row


async def _refuse_taken(tx: Tx, name: str) -> None:
    if await tx.fetch("SELECT id FROM groups WHERE live_name = ?", (name,)):
        raise _name_taken()


def _name_taken() -> GatewayError:
    return conflict("A group with this name already exists", param="name", resource="group")


def group_missing(group_id: str) -> GatewayError:
    """404 in the words of Doubleword's control layer."""
    return not_found(f"Group with ID {group_id} not found")
