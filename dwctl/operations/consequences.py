"""What a deletion would take with it, counted, so that whoever confirms it knows."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from dwctl import clock
from dwctl.accounts import NIL, Actor, policy
from dwctl.errors import not_found
from dwctl.operations import request_log
from dwctl.operations.account_views import in_chunks
from dwctl.operations.groups import group_missing
from dwctl.operations.rows import about, canonical
from dwctl.operations.services import Services

Kind = Literal["endpoint", "model", "api_key", "user", "group"]


class Consequence(msgspec.Struct, frozen=True):
    """``what``: models, groups, api_keys, users, prices."""

    what: str
    count: int


class Consequences(msgspec.Struct, kw_only=True):
    """``name`` is what to type for confirmation, of several things their number and kind. ``uses`` holds what is not zero."""

    name: str
    uses: list[Consequence]
    requests_last_hour: int


class _Target(msgspec.Struct, frozen=True):
    table: str
    name: str
    resource: policy.Resource
    several: str
    uses: tuple[tuple[str, str], ...]
    """(what, its count by ids)."""
    requests: str
    """Condition on requests, with the ids as often as it has places for them."""


_LIVE_MODEL = "JOIN deployed_models m ON m.id = d.model_id AND m.deleted_at IS NULL"
_TARGETS: dict[Kind, _Target] = {
    "endpoint": _Target(
        "inference_endpoints",
        "name",
        "Endpoints",
        "endpoints",
        (("models", "SELECT COUNT(*) AS uses FROM deployed_models WHERE deleted_at IS NULL AND endpoint_id IN ({places})"),),
        "endpoint_id IN ({places})",
    ),
    "model": _Target(
        "deployed_models",
        "alias",
        "Models",
        "models",
        (
            ("groups", "SELECT COUNT(*) AS uses FROM deployment_groups WHERE model_id IN ({places})"),
            ("prices", "SELECT COUNT(*) AS uses FROM model_tariffs WHERE valid_until IS NULL AND model_id IN ({places})"),
        ),
        "model_id IN ({places})",
    ),
    "api_key": _Target("api_keys", "name", "ApiKeys", "API keys", (), "key_id IN ({places})"),
    "user": _Target(
        "users",
        "username",
        "Users",
        "users",
        (
            ("api_keys", "SELECT COUNT(*) AS uses FROM api_keys WHERE deleted_at IS NULL AND NOT hidden AND user_id IN ({places})"),
            ("groups", "SELECT COUNT(*) AS uses FROM user_groups WHERE user_id IN ({places})"),
        ),
        "account_id IN ({places})",
    ),
    "group": _Target(
        "groups",
        "name",
        "Groups",
        "groups",
        (
            ("users", "SELECT COUNT(*) AS uses FROM user_groups WHERE group_id IN ({places})"),
            ("models", f"SELECT COUNT(*) AS uses FROM deployment_groups d {_LIVE_MODEL} WHERE d.group_id IN ({{places}})"),
        ),
        "account_id IN (SELECT user_id FROM user_groups WHERE group_id IN ({places}))"
        " AND model_id IN (SELECT model_id FROM deployment_groups WHERE group_id IN ({places}))",
    ),
}


async def consequences(services: Services, actor: Actor, kind: Kind, *target_ids: str) -> Consequences:
    """What uses something, or any of several things, for whoever may delete them all. Raises GatewayError 403, 404."""
    target = _TARGETS[kind]
    if kind != "api_key":
        policy.require(actor, target.resource, "delete_all")
    owner = "user_id" if kind == "api_key" else "id"
    known = {target_id: canonical(target_id) or "" for target_id in target_ids}
    rows = await in_chunks(
        services.store,
        f"SELECT id, {target.name} AS name, {owner} AS owner FROM {target.table} WHERE id IN ({{places}}) AND deleted_at IS NULL",
        filter(None, known.values()),
    )
    found = {str(row["id"]): row for row in rows}
    for target_id, canonical_id in known.items():
        row = found.get(canonical_id)
        if kind == "api_key" and row is not None:
            with about(row["name"], of=len(known)):
                policy.require_for(actor, "ApiKeys", "delete_all", str(row["owner"]))
        elif kind == "api_key":
            policy.require(actor, "ApiKeys", "delete_all")
        if row is None:
            raise not_found(f"There is nothing to delete with ID {target_id}")
    ids = list(found)
    uses = []
    for what, sql in target.uses:
        count = sum(int(row["uses"]) for row in await in_chunks(services.store, sql, ids))
        if count:
            uses.append(Consequence(what, count))
    name = rows[0]["name"] if len(ids) == 1 else f"{len(ids)} {target.several}"
    return Consequences(name=name, uses=uses, requests_last_hour=await _requests_last_hour(services, target.requests, ids))


async def _requests_last_hour(services: Services, condition: str, ids: Sequence[str], also: Sequence[object] = ()) -> int:
    """How many requests met a condition; ``also``: values of its places before those of the ids."""
    now = clock.now_us()
    where, args = await request_log.between(services.store, now - clock.HOUR, now + clock.HOUR)
    places = ", ".join("?" * len(ids))
    [row] = await services.store.fetch_report(
        f"SELECT COUNT(*) AS requests FROM requests WHERE {where} AND {condition.format(places=places)}",
        [*args, *also, *[*ids] * condition.count("{places}")],
    )
    return int(row["requests"])


class Sharing(msgspec.Struct, kw_only=True):
    """What sharing models with a group, or taking them from it, means. ``held``: how many of them it may call now; ``members``: its
    users; ``last``: how many nobody could call without it; ``requests_last_hour``: of its members with them."""

    group: str
    held: int
    members: int
    last: int
    requests_last_hour: int


async def sharing(services: Services, actor: Actor, group_id: str, model_ids: Sequence[str]) -> Sharing:
    """For whoever may change groups. Raises GatewayError 403, 404."""
    policy.require(actor, "Groups", "update_all")
    known, name = await _group(services, group_id)
    store, ids = services.store, list(model_ids)
    grants = await in_chunks(store, "SELECT model_id, group_id FROM deployment_groups WHERE model_id IN ({places})", ids)
    groups_of = {model_id: set[str]() for model_id in ids}
    for row in grants:
        groups_of[str(row["model_id"])].add(str(row["group_id"]))
    [members] = await store.fetch(f"SELECT COUNT(*) AS members FROM users WHERE {_MEMBERS[known == NIL]}", () if known == NIL else (known,))
    mine = "" if known == NIL else "account_id IN (SELECT user_id FROM user_groups WHERE group_id = ?) AND "
    return Sharing(
        group=name,
        held=sum(known in groups for groups in groups_of.values()),
        members=int(members["members"]),
        last=sum(groups == {known} for groups in groups_of.values()),
        requests_last_hour=await _requests_last_hour(services, f"{mine}model_id IN ({{places}})", ids, [known] if mine else []),
    )


_LIVE_USER = f"deleted_at IS NULL AND id <> '{NIL}'"
_MEMBERS = (f"{_LIVE_USER} AND id IN (SELECT user_id FROM user_groups WHERE group_id = ?)", _LIVE_USER)
"""The members of a group; of Everyone."""


class Joining(msgspec.Struct, kw_only=True):
    """What making users members of a group means. ``members``: how many of them are; ``models``: what members may call."""

    group: str
    members: int
    models: int


async def joining(services: Services, actor: Actor, group_id: str, user_ids: Sequence[str]) -> Joining:
    """For whoever may change groups. Raises GatewayError 403, 404."""
    policy.require(actor, "Groups", "update_all")
    known, name = await _group(services, group_id)
    rows = await in_chunks(services.store, "SELECT user_id, group_id FROM user_groups WHERE user_id IN ({places})", user_ids)
    [held] = await services.store.fetch(f"SELECT COUNT(*) AS models FROM deployment_groups d {_LIVE_MODEL} WHERE d.group_id = ?", (known,))
    return Joining(group=name, members=sum(str(row["group_id"]) == known for row in rows), models=int(held["models"]))


async def _group(services: Services, group_id: str) -> tuple[str, str]:
    """A live group's id and name. Raises GatewayError 404."""
    known = canonical(group_id)
    rows = await services.store.fetch("SELECT name FROM groups WHERE id = ? AND deleted_at IS NULL", (known,)) if known else []
    if known is None or not rows:
        raise group_missing(group_id)
    return known, rows[0]["name"]
