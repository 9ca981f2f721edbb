"""SQLite connections: tortoise's read client, and the one writer with group commit.

Everything that is written goes through ``Writer``: one connection, one task. It opens ``BEGIN IMMEDIATE`` (so that waiting
for a foreign lock obeys the busy timeout; a deferred transaction that upgrades fails at once), runs every operation that
is queued in a savepoint of its own, and commits them together: one fsync for all of them, and a failing operation takes no
other down. The database runs in WAL mode with ``synchronous=FULL``: journal segments are deleted on the strength of a
commit, and a grant that was answered must survive a power cut; group commit makes that affordable.

A statement costs one hop to the connection's thread; savepoints travel with the statement that follows them. The threads
are daemons, so that a forgotten connection cannot keep the process alive.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import aiosqlite
from tortoise.backends.base.client import ConnectionWrapper, NestedTransactionContext, TransactionContext
from tortoise.backends.sqlite.client import SqliteClient, SqliteTransactionContext, SqliteTransactionWrapper
from tortoise.exceptions import IntegrityError, OperationalError

from dwctl.store.failures import StoreUnavailable, StoreUnusable
from dwctl.store.transaction import Dialect, Row, Tx, like

T = TypeVar("T")

BUSY_MILLISECONDS = 2_000
"""How long a statement waits for a lock that another process holds."""

PRAGMAS: dict[str, Any] = {
    "busy_timeout": BUSY_MILLISECONDS,
    "journal_mode": "WAL",
    "synchronous": "FULL",
    "journal_size_limit": 64 * 1024 * 1024,
    "foreign_keys": "ON",
}

GROUP_OPERATIONS = 256
GROUP_SECONDS = 0.02
"""A group takes in what is queued until one of these bounds, then commits."""

_LONGEST_SEARCHED = 5_000
"""Characters: no name is longer, and SQLite bounds the length of patterns."""

_OUTAGES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_DAMAGES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def translated(error: sqlite3.Error, *, writing: bool = False) -> Exception:
    """The exception that callers of the store see. Where ``writing`` is meant, a file that can only be read is an outage."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _DAMAGES:
        return StoreUnusable(f"SQLite: {error}")
    if code in _OUTAGES or (writing and code == sqlite3.SQLITE_READONLY):
        return StoreUnavailable(f"SQLite: {error}")
    if isinstance(error, sqlite3.IntegrityError):
        return IntegrityError(error)
    return OperationalError(error)


def _raise(error: Exception) -> NoReturn:
    if isinstance(error, sqlite3.Error):
        raise translated(error, writing=True) from error
    if isinstance(error, ValueError) and str(error) in ("Connection closed", "no active connection"):
        raise StoreUnavailable("the store is closed") from error
    raise error


async def _in_thread(connection: aiosqlite.Connection, function: Callable[[], T]) -> T:
    """One hop to the connection's thread, whatever the function does there."""
    execute: Any = connection._execute
    try:
        result: T = await execute(function)
    except Exception as error:
        _raise(error)
    return result


class _Held(ConnectionWrapper[aiosqlite.Connection]):
    """The connection under tortoise's lock; an outage leaves it as StoreUnavailable."""

    async def __aenter__(self) -> aiosqlite.Connection:
        await self._lock.acquire()
        try:
            await self.ensure_connection()
            await self.client.ready()  # type: ignore[attr-defined]
        except BaseException as error:
            self._lock.release()
            if isinstance(error, sqlite3.Error):
                raise translated(error) from error
            raise
        return self.connection

    async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        self._lock.release()
        if isinstance(exc_val, sqlite3.Error) and isinstance(outage := translated(exc_val), StoreUnavailable):
            raise outage from exc_val


class Client(SqliteClient):
    """A tortoise client on one connection of its own."""

    async def create_connection(self, with_db: bool) -> None:
        if self._connection is None:
            connecting = aiosqlite.connect(self.filename, isolation_level=None, timeout=BUSY_MILLISECONDS / 1000)
            connecting._thread.daemon = True
            self._connection = await connecting
            self._connection._conn.row_factory = sqlite3.Row
            for pragma, value in self.pragmas.items():
                await self._connection.execute_fetchall(f"PRAGMA {pragma}={value}")
            await self._post_connect()

    async def close(self) -> None:
        connection = self._connection
        await super().close()
        if connection is not None:
            # It has answered its last call and is about to end.
            connection._thread.join(1)

    async def ready(self) -> None:
        """Nothing has to run before a statement."""

    def acquire_connection(self) -> ConnectionWrapper[Any]:
        return _Held(self._lock, self)

    def _in_transaction(self) -> TransactionContext:
        return SqliteTransactionContext(TransactionClient(self), self._lock)


class TransactionClient(SqliteTransactionWrapper):
    """A tortoise client inside a transaction."""

    async def ready(self) -> None:
        """Nothing has to run before a statement."""

    def acquire_connection(self) -> ConnectionWrapper[Any]:
        return _Held(self._lock, self)

    def _in_transaction(self) -> TransactionContext:
        return NestedTransactionContext(TransactionClient(self))

    async def begin(self) -> None:
        await self._connection.execute_fetchall("BEGIN IMMEDIATE")

    async def execute_script(self, query: str) -> None:
        """Statement by statement: ``sqlite3.executescript`` would commit the transaction first."""
        statement = ""
        for piece in query.split(";"):
            statement += piece + ";"
            if sqlite3.complete_statement(statement):
                if statement.strip(" \n\t;"):
                    await self.execute_query(statement)
                statement = ""


client_class = Client


def connect(path: Path, **pragmas: Any) -> Client:
    """A client that tortoise's registry does not know (it connects at first use)."""
    return Client(str(path), connection_name="default", **PRAGMAS, **pragmas)


class _OperationClient(TransactionClient):
    """The tortoise side of one operation of the writer."""

    def __init__(self, client: Client, operation: "_Operation") -> None:
        super().__init__(client)
        self._operation = operation

    async def ready(self) -> None:
        await self._operation.open_savepoint()


class _Operation(Tx):
    """One operation in its savepoint, which is opened by its first statement."""

    dialect: Dialect = "sqlite"

    def __init__(self, client: Client, statements: list[str]) -> None:
        assert client._connection is not None
        self._connection = client._connection
        self._statements = statements
        self.opened = False
        self.over = False
        self.orm = _OperationClient(client, self)

    def _prelude(self) -> list[str]:
        if self.over:
            raise RuntimeError("this transaction is over")
        if self.opened:
            return []
        self.opened = True
        prelude = [*self._statements, "SAVEPOINT operation"]
        self._statements.clear()
        return prelude

    async def _call(self, function: Callable[[sqlite3.Connection], T]) -> T:
        prelude = self._prelude()

        def run() -> T:
            raw = self._connection._conn
            for statement in prelude:
                raw.execute(statement)
            return function(raw)

        return await _in_thread(self._connection, run)

    async def open_savepoint(self) -> None:
        if self.over or not self.opened:
            await self._call(lambda raw: None)

    async def execute(self, sql: str, args: Sequence[Any] = ()) -> int:
        return await self._call(lambda raw: raw.execute(sql, args).rowcount)

    async def execute_many(self, *statements: tuple[str, Sequence[Sequence[Any]]]) -> None:
        def run(raw: sqlite3.Connection) -> None:
            for sql, rows in statements:
                raw.executemany(sql, rows)

        await self._call(run)

    async def fetch(self, sql: str, args: Sequence[Any] = ()) -> list[Row]:
        return await self._call(lambda raw: [dict(row) for row in raw.execute(sql, args).fetchall()])


_Queued = tuple[Callable[[Tx], Awaitable[Any]], "asyncio.Future[Any]"]


class Writer:
    """The only connection that writes; operations are queued and committed in groups."""

    def __init__(self, path: Path) -> None:
        # What a savepoint could need to undo would else be written to a file, page by page.
        self._client = connect(path, temp_store="MEMORY")
        self._queue: deque[_Queued] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._client.create_connection(with_db=True)
        self._task = asyncio.create_task(self._run(), name="store writer")

    async def write(self, operation: Callable[[Tx], Awaitable[T]]) -> T:
        """Run one operation and wait for its commit. A caller that is cancelled before its turn is skipped."""
        if asyncio.current_task() is self._task:
            raise RuntimeError("Store.write inside of Store.write would wait for itself")
        if self._closing or self._task is None:
            raise StoreUnavailable("the store is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append((operation, future))
        self._wake.set()
        return await future

    async def close(self, timeout: float = 10.0) -> None:
        """Finish what is queued (for at most ``timeout`` seconds) and end the thread."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=timeout)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._fail_queued(StoreUnavailable("the store is closed"))
        await self._client.close()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._group()
            if self._closing:
                return

    def _fail_queued(self, error: Exception) -> None:
        while self._queue:
            _deliver_error(self._queue.popleft()[1], error)

    async def _group(self) -> None:
        try:
            await self._raw(_begin)
        except Exception as error:
            # Whoever waited behind the lock fails with it: each would only wait as long again.
            self._fail_queued(error)
            return
        done: list[tuple[asyncio.Future[Any], Any]] = []
        try:
            if not await self._operations(done):
                raise StoreUnavailable("SQLite undid the transaction")
            await self._raw(_commit)
        except BaseException as error:
            outage = error if isinstance(error, StoreUnavailable) else StoreUnavailable(f"the transaction was not committed: {error}")
            for future, _ in done:
                _deliver_error(future, outage)
            with contextlib.suppress(Exception):
                await asyncio.shield(self._raw(_rollback))
            if not isinstance(error, Exception):
                raise
            return
        for future, result in done:
            if not future.done():
                future.set_result(result)

    async def _operations(self, done: list[tuple["asyncio.Future[Any]", Any]]) -> bool:
        """Run what is queued; False if SQLite itself undid the transaction (a full disk does that)."""
        until = time.monotonic() + GROUP_SECONDS
        statements: list[str] = []
        while self._queue and len(done) < GROUP_OPERATIONS and time.monotonic() < until:
            function, future = self._queue.popleft()
            if future.done():
                continue
            operation = _Operation(self._client, statements)
            try:
                result = await function(operation)
            except BaseException as error:
                operation.over = True
                _deliver_error(future, error)
                alive = not operation.opened or await self._raw(_undo)
                if isinstance(error, asyncio.CancelledError) and self._task is not None and self._task.cancelling():
                    raise
                if not alive:
                    return False
            else:
                operation.over = True
                if operation.opened:
                    statements.append("RELEASE operation")
                done.append((future, result))
        return True

    async def _raw(self, function: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._client._connection
        if connection is None:
            raise StoreUnavailable("the store is closed")
        return await _in_thread(connection, lambda: function(connection._conn))


def _begin(raw: sqlite3.Connection) -> None:
    _rollback(raw)
    raw.execute("BEGIN IMMEDIATE")


def _commit(raw: sqlite3.Connection) -> None:
    try:
        raw.execute("COMMIT")
    except sqlite3.Error:
        _rollback(raw)
        raise


def _rollback(raw: sqlite3.Connection) -> None:
    if raw.in_transaction:
        raw.execute("ROLLBACK")


def _undo(raw: sqlite3.Connection) -> bool:
    if not raw.in_transaction:
        return False
    raw.execute("ROLLBACK TO operation")
    raw.execute("RELEASE operation")
    return True


def _deliver_error(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if future.done():
        return
    if isinstance(error, asyncio.CancelledError):
        future.cancel()
    else:
        future.set_exception(error)


def _glob(text: str) -> str:
    """A pattern of GLOB for what contains a text, in whatever case."""
    cases = ({character, character.lower(), character.upper()} for character in text)
    sets = ("".join(sorted(case for case in of_one if len(case) == 1)) for of_one in cases)
    return "*" + "".join(f"[{found}]" if len(found) > 1 or found in "*?[" else found for found in sets) + "*"


class SqliteDatabase:
    """The SQLite side of the store: the writer, tortoise's read client, and two connections for reports."""

    dialect: Dialect = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine: dict[str, Any] = {
            "engine": __name__,
            "credentials": {"file_path": str(path), **PRAGMAS, "query_only": 1},
        }
        self._writer = Writer(path)
        self._reports: asyncio.Queue[Client] = asyncio.Queue()
        self._report_clients = [connect(path, query_only=1) for _ in range(2)]
        for client in self._report_clients:
            self._reports.put_nowait(client)

    async def start(self) -> None:
        await self._writer.start()

    async def write(self, operation: Callable[[Tx], Awaitable[T]], *, alone: bool) -> T:
        """Run an operation, which is always alone here: there is one writer."""
        return await self._writer.write(operation)

    async def fetch(self, client: Any, sql: str, args: Sequence[Any]) -> list[Row]:
        rows: list[Row] = await client.execute_query_dict(sql, args)
        return rows

    def containing(self, text: str, columns: Sequence[str]) -> tuple[str, list[str]]:
        """A condition that one of the columns contains a text, in whatever case, and its arguments.

        SQLite knows the case of ASCII alone. GLOB has sets of characters, by which other letters are found, and is slow, so that
        LIKE chooses what it looks at.
        """
        text = text[:_LONGEST_SEARCHED]
        if text.isascii():
            alternatives, args = [f"{column} LIKE ? ESCAPE '!'" for column in columns], [like(text)]
        else:
            alternatives = [f"({column} LIKE ? ESCAPE '!' AND {column} GLOB ?)" for column in columns]
            args = ["%" + "".join(like(character)[1:-1] if character.isascii() else "_" for character in text) + "%", _glob(text)]
        return f"({' OR '.join(alternatives)})", args * len(columns)

    async def fetch_report(self, sql: str, args: Sequence[Any]) -> list[Row]:
        client = await self._reports.get()
        try:
            return await self.fetch(client, sql, args)
        except asyncio.CancelledError:
            if client._connection is not None:
                await client._connection.interrupt()
            raise
        finally:
            self._reports.put_nowait(client)

    async def close(self) -> None:
        await self._writer.close()
        for client in self._report_clients:
            await client.close()
