"""Setting endpoints up and keeping up with their providers: whether one answers, how its list differs from what is held of it, which
models to take in, and who may call them.

Nothing of this follows a provider by itself: what was added or is gone is shown, and done as far as somebody says so.
"""

import asyncio
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from dwctl import catalog, clock
from dwctl.accounts import Actor, policy
from dwctl.dialects.names import DialectName
from dwctl.errors import GatewayError, conflict
from dwctl.operations import models
from dwctl.operations.access import Named
from dwctl.operations.bounds import check_text
from dwctl.operations.catalog_views import DAY_HOURS, EndpointView, endpoint_view
from dwctl.operations.endpoint_rows import credentials_of, live_endpoint
from dwctl.operations.endpoint_sync import imported
from dwctl.operations.endpoints import update_endpoint
from dwctl.operations.services import Services
from dwctl.sealing import SealingError
from dwctl.store import Changes, Tx
from dwctl.store.tables import DeployedModel, Endpoint, Tariff

PATIENCE = 10.0
"""Seconds that somebody who looks at a page waits for a provider's list, unless the endpoint's own timeout is shorter."""
LOCAL_SERVERS: Mapping[str, tuple[str, DialectName]] = {
    "Ollama": ("http://127.0.0.1:11434", "ollama"),
    "vLLM": ("http://127.0.0.1:8000/v1", "openai-chat"),
    "llama.cpp": ("http://127.0.0.1:8080/v1", "openai-chat"),
    "LM Studio": ("http://127.0.0.1:1234/v1", "openai-chat"),
}
"""Where a server is usually found on its own machine, and what it speaks."""

FailureKind = Literal["address", "unreachable", "tls", "timeout", "credential", "no_list", "status", "bad_answer"]


class EndpointSummary(msgspec.Struct, kw_only=True):
    """An endpoint in a list. ``requests`` and ``errors`` are of its present models in the last 24 hours; ``unshared`` are those that
    no group may call."""

    endpoint: EndpointView
    models: int
    inactive: int
    unshared: int
    requests: int
    errors: int


class Failure(msgspec.Struct, frozen=True):
    """Why a provider's list could not be had."""

    kind: FailureKind
    message: str


class Probe(msgspec.Struct, kw_only=True):
    """What a provider answered: the names of its models, or why there are none."""

    names: list[str] = []
    failure: Failure | None = None
    milliseconds: float = 0
    encrypted: bool = False


class Offered(msgspec.Struct, kw_only=True):
    """A model that the provider lists and that is not held. ``alias`` is a free one to begin with; ``taken_by`` names the endpoint whose
    model has the provider's name as its alias already; ``deleted``: somebody has deleted it here before."""

    name: str
    alias: str
    model_type: str
    taken_by: str | None
    deleted: bool


class Held(msgspec.Struct, kw_only=True):
    """A model of the endpoint, and what depends on it: groups that may call it, requests of the last 24 hours."""

    id: str
    name: str
    alias: str
    model_type: str
    status: str
    groups: int
    requests: int
    errors: int


class Comparison(msgspec.Struct, kw_only=True):
    """A provider's list beside what is held of it."""

    probe: Probe
    offered: list[Offered] = []
    gone: list[Held] = []
    """Served, and not listed any more."""
    back: list[Held] = []
    """Retired, and listed again."""
    kept: list[Held] = []


async def endpoint_summaries(services: Services, actor: Actor, *, skip: int, limit: int) -> tuple[list[EndpointSummary], int]:
    """Live endpoints by name with their numbers, and how many there are. Raises GatewayError 403."""
    policy.require(actor, "Endpoints", "read_all")
    query = Endpoint.filter(deleted_at=None)
    rows = await query.order_by("name", "id").offset(skip).limit(limit)
    counted = await services.store.fetch(
        "SELECT m.endpoint_id, COUNT(*) AS models, SUM(CASE WHEN m.status = 'active' THEN 0 ELSE 1 END) AS inactive,"
        " SUM(CASE WHEN EXISTS (SELECT 1 FROM deployment_groups d WHERE d.model_id = m.id) THEN 0 ELSE 1 END) AS unshared"
        " FROM deployed_models m WHERE m.deleted_at IS NULL GROUP BY m.endpoint_id"
    )
    used = await services.store.fetch_report(
        "SELECT m.endpoint_id AS endpoint_id, SUM(u.requests) AS requests, SUM(u.errors) AS errors FROM usage_hourly u"
        " JOIN deployed_models m ON m.id = u.model_id AND m.deleted_at IS NULL WHERE u.hour >= ? GROUP BY m.endpoint_id",
        [_first_hour()],
    )
    models_of = {str(row["endpoint_id"]): row for row in counted}
    usage_of = {str(row["endpoint_id"]): row for row in used}
    summaries = []
    for row in rows:
        held, usage = models_of.get(str(row.id)), usage_of.get(str(row.id))
        summaries.append(
            EndpointSummary(
                endpoint=endpoint_view(row),
                models=int(held["models"]) if held else 0,
                inactive=int(held["inactive"]) if held else 0,
                unshared=int(held["unshared"]) if held else 0,
                requests=int(usage["requests"]) if usage else 0,
                errors=int(usage["errors"]) if usage else 0,
            )
        )
    return summaries, await query.count()


async def unfinished(services: Services, actor: Actor) -> list[Named]:
    """Endpoints without models, by name: those whose set-up was left, or failed, after the first step. Raises GatewayError 403."""
    policy.require(actor, "Endpoints", "update_all")
    rows = await services.store.fetch(
        "SELECT e.id, e.name FROM inference_endpoints e WHERE e.deleted_at IS NULL AND NOT EXISTS"
        " (SELECT 1 FROM deployed_models m WHERE m.endpoint_id = e.id AND m.deleted_at IS NULL) ORDER BY e.name LIMIT 5"
    )
    return [Named(str(row["id"]), row["name"]) for row in rows]


async def held_models(services: Services, actor: Actor, endpoint_id: str) -> list[Held]:
    """The endpoint's models by alias. Raises GatewayError 403, 404."""
    policy.require(actor, "Endpoints", "read_all")
    row = await live_endpoint(endpoint_id)
    return await _held(services, str(row.id))


async def _held(services: Services, endpoint_id: str) -> list[Held]:
    rows = await services.store.fetch_report(
        "SELECT m.id AS id, m.model_name AS name, m.alias AS alias, m.model_type AS model_type, m.status AS status,"
        " (SELECT COUNT(*) FROM deployment_groups d WHERE d.model_id = m.id) AS group_count,"
        " (SELECT SUM(u.requests) FROM usage_hourly u WHERE u.model_id = m.id AND u.hour >= ?) AS requests,"
        " (SELECT SUM(u.errors) FROM usage_hourly u WHERE u.model_id = m.id AND u.hour >= ?) AS errors"
        " FROM deployed_models m WHERE m.deleted_at IS NULL AND m.endpoint_id = ? ORDER BY m.alias",
        [_first_hour(), _first_hour(), endpoint_id],
    )
    return [
        Held(
            id=str(row["id"]),
            name=row["name"],
            alias=row["alias"],
            model_type=row["model_type"],
            status=row["status"],
            groups=int(row["group_count"]),
            requests=int(row["requests"] or 0),
            errors=int(row["errors"] or 0),
        )
        for row in rows
    ]


async def compare(services: Services, actor: Actor, endpoint_id: str) -> Comparison:
    """Ask the provider, and compare. A provider that does not answer is no error here. Raises GatewayError 403, 404."""
    policy.require(actor, "Endpoints", "update_all")
    endpoint = await live_endpoint(endpoint_id)
    probe = await _probe(
        services,
        endpoint.url,
        credentials_of(endpoint, services.sealer),
        endpoint.dialect,
        connect_timeout=endpoint.connect_timeout or services.config.timeouts.connect,
        deadline=min(PATIENCE, endpoint.first_byte_timeout or PATIENCE),
    )
    held = await _held(services, str(endpoint.id))
    if probe.failure is not None:
        return Comparison(probe=probe, kept=held)
    listed = frozenset(probe.names)
    names = {model.name for model in held}
    rows = await services.store.fetch(
        "SELECT m.live_alias AS alias, e.name AS endpoint FROM deployed_models m JOIN inference_endpoints e ON e.id = m.endpoint_id"
        " WHERE m.live_alias IS NOT NULL"
    )
    taken = {row["alias"]: row["endpoint"] for row in rows}
    gone = await DeployedModel.filter(endpoint_id=endpoint.id, deleted_at__isnull=False)
    deleted = {row.model_name for row in gone}
    fresh = await _described(services, endpoint, [name for name in probe.names if name not in names])
    return Comparison(
        probe=probe,
        offered=[
            Offered(
                name=model.id,
                alias=f"{model.id}-{_slug(endpoint.name)}" if model.id in taken else model.id,
                model_type=model.likely_type,
                taken_by=taken.get(model.id),
                deleted=model.id in deleted,
            )
            for model in fresh
        ],
        gone=[model for model in held if model.name not in listed and model.status == "active"],
        back=[model for model in held if model.name in listed and model.status != "active"],
        kept=[model for model in held if (model.name in listed) is (model.status == "active")],
    )


async def local_servers(services: Services, actor: Actor) -> list[tuple[str, str, int]]:
    """Model servers on this machine that answer: what usually listens there, the URL, how many models it has. Raises GatewayError 403."""
    policy.require(actor, "Endpoints", "create_all")
    asked = [
        _probe(services, url, catalog.Credentials(), dialect, connect_timeout=1.0, deadline=1.5) for url, dialect in LOCAL_SERVERS.values()
    ]
    probes = zip(LOCAL_SERVERS.items(), await asyncio.gather(*asked), strict=True)
    return [(name, url, len(probe.names)) for (name, (url, _)), probe in probes if probe.failure is None]


async def _described(services: Services, endpoint: Endpoint, names: Iterable[str]) -> list[catalog.ProviderModel]:
    """Models of the endpoint's provider with what it says of each, as far as it can be asked and answers."""
    named = [catalog.ProviderModel(name) for name in names]
    try:
        credentials = credentials_of(endpoint, services.sealer)
    except SealingError:
        return named
    seconds = endpoint.connect_timeout or services.config.timeouts.connect
    return await catalog.describe(services.outbound, endpoint.url, credentials, endpoint.dialect, named, connect_timeout=seconds)


async def _probe(
    services: Services,
    url: str,
    credentials: catalog.Credentials,
    dialect: DialectName,
    *,
    connect_timeout: float,
    deadline: float,
) -> Probe:
    begun = time.monotonic()
    try:
        listed = await catalog.discover(services.outbound, url, credentials, dialect, connect_timeout=connect_timeout, deadline=deadline)
    except catalog.DiscoveryError as error:
        return Probe(failure=Failure(_failure_kind(error), error.message))
    return Probe(
        names=[model.id for model in listed],
        milliseconds=(time.monotonic() - begun) * 1000,
        encrypted=url.lower().startswith("https:"),
    )


def _failure_kind(error: catalog.DiscoveryError) -> FailureKind:
    match error.kind:
        case "url" | "denied":
            return "address"
        case "status" if error.status in (401, 403):
            return "credential"
        case "status" if error.status in (404, 405):
            return "no_list"
        case "unreachable" | "tls" | "timeout" | "bad_answer" as kind:
            return kind
        case _:
            return "status"


async def follow(
    services: Services,
    actor: Actor,
    endpoint_id: str,
    *,
    take: Mapping[str, str],
    retire: Collection[str] = (),
    revive: Collection[str] = (),
) -> int:
    """Take in models (provider's name -> alias), stop serving and serve again others (by id), in one transaction; how many changed.

    Raises GatewayError 403, 404; 409 whose ``conflicts`` say of each model what is wrong with its alias: then nothing is done.
    """
    policy.require(actor, "Endpoints", "update_all")
    policy.require(actor, "Models", "create_all")
    aliases = {check_text(name, "model"): alias for name, alias in take.items()}
    described = {model.id: model for model in await _described(services, await live_endpoint(endpoint_id), aliases)}

    async def write(tx: Tx) -> tuple[int, int]:
        endpoint = await live_endpoint(endpoint_id, tx)
        wrong = await _wrong_aliases(tx, aliases)
        if wrong:
            raise conflict("Some aliases cannot be used: choose others for these models", conflicts=wrong)
        for name, alias in aliases.items():
            columns = imported(described[name], check_text(alias, "alias"))
            await models.insert_model(tx, actor, str(endpoint.id), columns)
        changed = len(aliases)
        if endpoint.model_filter is not None and not set(aliases) <= set(endpoint.model_filter):
            # What somebody has chosen must not be taken away again by following the filter.
            await update_endpoint(tx, actor, endpoint, {"model_filter": list(dict.fromkeys([*endpoint.model_filter, *aliases]))})
        for ids, status in ((retire, "inactive"), (revive, "active")):
            for model_id in ids:
                row = await models.live_model(tx, model_id)
                if row.endpoint_id == endpoint.id:
                    changed += await models.update_model(tx, actor, row, {"status": status})
        return changed, await Changes.note(tx, "catalog", str(endpoint.id))

    changed, seq = await services.store.write(write)
    await services.changes.applied(seq)
    return changed


async def _wrong_aliases(tx: Tx, wished: Mapping[str, str]) -> list[dict[str, str]]:
    wrong: list[dict[str, str]] = []
    seen: dict[str, str] = {}
    for name, given in wished.items():
        try:
            alias = check_text(given, "The alias")
        except GatewayError as error:
            wrong.append({"model_name": name, "message": f"{error.message}."})
            continue
        holder = await DeployedModel.get_or_none(live_alias=alias, using_db=tx.orm)
        if holder is not None:
            endpoint = await Endpoint.get_or_none(id=holder.endpoint_id, using_db=tx.orm)
            where = f" on {endpoint.name}" if endpoint is not None else ""
            wrong.append({"model_name": name, "message": f"'{alias}' is the alias of {holder.model_name}{where}. Choose another."})
        elif alias in seen:
            wrong.append({"model_name": name, "message": f"'{alias}' is also chosen for {seen[alias]}. Choose another."})
        seen[alias] = name
    return wrong


async def unshared_models(services: Services, actor: Actor, endpoint_id: str) -> list[Named]:
    """The endpoint's models that no group may call. Raises GatewayError 403, 404."""
    policy.require(actor, "Models", "read_all")
    row = await live_endpoint(endpoint_id)
    return [Named(model.id, model.alias) for model in await _held(services, str(row.id)) if model.groups == 0]


async def share_models(
    services: Services, actor: Actor, endpoint_id: str, group_ids: Sequence[str], wished: Sequence[catalog.TariffTerms] = ()
) -> int:
    """Let groups call every model of the endpoint that nobody may call yet, and give prices to those of them that have none; how many
    models that were. Raises GatewayError 403, 404."""
    policy.require(actor, "Groups", "update_all")
    policy.require(actor, "Models", "update_all")

    async def write(tx: Tx) -> tuple[int, int]:
        endpoint = await live_endpoint(endpoint_id, tx)
        groups = await models.live_groups(tx, group_ids)
        rows = await DeployedModel.filter(endpoint_id=endpoint.id, deleted_at=None).using_db(tx.orm)
        shared = 0
        for row in rows:
            model_id = str(row.id)
            if await models.groups_of_model(tx, model_id):
                continue
            shared += 1
            await models.set_groups(tx, actor, model_id, groups)
            if wished and not await Tariff.filter(model_id=model_id, valid_until=None).using_db(tx.orm).exists():
                await models.update_prices(tx, actor, model_id, wished)
        return shared, await Changes.note(tx, "catalog", str(endpoint.id))

    shared, seq = await services.store.write(write)
    await services.changes.applied(seq)
    return shared


def _first_hour() -> int:
    return clock.now_us() // clock.HOUR - DAY_HOURS + 1


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-") or "2"
