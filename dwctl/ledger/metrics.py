"""Metrics of the ledger. Label values come from the configuration (accounts, aliases, endpoints), never from callers."""

from prometheus_client import Counter, Gauge, Histogram

from dwctl.telemetry.metrics import REGISTRY

CREDITS_DEDUCTED = Counter(
    "dwctl_credits_deducted_nanocredits",
    "Nano-credits charged for requests, once they are in the database",
    ("user_id", "model", "served_by"),
    registry=REGISTRY,
)
CREDITS_DUPLICATES = Counter(
    "dwctl_credits_duplicates", "Charges read again from the journal that the database already had", registry=REGISTRY
)
BALANCE_CROSSINGS = Counter("dwctl_balance_crossings", "Balances that crossed zero", ("direction",), registry=REGISTRY)
LAG = Gauge("dwctl_analytics_lag_seconds", "Age of the oldest request of the latest recorded group", registry=REGISTRY)
BATCH_DURATION = Histogram(
    "dwctl_analytics_batch_duration_seconds",
    "Time to commit one group of requests",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
BATCHED_RECORDS = Counter("dwctl_analytics_batched_records", "Requests recorded in the database", registry=REGISTRY)
BATCH_RETRIES = Counter(
    "dwctl_analytics_batch_retries",
    "Groups tried again (unavailable: the database was away; isolated: one by one, after an error in the group)",
    ("outcome",),
    registry=REGISTRY,
)
QUARANTINED = Counter(
    "dwctl_journal_quarantined",
    "Journal entries set aside (record: the database refused it; damage: bytes that are no record)",
    ("kind",),
    registry=REGISTRY,
)
JOURNAL_BYTES = Gauge("dwctl_journal_bytes", "Disk space taken by the journal, spare included", registry=REGISTRY)
JOURNAL_OPEN = Gauge("dwctl_journal_open_requests", "Requests begun in the journal and not ended", registry=REGISTRY)
HELD = Gauge("dwctl_holds_nanocredits", "Nano-credits held for requests in flight", registry=REGISTRY)
JOURNAL_REFUSED = Counter("dwctl_journal_refused_requests", "Priced requests refused because the journal had no room", registry=REGISTRY)
JOURNAL_DROPPED = Counter(
    "dwctl_journal_dropped_records", "Rows without a charge that were lost because the journal had no room", registry=REGISTRY
)
ANONYMOUS = Counter(
    "dwctl_anonymous_refusals",
    "Refusals without a known key (row: a row of its own; counted: added to a count)",
    ("kept",),
    registry=REGISTRY,
)
