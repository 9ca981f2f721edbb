"""What a deletion would take with it, counted, so that whoever confirms it knows."""

from typing import Literal

import msgspec

from dwctl import clock
from dwctl.accounts import NIL, Actor, policy
from dwctl.errors import not_found
from dwctl.operations import request_log
from dwctl.operations.rows import canonical
from dwctl.operations.services import Services

Kind = Literal["endpoint", "model", "api_key", "user", "group"]


class Consequence(msgspec.Struct, frozen=True):
    """``what``: models, groups, api_keys, users, prices."""

    what: str
    count: int


class Consequences(msgspec.Struct, kw_only=True):
    """``name`` is what to type for confirmation. ``uses`` holds what is not zero."""

    name: str
    uses: list[Consequence]
    requests_last_hour: int


class _Target(msgspec.Struct, frozen=True):
    table: str
    name: str
    resource: policy.Resource
    uses: tuple[tuple[str, str], ...]
    """(what, its count by id)."""
    requests: str
    """Condition on requests, with the id as often as it has places."""


_LIVE_MODEL = "JOIN deployed_models m ON m.id = d.model_id AND m.deleted_at IS NULL"
_TARGETS: dict[Kind, _Target] = {
    "endpoint": _Target(
        "inference_endpoints",
        "name",
        "Endpoints",
        (("models", "SELECT COUNT(*) AS uses FROM deployed_models WHERE deleted_at IS NULL AND endpoint_id = ?"),),
        "endpoint_id = ?",
    ),
    "model": _Target(
        "deployed_models",
        "alias",
        "Models",
        (
            ("groups", "SELECT COUNT(*) AS uses FROM deployment_groups WHERE model_id = ?"),
            ("prices", "SELECT COUNT(*) AS uses FROM model_tariffs WHERE valid_until IS NULL AND model_id = ?"),
        ),
        "model_id = ?",
    ),
    "api_key": _Target("api_keys", "name", "ApiKeys", (), "key_id = ?"),
    "user": _Target(
        "users",
        "username",
        "Users",
        (
            ("api_keys", "SELECT COUNT(*) AS uses FROM api_keys WHERE deleted_at IS NULL AND NOT hidden AND user_id = ?"),
            ("groups", "SELECT COUNT(*) AS uses FROM user_groups WHERE user_id = ?"),
        ),
        "account_id = ?",
    ),
    "group": _Target(
        "groups",
        "name",
        "Groups",
        (
            ("users", "SELECT COUNT(*) AS uses FROM user_groups WHERE group_id = ?"),
            ("models", f"SELECT COUNT(*) AS uses FROM deployment_groups d {_LIVE_MODEL} WHERE d.group_id = ?"),
        ),
        "account_id IN (SELECT user_id FROM user_groups WHERE group_id = ?)"
        " AND model_id IN (SELECT model_id FROM deployment_groups WHERE group_id = ?)",
    ),
}


async def consequences(services: Services, actor: Actor, kind: Kind, target_id: str) -> Consequences:
    """What uses something, for whoever may delete it. Raises GatewayError 403, 404."""
    target = _TARGETS[kind]
    known = canonical(target_id)
    owner = "user_id" if kind == "api_key" else "id"
    rows = await services.store.fetch(
        f"SELECT {target.name} AS name, {owner} AS owner FROM {target.table} WHERE id = ? AND deleted_at IS NULL",
        (known or NIL,),
    )
    if kind == "api_key" and rows:
        policy.require_for(actor, "ApiKeys", "delete_all", str(rows[0]["owner"]))
    else:
        policy.require(actor, target.resource, "delete_all")
    if known is None or not rows:
        raise not_found(f"There is nothing to delete with ID {target_id}")
    uses = []
    for what, sql in target.uses:
        [row] = await services.store.fetch(sql, (known,))
        if row["uses"]:
            uses.append(Consequence(what, int(row["uses"])))
    now = clock.now_us()
    where, args = await request_log.between(services.store, now - clock.HOUR, now + clock.HOUR)
    [row] = await services.store.fetch_report(
        f"SELECT COUNT(*) AS requests FROM requests WHERE {where} AND {target.requests}", [*args, *[known] * target.requests.count("?")]
    )
    return Consequences(name=rows[0]["name"], uses=uses, requests_last_hour=int(row["requests"]))
