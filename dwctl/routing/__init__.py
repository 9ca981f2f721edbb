"""Which provider answers: the catalog compiled into one frozen object, and the limits that live beside it.

In: the rows of the catalog, whole. Out: a ``Snapshot`` that the hot path reads without a query; an exchange keeps the one under
which it was admitted. Rates and counters are kept in ``Limits`` under stable ids, so that a new snapshot changes none of them.
"""

from dwctl.routing.limits import Limits, Slot
from dwctl.routing.snapshot import Candidate, ModelEntry, Snapshot, load_snapshot

__all__ = ["Candidate", "Limits", "ModelEntry", "Slot", "Snapshot", "load_snapshot"]
