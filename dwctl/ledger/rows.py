"""The one transaction that brings a group of records into the database: rows, charges, balances, sums, the journal's mark.

Request rows and charges are inserted unless they are there, and all sums (balances, spend of keys, hourly usage) are made
from those that were inserted now. A group can therefore be applied any number of times.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from operator import add
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import astuple

from dwctl.clock import HOUR
from dwctl.dialects.usage import Usage
from dwctl.ledger.journal import Position
from dwctl.ledger.records import ERRORS, Charge, Record
from dwctl.store import Row, Tx
from dwctl.store.changes import Changes

NIL = "00000000-0000-0000-0000-000000000000"

_REQUEST_COLUMNS = {
    "id": "uuid",
    "started_us": "bigint",
    "node": "text",
    "method": "text",
    "path": "text",
    "operation": "text",
    "model_id": "uuid",
    "alias": "text",
    "upstream_model": "text",
    "response_model": "text",
    "endpoint_id": "uuid",
    "endpoint_name": "text",
    "account_id": "uuid",
    "holder_id": "uuid",
    "key_id": "uuid",
    "purpose": "text",
    "origin": "text",
    "access_source": "text",
    "service_tier": "text",
    "status": "int",
    "outcome": "text",
    "error_code": "text",
    "error_message": "text",
    "finish_reason": "text",
    "stream": "boolean",
    "uncached_input": "bigint",
    "cache_read": "bigint",
    "cache_write_5m": "bigint",
    "cache_write_1h": "bigint",
    "output": "bigint",
    "reasoning": "bigint",
    "estimated": "boolean",
    "raw_usage": "text",
    "charge_nano": "bigint",
    "tariff_id": "uuid",
    "input_pico": "bigint",
    "output_pico": "bigint",
    "hold_nano": "bigint",
    "attempts": "text",
    "receive_us": "bigint",
    "admit_us": "bigint",
    "decide_us": "bigint",
    "dispatch_us": "bigint",
    "first_byte_us": "bigint",
    "duration_us": "bigint",
    "request_bytes": "bigint",
    "response_bytes": "bigint",
    "client_ip": "text",
    "user_agent": "text",
    "trace_id": "text",
    "explanation": "text",
    "tags": "text",
}
_CHARGE_COLUMNS = {
    "id": "uuid",
    "account_id": "uuid",
    "transaction_type": "text",
    "amount_nano": "bigint",
    "source_id": "text",
    "description": "text",
    "created_at": "bigint",
    "request_id": "uuid",
    "key_id": "uuid",
    "service_tier": "text",
    "tariff_id": "uuid",
}


class _Table(NamedTuple):
    """Where rows are inserted: ``key`` makes them unique, columns have their PostgreSQL type."""

    table: str
    key: str
    columns: dict[str, str]


_REQUESTS = _Table("requests", "id", _REQUEST_COLUMNS)
_CHARGES = _Table("credits_transactions", "source_id", _CHARGE_COLUMNS)
_Insert = tuple[_Table, set[str], Sequence[tuple[Any, ...]]]
"""Rows for a table, and their keys."""

_STATEMENT_ROWS = (256, 128, 64, 32, 16, 8, 4, 2, 1)
"""Rows of one INSERT on SQLite; few sizes, so that its statements stay compiled."""

_NO_USAGE = Usage()
_NO_USAGE_VALUES = astuple(_NO_USAGE)
_NO_CHARGE_VALUES = (None,) * len(Charge.__struct_fields__)
_USAGE = Record.__struct_fields__.index("usage")
_AFTER_ATTEMPTS = Record.__struct_fields__.index("attempts") + 1
_json = msgspec.json.Encoder().encode

_HOURLY = """
INSERT INTO usage_hourly (hour, account_id, key_id, model_id, alias, endpoint_name, requests, errors, uncached_input, cache_read,
    cache_write, output, reasoning, charge_nano, duration_us)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (hour, account_id, key_id, model_id, alias, endpoint_name) DO UPDATE SET
    requests = usage_hourly.requests + excluded.requests,
    errors = usage_hourly.errors + excluded.errors,
    uncached_input = usage_hourly.uncached_input + excluded.uncached_input,
    cache_read = usage_hourly.cache_read + excluded.cache_read,
    cache_write = usage_hourly.cache_write + excluded.cache_write,
    output = usage_hourly.output + excluded.output,
    reasoning = usage_hourly.reasoning + excluded.reasoning,
    charge_nano = usage_hourly.charge_nano + excluded.charge_nano,
    duration_us = usage_hourly.duration_us + excluded.duration_us
"""
_DAILY = _HOURLY.replace("usage_hourly", "usage_daily").replace("hour", "day")
_HOURS = """
INSERT INTO request_hours (hour, first_seq, last_seq)
SELECT started_us / 3600000000, min(seq), max(seq) FROM requests WHERE seq > ? GROUP BY 1
ON CONFLICT (hour) DO UPDATE SET
    first_seq = CASE WHEN excluded.first_seq < request_hours.first_seq THEN excluded.first_seq ELSE request_hours.first_seq END,
    last_seq = CASE WHEN excluded.last_seq > request_hours.last_seq THEN excluded.last_seq ELSE request_hours.last_seq END
"""
"""Of all rows after a ``seq``. Those of other nodes among them are theirs to note too, which does no harm."""
_TAGS = {
    "sqlite": "INSERT INTO request_tags (tag, seq) SELECT value, seq FROM requests, json_each(tags) WHERE seq > ? ON CONFLICT DO NOTHING",
    "postgresql": "INSERT INTO request_tags (tag, seq) SELECT value, seq FROM requests, json_array_elements_text(tags::json)"
    " WHERE id = ANY(?::uuid[]) ON CONFLICT DO NOTHING",
}
"""Of all rows after a ``seq``, where nobody else writes, and else of those with certain ids."""
_BALANCE = """
INSERT INTO account_balances (account_id, balance_nano, updated_at) VALUES (?, ?, ?)
ON CONFLICT (account_id) DO UPDATE SET
    balance_nano = account_balances.balance_nano + excluded.balance_nano, updated_at = excluded.updated_at
"""
_LEFT_OUT = """ + (
    SELECT coalesce(sum(CASE WHEN credits_transactions.account_id = account_balances.account_id THEN amount_nano END), 0)
    FROM credits_transactions WHERE source_id IN ({})
)"""
"""One statement sees one state of the database. The charges are found by what they are for: an account has any number of them."""
_KEY_SPEND = """
INSERT INTO key_spend (key_id, total_nano) VALUES (?, ?)
ON CONFLICT (key_id) DO UPDATE SET total_nano = key_spend.total_nano + excluded.total_nano
"""
_NEWEST = "SELECT " + ", ".join(f"(SELECT coalesce(max(seq), 0) FROM {into.table}) AS {into.table}" for into in (_REQUESTS, _CHARGES))
"""The highest ``seq`` of each table: what this transaction inserts lies behind it."""
_MARK = """
INSERT INTO journal_marks (node, segment, "offset", updated_at) VALUES (?, ?, ?, ?)
ON CONFLICT (node) DO UPDATE SET segment = excluded.segment, "offset" = excluded."offset", updated_at = excluded.updated_at
"""


@dataclass(slots=True)
class Applied:
    """What a transaction changed."""

    charged: list[Record] = field(default_factory=list)
    """Records whose charge is new in the database."""
    duplicates: int = 0
    """Charges that the database had already."""
    balances: dict[str, int] = field(default_factory=dict)
    """Balances, afterwards, of the accounts of all charges, also of those that were there."""


def row(record: Record) -> tuple[Any, ...]:
    """The values of ``requests`` for a record. The columns have the order of its fields, so that they are taken in slices."""
    values = astuple(record)
    return (
        *values[:_USAGE],
        *(_NO_USAGE_VALUES if record.usage is None else astuple(record.usage)),
        record.raw_usage,
        *(_NO_CHARGE_VALUES if record.charge is None else astuple(record.charge)),
        record.hold_nano,
        _json(record.attempts).decode() if record.attempts else None,
        *values[_AFTER_ATTEMPTS:-2],
        _json(record.explanation).decode() if record.explanation else None,
        _json(record.tags).decode() if record.tags else None,
    )


def as_row(record: Record) -> dict[str, Any]:
    """A record as the row that it becomes, by column; it has no ``seq`` yet."""
    return dict(zip(_REQUEST_COLUMNS, row(record), strict=True))


def _charge_row(record: Record) -> tuple[Any, ...]:
    charge = record.charge
    assert charge is not None
    usage = record.usage or _NO_USAGE
    return (
        record.id,
        record.account_id,
        "usage",
        charge.amount_nano,
        record.id,
        f"API usage: {record.alias or record.upstream_model or 'unknown'} ({usage.input} input + {usage.output} output tokens)",
        record.started_us + record.duration_us,
        record.id,
        record.key_id,
        record.service_tier,
        charge.tariff_id,
    )


def _is_charged(record: Record) -> bool:
    """Whether the record moves money: a price of zero leaves no transaction, nor does the system account, which is never billed."""
    return record.charge is not None and record.charge.amount_nano > 0 and record.account_id not in (None, NIL)


async def _insert_new(tx: Tx, before: Row, inserts: Sequence[_Insert]) -> list[set[str]]:
    """Insert the rows whose keys are not there yet, and return the keys of those that were inserted, for each of ``inserts``.
    ``before`` has the highest ``seq`` of each table."""
    if tx.dialect == "postgresql":
        return [await _insert_returning(tx, insert) for insert in inserts]
    # A statement for many rows, and one hop for all of them, spare the thread a fight for the interpreter's lock at each. RETURNING
    # would bring it back; but this transaction is the only writer, so that what it inserted is what lies behind the highest seq
    # from before.
    await tx.execute_many(*chain.from_iterable(map(_statements, inserts)))
    counts = ", ".join(f"(SELECT count(*) FROM {into.table} WHERE seq > ?) AS {into.table}" for into, _, _ in inserts)
    counted = (await tx.fetch(f"SELECT {counts}", [before[into.table] for into, _, _ in inserts]))[0]
    new: list[set[str]] = []
    for into, keys, _ in inserts:
        if counted[into.table] < len(keys):
            found = await tx.fetch(f"SELECT {into.key} FROM {into.table} WHERE seq > ?", (before[into.table],))
            keys = {row[into.key] for row in found}
        new.append(keys)
    return new


async def _insert_returning(tx: Tx, insert: _Insert) -> set[str]:
    (table, key, columns), _, rows = insert
    names = ", ".join(columns)
    arrays = ", ".join(f"?::{kind}[]" for kind in columns.values())
    sql = f"INSERT INTO {table} ({names}) SELECT * FROM unnest({arrays}) ON CONFLICT ({key}) DO NOTHING RETURNING {key}"
    return {found[key] for found in await tx.fetch(sql, [list(column) for column in zip(*rows, strict=True)])} if rows else set()


def _statements(insert: _Insert) -> Iterator[tuple[str, list[list[Any]]]]:
    (table, key, columns), _, rows = insert
    first = 0
    for size in _STATEMENT_ROWS:
        sql = _insert_statement(table, key, tuple(columns), size)
        while len(rows) - first >= size:
            yield sql, [list(chain.from_iterable(rows[first : first + size]))]
            first += size


@cache
def _insert_statement(table: str, key: str, columns: tuple[str, ...], rows: int) -> str:
    places = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([places] * rows)} ON CONFLICT ({key}) DO NOTHING"


async def apply(tx: Tx, records: Sequence[Record], now_us: int, node: str | None = None, mark: Position | None = None) -> Applied:
    """Bring the records into the database, and the mark of ``node`` with them."""
    applied = Applied()
    unique: dict[str, Record] = {}
    for record in records:
        unique.setdefault(record.id, record)
    marks = [] if node is None or mark is None else [(_MARK, [(node, mark.segment, mark.offset, now_us)])]
    if not unique:
        await tx.execute_many(*marks)
        return applied
    before = (await tx.fetch(_NEWEST))[0]
    charged = {record.id: record for record in unique.values() if _is_charged(record)}
    entered, new = await _insert_new(
        tx,
        before,
        [
            (_REQUESTS, set(unique), list(map(row, unique.values()))),
            (_CHARGES, set(charged), list(map(_charge_row, charged.values()))),
        ],
    )
    applied.charged = [record for record in charged.values() if record.id in new]
    applied.duplicates = len(charged) - len(applied.charged)
    deltas, sums = _add_up(unique.values(), entered, applied, now_us)
    hours = [(_HOURS, [(before["requests"],)])] if entered else []
    tagged = [record.id for record in unique.values() if record.tags and record.id in entered]
    tags = [(_TAGS[tx.dialect], [(before["requests"] if tx.dialect == "sqlite" else tagged,)])] if tagged else []
    await tx.execute_many(*hours, *tags, *sums, *marks)
    if charged:
        applied.balances = await balances_of(tx.fetch, {str(record.account_id) for record in charged.values()})
        for account, delta in deltas.items():
            if applied.balances[account] <= 0 < applied.balances[account] - delta:
                await Changes.note(tx, "balance", account)
    return applied


def _add_up(
    records: Iterable[Record], entered: set[str], applied: Applied, now_us: int
) -> tuple[dict[str, int], list[tuple[str, Sequence[tuple[Any, ...]]]]]:
    """What is to be added to each balance, and the statements that add what is new to balances, spend of keys, hourly and daily
    sums, in the order of their keys (so that nodes do not deadlock)."""
    charged = {record.id for record in applied.charged}
    accounts: dict[str, int] = {}
    keys: dict[str, int] = {}
    hours: dict[tuple[Any, ...], list[int]] = {}
    for record in records:
        account = record.account_id
        if account is None:
            continue
        amount = 0
        if record.id in charged:
            assert record.charge is not None
            amount = record.charge.amount_nano
            accounts[account] = accounts.get(account, 0) - amount
            if record.key_id is not None:
                keys[record.key_id] = keys.get(record.key_id, 0) + amount
        is_new = record.id in entered
        if not (amount or is_new):
            continue
        hour = (
            record.started_us // HOUR,
            account,
            record.key_id or NIL,
            record.model_id or NIL,
            record.alias or "",
            record.endpoint_name or "",
        )
        sums = hours.get(hour)
        if sums is None:
            sums = hours[hour] = [0, 0, 0, 0, 0, 0, 0, 0, 0]
        sums[7] += amount
        if is_new:
            usage = record.usage or _NO_USAGE
            sums[0] += 1
            sums[1] += record.outcome in ERRORS
            sums[2] += usage.uncached_input
            sums[3] += usage.cache_read
            sums[4] += usage.cache_write_5m + usage.cache_write_1h
            sums[5] += usage.output
            sums[6] += usage.reasoning
            sums[8] += record.duration_us
    days: dict[tuple[Any, ...], list[int]] = {}
    for (hour_number, *rest), sums in hours.items():
        day = (hour_number // 24, *rest)
        days[day] = list(map(add, days[day], sums)) if day in days else sums
    return accounts, [
        (_BALANCE, [(account, delta, now_us) for account, delta in sorted(accounts.items())]),
        (_KEY_SPEND, sorted(keys.items())),
        (_HOURLY, [(*hour, *sums) for hour, sums in sorted(hours.items())]),
        (_DAILY, [(*day, *sums) for day, sums in sorted(days.items())]),
    ]


async def balances_of(fetch: Callable[..., Any], accounts: set[str], without: Collection[str] = ()) -> dict[str, int]:
    """Balances in nano-credits; an account without a row has none and so zero. ``without``: requests whose charges are left out if they
    are there."""
    found: dict[str, int] = dict.fromkeys(accounts, 0)
    wanted = sorted(accounts)
    left_out = _LEFT_OUT.format(", ".join("?" * len(without))) if without else ""
    for first in range(0, len(wanted), 500):
        some = wanted[first : first + 500]
        places = ", ".join("?" * len(some))
        sql = f"SELECT account_id, balance_nano{left_out} AS balance_nano FROM account_balances WHERE account_id IN ({places})"
        for balance in await fetch(sql, [*without, *some]):
            found[balance["account_id"]] = balance["balance_nano"]
    return found
