"""Models under their aliases: creating, changing and deleting them, and which groups may call them."""

import datetime
import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Annotated, Any, NoReturn

import msgspec
from msgspec import UNSET, UnsetType
from tortoise.exceptions import IntegrityError

from dwctl import catalog, clock, ids, tokens
from dwctl.accounts import Actor, policy
from dwctl.accounts.principals import NIL
from dwctl.config import BodyMode
from dwctl.errors import bad_request, conflict, not_found
from dwctl.operations import tariffs
from dwctl.operations.audit import audit
from dwctl.operations.bounds import check_counts, check_description, check_rates, check_text, optional_text, refuse_unsupported
from dwctl.operations.rows import canonical, change_row, changes_of, check_revision, count_up
from dwctl.operations.services import Services
from dwctl.operations.tariffs import TariffDefinition
from dwctl.store import Changes, Tx
from dwctl.store.tables import DeployedModel, Endpoint, Group, ModelGroup

MAX_METADATA_BYTES = 16_384
MAX_EXTRA_KEYS = 50
MAX_DESCRIPTION = 20_000


class ModelMetadata(msgspec.Struct, kw_only=True):
    """What is known of a model, beside whatever else is said. By ``released_at`` and the numbers lists are sorted."""

    provider: str | None = None
    display_category: str | None = None
    intelligence_index: float | None = None
    context_window: int | None = None
    released_at: datetime.date | None = None
    quantization: str | None = None
    attribution: str | None = None
    extra: Annotated[dict[str, Any], msgspec.Meta(max_length=MAX_EXTRA_KEYS)] | None = None


_KNOWN = msgspec.json.schema(ModelMetadata)["$defs"]["ModelMetadata"]["properties"]
Metadata = Annotated[dict[str, Any], msgspec.Meta(extra_json_schema={"properties": _KNOWN})]
"""``ModelMetadata`` with any further keys."""


class _Unsupported(msgspec.Struct, kw_only=True):
    sanitize_responses: bool | None = False
    trusted: bool | None = False
    open_responses_adapter: bool | None = True
    traffic_routing_rules: list[Any] | None = None
    allowed_batch_completion_windows: list[str] | None = None
    reasoning_translation_overrides: dict[str, Any] | None = None
    provider_pricing: dict[str, Any] | None = None
    fallback_with_replacement: bool | None = False
    backoff_enabled: bool | None = False
    backoff_initial_ms: int | None = 100
    backoff_max_ms: int | None = 5000
    backoff_factor: float | None = 2.0
    backoff_jitter: str | None = "full"
    backoff_max_total_ms: int | None = None


class ModelCreate(_Unsupported, kw_only=True):
    """Body of POST /models. Of routing rules, retries, sanitizing, translation of reasoning, windows of batches and providers' prices
    only the defaults are taken: they are not supported."""

    type: str = "standard"
    model_name: str
    hosted_on: str
    alias: str | None = None
    display_name: str | None = None
    description: str | None = None
    model_type: catalog.ModelType | None = None
    """None: guessed from the name."""
    capabilities: list[str] | None = None
    requests_per_second: float | None = None
    burst_size: int | None = None
    capacity: int | None = None
    batch_capacity: int | None = None
    throughput: float | None = None
    max_output_tokens: int | None = None
    tokenizer: str | None = None
    bodies: BodyMode | None = None
    always_stream_usage: bool = False
    metadata: Metadata | None = None
    tariffs: list[TariffDefinition] | None = None
    groups: list[str] | None = None
    """Groups that may call it, in the same act."""


class ModelUpdate(_Unsupported, kw_only=True):
    """Body of PATCH /models/{id}: a field left out stays; null clears a limit, and leaves the other fields as they are. An empty text
    clears the title and the description. What is not supported at creation is not here either."""

    alias: str | UnsetType | None = UNSET
    model_name: str | UnsetType | None = UNSET
    display_name: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    model_type: catalog.ModelType | UnsetType | None = UNSET
    capabilities: list[str] | UnsetType | None = UNSET
    requests_per_second: float | UnsetType | None = UNSET
    burst_size: int | UnsetType | None = UNSET
    capacity: int | UnsetType | None = UNSET
    batch_capacity: int | UnsetType | None = UNSET
    throughput: float | UnsetType | None = UNSET
    max_output_tokens: int | UnsetType | None = UNSET
    tokenizer: str | UnsetType | None = UNSET
    bodies: BodyMode | UnsetType | None = UNSET
    always_stream_usage: bool | UnsetType | None = UNSET
    metadata: Metadata | UnsetType | None = UNSET
    tariffs: list[TariffDefinition] | UnsetType | None = UNSET


NULL_KEEPS = frozenset(
    {"alias", "model_name", "display_name", "description", "model_type", "capabilities", "always_stream_usage", "metadata"}
)
"""Fields of ``ModelUpdate`` that null leaves as they are; for the others null means none."""


def check_columns(columns: dict[str, Any]) -> dict[str, Any]:
    """The columns, names trimmed. Raises GatewayError 400 naming the first field that is out of bounds."""
    checked = dict(columns)
    for name in ("model_name", "alias"):
        if name in checked:
            checked[name] = check_text(checked[name], name)
    if "display_name" in checked:
        checked["display_name"] = optional_text(checked["display_name"], "display_name")
    if "description" in checked:
        checked["description"] = check_description(checked["description"], MAX_DESCRIPTION)
    check_rates(checked, ("requests_per_second", "throughput"))
    check_counts(checked, ("burst_size", "capacity", "batch_capacity", "max_output_tokens"))
    if checked.get("tokenizer") not in (None, *tokens.TOKENIZERS):
        raise bad_request(f"tokenizer must be one of {', '.join(tokens.TOKENIZERS)}, or null", param="tokenizer")
    if checked.get("metadata") is not None:
        checked["metadata"] = _check_metadata(checked["metadata"])
    if "capabilities" in checked:
        checked["capabilities"] = sorted({str(item).strip() for item in checked["capabilities"] or () if str(item).strip()})
    return checked


def _check_metadata(given: dict[str, Any]) -> dict[str, Any]:
    """The metadata as either database gives it back, so that it can be compared with what is stored. Raises GatewayError 400."""
    metadata: dict[str, Any] = json.loads(json.dumps(given), parse_float=_float, parse_constant=_refuse_number)
    if len(msgspec.json.encode(metadata)) > MAX_METADATA_BYTES:
        raise bad_request(f"metadata must be at most {MAX_METADATA_BYTES} bytes of JSON", param="metadata")
    for field in msgspec.structs.fields(ModelMetadata):
        try:
            msgspec.convert(metadata.get(field.name), field.type)
        except msgspec.ValidationError as error:
            said = "a date such as 2026-01-31 is expected" if field.name == "released_at" else error
            raise bad_request(f"metadata.{field.name}: {said}", param=f"metadata.{field.name}") from error
    return metadata


def _float(text: str) -> float:
    # From 10^16 on, where there is an exponent, it is a whole number, and PostgreSQL gives it back with all its digits.
    return int(Decimal(text)) if "e+" in text else float(text)


def _refuse_number(text: str) -> NoReturn:
    raise bad_request(f"metadata: {text} is no number that can be kept: give a finite one, or null", param="metadata")


async def insert_model(tx: Tx, actor: Actor, endpoint_id: str, columns: dict[str, Any]) -> DeployedModel:
    """Insert a model with checked ``columns`` (``alias`` and ``model_name`` at least), audited. Raises GatewayError 409
    when a live model has the alias."""
    alias = columns["alias"]
    if await DeployedModel.filter(live_alias=alias).using_db(tx.orm).exists():
        raise alias_taken(alias)
    now = clock.now_us()
    try:
        row = await DeployedModel.create(
            id=ids.new(),
            live_alias=alias,
            endpoint_id=endpoint_id,
            created_by=actor.user_id,
            created_at=now,
            updated_at=now,
            using_db=tx.orm,
            **columns,
        )
    except IntegrityError as error:
        raise alias_taken(alias) from error
    await audit(tx, actor, "models.create", "model", str(row.id), None, {"endpoint_id": str(endpoint_id), **columns})
    return row


async def update_model(tx: Tx, actor: Actor, row: DeployedModel, columns: dict[str, Any], *, revision: int | None = None) -> bool:
    """Write checked ``columns``, audited; whether anything differed. Raises GatewayError 409, 412."""
    if "alias" in columns and columns["alias"] != row.alias:
        if await DeployedModel.filter(live_alias=columns["alias"]).exclude(id=row.id).using_db(tx.orm).exists():
            raise alias_taken(columns["alias"])
        columns = {**columns, "live_alias": columns["alias"]}
    difference = await change_row(tx, row, columns, revision=revision)
    difference.pop("live_alias", None)
    if difference:
        await audit(
            tx,
            actor,
            "models.update",
            "model",
            str(row.id),
            {name: before for name, (before, _) in difference.items()},
            {name: after for name, (_, after) in difference.items()},
        )
    return bool(difference)


async def update_prices(tx: Tx, actor: Actor, model_id: str, wished: Sequence[catalog.TariffTerms], *, field: str = "tariffs") -> bool:
    """Make ``wished`` the full set of prices, audited; whether anything changed. Raises GatewayError 400."""
    change = await tariffs.set_tariffs(tx, model_id, wished, field=field)
    if change is None:
        return False
    await audit(tx, actor, "tariffs.set", "model", model_id, {"tariffs": change["closed"]}, {"tariffs": change["inserted"]})
    return True


async def delete_models(tx: Tx, actor: Actor, rows: Sequence[DeployedModel]) -> None:
    """Delete softly: the alias is free again, prices end, grants go. Audited one by one."""
    now = clock.now_us()
    for row in rows:
        await change_row(tx, row, {"deleted_at": now, "live_alias": None})
        await audit(tx, actor, "models.delete", "model", str(row.id), {"alias": row.alias, "model_name": row.model_name}, None)
    deleted = [str(row.id) for row in rows]
    if deleted:
        await ModelGroup.filter(model_id__in=deleted).using_db(tx.orm).delete()
        await tariffs.close_tariffs(tx, deleted)


async def groups_of_model(tx: Tx, model_id: str) -> set[str]:
    """Ids of the groups that may call the model."""
    rows = await ModelGroup.filter(model_id=model_id).using_db(tx.orm).values_list("group_id", flat=True)
    return {str(group_id) for group_id in rows}


async def set_groups(tx: Tx, actor: Actor, model_id: str, group_ids: Iterable[str]) -> bool:
    """Make ``group_ids`` the full set of groups that may call the model, audited; whether anything changed."""
    wished = set(group_ids)
    held = await groups_of_model(tx, model_id)
    if wished == held:
        return False
    if held - wished:
        await ModelGroup.filter(model_id=model_id, group_id__in=list(held - wished)).using_db(tx.orm).delete()
    for group_id in sorted(wished - held):
        await ModelGroup.create(model_id=model_id, group_id=group_id, granted_by=actor.user_id, using_db=tx.orm)
    await audit(tx, actor, "models.groups", "model", model_id, {"groups": sorted(held)}, {"groups": sorted(wished)})
    return True


def alias_taken(alias: str) -> Exception:
    """409: aliases are unique among live models."""
    return conflict(f"The alias '{alias}' is already in use by another model", param="alias", resource="deployment")


async def live_model(tx: Tx, model_id: str) -> DeployedModel:
    """The model inside a transaction. Raises GatewayError 404 when it is not there or deleted."""
    known = canonical(model_id)
    row = known and await DeployedModel.get_or_none(id=known, deleted_at=None, using_db=tx.orm)
    if not row:
        raise model_missing(model_id)
    return row


def model_missing(model_id: str) -> Exception:
    return not_found(f"Model with ID {model_id} not found")


async def create_model(services: Services, actor: Actor, body: ModelCreate) -> str:
    """Create a model with its prices and groups; its id, once this node serves it. Raises GatewayError 400, 403, 404, 409."""
    policy.require(actor, "Models", "create_all")
    if body.type != "standard":
        raise bad_request("Only models of type 'standard' can be created", param="type")
    refuse_unsupported(body, _Unsupported)
    columns = check_columns(
        {
            "model_name": body.model_name,
            "alias": body.alias if body.alias is not None else body.model_name,
            "model_type": body.model_type or catalog.guess_model_type(body.model_name),
            "capabilities": body.capabilities or [],
            "metadata": body.metadata or {},
            **{name: getattr(body, name) for name in _PLAIN},
        }
    )
    wished = tariffs.read_terms(body.tariffs or [])

    async def write(tx: Tx) -> tuple[str, int]:
        endpoint_id = canonical(body.hosted_on)
        if endpoint_id is None or not await Endpoint.filter(id=endpoint_id, deleted_at=None).using_db(tx.orm).exists():
            raise bad_request(f"Endpoint with ID {body.hosted_on} not found", param="hosted_on")
        row = await insert_model(tx, actor, endpoint_id, columns)
        model_id = str(row.id)
        if wished:
            await tariffs.refuse_dates(tx, model_id, body.tariffs or [], wished)
            await update_prices(tx, actor, model_id, wished)
        if body.groups:
            await set_groups(tx, actor, model_id, await live_groups(tx, body.groups))
        return model_id, await Changes.note(tx, "catalog", model_id)

    model_id, seq = await services.store.write(write)
    await services.changes.applied(seq)
    return model_id


_PLAIN = (
    "display_name",
    "description",
    "requests_per_second",
    "burst_size",
    "capacity",
    "batch_capacity",
    "throughput",
    "max_output_tokens",
    "tokenizer",
    "bodies",
    "always_stream_usage",
)


async def change_model(services: Services, actor: Actor, model_id: str, body: ModelUpdate, *, revision: int | None = None) -> None:
    """Change a model and, when sent, its full set of prices. Raises GatewayError 400, 403, 404, 409, 412."""
    policy.require(actor, "Models", "update_all")
    columns = changes_of(body, null_keeps=NULL_KEEPS, unsupported=_Unsupported)
    definitions = columns.pop("tariffs", None)
    columns = check_columns(columns)
    wished = None if definitions is None else tariffs.read_terms(definitions)

    async def write(tx: Tx) -> int | None:
        row = await live_model(tx, model_id)
        changed = await update_model(tx, actor, row, columns, revision=revision)
        if wished is not None:
            await tariffs.refuse_dates(tx, str(row.id), definitions, wished)
            if await update_prices(tx, actor, str(row.id), wished):
                await count_up(tx, row)
                changed = True
        return await Changes.note(tx, "catalog", str(row.id)) if changed else None

    seq = await services.store.write(write)
    if seq is not None:
        await services.changes.applied(seq)


async def delete_model(services: Services, actor: Actor, model_id: str, *, revision: int | None = None) -> None:
    """Delete a model softly. Raises GatewayError 403, 404, 412."""
    policy.require(actor, "Models", "delete_all")

    async def write(tx: Tx) -> int:
        row = await live_model(tx, model_id)
        check_revision(row, revision)
        await delete_models(tx, actor, [row])
        return await Changes.note(tx, "catalog", str(row.id))

    await services.changes.applied(await services.store.write(write))


async def grant_model(services: Services, actor: Actor, group_id: str, model_id: str) -> None:
    """Let a group call a model; nothing happens when it may already. Raises GatewayError 403, 404."""
    await _change_grant(services, actor, group_id, model_id, add=True)


async def revoke_model(services: Services, actor: Actor, group_id: str, model_id: str) -> None:
    """Take a model from a group. Raises GatewayError 403, 404 (also when the group did not have it)."""
    await _change_grant(services, actor, group_id, model_id, add=False)


async def _change_grant(services: Services, actor: Actor, group_id: str, model_id: str, *, add: bool) -> None:
    policy.require(actor, "Groups", "update_all")

    async def write(tx: Tx) -> int:
        known_id = str((await live_model(tx, model_id)).id)
        group = next(iter(await live_groups(tx, [group_id])))
        held = await groups_of_model(tx, known_id)
        if not add and group not in held:
            raise not_found(f"Model with ID {model_id} not found in group {group_id}")
        await set_groups(tx, actor, known_id, held | {group} if add else held - {group})
        return await Changes.note(tx, "catalog", known_id)

    await services.changes.applied(await services.store.write(write))


async def live_groups(tx: Tx | None, group_ids: Iterable[str]) -> list[str]:
    """The groups' ids in canonical form, read outside a transaction unless one is given. Raises GatewayError 404 for one that is not
    there."""
    found: list[str] = []
    for group_id in group_ids:
        known = canonical(group_id)
        live = Group.filter(id=known, deleted_at=None).using_db(tx.orm if tx else None)
        if known is None or (known != NIL and not await live.exists()):
            raise not_found(f"Group with ID {group_id} not found")
        found.append(known)
    return found
