"""Time, in the two kinds that the program needs.

Wall time is an integer number of microseconds since the Unix epoch, UTC: what is stored and shown. Durations are taken
from the monotonic clock, in seconds, so that a stepped wall clock never yields a negative latency.
"""

import time
from datetime import UTC, datetime, timedelta

MICROSECONDS = 1_000_000
HOUR = 3_600 * MICROSECONDS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

monotonic = time.monotonic


def now_us() -> int:
    """Microseconds since the Unix epoch, UTC."""
    return time.time_ns() // 1_000


def to_rfc3339(at_us: int) -> str:
    """``2026-11-21T01:16:24.000123Z`` for a wall time in microseconds."""
    return (_EPOCH + timedelta(microseconds=at_us)).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def from_rfc3339(text: str) -> int:
    """Microseconds since the epoch; a time without an offset is taken as UTC. Raises ValueError, also for one that ``to_rfc3339``
    could not give back."""
    parsed = datetime.fromisoformat(text)
    try:
        parsed = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text} is beyond the years 1 to 9999") from error
    return (parsed - _EPOCH) // timedelta(microseconds=1)
