"""Refusals of callers without a known key: a row each up to a rate, beyond it a count per minute, reason and path.

They cost their sender nothing, so they may cost us little: memory and rows are bounded, and they never touch the journal.
A crash loses those of the last moment, and an outage of the database those beyond the bounds.
"""

from collections.abc import Sequence

from dwctl.clock import MICROSECONDS, monotonic
from dwctl.ledger.cleaning import clean, clean_text
from dwctl.ledger.metrics import ANONYMOUS
from dwctl.ledger.records import Record
from dwctl.ledger.rows import apply
from dwctl.store import Tx

MOST_ROWS = 1_000
"""Rows that wait in memory."""
MOST_COUNTS = 1_000
"""Counts that wait in memory; further paths are counted together."""
OTHER_PATHS = "(other)"
MINUTE = 60 * MICROSECONDS

_COUNT = """
INSERT INTO anonymous_refusals (minute, reason, path, count) VALUES (?, ?, ?, ?)
ON CONFLICT (minute, reason, path) DO UPDATE SET count = anonymous_refusals.count + excluded.count
"""

Counts = dict[tuple[int, str, str], int]


class Anonymous:
    """Collects refusals between two flushes. ``per_second`` is the rate of rows."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._allowance = max(per_second, 1.0) if per_second > 0 else 0.0
        self._most = self._allowance
        self._seen = monotonic()
        self.rows: list[Record] = []
        self.counts: Counts = {}

    def __bool__(self) -> bool:
        return bool(self.rows or self.counts)

    def note(self, record: Record) -> None:
        """Keep a refusal, as a row or in a count."""
        now = monotonic()
        self._allowance = min(self._most, self._allowance + (now - self._seen) * self._per_second)
        self._seen = now
        if self._allowance >= 1 and len(self.rows) < MOST_ROWS:
            self._allowance -= 1
            clean(record)
            self.rows.append(record)
            ANONYMOUS.labels("row").inc()
            return
        ANONYMOUS.labels("counted").inc()
        minute = record.started_us // MINUTE
        reason = clean_text(record.error_code or record.access_source, 64)
        key = (minute, reason, clean_text(record.path, 128))
        if key not in self.counts and len(self.counts) >= MOST_COUNTS:
            key = (minute, reason, OTHER_PATHS)
        self.counts[key] = self.counts.get(key, 0) + 1

    def take(self) -> tuple[list[Record], Counts]:
        """What was kept since the last call."""
        rows, counts = self.rows, self.counts
        self.rows, self.counts = [], {}
        return rows, counts


async def apply_anonymous(tx: Tx, rows: Sequence[Record], counts: Counts, now_us: int) -> None:
    """Bring refusals into the database."""
    if rows:
        await apply(tx, rows, now_us)
    if counts:
        await tx.execute_many((_COUNT, [(*key, count) for key, count in sorted(counts.items())]))
