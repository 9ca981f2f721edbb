"""The request log: finding requests, and explaining one of them to the last nano-credit.

Lists read the hot rows by index, without bodies. A request's cost is explained from the price version that its charge names,
so that the explanation holds however prices change afterwards.
"""

import base64
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from dwctl import clock, ledger, money
from dwctl.accounts import Actor, policy
from dwctl.dialects.usage import Usage
from dwctl.errors import not_found
from dwctl.ledger.records import token_interval_us
from dwctl.operations import request_log
from dwctl.operations.account_views import in_chunks
from dwctl.operations.request_log import RequestFilter
from dwctl.operations.rows import canonical
from dwctl.operations.services import Services
from dwctl.store import Row

RESPONSE_TYPES = {
    ("chat", False): "chat_completion",
    ("chat", True): "chat_completion_stream",
    ("text_completion", False): "completion",
    ("text_completion", True): "completion_stream",
    ("embeddings", False): "embedding",
}
"""(operation, streamed) -> the response type in Doubleword's control layer; anything else is ``other``."""


Tags = Annotated[list[str], msgspec.Meta(description="Words that the caller gave the request in the header x-dwctl-tags.")]


class RequestEntry(msgspec.Struct, kw_only=True):
    """A request in the list. Durations are milliseconds, money is credits as text."""

    id: str
    timestamp: str
    method: str
    uri: str
    model: str | None
    status_code: int
    outcome: str
    error_code: str | None
    duration_ms: int
    duration_to_first_byte_ms: int | None
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    total_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    estimated: bool
    response_type: str
    stream: bool
    finish_reason: str | None
    user_id: str | None
    user_email: str | None
    api_key_id: str | None
    access_source: str
    request_origin: str
    service_tier: str
    served_by: str | None
    input_price_per_token: str | None
    output_price_per_token: str | None
    total_cost: str | None
    """None: not billed."""
    tags: Tags
    fusillade_batch_id: None = None
    custom_id: None = None


class Timings(msgspec.Struct, kw_only=True):
    """Milliseconds of each stage, in their order. ``streaming_ms``: from the first byte released to the end."""

    receive_ms: float
    admit_ms: float
    decide_ms: float
    dispatch_ms: float
    first_byte_ms: float | None
    """Since the request began: the time to the first token."""
    streaming_ms: float | None
    total_ms: float
    output_tokens_per_second: float | None
    """After the first token. None where no stream was long enough to tell, and for an answer that failed."""


class AttemptView(msgspec.Struct, kw_only=True):
    """One try at one provider; times in milliseconds, ``started_ms`` since the request began."""

    endpoint: str
    model: str
    started_ms: float
    duration_ms: float
    status: int | None
    error: str | None


class CostLine(msgspec.Struct, kw_only=True):
    """``quantity`` times ``unit_price`` is ``amount``: credits as text, exact to the pico-credit."""

    of: str
    quantity: int
    unit_price: str
    amount: str


class CostView(msgspec.Struct, kw_only=True):
    """How the charge came about: the lines add up to ``exact``, which is rounded half-even once to ``charged``."""

    tariff_id: str
    tariff_name: str | None
    lines: list[CostLine]
    exact: str
    charged: str
    held: str
    """What was set aside before the provider was asked."""


class BodiesView(msgspec.Struct, kw_only=True):
    """What is kept of the bodies: text, or ``base64:`` and the bytes where they are not UTF-8."""

    request: str | None
    response: str | None
    truncated: bool


class RequestDetail(RequestEntry, kw_only=True):
    """One request with its explanation."""

    node: str
    purpose: str | None
    operation: str
    error_message: str | None
    upstream_model: str | None
    response_model: str | None
    client_ip: str | None
    user_agent: str | None
    trace_id: str | None
    request_bytes: int
    response_bytes: int
    raw_usage: Any
    timings: Timings
    attempts: list[AttemptView]
    explanation: list[str]
    cost: CostView | None
    """None: nothing was charged."""
    bodies: BodiesView | UnsetType = UNSET
    """Left out where none are kept."""


async def list_requests(services: Services, actor: Actor, chosen: RequestFilter, *, skip: int, limit: int) -> list[RequestEntry]:
    """Requests in the order in which they were recorded. Raises GatewayError 403."""
    policy.require(actor, "Requests", "read_all")
    rows = await request_log.rows(services.store, chosen, limit=limit, skip=skip)
    emails = await emails_of(services, [str(row["account_id"]) for row in rows if row["account_id"] is not None])
    return [RequestEntry(**entry(row, emails)) for row in rows]


async def emails_of(services: Services, account_ids: list[str]) -> dict[str, str]:
    """E-mail addresses by account, those of deleted accounts included."""
    rows = await in_chunks(services.store, "SELECT id, email FROM users WHERE id IN ({places})", account_ids)
    return {str(row["id"]): row["email"] for row in rows}


async def account_named(services: Services, text: str) -> Row | None:
    """``id``, ``email`` and ``deleted_at`` of the account with an e-mail address, in whatever case, or an id; deleted ones included."""
    known = canonical(text)
    address = text.strip().lower()
    # A deleted account keeps no address but the one that it was given then.
    by_address = "(live_email = ? OR email = ?)", [address, address]
    where, values = ("id = ?", [known]) if known is not None else by_address
    # Of accounts with one address at most one is not deleted.
    rows = await services.store.fetch(
        f"SELECT id, email, deleted_at FROM users WHERE {where} ORDER BY deleted_at IS NOT NULL LIMIT 1", values
    )
    return rows[0] if rows else None


def entry(row: Row, emails: dict[str, str]) -> dict[str, Any]:
    """The fields of a ``RequestEntry``."""
    usage = _usage(row)
    account = _text(row["account_id"])
    return {
        "id": str(row["id"]),
        "timestamp": clock.to_rfc3339(row["started_us"]),
        "method": row["method"],
        "uri": row["path"],
        "model": row["alias"],
        "status_code": row["status"],
        "outcome": row["outcome"],
        "error_code": row["error_code"],
        "duration_ms": row["duration_us"] // 1000,
        "duration_to_first_byte_ms": None if row["first_byte_us"] is None else row["first_byte_us"] // 1000,
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "reasoning_tokens": usage.reasoning,
        "total_tokens": usage.total,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "estimated": usage.estimated,
        "response_type": RESPONSE_TYPES.get((row["operation"], bool(row["stream"])), "other"),
        "stream": bool(row["stream"]),
        "finish_reason": row["finish_reason"],
        "user_id": account,
        "user_email": emails.get(account) if account else None,
        "api_key_id": _text(row["key_id"]),
        "access_source": row["access_source"],
        "request_origin": row["origin"],
        "service_tier": row["service_tier"],
        "served_by": row["endpoint_name"],
        "input_price_per_token": None if row["input_pico"] is None else money.format_price(row["input_pico"]),
        "output_price_per_token": None if row["output_pico"] is None else money.format_price(row["output_pico"]),
        "total_cost": None if row["charge_nano"] is None else money.format_amount(row["charge_nano"]),
        "tags": _json(row["tags"]) or [],
    }


def _usage(row: Row) -> Usage:
    return Usage(
        uncached_input=row["uncached_input"],
        cache_read=row["cache_read"],
        cache_write_5m=row["cache_write_5m"],
        cache_write_1h=row["cache_write_1h"],
        output=row["output"],
        reasoning=row["reasoning"],
        estimated=bool(row["estimated"]),
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


async def get_request(services: Services, actor: Actor, request_id: str) -> RequestDetail:
    """One request, explained. Raises GatewayError 403, 404 (also for somebody else's, without the right to read everybody's)."""
    return await explain(services, await request_row(services, actor, request_id))


async def request_row(services: Services, actor: Actor, request_id: str) -> Row:
    """The row of a request that the actor may read. Raises GatewayError 403, 404."""
    everybody = policy.allows(actor, "Requests", "read_all")
    if not everybody:
        policy.require(actor, "Requests", "read_own")
    known = canonical(request_id)
    rows = [] if known is None else await services.store.fetch("SELECT * FROM requests WHERE id = ?", (known,))
    if not rows or not (everybody or str(rows[0]["account_id"]) == actor.user_id):
        raise not_found(f"Request with ID {request_id} not found")
    return rows[0]


async def explain(services: Services, row: Row) -> RequestDetail:
    """A whole row as REST shows it."""
    emails = await emails_of(services, [str(row["account_id"])] if row["account_id"] is not None else [])
    kept = await services.bodies.get(str(row["id"]), row["started_us"])
    bodies = UNSET if kept is None else BodiesView(request=_shown(kept.request), response=_shown(kept.response), truncated=kept.truncated)
    return RequestDetail(
        **entry(row, emails),
        node=row["node"],
        purpose=row["purpose"],
        operation=row["operation"],
        error_message=row["error_message"],
        upstream_model=row["upstream_model"],
        response_model=row["response_model"],
        client_ip=row["client_ip"],
        user_agent=row["user_agent"],
        trace_id=row["trace_id"],
        request_bytes=row["request_bytes"],
        response_bytes=row["response_bytes"],
        raw_usage=_json(row["raw_usage"]),
        timings=_timings(row),
        attempts=[_attempt(attempt) for attempt in _json(row["attempts"]) or ()],
        explanation=_json(row["explanation"]) or [],
        cost=await _cost(services, row),
        bodies=bodies,
    )


def _json(text: str | None) -> Any:
    """What JSON text of our own says; text that is not JSON is shown as it is."""
    if not text:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _shown(body: bytes | None) -> str | None:
    if body is None:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(body).decode()


def _timings(row: Row) -> Timings:
    first, total = row["first_byte_us"], row["duration_us"]
    streaming = None if first is None else total - first
    interval = token_interval_us(row["output"], first, total) if row["stream"] and row["outcome"] != "failed" else None
    return Timings(
        receive_ms=row["receive_us"] / 1000,
        admit_ms=row["admit_us"] / 1000,
        decide_ms=row["decide_us"] / 1000,
        dispatch_ms=row["dispatch_us"] / 1000,
        first_byte_ms=None if first is None else first / 1000,
        streaming_ms=None if streaming is None else streaming / 1000,
        total_ms=total / 1000,
        output_tokens_per_second=None if interval is None else round(clock.MICROSECONDS / interval, 2),
    )


def _attempt(attempt: Any) -> AttemptView:
    tried = msgspec.convert(attempt, ledger.Attempt)
    return AttemptView(
        endpoint=tried.endpoint,
        model=tried.model,
        started_ms=tried.started_us / 1000,
        duration_ms=tried.duration_us / 1000,
        status=tried.status,
        error=tried.error,
    )


class Quantity(msgspec.Struct, frozen=True):
    """One term of a charge: how many of what, at which price (pico-credits)."""

    of: str
    quantity: int
    price_pico: int

    @property
    def amount_pico(self) -> int:
        return self.quantity * self.price_pico


def quantities(row: Row, tariff: Row) -> list[Quantity]:
    """The terms that make up a request's charge by a tariff; what is zero is left out."""
    usage = _usage(row)
    plain = tariff["input_pico"]

    def cached(price: int | None) -> int:
        return plain if price is None else price

    terms = (
        Quantity("input tokens", usage.uncached_input, plain),
        Quantity("input tokens read from the cache", usage.cache_read, cached(tariff["cache_read_pico"])),
        Quantity("input tokens written to the cache for 5 minutes", usage.cache_write_5m, cached(tariff["cache_write_5m_pico"])),
        Quantity("input tokens written to the cache for 1 hour", usage.cache_write_1h, cached(tariff["cache_write_1h_pico"])),
        Quantity("output tokens", usage.output, tariff["output_pico"]),
        Quantity("request", 1, tariff["per_request_pico"]),
    )
    return [term for term in terms if term.quantity and (term.of != "request" or term.price_pico)]


async def tariff_of(services: Services, row: Row) -> Row | None:
    """The price version that a request was charged by; None if it was not."""
    if row["charge_nano"] is None or row["tariff_id"] is None:
        return None
    found = await services.store.fetch("SELECT * FROM model_tariffs WHERE id = ?", (str(row["tariff_id"]),))
    return found[0] if found else None


async def _cost(services: Services, row: Row) -> CostView | None:
    """The arithmetic of a charge, by the price version that it names."""
    tariff = await tariff_of(services, row)
    if tariff is None:
        return None
    used = quantities(row, tariff)
    return CostView(
        tariff_id=str(row["tariff_id"]),
        tariff_name=tariff["name"],
        lines=[
            CostLine(
                of=term.of,
                quantity=term.quantity,
                unit_price=money.format_price(term.price_pico),
                amount=money.format_price(term.amount_pico),
            )
            for term in used
        ],
        exact=money.format_price(sum(term.amount_pico for term in used)),
        charged=money.format_amount(row["charge_nano"]),
        held=money.format_amount(row["hold_nano"]),
    )
