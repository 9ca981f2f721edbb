"""The change follower: order, coalescing, other nodes, failures and outages."""

import asyncio
import re
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from structlog.testing import capture_logs

from dwctl.errors import ConfigurationError
from dwctl.store import ChangeRow, Changes, Store, StoreUnavailable, Tx
from dwctl.store import changes as changes_module
from dwctl.store.changes import SETTLE_SECONDS, coalesced
from dwctl.store.postgresql import PostgresDatabase
from dwctl.telemetry.metrics import REGISTRY
from tests.conftest import PostgresServer, everywhere
from tests.pooler import Pooler
from tests.waiting import until


class Follower:
    """Applies changes to a set, as a snapshot would, and remembers how often."""

    def __init__(self) -> None:
        self.applications: list[list[ChangeRow]] = []
        self.failing = 0

    async def apply(self, rows: list[ChangeRow]) -> None:
        if self.failing:
            self.failing -= 1
            raise LookupError("not this time")
        self.applications.append(rows)

    @property
    def entities(self) -> list[str | None]:
        return [row.entity_id for rows in self.applications for row in rows]


@pytest.fixture
async def changes(store: Store) -> AsyncIterator[Changes]:
    opened = Changes(store)
    yield opened
    await opened.close()


async def note(store: Store, entity: str | None = None) -> int:
    return await store.write(lambda tx: Changes.note(tx, "key", entity))


async def test_an_answer_waits_for_its_own_node(store: Store, changes: Changes) -> None:
    follower = Follower()
    assert await changes.head() == 0
    changes.start(follower.apply, await changes.head())
    for number in range(20):
        seq = await note(store, f"key-{number}")
        await changes.applied(seq)
        assert follower.entities[-1] == f"key-{number}"
    assert follower.entities == [f"key-{number}" for number in range(20)]
    assert await changes.head() == seq


async def test_waiting_for_each_change_is_quick(store: Store, changes: Changes) -> None:
    changes.start(Follower().apply, 0)
    loop = asyncio.get_running_loop()
    before = loop.time()
    for number in range(10):
        await changes.applied(await note(store, f"key-{number}"))
    assert loop.time() - before < 1.0, "ten answers did not wait for ten looks at the log"


async def test_how_changes_are_followed_is_measured(store: Store, changes: Changes) -> None:
    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(f"dwctl_cache_sync_{name}", labels) or 0

    lagging, told = value("lag_seconds_count", table="key"), value("total", source="listen_notify")
    changes.start(Follower().apply, 0)
    await changes.applied(await note(store, "told"))
    assert value("total", source="listen_notify") > told
    assert value("lag_seconds_count", table="key") == lagging + 1
    assert 0 < value("lag_seconds_sum", table="key") < 60


async def test_what_was_before_is_not_applied(store: Store, changes: Changes) -> None:
    follower = Follower()
    await note(store, "old")
    changes.start(follower.apply, await changes.head())
    await changes.applied(await note(store, "new"))
    assert follower.entities == ["new"]


async def test_many_notes_are_few_applications(store: Store, changes: Changes) -> None:
    follower = Follower()
    changes.start(follower.apply, 0)
    loop = asyncio.get_running_loop()
    started = loop.time()
    seqs = await asyncio.gather(*(note(store, f"key-{number % 10}") for number in range(50)))
    changes.poke()
    await until(lambda: changes._seq == max(seqs))
    assert len(follower.applications) <= 2 + (loop.time() - started) / SETTLE_SECONDS, "the first at once, then one a period"
    assert {row.entity_id for row in follower.applications[-1]} <= {f"key-{number}" for number in range(10)}
    assert set(follower.entities) == {f"key-{number}" for number in range(10)}
    assert follower.applications[-1][-1].seq == max(seqs)


def test_coalescing_keeps_the_last_of_each_entity_in_order() -> None:
    rows = [ChangeRow(seq, area, entity) for seq, (area, entity) in enumerate([("key", "a"), ("key", "b"), ("user", "a"), ("key", "a")])]
    assert coalesced(rows) == [rows[1], rows[2], rows[3]]


@everywhere
async def test_another_node_follows_within_a_second(database_url: str, direct_url: str | None, tmp_path: Path, store: Store) -> None:
    other_store = await Store.open(database_url, tmp_path / "other", direct_url=direct_url)
    other = Changes(other_store)
    follower = Follower()
    other.start(follower.apply, 0)
    await note(store, "elsewhere")
    await until(lambda: follower.entities == ["elsewhere"], seconds=1.0)
    await other.close()
    await other_store.close()


async def test_an_application_that_fails_is_repeated(store: Store, changes: Changes) -> None:
    follower = Follower()
    follower.failing = 2
    changes.start(follower.apply, 0)
    await changes.applied(await note(store, "a"))
    assert follower.entities == ["a"]


async def test_waiting_has_an_end(store: Store, changes: Changes) -> None:
    changes.start(Follower().apply, 0)
    assert not await changes.applied(10**6, timeout=0.1)


async def test_an_undone_note_was_never_there(store: Store, changes: Changes) -> None:
    follower = Follower()
    changes.start(follower.apply, 0)

    async def fails(tx: Tx) -> None:
        await Changes.note(tx, "key", "undone")
        raise LookupError

    with pytest.raises(LookupError):
        await store.write(fails)
    await changes.applied(await note(store, "kept"))
    assert follower.entities == ["kept"]


async def test_order_of_commit_is_order_of_seq(postgres_url: str, data_dir: Path) -> None:
    """A transaction that noted first commits first, however long it takes: a follower never steps over it."""
    store = await Store.open(postgres_url, data_dir)
    changes = Changes(store)
    follower = Follower()
    changes.start(follower.apply, 0)
    noted, go_on = asyncio.Event(), asyncio.Event()

    async def slow(tx: Tx) -> int:
        seq = await Changes.note(tx, "key", "slow")
        noted.set()
        await go_on.wait()
        return seq

    first = asyncio.create_task(store.write(slow, alone=False))
    await noted.wait()
    second = asyncio.create_task(note(store, "quick"))
    done, _ = await asyncio.wait([second], timeout=0.2)
    assert not done
    go_on.set()
    assert await first < await second
    await changes.applied(await second)
    assert follower.entities == ["slow", "quick"]
    await changes.close()
    await store.close()


async def test_an_outage_of_postgresql_is_survived(postgres_server: PostgresServer, data_dir: Path) -> None:
    store = await Store.open(postgres_server.url(), data_dir)
    changes = Changes(store)
    follower = Follower()
    changes.start(follower.apply, 0)
    await changes.applied(await note(store, "before"))
    postgres_server.kill()
    with pytest.raises(StoreUnavailable):
        await note(store, "lost")
    postgres_server.start()
    await changes.applied(await note(store, "after"), timeout=20)
    assert follower.entities == ["before", "after"]
    name = str(uuid.uuid4())
    postgres_server.execute(f"INSERT INTO change_log (area, entity_id, at) VALUES ('key', '{name}', 0); NOTIFY dwctl_changes")
    await until(lambda: follower.entities[-1] == name)
    await changes.close()
    await store.close()


async def test_news_comes_over_the_direct_connection_and_also_after_that_was_lost(
    postgres_url: str, pooler: Pooler, shared_postgres: Callable[[str], str], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a look at the log, which would bring it half a second later."""
    monkeypatch.setattr("dwctl.store.changes.POLL_SECONDS", 60)
    listening = (
        f"FROM pg_stat_activity WHERE datname = '{postgres_url.rpartition('/')[2]}' AND pid <> pg_backend_pid() "
        "AND query LIKE 'LISTEN%' AND state = 'idle'"
    )
    stores = [await Store.open(pooler.url(postgres_url), data_dir / name, direct_url=postgres_url) for name in ("here", "elsewhere")]
    changes, follower = Changes(stores[0]), Follower()
    changes.start(follower.apply, 0)
    listener = ""
    for number in range(2):
        await until(lambda before=listener: (found := shared_postgres(f"SELECT pid {listening}").strip()) and found != before)
        listener = shared_postgres(f"SELECT pid {listening}").strip()
        port = int(shared_postgres(f"SELECT client_port {listening}"))
        assert port in {connection.laddr.port for connection in psutil.Process().net_connections()}, "not by way of the pooler"
        name = f"key-{number}"
        await note(stores[1], name)
        await until(lambda name=name: name in follower.entities)
        # It is lost, and somebody makes a change before it is back.
        shared_postgres(f"SELECT pg_terminate_backend({listener})")
        await note(stores[1], f"meanwhile-{number}")
        await until(lambda number=number: f"meanwhile-{number}" in follower.entities)
    assert changes.degraded() == []
    await changes.close()
    for store in stores:
        await store.close()


@pytest.fixture
async def twins(postgres_url: str, data_dir: Path) -> AsyncIterator[list[Changes]]:
    """What follows the changes of two nodes on one PostgreSQL."""
    stores = [await Store.open(postgres_url, data_dir / name) for name in ("first", "second")]
    nodes = [Changes(store) for store in stores]
    yield nodes
    for changes, store in zip(nodes, stores, strict=True):
        await changes.close()
        await store.close()


async def test_no_two_nodes_have_one_name(twins: list[Changes], data_dir: Path) -> None:
    first, second = twins
    await first.claim("a", 0)
    with pytest.raises(ConfigurationError, match=re.escape(f"node_id a (in {data_dir / 'second' / 'node_id'}) is in use by another dwctl")):
        await second.claim("a", 0.2)
    await second.claim("b", 0)


async def test_a_predecessor_that_is_not_quite_gone_is_waited_for(twins: list[Changes]) -> None:
    first, second = twins
    await first.claim("a", 0)
    with capture_logs() as logs:
        waiting = asyncio.create_task(second.claim("a", 20))
        await until(lambda: logs)
        await first.close()
        await waiting
    assert [(entry["event"], entry["node_id"]) for entry in logs] == [("waiting_for_node_id", "a")]


async def test_a_name_that_was_lost_with_the_connection_is_taken_again(twins: list[Changes], shared_postgres: Callable[[str], str]) -> None:
    first, second = twins
    database = first._store.database.direct_url.rpartition("/")[2]  # type: ignore[union-attr]
    owner = f"FROM pg_locks JOIN pg_database d ON d.oid = database WHERE locktype = 'advisory' AND datname = '{database}'"
    follower = Follower()
    await first.claim("a", 0)
    first.start(follower.apply, 0)
    former = shared_postgres(f"SELECT pid {owner}")
    shared_postgres(f"SELECT pg_terminate_backend(pid) {owner}")
    await until(lambda: shared_postgres(f"SELECT pid {owner}") not in ("", former) and first.degraded() == [])
    # Another one waits for it, and is quicker than the second that passes before it connects again.
    claiming = asyncio.create_task(second.claim("a", 20))
    with capture_logs() as logs:
        await until(lambda: logs)
        shared_postgres(f"SELECT pg_terminate_backend(pid) {owner}")
        await claiming
        await until(lambda: first.degraded() == ["node_id_in_use"])
    assert [entry["log_level"] for entry in logs if entry["event"] == "changes.node_id_in_use"] == ["error"]
    await first.applied(await note(second._store, "meanwhile"))
    assert follower.entities == ["meanwhile"], "it goes on"
    await second.close()
    await until(lambda: first.degraded() == [])


async def test_a_connection_that_has_fallen_silent_is_given_up_and_the_name_kept(
    twins: list[Changes], shared_postgres: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither end hears of the other any more, as when a network breaks; PostgreSQL still has the session, and the session the name."""
    monkeypatch.setattr(changes_module, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(changes_module, "CONNECT_SECONDS", 0.5)
    node, other = twins
    database = node._store.database
    assert isinstance(database, PostgresDatabase)
    there = urlsplit(database.direct_url)
    broken = asyncio.Event()
    passed: list[int] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_first: bool) -> None:
        while data := await reader.read(65_536):
            if is_first and broken.is_set():
                await asyncio.Event().wait()
            writer.write(data)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed.append(len(passed))
        is_first = len(passed) == 1
        to, back = await asyncio.open_connection(there.hostname, there.port)
        await asyncio.gather(pass_on(reader, back, is_first), pass_on(to, writer, is_first))

    proxy = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    database.direct_url = there._replace(netloc=there.netloc.replace(f":{there.port}", f":{port}")).geturl()
    follower = Follower()
    await node.claim("a", 0)
    node.start(follower.apply, 0)
    name = there.path.removeprefix("/")
    owner = f"SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database WHERE locktype = 'advisory' AND datname = '{name}'"
    former = shared_postgres(owner)
    await until(lambda: shared_postgres(f"SELECT 1 FROM pg_stat_activity WHERE pid = {former} AND state = 'idle' AND query ~ 'LISTEN'"))
    with capture_logs() as logs:
        broken.set()
        await until(lambda: shared_postgres(owner) not in ("", former))
        await until(lambda: not node.degraded())
    assert "changes.node_id_in_use" not in {entry["event"] for entry in logs}, "that was this node's own session"
    with pytest.raises(ConfigurationError):
        await other.claim("a", 0)
    await node.close()
    proxy.close()


async def test_a_locked_sqlite_file_is_survived(sqlite_url: str, data_dir: Path) -> None:
    store = await Store.open(sqlite_url, data_dir)
    changes = Changes(store)
    follower = Follower()
    changes.start(follower.apply, 0)
    other = sqlite3.connect(data_dir / "dwctl.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    other.execute("INSERT INTO change_log (area, entity_id, at) VALUES ('key', 'elsewhere', 0)")
    with pytest.raises(StoreUnavailable):
        await note(store, "lost")
    other.execute("COMMIT")
    other.close()
    await until(lambda: follower.entities == ["elsewhere"])
    await changes.close()
    await store.close()


async def test_old_changes_are_forgotten(store: Store, changes: Changes) -> None:
    for number in range(10):
        newest = await note(store, f"key-{number}")
    assert await changes.prune(keep=3) == 7
    assert await changes.prune(keep=3) == 0
    assert await changes.head() == newest
    follower = Follower()
    changes.start(follower.apply, newest - 3)
    await changes.applied(newest)
    assert follower.entities == ["key-7", "key-8", "key-9"]
