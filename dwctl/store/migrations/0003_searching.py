"""Fewer indexes on what every request inserts, and those that searching the log needs."""

from typing import Any

from tortoise import fields, migrations
from tortoise.indexes import Index
from tortoise.migrations import operations as ops


class _Unindexed(ops.AlterField):
    """A field loses its index. tortoise would copy the table for that; the index is dropped beside it."""

    async def database_forward(self, *_: Any, **__: Any) -> None:
        return None


async def _drop_unique_id(_: Any, editor: Any) -> None:
    """Transactions of requests are found by their source id, so that ids need no index of theirs. SQLite has to copy the table."""
    if editor.DIALECT != "sqlite":
        for row in await editor.client.execute_query_dict(
            "SELECT c.conname FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY(c.conkey)"
            " WHERE c.conrelid = 'credits_transactions'::regclass AND c.contype = 'u' AND a.attname = 'id'"
        ):
            await editor.client.execute_script(f'ALTER TABLE credits_transactions DROP CONSTRAINT "{row["conname"]}"')
        return
    [row] = await editor.client.execute_query_dict("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'credits_transactions'")
    created = row["sql"].replace('"id" CHAR(36) NOT NULL UNIQUE', '"id" CHAR(36) NOT NULL')
    for statement in (
        created.replace('"credits_transactions"', '"credits_transactions_new"', 1),
        "INSERT INTO credits_transactions_new SELECT * FROM credits_transactions ORDER BY seq",
        "DROP TABLE credits_transactions",
        "ALTER TABLE credits_transactions_new RENAME TO credits_transactions",
        "CREATE INDEX idx_credits_tra_account_3a1bf7 ON credits_transactions (account_id, seq)",
    ):
        await editor.client.execute_query(statement)


class Migration(migrations.Migration):
    dependencies = [("models", "0002_bodies_in_blocks")]  # noqa: RUF012
    initial = False
    operations = [  # noqa: RUF012
        ops.RemoveIndex("RequestRow", fields=["account_id", "seq"]),
        ops.RemoveIndex("RequestRow", fields=["key_id", "seq"]),
        ops.RemoveIndex("RequestRow", fields=["alias", "seq"]),
        ops.RemoveIndex("Transaction", fields=["transaction_type", "seq"]),
        ops.RunSQL("DROP INDEX IF EXISTS idx_requests_started_083eed"),
        _Unindexed("RequestRow", "started_us", fields.BigIntField()),
        ops.RunPython(_drop_unique_id),
        _Unindexed("Transaction", "id", fields.UUIDField()),
        ops.AddIndex("RequestRow", Index(fields=["account_id", "seq"], name="idx_requests_account")),
        ops.AddIndex("RequestRow", Index(fields=["key_id", "seq"], name="idx_requests_key")),
        ops.AddIndex("RequestRow", Index(fields=["alias", "seq"], name="idx_requests_model")),
        ops.AddIndex("RequestRow", Index(fields=["endpoint_name", "seq"], name="idx_requests_endpoint")),
        ops.CreateModel(
            name="RequestHour",
            fields=[
                ("hour", fields.BigIntField(primary_key=True, unique=True, db_index=True, generated=False)),
                ("first_seq", fields.BigIntField()),
                ("last_seq", fields.BigIntField()),
            ],
            options={
                "table": "request_hours",
                "app": "models",
                "pk_attr": "hour",
                "table_description": "Where in the log an hour's requests are: all that started in it have a ``seq`` from first to last,"
                " others may lie between.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="UsageDay",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("day", fields.BigIntField()),
                ("account_id", fields.UUIDField()),
                ("key_id", fields.UUIDField()),
                ("model_id", fields.UUIDField()),
                ("alias", fields.CharField(max_length=255)),
                ("endpoint_name", fields.CharField(max_length=255)),
                ("requests", fields.BigIntField(default=0)),
                ("errors", fields.BigIntField(default=0)),
                ("uncached_input", fields.BigIntField(default=0)),
                ("cache_read", fields.BigIntField(default=0)),
                ("cache_write", fields.BigIntField(default=0)),
                ("output", fields.BigIntField(default=0)),
                ("reasoning", fields.BigIntField(default=0)),
                ("charge_nano", fields.BigIntField(default=0)),
                ("duration_us", fields.BigIntField(default=0)),
            ],
            options={
                "table": "usage_daily",
                "app": "models",
                "unique_together": (("day", "account_id", "key_id", "model_id", "alias", "endpoint_name"),),
                "pk_attr": "id",
                "table_description": "The same sums by days UTC, for what looks back over weeks.",
            },
            bases=["Model"],
        ),
        ops.RunSQL(
            (
                "INSERT INTO request_hours (hour, first_seq, last_seq)"
                " SELECT started_us / 3600000000, min(seq), max(seq) FROM requests GROUP BY 1",
                "INSERT INTO usage_daily (day, account_id, key_id, model_id, alias, endpoint_name, requests, errors, uncached_input,"
                " cache_read, cache_write, output, reasoning, charge_nano, duration_us)"
                " SELECT hour / 24, account_id, key_id, model_id, alias, endpoint_name, SUM(requests), SUM(errors), SUM(uncached_input),"
                " SUM(cache_read), SUM(cache_write), SUM(output), SUM(reasoning), SUM(charge_nano), SUM(duration_us)"
                " FROM usage_hourly GROUP BY 1, 2, 3, 4, 5, 6",
                "CREATE INDEX idx_requests_failed ON requests (seq, status, outcome, account_id, key_id, alias, endpoint_name)"
                " WHERE outcome <> 'complete'",
                "CREATE UNIQUE INDEX idx_transactions_id ON credits_transactions (id) WHERE transaction_type <> 'usage'",
                "CREATE INDEX idx_transactions_type ON credits_transactions (transaction_type, seq) WHERE transaction_type <> 'usage'",
            )
        ),
    ]
