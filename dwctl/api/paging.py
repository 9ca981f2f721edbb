"""Lists in pages, as Doubleword's control layer sends them."""

from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Paginated(msgspec.Struct, Generic[T]):
    """``data`` are at most ``limit`` of ``total_count`` rows, after the first ``skip``."""

    data: list[T]
    total_count: int
    skip: int
    limit: int


def csv(text: str) -> frozenset[str]:
    """The parts of a list separated by commas."""
    return frozenset(part.strip() for part in text.split(",") if part.strip())
