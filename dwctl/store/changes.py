"""The change log: what snapshots follow.

An operation notes what it changed in its own transaction; every node follows the log in commit order and applies what is
new. ``seq`` ascends in commit order: SQLite has one writer, and on PostgreSQL an advisory lock is held from the note to the
commit. The follower is woken by a waiting operation of its own node, by NOTIFY (to which it listens on a connection to the
server itself, since a pooler keeps no session), and by a look at the log every half second, which is also how it hears of
other processes on SQLite (one indexed read, no dearer than PRAGMA data_version).

The connection that listens also holds the node's name, as an advisory lock: nodes of one name would take each other's mark in
the journal for their own, and lose charges.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import asyncpg
import msgspec
import structlog
from prometheus_client import Counter, Histogram

from dwctl import clock
from dwctl.errors import ConfigurationError
from dwctl.store.failures import StoreUnavailable
from dwctl.store.postgresql import CONNECT_SECONDS, PostgresDatabase
from dwctl.store.store import Store
from dwctl.store.transaction import Tx
from dwctl.telemetry.alarms import alarm
from dwctl.telemetry.metrics import REGISTRY

Area = Literal["catalog", "key", "user", "session", "balance"]

CHANNEL = "dwctl_changes"
POLL_SECONDS = 0.5
SETTLE_SECONDS = 0.1
"""After one application further changes are collected for this long, unless someone waits for them."""
BATCH = 5_000
KEPT = 100_000

CLAIM_SECONDS = 0.1
"""From one attempt to take a node's name to the next, at the start."""
NAME_SECONDS = 1.0
"""The same while serving."""
PROBE_SECONDS = 5.0
"""From one question on the connection that listens to the next: if nobody asks, it is as quiet when it is broken."""
_FORMER_SECONDS = 3.0
"""For how long a session that is ended may take to end."""

_LOCK_KEY = 0x6477_6374_6C_01
_FORGET_LOST_CLIENT = (
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 20000"
)
"""A session whose machine is gone ends, and gives the node's name back, in 20 seconds rather than in hours."""
_END_FORMER = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid = $1 AND classid = $2 AND objid = $3
"""
_LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

log = structlog.get_logger(__name__)

_SYNCS = Counter(
    "dwctl_cache_sync_total",
    "Times that this node has taken over changes (listen_notify: it was told of them; fallback: it looked).",
    ["source"],
    registry=REGISTRY,
)
_TOLD, _LOOKED = _SYNCS.labels("listen_notify"), _SYNCS.labels("fallback")
_LAG = Histogram(
    "dwctl_cache_sync_lag_seconds",
    "From a change in the database until this node has taken it over, by area (the oldest of several).",
    ["table"],
    registry=REGISTRY,
)


class ChangeRow(msgspec.Struct, frozen=True):
    """One noted change; ``entity_id`` None means the whole area."""

    seq: int
    area: str
    entity_id: str | None
    at: int = 0
    """Microseconds since the epoch."""


def coalesced(rows: list[ChangeRow]) -> list[ChangeRow]:
    """The last row of each entity, in order: an application reads the entity's present state anyway."""
    last = {(row.area, row.entity_id): row for row in rows}
    return sorted(last.values(), key=lambda row: row.seq)


class Changes:
    """Notes changes, and follows them on this node."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seq = 0
        self._wanted = 0
        self._wake = asyncio.Event()
        self._moved = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._announced = True
        self._node: str | None = None
        self._named = True
        self._session: asyncpg.Connection[Any] | None = None
        """With the node's name, until it listens."""
        self._holder: int | None = None
        """The process of PostgreSQL's that had the name for us last."""

    def degraded(self) -> list[str]:
        """What is not well, for /readyz: changes_not_announced, node_id_in_use."""
        return [reason for reason, well in (("changes_not_announced", self._announced), ("node_id_in_use", self._named)) if not well]

    async def claim(self, node: str, wait: float) -> None:
        """Take the name of this node for as long as it runs, before its journal is read. On SQLite the data directory's lock does it.

        PostgreSQL may not have noticed yet that a predecessor is gone: whoever has the name is waited for, ``wait`` seconds, which
        the log says. Raises ConfigurationError if it is still taken then, and StoreUnavailable.
        """
        if not isinstance(self._store.database, PostgresDatabase):
            return
        self._node = node
        until = time.monotonic() + wait
        waiting = False
        try:
            self._session = await _connect(self._store.database.direct_url)
            while not await self._take_name(self._session):
                if time.monotonic() >= until:
                    raise ConfigurationError(
                        f"node_id {node} (in {self._store.data_dir / 'node_id'}) is in use by another dwctl on this database, as after "
                        "a data directory was copied: stop that one, or give this one a --data-dir of its own, new and empty"
                    )
                if not waiting:
                    log.warning("waiting_for_node_id", node_id=node, seconds=wait, note="another dwctl on this database has it")
                waiting = True
                await asyncio.sleep(CLAIM_SECONDS)
        except _LOST as error:
            raise StoreUnavailable(f"PostgreSQL: {str(error) or 'no answer in time'}") from error

    async def _take_name(self, session: "asyncpg.Connection[Any]") -> bool:
        """Whether ``session`` holds the node's name now; the end of the session gives it back."""
        if self._node is None:
            return True
        key = int.from_bytes(self._name_key(), signed=True)
        taken = bool(await session.fetchval("SELECT pg_try_advisory_lock($1)", key))
        if taken:
            self._holder = session.get_server_pid()
        return taken

    async def _take_name_again(self, session: "asyncpg.Connection[Any]") -> bool:
        """`_take_name` after the session that had it was lost, which PostgreSQL ends at once rather than when it misses it, too."""
        if self._holder is not None:
            high, low = (int.from_bytes(half) for half in (self._name_key()[:4], self._name_key()[4:]))
            if await session.fetchval(_END_FORMER, self._holder, high, low):
                until = time.monotonic() + _FORMER_SECONDS
                while time.monotonic() < until:
                    if await self._take_name(session):
                        return True
                    await asyncio.sleep(CLAIM_SECONDS)
        return await self._take_name(session)

    def _name_key(self) -> bytes:
        return hashlib.blake2b((self._node or "").encode(), digest_size=8).digest()

    @staticmethod
    async def note(tx: Tx, area: Area, entity_id: str | None = None) -> int:
        """Append to the log in the operation's transaction; the ``seq`` to wait for with ``applied``."""
        if tx.dialect == "postgresql":
            await tx.fetch(f"SELECT pg_advisory_xact_lock({_LOCK_KEY}), pg_notify('{CHANNEL}', '')")
        [row] = await tx.fetch(
            "INSERT INTO change_log (area, entity_id, at) VALUES (?, ?, ?) RETURNING seq", [area, entity_id, clock.now_us()]
        )
        seq: int = row["seq"]
        return seq

    async def head(self) -> int:
        """The newest ``seq``; 0 while nothing was ever noted. Load a snapshot after it, then ``start`` from it."""
        [row] = await self._store.fetch("SELECT max(seq) AS seq FROM change_log")
        return row["seq"] or 0

    async def prune(self, keep: int = KEPT) -> int:
        """Forget all but the newest ``keep`` changes; how many there were. Nodes that run are never that far behind."""

        async def delete(tx: Tx) -> int:
            return await tx.execute("DELETE FROM change_log WHERE seq <= (SELECT max(seq) FROM change_log) - ?", [keep])

        return await self._store.write(delete, alone=False)

    def start(self, apply: Callable[[list[ChangeRow]], Awaitable[None]], since: int) -> None:
        """Follow the log after ``since``: ``apply`` gets the changes in order, one row an entity, and is retried if it fails."""
        self._seq = since
        self._tasks.append(asyncio.create_task(self._follow(apply), name="changes"))
        if isinstance(self._store.database, PostgresDatabase):
            self._tasks.append(asyncio.create_task(self._listen(self._store.database.direct_url), name="changes listener"))

    def poke(self) -> None:
        """Look at the log now."""
        self._wake.set()

    async def applied(self, seq: int, timeout: float = 10) -> bool:
        """Wait until this node has applied ``seq``, for at most ``timeout`` seconds; whether it has.

        It does not raise: the change is committed, and whoever made it must get its answer (a new key's secret is in it).
        """
        if self._seq >= seq:
            return True
        self._wanted = max(self._wanted, seq)
        self.poke()
        try:
            async with asyncio.timeout(timeout), self._moved:
                await self._moved.wait_for(lambda: self._seq >= seq)
        except TimeoutError:
            log.warning("change_not_applied_yet", seq=seq, note="it is stored; this node follows as soon as it can")
            return False
        return True

    async def close(self) -> None:
        """Stop following."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._session is not None:
            self._session.terminate()

    async def _follow(self, apply: Callable[[list[ChangeRow]], Awaitable[None]]) -> None:
        failures = 0
        settled = 0.0
        while True:
            source = _LOOKED
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
                    source = _TOLD
            while self._wanted <= self._seq and (rest := settled - time.monotonic()) > 0:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(rest):
                        await self._wake.wait()
            self._wake.clear()
            try:
                while rows := await self._new():
                    await apply(coalesced(rows))
                    source.inc()
                    for area, at in {row.area: row.at for row in reversed(rows)}.items():
                        _LAG.labels(area).observe(max(0, clock.now_us() - at) / clock.MICROSECONDS)
                    settled = time.monotonic() + SETTLE_SECONDS
                    async with self._moved:
                        self._seq = rows[-1].seq
                        self._moved.notify_all()
                    if len(rows) < BATCH:
                        break
            except Exception as error:
                failures += 1
                alarm("changes", "not_applied", "warning", error=str(error), exc_info=not isinstance(error, StoreUnavailable))
                await asyncio.sleep(min(5.0, 0.1 * 2 ** min(failures, 6)))
                self._wake.set()
            else:
                failures = 0

    async def _new(self) -> list[ChangeRow]:
        rows = await self._store.fetch(
            f"SELECT seq, area, entity_id, at FROM change_log WHERE seq > ? ORDER BY seq LIMIT {BATCH}", [self._seq]
        )
        return [ChangeRow(**row) for row in rows]

    async def _listen(self, url: str) -> None:
        """Keep one connection that listens and holds the node's name; without it the looks at the log suffice."""
        while True:
            connection, self._session = self._session, None
            lost = asyncio.Event()
            try:
                if connection is None:
                    connection = await _connect(url)
                    self._heed(await self._take_name_again(connection))
                connection.add_termination_listener(lambda _, lost=lost: lost.set())
                await connection.add_listener(CHANNEL, lambda *_: self.poke())
                self.poke()
                if not self._announced:
                    log.info("changes_announced_again")
                self._announced = True
                while not lost.is_set():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(PROBE_SECONDS if self._named else NAME_SECONDS):
                            await lost.wait()
                    if not self._named:
                        self._heed(await self._take_name(connection))
                    elif not lost.is_set():
                        await connection.execute("SELECT 1")
            except _LOST as error:
                if self._announced:
                    log.warning("changes_not_announced", error=str(error) or type(error).__name__, looks_every_s=POLL_SECONDS)
                self._announced = False
            finally:
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(1)

    def _heed(self, named: bool) -> None:
        if named and not self._named:
            log.info("node_id_is_ours_again", node_id=self._node)
        elif self._named and not named:
            alarm("changes", "node_id_in_use", node_id=self._node, note="another node has it: stop one of the two, or charges are lost")
        self._named = named


async def _connect(url: str) -> "asyncpg.Connection[Any]":
    connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS, command_timeout=CONNECT_SECONDS)
    try:
        await connection.execute(_FORGET_LOST_CLIENT)
    except BaseException:
        connection.terminate()
        raise
    return connection
