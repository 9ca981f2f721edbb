"""Money and what was done for it: transactions, balances, request rows, hourly sums, the journal's mark."""

from tortoise import fields
from tortoise.indexes import Index

from dwctl.store.tables.table import Table

BY_ACCOUNT, BY_KEY, BY_MODEL, BY_ENDPOINT = (f"idx_requests_{name}" for name in ("account", "key", "model", "endpoint"))
BY_FAILURE = "idx_requests_failed"


class Transaction(Table):
    """Append-only. ``amount_nano`` is absolute: purchase and admin_grant add, usage and admin_removal take.

    Usage is nearly all of it, and what each index costs is paid by every request. A usage's id is its source id, so ids and types
    are indexed for the others only (``idx_transactions_id``, ``idx_transactions_type``: partial, which tables cannot say here).
    """

    seq = fields.BigIntField(primary_key=True, generated=True)
    id = fields.UUIDField()
    account_id = fields.UUIDField()
    transaction_type = fields.CharField(max_length=16)
    """purchase | admin_grant | admin_removal | usage."""
    amount_nano = fields.BigIntField()
    source_id = fields.CharField(max_length=255, unique=True)
    """What makes it happen once; for usage the request's id."""
    description = fields.TextField(null=True)
    created_at = fields.BigIntField()
    request_id = fields.UUIDField(null=True)
    key_id = fields.UUIDField(null=True)
    service_tier = fields.CharField(max_length=16, null=True)
    tariff_id = fields.UUIDField(null=True)

    class Meta:
        table = "credits_transactions"
        indexes = (("account_id", "seq"),)


class Balance(Table):
    account_id = fields.UUIDField(primary_key=True)
    balance_nano = fields.BigIntField(default=0)
    updated_at = fields.BigIntField()

    class Meta:
        table = "account_balances"


class KeySpend(Table):
    key_id = fields.UUIDField(primary_key=True)
    total_nano = fields.BigIntField(default=0)

    class Meta:
        table = "key_spend"


class RequestRow(Table):
    """One row a request, refused ones with a known key included. Columns as ``dwctl.ledger.records.Record``.

    Every index is paid by every request: there is one for each thing that is searched by and leads to few rows. What did not
    end well has one of its own that answers by itself (``idx_requests_failed``: partial, which tables cannot say here). Times are
    found by ``RequestHour``.
    """

    seq = fields.BigIntField(primary_key=True, generated=True)
    id = fields.UUIDField(unique=True)
    started_us = fields.BigIntField()
    node = fields.CharField(max_length=36)
    method = fields.CharField(max_length=8)
    path = fields.CharField(max_length=512)
    operation = fields.CharField(max_length=32)
    model_id = fields.UUIDField(null=True)
    alias = fields.CharField(max_length=255, null=True)
    upstream_model = fields.CharField(max_length=255, null=True)
    response_model = fields.CharField(max_length=255, null=True)
    endpoint_id = fields.UUIDField(null=True)
    endpoint_name = fields.CharField(max_length=255, null=True)
    account_id = fields.UUIDField(null=True)
    holder_id = fields.UUIDField(null=True)
    key_id = fields.UUIDField(null=True)
    purpose = fields.CharField(max_length=16, null=True)
    origin = fields.CharField(max_length=16)
    access_source = fields.CharField(max_length=16)
    service_tier = fields.CharField(max_length=16)
    status = fields.IntField()
    outcome = fields.CharField(max_length=16)
    error_code = fields.CharField(max_length=64, null=True)
    error_message = fields.CharField(max_length=512, null=True)
    finish_reason = fields.CharField(max_length=64, null=True)
    stream = fields.BooleanField()
    uncached_input = fields.BigIntField(default=0)
    cache_read = fields.BigIntField(default=0)
    cache_write_5m = fields.BigIntField(default=0)
    cache_write_1h = fields.BigIntField(default=0)
    output = fields.BigIntField(default=0)
    reasoning = fields.BigIntField(default=0)
    estimated = fields.BooleanField(default=False)
    raw_usage = fields.TextField(null=True)
    charge_nano = fields.BigIntField(null=True)
    tariff_id = fields.UUIDField(null=True)
    input_pico = fields.BigIntField(null=True)
    output_pico = fields.BigIntField(null=True)
    hold_nano = fields.BigIntField(default=0)
    attempts = fields.TextField(null=True)
    """JSON list of attempts."""
    receive_us = fields.BigIntField(default=0)
    admit_us = fields.BigIntField(default=0)
    decide_us = fields.BigIntField(default=0)
    dispatch_us = fields.BigIntField(default=0)
    first_byte_us = fields.BigIntField(null=True)
    duration_us = fields.BigIntField(default=0)
    request_bytes = fields.BigIntField(default=0)
    response_bytes = fields.BigIntField(default=0)
    client_ip = fields.CharField(max_length=64, null=True)
    user_agent = fields.CharField(max_length=255, null=True)
    trace_id = fields.CharField(max_length=64, null=True)
    explanation = fields.TextField(null=True)
    """JSON list of sentences."""
    tags = fields.TextField(null=True)
    """JSON list of words; those of ``request_tags`` (see the migration 0006) again, for whoever reads the row."""

    class Meta:
        table = "requests"
        indexes = (
            Index(fields=("account_id", "seq"), name=BY_ACCOUNT),
            Index(fields=("key_id", "seq"), name=BY_KEY),
            Index(fields=("alias", "seq"), name=BY_MODEL),
            Index(fields=("endpoint_name", "seq"), name=BY_ENDPOINT),
        )


class RequestHour(Table):
    """Where in the log an hour's requests are: all that started in it have a ``seq`` from first to last, others may lie between.

    Kept in the transaction of the rows. It turns any range of time into one of ``seq``, together with whatever else is asked for.
    """

    hour = fields.BigIntField(primary_key=True, generated=False)
    """Hours since the epoch, UTC."""
    first_seq = fields.BigIntField()
    last_seq = fields.BigIntField()

    class Meta:
        table = "request_hours"


class UsageHour(Table):
    """Hourly UTC sums, kept in the transaction of the charge, so that no page scans the requests."""

    id = fields.BigIntField(primary_key=True, generated=True)
    hour = fields.BigIntField()
    """Hours since the epoch, UTC."""
    account_id = fields.UUIDField()
    key_id = fields.UUIDField()
    """The nil UUID where there was no key."""
    model_id = fields.UUIDField()
    alias = fields.CharField(max_length=255)
    endpoint_name = fields.CharField(max_length=255)
    requests = fields.BigIntField(default=0)
    errors = fields.BigIntField(default=0)
    uncached_input = fields.BigIntField(default=0)
    cache_read = fields.BigIntField(default=0)
    cache_write = fields.BigIntField(default=0)
    output = fields.BigIntField(default=0)
    reasoning = fields.BigIntField(default=0)
    charge_nano = fields.BigIntField(default=0)
    duration_us = fields.BigIntField(default=0)

    class Meta:
        table = "usage_hourly"
        unique_together = (("hour", "account_id", "key_id", "model_id", "alias", "endpoint_name"),)
        indexes = (("account_id", "hour"), ("model_id", "hour"))


class UsageDay(Table):
    """The same sums by days UTC, for what looks back over weeks."""

    id = fields.BigIntField(primary_key=True, generated=True)
    day = fields.BigIntField()
    """Days since the epoch, UTC."""
    account_id = fields.UUIDField()
    key_id = fields.UUIDField()
    model_id = fields.UUIDField()
    alias = fields.CharField(max_length=255)
    endpoint_name = fields.CharField(max_length=255)
    requests = fields.BigIntField(default=0)
    errors = fields.BigIntField(default=0)
    uncached_input = fields.BigIntField(default=0)
    cache_read = fields.BigIntField(default=0)
    cache_write = fields.BigIntField(default=0)
    output = fields.BigIntField(default=0)
    reasoning = fields.BigIntField(default=0)
    charge_nano = fields.BigIntField(default=0)
    duration_us = fields.BigIntField(default=0)

    class Meta:
        table = "usage_daily"
        unique_together = (("day", "account_id", "key_id", "model_id", "alias", "endpoint_name"),)


class JournalMark(Table):
    """How far a node's journal is in the database: committed with what it covers."""

    node = fields.CharField(max_length=36, primary_key=True)
    segment = fields.BigIntField()
    offset = fields.BigIntField()
    updated_at = fields.BigIntField()

    class Meta:
        table = "journal_marks"


class AnonymousRefusal(Table):
    """Refusals without a known key, counted once there are too many for a row each."""

    id = fields.BigIntField(primary_key=True, generated=True)
    minute = fields.BigIntField()
    """Minutes since the epoch, UTC."""
    reason = fields.CharField(max_length=64)
    path = fields.CharField(max_length=128)
    count = fields.BigIntField(default=0)

    class Meta:
        table = "anonymous_refusals"
        unique_together = (("minute", "reason", "path"),)
