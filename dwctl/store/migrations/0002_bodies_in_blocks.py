# ruff: noqa
"""A body's row may name the row that holds its content."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("models", "0001_initial")]

    initial = False

    operations = [
        ops.AddField(model_name="StoredBody", name="block", field=fields.UUIDField(null=True)),
        ops.AlterField(model_name="StoredBody", name="content", field=fields.BinaryField(null=True)),
    ]
