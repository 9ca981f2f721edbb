"""Last stage: what it was, what it cost, and the one record of it.

A plain function that never waits, called exactly once for each exchange, before the bytes that complete the answer are released.
"""

from typing import TYPE_CHECKING

import msgspec
import structlog

from dwctl import tokens
from dwctl.clock import MICROSECONDS, monotonic
from dwctl.dialects import openai_stream
from dwctl.dialects.answers import LOADS, text_of
from dwctl.dialects.streams import decode_object
from dwctl.dialects.usage import Usage
from dwctl.gateway import measure
from dwctl.gateway.admit import estimate_input
from dwctl.gateway.provider_answer import concealed
from dwctl.ledger import prices
from dwctl.ledger.records import Record
from dwctl.telemetry.alarms import alarm

if TYPE_CHECKING:
    from dwctl.gateway.exchange import Exchange
    from dwctl.gateway.gateway import Gateway
    from dwctl.ledger import Hold

log = structlog.get_logger(__name__)

_KEPT_MESSAGE = 512


def settle(exchange: "Exchange") -> None:
    """Price the usage, write the end, release hold and slots. The first call counts; there is no second."""
    exchange.settled = True
    try:
        _record(exchange)
    finally:
        if exchange.hold is not None:
            exchange.hold.release()
        for slot in exchange.slots:
            slot.release()


async def prepare(exchange: "Exchange") -> None:
    """Load the tokenizer in a thread, if settling will have to count what the provider did not. Without it, size will do."""
    stream, model = exchange.stream, exchange.model
    if exchange.price is not None and exchange.operation != "other" and model is not None:
        usage = stream.usage if stream is not None else exchange.usage
        if (usage is None or _went_on(exchange)) and (stream is not None or exchange.answer is not None):
            try:
                await tokens.prepare(model.tokenizer)
            except Exception as error:
                alarm("gateway", "tokenizer_unavailable", request_id=exchange.id, exc_info=error)


def _record(exchange: "Exchange") -> None:
    ended_at = monotonic()
    stream = exchange.stream
    if stream is not None:
        exchange.response_model = stream.model
        exchange.finish_reason = stream.finish_reason
        exchange.raw_usage, exchange.usage, exchange.beforehand = stream.raw_usage, stream.usage, stream.beforehand
    if exchange.outcome == "failed":
        exchange.usage = _reported(exchange)
    if exchange.operation == "embeddings" and exchange.usage is not None and exchange.usage.output:
        exchange.usage = msgspec.structs.replace(exchange.usage, output=0, reasoning=0)  # they have none, and none was held
    charge = None
    price = exchange.price
    if price is not None and _is_billed(exchange):
        if exchange.operation == "other":
            exchange.usage = exchange.usage or Usage()
        elif exchange.usage is None or _went_on(exchange):
            exchange.usage = _counted(exchange)
        charge = prices.charge(price, exchange.usage)
    principal, model, candidate, error = exchange.principal, exchange.model, exchange.candidate, exchange.error
    started_at = exchange.started_at
    # Where nothing of an answer was released, the stage in which it ended lasted until now.
    until = ended_at if exchange.first_byte_at is None else None
    record = Record(
        id=exchange.id,
        started_us=exchange.started_us,
        node=exchange.gateway.node,
        path=exchange.path,
        operation=exchange.operation,
        model_id=model.id if model is not None else None,
        alias=exchange.alias,
        upstream_model=candidate.model_name if candidate is not None else None,
        response_model=exchange.response_model,
        endpoint_id=candidate.endpoint.id if candidate is not None else None,
        endpoint_name=candidate.endpoint.name if candidate is not None else None,
        account_id=principal.account_id if principal is not None else None,
        holder_id=principal.holder_id if principal is not None else None,
        key_id=principal.key_id if principal is not None else None,
        purpose=principal.purpose if principal is not None else None,
        origin=exchange.origin,
        access_source=exchange.access_source,
        status=exchange.status,
        outcome=exchange.outcome,
        error_code=error.code if error is not None else None,
        error_message=error.message[:_KEPT_MESSAGE] if error is not None else None,
        finish_reason=exchange.finish_reason,
        stream=stream is not None or (exchange.request is not None and exchange.request.stream),
        usage=exchange.usage,
        raw_usage=exchange.raw_usage.decode("utf-8", "replace") if exchange.raw_usage is not None else None,
        charge=charge,
        hold_nano=exchange.hold.amount if exchange.hold is not None else 0,
        attempts=exchange.attempts,
        receive_us=_span(started_at, exchange.received_at or until),
        admit_us=_span(exchange.received_at, exchange.admitted_at or until),
        decide_us=_span(exchange.admitted_at, exchange.decided_at or until),
        dispatch_us=_span(exchange.decided_at, exchange.answered_at or until),
        first_byte_us=_span(started_at, exchange.first_byte_at) if exchange.first_byte_at is not None else None,
        duration_us=_span(started_at, ended_at),
        request_bytes=len(exchange.body),
        response_bytes=exchange.response_bytes,
        client_ip=exchange.client_ip,
        user_agent=exchange.headers.get("user-agent"),
        trace_id=_trace_id(exchange.headers.get("traceparent")),
        explanation=exchange.explanation,
        tags=exchange.tags,
    )
    if error is not None and record.attempts and record.attempts[-1].error is None:
        record.attempts[-1] = msgspec.structs.replace(record.attempts[-1], error=record.error_code)
    keep(exchange.gateway, record, exchange.hold)
    if model is not None and exchange.outcome != "refused":
        measure.exchange(record, candidate.endpoint if candidate is not None else None)
        if exchange.begun:
            _keep_bodies(exchange)


def keep(gateway: "Gateway", record: Record, hold: "Hold | None" = None) -> None:
    """Write a request down where it is looked for afterwards: in the ledger or, of a stranger, among the anonymous; and in the log."""
    if record.account_id is None:
        gateway.ledger.note_anonymous(record)
    else:
        gateway.ledger.end(record, hold)
        if record.key_id is not None:
            gateway.keyring.touch(record.key_id, record.started_us)
        if gateway.events.listening:
            gateway.events.publish(record)
    if record.outcome == "refused":
        measure.refusal(record.error_code or "")
    if gateway.logs_requests:
        log_request(record)


def log_request(record: Record) -> None:
    """The line of a request in the log, which has nothing of what its caller wrote but the path."""
    log.info(
        "request",
        request_id=record.id,
        method=record.method,
        path=record.path,
        model=record.alias if record.model_id is not None else None,
        status=record.status,
        outcome=record.outcome,
        error=record.error_code,
        duration_us=record.duration_us,
        client_ip=record.client_ip,
    )


def _span(start: float | None, end: float | None) -> int:
    return max(0, int((end - start) * MICROSECONDS)) if start is not None and end is not None else 0


def _trace_id(traceparent: str | None) -> str | None:
    """The trace id of a W3C ``traceparent``, version 00."""
    parts = traceparent.split("-") if traceparent else []
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 and parts[1].isalnum() else None


def _is_billed(exchange: "Exchange") -> bool:
    """The billing policy: whole answers to questions; what the provider reports; broken answers of which there was some output."""
    if exchange.outcome == "complete":
        # A provider of Ollama's dialect that loaded its model was asked nothing.
        return exchange.usage is not None or exchange.surface.dialect != "ollama" or exchange.finish_reason not in LOADS
    if exchange.expired == "shutdown":
        return False
    reported = _reported(exchange)
    if reported is not None and reported.total > 0:
        return True
    if exchange.outcome not in ("cancelled", "interrupted"):
        return False
    if exchange.stream is None or exchange.operation == "other":
        return exchange.response_bytes > 0
    return exchange.stream.has_output


def _reported(exchange: "Exchange") -> Usage | None:
    """What the provider said it used, if only before it began to write."""
    return exchange.usage or exchange.beforehand


def _went_on(exchange: "Exchange") -> bool:
    """Whether a stream that broke off had written more since its provider reported usage."""
    return exchange.stream is not None and exchange.outcome not in ("complete", "failed") and exchange.stream.went_on


def _counted(exchange: "Exchange") -> Usage:
    """The estimate; by size alone if the tokenizer fails, since a broken file must not stop a charge."""
    try:
        return _estimate(exchange)
    except Exception as error:
        alarm("gateway", "estimate_failed", request_id=exchange.id, exc_info=error)
        return Usage(uncached_input=len(exchange.body) // 4, output=exchange.response_bytes // 4, estimated=True)


def _estimate(exchange: "Exchange") -> Usage:
    """Count what the provider read and wrote, as far as it did not say."""
    tokenizer = exchange.model.tokenizer if exchange.model is not None else None
    told = _reported(exchange)
    read = written = 0
    if told is None or not told.input:  # some say zero until they know
        read = exchange.input_estimate if exchange.input_estimate is not None else estimate_input(exchange)
    if exchange.stream is not None:
        written = tokens.estimate(exchange.stream.written_text(), tokenizer) + exchange.stream.unkept // 4
    elif exchange.response is not None:
        written = tokens.estimate(text_of(exchange.response), tokenizer)
    elif exchange.answer is not None and exchange.operation != "embeddings":
        written = tokens.estimate(openai_stream.answer_text(decode_object(exchange.answer)), tokenizer)
    if told is None:
        return Usage(uncached_input=read, output=written, estimated=True)
    return msgspec.structs.replace(told, uncached_input=told.uncached_input or read, output=max(told.output, written), estimated=True)


def _keep_bodies(exchange: "Exchange") -> None:
    limit = exchange.kept_bytes
    if not limit:
        return
    answer = exchange.answer
    if exchange.stream is not None:
        answer = exchange.stream.kept()
        if exchange.stream.error is not None:
            answer = concealed(exchange, answer)
    truncated = len(exchange.body) > limit or (answer is not None and len(answer) > limit)
    exchange.gateway.bodies.put(
        exchange.id, exchange.started_us, exchange.body[:limit], answer[:limit] if answer is not None else None, truncated
    )
