"""Lists in pages, as Doubleword's control layer sends them."""

from collections.abc import Collection
from typing import Generic, TypeVar

import msgspec

from dwctl.errors import bad_request

T = TypeVar("T")


class Paginated(msgspec.Struct, Generic[T]):
    """``data`` are at most ``limit`` of ``total_count`` rows, after the first ``skip``."""

    data: list[T]
    total_count: int
    skip: int
    limit: int


def included(text: str, known: Collection[str]) -> frozenset[str]:
    """The parts of ``include``. Raises GatewayError 400 for an unknown one, so that a slip of the pen does not pass for an empty answer."""
    parts = frozenset(part.strip() for part in text.split(",") if part.strip())
    for part in sorted(parts.difference(known)):
        raise bad_request(f"include: unknown {part!r}; known: {', '.join(sorted(known))}", param="include")
    return parts
