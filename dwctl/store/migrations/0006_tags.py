"""Requests have tags, and are found by them."""

from typing import Any

from tortoise import fields, migrations
from tortoise.migrations import operations as ops


async def _create_request_tags(_: Any, editor: Any) -> None:
    """A table that is an index: of one tag the newest requests first, on SQLite without rows beside it. tortoise knows neither this nor
    a key of two columns."""
    created = "CREATE TABLE request_tags (tag VARCHAR(64) NOT NULL, seq BIGINT NOT NULL, PRIMARY KEY (tag, seq))"
    await editor.client.execute_query(created + " WITHOUT ROWID" if editor.DIALECT == "sqlite" else created)


class Migration(migrations.Migration):
    dependencies = [("models", "0005_dialects")]  # noqa: RUF012
    initial = False

    operations = [  # noqa: RUF012
        ops.AddField(model_name="RequestRow", name="tags", field=fields.TextField(null=True)),
        ops.RunPython(_create_request_tags),
    ]
