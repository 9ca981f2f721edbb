"""UUID version 7 (RFC 9562, 5.7): 48 bits of Unix milliseconds, then a counter and randomness.

Ids of one process ascend in the order in which they were made, also when the wall clock steps back: the
timestamp never decreases, and within one millisecond the 12-bit ``rand_a`` field counts up (RFC 9562, 6.2, method 1).
"""

import random
import re
import time
import uuid

_FORM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

_last_ms = 0
_counter = 0
_bits = random.Random().getrandbits
"""Seeded by the operating system. An id must be unique, not unguessable; asking the kernel for each would cost more than the rest."""


def _next() -> int:
    global _last_ms, _counter
    ms = time.time_ns() // 1_000_000
    if ms > _last_ms:
        _last_ms = ms
        _counter = _bits(10)
    else:
        _counter += 1
        if _counter > 0xFFF:
            _last_ms += 1
            _counter = 0
    return _last_ms << 80 | 0x7 << 76 | _counter << 64 | 0b10 << 62 | _bits(62)


def new() -> uuid.UUID:
    """A new, ascending UUIDv7."""
    return uuid.UUID(int=_next())


def new_text() -> str:
    """A new UUIDv7 in the usual 36-character form."""
    digits = f"{_next():032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def has_form(text: str) -> bool:
    """Whether a text could be an id that was made here, or will be."""
    return _FORM.fullmatch(text) is not None
