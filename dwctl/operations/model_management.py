"""Models for those who manage them, one section at a time: the list with what is missing, who may call one, what it costs since when, and
who changed it last. And for everyone: why one cannot be called.
"""

from collections.abc import Collection, Sequence
from typing import Any, Literal

import msgspec

from dwctl import catalog, clock
from dwctl.accounts import Actor, policy
from dwctl.operations import models, tariffs
from dwctl.operations.access import Grant, Named
from dwctl.operations.audit import AuditEntry, AuditFilter, list_audit
from dwctl.operations.catalog_views import DAY_HOURS, groups_of
from dwctl.operations.rows import among, check_revision, count_up, stale
from dwctl.operations.services import Services
from dwctl.store import Changes, Tx
from dwctl.store.tables import DeployedModel, Tariff

Lacking = Literal["groups", "price", "provider"]
_LACKING: dict[Lacking, str] = {
    "groups": "NOT EXISTS (SELECT 1 FROM deployment_groups d WHERE d.model_id = m.id)",
    "price": "NOT EXISTS (SELECT 1 FROM model_tariffs t WHERE t.model_id = m.id AND t.valid_until IS NULL)",
    "provider": "m.status <> 'active'",
}
Obstacle = Literal["provider", "groups", "balance"]
"""Why somebody cannot call a model now: its provider does not list it, no group of theirs may call it, their balance is used up."""


class ManagedModel(msgspec.Struct, kw_only=True):
    """A model in the list of those who manage it. ``price``: of ordinary API keys, in force; numbers of the last 24 hours."""

    id: str
    alias: str
    model_name: str
    model_type: str
    status: str
    endpoint: Named
    groups: int
    price: catalog.TariffTerms | None
    requests: int
    errors: int


class PriceVersion(msgspec.Struct, kw_only=True):
    """A price and when it held, in microseconds; ``valid_until`` None: it is in force."""

    id: str
    terms: catalog.TariffTerms
    valid_from: int
    valid_until: int | None


async def managed_models(
    services: Services,
    actor: Actor,
    *,
    search: str | None = None,
    lacking: Lacking | None = None,
    ids: Sequence[str] | None = None,
    skip: int,
    limit: int,
) -> tuple[list[ManagedModel], int]:
    """Live models by alias, and how many there are. ``lacking``: only those without groups, without a price, or that their provider
    does not list any more; ``ids``: only these. Raises GatewayError 403."""
    policy.require(actor, "Models", "update_all")
    conditions = ["m.deleted_at IS NULL"]
    args: list[Any] = []
    if search and search.strip():
        condition, patterns = services.store.containing(search.strip(), "m.alias", "m.model_name")
        conditions.append(condition)
        args += patterns
    if lacking is not None:
        conditions.append(_LACKING[lacking])
    if ids is not None:
        conditions.append(among("m.id", ids))
        args += ids
    where = " AND ".join(conditions)
    rows = await services.store.fetch(
        "SELECT m.id AS id, m.alias AS alias, m.model_name AS model_name, m.model_type AS model_type, m.status AS status,"
        " e.id AS endpoint_id, e.name AS endpoint_name, (SELECT COUNT(*) FROM deployment_groups d WHERE d.model_id = m.id) AS group_count"
        f" FROM deployed_models m JOIN inference_endpoints e ON e.id = m.endpoint_id WHERE {where} ORDER BY m.alias LIMIT ? OFFSET ?",
        [*args, limit, skip],
    )
    [total] = await services.store.fetch(f"SELECT COUNT(*) AS total FROM deployed_models m WHERE {where}", args)
    found_ids = [str(row["id"]) for row in rows]
    usage, prices = await _usage(services, found_ids), await _prices(found_ids)
    found = [
        ManagedModel(
            id=model_id,
            alias=row["alias"],
            model_name=row["model_name"],
            model_type=row["model_type"],
            status=row["status"],
            endpoint=Named(str(row["endpoint_id"]), row["endpoint_name"]),
            groups=int(row["group_count"]),
            price=prices.get(model_id),
            requests=usage.get(model_id, (0, 0))[0],
            errors=usage.get(model_id, (0, 0))[1],
        )
        for model_id, row in zip(found_ids, rows, strict=True)
    ]
    return found, int(total["total"])


async def _usage(services: Services, ids: list[str]) -> dict[str, tuple[int, int]]:
    """Requests and errors of the last 24 hours by model id."""
    if not ids:
        return {}
    rows = await services.store.fetch_report(
        "SELECT model_id, SUM(requests) AS requests, SUM(errors) AS errors FROM usage_hourly"
        f" WHERE hour >= ? AND model_id IN ({', '.join('?' * len(ids))}) GROUP BY model_id",
        [clock.now_us() // clock.HOUR - DAY_HOURS + 1, *ids],
    )
    return {str(row["model_id"]): (int(row["requests"]), int(row["errors"])) for row in rows}


async def _prices(ids: list[str]) -> dict[str, catalog.TariffTerms]:
    """The price for ordinary API keys in force by model id."""
    rows = await Tariff.filter(model_id__in=ids, valid_until=None, api_key_purpose="realtime").order_by("valid_from") if ids else []
    return {str(row.model_id): tariffs.terms_of(row) for row in rows}


async def set_model_groups(
    services: Services, actor: Actor, model_id: str, group_ids: Collection[str], *, seen: Collection[str] | None = None
) -> dict[Grant, bool]:
    """Make these the groups that may call the model; what takes that back (see ``access.set_grants``). ``seen`` are those that the
    caller believes may now.

    Raises GatewayError 403, 404; 412 when others may by now.
    """
    policy.require(actor, "Groups", "update_all")

    async def write(tx: Tx) -> tuple[dict[Grant, bool], int | None]:
        row = await models.live_model(tx, model_id)
        held = await models.groups_of_model(tx, str(row.id))
        if seen is not None and held != set(seen):
            raise stale()
        wished = set(await models.live_groups(tx, group_ids))
        await models.set_groups(tx, actor, str(row.id), wished)
        before = {(group_id, str(row.id)): group_id in held for group_id in held ^ wished}
        return before, await Changes.note(tx, "catalog", str(row.id)) if before else None

    before, seq = await services.store.write(write)
    if seq is not None:
        await services.changes.applied(seq)
    return before


async def price_versions(actor: Actor, model_id: str) -> list[PriceVersion]:
    """Every price that the model has or had: those in force first, then the newest. Raises GatewayError 403."""
    policy.require(actor, "Pricing", "read_all")
    rows = await Tariff.filter(model_id=model_id).order_by("-valid_from", "id")
    versions = [
        PriceVersion(id=str(row.id), terms=tariffs.terms_of(row), valid_from=row.valid_from, valid_until=row.valid_until) for row in rows
    ]
    return sorted(versions, key=lambda version: version.valid_until is not None)


async def set_price(
    services: Services,
    actor: Actor,
    model_id: str,
    purpose: catalog.Purpose,
    terms: catalog.TariffTerms | None,
    *,
    revision: int | None = None,
) -> bool:
    """Charge ``terms`` for keys of this purpose from now on (None: no price of their own); whether that changed anything.

    The price that held until now ends, and stays with what was charged by it. Raises GatewayError 403, 404, 412.
    """
    policy.require(actor, "Pricing", "update_all")

    async def write(tx: Tx) -> tuple[bool, int | None]:
        row = await models.live_model(tx, model_id)
        check_revision(row, revision)
        rows = await Tariff.filter(model_id=row.id, valid_until=None).using_db(tx.orm)
        others = [held for held in map(tariffs.terms_of, rows) if (held.api_key_purpose, held.completion_window) != (purpose, None)]
        changed = await models.update_prices(tx, actor, str(row.id), [*others, terms] if terms is not None else others)
        if changed:
            await count_up(tx, row)
        return changed, await Changes.note(tx, "catalog", str(row.id)) if changed else None

    changed, seq = await services.store.write(write)
    if seq is not None:
        await services.changes.applied(seq)
    return changed


async def last_change(services: Services, actor: Actor, model_id: str) -> AuditEntry | None:
    """Who changed the model last, and what; None if nobody has since it was made, or the actor may not know."""
    if not policy.allows(actor, "System", "read_all"):
        return None
    return next(iter(await list_audit(services.store, actor, AuditFilter(resource="model", resource_id=model_id), limit=1)), None)


async def obstacles(services: Services, actor: Actor, model_id: str) -> list[Obstacle]:
    """What keeps the actor from calling a model that they can see."""
    found: list[Obstacle] = []
    row = await DeployedModel.get_or_none(id=model_id, deleted_at=None)
    if row is None:
        raise models.model_missing(model_id)
    if row.status != "active":
        found.append("provider")
    mine = await groups_of(actor)
    having = await services.store.fetch("SELECT group_id FROM deployment_groups WHERE model_id = ?", (model_id,))
    if not any(str(held["group_id"]) in mine for held in having):
        found.append("groups")
    price = (await _prices([model_id])).get(model_id)
    costs = price is not None and (price.input_pico or price.output_pico or price.per_request_pico)
    if costs and services.ledger.balances.balance(actor.user_id) <= 0:
        found.append("balance")
    return found
