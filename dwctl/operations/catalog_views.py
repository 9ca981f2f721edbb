"""Endpoints and models as REST and pages show them: what is there, what the caller may see of it, what goes with it."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from dwctl import catalog, clock
from dwctl.accounts import NIL, Actor, policy
from dwctl.dialects.names import DialectName
from dwctl.errors import bad_request
from dwctl.operations import tariffs
from dwctl.operations.account_views import GROUP_COLUMNS, GroupResponse, group_view, in_chunks
from dwctl.operations.endpoint_rows import live_endpoint
from dwctl.operations.models import live_groups, model_missing
from dwctl.operations.rows import canonical
from dwctl.operations.services import Services
from dwctl.operations.tariffs import TariffView
from dwctl.store.tables import DeployedModel, Endpoint, ModelGroup, Tariff, UserGroup

INCLUDES = frozenset({"groups", "metrics", "status", "pricing", "endpoints", "facets", "components", "reasoning_capabilities"})
DAY_HOURS = 24
Sort = Literal["created_at", "alias", "intelligence_index", "released_at", "context_window", "provider", "price_from"]


class EndpointView(msgspec.Struct, kw_only=True):
    """An endpoint. Of its credential only whether there is one."""

    id: str
    name: str
    description: str | None
    url: str
    dialect: DialectName
    requires_api_key: bool
    model_filter: list[str] | None
    auth_header_name: str
    auth_header_prefix: str
    forward_headers: list[str]
    max_concurrency: int | None
    connect_timeout: float | None
    first_byte_timeout: float | None
    idle_timeout: float | None
    total_timeout: float | None
    created_by: str | None
    created_at: str
    updated_at: str
    revision: int


class HourOfRequests(msgspec.Struct):
    timestamp: str
    requests: int


class ModelMetrics(msgspec.Struct, kw_only=True):
    """What a model was used for, from the hourly sums. ``last_active_at`` is to the hour."""

    avg_latency_ms: float | None
    total_requests: int
    total_input_tokens: int
    total_output_tokens: int
    last_active_at: str | None
    time_series: list[HourOfRequests]
    """The last 24 hours, oldest first."""


class ProbeStatus(msgspec.Struct, kw_only=True):
    """The state of a model's probe; nothing is probed yet, so it says that there is none."""

    probe_id: str | None = None
    active: bool = False
    interval_seconds: int | None = None
    last_check: str | None = None
    last_success: bool | None = None
    uptime_percentage: float | None = None


class ModelView(msgspec.Struct, kw_only=True):
    """A model. Fields that the caller may not see, and what was not asked for by ``include``, are left out."""

    id: str
    model_name: str
    alias: str
    display_name: str | None
    description: str | None
    model_type: str
    capabilities: list[str]
    metadata: dict[str, Any]
    hosted_on: str
    is_composite: bool = False
    inactive: bool
    deleted: bool
    created_by: str | UnsetType | None = UNSET
    created_at: str
    updated_at: str
    requests_per_second: float | UnsetType | None = UNSET
    burst_size: int | UnsetType | None = UNSET
    capacity: int | UnsetType | None = UNSET
    batch_capacity: int | UnsetType | None = UNSET
    throughput: float | UnsetType | None = UNSET
    max_output_tokens: int | None
    tokenizer: str | UnsetType | None = UNSET
    bodies: str | UnsetType | None = UNSET
    always_stream_usage: bool | UnsetType = UNSET
    revision: int
    groups: list[GroupResponse] | UnsetType = UNSET
    metrics: ModelMetrics | UnsetType = UNSET
    status: ProbeStatus | UnsetType = UNSET
    tariffs: list[TariffView] | UnsetType = UNSET
    cache_pricing: dict[str, bool] | UnsetType = UNSET
    endpoint: EndpointView | UnsetType = UNSET


class Facets(msgspec.Struct, kw_only=True):
    """What the models that the caller can see may be filtered by."""

    providers: list[str]
    capabilities: list[str]
    model_types: list[str]


class ModelFilter(msgspec.Struct, kw_only=True):
    """Which models of a list. None: no restriction."""

    endpoint: str | None = None
    groups: Collection[str] | None = None
    deleted: bool = False
    inactive: bool = False
    accessible: bool = False
    search: str | None = None
    is_composite: bool | None = None
    provider: str | None = None
    model_type: str | None = None
    capability: str | None = None
    available_for_realtime: bool | None = None
    sort: Sort = "created_at"
    descending: bool = True


class ModelPage(msgspec.Struct, kw_only=True):
    models: list[ModelView]
    total: int
    facets: Facets | None


def rights_of(actor: Actor) -> catalog.Rights:
    """What the actor may see of every model."""
    return catalog.Rights(
        rate_limits=policy.allows(actor, "ModelRateLimits", "read_all"),
        users=policy.allows(actor, "Users", "read_all"),
        models=policy.allows(actor, "Models", "read_all"),
        groups=policy.allows(actor, "Groups", "read_all"),
        analytics=policy.allows(actor, "Analytics", "read_all"),
    )


def endpoint_view(row: Endpoint) -> EndpointView:
    return EndpointView(
        id=str(row.id),
        name=row.name,
        description=row.description,
        url=row.url,
        dialect=row.dialect,
        requires_api_key=bool(row.sealed_credential),
        model_filter=row.model_filter,
        auth_header_name=row.auth_header_name,
        auth_header_prefix=row.auth_header_prefix,
        forward_headers=row.forward_headers,
        max_concurrency=row.max_concurrency,
        connect_timeout=row.connect_timeout,
        first_byte_timeout=row.first_byte_timeout,
        idle_timeout=row.idle_timeout,
        total_timeout=row.total_timeout,
        created_by=None if row.created_by is None else str(row.created_by),
        created_at=clock.to_rfc3339(row.created_at),
        updated_at=clock.to_rfc3339(row.updated_at),
        revision=row.revision,
    )


async def list_endpoints(actor: Actor, *, skip: int, limit: int) -> list[EndpointView]:
    """Live endpoints by name. Raises GatewayError 403."""
    policy.require(actor, "Endpoints", "read_all")
    rows = await Endpoint.filter(deleted_at=None).order_by("name", "id").offset(skip).limit(limit)
    return [endpoint_view(row) for row in rows]


async def get_endpoint(actor: Actor, endpoint_id: str) -> EndpointView:
    """One endpoint. Raises GatewayError 403, 404."""
    policy.require(actor, "Endpoints", "read_all")
    return endpoint_view(await live_endpoint(endpoint_id))


async def groups_of(actor: Actor) -> set[str]:
    """The groups that give the actor access to models: their own, and Everyone."""
    rows = await UserGroup.filter(user_id=actor.user_id).values_list("group_id", flat=True)
    return {NIL, *(str(group_id) for group_id in rows)}


async def list_models(
    services: Services, actor: Actor, chosen: ModelFilter, *, skip: int, limit: int, include: Collection[str] = ()
) -> ModelPage:
    """Models that the actor can see, filtered and sorted, and how many there are. Raises GatewayError 400."""
    everything = policy.allows(actor, "Models", "read_all")
    query = DeployedModel.filter(deleted_at__isnull=not (chosen.deleted and actor.is_admin))
    query = query.filter(status="inactive" if chosen.inactive and actor.is_admin else "active")
    if chosen.endpoint is not None:
        endpoint_id = canonical(chosen.endpoint)
        if endpoint_id is None:
            raise bad_request("endpoint is not a UUID", param="endpoint")
        query = query.filter(endpoint_id=endpoint_id)
    if chosen.model_type is not None:
        kind = chosen.model_type.upper()
        if kind not in catalog.MODEL_TYPES:
            raise bad_request(f"model_type must be one of {', '.join(catalog.MODEL_TYPES)}", param="model_type")
        query = query.filter(model_type=kind)
    rows = await query
    if chosen.accessible or not everything:
        reach = await reach_of(actor)
        rows = [row for row in rows if str(row.id) in reach]
    if chosen.groups is not None:
        reach = await _models_of(chosen.groups)
        rows = [row for row in rows if str(row.id) in reach]
    if chosen.is_composite or chosen.available_for_realtime is False:
        rows = []
    facets = _facets(rows) if "facets" in include else None
    rows = [row for row in rows if _matches(row, chosen)]
    prices = await _input_prices(rows) if chosen.sort == "price_from" else {}
    rows = _sorted(rows, chosen, prices)
    page = rows[skip : skip + limit]
    return ModelPage(models=await _views(services, actor, page, include), total=len(rows), facets=facets)


async def get_model(services: Services, actor: Actor, model_id: str, *, include: Collection[str] = (), deleted: bool = False) -> ModelView:
    """One model. Raises GatewayError 404, also when it exists beyond what the actor can see."""
    known = canonical(model_id)
    row = known and await DeployedModel.get_or_none(id=known)
    if not row or (row.deleted_at is not None and not (deleted and actor.is_admin)):
        raise model_missing(model_id)
    if not policy.allows(actor, "Models", "read_all"):
        reachable = await ModelGroup.filter(model_id=row.id, group_id__in=list(await groups_of(actor))).exists()
        if row.status != "active" or not reachable:
            raise model_missing(model_id)
    return (await _views(services, actor, [row], include))[0]


async def model_groups(actor: Actor, model_id: str) -> list[str]:
    """Ids of the groups that may call a model. Raises GatewayError 403, 404."""
    policy.require(actor, "Groups", "read_all")
    known = canonical(model_id)
    if known is None or not await DeployedModel.filter(id=known, deleted_at=None).exists():
        raise model_missing(model_id)
    return sorted(str(group_id) for group_id in await ModelGroup.filter(model_id=known).values_list("group_id", flat=True))


async def group_models(actor: Actor, group_id: str) -> list[str]:
    """Ids of the live models that a group may call. Raises GatewayError 403, 404."""
    policy.require(actor, "Groups", "read_all")
    reach = await _models_of(await live_groups(None, [group_id]))
    live = await DeployedModel.filter(id__in=list(reach), deleted_at=None).values_list("id", flat=True) if reach else []
    return sorted(str(model_id) for model_id in live)


async def reach_of(actor: Actor) -> set[str]:
    """Ids of the models that the actor's groups may call."""
    return await _models_of(await groups_of(actor))


async def _models_of(group_ids: Collection[str]) -> set[str]:
    rows = await ModelGroup.filter(group_id__in=list(group_ids)).values_list("model_id", flat=True)
    return {str(model_id) for model_id in rows}


def _matches(row: DeployedModel, chosen: ModelFilter) -> bool:
    if chosen.search:
        wanted = chosen.search.strip().lower()
        texts = (row.alias, row.model_name, row.display_name or "", row.description or "")
        if not any(wanted in text.lower() for text in texts):
            return False
    if chosen.provider is not None and str(row.metadata.get("provider", "")).lower() != chosen.provider.lower():
        return False
    return chosen.capability is None or chosen.capability in row.capabilities


def _facets(rows: Iterable[DeployedModel]) -> Facets:
    seen = list(rows)
    return Facets(
        providers=sorted({str(row.metadata["provider"]) for row in seen if row.metadata.get("provider")}),
        capabilities=sorted({capability for row in seen for capability in row.capabilities}),
        model_types=sorted({row.model_type for row in seen}),
    )


def _sorted(rows: list[DeployedModel], chosen: ModelFilter, prices: dict[str, int]) -> list[DeployedModel]:
    """By the chosen field, rows without a value last; equals by alias."""

    def value(row: DeployedModel) -> Any:
        match chosen.sort:
            case "created_at":
                return row.created_at
            case "alias":
                return row.alias.lower()
            case "price_from":
                return prices.get(str(row.id))
            case "intelligence_index" | "context_window":
                number = row.metadata.get(chosen.sort)
                return number if isinstance(number, int | float) and not isinstance(number, bool) else None
            case "released_at" | "provider":
                text = row.metadata.get(chosen.sort)
                return text.lower() if isinstance(text, str) else None

    rows = sorted(rows, key=lambda row: row.alias)
    having = sorted((row for row in rows if value(row) is not None), key=value, reverse=chosen.descending)
    return having + [row for row in rows if value(row) is None]


async def _tariffs_of(rows: Sequence[DeployedModel]) -> dict[str, list[Tariff]]:
    found: dict[str, list[Tariff]] = {}
    if rows:
        for tariff in await Tariff.filter(model_id__in=[row.id for row in rows], valid_until=None).order_by("api_key_purpose", "id"):
            found.setdefault(str(tariff.model_id), []).append(tariff)
    return found


async def _input_prices(rows: Sequence[DeployedModel]) -> dict[str, int]:
    """The lowest input price in force, in pico-credits per token, by model id."""
    return {model_id: min(tariff.input_pico for tariff in held) for model_id, held in (await _tariffs_of(rows)).items()}


async def _views(services: Services, actor: Actor, rows: Sequence[DeployedModel], include: Collection[str]) -> list[ModelView]:
    rights = rights_of(actor)
    hidden = catalog.hidden_fields(rights)
    views = [_model_view(row) for row in rows]
    if "pricing" in include:
        held = await _tariffs_of(rows)
        for view in views:
            view.tariffs = [tariffs.view(tariff) for tariff in held.get(view.id, ())]
            view.cache_pricing = {"enabled": False}
    if "status" in include:
        for view in views:
            view.status = ProbeStatus()
    if "groups" in include and rights.groups:
        await _add_groups(services, views)
    if "metrics" in include and rights.analytics:
        await _add_metrics(services, views)
    if "endpoints" in include and rights.models and rows:
        hosts = {row.id: endpoint_view(row) for row in await Endpoint.filter(id__in=list({row.endpoint_id for row in rows}))}
        for view, row in zip(views, rows, strict=True):
            view.endpoint = hosts[row.endpoint_id]
    for view in views:
        for name in hidden:
            setattr(view, name, UNSET)
    return views


def _model_view(row: DeployedModel) -> ModelView:
    return ModelView(
        id=str(row.id),
        model_name=row.model_name,
        alias=row.alias,
        display_name=row.display_name,
        description=row.description,
        model_type=row.model_type,
        capabilities=row.capabilities,
        metadata=row.metadata,
        hosted_on=str(row.endpoint_id),
        inactive=row.status != "active",
        deleted=row.deleted_at is not None,
        created_by=None if row.created_by is None else str(row.created_by),
        created_at=clock.to_rfc3339(row.created_at),
        updated_at=clock.to_rfc3339(row.updated_at),
        requests_per_second=row.requests_per_second,
        burst_size=row.burst_size,
        capacity=row.capacity,
        batch_capacity=row.batch_capacity,
        throughput=row.throughput,
        max_output_tokens=row.max_output_tokens,
        tokenizer=row.tokenizer,
        bodies=row.bodies,
        always_stream_usage=row.always_stream_usage,
        revision=row.revision,
    )


async def _add_groups(services: Services, views: Sequence[ModelView]) -> None:
    grants = await ModelGroup.filter(model_id__in=[view.id for view in views]) if views else []
    rows = await in_chunks(
        services.store,
        f"SELECT {GROUP_COLUMNS} FROM groups WHERE deleted_at IS NULL AND id IN ({{places}})",
        (str(grant.group_id) for grant in grants),
    )
    groups = {group.id: group for group in map(group_view, rows)}
    for view in views:
        mine = (groups.get(str(grant.group_id)) for grant in grants if str(grant.model_id) == view.id)
        view.groups = sorted((group for group in mine if group is not None), key=lambda group: group.name)


async def _add_metrics(services: Services, views: Sequence[ModelView]) -> None:
    if not views:
        return
    marks = ", ".join("?" * len(views))
    totals = await services.store.fetch_report(
        "SELECT model_id, SUM(requests) AS requests, SUM(uncached_input + cache_read + cache_write) AS input, SUM(output) AS output,"
        f" SUM(duration_us) AS duration_us, MAX(hour) AS hour FROM usage_hourly WHERE model_id IN ({marks}) GROUP BY model_id",
        [view.id for view in views],
    )
    first = clock.now_us() // clock.HOUR - DAY_HOURS + 1
    hours = await services.store.fetch_report(
        "SELECT model_id, hour, SUM(requests) AS requests FROM usage_hourly"
        f" WHERE hour >= ? AND model_id IN ({marks}) GROUP BY model_id, hour",
        [first, *(view.id for view in views)],
    )
    by_model = {str(row["model_id"]): row for row in totals}
    by_hour = {(str(row["model_id"]), int(row["hour"])): int(row["requests"]) for row in hours}
    for view in views:
        row = by_model.get(view.id)
        requests = int(row["requests"]) if row else 0
        view.metrics = ModelMetrics(
            avg_latency_ms=int(row["duration_us"]) / requests / 1000 if row and requests else None,
            total_requests=requests,
            total_input_tokens=int(row["input"]) if row else 0,
            total_output_tokens=int(row["output"]) if row else 0,
            last_active_at=clock.to_rfc3339(int(row["hour"]) * clock.HOUR) if row else None,
            time_series=[
                HourOfRequests(clock.to_rfc3339(hour * clock.HOUR), by_hour.get((view.id, hour), 0))
                for hour in range(first, first + DAY_HOURS)
            ],
        )
