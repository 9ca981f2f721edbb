"""The real databases locked, stopped and killed under load: nothing lost, nothing twice, and readiness says what is wrong."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dwctl.ledger import Ledger
from dwctl.store import Store
from tests.ledger.making import ACCOUNT, NODE, OTHER, credit, facts, make_begin, make_record, until


class Load:
    """Requests at a steady rate, as long as the block lasts."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.served: dict[str, int] = {}

    async def __aenter__(self) -> "Load":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            for account in (ACCOUNT, OTHER):
                amount = 1_000 + len(self.served)
                record = make_record(account=account, amount=amount)
                hold = self._ledger.balances.take(account, 10_000)
                self._ledger.begin(make_begin(record.id, account, hold_nano=10_000), True)
                try:
                    await asyncio.sleep(0.001)
                finally:
                    self.served[record.id] = amount
                    self._ledger.end(record, hold)

    async def more(self, count: int) -> None:
        """Wait until so many more requests were served."""
        target = len(self.served) + count
        await until(lambda: len(self.served) >= target or self._task.done())
        assert not self._task.done(), "a request failed"


async def check(store: Store, ledger: Ledger, served: dict[str, int]) -> None:
    found = await facts(store)
    assert {id_: row["amount_nano"] for id_, row in found["usage"].items()} == served
    assert found["rows"].keys() == served.keys()
    total = sum(served.values())
    assert found["charged"] == found["hourly_charge"] == found["key_spend"] == total
    assert found["balance"] == found["granted"] - total
    assert ledger.balances.balance(ACCOUNT) + ledger.balances.balance(OTHER) == found["balance"]
    assert ledger.balances.total_held() == 0


async def started(store: Store, data_dir: Path) -> Ledger:
    ledger = Ledger(store, data_dir, NODE)
    await ledger.start()
    for account in (ACCOUNT, OTHER):
        await credit(store, ledger, account, 10**12)
    return ledger


async def test_a_sqlite_file_that_another_process_holds(sqlite_url: str, data_dir: Path) -> None:
    store = await Store.open(sqlite_url, data_dir)
    ledger = await started(store, data_dir)
    other = sqlite3.connect(data_dir / "dwctl.db", isolation_level=None)
    async with Load(ledger) as load:
        await load.more(50)
        other.execute("BEGIN EXCLUSIVE")
        await until(lambda: "database_unavailable" in ledger.degraded())
        await load.more(100)
        assert ledger.can_admit()
        other.execute("COMMIT")
        other.close()
        await until(lambda: ledger.degraded() == [])
        await load.more(50)
    await ledger.recorded()
    await check(store, ledger, load.served)
    await ledger.close(5)
    await store.close()


async def test_a_postgresql_server_that_is_stopped_and_killed(postgres_server: Any, data_dir: Path) -> None:
    store = await Store.open(postgres_server.url(), data_dir)
    ledger = await started(store, data_dir)
    async with Load(ledger) as load:
        for end in (postgres_server.kill, postgres_server.stop, postgres_server.kill):
            await load.more(100)
            await asyncio.to_thread(end)
            await until(lambda: "database_unavailable" in ledger.degraded())
            await load.more(100)
            assert ledger.can_admit()
            await asyncio.to_thread(postgres_server.start)
            await until(lambda: ledger.degraded() == [])
    await ledger.recorded()
    await check(store, ledger, load.served)
    await ledger.close(5)
    await store.close()
