"""The catalog as the hot path sees it: compiled whole from the rows, never changed afterwards."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
from aiohttp import ClientTimeout
from yarl import URL

from dwctl.clock import MICROSECONDS
from dwctl.config import Config
from dwctl.dialects import conventions
from dwctl.dialects.fields import LEAST_OUTPUT
from dwctl.dialects.names import DialectName
from dwctl.ledger.prices import Price
from dwctl.outbound import check_key_header, check_url, connect_bound, is_of_proxies, join
from dwctl.sealing import Sealer, SealingError, Secret
from dwctl.store import StoreUnavailable
from dwctl.store.tables import DeployedModel, Endpoint, ModelGroup, Tariff
from dwctl.telemetry.alarms import alarm

_CACHED_URLS = 64


@dataclass(slots=True, eq=False)
class EndpointEntry:
    """One provider. Durations in seconds; ``credential`` is revealed only when a request is sent; ``base`` is what the paths of its
    ``dialect`` are appended to; ``headers`` are what it wants to have if the client does not send them."""

    id: str
    name: str
    dialect: DialectName
    base: URL
    auth_header: str
    auth_prefix: str
    credential: Secret | None
    headers: Mapping[str, str]
    forward_headers: tuple[str, ...]
    max_concurrency: int | None
    connect_timeout: ClientTimeout
    connect_seconds: float
    first_byte_timeout: float
    idle_timeout: float
    total_timeout: float
    server: tuple[str, str]
    """Host and port of ``base``, as metrics name them."""
    _urls: dict[str, URL] = field(default_factory=dict)

    def url(self, path: str, query: str) -> URL:
        """The provider's URL for a client's path. Raises ValueError for a path that could leave the base."""
        if query:
            return join(self.base, path, query)
        url = self._urls.get(path)
        if url is None:
            url = join(self.base, path)
            if len(self._urls) < _CACHED_URLS:
                self._urls[path] = url
        return url

    def auth(self) -> dict[str, str]:
        """The header that carries the endpoint's credential; empty without one."""
        return {} if self.credential is None else {self.auth_header: self.auth_prefix + self.credential.reveal()}


@dataclass(slots=True, frozen=True, eq=False)
class Candidate:
    """A provider with its own name for the model; ``model_json`` is that name as JSON text."""

    endpoint: EndpointEntry
    model_name: str
    model_json: bytes


@dataclass(slots=True, frozen=True, eq=False)
class ModelEntry:
    """One alias. ``groups`` whose members may call it; ``capacity`` concurrent requests; rates per second."""

    id: str
    alias: str
    groups: frozenset[str]
    candidates: tuple[Candidate, ...]
    prices: tuple[Price, ...]
    """In force, the newest first."""
    active: bool
    requests_per_second: float | None
    burst_size: int | None
    capacity: int | None
    max_output_tokens: int | None
    least_output: int
    """Tokens: no provider of the model can be asked for fewer."""
    tokenizer: str | None
    bodies: str | None
    always_stream_usage: bool
    created: int
    """Seconds since the epoch."""
    display_name: str | None
    kind: str
    """CHAT, EMBEDDINGS or RERANKER."""
    capabilities: tuple[str, ...]


@dataclass(slots=True, frozen=True, eq=False)
class Snapshot:
    """Everything that can be called, by alias. ``version`` is the change-log number that it covers."""

    version: int
    models: Mapping[str, ModelEntry]
    listing: tuple[ModelEntry, ...]
    """Active models, sorted by alias."""


def compile_snapshot(
    version: int,
    endpoints: Iterable[Endpoint],
    models: Iterable[DeployedModel],
    grants: Iterable[ModelGroup],
    tariffs: Iterable[Tariff],
    sealer: Sealer,
    config: Config,
) -> Snapshot:
    """Compile live rows. A row that cannot be used (a URL, header or credential gone bad) leaves its models without a provider."""
    timeouts, sign_in = config.timeouts, config.auth.proxy_header
    compiled: dict[str, EndpointEntry] = {}
    for row in endpoints:
        try:
            check_url(row.url)
            check_key_header(row.auth_header_name, sign_in)
            credential = sealer.unseal(bytes(row.sealed_credential)) if row.sealed_credential else None
            connect = row.connect_timeout or timeouts.connect
            headers = conventions.headers_of(row.dialect)
            forwarded = (name.lower() for name in row.forward_headers if not is_of_proxies(name, sign_in))
            base = conventions.base_of(row.url, row.dialect)
            compiled[str(row.id)] = EndpointEntry(
                id=str(row.id),
                name=row.name,
                dialect=row.dialect,
                base=base,
                auth_header=row.auth_header_name,
                auth_prefix=row.auth_header_prefix,
                credential=credential,
                headers=headers,
                forward_headers=(*headers, *forwarded),
                max_concurrency=row.max_concurrency,
                connect_timeout=connect_bound(connect),
                connect_seconds=connect,
                first_byte_timeout=row.first_byte_timeout or timeouts.first_byte,
                idle_timeout=row.idle_timeout or timeouts.idle,
                total_timeout=row.total_timeout or timeouts.total,
                server=(base.host or "", str(base.port or "")),
            )
        except (ValueError, SealingError) as error:
            alarm("catalog", "endpoint_unusable", endpoint=row.name, reason=str(error))
    groups: dict[str, set[str]] = {}
    for grant in grants:
        groups.setdefault(str(grant.model_id), set()).add(str(grant.group_id))
    prices: dict[str, list[Price]] = {}
    for tariff in tariffs:
        prices.setdefault(str(tariff.model_id), []).append(_price(tariff))
    entries: dict[str, ModelEntry] = {}
    for model in models:
        id_ = str(model.id)
        endpoint = compiled.get(str(model.endpoint_id))
        candidates = (Candidate(endpoint, model.model_name, msgspec.json.encode(model.model_name)),) if endpoint else ()
        entries[model.alias] = ModelEntry(
            id=id_,
            alias=model.alias,
            groups=frozenset(groups.get(id_, ())),
            candidates=candidates,
            prices=tuple(prices.get(id_, ())),
            active=model.status == "active",
            requests_per_second=model.requests_per_second if model.requests_per_second and model.requests_per_second > 0 else None,
            burst_size=model.burst_size,
            capacity=model.capacity,
            max_output_tokens=model.max_output_tokens,
            least_output=max((LEAST_OUTPUT[candidate.endpoint.dialect] for candidate in candidates), default=0),
            tokenizer=model.tokenizer,
            bodies=model.bodies,
            always_stream_usage=model.always_stream_usage,
            created=model.created_at // MICROSECONDS,
            display_name=model.display_name,
            kind=model.model_type,
            capabilities=tuple(str(name) for name in model.capabilities),
        )
    listing = tuple(entry for _, entry in sorted(entries.items()) if entry.active)
    return Snapshot(version, entries, listing)


def _price(row: Tariff) -> Price:
    return Price(
        tariff_id=str(row.id),
        purpose=row.api_key_purpose,
        input_pico=row.input_pico,
        output_pico=row.output_pico,
        cache_read_pico=row.cache_read_pico,
        cache_write_5m_pico=row.cache_write_5m_pico,
        cache_write_1h_pico=row.cache_write_1h_pico,
        per_request_pico=row.per_request_pico,
    )


async def load_snapshot(version: int, sealer: Sealer, config: Config) -> Snapshot:
    """Read the live rows and compile them. Raises StoreUnavailable."""
    try:
        endpoints = await Endpoint.filter(deleted_at=None)
        models = await DeployedModel.filter(deleted_at=None)
        grants = await ModelGroup.all()
        priced = Tariff.filter(valid_until=None, api_key_purpose__isnull=False, completion_window=None)
        tariffs = await priced.order_by("-valid_from", "-id")
    except OSError as error:
        raise StoreUnavailable(str(error)) from error
    return compile_snapshot(version, endpoints, models, grants, tariffs, sealer, config)
