"""The appliance's own rows: audit, the change log that snapshots follow, and properties of the installation."""

from typing import Any

from tortoise import fields

from dwctl.store.tables.table import Table


class AuditRow(Table):
    """Who changed what, from where: written in the transaction of the act, without secrets."""

    seq = fields.BigIntField(primary_key=True, generated=True)
    at = fields.BigIntField(db_index=True)
    actor_id = fields.UUIDField(null=True)
    actor = fields.CharField(max_length=320)
    """E-mail of the actor, or ``system`` / ``cli``."""
    via = fields.CharField(max_length=16)
    """session | api_key | proxy_header | cli | system."""
    client_ip = fields.CharField(max_length=64, null=True)
    action = fields.CharField(max_length=64)
    """e.g. ``models.update``."""
    resource = fields.CharField(max_length=32)
    resource_id = fields.CharField(max_length=64, null=True)
    before: Any = fields.JSONField(null=True)
    after: Any = fields.JSONField(null=True)

    class Meta:
        table = "audit_log"


class Change(Table):
    """What a snapshot must follow, in commit order (``seq`` is the change version)."""

    seq = fields.BigIntField(primary_key=True, generated=True)
    area = fields.CharField(max_length=16)
    """catalog | key | user | balance."""
    entity_id = fields.CharField(max_length=36, null=True)
    at = fields.BigIntField()

    class Meta:
        table = "change_log"


class Property(Table):
    """Single values of the installation, e.g. the fingerprint of the sealing key."""

    name = fields.CharField(max_length=64, primary_key=True)
    value = fields.TextField()

    class Meta:
        table = "properties"
