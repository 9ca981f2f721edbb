"""Credits given and taken, and the lists of transactions, on both databases."""

import asyncio
from typing import Any

import pytest

from dwctl import ids
from dwctl.errors import GatewayError
from dwctl.ledger import Ledger
from dwctl.ledger.transactions import KINDS, Filter, Page, balance_of, get, grant, page, post, remove
from dwctl.money import MAX_STORED
from dwctl.store import Store
from tests.ledger.making import ACCOUNT, OTHER, make_record


async def add(store: Store, kind: Any, amount: int, account: str = ACCOUNT, **more: Any) -> str:
    source = more.get("source", f"test-{ids.new_text()}")
    posting = await store.write(lambda tx: post(tx, kind, account, amount, source, more.get("description")))
    return posting.id


async def test_grants_purchases_and_removals_change_the_balance(store: Store) -> None:
    assert await balance_of(store, ACCOUNT) == 0
    await store.write(lambda tx: grant(tx, ACCOUNT, 500, "g"))
    await store.write(lambda tx: post(tx, "purchase", ACCOUNT, 250, "p", "Paid by card"))
    removal = await store.write(lambda tx: remove(tx, ACCOUNT, 1_000, "r"))
    assert await balance_of(store, ACCOUNT) == -250
    assert removal.signed_nano == -1_000
    assert await get(store, removal.id) == removal
    assert await get(store, ids.new_text()) is None


async def test_a_source_id_happens_once(store: Store) -> None:
    await add(store, "admin_grant", 5, source="invoice-1")
    with pytest.raises(GatewayError) as caught:
        await add(store, "admin_grant", 7, OTHER, source="invoice-1")
    assert (caught.value.status, caught.value.param) == (409, "source_id")
    assert (await balance_of(store, ACCOUNT), await balance_of(store, OTHER)) == (5, 0)


@pytest.mark.parametrize("amount", [0, -1, MAX_STORED + 1])
async def test_amounts_are_positive_and_fit(store: Store, amount: int) -> None:
    with pytest.raises(GatewayError) as caught:
        await add(store, "admin_grant", amount)
    assert (caught.value.status, caught.value.param) == (400, "amount")


async def test_a_balance_never_overflows(store: Store) -> None:
    await add(store, "admin_grant", MAX_STORED)
    with pytest.raises(GatewayError) as caught:
        await add(store, "admin_grant", 1, source="too much")
    assert caught.value.status == 400
    await add(store, "admin_removal", 1)
    await add(store, "admin_grant", 1, source="too much")
    assert await balance_of(store, ACCOUNT) == MAX_STORED


@pytest.mark.parametrize("source", ["", "x" * 256, "a\0b"])
async def test_source_ids_are_storable(store: Store, source: str) -> None:
    with pytest.raises(GatewayError) as caught:
        await add(store, "admin_grant", 1, source=source)
    assert caught.value.param == "source_id"


async def test_the_id_of_a_request_is_kept_for_its_charge(store: Store, ledger: Ledger) -> None:
    record = make_record()
    with pytest.raises(GatewayError) as caught:
        await add(store, "admin_grant", 5, source=record.id)
    assert (caught.value.status, caught.value.param) == (400, "source_id")
    await add(store, "admin_grant", 5, source=f"refund-{record.id}")
    ledger.end(record)
    await ledger.recorded()
    assert record.charge is not None
    assert await balance_of(store, ACCOUNT) == 5 - record.charge.amount_nano


async def test_pages_are_newest_first_and_start_from_their_balance(store: Store) -> None:
    amounts = [("admin_grant", 1_000), ("usage", 10), ("usage", 20), ("admin_removal", 30), ("purchase", 500), ("usage", 40)]
    made = [await add(store, kind, amount) for kind, amount in amounts]
    await add(store, "admin_grant", 77, OTHER)
    balances = [1_000, 990, 970, 940, 1_440, 1_400]
    for skip in range(7):
        found = await page(store, Filter(account_id=ACCOUNT), skip=skip, limit=2)
        assert [posting.id for posting in found.data] == list(reversed(made))[skip : skip + 2]
        assert found.has_more == (skip + 2 < 6)
        assert found.page_start_balance == (balances[5 - skip] if skip < 6 else 0)


async def test_running_down_a_page_explains_the_balance(store: Store) -> None:
    for number, kind in enumerate(KINDS * 3):
        await add(store, kind, 100 + number)
    shown = (await page(store, Filter(account_id=ACCOUNT), limit=100)).data
    running = (await page(store, Filter(account_id=ACCOUNT))).page_start_balance
    for posting in shown:
        running -= posting.signed_nano
    assert running == 0


async def test_filters(store: Store) -> None:
    first = await add(store, "admin_grant", 100, description="Welcome 100% free_credits")
    second = await add(store, "usage", 7, description="API usage: small")
    third = await add(store, "admin_grant", 1, OTHER)
    [middle] = (await page(store, Filter(kinds=["usage"]))).data

    async def found(**wanted: Any) -> set[str]:
        result: Page = await page(store, Filter(**wanted))
        return {posting.id for posting in result.data}

    assert await found() == {first, second, third}
    assert await found(account_id=ACCOUNT) == {first, second}
    assert await found(kinds=["usage", "purchase"]) == {second}
    assert await found(search="WELCOME") == {first}
    assert await found(search="100% free_") == {first}
    assert await found(search="100_") == set()
    assert await found(search="%") == {first}
    assert second in await found(start_us=middle.created_at)
    assert second not in await found(end_us=middle.created_at)
    assert (await page(store, Filter(kinds=["usage"]))).page_start_balance == 0


async def test_a_page_that_ends_in_the_past_starts_from_the_balance_of_then(store: Store) -> None:
    await add(store, "admin_grant", 1_000)
    await store.write(lambda tx: tx.execute("UPDATE credits_transactions SET created_at = 1000"))
    await add(store, "admin_removal", 400)
    assert (await page(store, Filter(account_id=ACCOUNT, end_us=1_001))).page_start_balance == 1_000
    assert (await page(store, Filter(account_id=ACCOUNT))).page_start_balance == 600


async def test_what_was_skipped_may_be_more_than_a_balance_holds(store: Store) -> None:
    await add(store, "admin_grant", MAX_STORED)
    for _ in range(2):
        await add(store, "admin_removal", MAX_STORED)
    found = await page(store, Filter(account_id=ACCOUNT), skip=2)
    assert (found.page_start_balance, len(found.data)) == (MAX_STORED, 1)


async def test_charges_appear_in_the_list(store: Store, ledger: Ledger) -> None:
    await add(store, "admin_grant", 10_000)
    record = make_record(amount=250)
    ledger.end(record)
    await ledger.recorded()
    [charge, _] = (await page(store, Filter(account_id=ACCOUNT))).data
    assert (charge.transaction_type, charge.amount_nano, charge.source_id, charge.request_id) == ("usage", 250, record.id, record.id)
    assert charge.service_tier == "realtime"
    assert await get(store, charge.id) == charge


async def test_sums_beyond_what_sqlite_counts_to(store: Store) -> None:
    """Booked back and forth by mistake: each fits, all that is skipped together does not."""
    much = 9 * 10**18
    for number in range(2):
        await store.write(lambda tx, number=number: grant(tx, ACCOUNT, much, f"grant-{number}"))
        await store.write(lambda tx, number=number: remove(tx, ACCOUNT, much, f"removal-{number}"))
    await store.write(lambda tx: remove(tx, ACCOUNT, much, "last"))
    assert (await page(store, Filter(account_id=ACCOUNT), skip=1)).page_start_balance == 0
    removals = await page(store, Filter(account_id=ACCOUNT, kinds=["admin_removal"]), skip=3)
    assert (removals.data, removals.page_start_balance) == ([], 2 * much)


async def test_a_page_fits_its_balance_while_others_charge(store: Store) -> None:
    await store.write(lambda tx: grant(tx, ACCOUNT, 10**9, "first"))
    stop = False

    async def charge() -> None:
        number = 0
        while not stop:
            number += 1
            await store.write(lambda tx, number=number: remove(tx, ACCOUNT, 1, f"removal-{number}"))

    charging = asyncio.create_task(charge())
    try:
        for _ in range(150):
            found = await page(store, Filter(account_id=ACCOUNT), limit=1)
            assert found.page_start_balance == 10**9 - int(found.data[0].source_id.partition("-")[2] or 0)
    finally:
        stop = True
        await charging
