"""How often somebody may try to sign in: a bucket per address and one per account.

Plain arithmetic over times that the caller gives (generic cell rate algorithm). Memory is bounded: the buckets touched
longest ago are forgotten first.
"""

from collections import OrderedDict
from ipaddress import IPv6Address, IPv6Network, ip_address


class AttemptLimit:
    """``burst`` attempts at once per name, then one every ``interval`` seconds."""

    def __init__(self, burst: int, interval: float, *, names: int = 20_000) -> None:
        self._tolerance = burst * interval
        self._interval = interval
        self._names = names
        self._due: OrderedDict[str, float] = OrderedDict()

    def take(self, name: str, now: float) -> float | None:
        """Count an attempt at ``now`` (seconds of any monotonic clock). None if it may go on, else the seconds to wait."""
        due = max(self._due.get(name, now), now) + self._interval
        if due - now > self._tolerance:
            return due - now - self._tolerance
        self._due[name] = due
        self._due.move_to_end(name)
        while len(self._due) > self._names:
            self._due.popitem(last=False)
        return None

    def forgive(self, name: str) -> None:
        """Take back one attempt: it was a success."""
        if name in self._due:
            self._due[name] -= self._interval


def subscriber(address: str) -> str:
    """Whom an address stands for: with IPv6 its /64, of which one subscriber has every address (RFC 6177)."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if not isinstance(known, IPv6Address):
        return address
    return str(known.ipv4_mapped or IPv6Network((int(known), 64), strict=False))
