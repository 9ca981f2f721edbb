"""Fourth stage: ask the candidates, in order, until one answers."""

import hashlib
import re
from typing import TYPE_CHECKING

from dwctl.clock import MICROSECONDS, monotonic
from dwctl.dialects import fields, foreign_thoughts, raw_request, surfaces
from dwctl.dialects.reading import refused
from dwctl.errors import GatewayError
from dwctl.gateway.admit import check_rates, enter, take_rates
from dwctl.gateway.aside import aside
from dwctl.gateway.deadlines import overstayed
from dwctl.gateway.translate import translated
from dwctl.ledger.records import Attempt, Begin
from dwctl.outbound import OutboundError

if TYPE_CHECKING:
    from dwctl.gateway.exchange import Exchange
    from dwctl.routing import Candidate

_FORWARDED = ("user-agent", "traceparent", "tracestate")
"""Request headers that any provider may see; an endpoint can add names of its own."""
_IDEMPOTENCY = "idempotency-key"
_OF_DIALECT = ("accept", "openai-beta", "anthropic-beta", _IDEMPOTENCY, *_FORWARDED)
"""And those that mean something only to a provider that speaks as the client does; of Anthropic's there is one more."""
_OF_ANTHROPIC = (*_OF_DIALECT, "anthropic-version")

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def provider_fault(error: OutboundError) -> GatewayError:
    """What a client is told of a provider that could not answer."""
    match error.kind:
        case "connect":
            return _fault(502, "upstream_unreachable", "The model's provider cannot be reached. Please try again later.")
        case "connect_timeout":
            return overstayed("connect_timeout")
        case "reset":
            return _fault(502, "upstream_reset", "The model's provider closed the connection. Please try again.")
        case "truncated":
            return _fault(502, "upstream_truncated", "The model's provider ended its answer early. Please try again.")
        case "protocol":
            return _fault(502, "upstream_protocol_error", "The model's provider did not answer in valid HTTP.")
        case "denied":
            return _fault(502, "upstream_denied", "The model's provider has an address that must not be called.")
        case "too_large":
            return _fault(502, "upstream_too_large", "The model's provider sent an answer that is too large to pass on.")


def _fault(status: int, code: str, message: str) -> GatewayError:
    return GatewayError(status, "internal_error", code, message)


async def dispatch(exchange: "Exchange") -> None:
    """Send the request; on return the provider's status and headers are there. Raises GatewayError."""
    for candidate in exchange.candidates:
        exchange.candidate = candidate
        exchange.translation = None
        enter(exchange, f"endpoint:{candidate.endpoint.id}", candidate.endpoint.max_concurrency)
        await _attempt(exchange, candidate)
        return


def _outgoing(exchange: "Exchange", candidate: "Candidate") -> tuple[str, str, bytes, tuple[str, ...]]:
    """Path, query and body for a provider, and the names of the client's headers that mean something to it. Raises GatewayError 400."""
    dialect, request, body = candidate.endpoint.dialect, exchange.request, exchange.body
    if not surfaces.native(exchange.surface, dialect):
        path, body = translated(exchange, candidate)
        return path, "", body, _FORWARDED
    if request is not None:
        if request.dialect == fields.RESPONSES and raw_request.flag(request.fields, "background"):
            # The answer would be that there is none yet, and nobody here could be asked for it later.
            raise refused("background", fields.OTHERS[fields.RESPONSES]["background"][1])
        if request.dialect == "anthropic" and "fallbacks" in request.fields:
            exchange.explanation.append("'fallbacks' left out: the one model that was asked for answers")
        request, left_out = foreign_thoughts.without(request)
        if left_out:
            exchange.explanation.append(
                f"{left_out} thoughts of earlier turns left out: the model's provider takes only what it has signed"
            )
        asks_usage = request.stream and request.dialect == "openai-chat" and exchange.operation in ("chat", "text_completion")
        body = raw_request.outgoing(request, candidate.model_json, ask_usage=asks_usage, max_tokens=exchange.strict_max_tokens)
    elif exchange.form is not None:
        body = exchange.form.with_text("model", candidate.model_name)
    return exchange.path, exchange.query, body, _OF_ANTHROPIC if dialect == "anthropic" else _OF_DIALECT


async def _attempt(exchange: "Exchange", candidate: "Candidate") -> None:
    gateway, endpoint = exchange.gateway, candidate.endpoint
    path, query, body, forwarded = await aside(exchange, _outgoing, exchange, candidate)
    headers = endpoint.auth()
    for name in (*forwarded, *endpoint.forward_headers):
        if (value := exchange.headers.get(name)) is not None and ((value.isascii() and value.isprintable()) or _can_be_sent(value)):
            headers.setdefault(name, value)
    for name, value in endpoint.headers.items():
        headers.setdefault(name, value)
    # Not the client's own for JSON: a server that decodes by its charset would read something else than was decided by.
    headers["content-type"] = "application/json" if exchange.request is not None else exchange.headers["content-type"]
    if (key := headers.get(_IDEMPOTENCY)) is not None:
        headers[_IDEMPOTENCY] = _of_account(exchange, key)
    headers["x-request-id"] = exchange.id
    headers["accept-encoding"] = "identity"
    if not exchange.begun:
        _begin(exchange)
    started = monotonic()
    exchange.dispatched_at = started
    exchange.phase, exchange.phase_since, exchange.phase_limit = "connect_timeout", started, endpoint.connect_seconds
    exchange.total_limit = endpoint.total_timeout
    status: int | None = None
    fault: str | None = "cancelled"
    try:
        exchange.upstream = await gateway.outbound.send(
            pool=endpoint.id,
            method="POST",
            url=endpoint.url(path, query),
            headers=headers,
            body=body,
            connect_timeout=endpoint.connect_timeout,
            connected=exchange.connected,
        )
        status, fault = exchange.upstream.status, None
    except OutboundError as error:
        fault = error.kind
        raise provider_fault(error) from None
    finally:
        exchange.answered_at = monotonic()
        exchange.attempts.append(
            Attempt(
                endpoint=endpoint.name,
                model=candidate.model_name,
                started_us=int((started - exchange.started_at) * MICROSECONDS),
                duration_us=int((exchange.answered_at - started) * MICROSECONDS),
                status=status,
                error=exchange.expired if fault == "cancelled" and exchange.expired else fault,
            )
        )
    exchange.phase, exchange.phase_since = "idle", exchange.answered_at
    exchange.phase_limit = endpoint.idle_timeout


def _of_account(exchange: "Exchange", key: str) -> str:
    """An account's own form of a key: to a provider all accounts are one, and would be given each other's answers."""
    assert exchange.principal is not None
    return hashlib.sha256(f"{exchange.principal.account_id}:{key}".encode()).hexdigest()


def _can_be_sent(value: str) -> bool:
    """Whether a header's value is text without control characters; one that is not is left out."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return not _CONTROL.search(value)


def _begin(exchange: "Exchange") -> None:
    gateway, begin = exchange.gateway, beginning(exchange)
    check_rates(exchange)  # others may have passed since it was admitted
    gateway.ledger.begin(begin, exchange.price is not None)
    take_rates(exchange)
    exchange.begun = True
    if gateway.events.listening:
        gateway.events.publish(begin)


def beginning(exchange: "Exchange") -> Begin:
    """What is known of an exchange when its provider is asked."""
    principal, model, candidate = exchange.principal, exchange.model, exchange.candidate
    assert principal is not None
    assert model is not None
    assert candidate is not None
    return Begin(
        id=exchange.id,
        started_us=exchange.started_us,
        account_id=principal.account_id,
        key_id=principal.key_id,
        holder_id=principal.holder_id,
        purpose=principal.purpose,
        model_id=model.id,
        alias=model.alias,
        endpoint_id=candidate.endpoint.id,
        endpoint_name=candidate.endpoint.name,
        path=exchange.path,
        operation=exchange.operation,
        hold_nano=exchange.hold.amount if exchange.hold is not None else 0,
        tags=exchange.tags,
    )
