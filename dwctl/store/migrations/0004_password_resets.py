"""Links to choose a new password."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("models", "0003_searching")]  # noqa: RUF012
    initial = False

    operations = [  # noqa: RUF012
        ops.CreateModel(
            name="PasswordReset",
            fields=[
                ("token_hash", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ("user_id", fields.UUIDField(db_index=True)),
                ("created_at", fields.BigIntField()),
                ("expires_at", fields.BigIntField(db_index=True)),
            ],
            options={
                "table": "password_resets",
                "app": "models",
                "pk_attr": "token_hash",
                "table_description": "A link to choose a new password: the mail holds 256 random bits, the row their SHA-256.",
            },
            bases=["Model"],
        ),
    ]
