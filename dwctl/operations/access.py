"""Who may call what, and why: the path by which access is granted, what is missing, and the table of groups and models."""

from collections.abc import Mapping
from typing import Any

import msgspec

from dwctl.accounts import NIL, Actor, policy
from dwctl.operations import models
from dwctl.operations.account_views import groups_of_users, users_by_id
from dwctl.operations.rows import about, canonical
from dwctl.operations.services import Services
from dwctl.operations.users import user_missing
from dwctl.store import Changes, Tx

_GROUPS_OF_MODEL = (
    "SELECT g.id, g.name FROM deployment_groups d JOIN groups g ON g.id = d.group_id AND g.deleted_at IS NULL"
    " WHERE d.model_id = ? ORDER BY g.name"
)


class Named(msgspec.Struct, frozen=True):
    id: str
    name: str


class AccessExplanation(msgspec.Struct, kw_only=True):
    """Whether a user may call a model. ``through``: groups that have both, each a path. ``would_join``: groups that have the model and
    not the user; ``would_share``: groups that have the user and not the model. Either would grant it."""

    allowed: bool
    user: Named
    model: Named
    through: list[Named]
    would_join: list[Named]
    would_share: list[Named]
    reason: str


class AccessMatrix(msgspec.Struct, kw_only=True):
    """Live groups (Everyone first) and models by name, and the pairs (group id, model id) that are granted."""

    groups: list[Named]
    models: list[Named]
    granted: set[tuple[str, str]]


async def explain_access(services: Services, actor: Actor, user_id: str, model_id: str) -> AccessExplanation:
    """Why a user may call a model, or what would be needed. Raises GatewayError 403, 404."""
    policy.require(actor, "Groups", "read_all")
    policy.require(actor, "Users", "read_all")
    known_user, known_model = canonical(user_id), canonical(model_id)
    users = await users_by_id(services.store, [known_user] if known_user else [])
    if known_user is None or known_user not in users:
        raise user_missing(user_id)
    rows = await services.store.fetch(
        "SELECT id, alias, status FROM deployed_models WHERE id = ? AND deleted_at IS NULL", (known_model or NIL,)
    )
    if not rows:
        raise models.model_missing(model_id)
    user, model = users[known_user], rows[0]
    mine = [Named(group.id, group.name) for group in (await groups_of_users(services.store, [user.id]))[user.id]]
    having = [Named(str(row["id"]), row["name"]) for row in await services.store.fetch(_GROUPS_OF_MODEL, (known_model,))]
    through = [group for group in having if group in mine]
    if model["status"] != "active":
        reason = f"The model '{model['alias']}' is inactive: its provider does not list it any more, so that nobody is served."
    elif through:
        reason = f"{user.username} is in {_list(through)}, and {_list(through)} may call '{model['alias']}'."
    elif having:
        reason = f"'{model['alias']}' may be called by {_list(having)}, and {user.username} is in none of them."
    else:
        reason = f"'{model['alias']}' is not shared with any group."
    return AccessExplanation(
        allowed=bool(through) and model["status"] == "active",
        user=Named(user.id, user.username),
        model=Named(str(model["id"]), model["alias"]),
        through=through,
        would_join=[] if through else [group for group in having if group.id != NIL],
        would_share=[] if through else mine,
        reason=reason,
    )


def _list(groups: list[Named]) -> str:
    return ", ".join(f"'{group.name}'" for group in groups)


async def access_matrix(services: Services, actor: Actor) -> AccessMatrix:
    """All groups, all models, and who may call what. Raises GatewayError 403."""
    policy.require(actor, "Groups", "read_all")
    fetch = services.store.fetch
    groups = await fetch("SELECT id, name FROM groups WHERE deleted_at IS NULL ORDER BY CASE WHEN id = ? THEN 0 ELSE 1 END, name", (NIL,))
    live = await fetch("SELECT id, alias AS name FROM deployed_models WHERE deleted_at IS NULL ORDER BY alias")
    grants = await fetch("SELECT group_id, model_id FROM deployment_groups")
    return AccessMatrix(
        groups=[_named(row) for row in groups],
        models=[_named(row) for row in live],
        granted={(str(row["group_id"]), str(row["model_id"])) for row in grants},
    )


def _named(row: dict[str, Any]) -> Named:
    return Named(str(row["id"]), row["name"])


Grant = tuple[str, str]
"""A group's id and a model's."""


async def set_grants(services: Services, actor: Actor, wanted: Mapping[Grant, bool]) -> dict[Grant, bool]:
    """Set cells of the matrix in one transaction, audited. Those that changed, as they were before: the same call with them takes it
    back. Raises GatewayError 403, 404: then nothing is done."""
    policy.require(actor, "Groups", "update_all")
    by_model: dict[str, dict[str, bool]] = {}
    for (group_id, model_id), allowed in wanted.items():
        by_model.setdefault(canonical(model_id) or model_id, {})[canonical(group_id) or group_id] = allowed

    async def write(tx: Tx) -> tuple[dict[Grant, bool], int | None]:
        before: dict[Grant, bool] = {}
        seq = None
        for model_id, groups in by_model.items():
            held = await models.groups_of_model(tx, canonical(model_id) or NIL)
            changes = {group_id: allowed for group_id, allowed in groups.items() if allowed is not (group_id in held)}
            if not changes:
                continue
            model = await models.live_model(tx, model_id)
            with about(model.alias, of=len(by_model)):
                added = await models.live_groups(tx, [group_id for group_id, allowed in changes.items() if allowed])
            await models.set_groups(tx, actor, model_id, held.difference(changes).union(added))
            before |= {(group_id, model_id): not allowed for group_id, allowed in changes.items()}
            seq = await Changes.note(tx, "catalog", model_id)
        return before, seq

    before, seq = await services.store.write(write)
    if seq is not None:
        await services.changes.applied(seq)
    return before
