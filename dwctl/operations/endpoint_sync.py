"""An endpoint's models as its provider lists them: reading the list, importing from it, and following it."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from dwctl import catalog, clock
from dwctl.accounts import Actor, policy
from dwctl.dialects.names import DialectName
from dwctl.errors import GatewayError, bad_request
from dwctl.operations import models
from dwctl.operations.endpoint_rows import credentials_of, live_endpoint
from dwctl.operations.services import Services
from dwctl.outbound import check_key_header
from dwctl.store import Changes, Tx
from dwctl.store.tables import DeployedModel, Endpoint


class SyncReport(msgspec.Struct, kw_only=True):
    """What a synchronisation did. ``conflicts`` are models that were not created since their alias is taken."""

    endpoint_id: str
    changes_made: int
    new_models_created: int
    models_reactivated: int
    models_deactivated: int
    models_deleted: int
    total_models_fetched: int
    filtered_models_count: int
    synced_at: str
    conflicts: list[dict[str, str]] = []


async def fetch_models(
    services: Services, url: str, credentials: catalog.Credentials, dialect: DialectName, connect_timeout: float | None = None
) -> list[catalog.ProviderModel]:
    """The provider's model list, and what it says of each. Raises GatewayError: 400 for an address that may not be called or a header
    that may not be sent, else 500 with the reason."""
    try:
        check_key_header(credentials.header_name, services.config.auth.proxy_header)
    except ValueError as error:
        raise bad_request(str(error), param="auth_header_name") from error
    try:
        seconds = connect_timeout or services.config.timeouts.connect
        listed = await catalog.discover(services.outbound, url, credentials, dialect, connect_timeout=seconds)
        return await catalog.describe(services.outbound, url, credentials, dialect, listed, connect_timeout=seconds)
    except catalog.DiscoveryError as error:
        if error.kind in ("url", "denied"):
            raise bad_request(error.message, param="url") from error
        raise GatewayError(
            500, "internal_error", f"provider_{error.kind}", f"Could not read the provider's models: {error.message}"
        ) from error


def imported(model: catalog.ProviderModel, alias: str) -> dict[str, Any]:
    """Columns of a model of which only that is known what its provider says."""
    columns = {"alias": alias, "model_name": model.id, "model_type": model.likely_type}
    return {**columns, "capabilities": sorted(model.capabilities)} if model.capabilities else columns


async def alias_conflicts(tx: Tx, wished: Mapping[str, str]) -> list[dict[str, str]]:
    """Of model name -> alias, those whose alias is held by a live model or wished for twice."""
    taken: list[dict[str, str]] = []
    seen: set[str] = set()
    for name, alias in wished.items():
        if alias in seen or await DeployedModel.filter(live_alias=alias).using_db(tx.orm).exists():
            taken.append({"model_name": name, "attempted_alias": alias})
        seen.add(alias)
    return taken


async def synchronize_endpoint(services: Services, actor: Actor, endpoint_id: str) -> SyncReport:
    """Read the provider's list and follow it. Raises GatewayError 403, 404, 500; then nothing has changed."""
    policy.require(actor, "Endpoints", "update_all")
    row = await live_endpoint(endpoint_id)
    listed = await fetch_models(services, row.url, credentials_of(row, services.sealer), row.dialect, row.connect_timeout)
    by_name = {model.id: model for model in listed}

    async def write(tx: Tx) -> tuple[SyncReport, int | None]:
        fresh = await live_endpoint(endpoint_id, tx)
        held = await DeployedModel.filter(endpoint_id=fresh.id).using_db(tx.orm)
        plan = catalog.plan_resync(
            by_name,
            (catalog.HeldModel(str(row.id), row.model_name, row.status, row.deleted_at is not None) for row in held),
            fresh.model_filter,
        )
        report = await _carry_out(tx, actor, fresh, held, plan, by_name)
        if not report.changes_made:
            return report, None
        return report, await Changes.note(tx, "catalog", str(fresh.id))

    report, seq = await services.store.write(write)
    if seq is not None:
        await services.changes.applied(seq)
    return report


async def _carry_out(
    tx: Tx,
    actor: Actor,
    endpoint: Endpoint,
    held: Sequence[DeployedModel],
    plan: catalog.Resync,
    listed: Mapping[str, catalog.ProviderModel],
) -> SyncReport:
    taken = await alias_conflicts(tx, {name: name for name in plan.create})
    blocked = {entry["model_name"] for entry in taken}
    created = [name for name in plan.create if name not in blocked]
    for name in created:
        await models.insert_model(tx, actor, str(endpoint.id), imported(listed[name], name))
    by_id = {str(row.id): row for row in held}
    for model_id in plan.reactivate:
        await models.update_model(tx, actor, by_id[model_id], {"status": "active"})
    for model_id in plan.deactivate:
        await models.update_model(tx, actor, by_id[model_id], {"status": "inactive"})
    await models.delete_models(tx, actor, [by_id[model_id] for model_id in plan.delete])
    return SyncReport(
        endpoint_id=str(endpoint.id),
        changes_made=plan.changes - len(taken),
        new_models_created=len(created),
        models_reactivated=len(plan.reactivate),
        models_deactivated=len(plan.deactivate),
        models_deleted=len(plan.delete),
        total_models_fetched=plan.fetched,
        filtered_models_count=plan.within_filter,
        synced_at=clock.to_rfc3339(clock.now_us()),
        conflicts=taken,
    )
