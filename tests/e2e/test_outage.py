"""The database, the journal or the disk is not to be had for a while: callers notice nothing, or are told so before anything costs."""

import asyncio
import contextlib
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dwctl.money import format_amount
from tests.appliance import Appliance, Simulator, model, running, setup
from tests.conftest import PostgresServer, small_disk
from tests.crash import books
from tests.crash.aftermath import recorded, spend_everything
from tests.crash.books import Database
from tests.crash.client import CHAT, Answer, chat, one
from tests.crash.run import PRICES, Load, document, loaded
from tests.waiting import until

OUTAGE_SECONDS = 10
SMALL_JOURNAL = {"max_bytes": 96 * 1024, "segment_bytes": 16 * 1024}
UNAVAILABLE = (503, "recording_unavailable")


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Another process holds the SQLite file exclusively."""
    program = f"""
import sqlite3, sys
connection = sqlite3.connect({str(path)!r}, isolation_level=None, timeout=60)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()


async def readiness(appliance: Appliance) -> tuple[int, list[str]]:
    """Status and reasons of /readyz."""
    status, body = await asyncio.to_thread(appliance.get_json, "/readyz")
    return status, body["reasons"]


async def ready(appliance: Appliance, status: int, *reasons: str, seconds: float = 20) -> None:
    """Wait until /readyz has this status, with these reasons among its own; no reasons means that there are none."""
    deadline = time.monotonic() + seconds
    while True:
        found = await readiness(appliance)
        if found[0] == status and (set(reasons) <= set(found[1]) if reasons else not found[1]):
            return
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


def is_error(alias: str, answer: Answer) -> bool:
    """Whether a client has reason to complain: the answer is not what the model always gives."""
    if answer.left:
        return False
    if alias in ("cut", "broken"):
        return not answer.in_full
    return not answer.ok


async def check_nothing_lost(appliance: Appliance, simulator: Simulator, database: Database, load: Load, refused: int = 0) -> None:
    """Every answer has its row and its right charge, once, and nothing is held. ``refused``: answers that say ``UNAVAILABLE``."""
    told = [answer for _, answer in load.answers if answer.status == 503]
    assert all(answer.code == UNAVAILABLE[1] for answer in told)
    assert (len(told) > 0) == (refused > 0)
    failures = [(alias, answer) for alias, answer in load.answers if is_error(alias, answer) and answer.status != 503]
    assert not failures, failures[:3]
    served = books.served_by(simulator)
    assert not {answer.id for answer in told} & served.keys(), "refused, and the provider was asked"
    await recorded(database, load.received())
    price, last = await spend_everything(appliance, database)
    assert last.id is not None
    await recorded(database, {last.id})
    found = await books.read(database)
    books.check(found)
    books.check_served(found, load.received() | {last.id}, books.served_by(simulator), PRICES | {"everything": price})
    if not told:
        assert load.known <= found.requests.keys()
    assert not appliance.in_flight()


@pytest.mark.timeout(120)
async def test_sqlite_held_by_another_process(tmp_path: Path) -> None:
    with running(tmp_path / "run", document) as (appliance, simulator):
        database = Database(None, appliance.data_dir)
        async with loaded(appliance.port) as load:
            await going_on(load)
            with held(database.path):
                end = time.monotonic() + OUTAGE_SECONDS
                await ready(appliance, 200, "database_unavailable")
                assert await asyncio.to_thread(appliance.get, "/healthz") == 200
                assert await sign_in(appliance) == 503
                await asyncio.sleep(end - time.monotonic())
                assert await readiness(appliance) in ((200, ["database_unavailable"]), (200, ["database_unavailable", "recorder_lagging"]))
                await going_on(load)
            await ready(appliance, 200)
        await check_nothing_lost(appliance, simulator, database, load)


@pytest.mark.timeout(120)
async def test_a_budget_outlives_a_kill_while_the_database_is_held(tmp_path: Path) -> None:
    """What was spent is in the journal alone; the server that starts on it spends the rest, and not a credit more."""
    cost, afforded = 1_000_000, 40
    price = {"per_request": format_amount(cost)}
    body = {"model": "one", "query": "what", "documents": ["this"]}

    async def ask(times: int) -> list[Answer]:
        return list(await asyncio.gather(*(one(appliance.port, "/ai/v1/rerank", body) for _ in range(times))))

    plan = partial(setup, models=[model("one", "sim-rerank?latency=20", prices=[price])], credit=format_amount(afforded * cost))
    with running(tmp_path / "run", plan) as (appliance, simulator):
        database = Database(None, appliance.data_dir)
        with held(database.path):
            first = await ask(afforded - 13)
            appliance.kill()
            await asyncio.to_thread(appliance.start)
            second = await ask(afforded)
            assert not await books.charged(database), "nothing is in the database yet"
        assert all(answer.ok for answer in first)
        assert sum(answer.ok for answer in second) == 13
        assert {answer.code for answer in second if not answer.ok} <= {"insufficient_balance", "balance_reserved"}
        served = {answer.id for answer in first + second if answer.ok and answer.id}
        assert simulator.served().keys() == served
        await recorded(database, served)
        await ready(appliance, 200)
        found = await books.read(database)
        books.check(found)
        assert found.charges() == dict.fromkeys(served, cost)
        assert set(found.balances.values()) == {0}


async def sign_in(appliance: Appliance) -> int:
    """The status of an administrator's sign-in, whose session would have to be stored."""
    answer = await one(appliance.port, "/authentication/login", {"email": "admin@example.com", "password": "correct horse battery"})
    return answer.status


class LossyProxy:
    """Between the server and PostgreSQL. While ``losing`` it lets a COMMIT through and breaks the connection in place of its answer."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.losing = 0
        self.lost = 0
        self.port = 0

    async def __aenter__(self) -> "LossyProxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def lose_one(self) -> None:
        """Return once the answer of a COMMIT was lost."""
        lost = self.lost
        self.losing = 1
        await until(lambda: self.lost > lost)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        committing = asyncio.Event()

        async def requests() -> None:
            while data := await reader.read(65536):
                if self.losing and b"COMMIT;\0" in data:
                    self.losing -= 1
                    committing.set()
                up_writer.write(data)

        async def answers() -> None:
            while data := await up_reader.read(65536):
                if committing.is_set():
                    assert b"COMMIT" in data
                    self.lost += 1
                    return
                writer.write(data)

        directions = [asyncio.create_task(requests()), asyncio.create_task(answers())]
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
        writer.transport.abort()
        up_writer.transport.abort()


@pytest.mark.timeout(180)
async def test_postgresql_stopped_killed_and_answers_of_commits_lost(tmp_path: Path, postgres_server: PostgresServer) -> None:
    await asyncio.to_thread(postgres_server.execute, "CREATE DATABASE outage")
    async with LossyProxy(postgres_server.port) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/outage"
        async with in_thread(tmp_path / "run", url) as (appliance, simulator):
            database = Database(postgres_server.url("outage"), appliance.data_dir)
            async with loaded(appliance.port) as load:
                await going_on(load)
                await asyncio.to_thread(postgres_server.stop)
                await ready(appliance, 200, "database_unavailable")
                await asyncio.sleep(OUTAGE_SECONDS)
                assert (await readiness(appliance))[0] == 200
                await asyncio.to_thread(postgres_server.start)
                await ready(appliance, 200)
                await going_on(load)
                postgres_server.kill()
                await ready(appliance, 200, "database_unavailable")
                await asyncio.sleep(OUTAGE_SECONDS / 2)
                await asyncio.to_thread(postgres_server.start)
                await ready(appliance, 200)
                for _ in range(5):
                    await proxy.lose_one()
                await going_on(load)
                await ready(appliance, 200)
            await check_nothing_lost(appliance, simulator, database, load)
            metrics = appliance.metrics()
            assert metrics["dwctl_credits_duplicates_total"] > 0, "a group whose commit was not answered was written again"


@contextlib.asynccontextmanager
async def in_thread(directory: Path, database_url: str) -> AsyncIterator[tuple[Appliance, Simulator]]:
    """``running`` without holding up the loop, in which the proxy is."""
    context = running(directory, document, database_url=database_url)
    started = await asyncio.to_thread(context.__enter__)
    try:
        yield started
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


async def going_on(load: Load) -> None:
    """Wait for a hundred priced answers from now on."""
    start = len(load.answers)
    await until(lambda: sum(answer.ok for alias, answer in load.answers[start:] if alias in PRICES) >= 100)


async def refused(load: Load) -> None:
    """Wait until a client was told that its request cannot be recorded."""
    async with asyncio.timeout(30):
        seen = 0
        while not any(answer.status == 503 for _, answer in load.answers[seen:]):
            seen = len(load.answers)
            await asyncio.sleep(0.05)


async def check_refusing(appliance: Appliance, simulator: Simulator) -> None:
    """Priced requests are refused, the provider does not hear of them; what costs nothing goes on."""
    for stream in (False, True):
        answer = await one(appliance.port, CHAT, chat("fast", stream=stream))
        assert (answer.status, answer.code) == UNAVAILABLE
        assert answer.id not in simulator.served()
    assert (await one(appliance.port, CHAT, chat("free"))).ok
    status, reasons = await readiness(appliance)
    assert status == 503, "it cannot admit"
    assert "journal_full" in reasons


@pytest.mark.timeout(120)
async def test_a_full_journal_refuses_what_costs_and_loses_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "run", document, settings={"journal": SMALL_JOURNAL}) as (appliance, simulator):
        database = Database(None, appliance.data_dir)
        async with loaded(appliance.port) as load:
            with held(database.path):
                await refused(load)
                load.pause()
                await until(lambda: not appliance.in_flight())
                # What ended gave back what was kept free for it: fill that, too.
                async with asyncio.timeout(20):
                    while (await one(appliance.port, CHAT, chat("fast"))).status != 503:
                        pass
                await check_refusing(appliance, simulator)
                load.go_on()
                await asyncio.sleep(1)
            await ready(appliance, 200)
            await going_on(load)
        await check_nothing_lost(appliance, simulator, database, load, refused=1)


@pytest.mark.timeout(120)
async def test_a_full_disk_refuses_what_costs_and_loses_nothing(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"journal": {"segment_bytes": 64 * 1024}, "bodies": {"mode": "full"}}
    with (
        small_disk(tmp_path / "run" / "data", "8m") as disk,
        running(tmp_path / "run", document, settings=settings) as (appliance, simulator),
    ):
        database = Database(None, appliance.data_dir)
        async with loaded(appliance.port) as load:
            await going_on(load)
            filler = disk / "filler"
            with filler.open("wb", buffering=0) as file:
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(4096))
            await refused(load)
            await asyncio.sleep(1)
            assert (await readiness(appliance))[0] == 503
            filler.unlink()
            await ready(appliance, 200)
            await going_on(load)
        await check_nothing_lost(appliance, simulator, database, load, refused=1)


@pytest.mark.timeout(120)
async def test_a_disk_that_takes_nothing_at_all_not_even_what_it_promised(tmp_path: Path) -> None:
    """Every write of the server fails, the log's too; what had begun is kept in memory until the disk is back."""
    with running(tmp_path / "run", document) as (appliance, simulator):
        database = Database(None, appliance.data_dir)
        pid = appliance.serving_pid()
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        async with loaded(appliance.port) as load:
            await going_on(load)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
            await refused(load)
            await asyncio.sleep(1)
            assert (await readiness(appliance))[0] == 503
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
            await ready(appliance, 200)
            await going_on(load)
        await check_nothing_lost(appliance, simulator, database, load, refused=1)


async def test_a_server_whose_terminal_goes_stops_in_order_and_not_for_want_of_the_database(tmp_path: Path) -> None:
    with running(tmp_path / "run", document) as (appliance, _):
        database = Database(None, appliance.data_dir)
        with held(database.path):
            assert (await one(appliance.port, CHAT, chat("fast"))).ok
            await ready(appliance, 200, "database_unavailable")
            assert appliance.process is not None
            appliance.process.send_signal(signal.SIGHUP)
            # Far below shutdown.drain_timeout, which is for requests.
            assert await asyncio.to_thread(appliance.process.wait, 30) == 0
            appliance.process = None
        assert len(appliance.events("ledger.not_all_recorded")) == len(appliance.events("stopped")) == 1
