"""UUID version 7 (RFC 9562, 5.7): 48 bits of Unix milliseconds, then a counter and randomness.

Ids of one process ascend in the order in which they were made, also when the wall clock steps back: the
timestamp never decreases, and within one millisecond the 12-bit ``rand_a`` field counts up (RFC 9562, 6.2, method 1).
"""

import os
import time
import uuid

_last_ms = 0
_counter = 0


def new() -> uuid.UUID:
    """A new, ascending UUIDv7."""
    global _last_ms, _counter
    ms = time.time_ns() // 1_000_000
    if ms > _last_ms:
        _last_ms = ms
        _counter = int.from_bytes(os.urandom(2), "big") & 0x3FF
    else:
        _counter += 1
        if _counter > 0xFFF:
            _last_ms += 1
            _counter = 0
    tail = int.from_bytes(os.urandom(8), "big") & 0x3FFF_FFFF_FFFF_FFFF
    return uuid.UUID(int=_last_ms << 80 | 0x7 << 76 | _counter << 64 | 0b10 << 62 | tail)


def new_text() -> str:
    """A new UUIDv7 in the usual 36-character form."""
    return str(new())


def timestamp_us(id_: uuid.UUID) -> int:
    """The wall time of a UUIDv7, in microseconds (to the millisecond)."""
    return (id_.int >> 80) * 1_000
