"""Token usage, normalised at the dialect into classes that do not overlap.

``uncached_input + cache_read + cache_write_5m + cache_write_1h`` is the provider's number of input tokens, and ``output`` its
number of output tokens, of which ``reasoning`` were thought and not shown.
"""

from typing import Any

import msgspec

MAX_TOKENS = 100_000_000
"""Ten times what the largest models read at once: a provider that reports more is wrong."""


class Usage(msgspec.Struct, frozen=True, array_like=True):
    """Disjoint token counts of one answer, all of them zero or more."""

    uncached_input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    estimated: bool = False
    """Counted by us, since the provider reported nothing."""

    @property
    def input(self) -> int:
        return self.uncached_input + self.cache_read + self.cache_write_5m + self.cache_write_1h

    @property
    def total(self) -> int:
        return self.input + self.output


def count(value: Any) -> int | None:
    """A number of tokens as JSON has it, ``20.0`` included; None for what is no number of tokens, or more than `MAX_TOKENS`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS else None
