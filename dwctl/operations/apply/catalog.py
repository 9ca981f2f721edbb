"""Endpoints and models of an apply file."""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from dwctl import catalog
from dwctl.errors import GatewayError
from dwctl.operations import endpoints, models
from dwctl.operations.apply.document import EndpointEntry, ModelEntry, PriceEntry
from dwctl.operations.apply.work import Outcome, Work, sent
from dwctl.operations.bounds import check_text
from dwctl.operations.endpoint_rows import credentials_of
from dwctl.operations.rows import count_up
from dwctl.sealing import Secret
from dwctl.store import Changes, Tx
from dwctl.store.tables import DeployedModel, Endpoint


def check_endpoint(work: Work, entry: EndpointEntry) -> None:
    """Raises GatewayError, ConfigurationError."""
    _endpoint_columns(work, entry)
    _credential(work, entry)


def _endpoint_columns(work: Work, entry: EndpointEntry) -> dict[str, Any]:
    names = (name for name in EndpointEntry.__struct_fields__ if name not in ("api_key", "api_key_env"))
    return endpoints.check_columns(sent(entry, *names), work.config)


def _credential(work: Work, entry: EndpointEntry) -> Secret | UnsetType | None:
    given = work.given(entry, "api_key")
    return UNSET if given is UNSET else endpoints.check_credential(given)


async def endpoint(work: Work, tx: Tx, entry: EndpointEntry) -> Outcome:
    """Bring one endpoint to what the file says. Raises GatewayError."""
    columns = _endpoint_columns(work, entry)
    secret = _credential(work, entry)
    row = await Endpoint.get_or_none(live_name=columns["name"], using_db=tx.orm)
    if row is None:
        sealed = work.sealer.seal(secret) if isinstance(secret, Secret) else None
        row = await endpoints.insert_endpoint(tx, work.actor, columns, sealed)
        await Changes.note(tx, "catalog", str(row.id))
        return "created"
    if secret is not UNSET and not _holds(work, row, secret):
        columns["sealed_credential"] = work.sealer.seal(secret) if isinstance(secret, Secret) else None
    if not await endpoints.update_endpoint(tx, work.actor, row, columns):
        return "unchanged"
    await Changes.note(tx, "catalog", str(row.id))
    return "updated"


def _holds(work: Work, row: Endpoint, secret: Secret | UnsetType | None) -> bool:
    """Whether the row's credential is ``secret``."""
    held = credentials_of(row, work.sealer).secret
    if held is None or not isinstance(secret, Secret):
        return held is None and secret is None
    return held.reveal() == secret.reveal()


def check_model(work: Work, entry: ModelEntry) -> None:
    """Raises GatewayError, ConfigurationError."""
    _model_columns(entry)
    _prices(work, entry)


def _model_columns(entry: ModelEntry) -> dict[str, Any]:
    names = (name for name in ModelEntry.__struct_fields__ if name not in ("endpoint", "groups", "prices"))
    return models.check_columns(sent(entry, *names))


def _prices(work: Work, entry: ModelEntry) -> list[catalog.TariffTerms] | None:
    if isinstance(entry.prices, UnsetType):
        return None
    terms = []
    for index, price in enumerate(entry.prices):
        try:
            terms.append(_terms(price))
        except GatewayError as error:
            place = (*work.place, "prices", index)
            raise work.source.error((*place, error.param) if error.param else place, error.message) from error
    catalog.plan_tariffs((), terms, field="prices")
    return terms


def _terms(price: PriceEntry) -> catalog.TariffTerms:
    def per_million(field: str) -> int:
        return catalog.price_per_million(str(getattr(price, field)), field)

    def optional(field: str) -> int | None:
        return None if getattr(price, field) is None else per_million(field)

    return catalog.TariffTerms(
        name=price.purpose if isinstance(price.name, msgspec.UnsetType) else check_text(price.name, "name"),
        input_pico=per_million("input_per_million"),
        output_pico=per_million("output_per_million"),
        cache_read_pico=optional("cache_read_per_million"),
        cache_write_5m_pico=optional("cache_write_5m_per_million"),
        cache_write_1h_pico=optional("cache_write_1h_per_million"),
        per_request_pico=catalog.price_per_unit(str(price.per_request), "per_request"),
        api_key_purpose=price.purpose,
    )


async def model(work: Work, tx: Tx, entry: ModelEntry) -> Outcome:
    """Bring one model, its prices and its groups to what the file says. Raises GatewayError, ConfigurationError."""
    columns = _model_columns(entry)
    prices = _prices(work, entry)
    host = await Endpoint.get_or_none(live_name=entry.endpoint.strip(), using_db=tx.orm)
    if host is None:
        raise work.error("endpoint", f"there is no endpoint {entry.endpoint!r}")
    row = await DeployedModel.get_or_none(live_alias=columns["alias"], using_db=tx.orm)
    created = row is None
    if row is None:
        name = columns.get("model_name", columns["alias"])
        fresh = {"model_name": name, "model_type": catalog.guess_model_type(name), **columns}
        row = await models.insert_model(tx, work.actor, str(host.id), fresh)
        changed = True
    else:
        changed = await models.update_model(tx, work.actor, row, {**columns, "endpoint_id": host.id})
    model_id = str(row.id)
    if prices is not None and await models.update_prices(tx, work.actor, model_id, prices, field="prices"):
        await count_up(tx, row)
        changed = True
    if not isinstance(entry.groups, UnsetType):
        changed |= await models.set_groups(tx, work.actor, model_id, await work.groups(tx, entry.groups))
    if changed:
        await Changes.note(tx, "catalog", model_id)
    return "created" if created else "updated" if changed else "unchanged"
