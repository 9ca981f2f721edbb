"""Bringing the schema up to date: only when something is pending, under a lock, and on SQLite after a copy of the file.

All pending migrations run in one transaction together with the rows that record them, so that an interrupted start leaves
the old schema.
"""

import asyncio
import contextlib
import fcntl
import gc
import os
import pkgutil
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
from tortoise.context import TortoiseContext
from tortoise.exceptions import OperationalError
from tortoise.migrations.executor import MigrationExecutor
from tortoise.transactions import in_transaction

from dwctl.errors import ConfigurationError
from dwctl.store import migrations, postgresql, sqlite
from dwctl.store.failures import SchemaTooNew, StoreUnavailable

APP = "models"
MODELS = {APP: {"models": ["dwctl.store.tables"], "migrations": migrations.__name__, "default_connection": "default"}}

_LOCK_KEY = 0x6477_6374_6C
"""Of pg_advisory_lock: the letters dwctl."""
_LOCK_SECONDS = 60.0


def known() -> list[str]:
    """The names of all migrations of this program, in order."""
    return sorted(name for _, name, _ in pkgutil.iter_modules(migrations.__path__) if name[0] not in "_~")


def _pending(applied: list[str]) -> list[str]:
    names = known()
    newer = sorted(set(applied) - set(names))
    if newer:
        raise SchemaTooNew(
            f"the database has migrations that this version does not know ({', '.join(newer)}): it belongs to a newer dwctl. "
            "Start that version, or restore a backup made before the upgrade."
        )
    return [name for name in names if name not in applied]


async def _applied(client: sqlite.Client | postgresql.Client) -> list[str]:
    try:
        rows = await client.execute_query_dict(f"SELECT name FROM tortoise_migrations WHERE app = '{APP}'")
    except OperationalError:
        return []
    return [row["name"] for row in rows]


async def _run(engine: str, credentials: dict[str, object]) -> None:
    context = TortoiseContext()
    with context:
        await context.init({"connections": {"default": {"engine": engine, "credentials": credentials}}, "apps": MODELS})
        try:
            async with in_transaction("default") as transaction:
                executor = MigrationExecutor(transaction, MODELS)
                # The executor's first look would fail without the table, and take the transaction with it on PostgreSQL.
                await executor.recorder.ensure_schema(executor._schema_editor(atomic=False))
                with _tidy():
                    await executor.migrate()
        finally:
            await context.close_connections()


@contextlib.contextmanager
def _tidy() -> Iterator[None]:
    """Free at once what each step leaves: classes for all tables, which only the collector finds, and those that the migrations
    themselves hold. Without it a first start needs 20 MB that no later one does, and keeps them."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.collect()  # so that the frozen do not count: it waits until a quarter as many have come
    gc.set_threshold(500, 2, 2)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        for name in known():
            sys.modules.pop(f"{migrations.__name__}.{name}", None)
            vars(migrations).pop(name, None)
        gc.unfreeze()
        gc.collect()


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What a database refuses since it is another's becomes a ConfigurationError."""
    try:
        yield
    except (OperationalError, asyncpg.PostgresError) as error:
        said = error.args[0] if isinstance(error, OperationalError) else error
        if isinstance(said, asyncpg.InsufficientPrivilegeError | asyncpg.InvalidSchemaNameError):
            remedy = (
                "make it the owner of the database, or GRANT USAGE, CREATE ON SCHEMA public to it"
                if "schema" in str(said)
                else "name the role that owns the tables, or give them to this one (REASSIGN OWNED)"
            )
            raise ConfigurationError(f"the role that database.url names may not do what is needed ({said}): {remedy}") from error
        if "already exists" in str(said):
            raise ConfigurationError(f"the database holds tables that are not dwctl's ({said}): give dwctl one of its own") from error
        raise


async def migrate_sqlite(path: Path, *, copy: bool) -> None:
    """Create or migrate the database file. Raises SchemaTooNew, ConfigurationError (no room for the copy, or a file that is not
    dwctl's), StoreUnavailable."""
    _create_private(path)
    client = sqlite.connect(path)
    try:
        if not _pending(await _applied(client)):
            return
        async with _file_lock(path.with_name(path.name + ".migrating")):
            applied = await _applied(client)
            pending = _pending(applied)
            if not pending:
                return
            if copy and applied:
                await asyncio.to_thread(_copy, path, path.with_name(f"{path.name}.before-{pending[0]}"))
            with _refusals():
                await _run(sqlite.__name__, {"file_path": str(path), **sqlite.PRAGMAS})
    except sqlite3.Error as error:
        raise sqlite.translated(error) from error
    finally:
        await client.close()


async def migrate_postgresql(dsn: str) -> None:
    """Migrate the database of the URL, which must be the server's own (``addresses``). Raises SchemaTooNew, StoreUnavailable,
    ConfigurationError (a role that may not, or a database that is not dwctl's)."""
    client = postgresql.connect(dsn, size=1, seconds=_LOCK_SECONDS)
    try:
        if not _pending(await _applied(client)):
            return
        with _refusals():
            async with client.acquire_connection() as connection:
                await connection.execute("SELECT pg_advisory_lock($1)", _LOCK_KEY)
                try:
                    table = await connection.fetchval("SELECT to_regclass('tortoise_migrations')")
                    rows = await connection.fetch("SELECT name FROM tortoise_migrations WHERE app = $1", APP) if table else []
                    if _pending([row["name"] for row in rows]):
                        await _run(postgresql.__name__, {"dsn": dsn, "read_only": False, "size": 1, "seconds": 600.0})
                finally:
                    await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK_KEY)
    finally:
        await client.close()


def _create_private(path: Path) -> None:
    """SQLite gives its side files the mode of the database file."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


@contextlib.asynccontextmanager
async def _file_lock(path: Path) -> AsyncIterator[None]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            async with asyncio.timeout(_LOCK_SECONDS):
                while not _try_lock(descriptor):  # noqa: ASYNC110 (another process tells nobody)
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise StoreUnavailable(f"another process has been migrating {path} for {_LOCK_SECONDS:.0f} s") from error
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _copy(path: Path, target: Path) -> None:
    size = path.stat().st_size
    free = shutil.disk_usage(path.parent).free
    if free < size + size // 10:
        raise ConfigurationError(
            f"the schema must be migrated, and {path.parent} has no room for a copy of {path.name} first "
            f"({size} bytes, {free} free). Make room, or start with --no-copy if you have a backup."
        )
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    _create_private(partial)
    with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(partial)) as copy:
        source.backup(copy)
    os.replace(partial, target)
