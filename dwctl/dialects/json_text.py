"""JSON of others, who may say what they like: lists of anything, and text that is not quite Unicode."""

import json
from typing import Any

import msgspec


def encode(value: Any) -> bytes:
    """JSON text; half of a surrogate pair, which a provider may send where it cuts an emoji in two, is escaped again."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def objects(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """What of the list ``name`` are objects; none if it is no list."""
    found = value.get(name)
    return [inner for inner in found if isinstance(inner, dict)] if isinstance(found, list) else []
