"""JSON of others, of which anything may be missing or something else."""

from typing import Any

import msgspec


def decoded(text: bytes | str) -> dict[str, Any]:
    """The object that a text holds; an empty one if it holds none."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; none if it is no list."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
