"""What an operation of ``Store.write`` works with, on either database."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from tortoise.backends.base.client import BaseDBAsyncClient

Dialect = Literal["sqlite", "postgresql"]
Row = dict[str, Any]
"""A row by column name. UUIDs are text and sums of integers are integers on either database; booleans are 0 and 1 on SQLite."""


def like(text: str) -> str:
    """A pattern of LIKE (with ``ESCAPE '!'``) for what contains a text."""
    escaped = text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return f"%{escaped}%"


class Tx(Protocol):
    """One operation's part of a transaction: committed if the operation returns, undone if it raises.

    Placeholders are always ``?``. A violated constraint raises ``tortoise.exceptions.IntegrityError``, wrong SQL
    ``tortoise.exceptions.OperationalError``, an outage ``StoreUnavailable``; an operation must let them through, since
    PostgreSQL takes no further statement after an error (``ON CONFLICT`` avoids the error). An operation may be run again
    after a deadlock or a serialisation failure, and must not call ``Store.write`` itself.
    """

    dialect: Dialect
    orm: BaseDBAsyncClient
    """For tortoise: ``Model.create(..., using_db=tx.orm)``, ``Model.filter(...).using_db(tx.orm)``."""

    async def execute(self, sql: str, args: Sequence[Any] = ()) -> int:
        """Run one statement; the number of rows that it touched."""
        ...

    async def execute_many(self, *statements: tuple[str, Sequence[Sequence[Any]]]) -> None:
        """Run statements, one after the other, each for all its rows of arguments."""
        ...

    async def fetch(self, sql: str, args: Sequence[Any] = ()) -> list[Row]:
        """The rows of a query or of a statement with RETURNING."""
        ...
