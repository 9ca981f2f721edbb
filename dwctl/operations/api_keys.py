"""API keys: listing, creating, changing, rotating and deleting them. A secret is in one answer and nowhere else."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType
from tortoise.exceptions import IntegrityError

from dwctl import catalog, clock, ids
from dwctl.accounts import NIL, Actor, new_secret, policy
from dwctl.config import BodyMode
from dwctl.errors import GatewayError, bad_request, conflict, forbidden, not_found
from dwctl.operations.account_views import KEY_COLUMNS, ApiKeyInfoResponse, ApiKeyResponse, in_chunks, key_view
from dwctl.operations.audit import audit
from dwctl.operations.bounds import check_counts, check_description, check_rates, check_text, refuse_unsupported
from dwctl.operations.rows import about, canonical, change_row, changes_of, check_revision
from dwctl.operations.services import Services
from dwctl.operations.users import delete_key_row, live_user, read_user
from dwctl.store import Changes, Row, Tx
from dwctl.store.tables import ApiKey, User


class _Unsupported(msgspec.Struct, kw_only=True):
    spend_limit: Any = None
    spend_limit_interval: Any = None


class ApiKeyCreate(_Unsupported, kw_only=True):
    """Body of POST /users/{id}/api-keys. ``inference`` is the old name of the purpose ``realtime``; ``expires_at`` is RFC 3339. Spend
    limits are not supported: refused."""

    name: str
    description: str | None = None
    purpose: Literal[catalog.Purpose, "platform", "inference"] = "realtime"
    requests_per_second: float | None = None
    burst_size: int | None = None
    max_concurrency: int | None = None
    bodies: BodyMode | None = None
    always_stream_usage: bool = False
    expires_at: str | None = None
    member_id: str | None = None


class ApiKeyUpdate(_Unsupported, kw_only=True):
    """Body of PATCH: a field left out stays; null clears a limit and the expiry, an empty text the description. Spend limits are not
    supported: refused."""

    name: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    requests_per_second: float | UnsetType | None = UNSET
    burst_size: int | UnsetType | None = UNSET
    max_concurrency: int | UnsetType | None = UNSET
    bodies: BodyMode | UnsetType | None = UNSET
    always_stream_usage: bool | UnsetType | None = UNSET
    expires_at: str | UnsetType | None = UNSET
    reset_window: bool = False


Overlap = Literal["now", "1h", "24h", "7d"]
OVERLAPS: dict[Overlap, int] = {"now": 0, "1h": 3_600, "24h": 86_400, "7d": 7 * 86_400}
"""Seconds for which a rotated key's old secret goes on."""


class RotatedKey(msgspec.Struct):
    """The new secret of a key. With an overlap the old secret is a key of its own: its id, and when it ends (RFC 3339)."""

    key: str
    old_id: str | UnsetType = UNSET
    old_expires_at: str | UnsetType = UNSET


async def list_keys(
    services: Services, actor: Actor, owner_id: str, *, skip: int, limit: int, created_by: str | None = None
) -> tuple[list[ApiKeyInfoResponse], int]:
    """An owner's keys, newest first, and how many there are; ``created_by`` names a holder. Raises GatewayError 403, 404."""
    policy.require_for(actor, "ApiKeys", "read_all", owner_id)
    await read_user(services, owner_id)
    where, args = "user_id = ? AND deleted_at IS NULL AND NOT hidden", [owner_id]
    if created_by is not None:
        if created_by != actor.user_id:
            policy.require(actor, "ApiKeys", "read_all")
        where, args = f"{where} AND created_by = ?", [owner_id, created_by]
    rows = await services.store.fetch(
        f"SELECT {KEY_COLUMNS} FROM api_keys WHERE {where} ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?", [*args, limit, skip]
    )
    total = await services.store.fetch(f"SELECT COUNT(*) AS total FROM api_keys WHERE {where}", args)
    return await _views(services, owner_id, rows), total[0]["total"]


async def get_key(services: Services, actor: Actor, owner_id: str, key_id: str) -> ApiKeyInfoResponse:
    """One key of an owner. Raises GatewayError 403, 404 (also for a hidden key, and for somebody else's)."""
    policy.require_for(actor, "ApiKeys", "read_all", owner_id)
    rows = await services.store.fetch(
        f"SELECT {KEY_COLUMNS} FROM api_keys WHERE id = ? AND user_id = ? AND deleted_at IS NULL AND NOT hidden", (key_id, owner_id)
    )
    if not rows:
        raise key_missing(key_id)
    return (await _views(services, owner_id, rows))[0]


async def _views(services: Services, owner_id: str, rows: Sequence[Row]) -> list[ApiKeyInfoResponse]:
    models = await services.store.fetch(
        "SELECT DISTINCT g.model_id FROM deployment_groups g JOIN deployed_models m ON m.id = g.model_id AND m.deleted_at IS NULL"
        " WHERE g.group_id = ? OR g.group_id IN (SELECT group_id FROM user_groups WHERE user_id = ?) ORDER BY g.model_id",
        (NIL, owner_id),
    )
    access = [str(row["model_id"]) for row in models]
    spends = await in_chunks(
        services.store, "SELECT key_id, total_nano FROM key_spend WHERE key_id IN ({places})", [str(row["id"]) for row in rows]
    )
    spent = {str(row["key_id"]): row["total_nano"] for row in spends}
    return [key_view(row, model_access=access, spent_nano=spent.get(str(row["id"]), 0)) for row in rows]


async def create_key(services: Services, actor: Actor, owner_id: str, body: ApiKeyCreate) -> ApiKeyResponse:
    """A new key, with its secret. Raises GatewayError 400, 403, 404, 409."""
    policy.require_for(actor, "ApiKeys", "create_all", owner_id)
    if body.purpose in ("batch", "playground"):
        raise bad_request(f"Keys of purpose {body.purpose} are made by the system", param="purpose")
    refuse_unsupported(body, _Unsupported)
    columns = check_columns(
        {
            "name": body.name,
            "description": body.description,
            "purpose": "realtime" if body.purpose == "inference" else body.purpose,
            "requests_per_second": body.requests_per_second,
            "burst_size": body.burst_size,
            "max_concurrency": body.max_concurrency,
            "bodies": body.bodies,
            "always_stream_usage": body.always_stream_usage,
            "expires_at": body.expires_at,
        }
    )
    secret, secret_hash, hint = new_secret()
    key_id = ids.new_text()

    _refuse_above_tier(services, actor, owner_id, columns)
    _refuse_past(columns)

    async def write(tx: Tx) -> int:
        owner = await live_user(tx, owner_id)
        holder = await _holder(tx, actor, owner, body.member_id)
        _refuse_stronger(actor, holder, columns["purpose"])
        await _refuse_taken(tx, owner.id, holder.id, columns["name"])
        now = clock.now_us()
        await ApiKey.create(
            using_db=tx.orm,
            id=UUID(key_id),
            live_name=columns["name"],
            secret_hash=secret_hash,
            secret_hint=hint,
            user_id=owner.id,
            created_by=holder.id,
            created_at=now,
            updated_at=now,
            **columns,
        )
        await audit(tx, actor, "api_keys.create", "api_key", key_id, None, {"user_id": owner_id, "created_by": str(holder.id), **columns})
        return await Changes.note(tx, "key", key_id)

    try:
        seq = await services.store.write(write)
    except IntegrityError as error:
        raise _name_taken() from error
    await services.changes.applied(seq)
    info = await get_key(services, actor, owner_id, key_id)
    return ApiKeyResponse(key=secret, **msgspec.structs.asdict(info))


async def update_key(
    services: Services, actor: Actor, owner_id: str, key_id: str, body: ApiKeyUpdate, *, revision: int | None = None
) -> ApiKeyInfoResponse:
    """Change a key's name, limits or expiry. Raises GatewayError 400, 403, 404, 409, 412."""
    policy.require_for(actor, "ApiKeys", "update_all", owner_id)
    if body.reset_window:
        raise bad_request("This key has no spend limit to reset", param="reset_window")
    given = changes_of(body, null_keeps=("name", "description", "always_stream_usage"), unsupported=_Unsupported)
    changes = check_columns({name: value for name, value in given.items() if name in CHANGEABLE})
    if "name" in changes:
        changes["live_name"] = changes["name"]

    async def write(tx: Tx) -> int | None:
        row = await _live_key(tx, owner_id, key_id)
        if "name" in changes and changes["name"] != row.name:
            await _refuse_taken(tx, row.user_id, row.created_by, changes["name"])
        differing = {name: value for name, value in changes.items() if value != getattr(row, name)}
        _refuse_above_tier(services, actor, owner_id, differing)
        _refuse_past(differing)
        difference = await change_row(tx, row, changes, revision=revision)
        if not difference:
            return None
        difference.pop("live_name", None)
        before, after = ({name: pair[side] for name, pair in difference.items()} for side in (0, 1))
        await audit(tx, actor, "api_keys.update", "api_key", key_id, before, after)
        return await Changes.note(tx, "key", key_id)

    seq = await services.store.write(write)
    if seq is not None:
        await services.changes.applied(seq)
    return await get_key(services, actor, owner_id, key_id)


CHANGEABLE = ("name", "description", "requests_per_second", "burst_size", "max_concurrency", "bodies", "always_stream_usage", "expires_at")


async def rotate_key(
    services: Services, actor: Actor, owner_id: str, key_id: str, *, overlap: Overlap = "now", revision: int | None = None
) -> RotatedKey:
    """Give a key a new secret. The old one ends at once, or goes on for a while as a key of its own, so that its last use shows whether
    it is still needed. Raises GatewayError 403, 404, 412."""
    policy.require_for(actor, "ApiKeys", "update_all", owner_id)
    secret, secret_hash, hint = new_secret()
    old_id = ids.new_text()

    async def write(tx: Tx) -> tuple[int, int | None]:
        row = await _live_key(tx, owner_id, key_id)
        holder = await live_user(tx, str(row.created_by))
        _refuse_stronger(actor, holder, row.purpose)
        now = clock.now_us()
        old = {name: getattr(row, name) for name in ApiKey._meta.fields_map}
        await change_row(tx, row, {"secret_hash": secret_hash, "secret_hint": hint, "last_used_at": None}, revision=revision)
        ends_at = None
        if seconds := OVERLAPS[overlap]:
            ends_at = now + seconds * clock.MICROSECONDS
            ends_at = ends_at if old["expires_at"] is None else min(ends_at, old["expires_at"])
            name = f"{old['name'][:230]} (old {old_id[-6:]})"
            changed = {"id": UUID(old_id), "name": name, "live_name": name, "expires_at": ends_at, "updated_at": now, "revision": 1}
            await ApiKey.create(using_db=tx.orm, **old | changed)
            await Changes.note(tx, "key", old_id)
        after = {"hint": hint} | ({} if ends_at is None else {"old_id": old_id, "old_expires_at": clock.to_rfc3339(ends_at)})
        await audit(tx, actor, "api_keys.rotate", "api_key", key_id, None, after)
        return await Changes.note(tx, "key", key_id), ends_at

    seq, ends_at = await services.store.write(write)
    await services.changes.applied(seq)
    if ends_at is None:
        return RotatedKey(secret)
    return RotatedKey(secret, old_id, clock.to_rfc3339(ends_at))


async def delete_key(services: Services, actor: Actor, owner_id: str, key_id: str, *, revision: int | None = None) -> None:
    """Delete a key softly; it ends at once. Raises GatewayError 403, 404, 412."""
    policy.require_for(actor, "ApiKeys", "delete_all", owner_id)

    async def write(tx: Tx) -> int:
        row = await _live_key(tx, owner_id, key_id)
        check_revision(row, revision)
        await delete_key_row(tx, actor, row)
        return await Changes.note(tx, "key", key_id)

    await services.changes.applied(await services.store.write(write))


async def delete_keys(services: Services, actor: Actor, key_ids: Sequence[str]) -> None:
    """Delete several keys in one transaction. Raises GatewayError 403, 404, saying of which key: then none is deleted."""
    known = [canonical(key_id) or NIL for key_id in key_ids]
    rows = await in_chunks(services.store, "SELECT id, name, user_id FROM api_keys WHERE id IN ({places})", known)
    of = {str(row["id"]): row for row in rows}
    for key_id in known:
        if key_id not in of:
            raise key_missing(key_id)
        with about(of[key_id]["name"], of=len(known)):
            policy.require_for(actor, "ApiKeys", "delete_all", str(of[key_id]["user_id"]))

    async def write(tx: Tx) -> int | None:
        seq = None
        for key_id in known:
            with about(of[key_id]["name"], of=len(known)):
                row = await _live_key(tx, str(of[key_id]["user_id"]), key_id)
            await delete_key_row(tx, actor, row)
            seq = await Changes.note(tx, "key", key_id)
        return seq

    seq = await services.store.write(write)
    if seq is not None:
        await services.changes.applied(seq)


async def _holder(tx: Tx, actor: Actor, owner: User, member_id: str | None) -> User:
    """Who will act with the key: a person's key is theirs; an organization's is the named member's, else the caller's."""
    if owner.user_type != "organization":
        if member_id is not None and canonical(member_id) != str(owner.id):
            raise bad_request("member_id is for the keys of organizations", param="member_id")
        return owner
    return await live_user(tx, member_id or actor.user_id)


def _refuse_stronger(actor: Actor, holder: User, purpose: str) -> None:
    """A platform key acts with its holder's rights, so only an administrator gets the secret of an administrator's."""
    if purpose == "platform" and holder.is_admin and not actor.is_admin and str(holder.id) != actor.user_id:
        raise forbidden("Only an administrator can have a platform key of an administrator", code="insufficient_permissions")


def _refuse_above_tier(services: Services, actor: Actor, owner_id: str, columns: Mapping[str, Any]) -> None:
    """A limit that the configuration sets for keys without one of their own is raised only by whoever manages everybody's keys."""
    owner = services.keyring.person(owner_id)
    tier = services.keyring.tier(owner) if owner is not None else None
    if tier is None or policy.allows(actor, "ApiKeys", "update_all"):
        return
    bounds = {"requests_per_second": tier.requests_per_second, "burst_size": tier.burst_size or math.ceil(tier.requests_per_second)}
    for name, most in bounds.items():
        if (columns.get(name) or 0) > most:
            raise bad_request(f"{name} may be at most {most:.15g}; who manages keys can allow more", param=name)


def check_columns(columns: dict[str, Any]) -> dict[str, Any]:
    """The columns of a key as they are stored: texts trimmed, limits in bounds, the expiry in microseconds. Raises GatewayError 400."""
    checked = dict(columns)
    if "name" in checked:
        checked["name"] = check_text(checked["name"], "name")
    if "description" in checked:
        checked["description"] = check_description(checked["description"])
    check_rates(checked, ("requests_per_second",))
    check_counts(checked, ("burst_size", "max_concurrency"))
    if checked.get("expires_at") is not None:
        try:
            checked["expires_at"] = clock.from_rfc3339(checked["expires_at"])
        except ValueError:
            raise bad_request("expires_at must be a time such as 2027-01-31T00:00:00Z", param="expires_at") from None
    return checked


def _refuse_past(columns: Mapping[str, Any]) -> None:
    """A key may have ended, but is not made to end in the past."""
    ends_at = columns.get("expires_at")
    if ends_at is not None and ends_at <= clock.now_us():
        raise bad_request("expires_at must be in the future", param="expires_at")


async def _live_key(tx: Tx, owner_id: str, key_id: str) -> ApiKey:
    known, owner = canonical(key_id), canonical(owner_id)
    row = (
        await ApiKey.get_or_none(id=known, user_id=owner, deleted_at=None, hidden=False, using_db=tx.orm)
        if known is not None and owner is not None
        else None
    )
    if row is None:
        raise key_missing(key_id)
    return row


async def _refuse_taken(tx: Tx, owner_id: UUID, holder_id: UUID, name: str) -> None:
    if await tx.fetch(
        "SELECT id FROM api_keys WHERE user_id = ? AND created_by = ? AND live_name = ?", (str(owner_id), str(holder_id), name)
    ):
        raise _name_taken()


def _name_taken() -> GatewayError:
    return conflict("An API key with this name already exists", param="name", resource="api_key")


def key_missing(key_id: str) -> GatewayError:
    """404 in the words of Doubleword's control layer."""
    return not_found(f"API key with ID {key_id} not found")
