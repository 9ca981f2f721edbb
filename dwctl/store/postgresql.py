"""PostgreSQL connections: pools for reading, for reports and for writing, all of asyncpg.

A write outside of ``Store.write`` fails here as it does on SQLite: reading pools are ``default_transaction_read_only``. Operations
that run alone have one connection a node and, before anything else, take a lock that all nodes share: those that wait keep no
connection from the others. Locks are taken in this order: that one, rows, the one of the change log (``changes``). Pools
connect at need and so come back by themselves after an outage. A connection that did not answer in time is dropped, never
waited for.

Where there is a direct address besides, that of the pools may be a pooler's in transaction mode (``addresses``). Then all is
done in transactions, each read in one that is READ ONLY; no statement stays prepared, since the next one may meet another
connection. That costs a read three round trips more, and every other statement one.
"""

import asyncio
import contextlib
import decimal
import functools
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg
from asyncpg.exceptions import (
    CannotConnectNowError,
    ConnectionFailureError,
    IdleInTransactionSessionTimeoutError,
    InFailedSQLTransactionError,
    InsufficientResourcesError,
    IntegrityConstraintViolationError,
    InterfaceError,
    InternalClientError,
    InvalidAuthorizationSpecificationError,
    InvalidCatalogNameError,
    LockNotAvailableError,
    OperatorInterventionError,
    PostgresConnectionError,
    PostgresError,
    ReadOnlySQLTransactionError,
    TransactionRollbackError,
)
from tortoise.backends.asyncpg.client import AsyncpgDBClient, TransactionWrapper
from tortoise.backends.base.client import NestedTransactionContext, PoolConnectionWrapper, TransactionContext
from tortoise.exceptions import IntegrityError, OperationalError

from dwctl.store.failures import StoreUnavailable
from dwctl.store.transaction import Dialect, Row, Tx, like

T = TypeVar("T")

CONNECT_SECONDS = 5.0
WRITE_SECONDS = 10.0
"""The longest that one transaction, waiting for locks included, may take."""
READ_SECONDS = 30.0
_ALONE_KEY = 0x6477_6374_6C_02
"""Of pg_advisory_xact_lock."""
_BOUNDED = "SELECT " + ", ".join(
    f"set_config('{name}', coalesce(nullif(current_setting('{name}'), '0'), $1), true)"
    for name in ("lock_timeout", "idle_in_transaction_session_timeout")
)
"""Said in each transaction, since a pooler keeps no settings, where the database has no bounds of its own: the server gives up whoever
was stopped in the middle and would keep its locks, or has left and would wait for one, a connection each."""
ATTEMPTS = 6
"""How often a transaction is tried that loses to a deadlock or a serialisation failure."""

READ_ONLY = {"default_transaction_read_only": "on"}

REFUSALS = (InvalidAuthorizationSpecificationError, InvalidCatalogNameError)
"""The server answers, and does not let us in: a wrong address at the start, an outage later."""

_OUTAGES = (
    *REFUSALS,
    OSError,
    TimeoutError,
    PostgresConnectionError,
    ConnectionFailureError,
    CannotConnectNowError,
    OperatorInterventionError,
    InsufficientResourcesError,
    IdleInTransactionSessionTimeoutError,
    LockNotAvailableError,
    InternalClientError,
)


def translated(error: BaseException, *, writing: bool = False) -> BaseException:
    """The exception that callers of the store see. Where ``writing`` is meant, a server that only reads (a standby) is an outage."""
    # Its pool takes a connection back that the server has ended.
    closed = isinstance(error, InterfaceError) and ("clos" in str(error) or "released" in str(error))
    standby = writing and isinstance(error, ReadOnlySQLTransactionError)
    if isinstance(error, _OUTAGES) or closed or standby:
        return StoreUnavailable(f"PostgreSQL: {str(error) or 'no answer in time'}")
    if isinstance(error, IntegrityConstraintViolationError):
        return IntegrityError(error)
    if isinstance(error, PostgresError) and not isinstance(error, TransactionRollbackError):
        return OperationalError(error)
    return error


@functools.lru_cache(maxsize=1024)
def numbered(sql: str) -> str:
    """``?`` placeholders outside of string literals and quoted names as ``$1``, ``$2``, ..."""
    parts: list[str] = []
    count = 0
    quote = ""
    for character in sql:
        if quote:
            if character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        elif character == "?":
            count += 1
            parts.append(f"${count}")
            continue
        parts.append(character)
    return "".join(parts)


def _plain(value: Any) -> Any:
    kind = value.__class__
    if kind is decimal.Decimal:
        whole = int(value)
        return whole if whole == value else float(value)
    return str(value) if isinstance(value, uuid.UUID) else value


def _rows(records: list[asyncpg.Record]) -> list[Row]:
    return [{name: _plain(value) for name, value in record.items()} for record in records]


async def _keep(connection: Any) -> None:
    """Connections go back to their pool as they are: nothing here sets session state, and RESET costs a round trip."""


def _drop(connection: Any) -> None:
    """End a connection that nobody waits for any more, if the server has not."""
    with contextlib.suppress(InterfaceError):
        connection.terminate()


class _Lease(PoolConnectionWrapper[Any]):
    """A pooled connection; an outage leaves it as StoreUnavailable."""

    async def __aenter__(self) -> Any:
        try:
            await self.ensure_connection()
            self.connection = await self.client._pool.acquire(timeout=CONNECT_SECONDS)
        except Exception as error:
            raise translated(error) from error
        return self.connection

    async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        connection = self.connection
        assert connection is not None
        if isinstance(exc_val, TimeoutError | asyncio.CancelledError):
            _drop(connection)
        with contextlib.suppress(*_OUTAGES, InterfaceError):
            await self.client._pool.release(connection)
        if exc_val is not None and isinstance(outage := translated(exc_val), StoreUnavailable):
            raise outage from exc_val


class _ReadingTransaction(_Lease):
    """A lease that is a transaction, which cannot write."""

    async def __aenter__(self) -> Any:
        self._reader = await super().__aenter__()
        try:
            self._transaction = self._reader.transaction()
            # The pooler may have to find a connection first, as our own pool has.
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._transaction.start()
        except BaseException as error:
            await super().__aexit__(type(error), error, error.__traceback__)
            raise
        return self._reader

    async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        try:
            if not isinstance(exc_val, TimeoutError | asyncio.CancelledError) and not self._reader.is_closed():
                # After an error this is a rollback.
                await self._transaction.commit()
        except BaseException as error:
            await super().__aexit__(type(error), error, error.__traceback__)
            raise
        await super().__aexit__(exc_type, exc_val, exc_tb)


class _Reader(asyncpg.Connection):  # type: ignore[misc]
    """Its transactions cannot write, whoever begins them."""

    def transaction(self, *, isolation: Any = None, readonly: bool = True, deferrable: bool = False) -> Any:
        return super().transaction(isolation=isolation, readonly=readonly, deferrable=deferrable)


class Client(AsyncpgDBClient):
    """A tortoise client on a pool of its own, which is made from a libpq URL; ``pooled``: that of a pooler in transaction mode."""

    def __init__(self, dsn: str, *, read_only: bool, size: int, seconds: float, pooled: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._dsn = dsn
        self._read_only = read_only
        self._size = size
        self._seconds = seconds
        self._pooled = pooled

    async def create_connection(self, with_db: bool) -> None:
        settings = {"application_name": "dwctl"}
        if self._read_only and not self._pooled:
            settings |= READ_ONLY
        self._pool = await asyncpg.create_pool(
            self._dsn,
            min_size=0,
            max_size=self._size,
            timeout=CONNECT_SECONDS,
            command_timeout=self._seconds,
            reset=_keep,
            server_settings=settings,
            statement_cache_size=0 if self._pooled else 100,
            connection_class=_Reader if self._read_only and self._pooled else asyncpg.Connection,
        )
        await self._post_connect()

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), 5)
            except (*_OUTAGES, InterfaceError):
                pool.terminate()

    def acquire_connection(self) -> PoolConnectionWrapper[Any]:
        lease = _ReadingTransaction if self._read_only and self._pooled else _Lease
        return lease(self, self._pool_init_lock)


class _OperationClient(TransactionWrapper):
    """The tortoise side of one operation; nested transactions are savepoints."""

    def __init__(self, parent: AsyncpgDBClient, connection: Any) -> None:
        super().__init__(parent)
        self._connection = connection

    def _in_transaction(self) -> TransactionContext:
        return NestedTransactionContext(_OperationClient(self, self._connection))

    async def _translate_exceptions(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super()._translate_exceptions(func, *args, **kwargs)
        except Exception as error:
            if isinstance(outage := translated(error.__cause__ or error, writing=True), StoreUnavailable):
                raise outage from error
            raise


class _Operation(Tx):
    """One transaction on one pooled connection."""

    dialect: Dialect = "postgresql"

    def __init__(self, parent: Client, connection: Any) -> None:
        self._connection = connection
        self.over = False
        self.failed = False
        self.orm = _OperationClient(parent, connection)

    async def _call(self, awaitable: Awaitable[T]) -> T:
        try:
            return await awaitable
        except Exception as error:
            self.failed = True
            raise translated(error, writing=True) from error

    def _check(self) -> None:
        if self.over:
            raise RuntimeError("this transaction is over")

    async def execute(self, sql: str, args: Sequence[Any] = ()) -> int:
        self._check()
        status = await self._call(self._connection.execute(numbered(sql), *args))
        last = status.rpartition(" ")[2]
        return int(last) if last.isdigit() else 0

    async def execute_many(self, *statements: tuple[str, Sequence[Sequence[Any]]]) -> None:
        for sql, rows in statements:
            self._check()
            if rows:
                await self._call(self._connection.executemany(numbered(sql), rows))

    async def fetch(self, sql: str, args: Sequence[Any] = ()) -> list[Row]:
        self._check()
        return _rows(await self._call(self._connection.fetch(numbered(sql), *args)))


class PostgresDatabase:
    """The PostgreSQL side of the store."""

    dialect: Dialect = "postgresql"

    def __init__(self, url: str, direct_url: str | None = None) -> None:
        self.direct_url = direct_url or url
        """For what needs a session."""
        pooled = direct_url is not None
        self.engine: dict[str, Any] = {
            "engine": __name__,
            "credentials": {"dsn": url, "read_only": True, "size": 6, "seconds": READ_SECONDS, "pooled": pooled},
        }
        self._writing = connect(url, size=7, seconds=WRITE_SECONDS, pooled=pooled)
        self._writing_alone = connect(url, size=1, seconds=WRITE_SECONDS, pooled=pooled)
        self._reporting = connect(url, size=2, seconds=60.0, read_only=True, pooled=pooled)

    async def start(self) -> None:
        """Make the pools; raises StoreUnavailable if the server does not answer."""
        await self._writing.create_connection(with_db=True)
        await self._writing_alone.create_connection(with_db=True)
        await self._reporting.create_connection(with_db=True)
        async with self._writing.acquire_connection() as connection:
            await connection.execute("SELECT 1")

    async def write(self, operation: Callable[[Tx], Awaitable[T]], *, alone: bool) -> T:
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))
            try:
                return await self._transaction(operation, alone)
            except TransactionRollbackError as error:
                lost = error
        raise StoreUnavailable(f"PostgreSQL: {lost}") from lost

    async def _transaction(self, operation: Callable[[Tx], Awaitable[T]], alone: bool) -> T:
        client = self._writing_alone if alone else self._writing
        pool = client._pool
        if pool is None:
            raise StoreUnavailable("the store is closed")
        try:
            connection = await pool.acquire(timeout=WRITE_SECONDS if alone else CONNECT_SECONDS)
        except Exception as error:
            raise translated(error) from error
        tx = _Operation(client, connection)
        transaction = None
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                # Whatever the database's own default is: each statement sees what was committed before it, and so before the lock.
                transaction = connection.transaction(isolation="read_committed")
                await transaction.start()
                turn = f"{_BOUNDED}, pg_advisory_xact_lock({_ALONE_KEY})" if alone else _BOUNDED
                await connection.fetchrow(turn, f"{WRITE_SECONDS}s")
                result = await operation(tx)
                if tx.failed:
                    # COMMIT of a failed transaction is a silent ROLLBACK.
                    await connection.execute("SELECT 1")
                await transaction.commit()
            return result
        except BaseException as error:
            if isinstance(error, TimeoutError | asyncio.CancelledError):
                _drop(connection)
            elif transaction is not None:
                with contextlib.suppress(*_OUTAGES, PostgresError, InterfaceError):
                    async with asyncio.timeout(CONNECT_SECONDS):
                        await transaction.rollback()
            if isinstance(error, InFailedSQLTransactionError):
                raise
            if (seen := translated(error)) is not error:
                raise seen from error
            raise
        finally:
            tx.over = True
            with contextlib.suppress(*_OUTAGES, InterfaceError):
                await pool.release(connection)

    async def fetch(self, client: Any, sql: str, args: Sequence[Any]) -> list[Row]:
        try:
            async with client.acquire_connection() as connection:
                return _rows(await connection.fetch(numbered(sql), *args))
        except Exception as error:
            raise translated(error) from error

    def containing(self, text: str, columns: Sequence[str]) -> tuple[str, list[str]]:
        """A condition that one of the columns contains a text, in whatever case, and its arguments."""
        condition = " OR ".join(f"LOWER({column}) LIKE LOWER(?) ESCAPE '!'" for column in columns)
        return f"({condition})", [like(text)] * len(columns)

    async def fetch_report(self, sql: str, args: Sequence[Any]) -> list[Row]:
        return await self.fetch(self._reporting, sql, args)

    async def close(self) -> None:
        await self._writing.close()
        await self._writing_alone.close()
        await self._reporting.close()


client_class = Client


def connect(dsn: str, *, size: int, seconds: float, read_only: bool = False, pooled: bool = False) -> Client:
    """A client that tortoise's registry does not know (it connects at first use)."""
    return Client(dsn, read_only=read_only, size=size, seconds=seconds, pooled=pooled, connection_name="default")
