"""Users, groups and API keys as callers see them: the fields of Doubleword's control layer, plus ``revision`` for If-Match."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from dwctl.accounts.principals import NIL, roles_of
from dwctl.clock import to_rfc3339
from dwctl.money import format_amount
from dwctl.store import Row, Store

USER_COLUMNS = (
    "id, username, email, display_name, avatar_url, user_type, is_admin, roles, auth_source, external_user_id, must_change_password,"
    " verified, zero_data_retention, last_login_at, created_at, updated_at, revision"
)
GROUP_COLUMNS = "id, name, description, source, created_by, created_at, updated_at, revision"
KEY_COLUMNS = (
    "id, name, description, secret_hint, purpose, user_id, created_by, requests_per_second, burst_size, max_concurrency, bodies,"
    " always_stream_usage, expires_at, last_used_at, created_at, updated_at, revision"
)


class GroupResponse(msgspec.Struct, kw_only=True):
    """A group. ``users`` and ``models`` are there when they were asked for; ``created_by`` is for administrators' eyes."""

    id: str
    name: str
    description: str | None
    created_by: str | UnsetType = UNSET
    created_at: str
    updated_at: str
    users: "list[UserResponse] | UnsetType" = UNSET
    models: list[Any] | UnsetType = UNSET
    source: str
    revision: int


class UserResponse(msgspec.Struct, kw_only=True):
    """A user. ``credit_balance`` is in credits."""

    id: str
    username: str
    email: str
    display_name: str | None
    avatar_url: str | None
    is_admin: bool
    roles: list[str]
    created_at: str
    updated_at: str
    last_login: str | None
    auth_source: str
    external_user_id: str | None
    groups: list[GroupResponse] | UnsetType = UNSET
    credit_balance: float | UnsetType = UNSET
    has_payment_provider_id: bool = False
    batch_notifications_enabled: bool = False
    low_balance_threshold: float | None = None
    auto_topup_amount: float | None = None
    auto_topup_threshold: float | None = None
    has_auto_topup_payment_method: bool = False
    auto_topup_monthly_limit: float | None = None
    user_type: str
    verified: bool
    zero_data_retention: bool
    invoicing_enabled: bool = False
    organizations: list[Any] | UnsetType = UNSET
    active_organization_id: str | UnsetType | None = UNSET
    must_change_password: bool
    revision: int


class ApiKeyInfoResponse(msgspec.Struct, kw_only=True):
    """An API key without its secret. Amounts are decimal strings of credits."""

    id: str
    name: str
    description: str | None
    hint: str
    """The secret's first characters."""
    purpose: str
    user_id: str
    created_by: str
    created_at: str
    updated_at: str
    last_used: str | None
    model_access: list[str]
    requests_per_second: float | None
    burst_size: int | None
    max_concurrency: int | None
    bodies: str | None
    always_stream_usage: bool
    expires_at: str | None
    secret_revealed_at: str
    spend_limit: str | None = None
    spend_limit_interval: str | None = None
    spend: str
    total_spend: str
    resets_at: str | None = None
    revision: int


class ApiKeyResponse(ApiKeyInfoResponse, kw_only=True):
    """A new API key, with its secret: shown this once."""

    key: str


def user_view(row: Row) -> UserResponse:
    """A row of ``USER_COLUMNS`` as callers see it."""
    return UserResponse(
        id=str(row["id"]),
        username=row["username"],
        email=row["email"],
        display_name=row["display_name"],
        avatar_url=row["avatar_url"],
        is_admin=bool(row["is_admin"]),
        roles=roles_of(row["roles"]),
        created_at=to_rfc3339(row["created_at"]),
        updated_at=to_rfc3339(row["updated_at"]),
        last_login=_time(row["last_login_at"]),
        auth_source=row["auth_source"],
        external_user_id=row["external_user_id"],
        user_type=row["user_type"],
        verified=bool(row["verified"]),
        zero_data_retention=bool(row["zero_data_retention"]),
        must_change_password=bool(row["must_change_password"]),
        revision=row["revision"],
    )


def group_view(row: Row) -> GroupResponse:
    """A row of ``GROUP_COLUMNS`` as callers see it."""
    return GroupResponse(
        id=str(row["id"]),
        name=row["name"],
        description=row["description"],
        created_by=str(row["created_by"]) if row["created_by"] is not None else NIL,
        created_at=to_rfc3339(row["created_at"]),
        updated_at=to_rfc3339(row["updated_at"]),
        source=row["source"],
        revision=row["revision"],
    )


def key_view(row: Row, *, model_access: Sequence[str], spent_nano: int) -> ApiKeyInfoResponse:
    """A row of ``KEY_COLUMNS`` as callers see it."""
    spent = format_amount(spent_nano)
    return ApiKeyInfoResponse(
        id=str(row["id"]),
        name=row["name"],
        description=row["description"],
        hint=row["secret_hint"],
        purpose=row["purpose"],
        user_id=str(row["user_id"]),
        created_by=str(row["created_by"]),
        created_at=to_rfc3339(row["created_at"]),
        updated_at=to_rfc3339(row["updated_at"]),
        last_used=_time(row["last_used_at"]),
        model_access=list(model_access),
        requests_per_second=row["requests_per_second"],
        burst_size=row["burst_size"],
        max_concurrency=row["max_concurrency"],
        bodies=row["bodies"],
        always_stream_usage=bool(row["always_stream_usage"]),
        expires_at=_time(row["expires_at"]),
        # The secret is in the answer that made the key, and nowhere afterwards.
        secret_revealed_at=to_rfc3339(row["created_at"]),
        spend=spent,
        total_spend=spent,
        revision=row["revision"],
    )


async def users_by_id(store: Store, ids: Iterable[str]) -> dict[str, UserResponse]:
    """Live users among ``ids``."""
    rows = await in_chunks(store, f"SELECT {USER_COLUMNS} FROM users WHERE deleted_at IS NULL AND id IN ({{places}})", ids)
    return {user.id: user for user in map(user_view, rows)}


async def groups_of_users(store: Store, user_ids: Sequence[str]) -> Mapping[str, list[GroupResponse]]:
    """The groups of each user by name, then Everyone."""
    memberships = await in_chunks(store, "SELECT user_id, group_id FROM user_groups WHERE user_id IN ({places})", user_ids)
    wanted = {str(row["group_id"]) for row in memberships} | {NIL}
    rows = await in_chunks(store, f"SELECT {GROUP_COLUMNS} FROM groups WHERE deleted_at IS NULL AND id IN ({{places}})", wanted)
    groups = {group.id: group for group in map(group_view, rows)}
    found: dict[str, list[GroupResponse]] = {user_id: [] for user_id in user_ids}
    for row in memberships:
        if (group_id := str(row["group_id"])) in groups and group_id != NIL:
            found[str(row["user_id"])].append(groups[group_id])
    for user_id, mine in found.items():
        mine.sort(key=lambda group: group.name)
        if NIL in groups and user_id != NIL:
            mine.append(groups[NIL])
    return found


async def in_chunks(store: Store, sql: str, ids: Iterable[str]) -> list[Row]:
    """The rows of a query whose ``{places}`` takes any number of ids."""
    ordered = sorted(set(ids))
    rows: list[Row] = []
    for start in range(0, len(ordered), 500):
        chunk = ordered[start : start + 500]
        rows += await store.fetch(sql.format(places=", ".join("?" * len(chunk))), chunk)
    return rows


def _time(at_us: int | None) -> str | None:
    return None if at_us is None else to_rfc3339(at_us)
