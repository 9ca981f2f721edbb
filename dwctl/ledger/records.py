"""What the ledger keeps of a request: the record that is written once, whatever happened.

A record travels as one journal entry (MessagePack of a tagged array) from the moment the exchange settles to the row in
the database. It holds all that row, usage and charge need, and never a body. A new field goes to the end and has a default,
so that the journal of an earlier version can be read. Ids are UUIDs in text form, wall times are microseconds since the
epoch, durations are microseconds, money is nano-credits.
"""

import msgspec

from dwctl.dialects.usage import Usage

OUTCOMES = ("complete", "cancelled", "interrupted", "failed", "refused")
"""complete: the terminal event or whole body was there. cancelled: the client left. interrupted: the provider (or the
gateway itself) broke off after output. failed: no answer, or an answer that is an error. refused: dwctl said no."""
ERRORS = ("interrupted", "failed", "refused")
"""Outcomes that count as errors: neither complete nor the client's own doing."""


_MEASURABLE_US = 10_000
"""A stream that takes less came in one piece, however long its provider wrote it."""


class Begin(msgspec.Struct, frozen=True, array_like=True, tag="b", gc=False):
    """Written after admission and before the first byte to the provider."""

    id: str
    started_us: int
    account_id: str
    key_id: str | None
    holder_id: str | None
    purpose: str
    model_id: str
    alias: str
    endpoint_id: str | None
    endpoint_name: str
    path: str
    operation: str
    hold_nano: int
    tags: tuple[str, ...] = ()


class Attempt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One try at one provider."""

    endpoint: str
    model: str
    started_us: int
    """Since the exchange began."""
    duration_us: int
    status: int | None
    error: str | None


class Charge(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the account pays for one request, and by which price."""

    amount_nano: int
    tariff_id: str
    input_pico: int
    output_pico: int


class Record(msgspec.Struct, array_like=True, tag="e", kw_only=True, gc=False):
    """The end of a request: one row, at most one charge."""

    id: str
    started_us: int
    node: str = ""
    method: str = "POST"
    path: str = ""
    operation: str = "other"
    """chat | text_completion | embeddings | other (GenAI semantic conventions)."""
    model_id: str | None = None
    alias: str | None = None
    upstream_model: str | None = None
    response_model: str | None = None
    endpoint_id: str | None = None
    endpoint_name: str | None = None
    account_id: str | None = None
    holder_id: str | None = None
    key_id: str | None = None
    purpose: str | None = None
    origin: str = "api"
    access_source: str = "api_key"
    """api_key | unknown_api_key | unauthenticated | session (a page of ours asked for whoever is signed in)."""
    service_tier: str = "realtime"
    status: int = 0
    """What the client was told; 499 when it left before an answer."""
    outcome: str = "complete"
    error_code: str | None = None
    error_message: str | None = None
    finish_reason: str | None = None
    stream: bool = False
    usage: Usage | None = None
    raw_usage: str | None = None
    """The provider's usage object as JSON text."""
    charge: Charge | None = None
    hold_nano: int = 0
    attempts: list[Attempt] = msgspec.field(default_factory=list)
    receive_us: int = 0
    admit_us: int = 0
    decide_us: int = 0
    dispatch_us: int = 0
    """Until the provider's response headers."""
    first_byte_us: int | None = None
    """Since the exchange began, until the first byte of the answer was released to the client (time to first token)."""
    duration_us: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    client_ip: str | None = None
    user_agent: str | None = None
    trace_id: str | None = None
    explanation: list[str] = msgspec.field(default_factory=list)
    """Why it went as it went, a sentence a step."""
    tags: tuple[str, ...] = ()
    """Words to find it by, each once, in the order in which they were given."""


def token_interval_us(output: int, first_byte_us: int | None, duration_us: int) -> float | None:
    """Microseconds from one output token to the next, after the first; None where there is too little to measure."""
    if output < 2 or first_byte_us is None or duration_us - first_byte_us < _MEASURABLE_US:
        return None
    return (duration_us - first_byte_us) / (output - 1)


Entry = Begin | Record
