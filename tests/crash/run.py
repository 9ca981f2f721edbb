"""Kill a server under load, again and again, and see whether its books are right.

Clients call models of every pace, JSON and streams mixed, while the server is killed with SIGKILL at random moments, under
load and while it starts. The simulated provider is another process that stays, and keeps its own account of what it served.
Afterwards the books, the provider's account and what the clients hold in their hands are compared; the journal, of which
every segment ever written was kept aside, is replayed over the database; and the last server is searched for leaks.
"""

import asyncio
import contextlib
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Container, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from psutil import CONN_CLOSE_WAIT as CLOSE_WAIT

from dwctl.ledger.journal import SUFFIX, segment_files
from tests.appliance import FROM_SOURCE, Appliance, Simulator, model, setup
from tests.crash import books, cashier
from tests.crash.aftermath import recorded, spend_everything
from tests.crash.books import Database
from tests.crash.client import CHAT, Answer, Client, chat
from tests.waiting import until

CONNECTIONS = 16
CREDIT = "1000000"
SERVING_AGAIN_SECONDS = 2.0
KILLS_WHILE_STARTING = 5
"""Of so many restarts one is broken off."""
SEGMENT_BYTES = 64 * 1024

TOKENS = {"input_per_million": "2.5005", "output_per_million": "10.0005", "cache_read_per_million": "0.2505"}
"""Odd numbers of tokens end in half a nano-credit, so that rounding counts."""
PRICES: dict[str, books.Prices] = {
    "fast": TOKENS,
    "slow": TOKENS,
    "paced": TOKENS,
    "cached": TOKENS,
    "cut": TOKENS,
    "broken": TOKENS,
    "embed": {"input_per_million": "0.0205"},
    "flat": {"per_request": "0.0000010005"},
}
BEHAVIOURS = {
    "fast": "sim-chat?tokens=9",
    "slow": "sim-chat?latency=40&tokens=5",
    "paced": "sim-chat?rate=300&tokens=31",
    "cached": "sim-chat?latency=3&input=1001&cached=701&reasoning=5&tokens=21",
    "cut": "sim-cut?after=4&rate=500",
    "broken": "sim-500",
    "embed": "sim-embed?latency=2",
    "flat": "sim-rerank?latency=5",
    "free": "sim-chat",
}


def document(simulator_url: str) -> dict[str, Any]:
    """The apply file of a run."""
    models = [model(alias, name, prices=[PRICES[alias]] if alias in PRICES else ()) for alias, name in BEHAVIOURS.items()]
    plan = setup(simulator_url, models, credit=CREDIT)
    plan["users"].append({"email": cashier.EMAIL, "roles": ["BillingManager"]})
    plan["keys"].append({"user": cashier.EMAIL, "name": "cashier", "secret": cashier.SECRET, "purpose": "platform"})
    return plan


def next_request(dice: random.Random) -> tuple[str, dict[str, Any], int | None]:
    """Path, body, and after how many bytes the client leaves (None: it stays)."""
    alias = dice.choices(("fast", "slow", "paced", "cached", "embed", "flat", "free", "cut", "broken"), (30, 15, 20, 15, 5, 5, 4, 3, 3))[0]
    text = " ".join(["word"] * dice.randint(1, 9))
    leaves = dice.choice((0, 1, 600)) if dice.random() < 0.04 else None
    if alias == "embed":
        return "/ai/v1/embeddings", {"model": alias, "input": text}, None
    if alias == "flat":
        return "/ai/v1/rerank", {"model": alias, "query": text, "documents": ["a", "b"]}, None
    stream = alias in ("paced", "cut") or dice.random() < 0.5
    options = {"stream_options": {"include_usage": True}} if stream and dice.random() < 0.3 else {}
    return CHAT, chat(alias, stream=stream, text=text, **options), leaves if stream else None


class Load:
    """Clients that ask without pause while the server is up, and what they got."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._dice = random.Random(seed)
        self._up = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.answers: list[tuple[str, Answer]] = []

    def received(self, priced: Container[str] = PRICES) -> set[str]:
        """Ids of the answers of priced models that a client has in full."""
        return {answer.id for alias, answer in self.answers if answer.ok and alias in priced and answer.id is not None}

    @property
    def known(self) -> set[str]:
        """Every id that a client was told in a whole answer, also a refusal."""
        return {answer.id for _, answer in self.answers if answer.in_full and answer.id is not None}

    def start(self, connections: int = CONNECTIONS) -> None:
        self._up.set()
        self._tasks += [asyncio.create_task(self._ask(random.Random(self._dice.random()))) for _ in range(connections)]

    def pause(self) -> None:
        """No new requests; those under way go on."""
        self._up.clear()

    def go_on(self) -> None:
        self._up.set()

    async def finish(self) -> None:
        """Let every request end, then close the connections."""
        self._up.clear()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel("no more")
        await asyncio.gather(*tasks)

    async def _ask(self, dice: random.Random) -> None:
        client = Client(self._port)
        task = asyncio.current_task()
        assert task is not None
        try:
            while True:
                await self._up.wait()
                path, body, leaves = next_request(dice)
                asking = asyncio.ensure_future(client.post(path, body, leave_after=leaves))
                try:
                    answer = await asyncio.shield(asking)
                except asyncio.CancelledError:
                    with contextlib.suppress(OSError):
                        self.answers.append((body["model"], await asking))
                    return
                except OSError:
                    await asyncio.sleep(0.01)
                    continue
                self.answers.append((body["model"], answer))
        except asyncio.CancelledError:
            return
        finally:
            client.close()


class Archive:
    """Keeps every segment of a journal: a hard link outlives the deletion of a recorded segment."""

    def __init__(self, journal: Path, kept: Path) -> None:
        self._journal, self._kept = journal, kept
        kept.mkdir()

    async def watch(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(0.02)

    def look(self) -> None:
        for number, path in segment_files(self._journal):
            with contextlib.suppress(FileNotFoundError):
                # A number is given again if its segment was removed before anything was written to it.
                kept = self._kept / f"{number}.{path.stat().st_ino}"
                if not kept.exists():
                    os.link(path, kept)

    def put_back(self) -> int:
        """Restore what the server has deleted; the number of segments that hold records."""
        numbers: set[int] = set()
        for kept in self._kept.iterdir():
            number = int(kept.name.partition(".")[0])
            if not any(kept.read_bytes()):
                continue
            assert number not in numbers, f"two segments have the number {number}"
            numbers.add(number)
            path = self._journal / f"{number:016d}{SUFFIX}"
            if not path.exists():
                path.write_bytes(kept.read_bytes())
        return len(numbers)


class Report:
    """What a run saw, in words."""

    def __init__(self) -> None:
        self.restarts: list[tuple[float, float]] = []
        """Of each restart the seconds from the kill to the first 200 of /healthz, and those of them spent waiting for a CPU."""
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)
        print(line, flush=True)

    def serving_again(self) -> float:
        """Seconds that nine of ten restarts take at most, without the time for which others had the CPUs."""
        return statistics.quantiles([whole - waited for whole, waited in self.restarts], n=10)[-1]


async def crash(
    directory: Path, *, kills: int, database_url: str | None = None, program: Sequence[str] = FROM_SOURCE, seed: int | None = None
) -> Report:
    """A whole run in an empty directory. Raises AssertionError for whatever is wrong with the books."""
    directory.mkdir(parents=True, exist_ok=True)
    seed = random.randrange(1 << 32) if seed is None else seed
    report = Report()
    report.say(f"{'sqlite' if database_url is None else 'postgresql'}, {kills} kills, seed {seed}")
    simulator = Simulator(directory, program, "--api-key", "provider-key")
    settings = {"journal": {"segment_bytes": SEGMENT_BYTES}, "shutdown": {"drain_timeout": 20}}
    appliance = Appliance(directory, database_url=database_url, program=program, settings=settings)
    try:
        appliance.apply(document(simulator.url))
        await _Run(report, simulator, appliance, Database(database_url, appliance.data_dir), kills, seed).run()
    finally:
        appliance.close()
        simulator.close()
    return report


class _Run:
    def __init__(self, report: Report, simulator: Simulator, appliance: Appliance, database: Database, kills: int, seed: int) -> None:
        self.report, self.simulator, self.appliance, self.database = report, simulator, appliance, database
        self.kills = kills
        self.dice = random.Random(seed)
        self.load = Load(appliance.port, seed)
        self.prices = dict(PRICES)

    async def run(self) -> None:
        await asyncio.to_thread(self.appliance.start)
        archive = Archive(self.appliance.data_dir / "journal", self.appliance.directory / "kept")
        watching = asyncio.create_task(archive.watch())
        [[account]] = await self.database.fetch("SELECT account_id FROM account_balances")
        orders = cashier.Cashier(self.appliance.port, account["account_id"], self.dice.randrange(1 << 32))
        try:
            self.load.start()
            orders.start()
            for number in range(self.kills):
                await asyncio.sleep(self.dice.uniform(0.05, 0.6))
                await self.kill_and_restart(number)
            await self.load.finish()
            await orders.finish()
            await self.check_leaks()
            final = await self.check_books()
        finally:
            watching.cancel()
            await self.load.finish()
            await orders.finish()
        orders.check(final)
        self.report.say(f"{len(orders.posted)} credits given or taken meanwhile, {orders.repeated} of them confirmed when asked again")
        archive.look()
        await self.check_disk()
        await self.check_replays(archive, final)
        times = [whole for whole, _ in self.report.restarts]
        self.report.say(
            f"serving again: median {statistics.median(times):.2f} s, longest {max(times):.2f} s; "
            f"without waiting for a CPU nine of ten within {self.report.serving_again():.2f} s"
        )

    async def kill_and_restart(self, number: int) -> None:
        appliance, load = self.appliance, self.load
        appliance.kill()
        killed = time.monotonic()
        load.pause()
        if number % KILLS_WHILE_STARTING == KILLS_WHILE_STARTING - 1:
            appliance.launch()
            await asyncio.sleep(self.dice.uniform(0, 1.2) * statistics.median(whole for whole, _ in self.report.restarts))
            appliance.kill()
            killed = time.monotonic()
        appliance.launch()
        await asyncio.to_thread(appliance.wait_ready)
        self.report.restarts.append((time.monotonic() - killed, appliance.waited_for_cpu()))
        load.go_on()
        await books.check_sums(self.database)

    async def check_leaks(self) -> None:
        """With nobody asking any more, nothing is held, and the whole balance can be spent by one more request."""
        appliance = self.appliance
        assert appliance.process is not None
        process = psutil.Process(appliance.serving_pid())
        await self.ask_some()
        first = open_files(process)
        await self.ask_some()
        grown = await settled(lambda: open_files(process) - first)
        assert not grown, f"file descriptors that were not there after as much load before: {grown}"
        # Pooled connections to the provider are kept for a while; connections of clients are not.
        links = partial(process.net_connections, "tcp")
        await until(
            lambda: not [link for link in links() if link.raddr and (link.laddr.port == appliance.port or link.status == CLOSE_WAIT)]
        )
        await recorded(self.database, self.load.known)
        price, answer = await spend_everything(appliance, self.database)
        self.prices["everything"] = price
        self.load.answers.append(("everything", answer))

    async def ask_some(self) -> None:
        """A little load, to its end."""
        load = Load(self.appliance.port, self.dice.randrange(1 << 32))
        load.start()
        await until(lambda: len(load.answers) >= 150)
        await load.finish()
        self.load.answers += load.answers
        await until(lambda: not self.appliance.in_flight())

    async def check_books(self) -> books.Books:
        """Stop in good order, and compare the three accounts."""
        status = await asyncio.to_thread(self.appliance.stop)
        assert status == 0, self.appliance.log.read_text()[-2000:]
        final = await books.read(self.database)
        books.check(final)
        received = self.load.received(self.prices)
        served = books.served_by(self.simulator)
        books.check_served(final, received, served, self.prices)
        forgotten = served.keys() - final.requests.keys()
        assert not forgotten, f"the provider was asked and the books do not know it: {sorted(forgotten)[:5]}"
        unknown = self.load.known - final.requests.keys()
        assert not unknown, f"answered and not in the books: {sorted(unknown)[:5]}"
        assert set(final.balances.values()) == {0}, "the last request spent everything"
        outcomes = Counter(row["outcome"] for row in final.requests.values())
        charged = len(final.charges())
        self.report.say(f"{len(self.load.answers)} requests, {len(received)} received in full, {charged} charged, {len(served)} served")
        refusals = Counter(row["error_code"] for row in final.requests.values() if row["outcome"] == "refused")
        self.report.say(f"outcomes: {dict(outcomes)}")
        del refusals["model_not_found"]  # the model that takes everything was not known yet
        assert refusals == {"insufficient_balance": 1}, f"only the request after the last credit may be refused: {refusals}"
        assert len(received) > 10 * self.kills, "the kills met no load"
        assert outcomes["interrupted"] > self.kills, "the kills interrupted nothing"
        return final

    async def check_disk(self) -> None:
        """After an orderly stop no segment is left that the database has whole, and no process."""
        data_dir = self.appliance.data_dir
        assert len(segment_files(data_dir / "journal")) <= 1
        assert not list((data_dir / "journal" / "quarantine").iterdir())

    async def check_replays(self, archive: Archive, final: books.Books) -> None:
        """The same journal twice more, once with a kill in the middle: the books stay as they are."""
        appliance = self.appliance
        for change in ("DELETE FROM journal_marks", "UPDATE journal_marks SET segment = 0"):
            segments = archive.put_back()
            await self.database.execute(change)
            if change.startswith("DELETE"):
                appliance.launch()
                await asyncio.to_thread(appliance.wait_ready)
                await asyncio.sleep(self.dice.uniform(0, 0.2))
                appliance.kill()
            await asyncio.to_thread(appliance.start)
            assert await asyncio.to_thread(appliance.stop) == 0
            again = await books.read(self.database)
            assert again.without_marks() == final.without_marks(), "a replay changed the books"
        replayed = [entry["to_record"] for entry in appliance.events("ledger.recovered")]
        assert replayed[-1] >= 0.9 * len(final.requests), f"{replayed[-1]} of {len(final.requests)} ends were in the journal that was kept"
        self.report.say(f"replayed {replayed[-1]} ends in {segments} segments twice")


async def settled(what: Callable[[], Counter[str]], seconds: float = 10) -> Counter[str]:
    """What there is at the first moment when there is nothing, or in the end: SQLite's own temporary files come and go."""
    end = time.monotonic() + seconds
    while (found := what()) and time.monotonic() < end:  # noqa: ASYNC110 (another process tells nobody)
        await asyncio.sleep(0.1)
    return found


def open_files(process: psutil.Process) -> Counter[str]:
    """What a process has open, but for sockets, and for the journal's segments, which come and go."""
    found: Counter[str] = Counter()
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(link)
            if not target.startswith("socket:") and SUFFIX not in target:
                found[target] += 1
    return found


@contextlib.asynccontextmanager
async def loaded(port: int, seed: int = 1) -> AsyncIterator[Load]:
    """Load for as long as the block takes."""
    load = Load(port, seed)
    load.start()
    try:
        yield load
    finally:
        await load.finish()
