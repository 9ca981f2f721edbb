"""Bodies: stored apart, lossy when they must be, and purged by day."""

import asyncio
import contextlib
import sqlite3
import stat
import threading
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from dwctl import ids
from dwctl.clock import from_rfc3339, monotonic
from dwctl.store import Bodies, BodyStore, Store, bodies
from tests.waiting import until

NOON = from_rfc3339("2026-11-20T12:00:00Z")
HOUR = 3_600_000_000


@pytest.fixture
async def body_store(store: Store) -> AsyncIterator[BodyStore]:
    opened = BodyStore(store)
    yield opened
    await opened.close()


async def test_round_trip(body_store: BodyStore) -> None:
    first, second, third = ids.new_text(), ids.new_text(), ids.new_text()
    body_store.put(first, NOON, b'{"a": "\\u0000"}' * 1000, b"\x00\xff", False)
    body_store.put(second, NOON + 1, None, b"", True)
    assert await body_store.get(first, NOON) == Bodies(b'{"a": "\\u0000"}' * 1000, b"\x00\xff", False)
    assert await body_store.get(second, NOON + 1) == Bodies(None, b"", True)
    assert await body_store.get(third, NOON) is None
    assert await body_store.get(third, NOON - 365 * 24 * HOUR) is None


async def test_purge_keeps_what_is_younger(body_store: BodyStore, data_dir: Path, store: Store) -> None:
    times = [NOON + offset * HOUR for offset in (-60, -36, -13, -1, 0, 1, 13)]
    names = [ids.new_text() for _ in times]
    for name, at in zip(names, times, strict=True):
        body_store.put(name, at, b"request", None, False)
    assert await body_store.purge(NOON) == 4
    assert [await body_store.get(name, at) is None for name, at in zip(names, times, strict=True)] == [True] * 4 + [False] * 3
    assert await body_store.purge(NOON) == 0
    if store.dialect == "sqlite":
        assert sorted(path.name for path in data_dir.glob("bodies-*.sqlite")) == ["bodies-20261120.sqlite", "bodies-20261121.sqlite"]
        assert stat.S_IMODE((data_dir / "bodies-20261120.sqlite").stat().st_mode) == 0o600


async def test_a_full_queue_drops_and_counts(body_store: BodyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "QUEUE_BYTES", 10_000)
    before = bodies.DROPPED._value.get()
    names = [ids.new_text() for _ in range(20)]
    for name in names:
        body_store.put(name, NOON, b"x" * 1_000, None, False)
    kept = [name for name in names if await body_store.get(name, NOON)]
    assert kept == names[:8]
    assert bodies.DROPPED._value.get() - before == 12
    body_store.put(names[-1], NOON, b"x" * 1_000, None, False)
    assert await body_store.get(names[-1], NOON), "there is room again"


async def test_many_are_written_without_being_asked(body_store: BodyStore, store: Store) -> None:
    names = [ids.new_text() for _ in range(1_200)]
    for name in names:
        body_store.put(name, NOON, b"x", b"y", False)
    await until(lambda: not body_store._queue)
    assert await body_store.get(names[-1], NOON) == Bodies(b"x", b"y", False)


async def test_what_comes_while_a_batch_is_written_gathers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LINGER_SECONDS", 0.3)
    opened = BodyStore(store)
    write, names = opened._write_first, [ids.new_text() for _ in range(3)]
    sizes: list[int] = []

    async def watched() -> bool:
        sizes.append(len(opened._queue))
        done = await write()
        if len(sizes) == 1:
            opened.put(names[1], NOON, b"meanwhile", None, False)
            asyncio.get_running_loop().call_later(0.05, opened.put, names[2], NOON, b"soon after", None, False)
        return done

    monkeypatch.setattr(opened, "_write_first", watched)
    opened.put(names[0], NOON, b"first", None, False)
    await until(lambda: not opened._queue and len(sizes) > 1)
    await opened.close()
    assert sizes == [1, 2]


async def test_closing_stores_the_rest_and_ends_the_thread(store: Store) -> None:
    before = set(threading.enumerate())
    opened = BodyStore(store)
    name = ids.new_text()
    opened.put(name, NOON, b"last", None, False)
    await opened.close()
    assert set(threading.enumerate()) == before
    opened.put(name, NOON, b"too late", None, False)
    again = BodyStore(store)
    assert await again.get(name, NOON) == Bodies(b"last", None, False)
    await again.close()


async def test_a_damaged_day_file_costs_only_its_bodies(sqlite_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await Store.open(sqlite_url, data_dir)
    body_store = BodyStore(store)
    (data_dir / "bodies-20261120.sqlite").write_bytes(b"not a database" * 1000)

    async def lose(times: int) -> list[int]:
        with capture_logs() as logged:
            for _ in range(times):
                body_store.put(ids.new_text(), NOON, b"x", None, False)
                await body_store.flush()
        return [entry["number"] for entry in logged if entry["event"] == "bodies.dropped"]

    assert await lose(5) == [1], "said at once, and then not for each"
    monkeypatch.setattr(bodies, "monotonic", lambda: monotonic() + bodies.DROPS_LOGGED_SECONDS)
    assert await lose(2) == [5], "those that were not said are"
    later = ids.new_text()
    body_store.put(later, NOON + 24 * HOUR, b"y", None, False)
    assert await body_store.get(later, NOON + 24 * HOUR) == Bodies(b"y", None, False)
    await body_store.purge(NOON + 18 * HOUR)
    assert not (data_dir / "bodies-20261120.sqlite").exists()
    await body_store.close()
    await store.close()


async def test_a_locked_day_file_never_blocks_the_loop(sqlite_url: str, data_dir: Path) -> None:
    store = await Store.open(sqlite_url, data_dir)
    body_store = BodyStore(store)
    body_store.put(ids.new_text(), NOON, b"x", None, False)
    await body_store.flush()
    with contextlib.closing(sqlite3.connect(data_dir / "bodies-20261120.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        loop = asyncio.get_running_loop()
        body_store.put(ids.new_text(), NOON, b"y", None, False)
        flushing = asyncio.create_task(body_store.flush())
        longest = 0.0
        while not flushing.done():
            before = loop.time()
            await asyncio.sleep(0.01)
            longest = max(longest, loop.time() - before)
        assert longest < 1.0
        other.execute("ROLLBACK")
    await body_store.close()
    await store.close()


async def test_a_block_outlives_the_oldest_of_its_bodies(body_store: BodyStore) -> None:
    """Bodies that are written together are stored together; each is there until its own time is up."""
    names = [ids.new_text() for _ in range(300)]
    for number, name in enumerate(names):
        body_store.put(name, NOON + number, b"asked %d " % number * 100, b"answered %d" % number, number % 2 == 0)
    for number in (0, 7, 299):
        found = await body_store.get(names[number], NOON + number)
        assert found == Bodies(b"asked %d " % number * 100, b"answered %d" % number, number % 2 == 0)
    assert await body_store.purge(NOON + 150) == 150
    assert await body_store.get(names[149], NOON + 149) is None
    found = await body_store.get(names[150], NOON + 150)
    assert found == Bodies(b"asked 150 " * 100, b"answered 150", True)


async def test_a_batch_that_is_written_twice_is_whole(body_store: BodyStore) -> None:
    """A commit whose answer was lost is repeated, perhaps with more."""
    first, second = ids.new_text(), ids.new_text()
    body_store.put(first, NOON, b"one", None, False)
    await body_store.flush()
    body_store.put(first, NOON, b"one", None, False)
    body_store.put(second, NOON + 1, b"two", None, False)
    assert await body_store.get(first, NOON) == Bodies(b"one", None, False)
    assert await body_store.get(second, NOON + 1) == Bodies(b"two", None, False)


async def test_a_day_that_began_before_there_were_blocks_goes_on(sqlite_url: str, data_dir: Path) -> None:
    store = await Store.open(sqlite_url, data_dir)
    before, after = ids.new_text(), ids.new_text()
    with contextlib.closing(sqlite3.connect(data_dir / "bodies-20261120.sqlite")) as old, old:
        old.execute(
            "CREATE TABLE bodies (request_id TEXT PRIMARY KEY, at INTEGER NOT NULL, content BLOB NOT NULL, truncated INTEGER NOT NULL)"
        )
        content = zlib.compress(msgspec.msgpack.encode((b"asked", None)))
        old.execute("INSERT INTO bodies VALUES (?, ?, ?, ?)", (before, NOON, content, True))
    body_store = BodyStore(store)
    body_store.put(after, NOON + 1, b"asked later", b"answered", False)
    assert await body_store.get(after, NOON + 1) == Bodies(b"asked later", b"answered", False)
    assert await body_store.get(before, NOON) == Bodies(b"asked", None, True)
    await body_store.close()
    await store.close()
