"""Bodies of requests and answers: kept apart from the hot tables, compressed, and for a shorter time.

Losing one is no harm, so the queue is bounded and drops what does not fit, and nothing waits for the disk. On SQLite there is
a file a day (``bodies-YYYYMMDD.sqlite`` by the request's start, UTC), so that retention deletes files; on PostgreSQL a table.
Compression and files have a thread of their own.

What is written together is compressed together, in blocks: neighbouring requests repeat each other (system prompts, tools, the
dialect's own words), and one large compression costs far less than many small ones. The row of the youngest request of a block
holds its content, so that it is there as long as any of them; the others name that row.
"""

import asyncio
import contextlib
import math
import sqlite3
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TypeVar

import msgspec
from prometheus_client import Counter

from dwctl.clock import MICROSECONDS, monotonic
from dwctl.store.failures import StoreUnavailable
from dwctl.store.store import Store
from dwctl.store.transaction import Tx
from dwctl.telemetry.alarms import alarm
from dwctl.telemetry.metrics import REGISTRY

T = TypeVar("T")

QUEUE_BYTES = 64 * 1024 * 1024
QUEUE_ENTRIES = 20_000
BATCH_BYTES = 4 * 1024 * 1024
BATCH_ENTRIES = 500
LINGER_SECONDS = 0.05
RETRY_SECONDS = 1.0
DAY = 86_400 * MICROSECONDS
PURGE_ROWS = 1_000
DROPS_LOGGED_SECONDS = 60.0

BLOCK_BYTES = 64 * 1024
"""A block takes in bodies up to this size; a larger one is a block by itself. Reading one body means unpacking its block."""

_COMPRESSION = 1
"""Of zlib: the quickest, which takes most of the repetition out of JSON."""
_SMALL_BYTES = 16 * 1024
_SMALL = (12, 4)
_LARGE = (15, 8)
"""Window bits and memory level: setting up zlib's largest window costs four times as much as compressing a preview in a small one."""
_OPEN_FILES = 4

_TABLE = """
CREATE TABLE IF NOT EXISTS bodies (
    request_id TEXT PRIMARY KEY, at INTEGER NOT NULL, block TEXT, content BLOB, truncated INTEGER NOT NULL
)
"""

_INTO_BLOCKS = (
    "BEGIN IMMEDIATE",
    "ALTER TABLE bodies RENAME TO single_bodies",
    _TABLE,
    "INSERT INTO bodies SELECT request_id, at, NULL, content, truncated FROM single_bodies",
    "DROP TABLE single_bodies",
)
"""Makes a file from before there were blocks one that may hold some."""


def _insert_into(table: str, rows: int) -> str:
    """One statement for all rows of a block: the thread keeps the interpreter's lock for less, and the statements stay compiled."""
    places = ", ".join(["(?, ?, ?, ?, ?)"] * rows)
    return (
        f"INSERT INTO {table} (request_id, at, block, content, truncated) VALUES {places} "
        "ON CONFLICT (request_id) DO UPDATE SET block = excluded.block, content = excluded.content, truncated = excluded.truncated"
    )


def _select_from(table: str) -> str:
    return (
        f"SELECT coalesce(body.content, holder.content) AS content, body.truncated FROM {table} AS body "
        f"LEFT JOIN {table} AS holder ON holder.request_id = body.block WHERE body.request_id = ?"
    )


DROPPED = Counter("dwctl_bodies_dropped_total", "Bodies that were not stored, since the queue or the disk was full.", registry=REGISTRY)


class Bodies(msgspec.Struct, frozen=True):
    """What was said; None where nothing was kept. ``truncated``: a preview, or more than the limit."""

    request: bytes | None
    response: bytes | None
    truncated: bool


class _Entry(msgspec.Struct, frozen=True):
    request_id: str
    at_us: int
    request: bytes | None
    response: bytes | None
    truncated: bool
    size: int


_StoredRow = tuple[str, int, str | None, bytes | None, bool]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def _compressed(block: list[_Entry]) -> bytes:
    """Bodies as one blob: what they share is stored once, and small blocks need no large window."""
    content = _encode([(entry.request_id, entry.request, entry.response) for entry in block])
    compressor = zlib.compressobj(_COMPRESSION, zlib.DEFLATED, *(_SMALL if len(content) <= _SMALL_BYTES else _LARGE))
    return compressor.compress(content) + compressor.flush()


def _blocks(entries: Iterable[_Entry]) -> Iterator[list[_Entry]]:
    block: list[_Entry] = []
    size = 0
    for entry in entries:
        if block and size + entry.size > BLOCK_BYTES:
            yield block
            block, size = [], 0
        block.append(entry)
        size += entry.size
    if block:
        yield block


def _stored(block: list[_Entry]) -> list[_StoredRow]:
    """The rows of a block."""
    holder = max(block, key=lambda entry: entry.at_us)
    members = [entry for entry in block if entry is not holder]
    return [
        (holder.request_id, holder.at_us, None, _compressed(block), holder.truncated),
        *((entry.request_id, entry.at_us, holder.request_id, None, entry.truncated) for entry in members),
    ]


def _read(request_id: str, content: bytes | None, truncated: object) -> Bodies | None:
    kept = _decode(zlib.decompress(content)) if content is not None else []
    if kept and not isinstance(kept[0], list):
        request, response = kept  # a row from before there were blocks
        return Bodies(request, response, bool(truncated))
    for name, request, response in kept:
        if name == request_id:
            return Bodies(request, response, bool(truncated))
    return None


class _Drop:
    """Counts bodies that the disk or the database refuses, and says so in the log: at once, then once in ``DROPS_LOGGED_SECONDS``."""

    def __init__(self) -> None:
        self._number = 0
        self._silent_until = -math.inf

    def __call__(self, number: int, error: str) -> None:
        DROPPED.inc(number)
        self._number += number
        if (now := monotonic()) >= self._silent_until:
            alarm("bodies", "dropped", "warning", number=self._number, error=error)
            self._number = 0
            self._silent_until = now + DROPS_LOGGED_SECONDS


class _DayFiles:
    """The files of SQLite. Every method runs in the thread of the body store."""

    def __init__(self, directory: Path, drop: "_Drop") -> None:
        self._directory = directory
        self._drop = drop
        self._open: dict[str, sqlite3.Connection] = {}

    def path(self, at_us: int) -> Path:
        return self._directory / f"bodies-{datetime.fromtimestamp(at_us // MICROSECONDS, UTC):%Y%m%d}.sqlite"

    def write(self, entries: list[_Entry]) -> None:
        days: dict[int, list[_Entry]] = {}
        for entry in entries:
            days.setdefault(entry.at_us // DAY, []).append(entry)
        for day, of_day in days.items():
            path = self.path(day * DAY)
            try:
                connection = self._connection(path)
                with connection:
                    for block in _blocks(of_day):
                        connection.execute(_insert_into("bodies", len(block)), list(chain.from_iterable(_stored(block))))
            except (sqlite3.Error, OSError) as error:
                self._drop(len(of_day), f"{path.name}: {error}")
                self._close(path.name)

    def read(self, request_id: str, at_us: int) -> Bodies | None:
        path = self.path(at_us)
        if path.name not in self._open and not path.exists():
            return None
        try:
            found = self._connection(path).execute(_select_from("bodies"), (request_id,)).fetchone()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{path.name}: {error}") from error
        return None if found is None else _read(request_id, *found)

    def purge(self, before_us: int) -> int:
        removed = 0
        for path, day_us in list(self._files()):
            if day_us >= before_us:
                continue
            try:
                connection = self._connection(path)
                if day_us + DAY > before_us:
                    with connection:
                        removed += connection.execute("DELETE FROM bodies WHERE at < ?", (before_us,)).rowcount
                    continue
                removed += connection.execute("SELECT count(*) FROM bodies").fetchone()[0]
            except sqlite3.Error as error:
                alarm("bodies", "file_damaged", "warning", file=path.name, error=str(error))
                if day_us + DAY > before_us:
                    continue
            self._close(path.name)
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
        return removed

    def close(self) -> None:
        for name in list(self._open):
            self._close(name)

    def _files(self) -> Iterator[tuple[Path, int]]:
        for path in sorted(self._directory.glob("bodies-????????.sqlite")):
            with contextlib.suppress(ValueError):
                day = datetime.strptime(path.stem.removeprefix("bodies-"), "%Y%m%d").replace(tzinfo=UTC)
                yield path, int(day.timestamp()) * MICROSECONDS

    def _connection(self, path: Path) -> sqlite3.Connection:
        if path.name not in self._open:
            while len(self._open) >= _OPEN_FILES:
                self._close(next(iter(self._open)))
            path.touch(mode=0o600)
            connection = sqlite3.connect(path, timeout=2.0)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute(_TABLE)
                if "block" not in [column[1] for column in connection.execute("PRAGMA table_info(bodies)")]:
                    with connection:
                        for statement in _INTO_BLOCKS:
                            connection.execute(statement)
            except sqlite3.Error:
                connection.close()
                raise
            self._open[path.name] = connection
        return self._open[path.name]

    def _close(self, name: str) -> None:
        connection = self._open.pop(name, None)
        if connection is not None:
            connection.close()


class BodyStore:
    """Takes bodies without waiting, gives them back, forgets them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._drop = _Drop()
        self._files = _DayFiles(store.data_dir, self._drop) if store.dialect == "sqlite" else None
        self._queue: deque[_Entry] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._executor = ThreadPoolExecutor(1, "bodies")
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def put(self, request_id: str, at_us: int, request: bytes | None, response: bytes | None, truncated: bool) -> None:
        """Queue the bodies of a request that began at ``at_us``. Never waits; what does not fit is dropped and counted."""
        size = len(request or b"") + len(response or b"") + 200
        if self._closed or len(self._queue) >= QUEUE_ENTRIES or self._queued_bytes + size > QUEUE_BYTES:
            DROPPED.inc()
            return
        self._queue.append(_Entry(request_id, at_us, request, response, truncated, size))
        self._queued_bytes += size
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="bodies")
        self._wake.set()

    async def get(self, request_id: str, at_us: int) -> Bodies | None:
        """The bodies of a request that began at ``at_us``, also if they were put just now. Raises StoreUnavailable."""
        await self.flush()
        if self._files is not None:
            return await self._in_thread(self._files.read, request_id, at_us)
        rows = await self._store.fetch(_select_from("request_bodies"), [request_id])
        return _read(request_id, **rows[0]) if rows else None

    async def flush(self) -> None:
        """Store what is queued, unless the database is away."""
        while self._queue and await self._write_batch():
            pass

    async def purge(self, before_us: int) -> int:
        """Remove the bodies of requests that began before ``before_us``; how many there were. Raises StoreUnavailable."""
        await self.flush()
        if self._files is not None:
            return await self._in_thread(self._files.purge, before_us)
        removed = 0
        while True:

            async def delete(tx: Tx) -> int:
                return await tx.execute(
                    "DELETE FROM request_bodies WHERE request_id IN "
                    f"(SELECT request_id FROM request_bodies WHERE at < ? LIMIT {PURGE_ROWS})",
                    [before_us],
                )

            number = await self._store.write(delete, alone=False)
            removed += number
            if number < PURGE_ROWS:
                return removed

    async def close(self) -> None:
        """Store what is queued, if the database is there, and end the thread."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.flush()
        DROPPED.inc(len(self._queue))
        self._queue.clear()
        if self._files is not None:
            await self._in_thread(self._files.close)
        self._executor.shutdown()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(LINGER_SECONDS)
            while self._queue:
                if not await self._write_batch():
                    await asyncio.sleep(RETRY_SECONDS)
                elif self._queue and len(self._queue) < BATCH_ENTRIES and self._queued_bytes < BATCH_BYTES:
                    # What was put while the batch was written gathers with what follows: batches of a few cost each as much.
                    self._wake.set()
                    break

    async def _write_batch(self) -> bool:
        """Store the first queued entries; False if the database is away, and they stay queued."""
        return await asyncio.shield(asyncio.ensure_future(self._write_first()))

    async def _write_first(self) -> bool:
        async with self._lock:
            batch: list[_Entry] = []
            size = 0
            for entry in self._queue:
                if len(batch) >= BATCH_ENTRIES or size >= BATCH_BYTES:
                    break
                batch.append(entry)
                size += entry.size
            if not batch:
                return True
            if self._files is not None:
                await self._in_thread(self._files.write, batch)
            else:
                try:
                    await self._insert(batch)
                except StoreUnavailable:
                    return False
                except Exception as error:
                    self._drop(len(batch), str(error))
            for entry in batch:
                self._queue.popleft()
                self._queued_bytes -= entry.size
            return True

    async def _insert(self, batch: list[_Entry]) -> None:
        blocks = [await self._in_thread(_stored, block) for block in _blocks(batch)]

        async def insert(tx: Tx) -> None:
            for rows in blocks:
                await tx.execute(_insert_into("request_bodies", len(rows)), list(chain.from_iterable(rows)))

        await self._store.write(insert, alone=False)

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)
