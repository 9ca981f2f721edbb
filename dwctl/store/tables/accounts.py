"""Who may do what: users (people and organizations in one id space), groups, API keys, sessions."""

from typing import Any

from tortoise import fields

from dwctl.store.tables.table import Table


class User(Table):
    """A person or an organization: whoever pays is a row of this table."""

    id = fields.UUIDField(primary_key=True)
    username = fields.CharField(max_length=255)
    email = fields.CharField(max_length=320)
    live_username = fields.CharField(max_length=255, null=True, unique=True)
    """Equals ``username`` while the row is live, else null: unique among the living."""
    live_email = fields.CharField(max_length=320, null=True, unique=True)
    """Lower-cased ``email`` while the row is live."""
    display_name = fields.CharField(max_length=255, null=True)
    avatar_url = fields.TextField(null=True)
    user_type = fields.CharField(max_length=16, default="individual")
    """individual | organization."""
    is_admin = fields.BooleanField(default=False)
    roles: Any = fields.JSONField(default=list)
    auth_source = fields.CharField(max_length=64, default="native")
    """native: registered by whoever says to have the address | system: made here | proxy-header: made at a proxy's word."""
    external_user_id = fields.CharField(max_length=255, null=True, unique=True)
    password_hash = fields.TextField(null=True)
    must_change_password = fields.BooleanField(default=False)
    verified = fields.BooleanField(default=False)
    zero_data_retention = fields.BooleanField(default=False)
    last_login_at = fields.BigIntField(null=True)
    created_at = fields.BigIntField()
    updated_at = fields.BigIntField()
    revision = fields.IntField(default=1)
    deleted_at = fields.BigIntField(null=True)

    class Meta:
        table = "users"


class Group(Table):
    id = fields.UUIDField(primary_key=True)
    name = fields.CharField(max_length=255)
    live_name = fields.CharField(max_length=255, null=True, unique=True)
    description = fields.TextField(null=True)
    source = fields.CharField(max_length=64, default="native")
    created_by = fields.UUIDField(null=True)
    created_at = fields.BigIntField()
    updated_at = fields.BigIntField()
    revision = fields.IntField(default=1)
    deleted_at = fields.BigIntField(null=True)

    class Meta:
        table = "groups"


class UserGroup(Table):
    id = fields.BigIntField(primary_key=True, generated=True)
    user_id = fields.UUIDField()
    group_id = fields.UUIDField(db_index=True)

    class Meta:
        table = "user_groups"
        unique_together = (("user_id", "group_id"),)


class ApiKey(Table):
    id = fields.UUIDField(primary_key=True)
    name = fields.CharField(max_length=255)
    live_name = fields.CharField(max_length=255, null=True)
    """Equals ``name`` while the key is live: unique per owner and holder among the living."""
    description = fields.TextField(null=True)
    secret_hash = fields.CharField(max_length=64, unique=True)
    """SHA-256 of the secret, in hex."""
    secret_hint = fields.CharField(max_length=16)
    """First characters of the secret, for recognition on pages."""
    purpose = fields.CharField(max_length=16, default="realtime")
    """platform | realtime | batch | playground."""
    user_id = fields.UUIDField(db_index=True)
    """The owner: the account that pays."""
    created_by = fields.UUIDField()
    """The holder: the person whose roles the key acts with."""
    hidden = fields.BooleanField(default=False)
    requests_per_second = fields.FloatField(null=True)
    burst_size = fields.IntField(null=True)
    max_concurrency = fields.IntField(null=True)
    bodies = fields.CharField(max_length=8, null=True)
    """full | preview | none; null: as the model, then the configuration, says."""
    always_stream_usage = fields.BooleanField(default=False)
    expires_at = fields.BigIntField(null=True)
    last_used_at = fields.BigIntField(null=True)
    created_at = fields.BigIntField()
    updated_at = fields.BigIntField()
    revision = fields.IntField(default=1)
    deleted_at = fields.BigIntField(null=True)

    class Meta:
        table = "api_keys"
        unique_together = (("user_id", "created_by", "live_name"),)


class PasswordReset(Table):
    """A link to choose a new password: the mail holds 256 random bits, the row their SHA-256."""

    token_hash = fields.CharField(max_length=64, primary_key=True)
    user_id = fields.UUIDField(db_index=True)
    created_at = fields.BigIntField()
    expires_at = fields.BigIntField(db_index=True)

    class Meta:
        table = "password_resets"


class Session(Table):
    """A browser session: the cookie holds 256 random bits, the row their SHA-256."""

    id_hash = fields.CharField(max_length=64, primary_key=True)
    user_id = fields.UUIDField(db_index=True)
    created_at = fields.BigIntField()
    expires_at = fields.BigIntField(db_index=True)
    client_ip = fields.CharField(max_length=64, null=True)
    user_agent = fields.CharField(max_length=255, null=True)

    class Meta:
        table = "sessions"
