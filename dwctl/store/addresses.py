"""The addresses of a PostgreSQL, looked at before they are used.

A pooler in transaction mode gives each transaction whichever of its connections is free, and keeps no session: no LISTEN, no
lock that outlives a transaction (migrations run under one), no setting. So there is a direct address for what needs a
session, and the other, for transactions, may be a pooler's; https://www.pgbouncer.org/features.html has the whole list.
"""

import contextlib
import inspect
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
from asyncpg import connect_utils

from dwctl.errors import ConfigurationError
from dwctl.store.failures import StoreUnavailable
from dwctl.store.postgresql import CONNECT_SECONDS, READ_ONLY, REFUSALS

_SETTING = next(iter(READ_ONLY))
_IS_HELD = """
SELECT current_database() AS name, EXISTS (
    SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database AND datname = current_database()
    WHERE locktype = 'advisory' AND classid = $1 AND pg_locks.objid = $2
) AS held
"""


async def check_addresses(url: str, direct_url: str | None) -> None:
    """Raise ConfigurationError if sessions do not last where they must, or if the two are not one database; StoreUnavailable if
    one of them does not answer. Without ``direct_url`` everything goes to ``url``."""
    check_urls(url, direct_url)
    key = "database.url" if direct_url is None else "database.direct_url"
    async with _connected(key, direct_url or url, READ_ONLY) as session:
        if await session.fetchval(f"SELECT current_setting('{_SETTING}')") != "on":
            raise _pooler(key)
        if direct_url is None:
            return
        # A lock, unlike anything that is stored, is not in a copy or a standby of the database.
        lock = secrets.randbelow(2**31), secrets.randbelow(2**31)
        name = await session.fetchval("SELECT current_database() FROM pg_advisory_lock($1::int, $2::int)", *lock)
        async with _connected("database.url", url, {}) as other:
            seen = await other.fetchrow(_IS_HELD, *lock)
        if not seen["held"]:
            raise ConfigurationError(
                f"database.direct_url (database {name!r}) and database.url (database {seen['name']!r}) are not the same database of the "
                "same server: give as database.direct_url the address of the server that the pooler leads to, with the same database"
            )


def check_urls(url: str, direct_url: str | None) -> None:
    """As `check_addresses`, of what can be told without connecting."""
    nothing = dict.fromkeys(inspect.signature(connect_utils._parse_connect_dsn_and_args).parameters)
    for key, dsn in (("database.url", url), ("database.direct_url", direct_url)):
        if dsn is not None:
            with _said_of(key):
                addresses, _ = connect_utils._parse_connect_dsn_and_args(**nothing | {"dsn": dsn})
                if not all(isinstance(address, str) or 0 < address[1] < 65_536 for address in addresses):
                    raise ValueError("no such port")


def _pooler(key: str) -> ConfigurationError:
    remedy = (
        "set database.direct_url to the address of the PostgreSQL server itself; queries then go through the pooler"
        if key == "database.url"
        else "it must be that of the PostgreSQL server itself"
    )
    return ConfigurationError(f"{key} is the address of a connection pooler, which keeps no session ({_SETTING} is not kept): {remedy}")


@contextlib.asynccontextmanager
async def _connected(key: str, dsn: str, settings: dict[str, str]) -> AsyncIterator[Any]:
    """A connection; what is wrong with it is said of ``key``, and never with the password, which is in the URL."""
    connection = None
    try:
        with _said_of(key):
            connection = await asyncpg.connect(
                dsn, timeout=CONNECT_SECONDS, command_timeout=CONNECT_SECONDS, statement_cache_size=0, server_settings=settings
            )
            yield connection
    finally:
        if connection is not None:
            connection.terminate()


@contextlib.contextmanager
def _said_of(key: str) -> Iterator[None]:
    try:
        yield
    except asyncpg.InternalClientError as error:
        raise StoreUnavailable(f"PostgreSQL ({key}): {error}") from error
    except (*REFUSALS, asyncpg.InterfaceError) as error:
        raise ConfigurationError(f"{key}: {error}") from error
    except ValueError as error:
        raise ConfigurationError(
            f"{key} is not a URL of PostgreSQL: in a password, characters such as / # ? @ are written %2F %23 %3F %40"
        ) from error
    except (asyncpg.PostgresError, OSError, TimeoutError) as error:
        if "startup parameter" in str(error):
            raise _pooler(key) if _SETTING in str(error) else ConfigurationError(f"{key}: {error}") from error
        raise StoreUnavailable(f"PostgreSQL ({key}): {str(error) or 'no answer in time'}") from error
