"""The ledger as a state machine, killed, cut off and refused at every commit: nothing is lost, nothing happens twice, and whoever
asks for a balance meanwhile gets the right one."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tortoise.exceptions import OperationalError

from dwctl import ids
from dwctl.ledger import Ledger, Record
from dwctl.ledger.framing import frame
from dwctl.ledger.journal import segment_files
from dwctl.store import Store, StoreUnavailable, Tx
from tests.ledger.making import ACCOUNT, NODE, OTHER, credit, facts, kill, make_begin, make_record, until
from tests.migrated import put_database

T = TypeVar("T")
accounts = st.sampled_from([ACCOUNT, OTHER])
AMOUNT = st.integers(0, 2_000)
FAULTS = st.lists(st.sampled_from(["away", "unanswered"]), max_size=2)
REFUSALS = st.sampled_from([0, 1, 3, 5])
"""Of a group, and then of its first record as often with all that it has as with its charge alone."""


class Trapped:
    """A store with a trap for the next write: it fails, or the writer never comes back from it (and is then killed)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.faults: list[str] = []
        self.is_stuck = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write(self, operation: Callable[[Tx], Awaitable[T]], *, alone: bool = True) -> T:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "away":
            raise StoreUnavailable("away")
        if fault == "refused":
            raise OperationalError("permission denied")
        if fault == "killed before":
            await self._stick()
        result = await self._store.write(operation, alone=alone)
        if fault == "unanswered":
            raise StoreUnavailable("the answer to COMMIT was lost")
        if fault == "killed after":
            await self._stick()
        return result

    async def _stick(self) -> None:
        self.is_stuck = True
        await asyncio.Event().wait()


class LedgerMachine(RuleBasedStateMachine):
    """Compares the ledger with two lists and a sum."""

    new_database: Callable[[Path], str]
    drop_database: Callable[[str], None]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp(prefix="dwctl-machine-"))
        self.url = type(self).new_database(self.directory)
        # Open requests keep no segment, however little the journal holds; the disk is waited for as briefly as can be.
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("dwctl.ledger.journal.CROWDED", 0)
        self.patch.setattr("dwctl.ledger.journal.SYNC_INTERVAL_S", 0)
        self.open: list[str] = []
        self.interrupted: set[str] = set()
        self.ended: dict[str, Record] = {}
        self.granted = {ACCOUNT: 0, OTHER: 0}
        self.archive = self.directory / "archive"
        self.replayed = False
        """Whether charges count as pending that the database had before the ledger started."""

    def run(self, work: Awaitable[T]) -> T:
        async def within() -> T:
            async with asyncio.timeout(30):
                return await work

        return self.runner.run(within())

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call the ledger from its loop, as the gateway does."""

        async def within() -> None:
            function(*arguments)

        self.run(within())

    @initialize()
    def begin_run(self) -> None:
        self.store = self.run(Store.open(self.url, self.directory))
        self.start()

    def start(self) -> None:
        self.trapped = Trapped(self.store)
        self.ledger = Ledger(self.trapped, self.directory, NODE, segment_bytes=1 << 14, max_bytes=1 << 22)  # type: ignore[arg-type]
        self.run(self.ledger.start())

    def kill(self) -> None:
        self.run(kill(self.ledger))
        self.interrupted.update(self.open)
        self.open = []

    def charged(self, account: str) -> int:
        return sum(
            record.charge.amount_nano for record in self.ended.values() if record.account_id == account and record.charge is not None
        )

    @rule(account=accounts, amount=st.integers(1, 10_000))
    def grant(self, account: str, amount: int) -> None:
        self.run(credit(self.store, self.ledger, account, amount))
        self.granted[account] += amount

    @rule()
    def begin(self) -> None:
        request_id = ids.new_text()
        self.call(self.ledger.begin, make_begin(request_id), True)
        self.open.append(request_id)

    @rule(data=st.data(), account=accounts, amount=AMOUNT | st.none())
    def end(self, data: st.DataObject, account: str, amount: int | None) -> None:
        if self.open:
            request_id = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
            record = make_record(request_id, account, amount, outcome="failed" if amount is None else "complete")
            self.ended[request_id] = record
            self.call(self.ledger.end, record)

    @rule(account=accounts, count=st.integers(1, 60), amount=AMOUNT)
    def many(self, account: str, count: int, amount: int) -> None:
        def requests() -> None:
            for _ in range(count):
                record = make_record(None, account, amount)
                self.ledger.begin(make_begin(record.id, account), True)
                self.ended[record.id] = record
                self.ledger.end(record)

        self.call(requests)

    @rule(data=st.data(), account=accounts, longer=st.booleans())
    def outlive_segments(self, data: st.DataObject, account: str, longer: bool) -> None:
        """A request is open while segments fill, are recorded and go; it may end in the midst of that."""
        self.begin()
        self.many(account, 40, 1)
        self.run(self.ledger.recorded())
        if not longer:
            self.end(data, account, 3)
        self.many(account, 1, 1)

    @rule(account=accounts)
    def refuse(self, account: str) -> None:
        record = make_record(None, account, None, outcome="refused", status=429, usage=None)
        self.ended[record.id] = record
        self.call(self.ledger.end, record)

    @rule(before=FAULTS, refusals=REFUSALS, after=FAULTS)
    def record_all(self, before: list[str], refusals: int, after: list[str]) -> None:
        if self.replayed:
            self.run(self.ledger.recorded())
            self.replayed = False
        self.trapped.faults = [*before, *["refused"] * refusals, *after]
        self.run(self.recorded_and_reloaded())
        self.trapped.faults = []
        self.check()

    async def recorded_and_reloaded(self) -> None:
        recording = asyncio.create_task(self.ledger.recorded())
        while not recording.done():
            for account in (ACCOUNT, OTHER):
                await self.ledger.reload_balance(account)
                self.check_balances()
            await asyncio.sleep(0.001)
        await recording

    @rule(at=st.sampled_from(["killed before", "killed after"]), away=st.sampled_from([[], ["away"], ["unanswered"]]))
    def kill_at_a_commit(self, at: str, away: list[str]) -> None:
        self.trapped.faults = [*away, at]
        self.refuse(ACCOUNT)
        self.call(self.ledger._recorder._hurry.set)
        self.run(until(lambda: self.trapped.is_stuck))
        self.kill()
        self.start()

    @rule(torn=st.integers(0, 40))
    def kill_in_a_write(self, torn: int) -> None:
        self.kill()
        if files := [path for _, path in segment_files(self.directory / "journal")]:
            with files[-1].open("r+b") as file:
                content = file.read().rstrip(b"\0")
                file.truncate(len(content))
                file.seek(0, 2)
                file.write(frame(b"an entry that was being written when the process was killed")[:torn])
        self.start()

    @rule()
    def stop_and_start(self) -> None:
        self.run(self.ledger.close(5))
        self.interrupted.update(self.open)
        self.open = []
        self.start()

    @rule()
    def keep_a_copy(self) -> None:
        """For ``replay``: what the journal holds now."""
        shutil.rmtree(self.archive, ignore_errors=True)
        shutil.copytree(self.directory / "journal", self.archive)

    @rule()
    def replay(self) -> None:
        """An older state of the journal comes back, and the database has forgotten how far it had read."""
        if not self.archive.exists():
            return
        self.run(self.ledger.recorded())
        self.kill()
        journal = self.directory / "journal"
        present = {path.name for _, path in segment_files(journal)}
        for _, path in segment_files(self.archive):
            if path.name not in present:
                shutil.copyfile(path, journal / path.name)
        self.run(self.store.write(lambda tx: tx.execute("DELETE FROM journal_marks")))
        self.start()
        self.replayed = True

    @invariant()
    def memory_is_right(self) -> None:
        if hasattr(self, "ledger"):
            for account in (ACCOUNT, OTHER):
                known = self.ledger.balances.balance(account)
                assert known <= self.granted[account] - self.charged(account), "money that is spent never seems to be there"
            assert self.ledger._journal.open_count == len(self.open)

    def check(self) -> None:
        found = self.run(facts(self.store))
        charges = {id_: record for id_, record in self.ended.items() if record.charge is not None and record.charge.amount_nano}
        assert found["usage"].keys() == charges.keys()
        for id_, record in charges.items():
            assert record.charge is not None
            assert found["usage"][id_]["amount_nano"] == record.charge.amount_nano
        total = sum(record.charge.amount_nano for record in charges.values() if record.charge is not None)
        assert found["rows"].keys() == self.ended.keys() | self.interrupted
        assert found["row_count"] == found["hourly_requests"] == len(found["rows"])
        assert all(found["rows"][id_]["error_code"] == "gateway_crash" for id_ in self.interrupted)
        assert found["charged"] == found["key_spend"] == found["hourly_charge"] == total
        assert found["balance"] == found["granted"] - total
        self.check_balances()
        assert self.ledger.degraded() == []

    def check_balances(self) -> None:
        for account in (ACCOUNT, OTHER):
            assert self.ledger.balances.balance(account) == self.granted[account] - self.charged(account)

    def teardown(self) -> None:
        try:
            if hasattr(self, "ledger"):
                self.trapped.faults = []
                self.run(self.ledger.recorded())
                self.check()
                self.kill()
                self.start()
                self.run(self.ledger.recorded())
                self.check()
                self.run(self.ledger.close(5))
                self.run(self.store.close())
        finally:
            self.patch.undo()
            self.runner.close()
            shutil.rmtree(self.directory, ignore_errors=True)
            type(self).drop_database(self.url)


def run_machine(new: Callable[[Path], str], drop: Callable[[str], None], examples: int, steps: int) -> None:
    machine = type("Machine", (LedgerMachine,), {"new_database": staticmethod(new), "drop_database": staticmethod(drop)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
        ),
    )


@pytest.fixture
def databases_on_postgres(shared_postgres: Any) -> tuple[Callable[[Path], str], Callable[[str], None]]:
    def new(_: Path) -> str:
        name = f"dwctl_machine_{ids.new().hex}"
        shared_postgres(f"CREATE DATABASE {name} TEMPLATE dwctl_template")
        url: str = shared_postgres.url(name)
        return url

    def drop(url: str) -> None:
        shared_postgres(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    return new, drop


@pytest.mark.parametrize("examples", [pytest.param(25, id="short"), pytest.param(400, marks=pytest.mark.long, id="long")])
@pytest.mark.timeout(1800)
def test_on_sqlite(examples: int) -> None:
    def new(directory: Path) -> str:
        return f"sqlite://{put_database(directory)}"

    run_machine(new, lambda _: None, examples, 30)


@pytest.mark.parametrize("examples", [pytest.param(6, id="short"), pytest.param(100, marks=pytest.mark.long, id="long")])
@pytest.mark.timeout(1800)
def test_on_postgresql(databases_on_postgres: tuple[Callable[[Path], str], Callable[[str], None]], examples: int) -> None:
    run_machine(*databases_on_postgres, examples, 20)
