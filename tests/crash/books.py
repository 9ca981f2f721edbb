"""The server's books as the database holds them, and the sums that must agree whatever happened.

Read from outside of the server, in one transaction, so that a moment between two of its commits is seen as a whole.
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from tests.appliance import Simulator

Row = dict[str, Any]

NIL = "00000000-0000-0000-0000-000000000000"
HOUR_US = 3_600_000_000
_TABLES = ("credits_transactions", "account_balances", "key_spend", "requests", "usage_hourly", "journal_marks", "anonymous_refusals")
_SIGN = "CASE WHEN transaction_type IN ('purchase', 'admin_grant') THEN 1 ELSE -1 END"


class Database:
    """The database of a server. ``url`` None means SQLite in its data directory."""

    def __init__(self, url: str | None, data_dir: Path) -> None:
        self.url = url
        self.path = data_dir / "dwctl.db"

    async def fetch(self, *statements: str) -> list[list[Row]]:
        """The rows of each statement, all from one moment."""
        if self.url is None:
            return self._fetch_sqlite(statements)
        connection = await asyncpg.connect(self.url)
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return [[_plain(row) for row in await connection.fetch(statement)] for statement in statements]
        finally:
            await connection.close()

    def _fetch_sqlite(self, statements: Sequence[str]) -> list[list[Row]]:
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("BEGIN")
            return [[_plain(row) for row in connection.execute(statement)] for statement in statements]
        finally:
            connection.close()

    async def execute(self, statement: str) -> None:
        """Change something behind the server's back, while it is down."""
        if self.url is None:
            with sqlite3.connect(self.path) as database:
                database.execute(statement)
            database.close()
            return
        connection = await asyncpg.connect(self.url)
        await connection.execute(statement)
        await connection.close()


def _plain(row: Any) -> Row:
    return {name: _simple(value) for name, value in dict(row).items()}


def _simple(value: Any) -> int | str | None:
    """PostgreSQL has UUIDs and adds up to decimals."""
    if value is None or isinstance(value, int | str):
        return value
    return int(value) if isinstance(value, Decimal) else str(value)


class Books(msgspec.Struct):
    """All rows that money leaves."""

    transactions: list[Row]
    balances: dict[str, int]
    spend: dict[str, int]
    requests: dict[str, Row]
    hours: list[Row]
    marks: list[Row]

    def charges(self) -> dict[str, int]:
        """Nano-credits by request id."""
        return {row["request_id"]: row["amount_nano"] for row in self.transactions if row["transaction_type"] == "usage"}

    def without_marks(self) -> "Books":
        return msgspec.structs.replace(self, marks=[])


async def read(database: Database) -> Books:
    """The books at one moment."""
    order = {"requests": "id", "credits_transactions": "seq", "usage_hourly": "id"}
    found = await database.fetch(*(f"SELECT * FROM {table} ORDER BY {order.get(table, '1')}" for table in _TABLES[:6]))
    transactions, balances, spend, requests, hours, marks = found
    return Books(
        transactions,
        {row["account_id"]: row["balance_nano"] for row in balances},
        {row["key_id"]: row["total_nano"] for row in spend},
        {row["id"]: row for row in requests},
        hours,
        marks,
    )


async def charged(database: Database) -> int:
    """The number of charges in the database."""
    [[row]] = await database.fetch("SELECT count(*) AS charges FROM credits_transactions WHERE transaction_type = 'usage'")
    charges: int = row["charges"]
    return charges


async def check_sums(database: Database) -> None:
    """What holds at any moment, by sums alone: cheap enough for every restart of a long run."""
    balances, hours, rows, spend = await database.fetch(
        f"""SELECT b.account_id, b.balance_nano, (SELECT coalesce(sum({_SIGN} * t.amount_nano), 0) FROM credits_transactions t
            WHERE t.account_id = b.account_id) AS posted FROM account_balances b""",
        "SELECT coalesce(sum(charge_nano), 0) AS nano, coalesce(sum(requests), 0) AS requests FROM usage_hourly",
        """SELECT (SELECT coalesce(sum(amount_nano), 0) FROM credits_transactions WHERE transaction_type = 'usage') AS nano,
            (SELECT count(*) FROM requests WHERE account_id IS NOT NULL) AS requests""",
        "SELECT coalesce(sum(total_nano), 0) AS nano FROM key_spend",
    )
    for row in balances:
        assert row["balance_nano"] == row["posted"], f"the balance is not grants less charges: {row}"
    assert hours[0]["nano"] == rows[0]["nano"] == spend[0]["nano"], (hours, rows, spend)
    assert hours[0]["requests"] == rows[0]["requests"], (hours, rows)


def check(books: Books) -> None:
    """The books agree with themselves."""
    posted: Counter[str] = Counter()
    spend: Counter[str] = Counter()
    charges: dict[str, int] = {}
    for row in books.transactions:
        gives = row["transaction_type"] in ("purchase", "admin_grant")
        posted[row["account_id"]] += row["amount_nano"] if gives else -row["amount_nano"]
        if row["transaction_type"] == "usage":
            assert row["request_id"] not in charges, f"two charges: {row}"
            charges[row["request_id"]] = row["amount_nano"]
            spend[row["key_id"]] += row["amount_nano"]
    assert books.balances == {account: posted[account] for account in books.balances}, "balance = grants - charges"
    assert set(posted) <= set(books.balances)
    assert books.spend == dict(spend), "spend of keys = charges"
    told = {id: row["charge_nano"] for id, row in books.requests.items() if row["charge_nano"]}
    assert told == charges, "each charge has its row, and each row its charge"
    _check_hours(books)


def _check_hours(books: Books) -> None:
    sums: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for row in books.requests.values():
        if row["account_id"] is None:
            continue
        owner = (row["account_id"], row["key_id"] or NIL, row["model_id"] or NIL)
        hour = sums[(row["started_us"] // HOUR_US, *owner, row["alias"] or "", row["endpoint_name"] or "")]
        hour["requests"] += 1
        hour["errors"] += row["outcome"] not in ("complete", "cancelled")
        hour["cache_write"] += row["cache_write_5m"] + row["cache_write_1h"]
        hour["charge_nano"] += row["charge_nano"] or 0
        for name in ("uncached_input", "cache_read", "output", "reasoning", "duration_us"):
            hour[name] += row[name]
    kept = {
        (row["hour"], row["account_id"], row["key_id"], row["model_id"], row["alias"], row["endpoint_name"]): row for row in books.hours
    }
    assert kept.keys() == sums.keys()
    for place, hour in sums.items():
        assert {name: kept[place][name] for name in hour} == dict(hour), f"hourly sums of {place}"


Prices = Mapping[str, str]
"""A price as an apply file writes it."""


def price_of(prices: Prices, entry: Mapping[str, Any]) -> int:
    """Nano-credits of what the provider says it served, computed in fractions of credits, without any code of the product's."""
    cached = entry["cached_tokens"]
    per_input = Fraction(prices.get("input_per_million", "0"))
    per_read = Fraction(prices.get("cache_read_per_million", prices.get("input_per_million", "0")))
    per_output = Fraction(prices.get("output_per_million", "0"))
    credits = (
        ((entry["prompt_tokens"] - cached) * per_input + cached * per_read + entry["completion_tokens"] * per_output) / 10**6
    ) + Fraction(prices.get("per_request", "0"))
    nano: int = round(credits * 10**9)  # a Fraction is rounded half to even
    return nano


def check_served(books: Books, received: set[str], served: Mapping[str, Mapping[str, Any]], prices: Mapping[str, Prices]) -> None:
    """Received in full ⊆ charged ⊆ served, and every charge of a complete answer right to the nano-credit.

    ``received``: ids of priced answers that a client has in full. ``prices`` by alias.
    """
    charges = books.charges()
    assert received <= charges.keys(), f"received and not charged: {sorted(received - charges.keys())[:5]}"
    assert charges.keys() <= served.keys(), f"charged and never asked for: {sorted(charges.keys() - served.keys())[:5]}"
    for id, amount in charges.items():
        row = books.requests[id]
        if row["outcome"] == "complete":
            expected = price_of(prices[row["alias"]], served[id])
            assert amount == expected, f"{id} ({row['alias']}): charged {amount}, the provider served {expected}: {served[id]}"
    for id in received:
        assert books.requests[id]["outcome"] == "complete", books.requests[id]
    assert all(entry["times"] == 1 for entry in served.values()), "a request was sent twice"


def served_by(simulator: Simulator) -> dict[str, Any]:
    """What the provider was asked, from its file (what ended) and its memory (what is open, too)."""
    entries = {}
    for line in simulator.ledger.read_bytes().splitlines():
        entry = msgspec.json.decode(line)
        entries[entry["id"]] = entry
    return entries | simulator.served()
