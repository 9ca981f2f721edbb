"""Finding and changing single rows: ids as callers write them, and updates that name the revision that was read."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from tortoise.exceptions import IntegrityError

from dwctl import clock
from dwctl.errors import GatewayError, conflict
from dwctl.operations.bounds import refuse_unsupported
from dwctl.store import Tx


def canonical(id_text: str) -> str | None:
    """A UUID in the form in which ids are compared everywhere, or None for a text that is none."""
    try:
        return str(UUID(id_text))
    except ValueError:
        return None


def among(column: str, ids: Sequence[str]) -> str:
    """The condition that a column has one of the ids, with a place for each."""
    return f"{column} IN ({', '.join('?' * len(ids))})" if ids else "1 = 0"


@contextlib.contextmanager
def about(name: str, *, of: int) -> Iterator[None]:
    """Where an act has several rows (``of``), a refusal says which of them it is about."""
    try:
        yield
    except GatewayError as error:
        if of > 1:
            error.message = f"{name}: {error.message}"
            error.args = (error.message,)
        raise


def stale() -> GatewayError:
    """412: somebody else changed it in between."""
    return GatewayError(
        412,
        "invalid_request_error",
        "stale_revision",
        "It was changed by somebody else in the meantime: read it again, then repeat the change",
    )


def changes_of(body: msgspec.Struct, *, null_keeps: Iterable[str], unsupported: type[msgspec.Struct] | None = None) -> dict[str, Any]:
    """The columns that a PATCH body changes: fields that were sent, without those that null leaves as they are. Those are texts, which an
    empty one clears, and what cannot be without a value. Fields of the base ``unsupported`` are none of them: GatewayError 400 if they
    ask for something."""
    keeps = frozenset(null_keeps)
    fields = msgspec.structs.asdict(body)
    if unsupported is not None:
        refuse_unsupported(body, unsupported)
        fields = {name: value for name, value in fields.items() if name not in unsupported.__struct_fields__}
    return {name: value for name, value in fields.items() if value is not UNSET and not (value is None and name in keeps)}


def check_revision(row: Any, revision: int | None) -> None:
    """Raise GatewayError 412 if the row is not the one that the caller saw; None: they did not say."""
    if revision is not None and revision != row.revision:
        raise stale()


async def change_row(tx: Tx, row: Any, changes: dict[str, Any], *, revision: int | None = None) -> dict[str, tuple[Any, Any]]:
    """Write what differs and count the revision up; ``revision`` is what the caller saw, if it said so.

    Returns field -> (before, after) of what differed, empty when nothing did; ``row`` then shows the new values.
    Raises GatewayError 412 when the row has moved on, 409 when a unique value is taken.
    """
    check_revision(row, revision)
    changed = {name: value for name, value in changes.items() if getattr(row, name) != value}
    if not changed:
        return {}
    now = clock.now_us()
    try:
        count = (
            await type(row)
            .filter(id=row.id, revision=row.revision)
            .using_db(tx.orm)
            .update(**changed, revision=row.revision + 1, updated_at=now)
        )
    except IntegrityError as error:
        raise conflict("The name is already in use") from error
    if count == 0:
        raise stale()
    difference = {name: (getattr(row, name), value) for name, value in changed.items()}
    for name, value in changed.items():
        setattr(row, name, value)
    row.revision += 1
    row.updated_at = now
    return difference


async def count_up(tx: Tx, row: Any) -> None:
    """Count the revision up for a change that is kept beside the row, so that whoever saw the row before it is told.
    Raises GatewayError 412 when the row has moved on."""
    now = clock.now_us()
    if not await type(row).filter(id=row.id, revision=row.revision).using_db(tx.orm).update(revision=row.revision + 1, updated_at=now):
        raise stale()
    row.revision += 1
    row.updated_at = now
