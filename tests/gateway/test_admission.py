"""What a request is admitted by: what holds when it has arrived, and rates that count those alone that were passed on."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from yarl import URL

from dwctl import simulator
from dwctl.accounts.principals import NIL
from dwctl.clock import MICROSECONDS, now_us, to_rfc3339
from dwctl.operations.apply import apply
from tests.administration import Administration, Answer, configuration, serving
from tests.appliance import KEY, PRICE, model, setup
from tests.waiting import until

CHAT = "/ai/v1/chat/completions"


@pytest.fixture
async def server(sqlite_url: str, data_dir: Path) -> AsyncIterator[Administration]:
    """A server before a provider; ``busy`` and ``long`` are models of an endpoint that takes one request at a time."""
    provider = await simulator.start(api_key="provider-key")
    try:
        async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as running:
            document = setup(provider.url, [model("m", "sim-chat", prices=[PRICE])])
            document["endpoints"].append({"name": "narrow", "url": provider.url, "api_key": "provider-key", "max_concurrency": 1})
            document["models"] += [
                model("long", "sim-chat?rate=20&tokens=4000") | {"endpoint": "narrow"},
                model("busy", "sim-chat", requests_per_second=0.01, burst_size=3) | {"endpoint": "narrow"},
                model("rated", "sim-chat", prices=[PRICE], requests_per_second=0.01, burst_size=2),
            ]
            await apply(running.services, document)
            served = running.services.snapshot
            await until(lambda: len(served().models) == 4)
            yield running
    finally:
        await provider.close()


def question(alias: str, **fields: Any) -> dict[str, Any]:
    return {"model": alias, "messages": [{"role": "user", "content": "one two three"}], **fields}


async def ask(server: Administration, alias: str, path: str = CHAT, **fields: Any) -> Answer:
    return await server.ask("POST", path, secret=KEY, json=question(alias, **fields))


def end_of(answer: Answer) -> tuple[int, str | None]:
    return answer.status, answer.body["error"]["code"] if answer.status != 200 else None


def left(answer: Answer) -> str | None:
    remaining: str | None = answer.headers.get("x-ratelimit-remaining-requests")
    return remaining


async def interrupted(server: Administration, change: Callable[[], Awaitable[Any]]) -> tuple[int, dict[str, Any]]:
    """Status and record of a request whose key was looked at before the change, and whose body came after it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(server.url).port)
    body = msgspec.json.encode(question("m"))
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}expect: 100-continue\r\ncontent-length: {len(body)}\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == b"100"
    await change()
    writer.write(body)
    answer = (await reader.readuntil(b"\r\n\r\n")).decode()
    writer.close()
    found = re.search(r"x-request-id: (\S+)", answer)
    assert found, answer
    await server.services.ledger.recorded()
    [row] = await server.services.store.fetch("SELECT * FROM requests WHERE id = ?", (found[1],))
    return int(answer.split()[1]), row


async def one(server: Administration, query: str) -> Any:
    [row] = await server.services.store.fetch(query)
    [value] = row.values()
    return value


async def key_path(server: Administration) -> str:
    found = "FROM api_keys WHERE name = 'test'"
    return f"/users/{await one(server, 'SELECT user_id ' + found)}/api-keys/{await one(server, 'SELECT id ' + found)}"


def model_id(server: Administration, alias: str) -> str:
    return server.services.snapshot().models[alias].id


async def test_the_price_is_the_one_in_force_when_all_of_the_request_is_there(server: Administration) -> None:
    async def change() -> None:
        tariff = {"name": "new", "input_price_per_token": "0.001", "api_key_purpose": "realtime"}
        changed = await server.admin("PATCH", f"/models/{model_id(server, 'm')}", json={"tariffs": [tariff]})
        assert changed.status == 200, changed

    status, row = await interrupted(server, change)
    assert (status, row["charge_nano"]) == (200, row["uncached_input"] * 1_000_000)


async def test_access_that_was_taken_meanwhile_is_gone(server: Administration) -> None:
    async def change() -> None:
        taken = await server.admin("DELETE", f"/groups/{NIL}/models/{model_id(server, 'm')}")
        assert taken.status < 300, taken

    status, row = await interrupted(server, change)
    assert (status, row["error_code"], row["charge_nano"]) == (403, "model_access_denied", None)


@pytest.mark.parametrize(("method", "path"), [("DELETE", ""), ("POST", "/rotate")])
async def test_a_secret_that_ended_meanwhile_calls_nothing(server: Administration, method: str, path: str) -> None:
    key = await key_path(server)

    async def change() -> None:
        ended = await server.admin(method, key + path)
        assert ended.status < 300, ended

    status, row = await interrupted(server, change)
    assert (status, row["error_code"], row["outcome"], row["charge_nano"]) == (403, "forbidden", "refused", None)
    assert f"/users/{row['account_id']}/api-keys/{row['key_id']}" == key, "its owner finds what was refused"


async def test_a_key_that_expires_meanwhile_calls_nothing(server: Administration) -> None:
    ends_at = now_us() + 2 * MICROSECONDS
    changed = await server.admin("PATCH", await key_path(server), json={"expires_at": to_rfc3339(ends_at)})
    assert changed.status == 200, changed
    status, row = await interrupted(server, lambda: until(lambda: now_us() >= ends_at))
    assert (status, row["error_code"]) == (403, "api_key_expired")


async def test_a_secret_that_goes_on_for_a_while_calls_as_the_key_that_it_is_by_then(server: Administration) -> None:
    rotated: list[Answer] = []

    async def change() -> None:
        rotated.append(await server.admin("POST", f"{await key_path(server)}/rotate?overlap=1h"))

    status, row = await interrupted(server, change)
    assert (status, row["key_id"]) == (200, rotated[0].body["old_id"])


async def test_who_is_refused_by_the_provider_that_is_busy_takes_nothing_from_the_rate(server: Administration) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    async with server.client.post(server.url + CHAT, json=question("long", stream=True), headers=headers) as first:
        assert first.status == 200
        refused = [await ask(server, "busy") for _ in range(4)]
        assert {end_of(answer) for answer in refused} == {(429, "concurrency_limit_exceeded")}
        assert {left(answer) for answer in refused} == {None}
        first.close()
    await until(lambda: not server.services.in_flight())
    answers = [await ask(server, "busy") for _ in range(4)]
    assert [end_of(answer) for answer in answers] == [(200, None)] * 3 + [(429, "rate_limit")]
    assert [left(answer) for answer in answers] == ["2", "1", "0", "0"]


async def test_what_the_provider_is_not_asked_takes_nothing_from_the_rate(server: Administration, monkeypatch: pytest.MonkeyPatch) -> None:
    background = await server.ask("POST", "/ai/v1/responses", secret=KEY, json={"model": "rated", "input": "hi", "background": True})
    assert end_of(background)[0] == 400
    with monkeypatch.context() as patched:
        patched.setattr(server.services.ledger._journal, "begin", lambda *_: False)
        assert end_of(await ask(server, "rated")) == (503, "recording_unavailable")
    answers = [await ask(server, "rated") for _ in range(3)]
    assert [end_of(answer) for answer in answers] == [(200, None)] * 2 + [(429, "rate_limit")]


async def test_large_requests_that_are_read_at_the_same_time_do_not_pass_together(server: Administration) -> None:
    large = [{"role": "user", "content": "word " * 60_000}]
    answers = await asyncio.gather(*(ask(server, "rated", messages=large) for _ in range(4)))
    assert sorted(end_of(answer) for answer in answers) == [(200, None)] * 2 + [(429, "rate_limit")] * 2


async def test_what_is_answered_without_the_provider_counts(server: Administration) -> None:
    path = "/v1/messages/count_tokens"
    for messages in ([], None, "x"):
        assert (await ask(server, "rated", path, messages=messages)).status == 400
    statuses = [(await ask(server, "rated", path)).status for _ in range(3)]
    assert statuses == [200, 200, 429]


async def test_a_changed_rate_holds_from_the_next_request_on(server: Administration) -> None:
    assert [(await ask(server, "rated")).status for _ in range(3)] == [200, 200, 429]
    faster = {"requests_per_second": 100, "burst_size": 100}
    changed = await server.admin("PATCH", f"/models/{model_id(server, 'rated')}", json=faster)
    assert changed.status == 200, changed
    assert (await ask(server, "rated")).status == 200
