"""Which fields of a model a caller may see: a table of rights and the fields that need them.

A field that may not be seen is left out of the answer, so that it cannot be told from one that is not set.
"""

import msgspec


class Rights(msgspec.Struct, frozen=True):
    """What the caller may read of every model. Each is one permission of the matrix, taken once per request."""

    rate_limits: bool = False
    """ModelRateLimits ReadAll."""
    users: bool = False
    """Users ReadAll."""
    models: bool = False
    """Models ReadAll."""
    groups: bool = False
    """Groups ReadAll."""
    analytics: bool = False
    """Analytics ReadAll."""


FIELDS_BY_RIGHT: dict[str, frozenset[str]] = {
    "rate_limits": frozenset({"requests_per_second", "burst_size", "capacity", "batch_capacity", "throughput"}),
    "users": frozenset({"created_by"}),
    "models": frozenset({"endpoint", "bodies", "tokenizer", "always_stream_usage"}),
    "groups": frozenset({"groups"}),
    "analytics": frozenset({"metrics"}),
}


def hidden_fields(rights: Rights) -> frozenset[str]:
    """Names of the fields that the caller may not see."""
    return frozenset().union(*(fields for right, fields in FIELDS_BY_RIGHT.items() if not getattr(rights, right)))
