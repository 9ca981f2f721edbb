"""From the journal into the database: once, whatever stands in the way. On SQLite and on PostgreSQL."""

import asyncio
import json
import os
import shutil
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
from tortoise.exceptions import OperationalError

from dwctl import ids
from dwctl.clock import HOUR
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError
from dwctl.ledger import Charge, Ledger, Record, recorder
from dwctl.ledger.journal import Journal, segment_files
from dwctl.ledger.rows import NIL, apply, balances_of
from dwctl.store import Store, StoreUnavailable, Tx
from dwctl.telemetry.metrics import REGISTRY
from tests.ledger.conftest import StartLedger
from tests.ledger.making import ACCOUNT, KEY, NODE, OTHER, STARTED, TARIFF, credit, facts, kill, make_begin, make_record, until

T = TypeVar("T")


class Faulty:
    """A store whose writes can be made to fail: ``away`` before anything happens, ``unanswered`` after the commit. ``late``: the commit
    is there, and its answer comes with ``answer``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.faults: list[str] = []
        self.always_away = False
        self.is_late = False
        self.answer = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write(self, operation: Callable[[Tx], Awaitable[T]], *, alone: bool = True) -> T:
        fault = "away" if self.always_away else self.faults.pop(0) if self.faults else ""
        if fault == "away":
            raise StoreUnavailable("away")
        if fault == "refused":
            raise OperationalError("permission denied")
        result = await self._store.write(operation, alone=alone)
        if fault == "unanswered":
            raise StoreUnavailable("the answer to COMMIT was lost")
        if fault == "late":
            self.is_late = True
            await self.answer.wait()
        return result


FOREVER = 10**6


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def serve(ledger: Ledger, record: Record, *, priced: bool = True) -> Record:
    """What the gateway does for one request."""
    assert record.account_id is not None
    hold = ledger.balances.take(record.account_id, record.hold_nano) if priced else None
    ledger.begin(make_begin(record.id, record.account_id), priced)
    ledger.end(record, hold)
    return record


async def test_a_request_becomes_a_row_a_charge_a_balance_and_sums(store: Store, ledger: Ledger) -> None:
    await credit(store, ledger, ACCOUNT, 1_000_000)
    record = serve(ledger, make_record(amount=1_234, started_us=STARTED, first_byte_us=900))
    assert ledger.balances.balance(ACCOUNT) == 998_766, "the charge counts at once"
    assert ledger.balances.held(ACCOUNT) == 0
    await ledger.recorded()
    found = await facts(store)
    row = found["rows"][record.id]
    assert (row["account_id"], row["key_id"], row["alias"], row["charge_nano"], row["tariff_id"]) == (ACCOUNT, KEY, "small", 1_234, TARIFF)
    assert (row["uncached_input"], row["cache_read"], row["cache_write_5m"], row["cache_write_1h"]) == (7, 3, 2, 1)
    assert (row["output"], row["reasoning"], row["status"], row["outcome"], row["first_byte_us"]) == (5, 4, 200, "complete", 900)
    assert row["node"] == NODE
    charge = found["usage"][record.id]
    assert (charge["amount_nano"], charge["request_id"], charge["key_id"], charge["service_tier"]) == (1_234, record.id, KEY, "realtime")
    assert charge["description"] == "API usage: small (13 input + 5 output tokens)"
    assert charge["created_at"] == STARTED + 31_000
    [hour] = await store.fetch("SELECT * FROM usage_hourly")
    assert (hour["hour"], hour["requests"], hour["errors"], hour["cache_write"], hour["duration_us"]) == (STARTED // HOUR, 1, 0, 3, 31_000)
    assert found["balance"] == found["granted"] - 1_234 == ledger.balances.balance(ACCOUNT)
    assert found["key_spend"] == found["hourly_charge"] == 1_234


async def test_many_requests_of_two_accounts_add_up(store: Store, ledger: Ledger) -> None:
    for account in (ACCOUNT, OTHER):
        await credit(store, ledger, account, 10**9)
    before = metric("dwctl_credits_deducted_nanocredits_total", user_id=OTHER, model="small", served_by="provider")
    for number in range(1_234):
        account = OTHER if number % 3 else ACCOUNT
        outcome = "failed" if number % 10 == 0 else "complete"
        serve(ledger, make_record(account=account, amount=number, outcome=outcome, started_us=STARTED + number * HOUR // 200))
    await ledger.recorded()
    found = await facts(store)
    total = sum(range(1_234))
    assert found["row_count"] == found["hourly_requests"] == 1_234
    assert len(found["usage"]) == 1_233, "a charge of zero leaves a row only"
    assert found["charged"] == found["hourly_charge"] == found["key_spend"] == total
    assert found["balance"] == 2 * 10**9 - total
    [errors] = await store.fetch("SELECT sum(errors) AS n, count(*) AS hours FROM usage_hourly")
    assert (errors["n"], errors["hours"]) == (124, 14)
    assert ledger.balances.balance(ACCOUNT) + ledger.balances.balance(OTHER) == found["balance"]
    counted = metric("dwctl_credits_deducted_nanocredits_total", user_id=OTHER, model="small", served_by="provider") - before
    assert counted == sum(number for number in range(1_234) if number % 3)
    order = await store.fetch("SELECT id FROM requests ORDER BY seq")
    assert [row["id"] for row in order] == sorted(row["id"] for row in order)


async def test_rows_without_a_charge(store: Store, ledger: Ledger) -> None:
    await credit(store, ledger, ACCOUNT, 100)
    refused = make_record(amount=None, usage=None, outcome="refused", status=402, error_code="insufficient_balance", attempts=[])
    ledger.end(refused, None)
    system = make_record(account=NIL, amount=500)
    ledger.end(system, None)
    await ledger.recorded()
    found = await facts(store)
    assert found["rows"][refused.id]["charge_nano"] is None
    assert found["rows"][refused.id]["status"] == 402
    assert found["rows"][system.id]["charge_nano"] is None, "the system account is never billed"
    assert not found["usage"]
    assert found["balance"] == 100
    assert found["hourly_requests"] == 2


async def test_text_that_no_database_stores_does_not_stand_in_the_way(store: Store, ledger: Ledger) -> None:
    await credit(store, ledger, ACCOUNT, 10**6)
    nasty = "a\0b\ud800c" + "é" * 9_999
    record = make_record(
        path=nasty, user_agent=nasty, error_message=nasty, raw_usage=nasty, response_model=nasty, explanation=[nasty], finish_reason=nasty
    )
    serve(ledger, record)
    serve(ledger, make_record(purpose="\udc00", client_ip=nasty))
    await ledger.recorded()
    found = await facts(store)
    assert found["charged"] == 2_000
    assert found["rows"][record.id]["user_agent"].startswith("a�b�cé")
    assert len(found["rows"][record.id]["error_message"]) == 512
    assert "quarantine" not in ledger.degraded()


async def test_a_group_that_meets_an_outage_is_recorded_once(store: Store, start_ledger: StartLedger) -> None:
    faulty = Faulty(store)
    ledger = await start_ledger(faulty)
    await credit(store, ledger, ACCOUNT, 10**6)
    duplicates = metric("dwctl_credits_duplicates_total")
    faulty.faults = ["away", "unanswered", "away", "unanswered"]
    for _ in range(20):
        serve(ledger, make_record())
    await ledger.recorded()
    found = await facts(store)
    assert not faulty.faults
    assert found["row_count"] == found["hourly_requests"] == len(found["usage"]) == 20
    assert found["charged"] == found["hourly_charge"] == found["key_spend"] == 20_000
    assert ledger.balances.balance(ACCOUNT) == found["balance"] == 980_000
    assert metric("dwctl_credits_duplicates_total") - duplicates == 20


async def test_a_balance_reloaded_while_a_commit_is_unanswered_counts_no_charge_twice(store: Store, start_ledger: StartLedger) -> None:
    faulty = Faulty(store)
    ledger = await start_ledger(faulty)
    await credit(store, ledger, ACCOUNT, 10**6)
    faulty.faults = ["unanswered"]
    serve(ledger, make_record(amount=400_000))
    recorded = asyncio.create_task(ledger.recorded())
    await until(lambda: not faulty.faults)
    await ledger.reload_balance(ACCOUNT)
    assert ledger.balances.balance(ACCOUNT) == 600_000
    await recorded
    assert ledger.balances.balance(ACCOUNT) == 600_000


async def test_an_outage_of_writing_holds_up_no_balance(store: Store, start_ledger: StartLedger) -> None:
    faulty = Faulty(store)
    ledger = await start_ledger(faulty)
    await credit(store, ledger, ACCOUNT, 10**6)
    faulty.faults = ["unanswered", *["away"] * FOREVER]
    serve(ledger, make_record())
    await until(lambda: not ledger._recorder.database_available)
    for account, amount, balance in ((OTHER, 5, 5), (ACCOUNT, 7, 999_007)):
        await asyncio.wait_for(credit(store, ledger, account, amount), 2)
        assert ledger.balances.balance(account) == balance, "whatever has become of the charge"
    faulty.faults = []
    await ledger.recorded()
    assert ledger.balances.balance(ACCOUNT) == 999_007
    assert (await facts(store))["balance"] == 999_012


async def test_a_grant_between_a_commit_and_its_answer_is_not_forgotten(store: Store, start_ledger: StartLedger) -> None:
    faulty = Faulty(store)
    ledger = await start_ledger(faulty)
    await credit(store, ledger, ACCOUNT, 10**6)
    faulty.faults = ["late"]
    serve(ledger, make_record(amount=400_000))
    recorded = asyncio.create_task(ledger.recorded())
    await until(lambda: faulty.is_late)
    await asyncio.wait_for(credit(store, ledger, ACCOUNT, 5), 2)
    assert ledger.balances.balance(ACCOUNT) == 600_005
    faulty.answer.set()
    await recorded
    assert ledger.balances.balance(ACCOUNT) == (await facts(store))["balance"] == 600_005


async def test_a_balance_that_is_read_while_its_charge_is_recorded_counts_it_once(store: Store, start_ledger: StartLedger) -> None:
    """The group begins and ends between the question and its answer."""

    class Slow(Faulty):
        reading = False
        go_on = asyncio.Event()

        async def fetch(self, sql: str, args: Any = ()) -> Any:
            found = await self._store.fetch(sql, args)
            if self.reading and "account_balances" in sql:
                self.reading = False
                await self.go_on.wait()
            return found

    slow = Slow(store)
    ledger = await start_ledger(slow)
    await credit(store, ledger, ACCOUNT, 10**6)
    slow.reading = True
    reloading = asyncio.create_task(credit(store, ledger, ACCOUNT, 5))
    await until(lambda: not slow.reading)
    serve(ledger, make_record(amount=400_000))
    await ledger.recorded()
    slow.go_on.set()
    await reloading
    assert ledger.balances.balance(ACCOUNT) == (await facts(store))["balance"] == 600_005


async def test_while_the_database_is_away_requests_go_on_and_readiness_says_so(store: Store, start_ledger: StartLedger) -> None:
    faulty = Faulty(store)
    ledger = await start_ledger(faulty)
    await credit(store, ledger, ACCOUNT, 50_000)
    faulty.always_away = True
    served = [serve(ledger, make_record(amount=1_000, hold_nano=1_000)) for _ in range(49)]
    await until(lambda: ledger.degraded() == ["database_unavailable"])
    assert ledger.can_admit()
    last = make_record(amount=1_000, hold_nano=1_001)
    with pytest.raises(GatewayError) as caught:
        serve(ledger, last)
    assert caught.value.status == 402
    faulty.always_away = False
    await ledger.recorded()
    assert ledger.degraded() == []
    assert (await facts(store))["usage"].keys() == {record.id for record in served}


async def test_a_full_journal_refuses_priced_requests_and_loses_nothing(store: Store, start_ledger: StartLedger) -> None:
    faulty = Faulty(store)
    ledger = await start_ledger(faulty, max_bytes=1 << 16, segment_bytes=1 << 14)
    await credit(store, ledger, ACCOUNT, 10**9)
    faulty.always_away = True
    open_: list[Record] = []
    served: list[Record] = []
    with pytest.raises(GatewayError) as caught:  # noqa: PT012 - which of them is refused is the journal's business
        for number in range(10_000):
            record = make_record(explanation=["x" * 200] * 20)
            ledger.begin(make_begin(record.id), True)
            if number % 2:
                open_.append(record)
            else:
                ledger.end(record)
                served.append(record)
    assert (caught.value.status, caught.value.code) == (503, "recording_unavailable")
    assert "journal_full" in ledger.degraded()
    assert not ledger.can_admit()
    ledger.begin(make_begin(), False)
    for record in open_:
        ledger.end(record)
    faulty.always_away = False
    await ledger.recorded()
    found = await facts(store)
    assert found["usage"].keys() == {record.id for record in served + open_}
    assert found["charged"] == 1_000 * len(served + open_)
    assert ledger.can_admit()
    assert ledger.degraded() == []
    serve(ledger, make_record())


async def test_a_journal_that_was_full_at_a_kill_empties_after_the_next_start(store: Store, start_ledger: StartLedger) -> None:
    bounds = {"max_bytes": 1 << 16, "segment_bytes": 1 << 15}
    faulty = Faulty(store)
    first = await start_ledger(faulty, **bounds)
    await credit(store, first, ACCOUNT, 10**9)
    faulty.always_away = True
    lost = make_begin()
    first.begin(lost, True)
    served: list[Record] = []
    with pytest.raises(GatewayError, match="cannot be recorded"):  # noqa: PT012 - which of them is refused is the journal's business
        while len(served) < 10_000:
            served.append(serve(first, make_record()))
    await kill(first)

    second = await start_ledger(**bounds)
    assert second._journal.open_count == 0, "the end had its room"
    assert second._journal.allocated_bytes <= bounds["max_bytes"]
    await second.recorded()
    await until(second.can_admit)
    assert second.degraded() == []
    found = await facts(store)
    assert found["rows"][lost.id]["error_code"] == "gateway_crash"
    assert found["usage"].keys() == {record.id for record in served}
    serve(second, make_record())


async def test_a_record_that_the_database_refuses_is_set_aside_and_still_charged(
    store: Store, start_ledger: StartLedger, data_dir: Path
) -> None:
    ledger = await start_ledger()
    await credit(store, ledger, ACCOUNT, 10**6)
    await store.write(lambda tx: tx.execute(REFUSE_SONGS[store.dialect][0]))
    for statement in REFUSE_SONGS[store.dialect][1:]:
        await store.write(lambda tx, statement=statement: tx.execute(statement))
    names = {"component": "recorder", "operation": "refused", "severity": "error"}
    before = metric("dwctl_background_errors_total", **names)
    records = [make_record(alias="song" if number == 3 else "small", amount=10 + number) for number in range(7)]
    for record in records:
        serve(ledger, record)
    await ledger.recorded()
    found = await facts(store)
    assert found["usage"].keys() == {record.id for record in records}
    assert found["charged"] == found["hourly_charge"] == sum(range(10, 17))
    assert found["rows"][records[3].id]["error_code"] == "quarantined"
    assert found["rows"][records[3].id]["alias"] is None
    assert ledger.balances.balance(ACCOUNT) == found["balance"] == 10**6 - sum(range(10, 17))
    assert metric("dwctl_background_errors_total", **names) - before == 2, "the group, then the record alone"
    [kept] = (data_dir / "journal" / "quarantine").iterdir()
    content = json.loads(kept.read_text())
    assert (content["id"], content["alias"]) == (records[3].id, "song")
    assert ledger.degraded() == ["quarantine"]
    kept.unlink()
    assert ledger.degraded() == []
    serve(ledger, make_record())
    await ledger.recorded()
    assert (await facts(store))["row_count"] == 8


REFUSE_SONGS = {
    "sqlite": ["CREATE TRIGGER no_songs BEFORE INSERT ON requests WHEN NEW.alias = 'song' BEGIN SELECT RAISE(ABORT, 'no songs'); END"],
    "postgresql": [
        "CREATE FUNCTION no_songs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.alias = 'song' THEN RAISE EXCEPTION 'no songs'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER no_songs BEFORE INSERT ON requests FOR EACH ROW EXECUTE FUNCTION no_songs()",
    ],
}


async def test_an_open_request_becomes_an_interrupted_one_without_a_charge(store: Store, start_ledger: StartLedger) -> None:
    first = await start_ledger()
    await credit(store, first, ACCOUNT, 10**6)
    lost = make_begin(hold_nano=77, tags=("beta", "team=search"))
    first.begin(lost, True)
    done = serve(first, make_record())
    await first.recorded()
    unrecorded = serve(first, make_record(amount=2_000))
    await kill(first)

    second = await start_ledger()
    assert second.balances.balance(ACCOUNT) == 10**6 - 3_000, "charges that only the journal has count before serving"
    assert second.balances.total_held() == 0
    await second.recorded()
    found = await facts(store)
    assert found["usage"].keys() == {done.id, unrecorded.id}
    row = found["rows"][lost.id]
    assert (row["status"], row["outcome"], row["error_code"], row["charge_nano"]) == (500, "interrupted", "gateway_crash", None)
    assert (row["account_id"], row["alias"], row["hold_nano"], row["started_us"]) == (ACCOUNT, "small", 77, STARTED)
    assert found["tags"] == [{"tag": tag, "id": lost.id} for tag in lost.tags]
    await kill(second)
    third = await start_ledger()
    await third.recorded()
    assert (await facts(store)) == found, "a second start finds nothing to do"


async def test_tags_of_open_requests_take_no_room_that_is_kept_for_other_ends(store: Store, start_ledger: StartLedger) -> None:
    bounds = {"max_bytes": 9 << 14, "segment_bytes": 3 << 14}  # for what follows: one segment of 16 slots
    first = await start_ledger(**bounds)
    names = {"alias": "😀" * 255, "endpoint_name": "😀" * 255}  # together with the tags more than a slot
    lost = [make_begin(tags=tuple(f"{number:064}" for number in range(16)), **names) for _ in range(14)]
    for begin in lost:
        await until(first.can_admit)
        first.begin(begin, True)
    await kill(first)
    second = await start_ledger(**bounds)
    assert second._journal.open_count == 0, "each end had its room"
    await second.recorded()
    found = await facts(store)
    assert {found["rows"][begin.id]["error_code"] for begin in lost} == {"gateway_crash"}
    assert {found["rows"][begin.id]["alias"] for begin in lost} == {names["alias"]}
    assert 0 < len(found["tags"]) < 14 * 16, "as many as there was room for"


async def test_a_database_that_refuses_everything_for_a_while_loses_no_charge(store: Store, start_ledger: StartLedger) -> None:
    """Whoever took a right away, or renamed a table, gives it back: it was no record's fault, and none is left set aside."""
    faulty = Faulty(store)
    ledger = await start_ledger(faulty)
    await credit(store, ledger, ACCOUNT, 10**6)
    faulty.faults = ["refused"] * 5  # the group, then the first record twice: as it is, and with its charge alone
    records = [serve(ledger, make_record(amount=10 + number)) for number in range(3)]
    await ledger.recorded()
    found = await facts(store)
    assert found["usage"].keys() == {record.id for record in records}
    assert found["charged"] == 33
    assert ledger.balances.balance(ACCOUNT) == found["balance"] == 10**6 - 33
    assert {row["error_code"] for row in found["rows"].values()} == {None}
    assert ledger.degraded() == []


async def test_charges_that_the_database_refuses_hold_up_no_balance(store: Store, start_ledger: StartLedger) -> None:
    faulty = Faulty(store)
    ledger = await start_ledger(faulty)
    await credit(store, ledger, ACCOUNT, 10**6)
    faulty.faults = ["refused"] * FOREVER
    records = [serve(ledger, make_record(amount=10 + number)) for number in range(3)]
    await until(lambda: "quarantine" in ledger.degraded())
    for _ in range(2):
        await asyncio.wait_for(credit(store, ledger, ACCOUNT, 5), 2)
    assert ledger.balances.balance(ACCOUNT) == 10**6 - 33 + 10
    faulty.faults = []
    await ledger.recorded()
    found = await facts(store)
    assert found["usage"].keys() == {record.id for record in records}
    assert ledger.balances.balance(ACCOUNT) == found["balance"] == 10**6 - 33 + 10


async def test_charges_that_are_refused_after_an_unanswered_commit_count_once(store: Store, start_ledger: StartLedger) -> None:
    """All of them are in the database, and the ledger hears of it one by one."""
    faulty = Faulty(store)
    ledger = await start_ledger(faulty)
    await credit(store, ledger, ACCOUNT, 10**6)
    heard = metric("dwctl_credits_duplicates_total")
    faulty.faults = ["unanswered", *["refused"] * FOREVER]
    for number in range(3):
        serve(ledger, make_record(amount=10 + number))
    await until(lambda: "quarantine" in ledger.degraded())
    for number in range(1, 4):
        assert ledger.balances.balance(ACCOUNT) == 10**6 - 33
        await asyncio.wait_for(ledger.reload_balance(ACCOUNT), 2)
        assert ledger.balances.balance(ACCOUNT) == 10**6 - 33
        faulty.faults = ["", *["refused"] * FOREVER]
        await until(lambda: metric("dwctl_credits_duplicates_total") == heard + number)  # noqa: B023 - it is called at once
    await ledger.recorded()
    assert ledger.balances.balance(ACCOUNT) == (await facts(store))["balance"] == 10**6 - 33


async def test_a_database_that_takes_no_charges_for_long_is_waited_for(
    store: Store, start_ledger: StartLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "DATABASE_AT_FAULT_S", 0)
    ledger = await start_ledger()
    await credit(store, ledger, ACCOUNT, 10**6)
    await store.write(lambda tx: tx.execute("ALTER TABLE usage_daily RENAME TO mistaken"))
    probed = metric("dwctl_background_errors_total", component="recorder", operation="takes_no_charges", severity="critical")
    records = [serve(ledger, make_record(amount=10 + number)) for number in range(3)]
    await until(
        lambda: metric("dwctl_background_errors_total", component="recorder", operation="takes_no_charges", severity="critical") > probed
    )
    await store.write(lambda tx: tx.execute("ALTER TABLE mistaken RENAME TO usage_daily"))
    await ledger.recorded()
    found = await facts(store)
    assert found["usage"].keys() == found["rows"].keys() == {record.id for record in records}
    assert ledger.balances.balance(ACCOUNT) == found["balance"] == 10**6 - 33


async def test_charges_that_alone_are_refused_are_waited_for_together(
    store: Store, start_ledger: StartLedger, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database takes the charges of others, so that a whole group of them keeps the rest waiting no longer than one."""
    monkeypatch.setattr(recorder, "DATABASE_AT_FAULT_S", 0.5)
    names = {"component": "recorder", "operation": "charge_not_recorded", "severity": "critical"}
    before = metric("dwctl_background_errors_total", **names)
    ledger = await start_ledger()
    for account in (ACCOUNT, OTHER):
        await credit(store, ledger, account, 10**6)
    for statement in REFUSE_CHARGES[store.dialect]:
        await store.write(lambda tx, statement=statement: tx.execute(statement))
    for number in range(60):
        serve(ledger, make_record(account=ACCOUNT if number % 3 else OTHER, amount=10))
    async with asyncio.timeout(5):  # 20 of them are refused
        await ledger.recorded()
    found = await facts(store)
    assert {row["account_id"] for row in found["usage"].values()} == {ACCOUNT}
    assert ledger.balances.balance(ACCOUNT) == 10**6 - 400
    assert ledger.balances.balance(ACCOUNT) + ledger.balances.balance(OTHER) == found["balance"]
    assert metric("dwctl_background_errors_total", **names) - before == 20
    assert len(list((data_dir / "journal" / "quarantine").iterdir())) == 20
    assert found["row_count"] == 40, "and no trace of what it was asked to find that out"


REFUSE_CHARGES = {
    "sqlite": [
        f"CREATE TRIGGER no_charges BEFORE INSERT ON credits_transactions WHEN NEW.account_id = '{OTHER}' "
        "BEGIN SELECT RAISE(ABORT, 'no charges'); END"
    ],
    "postgresql": [
        "CREATE FUNCTION no_charges() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.account_id = '{OTHER}' THEN RAISE EXCEPTION 'no charges'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER no_charges BEFORE INSERT ON credits_transactions FOR EACH ROW EXECUTE FUNCTION no_charges()",
    ],
}


async def test_a_lock_that_is_not_given_in_time_is_an_outage(postgres_url: str, data_dir: Path) -> None:
    """On a server with a ``lock_timeout``, while somebody makes an index."""
    maker = await asyncpg.connect(postgres_url)
    await maker.execute(f"ALTER DATABASE {await maker.fetchval('SELECT current_database()')} SET lock_timeout = '50ms'")
    store = await Store.open(postgres_url, data_dir)
    ledger = Ledger(store, data_dir, NODE)
    await ledger.start()
    try:
        await credit(store, ledger, ACCOUNT, 10**6)
        async with maker.transaction():
            await maker.execute("LOCK TABLE credits_transactions IN SHARE MODE")
            records = [serve(ledger, make_record(amount=10 + number)) for number in range(3)]
            await until(lambda: bool(ledger.degraded()))
            assert ledger.degraded() == ["database_unavailable"]
        await ledger.recorded()
        assert (await facts(store))["usage"].keys() == {record.id for record in records}
        assert ledger.degraded() == []
    finally:
        await maker.close()
        await ledger.close(5)
        await store.close()


class Told:
    """A transaction that keeps the statements it is given."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self.statements: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    async def execute_many(self, *statements: Any) -> None:
        self.statements += [sql for sql, _ in statements]
        await self._tx.execute_many(*statements)


async def test_tags_are_recorded_once_in_their_order_and_cost_nothing_where_there_are_none(store: Store) -> None:
    async def statements(records: list[Record]) -> list[str]:
        async def run(tx: Tx) -> list[str]:
            told = Told(tx)
            await apply(told, records, STARTED)  # type: ignore[arg-type]
            return told.statements

        return await store.write(run)

    plain = [make_record() for _ in range(5)]
    assert not [sql for sql in await statements(plain) if "request_tags" in sql]
    tagged = [make_record(tags=("z", "a=1/2")), make_record(tags=("a=1/2",)), make_record()]
    assert len([sql for sql in await statements(tagged) if "request_tags" in sql]) == 1
    assert not [sql for sql in await statements(tagged) if "request_tags" in sql], "they are there"
    found = await facts(store)
    assert [json.loads(found["rows"][record.id]["tags"] or "[]") for record in tagged] == [["z", "a=1/2"], ["a=1/2"], []]
    assert [(row["tag"], row["id"]) for row in found["tags"]] == [("a=1/2", tagged[0].id), ("z", tagged[0].id), ("a=1/2", tagged[1].id)]


async def test_replaying_the_same_journal_changes_nothing(store: Store, start_ledger: StartLedger, data_dir: Path) -> None:
    first = await start_ledger()
    await credit(store, first, ACCOUNT, 10**9)
    lost = make_begin()
    first.begin(lost, True)
    for number in range(300):
        serve(first, make_record(amount=number, tags=("all", f"n={number}") if number % 3 else ()))
    archive = data_dir / "archive"
    shutil.copytree(data_dir / "journal", archive)
    await first.recorded()
    await kill(first)
    found = None
    for _ in range(3):
        shutil.rmtree(data_dir / "journal")
        shutil.copytree(archive, data_dir / "journal")
        await store.write(lambda tx: tx.execute("DELETE FROM journal_marks"))
        again = await start_ledger()
        await again.recorded()
        assert again.balances.balance(ACCOUNT) == 10**9 - sum(range(300))
        now = await facts(store)
        assert found is None or now == found
        found = now
        await kill(again)
    assert found is not None
    assert found["row_count"] == found["hourly_requests"] == 301
    assert len(found["tags"]) == 400
    assert found["charged"] == found["key_spend"] == found["hourly_charge"] == sum(range(300))


async def test_damage_in_the_middle_is_set_aside_and_the_rest_recorded(store: Store, start_ledger: StartLedger, data_dir: Path) -> None:
    faulty = Faulty(store)
    first = await start_ledger(faulty)
    await credit(store, first, ACCOUNT, 10**6)
    faulty.always_away = True
    records = [serve(first, make_record()) for _ in range(5)]
    await kill(first)
    [(_, path), *_] = segment_files(data_dir / "journal")
    content = bytearray(path.read_bytes())
    hit = content.index(records[2].id.encode(), content.index(records[2].id.encode()) + 1)
    content[hit] ^= 1
    path.write_bytes(content)
    second = await start_ledger()
    await second.recorded()
    found = await facts(store)
    assert found["usage"].keys() == {record.id for number, record in enumerate(records) if number != 2}
    assert found["rows"][records[2].id]["error_code"] == "gateway_crash"
    assert second.balances.balance(ACCOUNT) == found["balance"] == 10**6 - 4_000
    [kept] = (data_dir / "journal" / "quarantine").iterdir()
    assert kept.suffix == ".damaged"
    assert second.degraded() == ["quarantine"]


async def test_a_segment_goes_when_it_is_recorded_and_nothing_in_it_is_open(
    store: Store, start_ledger: StartLedger, data_dir: Path
) -> None:
    ledger = await start_ledger(segment_bytes=1 << 14)
    await credit(store, ledger, ACCOUNT, 10**9)
    long_one = make_record()
    ledger.begin(make_begin(long_one.id), True)

    def numbers() -> list[int]:
        return [number for number, _ in segment_files(data_dir / "journal")]

    first = numbers()[0]
    for _ in range(5):
        for _ in range(40):
            serve(ledger, make_record())
        await ledger.recorded()
    assert numbers()[0] == first, "an open request keeps its segment"
    assert numbers()[1] > first + 4, "and only its own"
    ledger.end(long_one)
    serve(ledger, make_record())
    await ledger.recorded()
    assert numbers()[0] > first + 4
    assert (await facts(store))["row_count"] == 202


@pytest.mark.parametrize("killed", ["before the segment goes", "after it has gone"])
async def test_a_few_long_requests_do_not_fill_the_journal(
    store: Store, start_ledger: StartLedger, data_dir: Path, killed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = {"segment_bytes": 1 << 14, "max_bytes": 1 << 18}
    ledger = await start_ledger(**bounds)
    await credit(store, ledger, ACCOUNT, 10**9)
    with monkeypatch.context() as patch:
        long_ones: list[Record] = []
        for number in range(24):
            long_ones.append(make_record())
            ledger.begin(make_begin(long_ones[-1].id), True)
            for _ in range(20):
                serve(ledger, make_record())
            await ledger.recorded()
            assert ledger.state().allocated_bytes <= 1 << 18
            if number == 20 and killed == "before the segment goes":
                patch.setattr(Journal, "delete", lambda journal, number: None)
        ended, lost = long_ones[::2], long_ones[1::2]
        for record in ended[:4]:
            ledger.end(record)
        await ledger.recorded()
        for record in ended[4:]:
            ledger.end(record)
        await kill(ledger)
    second = await start_ledger(**bounds)
    await second.recorded()
    found = await facts(store)
    assert {found["rows"][record.id]["outcome"] for record in ended} == {"complete"}
    assert {found["rows"][record.id]["error_code"] for record in lost} == {"gateway_crash"}
    assert found["row_count"] == 24 * 21
    assert found["charged"] == 1_000 * (24 * 20 + len(ended))
    serve(second, make_record())
    await second.recorded()
    assert len(segment_files(data_dir / "journal")) <= 3, "a begin that is there twice keeps nothing once it has ended"


async def test_a_segment_stays_until_the_begins_in_it_are_on_the_disk_elsewhere(
    store: Store, start_ledger: StartLedger, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proceed = threading.Event()
    real = os.fdatasync
    monkeypatch.setattr("dwctl.ledger.journal.CROWDED", 0)
    monkeypatch.setattr(os, "fdatasync", lambda fd: (proceed.wait(10), real(fd)))
    ledger = await start_ledger(segment_bytes=1 << 14)
    await credit(store, ledger, ACCOUNT, 10**9)
    long_one = make_begin()
    ledger.begin(long_one, True)
    for _ in range(40):
        serve(ledger, make_record())

    def holding() -> list[int]:
        return [number for number, path in segment_files(data_dir / "journal") if long_one.id.encode() in path.read_bytes()]

    before = holding()
    await until(lambda: len(holding()) == 2)
    await until(lambda: ledger._journal._waiters != [])
    assert holding()[0] == before[0]
    proceed.set()
    await until(lambda: len(holding()) == 1)
    assert holding() > before


async def test_what_was_open_before_the_mark_is_found_after_a_crash(store: Store, start_ledger: StartLedger, data_dir: Path) -> None:
    first = await start_ledger(segment_bytes=1 << 14)
    await credit(store, first, ACCOUNT, 10**9)
    ended_later, never_ended = make_record(), make_begin()
    first.begin(make_begin(ended_later.id), True)
    first.begin(never_ended, True)
    for _ in range(100):
        serve(first, make_record())
    await first.recorded()
    first.end(ended_later)
    await kill(first)
    second = await start_ledger(segment_bytes=1 << 14)
    await second.recorded()
    found = await facts(store)
    assert found["rows"][never_ended.id]["error_code"] == "gateway_crash"
    assert found["rows"][ended_later.id]["outcome"] == "complete"
    assert found["row_count"] == 102
    assert len(segment_files(data_dir / "journal")) <= 3, "the old ones are gone"


async def test_grants_elsewhere_and_charges_here_agree(store: Store, ledger: Ledger) -> None:
    await credit(store, ledger, ACCOUNT, 1_000)

    async def grants() -> None:
        for _ in range(20):
            await credit(store, ledger, ACCOUNT, 10_000)

    async def requests() -> None:
        for _ in range(40):
            serve(ledger, make_record(amount=100, hold_nano=100), priced=False)
            await ledger.recorded()

    await asyncio.gather(grants(), requests())
    assert ledger.balances.balance(ACCOUNT) == (await facts(store))["balance"] == 201_000 - 4_000
    await credit(store, None, ACCOUNT, 3)
    serve(ledger, make_record(amount=100), priced=False)
    await ledger.recorded()
    assert ledger.balances.balance(ACCOUNT) == 201_000 - 4_100 + 3, "a charge brings what nobody has told"


async def test_a_balance_that_crosses_zero_is_told_to_other_nodes(store: Store, ledger: Ledger) -> None:
    await credit(store, ledger, ACCOUNT, 1_500)
    down = metric("dwctl_balance_crossings_total", direction="down")
    for amount in (1_000, 1_000, 1_000):
        ledger.end(make_record(amount=amount))
        await ledger.recorded()
    noted = await store.fetch("SELECT area, entity_id FROM change_log WHERE area = 'balance'")
    assert [(row["area"], row["entity_id"]) for row in noted] == [("balance", ACCOUNT)]
    assert metric("dwctl_balance_crossings_total", direction="down") - down == 1


def refusal(number: int, path: str = "/ai/v1/chat/completions") -> Record:
    return make_record(
        account=None, amount=None, usage=None, key_id=None, outcome="refused", status=401, error_code="unauthenticated",
        access_source="unauthenticated", path=path, attempts=[], started_us=STARTED + number,
    )  # fmt: skip


async def test_anonymous_refusals_get_rows_up_to_a_rate_and_are_counted_beyond(
    store: Store, start_ledger: StartLedger, data_dir: Path
) -> None:
    ledger = await start_ledger(anonymous_per_second=10)
    before = ledger._journal.position
    for number in range(3_000):
        ledger.note_anonymous(refusal(number, path=f"/{number % 1_500}\0" if number % 2 else "/ai"))
    assert ledger._journal.position == before, "they never touch the journal"
    await ledger.recorded()
    found = await facts(store)
    assert 10 <= found["row_count"] <= 20
    counts = await store.fetch("SELECT * FROM anonymous_refusals")
    assert len(counts) <= 1_002
    assert sum(row["count"] for row in counts) + found["row_count"] == 3_000
    assert {row["reason"] for row in counts} == {"unauthenticated"}
    assert found["hourly_requests"] == 0
    for number in range(100):
        ledger.note_anonymous(refusal(number))
    await ledger.recorded()
    [again] = await store.fetch("SELECT count FROM anonymous_refusals WHERE path = ?", ("/ai/v1/chat/completions",))
    assert again["count"] >= 80


async def test_anonymous_refusals_are_recorded_without_anybody_waiting(store: Store, ledger: Ledger) -> None:
    ledger.note_anonymous(refusal(1))
    async with asyncio.timeout(5):
        while not (await facts(store))["row_count"]:  # noqa: ASYNC110 - nothing tells of a commit that nobody waits for
            await asyncio.sleep(0.02)


async def test_refusals_that_never_end_keep_nobody_waiting(store: Store, start_ledger: StartLedger) -> None:
    class Flooded(Faulty):
        """More come during each commit."""

        async def write(self, operation: Callable[[Tx], Awaitable[T]], *, alone: bool = True) -> T:
            result = await super().write(operation, alone=alone)
            ledger.note_anonymous(refusal(2, "/later"))
            return result

    ledger = await start_ledger(Flooded(store), anonymous_per_second=0)
    ledger.note_anonymous(refusal(1, "/earlier"))
    for _ in range(3):
        record = make_record()
        ledger.end(record)
        assert await ledger.recorded(5)
        assert record.id in (await facts(store))["rows"]
    assert "/earlier" in {row["path"] for row in await store.fetch("SELECT path FROM anonymous_refusals")}


@pytest.mark.parametrize("under_way", ["flush", "group"])
async def test_whoever_waits_is_told_when_the_refusals_before_are_there(store: Store, start_ledger: StartLedger, under_way: str) -> None:
    gate, reached = asyncio.Event(), asyncio.Event()

    class Gated(Faulty):
        async def write(self, operation: Callable[[Tx], Awaitable[T]], *, alone: bool = True) -> T:
            reached.set()
            await gate.wait()
            return await super().write(operation, alone=alone)

    ledger = await start_ledger(Gated(store))
    if under_way == "group":
        ledger.end(make_record())
        await asyncio.wait_for(reached.wait(), 5)
    refused = refusal(1)
    ledger.note_anonymous(refused)
    await asyncio.wait_for(reached.wait(), 5)
    waiting = asyncio.create_task(ledger.recorded(5))
    assert not await ledger.recorded(0.05)
    gate.set()
    assert await waiting
    assert refused.id in (await facts(store))["rows"]


async def test_a_charge_without_a_begin_survives_and_an_end_never_raises(store: Store, ledger: Ledger) -> None:
    await credit(store, ledger, ACCOUNT, 100)
    hold = ledger.balances.take(ACCOUNT, 50)
    ledger.end(make_record(usage="nonsense", charge=Charge(5, TARIFF, 0, 0)), hold)  # type: ignore[arg-type]
    assert ledger.balances.held(ACCOUNT) == 0
    ledger.end(make_record(amount=7, usage=Usage(uncached_input=2**90)))
    await ledger.recorded()
    assert (await facts(store))["charged"] == 7


async def test_holds_and_open_requests_can_be_watched(store: Store, ledger: Ledger) -> None:
    await credit(store, ledger, ACCOUNT, 10**6)
    hold = ledger.balances.take(ACCOUNT, 1_234)
    record = make_record()
    ledger.begin(make_begin(record.id), True)
    assert (metric("dwctl_holds_nanocredits"), metric("dwctl_journal_open_requests")) == (1_234, 1)
    assert metric("dwctl_journal_bytes") >= 1 << 24
    ledger.end(record, hold)
    assert (metric("dwctl_holds_nanocredits"), metric("dwctl_journal_open_requests")) == (0, 0)


async def test_close_records_what_is_left_and_leaves_no_descriptor_behind(store: Store, start_ledger: StartLedger) -> None:
    before = len(os.listdir("/proc/self/fd"))
    ledger = await start_ledger()
    await credit(store, ledger, ACCOUNT, 10**6)
    opened = len(os.listdir("/proc/self/fd"))
    serve(ledger, make_record())
    await ledger.close(5)
    assert (await facts(store))["charged"] == 1_000
    assert len(os.listdir("/proc/self/fd")) <= before + (opened - before) - 2


async def test_close_gives_up_in_time_and_leaves_the_rest_to_the_next_start(store: Store, start_ledger: StartLedger) -> None:
    faulty = Faulty(store)
    ledger = await start_ledger(faulty)
    await credit(store, ledger, ACCOUNT, 10**6)
    faulty.always_away = True
    serve(ledger, make_record())
    started = asyncio.get_running_loop().time()
    await ledger.close(0.2)
    assert asyncio.get_running_loop().time() - started < 3
    again = await start_ledger()
    assert again.balances.balance(ACCOUNT) == 999_000
    await again.recorded()
    assert (await facts(store))["charged"] == 1_000


async def test_an_error_of_the_recorder_itself_does_not_stop_it(store: Store, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    await credit(store, ledger, ACCOUNT, 10**6)
    real = ledger.balances.settle
    failures = iter([1, 2])

    def failing(*arguments: Any) -> None:
        if next(failures, None):
            raise RuntimeError("a mistake of ours")
        real(*arguments)

    monkeypatch.setattr(ledger.balances, "settle", failing)
    for _ in range(10):
        serve(ledger, make_record())
    await ledger.recorded()
    assert ledger.balances.balance(ACCOUNT) == (await facts(store))["balance"] == 990_000


async def test_a_segment_that_cannot_be_read_is_given_up_and_the_rest_recorded(store: Store, start_ledger: StartLedger) -> None:
    faulty = Faulty(store)
    ledger = await start_ledger(faulty, segment_bytes=1 << 14)
    await credit(store, ledger, ACCOUNT, 10**9)
    faulty.always_away = True
    records = [serve(ledger, make_record()) for _ in range(100)]
    gone = sorted(ledger._journal.segments.values(), key=lambda segment: segment.number)[2].path
    lost = {record.id for record in records if record.id.encode() in gone.read_bytes()}
    gone.unlink()
    before = metric("dwctl_journal_quarantined_total", kind="damage")
    faulty.always_away = False
    await ledger.recorded()
    kept = (await facts(store))["usage"].keys()
    assert {record.id for record in records} - kept <= lost
    assert len(kept) > 70
    assert metric("dwctl_journal_quarantined_total", kind="damage") == before + 1


async def test_the_order_of_ids_within_a_group_may_repeat(store: Store, ledger: Ledger) -> None:
    await credit(store, ledger, ACCOUNT, 10**6)
    request_id = ids.new_text()
    for amount in (100, 200):
        ledger.end(make_record(request_id, amount=amount))
    await ledger.recorded()
    found = await facts(store)
    assert (found["row_count"], found["charged"], found["hourly_charge"]) == (1, 100, 100)
    assert ledger.balances.balance(ACCOUNT) == found["balance"] == 10**6 - 100


@pytest.mark.parametrize("number", [1, 50, 500])
async def test_a_balance_without_some_charges_reads_no_others(sqlite_url: str, data_dir: Path, number: int) -> None:
    store = await Store.open(sqlite_url, data_dir)
    read: list[str] = []

    async def explained(sql: str, args: list[Any]) -> Any:
        read.extend(row["detail"] for row in await store.fetch(f"EXPLAIN QUERY PLAN {sql}", args))
        return await store.fetch(sql, args)

    try:
        assert await balances_of(explained, {ACCOUNT}, [ids.new_text() for _ in range(number)]) == {ACCOUNT: 0}
    finally:
        await store.close()
    assert [step for step in read if "credits_transactions" in step and "(source_id=?)" in step]
    assert not [step for step in read if "credits_transactions" in step and "account_id" in step]
