"""The database away, locked, killed in the middle of COMMIT; the store afterwards; and that closing ends every thread."""

import asyncio
import contextlib
import gc
import os
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from dwctl.errors import ConfigurationError
from dwctl.store import Store, StoreUnavailable, Tx
from dwctl.store.tables import Balance
from tests.conftest import PostgresServer
from tests.waiting import until


async def insert(store: Store, account: str | None = None) -> str:
    name = account or str(uuid.uuid4())

    async def operation(tx: Tx) -> str:
        await tx.execute("INSERT INTO account_balances (account_id, balance_nano, updated_at) VALUES (?, 1, 1)", [name])
        return name

    return await store.write(operation)


async def accounts(store: Store) -> set[str]:
    return {row["account_id"] for row in await store.fetch("SELECT account_id FROM account_balances")}


async def end_connection(url: str, connection: Any) -> None:
    """The server ends a connection that a pool has given out."""
    other = await asyncpg.connect(url)
    await other.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
    await other.close()
    await until(lambda: connection._con is None)


@contextlib.contextmanager
def held(path: Path):
    """Another process holds the database file exclusively."""
    program = f"""
import sqlite3, sys
connection = sqlite3.connect({str(path)!r}, isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
async def sqlite_store(sqlite_url: str, data_dir: Path):
    store = await Store.open(None, data_dir)
    yield store
    await store.close()


async def test_a_lock_elsewhere_fails_writes_together_after_a_bounded_wait(sqlite_store: Store, data_dir: Path) -> None:
    before = await insert(sqlite_store)
    with held(data_dir / "dwctl.db"):
        started = time.monotonic()
        results = await asyncio.gather(*(insert(sqlite_store) for _ in range(50)), return_exceptions=True)
        assert all(isinstance(result, StoreUnavailable) for result in results)
        assert 1.5 < time.monotonic() - started < 6
        assert await accounts(sqlite_store) == {before}, "reading goes on"
    after = await insert(sqlite_store)
    assert await accounts(sqlite_store) == {before, after}


async def test_a_short_lock_is_waited_out(sqlite_store: Store, data_dir: Path) -> None:
    with held(data_dir / "dwctl.db"):
        waiting = asyncio.create_task(insert(sqlite_store))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
    assert await waiting in await accounts(sqlite_store)


async def test_two_processes_write_the_same_file(sqlite_store: Store, sqlite_url: str, tmp_path: Path) -> None:
    other = await Store.open(sqlite_url, tmp_path / "other")
    written = await asyncio.gather(*(insert(store) for store in (sqlite_store, other) * 50))
    assert await accounts(sqlite_store) == await accounts(other) == set(written)
    await other.close()


async def test_a_full_disk_undoes_everything_and_is_no_error_of_the_operation(sqlite_store: Store) -> None:
    """SQLite undoes the whole transaction when the file cannot grow: nobody of the group may believe in a commit."""
    [pages] = await sqlite_store.fetch("SELECT page_count FROM pragma_page_count")

    async def limit(tx: Tx, number: int) -> None:
        await tx.fetch(f"PRAGMA max_page_count = {number}")

    async def large(tx: Tx) -> None:
        await tx.execute("INSERT INTO properties (name, value) VALUES ('large', ?)", ["x" * 1_000_000])

    await sqlite_store.write(lambda tx: limit(tx, pages["page_count"] + 2))
    results = await asyncio.gather(insert(sqlite_store), sqlite_store.write(large), return_exceptions=True)
    assert isinstance(results[1], StoreUnavailable)
    assert (await accounts(sqlite_store) == set()) == isinstance(results[0], StoreUnavailable)
    await sqlite_store.write(lambda tx: limit(tx, 1_000_000))
    await sqlite_store.write(large)
    assert len(await accounts(sqlite_store)) == (0 if isinstance(results[0], StoreUnavailable) else 1)


async def test_a_caller_that_left_before_its_turn_is_skipped(sqlite_store: Store, data_dir: Path) -> None:
    with held(data_dir / "dwctl.db"):
        first, second = asyncio.create_task(insert(sqlite_store)), asyncio.create_task(insert(sqlite_store))
        await until(lambda: len(sqlite_store.database._writer._queue) == 2)
        second.cancel()
    name = await first
    with pytest.raises(asyncio.CancelledError):
        await second
    assert await accounts(sqlite_store) == {name}


async def test_a_write_inside_a_write_is_an_error_not_a_deadlock(sqlite_store: Store) -> None:
    async def nested(tx: Tx) -> None:
        await insert(sqlite_store)

    with pytest.raises(RuntimeError, match="inside"):
        await sqlite_store.write(nested)


async def test_an_operation_that_outlives_its_turn_cannot_write(store: Store) -> None:
    kept: list[Tx] = []

    async def keeps(tx: Tx) -> None:
        kept.append(tx)

    await store.write(keeps)
    with pytest.raises(RuntimeError, match="over"):
        await kept[0].execute("DELETE FROM users")


async def test_a_slow_report_keeps_no_reader_waiting(sqlite_store: Store) -> None:
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000) SELECT count(*) AS c FROM n"
    await asyncio.gather(*(sqlite_store.fetch_report("SELECT 1") for _ in range(2)))
    running: set[int] = set()
    for number, client in enumerate(sqlite_store.database._report_clients):
        await client._connection.set_progress_handler(lambda number=number: running.add(number), 1000)
    reports = [asyncio.create_task(sqlite_store.fetch_report(slow)) for _ in range(2)]
    await until(lambda: len(running) == 2)
    started = time.monotonic()
    await sqlite_store.fetch("SELECT 1")
    await insert(sqlite_store)
    assert time.monotonic() - started < 1
    assert not any(report.done() for report in reports)
    for report in reports:
        report.cancel()
    await asyncio.gather(*reports, return_exceptions=True)
    assert await asyncio.wait_for(sqlite_store.fetch_report("SELECT 1 AS one"), 1) == [{"one": 1}], "a cancelled report is interrupted"


async def test_closing_finishes_what_was_begun_and_ends_every_thread(database_url: str, data_dir: Path) -> None:
    before = set(threading.enumerate())
    store = await Store.open(database_url, data_dir)
    await store.fetch_report("SELECT 1")
    await Balance.all().count()
    writes = [asyncio.create_task(insert(store)) for _ in range(20)]
    await asyncio.sleep(0)
    await store.close()
    written = {result for result in await asyncio.gather(*writes, return_exceptions=True) if isinstance(result, str)}
    if store.dialect == "sqlite":
        assert len(written) == 20
    assert set(threading.enumerate()) == before
    for call in (insert(store), store.fetch("SELECT 1"), store.fetch_report("SELECT 1")):
        with pytest.raises(StoreUnavailable):
            await call
    await store.close()
    assert set(threading.enumerate()) == before
    again = await Store.open(database_url, data_dir)
    assert await accounts(again) == written
    await again.close()


def test_a_process_that_forgets_to_close_ends_all_the_same(tmp_path: Path) -> None:
    program = f"""
import asyncio
from pathlib import Path
from dwctl.store import BodyStore, Changes, Store
from dwctl.store.tables import User

async def main():
    store = await Store.open(None, Path({str(tmp_path)!r}))
    await User.all().count()
    await store.fetch_report("SELECT 1")
    print("forgotten", flush=True)

asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], timeout=30, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ended.stdout == "forgotten\n"


async def test_postgresql_stopped_and_started(postgres_server: PostgresServer, data_dir: Path) -> None:
    store = await Store.open(postgres_server.url(), data_dir)
    before = await insert(store)
    postgres_server.stop()
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await insert(store)
        with pytest.raises(StoreUnavailable):
            await store.fetch("SELECT 1")
        with pytest.raises(StoreUnavailable):
            await store.fetch_report("SELECT 1")
        with pytest.raises(StoreUnavailable):
            await Balance.all().count()
    postgres_server.start()
    after = await insert(store)
    assert await accounts(store) == {before, after}
    assert await Balance.all().count() == 2
    await store.fetch_report("SELECT 1")
    await store.close()


async def test_postgresql_killed_in_the_middle_of_commits(postgres_server: PostgresServer, data_dir: Path) -> None:
    """What was answered is there. What was not answered may be there: whoever writes again must be idempotent."""
    store = await Store.open(postgres_server.url(), data_dir)
    answered: set[str] = set()
    asked: set[str] = set()
    failures = 0

    async def writer() -> None:
        nonlocal failures
        while not stop.is_set():
            name = str(uuid.uuid4())
            asked.add(name)
            try:
                answered.add(await insert(store, name))
            except StoreUnavailable:
                failures += 1
                await asyncio.sleep(0.02)

    for _ in range(3):
        stop = asyncio.Event()
        had = len(answered)
        writers = [asyncio.create_task(writer()) for _ in range(8)]
        await until(lambda had=had: len(answered) > had + 50)
        await asyncio.to_thread(postgres_server.kill)
        await until(lambda: failures > 0)
        await asyncio.to_thread(postgres_server.start)
        more = len(answered) + 20
        await until(lambda more=more: len(answered) > more)
        stop.set()
        await asyncio.gather(*writers)
    assert answered <= await accounts(store) <= asked
    await store.close()


async def test_a_server_that_hangs_is_an_outage(postgres_server: PostgresServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    from dwctl.store import postgresql

    monkeypatch.setattr(postgresql, "WRITE_SECONDS", 0.5)
    store = await Store.open(postgres_server.url(), data_dir)
    await insert(store)
    children = postgres_server.children()

    def tell(number: signal.Signals) -> None:
        for child in children:
            with contextlib.suppress(ProcessLookupError):  # a worker of the server's own comes and goes
                os.kill(child, number)

    tell(signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await insert(store)
        assert time.monotonic() - started < 5
    finally:
        tell(signal.SIGCONT)
    await insert(store)
    await store.close()


@pytest.mark.parametrize("pooled", [False, True])
async def test_a_connection_that_ends_just_as_it_is_taken_is_an_outage(
    postgres_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch, pooled: bool
) -> None:
    store = await Store.open(postgres_url, data_dir, direct_url=postgres_url if pooled else None)
    before = await insert(store)
    acquire = asyncpg.pool.Pool.acquire

    async def ended(pool: asyncpg.Pool, *, timeout: float) -> object:
        connection = await acquire(pool, timeout=timeout)
        await end_connection(postgres_url, connection)
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(asyncpg.pool.Pool, "acquire", ended)
        for _ in range(10):  # more than a pool has: each goes back
            with pytest.raises(StoreUnavailable):
                await insert(store)
            with pytest.raises(StoreUnavailable):
                await store.fetch("SELECT 1")
    assert await accounts(store) == {before}
    after = await insert(store)
    assert await accounts(store) == {before, after}
    await store.close()


async def test_deadlocks_are_tried_again(postgres_url: str, data_dir: Path) -> None:
    store = await Store.open(postgres_url, data_dir)
    one, two = await insert(store), await insert(store)
    met = asyncio.Barrier(2)
    runs = 0

    async def crossing(tx: Tx, first: str, second: str) -> None:
        nonlocal runs
        runs += 1
        await tx.execute("UPDATE account_balances SET balance_nano = balance_nano + 1 WHERE account_id = ?", [first])
        if runs <= 2:
            await met.wait()
        await tx.execute("UPDATE account_balances SET balance_nano = balance_nano + 1 WHERE account_id = ?", [second])

    await asyncio.gather(*(store.write(lambda tx, pair=pair: crossing(tx, *pair), alone=False) for pair in ((one, two), (two, one))))
    assert runs == 3
    assert [row["balance_nano"] for row in await store.fetch("SELECT balance_nano FROM account_balances")] == [3, 3]
    await store.close()


async def test_an_error_that_an_operation_swallows_does_not_commit(postgres_url: str, data_dir: Path) -> None:
    """PostgreSQL would turn the COMMIT of a failed transaction into a silent ROLLBACK."""
    store = await Store.open(postgres_url, data_dir)
    name = await insert(store)

    async def swallows(tx: Tx) -> str:
        await tx.execute("INSERT INTO properties (name, value) VALUES ('a', 'b')")
        with contextlib.suppress(Exception):
            await tx.execute("INSERT INTO account_balances (account_id, balance_nano, updated_at) VALUES (?, 1, 1)", [name])
        return "written"

    with pytest.raises(Exception, match="aborted"):
        await store.write(swallows)
    await store.close()


async def test_a_cancelled_write_gives_its_connection_back(postgres_url: str, data_dir: Path) -> None:
    store = await Store.open(postgres_url, data_dir)

    hanging: list[Tx] = []

    async def hangs(tx: Tx) -> None:
        await tx.execute("INSERT INTO properties (name, value) VALUES (?, 'b')", [str(uuid.uuid4())])
        hanging.append(tx)
        await asyncio.Event().wait()

    for _ in range(3):
        hanging.clear()
        tasks = [asyncio.create_task(store.write(hangs, alone=alone)) for alone in (True, *[False] * 7)]
        await until(lambda: len(hanging) == 8)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await insert(store)
    assert await store.fetch("SELECT * FROM properties") == []
    await store.close()


async def test_a_cancelled_write_whose_connection_has_ended_is_cancelled(postgres_url: str, data_dir: Path) -> None:
    store = await Store.open(postgres_url, data_dir)
    hanging: list[Any] = []

    async def hangs(tx: Tx) -> None:
        hanging.append(tx)
        await asyncio.Event().wait()

    task = asyncio.create_task(store.write(hangs))
    await until(lambda: hanging)
    connection = hanging[0]._connection
    await end_connection(postgres_url, connection)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await insert(store)
    await store.close()


async def test_opening_waits_for_the_server(postgres_server: PostgresServer, data_dir: Path) -> None:
    postgres_server.stop()
    with pytest.raises(StoreUnavailable):
        await Store.open(postgres_server.url(), data_dir)
    opening = asyncio.create_task(Store.open(postgres_server.url(), data_dir, wait=30))
    await asyncio.sleep(0.4)
    assert not opening.done()
    await asyncio.to_thread(postgres_server.start)
    store = await opening
    await insert(store)
    await store.close()
    gc.collect()


async def test_a_wrong_address_is_no_outage(postgres_server: PostgresServer, data_dir: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        await Store.open(postgres_server.url("nowhere"), data_dir, wait=30)
    for url in ("mysql://x/y", "sqlite://", "sqlite:///tmp/x?mode=memory"):
        with pytest.raises(ConfigurationError, match=r"database\.url"):
            await Store.open(url, data_dir)


async def test_a_file_that_is_no_database_is_named(data_dir: Path) -> None:
    (data_dir / "dwctl.db").write_bytes(b"something else entirely" * 1000)
    with pytest.raises(StoreUnavailable, match="not a database"):
        await Store.open(None, data_dir)
    (data_dir / "dwctl.db").unlink()
    (data_dir / "dwctl.db").mkdir()
    with pytest.raises(StoreUnavailable, match=r"dwctl\.db"):
        await Store.open(None, data_dir)


def test_sqlite_survives_a_kill_between_commits(tmp_path: Path) -> None:
    """What a killed process had answered is there, and the file is whole."""
    program = f"""
import asyncio, uuid
from pathlib import Path
from dwctl.store import Store

async def main():
    store = await Store.open(None, Path({str(tmp_path)!r}))
    async def insert(name):
        async def operation(tx):
            await tx.execute("INSERT INTO properties (name, value) VALUES (?, ?)", [name, "x" * 2000])
        await store.write(operation)
        print(name, flush=True)
    async def writer():
        while True:
            await insert(uuid.uuid4().hex)
    await asyncio.gather(*(writer() for _ in range(8)))

asyncio.run(main())
"""
    answered: set[str] = set()
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
            assert process.stdout is not None
            for line in process.stdout:
                answered.add(line.strip())
                if len(answered) % 200 == 0:
                    process.kill()
                    break
    with contextlib.closing(sqlite3.connect(tmp_path / "dwctl.db")) as connection:
        assert answered <= {name for (name,) in connection.execute("SELECT name FROM properties")}
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
