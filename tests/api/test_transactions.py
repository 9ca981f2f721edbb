"""Credits over REST: exact amounts, each source id once, whose transactions one may see."""

import asyncio
import csv
import io
import time
from typing import Any

import pytest

from dwctl import clock
from dwctl.accounts import NIL, SYSTEM
from dwctl.ledger.transactions import Filter
from dwctl.operations import transactions
from tests.administration import Administration
from tests.ledger.making import make_record
from tests.web.visitor import Visitor

NOBODY = "11111111-1111-4111-8111-111111111111"


async def _post(server: Administration, user_id: str, amount: Any, **fields: Any) -> Any:
    body = {"user_id": user_id, "transaction_type": "admin_grant", "amount": amount, **fields}
    return await server.admin("POST", "/transactions", json=body)


async def test_grants_and_removals_move_the_balance_that_admits(server: Administration) -> None:
    user_id = await server.person()
    granted = await _post(server, user_id, "12.500000001", source_id="g-1", description="hello")
    assert granted.status == 201, granted
    assert {name: granted.body[name] for name in ("user_id", "transaction_type", "amount", "source_id", "description", "batch_id")} == {
        "user_id": user_id,
        "transaction_type": "admin_grant",
        "amount": "12.500000001",
        "source_id": "g-1",
        "description": "hello",
        "batch_id": None,
    }
    assert server.services.ledger.balances.balance(user_id) == 12_500_000_001
    removed = await _post(server, user_id, 20, transaction_type="admin_removal")
    assert (removed.status, removed.body["amount"]) == (201, "20")
    assert removed.body["source_id"]
    assert server.services.ledger.balances.balance(user_id) == -7_499_999_999
    assert (await server.admin("GET", f"/transactions/{granted.body['id']}")).body == granted.body
    listed = (await server.admin("GET", f"/transactions?user_id={user_id}")).body
    assert [row["id"] for row in listed["data"]] == [removed.body["id"], granted.body["id"]]
    assert (listed["has_more"], listed["page_start_balance"]) == (False, "-7.499999999")
    second = (await server.admin("GET", f"/transactions?user_id={user_id}&skip=1&limit=1")).body
    assert ([row["id"] for row in second["data"]], second["page_start_balance"]) == ([granted.body["id"]], "12.500000001")
    assert (await server.admin("GET", f"/transactions?user_id={user_id}&limit=1")).body["has_more"] is True
    [row] = [row for row in await server.audit("transactions.create") if row["after"]["source_id"] == "g-1"]
    assert (row["after"]["amount"], row["after"]["user_id"]) == ("12.500000001", user_id)


async def test_a_number_in_json_is_read_digit_by_digit(server: Administration) -> None:
    user_id = await server.person()
    body = f'{{"user_id": "{user_id}", "transaction_type": "admin_grant", "amount": 123456789.123456789}}'
    granted = await server.admin("POST", "/transactions", data=body.encode())
    assert (granted.status, granted.body["amount"]) == (201, "123456789.123456789")
    too_fine = body.replace("123456789.123456789", "123456789.1234567890001")
    assert (await server.admin("POST", "/transactions", data=too_fine.encode())).param == "amount"


async def test_a_source_id_happens_once_whoever_is_first(server: Administration) -> None:
    user_id = await server.person()
    answers = await asyncio.gather(*(_post(server, user_id, "5", source_id="once") for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 7
    assert server.services.ledger.balances.balance(user_id) == 5_000_000_000
    assert (await server.admin("GET", f"/transactions?user_id={user_id}")).body["page_start_balance"] == "5"


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"amount": "0"}, 400, "amount"),
    ({"amount": -1}, 400, "amount"),
    ({"amount": "0.0000000001"}, 400, "amount"),
    ({"amount": "1e300"}, 400, "amount"),
    ({"amount": "10000000000"}, 400, "amount"),
    ({"amount": "lots"}, 422, "amount"),
    ({"transaction_type": "usage"}, 422, "transaction_type"),
    ({"user_id": "somebody"}, 400, "user_id"),
    ({"user_id": NOBODY}, 400, "user_id"),
    ({"user_id": NIL}, 400, "user_id"),
    ({"source_id": ""}, 400, "source_id"),
]


async def test_what_cannot_be_is_refused_by_field(server: Administration) -> None:
    user_id = await server.person()
    for fields, status, param in REFUSED:
        body = {"user_id": user_id, "transaction_type": "admin_grant", "amount": "1", "source_id": "s"} | fields
        answer = await server.admin("POST", "/transactions", json=body)
        assert (answer.status, answer.param) == (status, param), answer
    assert (await server.admin("GET", "/transactions?all=true")).body["data"] == []


async def test_people_see_their_own(server: Administration) -> None:
    user_id, other = await server.person(), await server.person()
    mine = (await _post(server, user_id, "1")).body
    theirs = (await _post(server, other, "2")).body
    secret = await server.key_of(user_id)

    async def ask(path: str, method: str = "GET") -> Any:
        return await server.ask(method, f"/admin/api/v1/transactions{path}", secret=secret, json={} if method == "POST" else None)

    assert [row["id"] for row in (await ask("")).body["data"]] == [mine["id"]]
    assert (await ask(f"/{mine['id']}")).status == 200
    assert (await ask(f"/{theirs['id']}")).status == 404
    assert (await ask(f"?user_id={other}")).status == 403
    assert (await ask("?all=true")).status == 403
    assert (await ask("", "POST")).status == 403
    billing = await server.key_of(await server.person("BillingManager"))
    everyones = await server.ask("GET", "/admin/api/v1/transactions?all=true", secret=billing)
    assert ([row["id"] for row in everyones.body["data"]], everyones.body["page_start_balance"]) == ([theirs["id"], mine["id"]], "0")
    viewer = await server.key_of(await server.person("RequestViewer"))
    assert (await server.ask("GET", "/admin/api/v1/transactions?all=true", secret=viewer)).status == 403


async def test_filters(server: Administration) -> None:
    user_id = await server.person()
    grant = (await _post(server, user_id, "1", description="Welcome 100%")).body
    removal = (await _post(server, user_id, "2", transaction_type="admin_removal", description="oops")).body

    async def ids(query: str) -> list[str]:
        answer = await server.admin("GET", f"/transactions?user_id={user_id}&{query}")
        assert answer.status == 200, answer
        return [row["id"] for row in answer.body["data"]]

    assert await ids("transaction_types=admin_grant") == [grant["id"]]
    assert await ids("transaction_types=admin_grant,admin_removal") == [removal["id"], grant["id"]]
    assert await ids("search=welcome%20100%25") == [grant["id"]]
    assert await ids("search=%25") == [grant["id"]]
    between = removal["created_at"].replace("+", "%2B")
    assert await ids(f"start_date={between}") == [removal["id"]]
    assert await ids(f"end_date={between}") == [grant["id"]]
    ended = (await server.admin("GET", f"/transactions?user_id={user_id}&end_date={between}")).body
    assert ended["page_start_balance"] == "1"
    for wrong in ("transaction_types=gift", "start_date=yesterday", "user_id=me"):
        assert (await server.admin("GET", f"/transactions?{wrong}")).status == 400, wrong


async def test_an_export_has_each_row_once_whatever_is_booked_meanwhile(server: Administration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "EXPORTED_AT_ONCE", 2)
    user_id = await server.person()
    for number in range(5):
        await _post(server, user_id, "1", source_id=f"before-{number}")
    rows = []
    async for posting, balance in transactions.export(server.services, SYSTEM, Filter(account_id=user_id)):
        rows.append((posting.source_id, balance))
        await _post(server, user_id, "1", source_id=f"meanwhile-{len(rows)}")
    assert rows == [(f"before-{number}", (number + 1) * 10**9) for number in reversed(range(5))]


async def test_a_charge_from_before_midnight_leaves_the_days_after_it_without_a_running_balance(server: Administration) -> None:
    """It is booked after them, and left out of them."""
    user_id = await server.person()
    day = (await _post(server, user_id, "5", source_id="first")).body["created_at"][:10]
    midnight = clock.from_rfc3339(f"{day}T00:00:00Z")
    server.services.ledger.end(make_record(account=user_id, amount=10**9, started_us=midnight - 2_000_000, duration_us=1_000_000))
    await server.services.ledger.recorded()
    await _post(server, user_id, "2", source_id="last")
    visitor, balances = await Visitor.sign_in(server), {}
    for days in ("", f"&from={day}", f"&from={day}&to=2100-01-01", "&to=2100-01-01"):
        shown = (await visitor.open(f"/billing?account={user_id}{days}")).body
        rows = csv.DictReader(io.StringIO((await visitor.open(f"/billing.csv?account={user_id}{days}")).body, newline=""))
        balances[days] = ">Balance</th>" in shown, [row["balance"] for row in rows]
    assert balances == {
        "": (True, ["6", "4", "5"]),
        f"&from={day}": (False, ["", ""]),
        f"&from={day}&to=2100-01-01": (False, ["", ""]),
        "&to=2100-01-01": (False, ["", "", ""]),
    }


async def test_what_the_ledger_cannot_record_holds_up_no_grant_and_no_deleted_key(server: Administration) -> None:
    """Somebody has renamed a table: charges wait until it is back, and everything else goes on."""
    services = server.services
    user_id = await server.person()
    await _post(server, user_id, "5")
    key = (await server.admin("POST", f"/users/{user_id}/api-keys", json={"name": "lost", "purpose": "realtime"})).body
    charged = make_record(account=user_id, amount=1_000_000_000)
    await services.store.write(lambda tx: tx.execute("ALTER TABLE usage_hourly RENAME TO mistaken"))
    services.ledger.end(charged)
    async with asyncio.timeout(10):
        while "quarantine" not in services.ledger.degraded():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    started = time.monotonic()
    granted = await _post(server, user_id, "2")
    assert (granted.status, services.ledger.balances.balance(user_id)) == (201, 6_000_000_000)
    assert (await server.ask("GET", "/ai/v1/models", secret=key["key"])).status == 200
    assert (await server.admin("DELETE", f"/users/{user_id}/api-keys/{key['id']}")).status == 204
    assert (await server.ask("GET", "/ai/v1/models", secret=key["key"])).status == 401
    assert time.monotonic() - started < 5, "half of what a change is waited for"
    await services.store.write(lambda tx: tx.execute("ALTER TABLE mistaken RENAME TO usage_hourly"))
    await services.ledger.recorded()
    assert services.ledger.balances.balance(user_id) == 6_000_000_000
    assert (await server.admin("GET", f"/transactions?user_id={user_id}")).body["page_start_balance"] == "6"
    assert services.ledger.degraded() == []
