"""The store: one object for whichever database holds the appliance's rows.

Reads through tortoise (``await User.get_or_none(...)``) use the default connection, which cannot write. Tortoise keeps one
registry a process: while several stores are open, those reads go to the one that was opened first (name another with
``.using_db(store.orm)``).
"""

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import structlog
from tortoise import context as tortoise_context
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.backends.base.executor import EXECUTOR_CACHE
from tortoise.context import TortoiseContext

from dwctl.errors import ConfigurationError
from dwctl.store.addresses import check_addresses
from dwctl.store.failures import StoreUnavailable, StoreUnusable
from dwctl.store.migrate import MODELS, migrate_postgresql, migrate_sqlite
from dwctl.store.postgresql import PostgresDatabase
from dwctl.store.sqlite import SqliteDatabase
from dwctl.store.transaction import Dialect, Row, Tx

T = TypeVar("T")

DATABASE_FILE = "dwctl.db"

_NOT_OURS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR})

_contexts: list[TortoiseContext] = []

log = structlog.get_logger(__name__)


def database_path(url: str | None, data_dir: Path) -> Path | None:
    """The SQLite file that a database URL means; None if it means PostgreSQL. Raises ConfigurationError."""
    if not url:
        return data_dir / DATABASE_FILE
    scheme = url.partition(":")[0]
    if scheme in ("postgres", "postgresql"):
        return None
    if scheme != "sqlite":
        raise ConfigurationError("database.url must begin with sqlite:, postgres: or postgresql:")
    parts = urlsplit(url)
    if parts.query or parts.fragment or not (path := unquote(parts.netloc + parts.path)):
        raise ConfigurationError("database.url of SQLite is sqlite:// and a path, e.g. sqlite:///var/lib/dwctl/dwctl.db")
    return Path(path)


def database_name(url: str | None, data_dir: Path) -> str:
    """Where the database of a URL is, for people: a path, or PostgreSQL's address without name and password."""
    path = database_path(url, data_dir)
    if path is not None:
        return str(path.absolute())
    parts = urlsplit(url or "")
    return f"PostgreSQL at {parts.netloc.rpartition('@')[2]}{parts.path}"


class Store:
    """Reads and writes of one database. Every method raises StoreUnavailable during an outage, and works again after it."""

    def __init__(self, database: SqliteDatabase | PostgresDatabase, data_dir: Path) -> None:
        self.dialect: Dialect = database.dialect
        self.data_dir = data_dir
        self.database = database
        self._context = TortoiseContext()
        self._closed = False

    @classmethod
    async def open(cls, url: str | None, data_dir: Path, *, direct_url: str | None = None, wait: float = 0.0, copy: bool = True) -> "Store":
        """Connect, and migrate if migrations are pending (on SQLite after a copy of the file, unless ``copy`` is false).

        ``url`` None means SQLite in ``data_dir``. With ``direct_url``, the PostgreSQL server's own address, ``url`` may be that
        of a pooler in transaction mode. A database that is down is tried for ``wait`` seconds, which the log says. Raises
        StoreUnavailable, SchemaTooNew, ConfigurationError.
        """
        path = database_path(url, data_dir)
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        until = time.monotonic() + wait
        waiting = False
        while True:
            try:
                return await cls._open(url, direct_url, path, data_dir, copy)
            except StoreUnusable:
                raise
            except StoreUnavailable as error:
                if time.monotonic() >= until:
                    raise
                if not waiting:
                    log.warning("waiting_for_database", seconds=wait, error=str(error))
                waiting = True
            await asyncio.sleep(0.25)

    @classmethod
    async def _open(cls, url: str | None, direct_url: str | None, path: Path | None, data_dir: Path, copy: bool) -> "Store":
        database: SqliteDatabase | PostgresDatabase
        if path is None:
            assert url is not None
            await check_addresses(url, direct_url)
            await migrate_postgresql(direct_url or url)
            database = PostgresDatabase(url, direct_url)
        else:
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                await migrate_sqlite(path, copy=copy)
            except OSError as error:
                kind = StoreUnusable if error.errno in _NOT_OURS else StoreUnavailable
                raise kind(f"SQLite: {path}: {error.strerror}") from error
            database = SqliteDatabase(path)
        store = cls(database, data_dir)
        try:
            await store._start()
        except BaseException:
            await store.close()
            raise
        return store

    async def _start(self) -> None:
        # Statements are cached by connection name, though they differ between databases.
        EXECUTOR_CACHE.clear()
        with self._context:
            await self._context.init(
                {"connections": {"default": self.database.engine}, "apps": MODELS},
                _enable_global_fallback=not _contexts,
            )
        _contexts.append(self._context)
        await self.database.start()

    @property
    def orm(self) -> BaseDBAsyncClient:
        """The read connection, for ``Model.filter(...).using_db(store.orm)``."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return self._context.connections.get("default")

    async def write(self, operation: Callable[[Tx], Awaitable[T]], *, alone: bool = True) -> T:
        """Run ``operation`` in a transaction; its result, once committed.

        Operations run one after the other, on all nodes: what one has read is so until its commit. With ``alone=False`` it waits for
        no other, and none for it (on PostgreSQL): for what is frequent and decides nothing by rows that others change.

        What it raises undoes it (and nothing else) and is raised here. It may be run more than once (PostgreSQL), must
        not write to the store otherwise, and should take less than 20 ms, since others wait for it. If
        StoreUnavailable is raised after the database answered COMMIT into a broken connection, it did happen.
        """
        return await self.database.write(operation, alone=alone)

    async def fetch(self, sql: str, args: Sequence[object] = ()) -> list[Row]:
        """The rows of a quick query. Placeholders are ``?``."""
        return await self.database.fetch(self.orm, sql, args)

    async def fetch_report(self, sql: str, args: Sequence[object] = ()) -> list[Row]:
        """The rows of a query that may take long: it runs where it keeps no other reader waiting."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return await self.database.fetch_report(sql, args)

    def containing(self, text: str, *columns: str) -> tuple[str, list[str]]:
        """A condition that one of the columns contains a text, in whatever case, and its arguments."""
        return self.database.containing(text, columns)

    async def close(self) -> None:
        """Finish the writes that were begun and end every connection and thread."""
        self._closed = True
        try:
            await self.database.close()
        finally:
            await self._context.close_connections()
            if self._context in _contexts:
                _contexts.remove(self._context)
                if _contexts and tortoise_context._global_context is None:
                    tortoise_context.set_global_context(_contexts[0])
