"""Reads, writes and groups of the store, on both databases, and on PostgreSQL through a pooler."""

import asyncio
import random
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from tortoise.exceptions import IntegrityError, OperationalError

from dwctl.store import Store, StoreUnavailable, Tx, postgresql
from dwctl.store.store import database_name
from dwctl.store.tables import Balance
from tests.conftest import everywhere


def insert(account: str, amount: int = 1):
    async def operation(tx: Tx) -> str:
        await tx.execute("INSERT INTO account_balances (account_id, balance_nano, updated_at) VALUES (?, ?, ?)", [account, amount, 1])
        return account

    return operation


async def test_write_and_read(store: Store) -> None:
    account = str(uuid.uuid4())
    assert await store.write(insert(account, 2**62)) == account
    assert await store.fetch("SELECT * FROM account_balances WHERE account_id = ?", [account]) == [
        {"account_id": account, "balance_nano": 2**62, "updated_at": 1}
    ]
    row = await Balance.get(account_id=account)
    assert row.account_id == uuid.UUID(account)
    assert row.balance_nano == 2**62


async def test_sums_are_integers(store: Store) -> None:
    for _ in range(3):
        await store.write(insert(str(uuid.uuid4()), 2**55))
    [row] = await store.fetch_report("SELECT sum(balance_nano) AS total, count(*) AS number FROM account_balances")
    assert row == {"total": 3 * 2**55, "number": 3}
    assert type(row["total"]) is int


@everywhere
async def test_reads_cannot_write(store: Store) -> None:
    account = str(uuid.uuid4())
    await store.write(insert(account))
    balance = await Balance.get(account_id=account)
    balance.balance_nano = 5
    with pytest.raises(Exception, match=r"(?i)read-?only"):
        await balance.save()
    with pytest.raises(Exception, match=r"(?i)read-?only"):
        await Balance.get_or_create(account_id=uuid.uuid4(), defaults={"balance_nano": 5, "updated_at": 1})
    with pytest.raises(OperationalError):
        await store.fetch("SELECT nonsense FROM account_balances")
    assert [row.balance_nano for row in await Balance.all()] == [1]


@everywhere
async def test_a_failing_operation_takes_no_other_down(store: Store) -> None:
    accounts = [str(uuid.uuid4()) for _ in range(20)]
    taken = accounts[0]

    async def fails(tx: Tx) -> None:
        await insert(str(uuid.uuid4()))(tx)
        await insert(taken)(tx)

    await store.write(insert(taken))
    results = await asyncio.gather(
        *(store.write(insert(account)) for account in accounts[1:10]),
        store.write(fails),
        *(store.write(insert(account)) for account in accounts[10:]),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [str] * 9 + [IntegrityError] + [str] * 10
    rows = await store.fetch("SELECT account_id FROM account_balances")
    assert {row["account_id"] for row in rows} == set(accounts)


@everywhere
async def test_orm_and_sql_share_the_transaction(store: Store) -> None:
    account = str(uuid.uuid4())

    async def operation(tx: Tx) -> None:
        await Balance.create(account_id=account, balance_nano=1, updated_at=1, using_db=tx.orm)
        assert await tx.execute("UPDATE account_balances SET balance_nano = balance_nano + ? WHERE account_id = ?", [4, account]) == 1
        row = await Balance.get(account_id=account, using_db=tx.orm)
        assert row.balance_nano == 5
        raise LookupError

    with pytest.raises(LookupError):
        await store.write(operation)
    assert await Balance.all().count() == 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Ömer", ["Ömer Öztürk"]),
        ("R Ö", ["Ömer Öztürk"]),
        ("MER", ["Ömer Öztürk"]),
        ("50%", ["50% [a]"]),
        ("0% [A", ["50% [a]"]),
        ("ö%r", []),
        ("ö?er", []),
        ("Ö_er", []),
        ("", ["50% [a]", "Ömer Öztürk"]),
        ("Ö" * 20_000, []),
    ],
)
@everywhere
async def test_texts_are_found_in_whatever_case_and_nothing_stands_for_another(store: Store, text: str, found: list[str]) -> None:
    async def write(tx: Tx) -> None:
        for number, name in enumerate(("Ömer Öztürk", "50% [a]")):
            await tx.execute("INSERT INTO anonymous_refusals (minute, reason, path, count) VALUES (?, ?, '/', 1)", [number, name])

    await store.write(write)
    condition, patterns = store.containing(text, "path", "reason")
    rows = await store.fetch(f"SELECT reason FROM anonymous_refusals WHERE {condition} ORDER BY reason", patterns)
    assert [row["reason"] for row in rows] == found


@pytest.mark.parametrize("text", ["ömer", "ÖZTÜRK", "r öz", "TÜR"])
async def test_sqlite_finds_letters_beyond_ascii_in_whatever_case(sqlite_url: str, data_dir: Path, text: str) -> None:
    store = await Store.open(sqlite_url, data_dir)
    condition, patterns = store.containing(text, "name")
    rows = await store.fetch(f"SELECT name FROM (SELECT 'Ömer Öztürk' AS name UNION SELECT 'Omer Ozturk') WHERE {condition}", patterns)
    await store.close()
    assert [row["name"] for row in rows] == ["Ömer Öztürk"]


@everywhere
async def test_execute_many_and_returning(store: Store) -> None:
    accounts = [str(uuid.uuid4()) for _ in range(500)]

    async def operation(tx: Tx) -> list[str]:
        await tx.execute_many(
            ("INSERT INTO account_balances (account_id, balance_nano, updated_at) VALUES (?, ?, 0)", [(a, 7) for a in accounts]),
            ("UPDATE account_balances SET balance_nano = balance_nano + ? WHERE account_id = ?", [(1, accounts[0]), (2, accounts[0])]),
        )
        rows = await tx.fetch(
            "INSERT INTO account_balances (account_id, balance_nano, updated_at) VALUES (?, 0, 0), (?, 0, 0) "
            "ON CONFLICT DO NOTHING RETURNING account_id",
            [accounts[0], "00000000-0000-0000-0000-00000000000a"],
        )
        return [row["account_id"] for row in rows]

    assert await store.write(operation) == ["00000000-0000-0000-0000-00000000000a"]
    assert await Balance.all().count() == 501
    assert (await Balance.get(account_id=accounts[0])).balance_nano == 10


@pytest.mark.parametrize("seed", range(3))
async def test_any_mixture_of_operations_leaves_exactly_what_succeeded(store: Store, seed: int) -> None:
    """Operations fail before, between and after their statements, do nothing, or lose their caller; the rest is untouched."""
    choose = random.Random(seed)

    async def run(number: int) -> list[str]:
        accounts = [str(uuid.UUID(int=number * 10 + part)) for part in range(choose.randrange(4))]
        fails_before = choose.choice([None, None, None, 0, len(accounts) // 2, len(accounts)])

        async def operation(tx: Tx) -> list[str]:
            for position, account in enumerate(accounts):
                if position == fails_before:
                    raise LookupError
                if choose.random() < 0.3:
                    await Balance.create(account_id=account, balance_nano=1, updated_at=1, using_db=tx.orm)
                else:
                    await insert(account)(tx)
                if choose.random() < 0.1:
                    await tx.execute("UPDATE no_such_table SET a = 1")
            if fails_before == len(accounts):
                raise LookupError
            return accounts

        return await store.write(operation)

    tasks = [asyncio.create_task(run(number)) for number in range(120)]
    await asyncio.sleep(0)
    for task in choose.sample(tasks, 10):
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {list, LookupError, OperationalError, asyncio.CancelledError}
    written = {account for result in results if isinstance(result, list) for account in result}
    stored = {row["account_id"] for row in await store.fetch("SELECT account_id FROM account_balances")}
    left = {str(uuid.UUID(int=n * 10 + part)) for n, r in enumerate(results) if isinstance(r, asyncio.CancelledError) for part in range(4)}
    assert written <= stored <= written | left


async def test_an_operation_sees_what_those_before_it_have_written(
    postgres_url: str, shared_postgres: Callable[[str], str], tmp_path: Path
) -> None:
    """Also those that it waited for, from another node, and where the database would have it otherwise."""
    shared_postgres(f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET default_transaction_isolation = 'repeatable read'")
    nodes = [await Store.open(postgres_url, tmp_path / name) for name in ("one", "other")]

    async def count_up(tx: Tx) -> int:
        rows = await tx.fetch("SELECT account_id FROM account_balances")
        await insert(str(uuid.uuid4()))(tx)
        return len(rows)

    counts = await asyncio.gather(*(node.write(count_up) for node in nodes for _ in range(10)))
    assert sorted(counts) == list(range(20))
    for node in nodes:
        await node.close()


async def test_frequent_writes_do_not_wait_for_those_alone(postgres_url: str, tmp_path: Path) -> None:
    """Nor for the connections of those who wait for their turn, on either node."""
    store, other = [await Store.open(postgres_url, tmp_path / name) for name in ("one", "other")]
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(tx: Tx) -> None:
        begun.set()
        await go_on.wait()

    first = asyncio.create_task(store.write(slow))
    await begun.wait()
    waiting = [asyncio.create_task(node.write(insert(str(uuid.uuid4())))) for node in (store, other) for _ in range(10)]
    for node in (store, other):
        await asyncio.wait_for(asyncio.gather(*(node.write(insert(str(uuid.uuid4())), alone=False) for _ in range(20))), 4)
    assert await Balance.all().count() == 40
    assert not any(task.done() for task in waiting)
    go_on.set()
    await asyncio.gather(first, *waiting)
    assert await Balance.all().count() == 60
    await other.close()
    await store.close()


async def test_who_leaves_while_waiting_for_its_turn_keeps_no_connection(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = [await Store.open(postgres_url, tmp_path / name) for name in ("one", "other")]
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(tx: Tx) -> str:
        begun.set()
        await go_on.wait()
        [row] = await tx.fetch("SELECT current_setting('idle_in_transaction_session_timeout') AS most")
        return str(row["most"])

    holding = asyncio.create_task(store.write(slow))
    await begun.wait()
    monkeypatch.setattr(postgresql, "WRITE_SECONDS", 0.3)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match=r"PostgreSQL: .+"):
            await other.write(insert(str(uuid.uuid4())))
    left = "SELECT count(*) AS number FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    for _ in range(100):
        await asyncio.sleep(0.05)
        if (await other.fetch(left))[0]["number"] == 0:
            break
    else:
        pytest.fail("they still wait")
    assert not holding.done()
    go_on.set()
    assert await holding == "10s", "nor does one that is stopped in the middle keep the others waiting for longer"
    await other.close()
    await store.close()


def test_a_database_is_named_without_its_secrets(data_dir: Path) -> None:
    assert database_name("postgres://u:canary@h:5/d?password=canary", data_dir) == "PostgreSQL at h:5/d"
    assert database_name(None, data_dir) == str(data_dir / "dwctl.db")
