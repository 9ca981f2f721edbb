"""A budget is never overspent and never blocked for nothing, whatever races, leaves, fails or is killed."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from dwctl.dialects.names import DIALECTS, DialectName
from dwctl.money import format_amount
from tests.appliance import Appliance, Simulator, model, running, setup
from tests.crash import books
from tests.crash.aftermath import balance, recorded, spend_everything
from tests.crash.books import Database
from tests.crash.client import CHAT, Answer, Client, chat
from tests.e2e.speaking import SPEAKERS
from tests.waiting import until

REQUESTS = 1000
TOKENS = 10
COST = 1_000_000
"""Nano-credits of an answer of TOKENS tokens: output alone has a price, so that a hold for ``max_tokens`` is the cost."""
PRICE = {"output_per_million": "100"}
AFFORDED = 237
EXACT = ("exact", "sim-chat?latency=250&tokens=10")
BREAKING = (("refusing", "sim-500?latency=50"), ("resetting", "sim-reset?latency=50"))


def serving(
    directory: Path, models: list[tuple[str, str]], prices: dict[str, str], nano: int
) -> AbstractContextManager[tuple[Appliance, Simulator]]:
    """A server with these models at this price, and a credit of ``nano``."""
    entries = [model(alias, name, prices=[prices]) for alias, name in models]
    return running(directory, lambda url: setup(url, entries, credit=format_amount(nano)))


class Crowd:
    """Many clients, connected before any of them asks."""

    def __init__(self, port: int, size: int) -> None:
        self.clients = [Client(port) for _ in range(size)]

    async def __aenter__(self) -> "Crowd":
        for start in range(0, len(self.clients), 100):
            await asyncio.gather(*(client.connect() for client in self.clients[start : start + 100]))
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients:
            client.close()

    async def ask(self, body_of: Callable[[int], tuple[dict[str, Any], int | None]]) -> list[Answer]:
        """Everybody asks at once: ``body_of`` gives the body and when the client leaves."""

        async def ask(number: int, client: Client) -> Answer:
            body, leave_after = body_of(number)
            try:
                return await client.post(CHAT, body, leave_after=leave_after)
            except OSError:
                return Answer()

        return list(await asyncio.gather(*(ask(number, client) for number, client in enumerate(self.clients))))


def refusals(answers: list[Answer]) -> Counter[tuple[int, str | None]]:
    return Counter((answer.status, answer.code) for answer in answers if answer.in_full and answer.status != 200)


def database_of(appliance: Appliance) -> Database:
    return Database(None, appliance.data_dir)


@pytest.mark.timeout(120)
async def test_a_thousand_at_once_and_exactly_those_are_served_that_can_be_paid(tmp_path: Path) -> None:
    with serving(tmp_path / "run", [EXACT], PRICE, AFFORDED * COST) as (appliance, simulator):
        async with Crowd(appliance.port, REQUESTS) as crowd:
            answers = await crowd.ask(lambda number: (chat("exact", stream=number % 2 == 0, max_tokens=TOKENS), None))
        assert all(answer.in_full for answer in answers)
        served = [answer for answer in answers if answer.ok]
        assert len(served) == AFFORDED
        assert set(refusals(answers)) <= {(402, "insufficient_balance"), (429, "balance_reserved")}
        for answer in answers:
            if answer.status == 429:
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.error["hold"] == format_amount(COST)
        asked = simulator.served()
        assert {answer.id for answer in served} == asked.keys(), "others were refused before the provider was asked"
        await recorded(database_of(appliance), {answer.id for answer in answers if answer.id})
        assert await balance(database_of(appliance)) == 0
        assert not appliance.in_flight()
        found = await books.read(database_of(appliance))
        books.check(found)
        assert set(found.charges().values()) == {COST}


@pytest.mark.timeout(120)
async def test_a_hold_above_the_cost_is_given_back_to_those_who_wait(tmp_path: Path) -> None:
    """Each may cost five times what it does: few fit at once, and in the end nearly everything was spent on answers."""
    credit = 100 * COST

    async def ask(client: Client, answers: list[Answer]) -> None:
        try:
            while True:
                answer = await client.post(CHAT, chat("generous", stream=random.random() < 0.5, max_tokens=5 * TOKENS))
                answers.append(answer)
                if answer.status == 402:
                    return
                if answer.status == 429:
                    await asyncio.sleep(0.02)
        finally:
            client.close()

    with serving(tmp_path / "run", [("generous", "sim-chat?latency=5&tokens=10")], PRICE, credit) as (appliance, simulator):
        answers: list[Answer] = []
        await asyncio.gather(*(ask(Client(appliance.port), answers) for _ in range(40)))
        served = [answer for answer in answers if answer.ok]
        refused = refusals(answers)
        assert set(refused) == {(402, "insufficient_balance"), (429, "balance_reserved")}
        assert len(simulator.served()) == len(served)
        # The last who is let in needs five times the cost, and leaves less than that behind.
        assert len(served) == 96
        database = database_of(appliance)
        await recorded(database, {answer.id for answer in answers if answer.id})
        assert await balance(database) == 4 * COST
        assert not appliance.in_flight()
        _, last = await spend_everything(appliance, database)
        assert last.id is not None
        await recorded(database, {last.id})
        found = await books.read(database)
        assert (min(found.balances.values()), max(found.charges().values())) == (0, 4 * COST)


@pytest.mark.timeout(120)
async def test_those_who_leave_providers_that_fail_and_a_kill_use_up_nothing(tmp_path: Path) -> None:
    dice = random.Random(7)

    def body_of(_: int) -> tuple[dict[str, Any], int | None]:
        what = dice.random()
        if what < 0.2:
            return chat(dice.choice(BREAKING)[0], max_tokens=TOKENS), None
        return chat("exact", max_tokens=TOKENS), 0 if what < 0.4 else None

    with serving(tmp_path / "run", [EXACT, *BREAKING], PRICE, AFFORDED * COST) as (appliance, simulator):
        database = database_of(appliance)
        answers: list[Answer] = []

        async def crowd_asks() -> None:
            async with Crowd(appliance.port, REQUESTS // 2) as crowd:
                answers.extend(await crowd.ask(body_of))

        asking = asyncio.create_task(crowd_asks())
        await until(lambda: len(simulator.served()) > AFFORDED / 4)
        appliance.kill()
        await asking
        interrupted = sum(answer.status == 0 and not answer.left for answer in answers)
        assert interrupted, "the kill met nobody"
        await asyncio.to_thread(appliance.start)
        for _ in range(20):
            await crowd_asks()
            await until(lambda: not appliance.in_flight())
            if {answer.status for answer in answers[-REQUESTS // 2 :] if answer.in_full} <= {402}:
                break
        served = {answer.id for answer in answers if answer.ok and answer.id}
        allowed = {(402, "insufficient_balance"), (429, "balance_reserved")}
        assert {reason for reason in refusals(answers) if reason[0] in (402, 429)} <= allowed
        await recorded(database, {answer.id for answer in answers if answer.id})
        found = await books.read(database)
        books.check(found)
        prices = {"exact": PRICE, "refusing": PRICE, "resetting": PRICE}
        books.check_served(found, served, books.served_by(simulator), prices)
        assert list(found.charges().values()) == [COST] * AFFORDED, "what was left, failed or was killed was not charged"
        assert set(found.balances.values()) == {0}


LIMITS = (None, 0, 1, 15, 16)
NO_LIMITS = (-1, 100.5, "1e5", " 100000", True, None)
NAMES: dict[DialectName, tuple[str, ...]] = {
    "openai-chat": ("max_tokens", "max_completion_tokens", "n_predict"),
    "openai-responses": ("max_output_tokens",),
    "anthropic": ("max_tokens",),
    "ollama": ("num_predict",),
}
DEFAULT_LIMIT = 60
MODEL_LIMIT = 40


def limited(client: DialectName, alias: str, limits: dict[str, Any]) -> dict[str, Any]:
    """A request with these limits on its output, by the client's names for them."""
    body = {**SPEAKERS[client].request(alias, "text", False)}
    body.pop("max_tokens", None)
    return body | ({"options": limits} if client == "ollama" else limits)


def is_refused(client: DialectName, provider: DialectName, limit: int | None) -> bool:
    """Whether the API that the client speaks takes no such limit. Zero, which is no limit to some, is raised to what is one."""
    if provider == client:
        return limit is not None and 0 < limit < {"openai-responses": 16}.get(client, 0)
    return client == "anthropic" if limit is None else limit < {"openai-chat": 1, "openai-responses": 1}.get(client, 0)


@pytest.mark.timeout(120)
async def test_where_holds_are_strict_no_request_costs_more_than_its_hold(tmp_path: Path) -> None:
    """Whoever asks whom, with whatever limit: a model writes as much as it is let, and without a limit up to its own."""

    def document(url: str) -> dict[str, Any]:
        models = []
        for dialect in DIALECTS:
            # Only Anthropic's are told their own limit.
            bounded = 200 if dialect == "anthropic" else MODEL_LIMIT
            models.append(model(f"unbounded-{dialect}", "sim-chat?tokens=200", prices=[PRICE]) | {"endpoint": dialect})
            models.append(
                model(f"bounded-{dialect}", f"sim-chat?tokens={bounded}", prices=[PRICE], max_output_tokens=MODEL_LIMIT)
                | {"endpoint": dialect}
            )
        endpoints = [{"name": dialect, "url": url, "dialect": dialect, "api_key": "provider-key"} for dialect in DIALECTS]
        return setup(url, models) | {"endpoints": endpoints}

    settings = {"billing": {"holds": "strict", "default_output_hold": DEFAULT_LIMIT}}
    with running(tmp_path / "run", document, settings=settings) as (appliance, _):
        database = database_of(appliance)
        asked = {}
        connection = Client(appliance.port)
        for case in itertools.product(DIALECTS, DIALECTS, LIMITS, ("bounded", "unbounded")):
            client, provider, limit, alias = case
            said = {} if limit is None else {NAMES[client][0]: limit}
            answer = await connection.post(SPEAKERS[client].path, limited(client, f"{alias}-{provider}", said))
            wants_one = case == ("anthropic", "anthropic", None, "bounded")
            assert (answer.status == 400) == (is_refused(client, provider, limit) or wants_one), (case, answer.body)
            assert answer.status in (200, 400), (case, answer.body)
            asked[answer.headers["x-request-id"]] = case
        for client, provider in itertools.product(DIALECTS, DIALECTS):
            for name, limit in itertools.product(NAMES[client], (*NO_LIMITS, 2**40, 10**30)):
                for beside in ({}, *({other: 150} for other in NAMES[client] if other != name)):
                    odd = (client, provider, {name: limit, **beside}, "unbounded")
                    answer = await connection.post(SPEAKERS[client].path, limited(client, f"unbounded-{provider}", odd[2]))
                    if isinstance(limit, int) and limit > 1:
                        assert answer.status == 402, (odd, answer.body)
                    elif client == provider:
                        assert answer.status == 200, (odd, answer.body)
                    assert answer.status in (200, 400, 402), (odd, answer.body)
                    asked[answer.headers["x-request-id"]] = odd
        connection.close()
        await recorded(database, set(asked))
        rows = (await books.read(database)).requests
        for request_id, case in asked.items():
            row = rows[request_id]
            assert (row["charge_nano"] or 0) <= row["hold_nano"], (case, row)
            assert row["charge_nano"] or row["status"] in (400, 402), (case, row)
