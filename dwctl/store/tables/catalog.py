"""What can be called: endpoints (providers), models under their aliases, and their prices."""

from typing import Any

from tortoise import fields

from dwctl.store.tables.table import Table


class Endpoint(Table):
    id = fields.UUIDField(primary_key=True)
    name = fields.CharField(max_length=255)
    live_name = fields.CharField(max_length=255, null=True, unique=True)
    description = fields.TextField(null=True)
    url = fields.TextField()
    """Base URL, as the provider documents it, e.g. ``https://api.openai.com/v1``."""
    dialect: Any = fields.CharField(max_length=32, default="openai-chat", db_default="openai-chat")
    """What the provider speaks, one of ``dialects.names.DIALECTS``."""
    sealed_credential = fields.BinaryField(null=True)
    auth_header_name = fields.CharField(max_length=128, default="Authorization")
    auth_header_prefix = fields.CharField(max_length=64, default="Bearer ")
    model_filter: Any = fields.JSONField(null=True)
    """List of provider model names to import; null: all."""
    forward_headers: Any = fields.JSONField(default=list)
    """Names of further client headers that this provider may see."""
    max_concurrency = fields.IntField(null=True)
    connect_timeout = fields.FloatField(null=True)
    first_byte_timeout = fields.FloatField(null=True)
    idle_timeout = fields.FloatField(null=True)
    total_timeout = fields.FloatField(null=True)
    """Seconds; null: as the configuration says."""
    created_by = fields.UUIDField(null=True)
    created_at = fields.BigIntField()
    updated_at = fields.BigIntField()
    revision = fields.IntField(default=1)
    deleted_at = fields.BigIntField(null=True)

    class Meta:
        table = "inference_endpoints"


class DeployedModel(Table):
    id = fields.UUIDField(primary_key=True)
    alias = fields.CharField(max_length=255)
    live_alias = fields.CharField(max_length=255, null=True, unique=True)
    model_name = fields.CharField(max_length=255)
    """The provider's name for it."""
    endpoint_id = fields.UUIDField(db_index=True)
    display_name = fields.CharField(max_length=255, null=True)
    description = fields.TextField(null=True)
    model_type = fields.CharField(max_length=16, default="CHAT")
    """CHAT | EMBEDDINGS | RERANKER."""
    capabilities: Any = fields.JSONField(default=list)
    status = fields.CharField(max_length=16, default="active")
    """active | inactive (vanished from the provider's list)."""
    requests_per_second = fields.FloatField(null=True)
    burst_size = fields.IntField(null=True)
    capacity = fields.IntField(null=True)
    """Concurrent realtime requests."""
    batch_capacity = fields.IntField(null=True)
    throughput = fields.FloatField(null=True)
    max_output_tokens = fields.IntField(null=True)
    tokenizer = fields.CharField(max_length=64, null=True)
    """cl100k_base | o200k_base; null: o200k_base."""
    bodies = fields.CharField(max_length=8, null=True)
    always_stream_usage = fields.BooleanField(default=False)
    metadata: Any = fields.JSONField(default=dict)
    created_by = fields.UUIDField(null=True)
    created_at = fields.BigIntField()
    updated_at = fields.BigIntField()
    revision = fields.IntField(default=1)
    deleted_at = fields.BigIntField(null=True)

    class Meta:
        table = "deployed_models"


class ModelGroup(Table):
    """Members of the group may call the model."""

    id = fields.BigIntField(primary_key=True, generated=True)
    model_id = fields.UUIDField()
    group_id = fields.UUIDField(db_index=True)
    granted_by = fields.UUIDField(null=True)

    class Meta:
        table = "deployment_groups"
        unique_together = (("model_id", "group_id"),)


class Tariff(Table):
    """A price with its validity. Never changed in place: a new price closes the old row, so that its id is the price version."""

    id = fields.UUIDField(primary_key=True)
    model_id = fields.UUIDField(db_index=True)
    name = fields.CharField(max_length=255)
    input_pico = fields.BigIntField(default=0)
    output_pico = fields.BigIntField(default=0)
    """Pico-credits per token."""
    cache_read_pico = fields.BigIntField(null=True)
    cache_write_5m_pico = fields.BigIntField(null=True)
    cache_write_1h_pico = fields.BigIntField(null=True)
    """Null: a cached token costs the input price."""
    per_request_pico = fields.BigIntField(default=0)
    """Pico-credits per request, for paths without tokens."""
    api_key_purpose = fields.CharField(max_length=16, null=True)
    completion_window = fields.CharField(max_length=16, null=True)
    valid_from = fields.BigIntField()
    valid_until = fields.BigIntField(null=True)

    class Meta:
        table = "model_tariffs"
