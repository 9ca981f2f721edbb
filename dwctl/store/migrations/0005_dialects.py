"""An endpoint says which dialect it speaks; all so far speak OpenAI's chat completions."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("models", "0004_password_resets")]  # noqa: RUF012
    initial = False

    operations = [  # noqa: RUF012
        ops.AddField(
            model_name="Endpoint", name="dialect", field=fields.CharField(default="openai-chat", db_default="openai-chat", max_length=32)
        ),
    ]
