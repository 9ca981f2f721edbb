"""Request rates and concurrency, counted in memory under stable ids.

A rate is GCRA as a leaky bucket (ATM Forum TM 4.0, "continuous-state"): every request adds one to a level that falls at the rate, and
may pass where the level stays within the burst. A level counts requests and not their time, so that a change of the rate in the
configuration neither refills nor drains it, and nobody waits for what an old rate would have taken. Concurrency is a plain count; a
slot is held until the body of the answer has ended.
"""

import math
from typing import NamedTuple

_SWEEP_ABOVE = 4096
_TOLERANCE = 1e-6
"""Of a request: sums of floats must not refuse the last of an exact burst."""


class RateState(NamedTuple):
    """How a rate stands: for the ``x-ratelimit-*`` headers. Times in seconds."""

    limit: int
    remaining: int
    reset_after: float
    retry_after: float = 0.0


class Limits:
    """All rates and counters of this process. Not thread-safe: the event loop's. ``burst`` defaults to the rate, at least 1; ``now`` is
    monotonic seconds."""

    def __init__(self) -> None:
        self._levels: dict[str, tuple[float, float, float]] = {}
        """Of each rate: its level, when it stood there, and the requests a second by which it falls since."""
        self._active: dict[str, int] = {}
        self._sweep_at = _SWEEP_ABOVE

    def check(self, scope: str, per_second: float, burst: int | None, now: float) -> RateState | None:
        """How a rate stands that a request must wait for; None if it may pass. Nothing is taken."""
        size = _size(per_second, burst)
        level = self._level(scope, per_second, size, now)
        if level + 1.0 <= size + _TOLERANCE:
            return None
        return RateState(size, 0, level / per_second, (level + 1.0 - size) / per_second)

    def take(self, scope: str, per_second: float, burst: int | None, now: float) -> RateState:
        """Count a request that may pass, and say how the rate stands after it."""
        size = _size(per_second, burst)
        level = self._level(scope, per_second, size, now) + 1.0
        self._levels[scope] = (level, now, per_second)
        if len(self._levels) > self._sweep_at:
            self._levels = {scope: known for scope, known in self._levels.items() if known[0] > (now - known[1]) * known[2]}
            self._sweep_at = max(_SWEEP_ABOVE, 2 * len(self._levels))
        return RateState(size, max(0, math.floor(size - level + _TOLERANCE)), level / per_second)

    def enter(self, scope: str, limit: int | None) -> "Slot | None":
        """A slot, to be released when the answer has ended; None when all are taken. Without a limit it only counts."""
        active = self._active.get(scope, 0)
        if limit is not None and active >= limit:
            return None
        self._active[scope] = active + 1
        return Slot(self, scope)

    def active(self, scope: str) -> int:
        return self._active.get(scope, 0)

    def total_active(self) -> int:
        """All slots held now; zero when nothing is in flight."""
        return sum(self._active.values())

    def leave(self, scope: str) -> None:
        left = self._active[scope] - 1
        if left:
            self._active[scope] = left
        else:
            del self._active[scope]

    def _level(self, scope: str, per_second: float, size: int, now: float) -> float:
        known = self._levels.get(scope)
        if known is None:
            return 0.0
        level, since, falling = known
        level -= (now - since) * falling
        if level <= 0.0:
            return 0.0
        if falling != per_second or level > size:
            # The rate has changed. A smaller bucket cannot be more than full.
            level = min(level, size)
            self._levels[scope] = (level, now, per_second)
        return level


def _size(per_second: float, burst: int | None) -> int:
    return max(1, burst if burst is not None else math.ceil(per_second))


class Slot:
    """One unit of concurrency."""

    __slots__ = ("_limits", "_scope")

    def __init__(self, limits: Limits, scope: str) -> None:
        self._limits: Limits | None = limits
        self._scope = scope

    def release(self) -> None:
        """Give it back; a second call does nothing."""
        if self._limits is not None:
            self._limits.leave(self._scope)
            self._limits = None
