"""What must hold once nobody asks any more: everything is recorded, nothing is held, the last credit can be spent."""

import asyncio
import time

from dwctl.money import format_amount
from tests.appliance import Appliance, model
from tests.crash.books import Database, Prices
from tests.crash.client import Answer, one


async def recorded(database: Database, ids: set[str], seconds: float = 20) -> None:
    """Wait until requests are in the database."""
    deadline = time.monotonic() + seconds
    while True:
        [rows] = await database.fetch("SELECT id FROM requests")
        missing = ids - {row["id"] for row in rows}
        if not missing:
            return
        assert time.monotonic() < deadline, f"not recorded: {sorted(missing)[:5]}"
        await asyncio.sleep(0.1)


async def balance(database: Database) -> int:
    """Nano-credits of the one account that was ever credited."""
    [[row]] = await database.fetch("SELECT balance_nano FROM account_balances")
    nano: int = row["balance_nano"]
    return nano


async def spend_everything(appliance: Appliance, database: Database) -> tuple[Prices, Answer]:
    """Make one request that costs all that is left (so that nothing else can be held), and be refused the next.

    The balance must be in the database. Returns the price of the model, which is called ``everything``, and the answer.
    """
    price = {"per_request": format_amount(await balance(database))}
    await asyncio.to_thread(appliance.apply, {"models": [model("everything", "sim-rerank", prices=[price])]})
    answer = await _ask(appliance.port)
    assert answer.ok, f"a hold was left: {answer.body.decode()}"
    refused = await _ask(appliance.port)
    assert (refused.status, refused.code) == (402, "insufficient_balance")
    return price, answer


async def _ask(port: int) -> Answer:
    """Ask until the server knows the model: another process has made it."""
    deadline = time.monotonic() + 20
    while True:
        answer = await one(port, "/ai/v1/rerank", {"model": "everything", "query": "what", "documents": ["this"]})
        if answer.status != 404:
            return answer
        assert time.monotonic() < deadline, answer.body
        await asyncio.sleep(0.1)
