"""Bounds of what callers write: names, descriptions, rates and counts. A refusal names the field, and what would do."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from dwctl.config.schema import MAX_RATE, MIN_RATE
from dwctl.errors import bad_request

MAX_INT = 2**31 - 1
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters, without the line feed and the tab."""


def check_text(text: str, field: str, length: int = 255) -> str:
    """A trimmed, printable text of 1 to ``length`` characters. Raises GatewayError 400."""
    value = text.strip()
    if not value:
        raise bad_request(f"{field} must not be empty", param=field)
    if not value.isprintable():
        raise bad_request(f"{field} must be one line of printable characters", param=field)
    return _at_most(value, field, length)


def optional_text(text: str | None, field: str, length: int = 255) -> str | None:
    """As ``check_text``; None and blank text are None."""
    return check_text(text, field, length) if text is not None and text.strip() else None


def check_description(text: str | None, length: int = 2048, *, field: str = "description") -> str | None:
    """A trimmed text of at most ``length`` characters, of any number of lines, which end as ``\\n``; None and blank text are None.
    Raises GatewayError 400."""
    value = "\n".join(re.split(r"\r\n?", text or "")).strip()
    if _CONTROL.search(value):
        raise bad_request(f"{field} must not have control characters other than line ends and tabs", param=field)
    return _at_most(value, field, length) or None


def _at_most(value: str, field: str, length: int) -> str:
    if len(value) > length:
        raise bad_request(f"{field} must be at most {length} characters, and has {len(value)}", param=field)
    return value


def check_rates(columns: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise GatewayError 400 for the first of the columns that is a rate out of bounds; None is no limit."""
    for name in names:
        value = columns.get(name)
        if value is not None and not MIN_RATE <= value <= MAX_RATE:
            raise bad_request(f"{name} must be a number from {MIN_RATE:f} to {MAX_RATE:.0f}, or null for no limit", param=name)


def check_counts(columns: Mapping[str, Any], names: Iterable[str]) -> None:
    """As ``check_rates``, of whole numbers from 1."""
    for name in names:
        value = columns.get(name)
        if value is not None and not 1 <= value <= MAX_INT:
            raise bad_request(f"{name} must be a whole number from 1 to {MAX_INT}, or null for no limit", param=name)


def refuse_unsupported(body: msgspec.Struct, kind: type[msgspec.Struct]) -> None:
    """Raise GatewayError 400 for the first field of ``kind``, one of the body's bases, that asks for something.

    Such fields are settings of Doubleword's control layer that this server does not have, each with its default there. Its clients may
    send them as they are by default; so may they null and an empty list.
    """
    for field in msgspec.structs.fields(kind):
        if getattr(body, field.name) not in (None, [], field.default):
            raise bad_request(f"{field.name} is not supported by this server", code="not_supported", param=field.name)
