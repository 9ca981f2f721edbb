"""The server about itself: the configuration in force and where it came from, versions, database, journal and recorder."""

import platform
import sqlite3
import sys
from importlib import metadata

import msgspec

from dwctl import __version__
from dwctl.accounts import Actor, policy
from dwctl.config import Explained, keys
from dwctl.ledger import LedgerState
from dwctl.operations.services import Services
from dwctl.store.store import database_path

_SHOWN_VERSIONS = ("sanic", "tortoise-orm", "aiohttp", "uvloop", "msgspec", "cryptography")


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A key of the configuration: its value as text, secrets hidden. ``origin``: default, FILE:LINE, env NAME, flag --NAME."""

    path: str
    value: str
    origin: str
    description: str
    variable: str


class DatabaseState(msgspec.Struct, frozen=True, kw_only=True):
    """``place`` is a file, or a server's name; the size is in bytes."""

    kind: str
    version: str
    place: str
    size: int | None


class SystemState(msgspec.Struct, frozen=True, kw_only=True):
    """Versions are pairs of a name and a version. ``reasons`` are those of ``/readyz``. ``snapshot`` is the catalog's change number."""

    versions: list[tuple[str, str]]
    frozen: bool
    platform: str
    database: DatabaseState
    ledger: LedgerState
    reasons: list[str]
    in_flight: int
    snapshot: int


def settings(services: Services, actor: Actor) -> list[Setting]:
    """Every key, in the order of the documentation. Raises GatewayError 403."""
    policy.require(actor, "System", "read_all")
    known = keys()
    return [
        Setting(path=path, value=value, origin=origin, description=known[path].description, variable=known[path].variable)
        for path, value, origin in Explained(services.config, services.origins).lines()
    ]


async def state(services: Services, actor: Actor) -> SystemState:
    """How the server does at this moment. Raises GatewayError 403, StoreUnavailable."""
    policy.require(actor, "System", "read_all")
    return SystemState(
        versions=[
            ("dwctl", __version__),
            ("Python", platform.python_version()),
            *((name, metadata.version(name)) for name in _SHOWN_VERSIONS),
        ],
        frozen=getattr(sys, "frozen", False),
        platform=platform.platform(terse=True),
        database=await _database(services),
        ledger=services.ledger.state(),
        reasons=services.degraded(),
        in_flight=len(services.in_flight()),
        snapshot=services.snapshot().version,
    )


async def _database(services: Services) -> DatabaseState:
    path = database_path(services.config.database.url, services.config.data_dir)
    if path is not None:
        size = sum(file.stat().st_size for file in (path, path.with_name(path.name + "-wal")) if file.exists())
        return DatabaseState(kind="SQLite", version=sqlite3.sqlite_version, place=str(path.absolute()), size=size)
    [row] = await services.store.fetch(
        "SELECT current_setting('server_version') AS version, current_database() AS name, pg_database_size(current_database()) AS size"
    )
    return DatabaseState(kind="PostgreSQL", version=row["version"], place=row["name"], size=int(row["size"]))
