"""Makes a record fit its row, when it is made: text that every database stores, numbers within their columns.

Databases refuse U+0000 (PostgreSQL) and lone surrogates (both), and columns have lengths. Text from callers and providers
holds all of these sooner or later, and must never stand in the way of a charge.
"""

import msgspec

from dwctl.dialects.usage import Usage
from dwctl.ledger.records import Attempt, Begin, Record
from dwctl.money import MAX_STORED
from dwctl.texts import UNSTORABLE

# Text that comes from outside, directly or through the configuration, and the length of its column.
_TEXT = (
    ("path", 512),
    ("user_agent", 255),
    ("alias", 255),
    ("upstream_model", 255),
    ("response_model", 255),
    ("endpoint_name", 255),
    ("raw_usage", 4096),
    ("finish_reason", 64),
    ("error_code", 64),
    ("error_message", 512),
    ("client_ip", 64),
    ("trace_id", 64),
    ("method", 8),
)
# Text of ours, checked only when the record does not encode as it is.
_OWN_TEXT = (
    ("operation", 32),
    ("purpose", 16),
    ("origin", 16),
    ("access_source", 16),
    ("service_tier", 16),
    ("outcome", 16),
)
_NUMBERS = (
    "started_us",
    "status",
    "hold_nano",
    "receive_us",
    "admit_us",
    "decide_us",
    "dispatch_us",
    "first_byte_us",
    "duration_us",
    "request_bytes",
    "response_bytes",
)
MAX_SENTENCES = 24
MAX_SENTENCE = 240
MAX_ATTEMPTS = 16
MAX_TAGS = 16
MAX_TAG = 64
MAX_TOKENS = 2**50 - 1
MAX_CHARGE = 10**17
"""A hundred million credits for one request: such an amount is a mistake, and sums of more of them overflow a column."""


def clean_text(text: str, limit: int) -> str:
    """The text without U+0000 and lone surrogates, at most ``limit`` characters."""
    if len(text) > limit:
        text = text[:limit]
    if not text.isascii() or "\0" in text:
        text = UNSTORABLE.sub("�", text)
    return text


def _has_plain_text(record: Record) -> bool:
    """Nothing to clean, as nearly always: ASCII without U+0000 within the columns' lengths. Written out, since every request pays."""
    path, method = record.path, record.method
    user_agent, trace_id, client_ip = record.user_agent or "", record.trace_id or "", record.client_ip or ""
    alias, upstream_model, response_model = record.alias or "", record.upstream_model or "", record.response_model or ""
    endpoint_name, raw_usage, finish_reason = record.endpoint_name or "", record.raw_usage or "", record.finish_reason or ""
    error_code, error_message = record.error_code or "", record.error_message or ""
    joined = (
        f"{path}{method}{user_agent}{trace_id}{client_ip}{alias}{upstream_model}{response_model}{endpoint_name}{raw_usage}"
        f"{finish_reason}{error_code}{error_message}"
    )
    return (
        joined.isascii()
        and "\0" not in joined
        and len(path) <= 512
        and len(method) <= 8
        and len(user_agent) <= 255
        and len(trace_id) <= 64
        and len(client_ip) <= 64
        and len(alias) <= 255
        and len(upstream_model) <= 255
        and len(response_model) <= 255
        and len(endpoint_name) <= 255
        and len(raw_usage) <= 4096
        and len(finish_reason) <= 64
        and len(error_code) <= 64
        and len(error_message) <= 512
    )


def clean(record: Record) -> bool:
    """Make the record storable, in place. False if its charge or usage had to be cut, which is worth an alarm."""
    if not _has_plain_text(record):
        for name, limit in _TEXT:
            text = getattr(record, name)
            if text is not None:
                setattr(record, name, clean_text(text, limit))
    if record.explanation:
        _clean_explanation(record)
    if record.attempts:
        _clean_attempts(record)
    if record.tags:
        record.tags = tuple(clean_text(tag, MAX_TAG) for tag in record.tags[:MAX_TAGS])
    sound = True
    usage = record.usage
    if usage is not None:
        # One comparison for six counts: the union of their bits is negative if one is, and at least as large as the largest.
        bits = usage.uncached_input | usage.cache_read | usage.cache_write_5m | usage.cache_write_1h | usage.output | usage.reasoning
        if not 0 <= bits <= MAX_TOKENS:
            record.usage = Usage(
                uncached_input=min(max(usage.uncached_input, 0), MAX_TOKENS),
                cache_read=min(max(usage.cache_read, 0), MAX_TOKENS),
                cache_write_5m=min(max(usage.cache_write_5m, 0), MAX_TOKENS),
                cache_write_1h=min(max(usage.cache_write_1h, 0), MAX_TOKENS),
                output=min(max(usage.output, 0), MAX_TOKENS),
                reasoning=min(max(usage.reasoning, 0), MAX_TOKENS),
                estimated=usage.estimated,
            )
            sound = False
    charge = record.charge
    if charge is not None and not 0 <= charge.amount_nano <= MAX_CHARGE:
        record.charge = msgspec.structs.replace(charge, amount_nano=min(max(charge.amount_nano, 0), MAX_CHARGE))
        sound = False
    return sound


def _clean_explanation(record: Record) -> None:
    sentences = record.explanation
    if len(sentences) > MAX_SENTENCES:
        record.explanation = sentences = sentences[:MAX_SENTENCES]
    for text in sentences:
        if len(text) > MAX_SENTENCE or not text.isascii() or "\0" in text:
            record.explanation = [clean_text(sentence, MAX_SENTENCE) for sentence in sentences]
            return


def _clean_attempts(record: Record) -> None:
    attempts = record.attempts
    if len(attempts) > MAX_ATTEMPTS:
        record.attempts = attempts = attempts[-MAX_ATTEMPTS:]
    for attempt in attempts:
        for text in (attempt.endpoint, attempt.model, attempt.error):
            if text is not None and (len(text) > 255 or not text.isascii() or "\0" in text):
                record.attempts = [_clean_attempt(each) for each in attempts]
                return


def _clean_attempt(attempt: Attempt) -> Attempt:
    return msgspec.structs.replace(
        attempt,
        endpoint=clean_text(attempt.endpoint, 255),
        model=clean_text(attempt.model, 255),
        error=None if attempt.error is None else clean_text(attempt.error, 255),
    )


def clean_deeply(record: Record) -> None:
    """What ``clean`` does not look at for the sake of speed: for a record that does not encode after it."""
    for name, limit in _OWN_TEXT:
        text = getattr(record, name)
        if text is not None:
            setattr(record, name, clean_text(text, limit))
    for name in _NUMBERS:
        value = getattr(record, name)
        if value is not None:
            setattr(record, name, min(max(value, -MAX_STORED), MAX_STORED))
    record.attempts = [
        msgspec.structs.replace(
            attempt,
            started_us=min(max(attempt.started_us, -MAX_STORED), MAX_STORED),
            duration_us=min(max(attempt.duration_us, -MAX_STORED), MAX_STORED),
        )
        for attempt in record.attempts
    ]


def clean_begin(begin: Begin) -> Begin:
    """A begin that encodes and is small."""
    return msgspec.structs.replace(
        begin,
        alias=clean_text(begin.alias, 255),
        endpoint_name=clean_text(begin.endpoint_name, 255),
        path=clean_text(begin.path, 512),
    )


def _clipped(text: str | None, size: int) -> str | None:
    return None if text is None else text.encode(errors="ignore")[:size].decode(errors="ignore")


def reduced(record: Record) -> Record:
    """The record with only what its charge, its sums and its place in time need: fits the room that every begin reserves."""
    return Record(
        id=record.id,
        started_us=record.started_us,
        node=record.node,
        operation=record.operation,
        model_id=record.model_id,
        alias=record.alias,
        endpoint_id=record.endpoint_id,
        endpoint_name=record.endpoint_name,
        account_id=record.account_id,
        holder_id=record.holder_id,
        key_id=record.key_id,
        purpose=record.purpose,
        origin=record.origin,
        access_source=record.access_source,
        service_tier=record.service_tier,
        status=record.status,
        outcome=record.outcome,
        error_code=_clipped(record.error_code, 48),
        stream=record.stream,
        usage=record.usage,
        charge=record.charge,
        hold_nano=record.hold_nano,
        first_byte_us=record.first_byte_us,
        duration_us=record.duration_us,
        request_bytes=record.request_bytes,
        response_bytes=record.response_bytes,
    )
