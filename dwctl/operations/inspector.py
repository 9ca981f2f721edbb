"""One request in full: what its stages took, what each attempt met, how its charge came about, and why a body is not there."""

from typing import Literal

import msgspec
from msgspec import UNSET

from dwctl import clock
from dwctl.accounts import Actor
from dwctl.dialects.answers import LOADS
from dwctl.errors import GatewayError, not_found
from dwctl.ledger import Attempt
from dwctl.money import PICO_PER_NANO
from dwctl.operations.requests import Quantity, RequestDetail, explain, quantities, request_row, tariff_of
from dwctl.operations.rows import canonical
from dwctl.operations.services import Services
from dwctl.store import Row

_UNPRICED = "no price above zero was in force for this model and the key's purpose"
PATIENCE_SECONDS = 2.0
"""For the recorder, before a request is said not to be there."""


class Stage(msgspec.Struct, frozen=True):
    """A stretch of the request's time, in microseconds since it began. ``name``: receive, admit, decide, dispatch, first_byte, relay."""

    name: str
    start_us: int
    duration_us: int


class Arithmetic(msgspec.Struct, kw_only=True):
    """A charge as a sum: ``terms`` plus ``rounding_pico`` (half-even, once) are ``charged_nano``, to the last digit."""

    tariff_id: str
    tariff_name: str
    valid_from_us: int
    valid_until_us: int | None
    terms: list[Quantity]
    exact_pico: int
    rounding_pico: int
    charged_nano: int
    held_nano: int


class Inspection(msgspec.Struct, kw_only=True):
    """``stages`` follow each other and add up to the request's duration; ``attempts`` lie within dispatch."""

    seq: int
    started_us: int
    duration_us: int
    detail: RequestDetail
    stages: list[Stage]
    attempts: list[Attempt]
    api_key_name: str | None
    arithmetic: Arithmetic | None
    not_charged: str | None
    """Why there is no arithmetic."""
    bodies_missing: str | None
    """Why there are no bodies; None if there are."""


async def inspect(services: Services, actor: Actor, request_id: str) -> Inspection:
    """A request that the actor may read, explained. Raises GatewayError 403, 404."""
    row = await _row(services, actor, request_id)
    detail = await explain(services, row)
    tariff = await tariff_of(services, row)
    return Inspection(
        seq=row["seq"],
        started_us=row["started_us"],
        duration_us=row["duration_us"],
        detail=detail,
        stages=_stages(row),
        attempts=msgspec.json.decode(row["attempts"], type=list[Attempt]) if row["attempts"] else [],
        api_key_name=await _key_name(services, row),
        arithmetic=None if tariff is None else _arithmetic(row, tariff),
        not_charged=None if tariff is not None else _not_charged(detail),
        bodies_missing=await _bodies_missing(services, row) if detail.bodies is UNSET else None,
    )


async def _row(services: Services, actor: Actor, request_id: str) -> Row:
    """The row, also of a request that has just ended and is on its way into the log."""
    try:
        return await request_row(services, actor, request_id)
    except GatewayError as error:
        if error.status != 404 or canonical(request_id) is None:
            raise
    await services.ledger.recorded(PATIENCE_SECONDS)
    return await request_row(services, actor, request_id)


async def body(services: Services, actor: Actor, request_id: str, part: Literal["request", "response"]) -> bytes:
    """A body as it was kept, of a request that the actor may read. Raises GatewayError 403, 404."""
    row = await request_row(services, actor, request_id)
    kept = await services.bodies.get(str(row["id"]), row["started_us"])
    found = None if kept is None else kept.request if part == "request" else kept.response
    if found is None:
        raise not_found(f"The {part}'s body is not kept")
    return found


def _stages(row: Row) -> list[Stage]:
    total, first = row["duration_us"], row["first_byte_us"]
    ends = [("receive", row["receive_us"]), ("admit", row["admit_us"]), ("decide", row["decide_us"]), ("dispatch", row["dispatch_us"])]
    stages = []
    at = 0
    for name, duration in ends:
        duration = min(duration, total - at)
        if duration:
            stages.append(Stage(name, at, duration))
        at += duration
    if first is not None and at < first <= total:
        stages.append(Stage("first_byte", at, first - at))
        at = first
    if at < total:
        stages.append(Stage("relay" if first is not None else "end", at, total - at))
    return stages


async def _key_name(services: Services, row: Row) -> str | None:
    if row["key_id"] is None:
        return None
    rows = await services.store.fetch("SELECT name FROM api_keys WHERE id = ?", (str(row["key_id"]),))
    return rows[0]["name"] if rows else None


def _arithmetic(row: Row, tariff: Row) -> Arithmetic:
    terms = quantities(row, tariff)
    exact = sum(term.amount_pico for term in terms)
    return Arithmetic(
        tariff_id=str(tariff["id"]),
        tariff_name=tariff["name"],
        valid_from_us=tariff["valid_from"],
        valid_until_us=tariff["valid_until"],
        terms=terms,
        exact_pico=exact,
        rounding_pico=row["charge_nano"] * PICO_PER_NANO - exact,
        charged_nano=row["charge_nano"],
        held_nano=row["hold_nano"],
    )


def _not_charged(detail: RequestDetail) -> str:
    """Why there is no charge (docs/billing.md). Whether there was a price is not recorded, and said only where it follows."""
    outcome = detail.outcome
    if outcome == "refused":
        return "dwctl refused it before a provider was asked."
    if detail.error_code in ("server_shutting_down", "gateway_crash"):
        return "dwctl was stopped meanwhile, and charges nothing for what it broke off itself."
    if outcome == "complete" and not detail.attempts:
        return "dwctl answered it without a provider."
    if outcome == "complete" and detail.finish_reason in LOADS:
        return "The provider loaded or unloaded the model, and was asked nothing."
    if detail.operation == "count_tokens":
        return "Counting tokens costs nothing."
    if outcome == "complete" or detail.total_tokens:
        return f"{_UNPRICED.capitalize()}."
    if outcome == "failed":
        return "It failed without usage that a provider reported."
    if detail.duration_to_first_byte_ms is None:
        return "It ended before the provider had sent output."
    return f"It ended before the provider had sent output, or {_UNPRICED}."


async def _bodies_missing(services: Services, row: Row) -> str:
    if not row["attempts"]:
        return "No provider was asked, and what is refused is not kept."
    retention = services.config.bodies.retention
    if row["started_us"] < clock.now_us() - int(retention * clock.MICROSECONDS):
        return f"Bodies are kept for {retention / 86_400:g} days (bodies.retention)."
    for sql, value, said in (
        ("SELECT zero_data_retention AS kept FROM users WHERE id = ?", row["account_id"], "The account keeps no data."),
        ("SELECT bodies AS kept FROM api_keys WHERE id = ?", row["key_id"], "The API key keeps no bodies."),
        ("SELECT bodies AS kept FROM deployed_models WHERE id = ?", row["model_id"], "The model keeps no bodies."),
    ):
        found = await services.store.fetch(sql, (str(value),)) if value is not None else []
        if found and found[0]["kept"] in (True, "none"):
            return said
        if found and found[0]["kept"] in ("full", "preview"):
            break
    else:
        if services.config.bodies.mode == "none":
            return "Bodies are not kept here (bodies.mode is none)."
    return "It was not kept: the setting was another at the time, the account's data was not to be kept, or the queue for bodies was full."
