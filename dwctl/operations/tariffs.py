"""Prices of models: reading what a caller wishes for, and writing the difference to what is in force."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from dwctl import catalog, clock, ids, money
from dwctl.errors import bad_request
from dwctl.operations.bounds import optional_text
from dwctl.store import Tx
from dwctl.store.tables import Tariff


class TariffDefinition(msgspec.Struct, kw_only=True):
    """One price as REST takes it: credits per token in plain decimal notation, as text or number. It begins when it is set: the times are
    taken only as they are shown of the same price in force."""

    name: str | None = None
    input_price_per_token: Decimal = Decimal(0)
    output_price_per_token: Decimal = Decimal(0)
    cache_read_price_per_token: Decimal | None = None
    cache_write_5m_price_per_token: Decimal | None = None
    cache_write_1h_price_per_token: Decimal | None = None
    per_request_price: Decimal = Decimal(0)
    api_key_purpose: catalog.Purpose | None = None
    completion_window: str | None = None
    valid_from: str | None = None
    valid_until: str | None = None


class TariffView(msgspec.Struct, kw_only=True):
    """A tariff as REST shows it. Prices are text, so that no client reads them as floats."""

    id: str
    deployed_model_id: str
    name: str
    input_price_per_token: str
    output_price_per_token: str
    cache_read_price_per_token: str | None
    cache_write_5m_price_per_token: str | None
    cache_write_1h_price_per_token: str | None
    per_request_price: str
    api_key_purpose: str | None
    completion_window: str | None
    valid_from: str
    valid_until: str | None
    is_active: bool


def read_terms(definitions: Sequence[TariffDefinition]) -> list[catalog.TariffTerms]:
    """Exact terms of the definitions. Raises GatewayError 400 naming the field of a price that is not whole in pico-credits."""
    return [_terms(definition, f"tariffs[{index}]") for index, definition in enumerate(definitions)]


def _terms(definition: TariffDefinition, field: str) -> catalog.TariffTerms:
    window = definition.completion_window
    if window is not None and not 1 <= len(window) <= 16:
        raise bad_request(f"{field}.completion_window must have 1 to 16 characters, such as 24h", param=f"{field}.completion_window")

    def price(name: str) -> int:
        return catalog.price_per_unit(str(getattr(definition, name)), f"{field}.{name}")

    def optional(name: str) -> int | None:
        return None if getattr(definition, name) is None else price(name)

    return catalog.TariffTerms(
        name=optional_text(definition.name, f"{field}.name") or definition.api_key_purpose or "default",
        input_pico=price("input_price_per_token"),
        output_pico=price("output_price_per_token"),
        cache_read_pico=optional("cache_read_price_per_token"),
        cache_write_5m_pico=optional("cache_write_5m_price_per_token"),
        cache_write_1h_pico=optional("cache_write_1h_price_per_token"),
        per_request_pico=price("per_request_price"),
        api_key_purpose=definition.api_key_purpose,
        completion_window=window,
    )


def terms_of(row: Tariff) -> catalog.TariffTerms:
    """What a stored tariff says."""
    return catalog.TariffTerms(**{name: getattr(row, name) for name in catalog.TariffTerms.__struct_fields__})


async def refuse_dates(tx: Tx, model_id: str, definitions: Sequence[TariffDefinition], wished: Sequence[catalog.TariffTerms]) -> None:
    """Raise GatewayError 400 for the first time in ``definitions``, whose terms are ``wished``, that is not the one of such a price in
    force: then the caller sends what it was shown; all others would be for a price that begins or ends at another time than now."""
    if all(definition.valid_from is None and definition.valid_until is None for definition in definitions):
        return
    rows = await Tariff.filter(model_id=model_id, valid_until=None).using_db(tx.orm)
    begun = {terms_of(row): row.valid_from for row in rows}
    for index, (definition, terms) in enumerate(zip(definitions, wished, strict=True)):
        for name, shown in (("valid_from", begun.get(terms)), ("valid_until", None)):
            given = getattr(definition, name)
            if given is not None and not _is(given, shown):
                raise bad_request(
                    f"tariffs[{index}].{name} is not supported by this server: a price begins when it is set, and ends when another takes"
                    " its place. Leave it out",
                    code="not_supported",
                    param=f"tariffs[{index}].{name}",
                )


def _is(text: str, at_us: int | None) -> bool:
    try:
        return clock.from_rfc3339(text) == at_us
    except ValueError:
        return False


async def set_tariffs(
    tx: Tx, model_id: str, wished: Sequence[catalog.TariffTerms], *, field: str = "tariffs"
) -> dict[str, list[dict[str, Any]]] | None:
    """Make ``wished`` the full set in force from now on; None when it already was, else what was closed and inserted.

    Raises GatewayError 400 for two tariffs with one purpose and window.
    """
    rows = await Tariff.filter(model_id=model_id, valid_until=None).using_db(tx.orm).order_by("valid_from", "id")
    change = catalog.plan_tariffs([catalog.InForce(str(row.id), terms_of(row)) for row in rows], wished, field=field)
    if change.empty:
        return None
    now = clock.now_us()
    if change.close:
        await Tariff.filter(id__in=change.close).using_db(tx.orm).update(valid_until=now)
    for terms in change.insert:
        await Tariff.create(
            id=ids.new(), model_id=model_id, valid_from=now, valid_until=None, using_db=tx.orm, **msgspec.structs.asdict(terms)
        )
    closed = set(change.close)
    return {
        "closed": [_told(terms_of(row)) for row in rows if str(row.id) in closed],
        "inserted": [_told(terms) for terms in change.insert],
    }


async def close_tariffs(tx: Tx, model_ids: Sequence[str]) -> None:
    """End every tariff of models that are gone."""
    if model_ids:
        await Tariff.filter(model_id__in=list(model_ids), valid_until=None).using_db(tx.orm).update(valid_until=clock.now_us())


def view(row: Tariff) -> TariffView:
    """The tariff as REST shows it."""

    def optional(pico: int | None) -> str | None:
        return None if pico is None else money.format_price(pico)

    return TariffView(
        id=str(row.id),
        deployed_model_id=str(row.model_id),
        name=row.name,
        input_price_per_token=money.format_price(row.input_pico),
        output_price_per_token=money.format_price(row.output_pico),
        cache_read_price_per_token=optional(row.cache_read_pico),
        cache_write_5m_price_per_token=optional(row.cache_write_5m_pico),
        cache_write_1h_price_per_token=optional(row.cache_write_1h_pico),
        per_request_price=money.format_price(row.per_request_pico),
        api_key_purpose=row.api_key_purpose,
        completion_window=row.completion_window,
        valid_from=clock.to_rfc3339(row.valid_from),
        valid_until=None if row.valid_until is None else clock.to_rfc3339(row.valid_until),
        is_active=row.valid_until is None,
    )


def _told(terms: catalog.TariffTerms) -> dict[str, Any]:
    """Terms for the audit row: prices as text, what is not set left out."""
    told: dict[str, Any] = {"name": terms.name}
    for name, value in msgspec.structs.asdict(terms).items():
        if value is None or name == "name":
            continue
        told[name.removesuffix("_pico")] = money.format_price(value) if name.endswith("_pico") else value
    return told
