"""Request rates (GCRA, as in ATM Forum TM 4.0) and concurrency, counted in memory under stable ids.

A rate's only state is the theoretical arrival time of its next request, so a change of the rate in the configuration neither
refills nor drains it. Concurrency is a plain count; a slot is held until the body of the answer has ended.
"""

import math
from dataclasses import dataclass

_SWEEP_ABOVE = 4096


@dataclass(slots=True, frozen=True)
class RateState:
    """How a rate stands after a request: for the ``x-ratelimit-*`` headers. Times in seconds."""

    allowed: bool
    limit: int
    remaining: int
    reset_after: float
    retry_after: float


class Limits:
    """All rates and counters of this process. Not thread-safe: the event loop's."""

    def __init__(self) -> None:
        self._arrivals: dict[str, float] = {}
        self._active: dict[str, int] = {}
        self._sweep_at = _SWEEP_ABOVE

    def check(self, scope: str, per_second: float, burst: int | None, now: float) -> RateState:
        """Whether a request may pass, without taking it. ``burst`` defaults to the rate, at least 1; ``now`` is monotonic seconds."""
        size = max(1, burst if burst is not None else math.ceil(per_second))
        interval = 1.0 / per_second
        arrival = max(self._arrivals.get(scope, now), now)
        ahead = arrival - now
        room = size * interval - ahead
        # The tolerance keeps sums of floats from refusing the last of an exact burst.
        remaining = math.floor(room / interval + 1e-6)
        if remaining < 1:
            return RateState(False, size, 0, ahead, max(interval - room, 0.0))
        return RateState(True, size, remaining - 1, ahead + interval, 0.0)

    def take(self, scope: str, per_second: float, now: float) -> None:
        """Count a request that ``check`` allowed."""
        self._arrivals[scope] = max(self._arrivals.get(scope, now), now) + 1.0 / per_second
        if len(self._arrivals) > self._sweep_at:
            self._arrivals = {key: arrival for key, arrival in self._arrivals.items() if arrival > now}
            self._sweep_at = max(_SWEEP_ABOVE, 2 * len(self._arrivals))

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
