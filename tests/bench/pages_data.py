"""Server time of the pages over a large log in SQLite, against the 150 ms that a page may take: their queries, and the pages themselves
as a browser gets them, with their size against the 60 kB that may go over the wire.

usage: python -m tests.bench.pages_data [--rows N] [--keep DIRECTORY] [--pages]

Rows go in by the recorder's own functions: 20 accounts (one has half of the traffic), 60 keys, 8 models on 3 endpoints, 30 days,
6 % that did not end well; one tag on a third of them, one that goes with a model, a rare one. It measures; it judges nothing by its
exit code, and no test depends on it.
"""

import argparse
import asyncio
import gzip
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from dwctl import clock, ids
from dwctl.accounts import SYSTEM
from dwctl.dialects.usage import Usage
from dwctl.ledger import Attempt, Charge, Record
from dwctl.ledger.rows import apply
from dwctl.operations import checklist, explorer, palette, request_search, usage
from dwctl.operations.explorer import Question
from dwctl.operations.request_log import RequestFilter
from dwctl.store import Store
from tests.administration import Administration, configuration, serving

BUDGET_MS = 150
BUDGET_BYTES = 60_000
"""Of the HTML, gzipped."""
RUNS = 7
DAYS = 30
GROUP = 500


class Traffic:
    """Who asks what, by chance that is the same each time."""

    def __init__(self) -> None:
        self.chance = random.Random(11)
        self.tagging = random.Random(12)
        self.accounts = [ids.new_text() for _ in range(20)]
        self.keys = [(ids.new_text(), self.accounts[0 if index < 30 else 1 + index % 19]) for index in range(60)]
        self.models = [(ids.new_text(), f"model-{index}", f"endpoint-{index % 3}") for index in range(8)]
        self.tariff = ids.new_text()
        self.start_us = clock.now_us() - DAYS * 24 * clock.HOUR

    def tags(self, alias: str) -> tuple[str, ...]:
        common, rare = self.tagging.random() < 1 / 3, self.tagging.random() < 1 / 2000
        return ("team=search",) * common + ("incident",) * rare + ("small-talk",) * (alias == "model-1")

    def records(self, count: int) -> Iterator[Record]:
        step = DAYS * 24 * clock.HOUR // count
        for index in range(count):
            key, account = self.chance.choice(self.keys)
            model, alias, endpoint = self.chance.choices(self.models, weights=(40, 20, 15, 10, 8, 4, 2.9, 0.1))[0]
            luck = self.chance.random()
            status, outcome = (200, "complete") if luck > 0.06 else (429, "refused") if luck > 0.02 else (502, "failed")
            ok = outcome == "complete"
            yield Record(
                id=ids.new_text(),
                started_us=self.start_us + index * step,
                path="/chat/completions",
                operation="chat",
                model_id=model,
                alias=alias,
                upstream_model=alias,
                endpoint_name=endpoint,
                account_id=account,
                holder_id=account,
                key_id=key,
                purpose="realtime",
                status=status,
                outcome=outcome,
                error_code=None if ok else "rate_limit",
                usage=Usage(uncached_input=900, cache_read=100, output=200) if ok else None,
                raw_usage='{"prompt_tokens":1000,"completion_tokens":200,"total_tokens":1200}' if ok else None,
                charge=Charge(4_500_000, self.tariff, 2_500_000, 10_000_000) if ok else None,
                attempts=[Attempt(endpoint, alias, 120, 300_000, status, None)],
                duration_us=400_000,
                first_byte_us=300_000 if ok else None,
                user_agent="OpenAI/Python 1.0",
                client_ip="192.0.2.1",
                tags=self.tags(alias),
            )


async def fill(store: Store, traffic: Traffic, count: int) -> float:
    """Microseconds of the database a row."""
    spent = 0.0
    group: list[Record] = []
    for number, record in enumerate(traffic.records(count), 1):
        group.append(record)
        if len(group) == GROUP or number == count:
            began = time.perf_counter()
            await store.write(lambda tx, group=group: apply(tx, group, clock.now_us()))  # type: ignore[misc]
            spent += time.perf_counter() - began
            group = []
        if number % 100_000 == 0:
            print(f"{number:,} rows", file=sys.stderr, flush=True)
    return spent / count * 1e6


async def measure(name: str, ask: Callable[[], Awaitable[Any]]) -> None:
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        await ask()
        times.append((time.perf_counter() - began) * 1000)
    verdict = "" if max(times) < BUDGET_MS else "  over the budget"
    print(f"| {name} | {statistics.median(times):.1f} | {max(times):.1f} |{verdict}", flush=True)


PAGES = {
    "first page: requests": "/requests?",
    "first page: requests, not live": "/requests?live=off",
    "requests of the last 24 h": "/requests?range=24h",
    "requests of a large account": "/requests?user={big}",
    "requests of a key": "/requests?key={key}",
    "requests of a model, 5xx": "/requests?model=model-0&status=5xx",
    "requests, a search": "/requests?q=model-6",
    "requests of a tag of a third": "/requests?tag=team%3Dsearch",
    "requests of a rare tag": "/requests?tag=incident",
    "requests, a search for a tag": "/requests?q=team%3Dsearch",
    "requests of a tag and a model": "/requests?tag=team%3Dsearch&model=model-6",
    "requests of a tag, 5xx": "/requests?tag=team%3Dsearch&status=5xx",
    "requests of a rare tag and a model": "/requests?tag=incident&model=model-0",
    "requests of a tag and a model that never met": "/requests?tag=small-talk&model=model-0",
    "requests in the middle": "/requests?before={seq}",
    "requests with one open": "/requests?open={id}",
    "the sheet alone": "/requests?open={id}#sheet",
    "one request": "/requests/{id}",
    "first page: cost": "/cost?",
    "cost of a day by the hour": "/cost?range=24h&by=hour&then=model",
    "cost of 30 days by model": "/cost?range=30d",
    "cost of 30 days by user and model": "/cost?range=30d&by=user&then=model",
    "cost of 30 days by key": "/cost?range=30d&by=key&top=100",
    "cost of 90 days, one account": "/cost?range=90d&user={big}",
    "home": "/?",
}
"""Name -> address. What stands after # is the block that is asked for."""


async def measure_pages(server: Administration, words: dict[str, str]) -> None:
    """Every page by HTTP, as the administrator's browser asks for it. The CPU time (of all threads, the client's share included) tells
    a busy machine from a slow page."""
    cookie = await server.cookie_of()
    print("\n| Page | p50 ms | max ms | CPU ms | gzipped kB |\n|---|---|---|---|---|")
    for name, template in PAGES.items():
        path, _, block = template.format(**words).partition("#")
        headers = {"accept": "text/html"}
        if block:
            headers |= {"hx-request": "true", "hx-request-type": "partial", "hx-target": f"aside#{block}"}
        await server.ask("GET", path.rstrip("?"), cookie=cookie, headers=headers)  # once for what is compiled at first use
        times, size, spent = [], 0, time.process_time()
        for _ in range(RUNS):
            began = time.perf_counter()
            answer = await server.ask("GET", path.rstrip("?"), cookie=cookie, headers=headers)
            times.append((time.perf_counter() - began) * 1000)
            assert answer.status == 200, (path, answer.status)
            size = len(gzip.compress(answer.body))
        cpu = (time.process_time() - spent) * 1000 / RUNS
        over = statistics.median(times) >= BUDGET_MS or size > BUDGET_BYTES
        verdict = "  over the budget" if over else ""
        median = statistics.median(times)
        print(f"| {name} | {median:.1f} | {max(times):.1f} | {cpu:.1f} | {size / 1000:.1f} |{verdict}", flush=True)


async def run(count: int, directory: Path, *, queries: bool = True) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    traffic = Traffic()
    store = await Store.open(None, directory)
    [held] = await store.fetch("SELECT count(*) AS rows FROM requests")
    if not held["rows"]:
        print(f"inserted at {await fill(store, traffic, count):.1f} us a row", flush=True)
    await store.close()
    async with serving(None, configuration(directory, None)) as server:
        services = server.services
        [middle] = await services.store.fetch("SELECT seq, id FROM requests WHERE seq = (SELECT max(seq) / 2 FROM requests)")
        accounts = await services.store.fetch("SELECT account_id, sum(requests) AS n FROM usage_hourly GROUP BY 1 ORDER BY n DESC")
        keys = await services.store.fetch("SELECT key_id, sum(requests) AS n FROM usage_hourly GROUP BY 1 ORDER BY n")
        model = str((await services.store.fetch("SELECT model_id FROM usage_hourly WHERE alias = 'model-0' LIMIT 1"))[0]["model_id"])
        big, small, key = str(accounts[0]["account_id"]), str(accounts[-1]["account_id"]), str(keys[0]["key_id"])
        await measure_pages(server, {"big": big, "key": key, "id": str(middle["id"]), "seq": str(middle["seq"])})
        if not queries:
            return
        now = clock.now_us()
        day = 24 * clock.HOUR
        filters: dict[str, dict[str, Any]] = {
            "everything": {},
            "id": {"request_id": str(middle["id"])},
            "large account": {"user_id": big},
            "small account": {"user_id": small},
            "key": {"key_id": key},
            "model": {"model": "model-0"},
            "rare model": {"model": "model-7"},
            "unknown model": {"model": "nothing"},
            "endpoint": {"endpoint": "endpoint-2"},
            "status 429": {"status_code": 429},
            "5xx": {"status_code_min": 500, "status_code_max": 599},
            "status 500 (none)": {"status_code": 500},
            "outcome cancelled (none)": {"outcome": "cancelled"},
            "last 24 h": {"after_us": now - day},
            "a day three weeks ago": {"after_us": now - 21 * day, "before_us": now - 20 * day},
            "large account + rare model": {"user_id": big, "model": "model-7"},
            "small account + rare model": {"user_id": small, "model": "model-7"},
            "key + model": {"key_id": key, "model": "model-0"},
            "key of another account": {"key_id": key, "user_id": small if keys[0]["key_id"] != small else big},
            "model + endpoint": {"model": "model-0", "endpoint": "endpoint-0"},
            "model + wrong endpoint": {"model": "model-0", "endpoint": "endpoint-1"},
            "large account + 5xx": {"user_id": big, "status_code_min": 500, "status_code_max": 599},
            "rare model + 5xx + day": {"model": "model-7", "status_code_min": 500, "status_code_max": 599, "after_us": now - 21 * day},
            "large account + success": {"user_id": big, "status_code": 200},
            "small account + old day": {"user_id": small, "after_us": now - 29 * day, "before_us": now - 28 * day},
            "tag of a third": {"tag": "team=search"},
            "rare tag": {"tag": "incident"},
            "unknown tag": {"tag": "nothing"},
            "tag of a third + model": {"tag": "team=search", "model": "model-0"},
            "tag of a third + rare model": {"tag": "team=search", "model": "model-7"},
            "tag of a third + small account": {"tag": "team=search", "user_id": small},
            "tag of a third + 5xx": {"tag": "team=search", "status_code_min": 500, "status_code_max": 599},
            "tag of a third + success": {"tag": "team=search", "status_code": 200},
            "tag of a third + status 500 (none)": {"tag": "team=search", "status_code": 500},
            "tag of a third + old day": {"tag": "team=search", "after_us": now - 29 * day, "before_us": now - 28 * day},
            "tag + model that never met": {"tag": "small-talk", "model": "model-0"},
            "tag + model + endpoint": {"tag": "team=search", "model": "model-0", "endpoint": "endpoint-0"},
            "rare tag + model": {"tag": "incident", "model": "model-0"},
            "rare tag + 429": {"tag": "incident", "status_code": 429},
            "rare tag + large account": {"tag": "incident", "user_id": big},
            "account + model + old day": {
                "user_id": big,
                "model": "model-6",
                "after_us": now - 29 * day,
                "before_us": now - 28 * day,
            },
        }
        print("\n| Query | p50 ms | max ms |\n|---|---|---|")
        for name, given in filters.items():
            chosen = RequestFilter(**given)
            await measure(f"first page: {name}", lambda chosen=chosen: request_search.search(services, SYSTEM, chosen))  # type: ignore[misc]
            await measure(f"totals and histogram: {name}", lambda chosen=chosen: request_search.summarize(services, SYSTEM, chosen))  # type: ignore[misc]
        await measure(
            "page in the middle", lambda: request_search.search(services, SYSTEM, RequestFilter(user_id=big), before=int(middle["seq"]))
        )
        await measure(
            "neighbours",
            lambda: request_search.neighbours(services, SYSTEM, RequestFilter(user_id=big, model="model-7"), int(middle["seq"])),
        )
        for days in (1, 7, 30):
            for by, then in (("model", None), ("user", "model"), ("key", None), ("day", "model"), ("hour", None)):
                question = Question(start_us=now - days * day, end_us=now, group_by=by, then_by=then)  # type: ignore[arg-type]
                name = f"cost of {days} days by {by}" + (f" and {then}" if then else "")
                await measure(name, lambda question=question: explorer.explore(services, SYSTEM, question))  # type: ignore[misc]
        mine = Question(start_us=now - 30 * day, end_us=now, user_id=big)
        await measure("cost of 30 days, one account", lambda: explorer.explore(services, SYSTEM, mine))
        for by in ("day", "user"):
            ours = Question(start_us=now - 30 * day, end_us=now, group_by=by, model_id=model)  # type: ignore[arg-type]
            await measure(f"usage of a model by {by}", lambda ours=ours: explorer.explore(services, SYSTEM, ours))  # type: ignore[misc]
        for hours in (24, 7 * 24):
            await measure(f"tiles of {hours} h", lambda hours=hours: explorer.home_tiles(services, SYSTEM, hours=hours))  # type: ignore[misc]
        await measure("checklist", lambda: checklist.checklist(services, SYSTEM))
        await measure("palette", lambda: palette.find(services, SYSTEM, "model"))
        await measure("sums of 24 h (REST)", lambda: usage.aggregate(services, SYSTEM, model=None, start_us=None, end_us=None))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pages_data", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="fill this directory, or use what an earlier run left in it")
    parser.add_argument("--pages", action="store_true", help="only the pages, not each of their queries")
    options = parser.parse_args(arguments)
    if options.keep is not None:
        asyncio.run(run(options.rows, options.keep, queries=not options.pages))
        return
    with tempfile.TemporaryDirectory(prefix="dwctl-pages-") as directory:
        asyncio.run(run(options.rows, Path(directory), queries=not options.pages))


if __name__ == "__main__":
    main(sys.argv[1:])
