"""Bodies of requests on PostgreSQL. On SQLite they are in files of their own, a day each, and this table stays empty."""

from tortoise import fields

from dwctl.store.tables.table import Table


class StoredBody(Table):
    """What was said, compressed (zlib), apart from the request's row and for a shorter time."""

    request_id = fields.UUIDField(primary_key=True)
    at = fields.BigIntField(db_index=True)
    block = fields.UUIDField(null=True)
    """The request whose row holds the content of this one too; none if the row holds it itself."""
    content = fields.BinaryField(null=True)
    """Ids, requests and responses (each bytes or nothing) of one or more requests, as MessagePack, compressed together."""
    truncated = fields.BooleanField(default=False)

    class Meta:
        table = "request_bodies"
