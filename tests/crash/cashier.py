"""Gives and takes credits while the server is killed: what was confirmed is there, what was asked twice is there once."""

import asyncio
import random

import msgspec

from dwctl.money import format_amount
from tests.crash.books import Books
from tests.crash.client import Answer, Client

EMAIL = "cashier@example.com"
SECRET = "sk-test-cashier-" + "c" * 27
PATH = "/admin/api/v1/transactions"
PAUSE_S = 0.02


class Order(msgspec.Struct, frozen=True):
    """Something to post: ``kind`` is admin_grant or admin_removal."""

    source_id: str
    kind: str
    nano: int


class Cashier:
    """Posts one order after the other, and each as often as it takes to be told that it is posted."""

    def __init__(self, port: int, account_id: str, seed: int) -> None:
        self._client = Client(port, secret=SECRET)
        self._account = account_id
        self._dice = random.Random(seed)
        self._task: asyncio.Task[None] | None = None
        self.posted: list[Order] = []
        self.repeated = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._work())

    async def finish(self) -> None:
        """Return once the order at hand is posted."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._client.close()

    async def _work(self) -> None:
        while True:
            kind = "admin_removal" if self._dice.random() < 0.3 else "admin_grant"
            order = Order(f"order-{len(self.posted)}", kind, self._dice.randrange(1, 10**10))
            posting = asyncio.ensure_future(self._post(order))
            try:
                await asyncio.shield(posting)
            except asyncio.CancelledError:
                await posting
                raise
            await asyncio.sleep(PAUSE_S)

    async def _post(self, order: Order) -> None:
        body = {
            "user_id": self._account,
            "transaction_type": order.kind,
            "amount": format_amount(order.nano),
            "source_id": order.source_id,
        }
        while True:
            try:
                answer = await self._client.post(PATH, body)
            except OSError:
                answer = Answer()
            if answer.in_full and answer.status in (201, 409):
                break
            assert not answer.in_full or answer.status == 503, answer
            await asyncio.sleep(PAUSE_S)
        self.repeated += answer.status == 409
        self.posted.append(order)

    def check(self, books: Books) -> None:
        """Every order is in the books, once and as it was given."""
        found = {
            row["source_id"]: (row["transaction_type"], row["amount_nano"])
            for row in books.transactions
            if row["transaction_type"] != "usage"
        }
        missing = {order.source_id for order in self.posted} - found.keys()
        assert not missing, f"confirmed and not in the books: {sorted(missing)[:5]}"
        for order in self.posted:
            assert found[order.source_id] == (order.kind, order.nano), order
        assert len(found) - 1 == len(self.posted), "besides the first grant nothing else was posted"
