"""Endpoints: where models are hosted, how a provider is authenticated with, and which of its models are held.

The credential goes in and never comes out: it is sealed in the row and shown to nobody, not even as a hint.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import structlog
from msgspec import UNSET, UnsetType
from tortoise.exceptions import IntegrityError

from dwctl import catalog, clock, ids
from dwctl.accounts import Actor, policy
from dwctl.config import Config
from dwctl.dialects import conventions
from dwctl.dialects.names import DEFAULT, DIALECTS
from dwctl.errors import GatewayError, bad_request, conflict
from dwctl.operations import models
from dwctl.operations.audit import audit
from dwctl.operations.bounds import check_counts, check_description, check_text, refuse_unsupported
from dwctl.operations.endpoint_rows import credentials_of, live_endpoint
from dwctl.operations.endpoint_sync import alias_conflicts, fetch_models, imported, synchronize_endpoint
from dwctl.operations.rows import change_row, changes_of, check_revision
from dwctl.operations.services import Services
from dwctl.outbound import check_key_header, check_url, is_of_proxies
from dwctl.sealing import Secret
from dwctl.store import Changes, Tx
from dwctl.store.tables import DeployedModel, Endpoint

_log = structlog.get_logger(__name__)

MAX_CREDENTIAL = 8_192
MAX_TIMEOUT = 86_400.0
"""Seconds."""
TIMEOUTS = ("connect_timeout", "first_byte_timeout", "idle_timeout", "total_timeout")
RECONNECTING = frozenset({"url", "sealed_credential", "dialect", "auth_header_name", "auth_header_prefix", "model_filter"})
"""Columns whose change makes the provider's list worth reading again."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
FRAMING = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "content-type", "x-request-id"}
)
"""Headers that the request itself needs."""
NEVER_FORWARDED = (FRAMING - {"content-type"}) | {"authorization", "proxy-authorization", "x-api-key", "cookie"}
"""Client headers that no configuration hands to a provider: credentials of dwctl's own, and what belongs to the connection."""
_OWN = "x-dwctl-"
"""How headers begin that are meant for dwctl; no provider gets them either."""


Dialect = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(DIALECTS)})]
"""A text, so that a wrong one is refused in words that say what is right (``check_columns``)."""


class _Unsupported(msgspec.Struct, kw_only=True):
    reasoning_translation: dict[str, Any] | None = None


class EndpointCreate(_Unsupported, kw_only=True):
    """Body of POST /endpoints. ``reasoning_translation`` is not supported: refused."""

    name: str
    url: str
    dialect: Dialect | None = None
    """What the provider speaks; None: ``openai-chat``."""
    description: str | None = None
    api_key: str | None = None
    auth_header_name: str | None = None
    auth_header_prefix: str | None = None
    """None: as the dialect has it."""
    model_filter: list[str] | None = None
    alias_mapping: dict[str, str] | None = None
    """Provider's name -> alias; others keep their name."""
    sync: bool = True
    """Whether models are imported at all."""
    skip_fetch: bool = False
    """Import ``model_filter`` as it stands, without asking the provider."""
    forward_headers: list[str] | None = None
    max_concurrency: int | None = None
    connect_timeout: float | None = None
    first_byte_timeout: float | None = None
    idle_timeout: float | None = None
    total_timeout: float | None = None


class EndpointUpdate(_Unsupported, kw_only=True):
    """Body of PATCH /endpoints/{id}: a field left out stays; null clears the credential, the filter, limits and timeouts,
    an empty text the description. ``reasoning_translation`` is not supported: refused."""

    name: str | UnsetType | None = UNSET
    url: str | UnsetType | None = UNSET
    dialect: Dialect | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    api_key: str | UnsetType | None = UNSET
    auth_header_name: str | UnsetType | None = UNSET
    auth_header_prefix: str | UnsetType | None = UNSET
    model_filter: list[str] | UnsetType | None = UNSET
    alias_mapping: dict[str, str] | UnsetType | None = UNSET
    forward_headers: list[str] | UnsetType | None = UNSET
    max_concurrency: int | UnsetType | None = UNSET
    connect_timeout: float | UnsetType | None = UNSET
    first_byte_timeout: float | UnsetType | None = UNSET
    idle_timeout: float | UnsetType | None = UNSET
    total_timeout: float | UnsetType | None = UNSET


NULL_KEEPS = frozenset(
    {"name", "url", "dialect", "description", "auth_header_name", "auth_header_prefix", "alias_mapping", "forward_headers"}
)


class EndpointValidate(msgspec.Struct, kw_only=True):
    """Body of POST /endpoints/validate: a new address, or a stored endpoint with whatever should be tried differently."""

    type: Literal["new", "existing"]
    url: str | None = None
    dialect: Dialect | None = None
    endpoint_id: str | None = None
    api_key: str | None = None
    auth_header_name: str | None = None
    auth_header_prefix: str | None = None


def check_columns(columns: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """The columns, trimmed. Raises GatewayError 400 naming the first field that cannot be."""
    checked = dict(columns)
    if "name" in checked:
        checked["name"] = check_text(checked["name"], "name")
    if "description" in checked:
        checked["description"] = check_description(checked["description"])
    if "url" in checked:
        checked["url"] = checked["url"].strip()
        try:
            check_url(checked["url"])
        except ValueError as error:
            raise bad_request(f"url: {error}", param="url") from error
    if "dialect" in checked and checked["dialect"] not in DIALECTS:
        raise bad_request(f"dialect must be one of {', '.join(DIALECTS)}", param="dialect")
    if "auth_header_name" in checked:
        _check_key_header(checked["auth_header_name"], config)
    prefix = checked.get("auth_header_prefix")
    if prefix is not None and (len(prefix) > 64 or not _HEADER_VALUE.fullmatch(prefix)):
        raise bad_request("auth_header_prefix must be at most 64 printable ASCII characters", param="auth_header_prefix")
    for name in TIMEOUTS:
        value = checked.get(name)
        if value is not None and not (math.isfinite(value) and 0 < value <= MAX_TIMEOUT):
            raise bad_request(f"{name} must be above 0 and at most {MAX_TIMEOUT:g} seconds, or null", param=name)
    check_counts(checked, ("max_concurrency",))
    if checked.get("model_filter") is not None:
        checked["model_filter"] = list(dict.fromkeys(check_text(name, "model_filter") for name in checked["model_filter"]))
    if "forward_headers" in checked:
        checked["forward_headers"] = [_forwarded(name, config) for name in dict.fromkeys(checked["forward_headers"] or ())]
    return checked


def _check_key_header(name: str, config: Config) -> None:
    if not _HEADER_NAME.fullmatch(name):
        raise bad_request("auth_header_name must be the name of an HTTP header", param="auth_header_name")
    if name.lower() in FRAMING:
        raise bad_request("auth_header_name names a header that HTTP itself needs", param="auth_header_name")
    try:
        check_key_header(name, config.auth.proxy_header)
    except ValueError as error:
        raise bad_request(str(error), param="auth_header_name") from error


def _forwarded(name: str, config: Config) -> str:
    lowered = name.strip().lower()
    if not _HEADER_NAME.fullmatch(lowered):
        raise bad_request(f"forward_headers: {name[:64]!r} is not the name of an HTTP header", param="forward_headers")
    if lowered in NEVER_FORWARDED or lowered.startswith(_OWN) or is_of_proxies(lowered, config.auth.proxy_header):
        raise bad_request(f"forward_headers: {lowered} is never forwarded to a provider", param="forward_headers")
    return lowered


def check_credential(text: str | None) -> Secret | None:
    """A credential that fits into a header; None for none. Raises GatewayError 400, without repeating it."""
    credential = (text or "").strip()
    if not credential:
        return None
    if len(credential) > MAX_CREDENTIAL or not _HEADER_VALUE.fullmatch(credential):
        raise bad_request(f"api_key must be printable ASCII of at most {MAX_CREDENTIAL} characters", param="api_key")
    return Secret(credential)


async def insert_endpoint(tx: Tx, actor: Actor, columns: dict[str, Any], sealed: bytes | None) -> Endpoint:
    """Insert an endpoint with checked ``columns``, audited; what they leave out of dialect and key header is as usual. Raises GatewayError
    409 when a live one has the name."""
    columns = with_key_header(columns)
    if await Endpoint.filter(live_name=columns["name"]).using_db(tx.orm).exists():
        raise name_taken(columns["name"])
    now = clock.now_us()
    try:
        row = await Endpoint.create(
            id=ids.new(),
            live_name=columns["name"],
            sealed_credential=sealed,
            created_by=actor.user_id,
            created_at=now,
            updated_at=now,
            using_db=tx.orm,
            **columns,
        )
    except IntegrityError as error:
        raise name_taken(columns["name"]) from error
    await audit(tx, actor, "endpoints.create", "endpoint", str(row.id), None, {**columns, "requires_api_key": sealed is not None})
    return row


async def update_endpoint(
    tx: Tx, actor: Actor, row: Endpoint, columns: dict[str, Any], *, revision: int | None = None
) -> dict[str, tuple[Any, Any]]:
    """Write checked ``columns`` (``sealed_credential`` among them), audited; what differed. Raises GatewayError 409, 412."""
    if "name" in columns and columns["name"] != row.name:
        if await Endpoint.filter(live_name=columns["name"]).exclude(id=row.id).using_db(tx.orm).exists():
            raise name_taken(columns["name"])
        columns = {**columns, "live_name": columns["name"]}
    columns = _follow_dialect(row, columns)
    difference = await change_row(tx, row, columns, revision=revision)
    difference.pop("live_name", None)
    if difference:
        before, after = ({name: pair[side] for name, pair in difference.items() if name != "sealed_credential"} for side in (0, 1))
        if "sealed_credential" in difference:
            before["credential_changed"], after["credential_changed"] = False, True
        await audit(tx, actor, "endpoints.update", "endpoint", str(row.id), before, after)
    return difference


def with_key_header(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a new endpoint, completed by the dialect and the header that its provider's key is sent in."""
    dialect = columns.get("dialect", DEFAULT)
    name, prefix = conventions.key_header(dialect, columns.get("auth_header_name"))
    return {"dialect": dialect, "auth_header_name": name, "auth_header_prefix": prefix, **columns}


def _follow_dialect(row: Endpoint, columns: dict[str, Any]) -> dict[str, Any]:
    """The columns with the header of another dialect, unless a header has been chosen."""
    if "dialect" not in columns or columns.keys() & {"auth_header_name", "auth_header_prefix"}:
        return columns
    if (row.auth_header_name, row.auth_header_prefix) != conventions.key_header(row.dialect):
        return columns
    name, prefix = conventions.key_header(columns["dialect"])
    return {**columns, "auth_header_name": name, "auth_header_prefix": prefix}


def name_taken(name: str) -> GatewayError:
    """409: names are unique among live endpoints."""
    return conflict(f"An endpoint named '{name}' already exists", param="name", resource="endpoint")


async def create_endpoint(services: Services, actor: Actor, body: EndpointCreate) -> str:
    """Create an endpoint and import its models; its id, once this node serves them.

    Everything or nothing: when the provider's list cannot be had (GatewayError 500), or an alias is taken (409 with
    ``conflicts``), no endpoint is left behind. Raises also GatewayError 400, 403.
    """
    policy.require(actor, "Endpoints", "create_all")
    refuse_unsupported(body, _Unsupported)
    columns = check_columns(
        {
            "name": body.name,
            "url": body.url,
            **_said(body),
            "description": body.description,
            "model_filter": body.model_filter,
            "forward_headers": body.forward_headers or [],
            "max_concurrency": body.max_concurrency,
            **{name: getattr(body, name) for name in TIMEOUTS},
        },
        services.config,
    )
    columns = with_key_header(columns)
    secret = check_credential(body.api_key)
    if not body.sync:
        listed: Sequence[catalog.ProviderModel] = ()
    elif body.skip_fetch:
        if columns["model_filter"] is None:
            raise bad_request("With skip_fetch the models to import are given in model_filter", param="model_filter")
        listed = [catalog.ProviderModel(name) for name in columns["model_filter"]]
    else:
        credentials = catalog.Credentials(secret, columns["auth_header_name"], columns["auth_header_prefix"])
        listed = await fetch_models(services, columns["url"], credentials, columns["dialect"], columns["connect_timeout"])
    by_name = {model.id: model for model in listed}
    plan = catalog.plan_resync(by_name, (), columns["model_filter"])
    mapping = body.alias_mapping or {}
    for name in sorted(mapping.keys() - set(plan.create)):
        raise bad_request(f"alias_mapping: no model {name!r} is imported", param="alias_mapping")
    sealed = services.sealer.seal(secret) if secret is not None else None

    async def write(tx: Tx) -> tuple[str, int]:
        row = await insert_endpoint(tx, actor, columns, sealed)
        wished = {name: check_text(mapping.get(name, name), "alias_mapping") for name in plan.create}
        taken = await alias_conflicts(tx, wished)
        if taken:
            raise conflict("Some aliases are already in use: choose others for these models", conflicts=taken)
        for name, alias in wished.items():
            await models.insert_model(tx, actor, str(row.id), imported(by_name[name], alias))
        return str(row.id), await Changes.note(tx, "catalog", str(row.id))

    endpoint_id, seq = await services.store.write(write)
    await services.changes.applied(seq)
    return endpoint_id


def _said(body: EndpointCreate | EndpointValidate) -> dict[str, Any]:
    """What a body says of the dialect and of the header for the key."""
    said = {"dialect": body.dialect, "auth_header_name": body.auth_header_name or None, "auth_header_prefix": body.auth_header_prefix}
    return {name: value for name, value in said.items() if value is not None}


async def validate_endpoint(services: Services, actor: Actor, body: EndpointValidate) -> list[catalog.ProviderModel]:
    """Ask for a model list without storing anything. A stored endpoint lends what the body leaves out.

    The stored credential goes to the stored host only, lest whoever may test an address could collect it elsewhere.
    Raises GatewayError 400, 403, 404, 500.
    """
    policy.require(actor, "Endpoints", "create_all")
    given = check_credential(body.api_key)
    if body.type == "new":
        if not body.url:
            raise bad_request("url is missing", param="url")
        secret, url, timeout = None, body.url, None
        columns = with_key_header(check_columns({"url": url, **_said(body)}, services.config))
    else:
        if not body.endpoint_id:
            raise bad_request("endpoint_id is missing", param="endpoint_id")
        row = await live_endpoint(body.endpoint_id)
        secret = credentials_of(row, services.sealer).secret
        url, timeout = body.url or row.url, row.connect_timeout
        if given is None and secret is not None and _origin(url) != _origin(row.url):
            raise bad_request("Another host is tested with its own API key: give api_key", param="api_key")
        stored = {name: getattr(row, name) for name in ("dialect", "auth_header_name", "auth_header_prefix")}
        columns = {**stored, **_follow_dialect(row, check_columns({"url": url, **_said(body)}, services.config))}
    credentials = catalog.Credentials(given or secret, columns["auth_header_name"], columns["auth_header_prefix"])
    return await fetch_models(services, columns["url"], credentials, columns["dialect"], timeout)


def _origin(url: str) -> str:
    return "/".join(url.strip().lower().split("/")[:3])


async def change_endpoint(services: Services, actor: Actor, endpoint_id: str, body: EndpointUpdate, *, revision: int | None = None) -> None:
    """Change an endpoint; then, if what leads to its list has changed, follow the list (a failure of that is only logged).

    ``alias_mapping`` gives models of this endpoint other aliases. Raises GatewayError 400, 403, 404, 409, 412.
    """
    policy.require(actor, "Endpoints", "update_all")
    columns = changes_of(body, null_keeps=NULL_KEEPS, unsupported=_Unsupported)
    mapping = columns.pop("alias_mapping", None)
    if "api_key" in columns:
        secret = check_credential(columns.pop("api_key"))
        columns["sealed_credential"] = services.sealer.seal(secret) if secret is not None else None
    columns = check_columns(columns, services.config)

    async def write(tx: Tx) -> tuple[frozenset[str], int | None]:
        row = await live_endpoint(endpoint_id, tx)
        keeps_credential = row.sealed_credential and "sealed_credential" not in columns
        if keeps_credential and _origin(columns.get("url", row.url)) != _origin(row.url):
            # As for validation: whoever may change an address must not collect the credential of another there.
            raise bad_request("Another host is called with its own API key: give api_key, or null for none", param="api_key")
        difference = await update_endpoint(tx, actor, row, columns, revision=revision)
        renamed = False
        for name, alias in (mapping or {}).items():
            hosted = await DeployedModel.filter(endpoint_id=row.id, model_name=name, deleted_at=None).using_db(tx.orm).first()
            if hosted is None:
                raise bad_request(f"alias_mapping: this endpoint has no model {name!r}", param="alias_mapping")
            renamed = await models.update_model(tx, actor, hosted, {"alias": check_text(alias, "alias_mapping")}) or renamed
        return frozenset(difference), await Changes.note(tx, "catalog", str(row.id)) if difference or renamed else None

    changed, seq = await services.store.write(write)
    if seq is not None:
        await services.changes.applied(seq)
    if mapping is None and changed & RECONNECTING:
        try:
            await synchronize_endpoint(services, actor, endpoint_id)
        except GatewayError as error:
            _log.warning("provider_not_followed", endpoint_id=endpoint_id, reason=error.message)


async def delete_endpoint(services: Services, actor: Actor, endpoint_id: str, *, revision: int | None = None) -> None:
    """Delete an endpoint and its models, softly. Raises GatewayError 403, 404, 412."""
    policy.require(actor, "Endpoints", "delete_all")

    async def write(tx: Tx) -> int:
        row = await live_endpoint(endpoint_id, tx)
        check_revision(row, revision)
        await models.delete_models(tx, actor, await DeployedModel.filter(endpoint_id=row.id, deleted_at=None).using_db(tx.orm))
        await change_row(tx, row, {"deleted_at": clock.now_us(), "live_name": None, "sealed_credential": None})
        await audit(tx, actor, "endpoints.delete", "endpoint", str(row.id), {"name": row.name, "url": row.url}, None)
        return await Changes.note(tx, "catalog", str(row.id))

    await services.changes.applied(await services.store.write(write))
