"""The log finds what a filter says, whatever is combined, and by index."""

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dwctl import ids
from dwctl.clock import HOUR
from dwctl.ledger import Record
from dwctl.ledger.rows import apply
from dwctl.operations import request_log
from dwctl.operations.request_log import RequestFilter
from dwctl.store import Store
from tests.ledger.making import ACCOUNT, KEY, OTHER, STARTED, make_record

ACCOUNTS = (ACCOUNT, OTHER)
KEYS = {ACCOUNT: (KEY, ids.new_text()), OTHER: (ids.new_text(),)}
ENDINGS = ((200, "complete"),) * 6 + ((429, "refused"), (502, "failed"), (200, "interrupted"), (499, "cancelled"))


TAGS = ((),) * 5 + (("often",),) * 3 + (("team=search", "often"), ("seldom",))


def records() -> list[Record]:
    """Requests of two days in the order in which they end, some of them hours after they began."""
    chance, tagging = random.Random(7), random.Random(8)
    made = []
    for index in range(600):
        account = chance.choice(ACCOUNTS)
        status, outcome = chance.choice(ENDINGS)
        hour = index * 48 // 600
        made.append(
            make_record(
                account=account,
                key_id=chance.choice(KEYS[account]),
                alias="rare" if index % 200 == 3 and account == OTHER else chance.choice(("small", "large")),
                endpoint_name=chance.choice(("east", "west")),
                started_us=STARTED + hour * HOUR + chance.randrange(HOUR) - chance.choice((0, 0, 0, 5 * HOUR)),
                status=status,
                outcome=outcome,
                duration_us=chance.randrange(1_000_000),
                tags=tagging.choice(TAGS),
            )
        )
    return made


FILTERS: list[dict[str, Any]] = [
    {},
    {"user_id": ACCOUNT},
    {"key_id": KEY},
    {"model": "rare"},
    {"endpoint": "west"},
    {"user_id": ACCOUNT, "model": "rare"},
    {"user_id": OTHER, "model": "rare", "endpoint": "east"},
    {"key_id": KEY, "model": "small"},
    {"user_id": OTHER, "key_id": KEY},
    {"model": "large", "endpoint": "east"},
    {"status_code": 429},
    {"status_code": 200, "user_id": ACCOUNT},
    {"status_code_min": 500, "status_code_max": 599},
    {"status_code_min": 400, "status_code_max": 499, "user_id": OTHER, "model": "small"},
    {"outcome": "interrupted", "endpoint": "west"},
    {"outcome": "errors"},
    {"outcome": "errors", "user_id": ACCOUNT, "before_us": STARTED + 9 * HOUR},
    {"outcome": "complete", "key_id": KEY, "endpoint": "west"},
    {"min_duration_ms": 700, "model": "large", "user_id": ACCOUNT},
    {"after_us": STARTED + 20 * HOUR, "before_us": STARTED + 22 * HOUR + 1},
    {"after_us": STARTED + 20 * HOUR, "user_id": ACCOUNT},
    {"before_us": STARTED + 9 * HOUR, "user_id": ACCOUNT, "model": "small"},
    {"before_us": STARTED + 9 * HOUR, "status_code": 502},
    {"before_us": STARTED - 30 * HOUR},
    {"tag": "often"},
    {"tag": "seldom"},
    {"tag": "nobody"},
    {"tag": "often", "user_id": OTHER},
    {"tag": "team=search", "key_id": KEY, "model": "small"},
    {"tag": "often", "model": "rare"},
    {"tag": "seldom", "user_id": ACCOUNT, "model": "large", "endpoint": "west"},
    {"tag": "often", "status_code": 200},
    {"tag": "often", "status_code_min": 400, "status_code_max": 499},
    {"tag": "seldom", "outcome": "failed", "endpoint": "east"},
    {"tag": "often", "after_us": STARTED + 20 * HOUR, "before_us": STARTED + 30 * HOUR},
    {"tag": "team=search", "before_us": STARTED + 9 * HOUR, "status_code": 502},
]


def matches(record: Record, chosen: RequestFilter) -> bool:
    """What the filter says, in other words than SQL's."""
    checks: tuple[tuple[Any, Callable[[Any], bool]], ...] = (
        (chosen.user_id, lambda value: record.account_id == value),
        (chosen.key_id, lambda value: record.key_id == value),
        (chosen.model, lambda value: record.alias == value),
        (chosen.endpoint, lambda value: record.endpoint_name == value),
        (chosen.status_code, lambda value: record.status == value),
        (chosen.status_code_min, lambda value: record.status >= value),
        (chosen.status_code_max, lambda value: record.status <= value),
        (chosen.outcome, lambda value: record.outcome == value or (value == "errors" and record.outcome not in ("complete", "cancelled"))),
        (chosen.min_duration_ms, lambda value: record.duration_us >= value * 1000),
        (chosen.after_us, lambda value: record.started_us >= value),
        (chosen.before_us, lambda value: record.started_us < value),
        (chosen.tag, lambda value: value in record.tags),
    )
    return all(value is None or check(value) for value, check in checks)


async def fill(store: Store) -> list[Record]:
    made = records()
    for first in range(0, len(made), 97):
        group = made[first : first + 97]
        await store.write(lambda tx, group=group: apply(tx, group, STARTED))  # type: ignore[misc]
    return made


@pytest.mark.parametrize("few", [0, request_log.FEW_ROWS], ids=["by hours", "by one index"])
async def test_every_filter_finds_exactly_what_it_says_in_order(store: Store, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log, "FEW_ROWS", few)
    made = await fill(store)
    for given in FILTERS:
        chosen = RequestFilter(**given)
        expected = [record.id for record in made if matches(record, chosen)]
        upwards = msgspec.structs.replace(chosen, descending=False)
        assert [str(row["id"]) for row in await request_log.rows(store, chosen, limit=1000)] == expected[::-1], given
        assert [str(row["id"]) for row in await request_log.rows(store, upwards, limit=1000)] == expected, given
        for limit in (1, 7):
            seen: list[str] = []
            while page := await request_log.rows(
                store, msgspec.structs.replace(chosen, after_id=seen[-1] if seen else None), limit=limit if len(seen) < 30 else 200
            ):
                seen += [str(row["id"]) for row in page]
            assert seen == expected[::-1], given
        assert [str(row["id"]) for row in await request_log.rows(store, upwards, limit=3, skip=2)] == expected[2:5], given


async def test_a_single_request_is_found_by_its_id(store: Store) -> None:
    made = await fill(store)
    wanted = RequestFilter(request_id=made[5].id)
    assert [str(row["id"]) for row in await request_log.rows(store, wanted, limit=5)] == [made[5].id]
    for tag in (*made[5].tags, "nobody"):
        found = await request_log.rows(store, msgspec.structs.replace(wanted, tag=tag), limit=5)
        assert [str(row["id"]) for row in found] == [made[5].id] * (tag in made[5].tags)
    foreign = msgspec.structs.replace(wanted, user_id=OTHER if made[5].account_id == ACCOUNT else ACCOUNT)
    assert await request_log.rows(store, foreign, limit=5) == []


@pytest.mark.parametrize("given", [given for given in FILTERS if given], ids=lambda given: "+".join(given))
async def test_no_filter_reads_the_whole_log(
    sqlite_url: str, data_dir: Any, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "FEW_ROWS", 0)
    store = await Store.open(sqlite_url, data_dir)
    try:
        await fill(store)
        found = await request_log.plan(store, RequestFilter(**given))
        for tail in (" ORDER BY seq DESC LIMIT 50", " ORDER BY seq ASC LIMIT 50", ""):
            if found is not None:
                sql, args = found.query("seq", tail=tail)
                steps = [row["detail"] for row in await store.fetch(f"EXPLAIN QUERY PLAN {sql}", args)]
                assert not [step for step in steps if step.startswith("SCAN") and "idx_requests_failed" not in step], (sql, steps)
    finally:
        await store.close()


async def test_hours_span_everything_that_began_in_them(store: Store) -> None:
    await fill(store)
    spans = await store.fetch("SELECT hour, first_seq, last_seq FROM request_hours ORDER BY hour")
    true = await store.fetch(f"SELECT started_us / {HOUR} AS hour, min(seq) AS first, max(seq) AS last FROM requests GROUP BY 1 ORDER BY 1")
    assert [(row["hour"], row["first_seq"], row["last_seq"]) for row in spans] == [(row["hour"], row["first"], row["last"]) for row in true]
