"""What the ledger's tests share: records as the gateway makes them, and a ledger that can be killed and started again."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any

from dwctl import ids
from dwctl.dialects.usage import Usage
from dwctl.ledger import Attempt, Begin, Charge, Ledger, Record
from dwctl.ledger.journal import Journal
from dwctl.ledger.transactions import grant
from dwctl.store import Store

STARTED = 1_763_700_000_000_000
NODE = "01900000-0000-7000-8000-00000000000a"
ACCOUNT = "01900000-0000-7000-8000-0000000000a1"
OTHER = "01900000-0000-7000-8000-0000000000a2"
KEY = "01900000-0000-7000-8000-0000000000c1"
MODEL = "01900000-0000-7000-8000-0000000000d1"
TARIFF = "01900000-0000-7000-8000-0000000000e1"
ENDPOINT = "01900000-0000-7000-8000-0000000000f1"


def make_begin(request_id: str | None = None, account: str = ACCOUNT, **changes: Any) -> Begin:
    values: dict[str, Any] = {
        "id": request_id or ids.new_text(),
        "started_us": STARTED,
        "account_id": account,
        "key_id": KEY,
        "holder_id": account,
        "purpose": "realtime",
        "model_id": MODEL,
        "alias": "small",
        "endpoint_id": ENDPOINT,
        "endpoint_name": "provider",
        "path": "/ai/v1/chat/completions",
        "operation": "chat",
        "hold_nano": 5_000,
    }
    return Begin(**(values | changes))


def make_record(request_id: str | None = None, account: str | None = ACCOUNT, amount: int | None = 1_000, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "id": request_id or ids.new_text(),
        "started_us": STARTED,
        "path": "/ai/v1/chat/completions",
        "operation": "chat",
        "model_id": MODEL,
        "alias": "small",
        "upstream_model": "small-2025",
        "response_model": "small-2025",
        "endpoint_id": ENDPOINT,
        "endpoint_name": "provider",
        "account_id": account,
        "holder_id": account,
        "key_id": KEY,
        "purpose": "realtime",
        "status": 200,
        "finish_reason": "stop",
        "usage": Usage(uncached_input=7, cache_read=3, cache_write_5m=2, cache_write_1h=1, output=5, reasoning=4),
        "raw_usage": '{"prompt_tokens":13,"completion_tokens":5}',
        "charge": None if amount is None else Charge(amount, TARIFF, 2_500_000, 10_000_000),
        "hold_nano": 5_000,
        "attempts": [Attempt("provider", "small-2025", 120, 30_000, 200, None)],
        "duration_us": 31_000,
        "explanation": ["Priced by tariff standard."],
    }
    return Record(**(values | changes))


async def kill(ledger: Ledger) -> None:
    """Stop as SIGKILL does: nothing is recorded, sealed or tidied up any more; the files stay as they are."""
    ledger._is_closed = True
    recorder = ledger._recorder
    assert recorder._task is not None
    recorder._task.cancel()
    await asyncio.gather(recorder._task, return_exceptions=True)
    if recorder._anonymous_timer is not None:
        recorder._anonymous_timer.cancel()
    recorder._reader.close()
    await kill_journal(ledger._journal)


async def kill_journal(journal: Journal) -> None:
    for task in journal._tasks:
        task.cancel()
    await asyncio.gather(*journal._tasks, return_exceptions=True)
    if journal._executor is not None:
        journal._executor.shutdown(wait=True)
        await asyncio.sleep(0)
    descriptors = journal._sealed + [fd for _, fd in journal._spares]
    if journal._fd is not None:
        descriptors.append(journal._fd)
    for fd in descriptors:
        with contextlib.suppress(OSError):
            os.close(fd)


async def credit(store: Store, ledger: Ledger | None, account: str, amount: int) -> None:
    await store.write(lambda tx: grant(tx, account, amount, f"grant-{ids.new_text()}"))
    if ledger is not None:
        await ledger.reload_balance(account)


async def facts(store: Store) -> dict[str, Any]:
    """What the database says about money, in sums that must agree."""

    async def number(sql: str) -> int:
        [row] = await store.fetch(sql)
        return int(next(iter(row.values())) or 0)

    return {
        "rows": {row["id"]: row for row in await store.fetch("SELECT * FROM requests")},
        "tags": await store.fetch("SELECT tag, id FROM request_tags JOIN requests USING (seq) ORDER BY seq, tag"),
        "row_count": await number("SELECT count(*) FROM requests"),
        "usage": {
            row["source_id"]: row for row in await store.fetch("SELECT * FROM credits_transactions WHERE transaction_type = 'usage'")
        },
        "charged": await number("SELECT sum(amount_nano) FROM credits_transactions WHERE transaction_type = 'usage'"),
        "granted": await number("SELECT sum(amount_nano) FROM credits_transactions WHERE transaction_type <> 'usage'"),
        "balance": await number("SELECT sum(balance_nano) FROM account_balances"),
        "key_spend": await number("SELECT sum(total_nano) FROM key_spend"),
        "hourly_charge": await number("SELECT sum(charge_nano) FROM usage_hourly"),
        "hourly_requests": await number("SELECT sum(requests) FROM usage_hourly"),
        "hourly_output": await number("SELECT sum(output) FROM usage_hourly"),
    }


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that other tasks bring about; a TimeoutError if they do not."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition is anything
            await asyncio.sleep(0.005)
