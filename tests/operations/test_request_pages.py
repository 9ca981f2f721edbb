"""The Requests page's data: own or everybody's, cursors, totals, the export, the inspector, the live feed."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from dwctl import clock, ids
from dwctl.accounts import SYSTEM, Actor
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError
from dwctl.ledger import Attempt, Charge, Record
from dwctl.operations import inspector, live, request_search
from dwctl.operations.request_log import RequestFilter
from dwctl.operations.request_words import Words, understand
from tests.administration import Administration, configuration, serving
from tests.appliance import Simulator


@pytest.fixture
async def server(sqlite_url: str, data_dir: Path) -> AsyncIterator[Administration]:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as running:
        yield running


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    provider = Simulator(tmp_path)
    yield provider
    provider.close()


def standard(user_id: str) -> Actor:
    return Actor(user_id, f"{user_id}@example.com", False, frozenset({"StandardUser"}), "session")


async def record(server: Administration, account: str, **fields: Any) -> Record:
    values: dict[str, Any] = {
        "id": ids.new_text(),
        "started_us": clock.now_us(),
        "path": "/chat/completions",
        "operation": "chat",
        "alias": "chat",
        "account_id": account,
        "holder_id": account,
        "endpoint_name": "sim",
        "status": 200,
        "duration_us": 1_500_000,
    }
    made = Record(**values | fields)
    server.services.ledger.end(made, None)
    return made


async def test_everyone_finds_their_own_and_viewers_all(server: Administration) -> None:
    mine, yours = await server.person(), await server.person()
    made = [await record(server, account) for account in (mine, yours, mine)]
    await server.services.ledger.recorded()

    async def seen(actor: Actor, **given: Any) -> list[str]:
        return [entry.id for entry in (await request_search.search(server.services, actor, RequestFilter(**given))).entries]

    assert await seen(SYSTEM) == [made[2].id, made[1].id, made[0].id]
    assert await seen(standard(mine)) == [made[2].id, made[0].id]
    assert await seen(standard(mine), request_id=made[1].id) == []
    assert (await request_search.summarize(server.services, standard(mine), RequestFilter())).totals.requests == 2
    with pytest.raises(GatewayError, match="Insufficient"):
        await seen(standard(mine), user_id=yours)
    with pytest.raises(GatewayError, match="Insufficient"):
        await seen(Actor(mine, "m", False, frozenset(), "session"))
    with pytest.raises(GatewayError, match="not found"):
        await inspector.inspect(server.services, standard(mine), made[1].id)
    for wrong in ({"key_id": "x"}, {"outcome": "good"}, {"after_us": 2, "before_us": 1}):
        with pytest.raises(GatewayError) as caught:
            await seen(SYSTEM, **wrong)
        assert (caught.value.status, caught.value.param) == (400, next(iter(wrong)))


async def test_a_tag_is_found_among_ones_own_and_told_of_only_there(server: Administration) -> None:
    mine, yours = await server.person(), await server.person()
    made = [
        await record(server, account, tags=tags)
        for account, tags in ((mine, ("shared", "mine")), (yours, ("shared", "team=yours")), (mine, ()), (mine, ("shared",)))
    ]
    await server.services.ledger.recorded()

    async def seen(actor: Actor, **given: Any) -> list[str]:
        return [entry.id for entry in (await request_search.search(server.services, actor, RequestFilter(**given))).entries]

    assert await seen(SYSTEM, tag="shared") == [made[3].id, made[1].id, made[0].id]
    assert await seen(standard(mine), tag="shared") == [made[3].id, made[0].id]
    assert await seen(standard(mine), tag="team=yours") == []
    assert (await request_search.summarize(server.services, standard(mine), RequestFilter(tag="shared"))).totals.requests == 2
    assert (await request_search.summarize(server.services, SYSTEM, RequestFilter(tag="shared"))).totals.requests == 3
    beside = await request_search.neighbours(server.services, standard(mine), RequestFilter(tag="shared"), 10**6)
    assert (beside.newer, beside.older) == (None, made[3].id)

    async def searched(actor: Actor, text: str) -> tuple[str | None, str]:
        found = await understand(server.services, actor, Words(search=text))
        return found.chosen.tag, found.said["search"]

    assert await searched(SYSTEM, "team=yours") == ("team=yours", "tag team=yours")
    assert await searched(standard(yours), "team=yours") == ("team=yours", "tag team=yours")
    assert await searched(standard(mine), "team=yours") == (None, "model team=yours")
    assert await searched(standard(mine), "mine") == ("mine", "tag mine")
    assert await searched(SYSTEM, "sim") == (None, "endpoint sim"), "an endpoint goes before a tag of its name"


async def test_cursors_lead_down_and_up_again(server: Administration) -> None:
    account = await server.person()
    made = [(await record(server, account)).id for _ in range(7)][::-1]
    await server.services.ledger.recorded()

    async def page(**cursor: int) -> request_search.RequestPage:
        return await request_search.search(server.services, SYSTEM, RequestFilter(), limit=3, **cursor)

    first = await page()
    assert ([entry.id for entry in first.entries], first.newer) == (made[:3], None)
    assert first.older is not None
    second = await page(before=first.older)
    assert [entry.id for entry in second.entries] == made[3:6]
    assert second.older is not None
    assert second.newer is not None
    last = await page(before=second.older)
    assert ([entry.id for entry in last.entries], last.older) == (made[6:], None)
    assert await page(after=second.newer) == first
    beside = await request_search.neighbours(server.services, SYSTEM, RequestFilter(), first.entries[1].seq)
    assert (beside.newer, beside.older) == (made[0], made[2])
    ends = await request_search.neighbours(server.services, SYSTEM, RequestFilter(), first.entries[0].seq)
    assert (ends.newer, ends.older) == (None, made[1])


async def test_the_summary_says_what_it_covers(server: Administration, monkeypatch: pytest.MonkeyPatch) -> None:
    account = await server.person()
    start = 1_763_700_000_000_000
    for index in range(10):
        await record(
            server,
            account,
            started_us=start + index * 60_000_000,
            usage=Usage(uncached_input=10, cache_read=2, output=3),
            charge=Charge(7, ids.new_text(), 1, 1),
            **({"status": 429, "outcome": "refused"} if index == 9 else {"status": 200, "outcome": "interrupted"} if index == 8 else {}),
        )
    # Ended last, though it began an hour before the others.
    await record(server, account, started_us=start - 3_600_000_000)
    await server.services.ledger.recorded()
    whole = await request_search.summarize(server.services, SYSTEM, RequestFilter(user_id=account))
    assert (whole.covers, whole.from_us, whole.until_us) == ("all", start - 3_600_000_000, start + 540_000_000)
    assert whole.totals == request_search.Totals(
        requests=11, errors=2, input_tokens=120, cached_tokens=20, output_tokens=30, charge_nano=70, average_us=1_500_000
    )
    assert len(whole.bars) <= request_search.BARS + 1
    assert [sum(getattr(bar, part) for bar in whole.bars) for part in ("succeeded", "client_errors", "server_errors")] == [9, 1, 1]
    assert {bar.start_us % whole.width_us for bar in whole.bars} == {0}
    monkeypatch.setattr(request_search, "SUMMARY_ROWS", 4)
    newest = await request_search.summarize(server.services, SYSTEM, RequestFilter(user_id=account))
    assert (newest.covers, newest.totals.requests, newest.totals.errors) == ("newest", 4, 2)
    nothing = await request_search.summarize(server.services, SYSTEM, RequestFilter(model="nothing"))
    assert (nothing.covers, nothing.totals.requests, nothing.bars, nothing.from_us) == ("all", 0, [], None)


async def test_the_export_holds_every_row_and_no_formula(server: Administration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_search, "EXPORT_ROWS", 2)
    account = await server.person()
    names = ["=1+1", 'quote " and, comma', "two\nlines", "émoji 🎉", "-5", "@x"]
    key, tariff = ids.new_text(), ids.new_text()
    for name in names:
        usage = Usage(output=1, estimated=name == "@x")
        await record(server, account, alias=name, key_id=key, usage=usage, charge=Charge(1_500_000_000, tariff, 1, 1))
    await record(server, await server.person())
    await server.services.ledger.recorded()
    text = "".join([piece async for piece in request_search.export_csv(server.services, SYSTEM, RequestFilter(user_id=account))])
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["model"] for row in rows] == ["'@x", "'-5", "émoji 🎉", "two\nlines", 'quote " and, comma', "'=1+1"]
    assert {(row["cost"], row["tariff_id"], row["user_id"], row["api_key_id"]) for row in rows} == {("1.5", tariff, account, key)}
    assert [row["estimated"] for row in rows] == ["yes"] + ["no"] * 5
    assert text.count("\r\n") == 7


async def test_the_export_holds_tags_as_they_were_given(server: Administration) -> None:
    account = await server.person()
    for tags in ((), ("b", "a=1"), ("=1:1",), ("-2", "x")):
        await record(server, account, tags=tags)
    await server.services.ledger.recorded()
    text = "".join([piece async for piece in request_search.export_csv(server.services, SYSTEM, RequestFilter(user_id=account))])
    assert [row["tags"] for row in csv.DictReader(io.StringIO(text, newline=""))] == ["'-2,x", "'=1:1", "b,a=1", ""]


async def test_the_inspector_adds_up(server: Administration) -> None:
    endpoint = (await server.admin("POST", "/endpoints", json={"name": "e", "url": "http://127.0.0.1:9", "sync": False})).body["id"]
    price = {
        "name": "list",
        "input_price_per_token": "0.0000000015",
        "output_price_per_token": "0.00001",
        "api_key_purpose": "realtime",
    }
    model = (await server.admin("POST", "/models", json={"model_name": "chat", "hosted_on": endpoint, "tariffs": [price]})).body
    account = await server.person()
    made = await record(
        server,
        account,
        usage=Usage(uncached_input=1, output=2),
        charge=Charge(20_002, model["tariffs"][0]["id"], 1_500, 10_000_000),
        receive_us=100,
        admit_us=200,
        decide_us=0,
        dispatch_us=400_000,
        first_byte_us=500_000,
        attempts=[Attempt("sim", "sim-chat", 300, 400_000, 200, None)],
    )
    await server.services.ledger.recorded()
    shown = await inspector.inspect(server.services, standard(account), made.id)
    assert [(stage.name, stage.start_us, stage.duration_us) for stage in shown.stages] == [
        ("receive", 0, 100),
        ("admit", 100, 200),
        ("dispatch", 300, 400_000),
        ("first_byte", 400_300, 99_700),
        ("relay", 500_000, 1_000_000),
    ]
    assert sum(stage.duration_us for stage in shown.stages) == shown.duration_us
    assert [(attempt.endpoint, attempt.status, attempt.duration_us) for attempt in shown.attempts] == [("sim", 200, 400_000)]
    sums = shown.arithmetic
    assert sums is not None
    assert [(term.of, term.quantity, term.price_pico, term.amount_pico) for term in sums.terms] == [
        ("input tokens", 1, 1_500, 1_500),
        ("output tokens", 2, 10_000_000, 20_000_000),
    ]
    assert sum(term.amount_pico for term in sums.terms) + sums.rounding_pico == sums.charged_nano * 1000
    assert (sums.exact_pico, sums.rounding_pico, sums.tariff_name, shown.not_charged) == (20_001_500, 500, "list", None)
    assert shown.bodies_missing is not None
    server.services.bodies.put(made.id, made.started_us, b"{}", b"{}", False)
    await server.services.bodies.flush()
    assert (await inspector.inspect(server.services, standard(account), made.id)).bodies_missing is None
    refused = await record(server, account, status=402, outcome="refused")
    await server.services.ledger.recorded()
    told = await inspector.inspect(server.services, SYSTEM, refused.id)
    assert told.not_charged == "dwctl refused it before a provider was asked."
    assert told.bodies_missing == "No provider was asked, and what is refused is not kept."


BEGUN: dict[str, Any] = {"attempts": [Attempt("sim", "sim-chat", 300, 400_000, 200, None)], "first_byte_us": 500_000}
UNPRICED = "o price above zero was in force for this model and the key's purpose."


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"outcome": "failed", "error_code": "server_shutting_down"}, "dwctl was stopped meanwhile, and charges nothing"),
        ({"outcome": "interrupted", "error_code": "server_shutting_down"}, "dwctl was stopped meanwhile"),
        ({"outcome": "interrupted", "error_code": "gateway_crash"}, "dwctl was stopped meanwhile"),
        ({"outcome": "refused", "error_code": "server_shutting_down"}, "dwctl refused it before a provider was asked."),
        ({"outcome": "complete"}, "N" + UNPRICED),
        ({"outcome": "complete", "operation": "count_tokens"}, "Counting tokens costs nothing."),
        ({"outcome": "complete", "attempts": []}, "dwctl answered it without a provider."),
        ({"outcome": "complete", "finish_reason": "load"}, "The provider loaded or unloaded the model, and was asked nothing."),
        ({"outcome": "failed"}, "It failed without usage that a provider reported."),
        ({"outcome": "failed", "usage": Usage(5)}, "N" + UNPRICED),
        ({"outcome": "interrupted", "usage": Usage(5, output=2)}, "N" + UNPRICED),
        ({"outcome": "cancelled", "first_byte_us": None}, "It ended before the provider had sent output."),
        ({"outcome": "cancelled"}, "It ended before the provider had sent output, or n" + UNPRICED),
    ],
)
async def test_why_nothing_was_charged(server: Administration, fields: dict[str, Any], why: str) -> None:
    made = await record(server, await server.person(), **BEGUN | fields)
    await server.services.ledger.recorded()
    told = (await inspector.inspect(server.services, SYSTEM, made.id)).not_charged
    assert told is not None
    assert told.startswith(why)


async def test_the_feed_tells_of_beginnings_and_ends(server: Administration, simulator: Simulator) -> None:
    endpoint = (await server.admin("POST", "/endpoints", json={"name": "sim", "url": simulator.url, "sync": False})).body["id"]
    everyone = "00000000-0000-0000-0000-000000000000"
    await server.admin("POST", "/models", json={"model_name": "sim-chat", "hosted_on": endpoint, "groups": [everyone]})
    mine, yours = await server.person(), await server.person()
    secrets = {account: await server.key_of(account, "realtime") for account in (mine, yours)}

    async def call(account: str, model: str = "sim-chat", tags: str = "") -> str:
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        answer = await server.ask("POST", "/ai/v1/chat/completions", secret=secrets[account], json=body, headers={"x-dwctl-tags": tags})
        request_id: str = answer.headers["x-request-id"]
        return request_id

    feed = live.follow(server.services, standard(mine), RequestFilter())
    everything = live.follow(server.services, SYSTEM, RequestFilter())
    first, for_all = asyncio.ensure_future(anext(feed)), asyncio.ensure_future(anext(everything))
    while not server.services.events.listening:  # noqa: ASYNC110 - the hub tells nobody that it has begun
        await asyncio.sleep(0)
    foreign = await call(yours)
    own = await call(mine)
    began, ended = await first, await anext(feed)
    assert began.began is not None
    assert ended.ended is not None
    assert (began.kind, began.began.id, began.began.model, began.began.served_by) == ("start", own, "sim-chat", "sim")
    assert (ended.kind, ended.ended.id, ended.ended.status_code, ended.ended.user_id) == ("end", own, 200, mine)
    assert ended.ended.api_key_name is not None
    seen = [await for_all] + [await anext(everything) for _ in range(3)]
    assert [event.began.id if event.began else event.ended.id for event in seen if event.began or event.ended] == [foreign] * 2 + [own] * 2
    await everything.aclose()
    await feed.aclose()
    tagged = live.follow(server.services, standard(mine), RequestFilter(tag="beta"))
    first = asyncio.ensure_future(anext(tagged))
    while not server.services.events.listening:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0)
    await call(yours, tags="beta")
    await call(mine, tags="beta-2")
    own = await call(mine, tags="alpha, beta")
    began, ended = await first, await anext(tagged)
    assert began.began is not None
    assert ended.ended is not None
    assert (began.began.id, began.began.tags, ended.ended.id, ended.ended.tags) == (own, ("alpha", "beta"), own, ["alpha", "beta"])
    await tagged.aclose()
    refused = await call(mine, "no-such-model")
    again = live.follow(server.services, standard(mine), RequestFilter(), ended.event_id)
    missed = await anext(again)
    assert missed.ended is not None
    assert (missed.kind, missed.ended.id, missed.ended.outcome) == ("end", refused, "refused")
    await again.aclose()
    assert await live.in_flight(server.services, SYSTEM, RequestFilter()) == []
    server.services.events._be_silent()
    lost = live.follow(server.services, SYSTEM, RequestFilter(), ended.event_id)
    assert ((await anext(lost)).kind) == "skip"
    await lost.aclose()
