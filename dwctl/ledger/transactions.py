"""Credits given and taken by people, and the lists of transactions.

Transactions are append-only. Amounts are nano-credits and absolute: purchase and admin_grant add, usage and admin_removal
take. ``source_id`` makes each happen once. A transaction and its balance change together; whoever posts one notes a change of
area ``balance``, and every node then calls ``Ledger.reload_balance``.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from dwctl import ids
from dwctl.clock import now_us
from dwctl.errors import bad_request, conflict
from dwctl.money import MAX_STORED, NANO
from dwctl.store import Row, Store, Tx

Kind = Literal["purchase", "admin_grant", "admin_removal", "usage"]
KINDS: tuple[Kind, ...] = ("purchase", "admin_grant", "admin_removal", "usage")

_SIGNED = "CASE WHEN transaction_type IN ('purchase', 'admin_grant') THEN amount_nano ELSE -amount_nano END"
_COLUMNS = (
    "seq, id, account_id, transaction_type, amount_nano, source_id, description, created_at, request_id, key_id, service_tier, tariff_id"
)


class Posting(msgspec.Struct, frozen=True):
    """One transaction. Ids are text, ``amount_nano`` is absolute, ``created_at`` is in microseconds UTC."""

    seq: int
    id: str
    account_id: str
    transaction_type: str
    amount_nano: int
    source_id: str
    description: str | None
    created_at: int
    request_id: str | None = None
    key_id: str | None = None
    service_tier: str | None = None
    tariff_id: str | None = None

    @property
    def signed_nano(self) -> int:
        """What it did to the balance."""
        return self.amount_nano if self.transaction_type in ("purchase", "admin_grant") else -self.amount_nano


class Page(msgspec.Struct, frozen=True):
    """Transactions, newest first. ``page_start_balance`` is the balance after the first of them (nano-credits)."""

    data: list[Posting]
    has_more: bool
    page_start_balance: int


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which transactions; None and empty mean any. Times are microseconds UTC, ``start_us`` inclusive, ``end_us`` exclusive."""

    account_id: str | None = None
    kinds: Sequence[str] = ()
    search: str | None = None
    """Part of the description, in either case."""
    start_us: int | None = None
    end_us: int | None = None
    before_seq: int | None = None
    """Older than this one."""

    @property
    def is_whole(self) -> bool:
        """Whether no transaction of one account is left out, so that its balance can be followed from each to the next.

        Times leave some out in the midst, too: a charge has the time at which its request ended, and is booked after it.
        """
        chosen = self.kinds or self.search or self.start_us is not None or self.end_us is not None
        return self.account_id is not None and not chosen


async def post(tx: Tx, kind: Kind, account_id: str, amount_nano: int, source_id: str, description: str | None = None) -> Posting:
    """Add a transaction and change the balance.

    Raises GatewayError 400 for an amount that is not positive or that the balance cannot hold and for a source id that is kept for
    requests, 409 for one that was used.
    """
    if not 0 < amount_nano <= MAX_STORED:
        raise bad_request("The amount must be greater than zero.", param="amount")
    if not source_id or len(source_id) > 255 or "\0" in source_id:
        raise bad_request("source_id must have 1 to 255 characters.", param="source_id")
    if ids.has_form(source_id):
        # It may be a request's, whose charge will come with it, and would be taken for one that is there already.
        raise bad_request("source_id must not have the form of a request's id: put a word before it, such as refund-.", param="source_id")
    now = now_us()
    found = await tx.fetch(
        "INSERT INTO credits_transactions (id, account_id, transaction_type, amount_nano, source_id, description, created_at) "
        f"VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (source_id) DO NOTHING RETURNING {_COLUMNS}",
        (ids.new_text(), account_id, kind, amount_nano, source_id, description, now),
    )
    if not found:
        raise conflict("A transaction with this source_id already exists.", param="source_id", source_id=source_id)
    posting = msgspec.convert(found[0], Posting)
    before = await balance_of(tx, account_id, lock=True)
    if abs(before + posting.signed_nano) > MAX_STORED:
        raise bad_request("The amount is too large for this balance.", param="amount")
    await tx.execute(
        "INSERT INTO account_balances (account_id, balance_nano, updated_at) VALUES (?, ?, ?) ON CONFLICT (account_id) DO UPDATE "
        "SET balance_nano = account_balances.balance_nano + excluded.balance_nano, updated_at = excluded.updated_at",
        (account_id, posting.signed_nano, now),
    )
    return posting


async def grant(tx: Tx, account_id: str, amount_nano: int, source_id: str, description: str | None = None) -> Posting:
    """Credits given by an administrator; errors as ``post``."""
    return await post(tx, "admin_grant", account_id, amount_nano, source_id, description)


async def remove(tx: Tx, account_id: str, amount_nano: int, source_id: str, description: str | None = None) -> Posting:
    """Credits taken by an administrator; the balance may become negative. Errors as ``post``."""
    return await post(tx, "admin_removal", account_id, amount_nano, source_id, description)


async def balance_of(source: Tx | Store, account_id: str, *, lock: bool = False) -> int:
    """The balance in the database, in nano-credits; zero for an account that never had credits."""
    sql = "SELECT balance_nano FROM account_balances WHERE account_id = ?"
    if lock and source.dialect == "postgresql":
        sql += " FOR UPDATE"
    found = await source.fetch(sql, (account_id,))
    return int(found[0]["balance_nano"]) if found else 0


async def get(store: Store, transaction_id: str) -> Posting | None:
    """One transaction by its id, which of a usage is its source id too."""
    found = await store.fetch(
        f"SELECT {_COLUMNS} FROM credits_transactions WHERE id = ? AND transaction_type <> 'usage'"
        f" UNION ALL SELECT {_COLUMNS} FROM credits_transactions WHERE source_id = ? AND transaction_type = 'usage'",
        (transaction_id, transaction_id),
    )
    return msgspec.convert(found[0], Posting) if found else None


def _where(store: Store, wanted: Filter) -> tuple[str, list[Any]]:
    conditions: list[str] = []
    args: list[Any] = []
    if wanted.account_id is not None:
        conditions.append("account_id = ?")
        args.append(wanted.account_id)
    if wanted.kinds:
        conditions.append(f"transaction_type IN ({', '.join('?' * len(wanted.kinds))})")
        args.extend(wanted.kinds)
        if "usage" not in wanted.kinds:
            # Said so that the index of what is not usage can be taken.
            conditions.append("transaction_type <> 'usage'")
    if wanted.search:
        condition, found = store.containing(wanted.search, "description")
        conditions.append(condition)
        args += found
    if wanted.start_us is not None:
        conditions.append("created_at >= ?")
        args.append(wanted.start_us)
    if wanted.end_us is not None:
        conditions.append("created_at < ?")
        args.append(wanted.end_us)
    if wanted.before_seq is not None:
        conditions.append("seq < ?")
        args.append(wanted.before_seq)
    return (" WHERE " + " AND ".join(conditions)) if conditions else "", args


_SUMS = f"coalesce(sum({_SIGNED} / {NANO}), 0) AS credits, coalesce(sum({_SIGNED} % {NANO}), 0) AS rest"
"""Of what SQLite cannot add up: it counts to 2^63 nano-credits, which transactions back and forth can exceed."""


async def page(store: Store, wanted: Filter, *, skip: int = 0, limit: int = 100) -> Page:
    """A page of transactions, newest first.

    ``page_start_balance`` is the account's balance (at ``end_us``, if given) less what the skipped transactions did; zero
    if the page is not of one account. It is read in the statement that reads the page, so that it fits also while requests
    are charged.
    """
    where, args = _where(store, wanted)
    chosen = f"SELECT {_COLUMNS} FROM credits_transactions{where} ORDER BY seq DESC LIMIT ? OFFSET ?"
    chosen_args = [*args, limit + 1, skip]
    if wanted.account_id is None:
        rows: list[Row] = await store.fetch_report(chosen, chosen_args)
        return Page(_postings(rows[:limit]), len(rows) > limit, 0)
    taken_off = []
    if wanted.end_us is not None:
        later = "SELECT amount_nano, transaction_type FROM credits_transactions WHERE account_id = ? AND created_at >= ?"
        taken_off.append((later, [wanted.account_id, wanted.end_us]))
    if skip:
        skipped = f"SELECT amount_nano, transaction_type FROM credits_transactions{where} ORDER BY seq DESC LIMIT ?"
        taken_off.append((skipped, [*args, skip]))
    columns, joined, joined_args = "balance.nano AS balance_nano", "", []
    for number, (sql, sql_args) in enumerate(taken_off):
        columns += f", off{number}.credits AS credits{number}, off{number}.rest AS rest{number}"
        joined += f" CROSS JOIN (SELECT {_SUMS} FROM ({sql}) AS rows{number}) AS off{number}"
        joined_args += sql_args
    rows = await store.fetch_report(
        f"SELECT chosen.*, {columns}"
        " FROM (SELECT coalesce(sum(balance_nano), 0) AS nano FROM account_balances WHERE account_id = ?) AS balance"
        f"{joined} LEFT JOIN ({chosen}) AS chosen ON 1 = 1 ORDER BY chosen.seq DESC",
        [wanted.account_id, *joined_args, *chosen_args],
    )
    first = rows[0]
    balance = int(first["balance_nano"])
    for number in range(len(taken_off)):
        balance -= int(first[f"credits{number}"]) * NANO + int(first[f"rest{number}"])
    found = [row for row in rows if row["seq"] is not None]
    return Page(_postings(found[:limit]), len(found) > limit, balance)


def _postings(rows: Sequence[Row]) -> list[Posting]:
    return [msgspec.convert(row, Posting) for row in rows]
