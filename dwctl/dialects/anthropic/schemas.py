"""JSON schemas as Anthropic wants them where it guarantees that an answer fits (API reference: structured outputs).

Objects have to say that they have no further members, and most constraints on values are refused. These go into the
description, where the model reads them.
"""

from typing import Any

_KEPT = {
    "type", "properties", "required", "additionalProperties", "items", "anyOf", "allOf", "$ref", "$defs", "definitions", "enum", "const",
    "title", "description",
}  # fmt: skip
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
_SILENT = {"$schema", "$id", "$comment", "default", "examples", "strict"}
"""What says nothing about the values."""


def closed(schema: Any) -> Any:
    """The schema in that form; every answer that fits it fits the original one, but for constraints on values."""
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    told: list[str] = []
    for name, value in schema.items():
        if name in ("properties", "$defs", "definitions") and isinstance(value, dict):
            kept[name] = {key: closed(inner) for key, inner in value.items()}
        elif name in ("anyOf", "oneOf", "allOf") and isinstance(value, list):
            kept["allOf" if name == "allOf" else "anyOf"] = [closed(inner) for inner in value]
        elif name == "items":
            kept[name] = closed(value)
        elif name in _KEPT or (name == "format" and str(value) in _FORMATS) or (name == "minItems" and value in (0, 1)):
            kept[name] = value
        elif name not in _SILENT:
            told.append(f"{name}: {value}")
    kind = kept.get("type")
    if kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in kept:
        kept["additionalProperties"] = False
    if told:
        kept["description"] = "\n\n".join(part for part in (kept.get("description"), f"{{{', '.join(told)}}}") if part)
    return kept
