"""What Home, Cost, Access and the dialogs show: from the database, true to the last nano, and only what one may see."""

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dwctl import clock, ids, money
from dwctl.accounts import NIL, SYSTEM, Actor
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError
from dwctl.ledger import Charge, Record
from dwctl.operations import access, api_keys, checklist, consequences, explorer, palette
from dwctl.operations.explorer import METRICS, Exploration, Question, Sums
from dwctl.operations.transactions import TransactionCreate, create_transaction
from tests.administration import ADMIN_EMAIL, Administration, configuration, serving

HOUR = clock.HOUR
START = (1_763_700_000_000_000 // (24 * HOUR)) * 24 * HOUR


@pytest.fixture
async def server(database_url: str, data_dir: Path) -> AsyncIterator[Administration]:
    """On either database: sums and dates are SQL."""
    async with serving(database_url, configuration(data_dir, database_url)) as running:
        yield running


def standard(user_id: str, *roles: str) -> Actor:
    return Actor(user_id, f"{user_id}@example.com", False, frozenset({"StandardUser", *roles}), "session")


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


def sum_of(groups: list[explorer.Group]) -> Sums:
    return Sums(**{metric: sum(getattr(group.sums, metric) for group in groups) for metric in METRICS})


async def test_every_grouping_adds_up_to_the_ledger(server: Administration) -> None:
    accounts = [await server.person() for _ in range(3)]
    for index in range(40):
        await record(
            server,
            accounts[index % 3],
            started_us=START + index * 20 * HOUR,
            alias=f"model-{index % 7}",
            endpoint_name=f"endpoint-{index % 2}",
            key_id=ids.new_text() if index % 4 else None,
            usage=Usage(uncached_input=index, cache_read=1, output=2),
            charge=Charge(10**12 + index * 7 + 1, ids.new_text(), 1, 1),
            **({"status": 502, "outcome": "failed"} if index % 5 == 0 else {}),
        )
    await server.services.ledger.recorded()
    question = Question(start_us=START, end_us=START + 40 * 20 * HOUR)
    [ledger] = await server.services.store.fetch(
        "SELECT SUM(amount_nano) AS nano FROM credits_transactions WHERE transaction_type = 'usage'"
    )
    for by in explorer.BYS:
        for then in (None, *explorer.BYS):
            answer = await explorer.explore(server.services, SYSTEM, msgspec.structs.replace(question, group_by=by, then_by=then, top=2))
            assert answer.total.charge_nano == int(ledger["nano"])
            assert (answer.total.requests, answer.total.errors, answer.total.cached_tokens) == (40, 8, 40)
            assert sum_of(answer.groups) == answer.total
            if then is not None:
                assert all(sum_of(group.parts) == group.sums for group in answer.groups)
    models = await explorer.explore(server.services, SYSTEM, msgspec.structs.replace(question, top=3))
    assert [group.label for group in models.groups][-1] == "Other (4)"
    assert models.groups[-1].key is None
    months = await explorer.explore(server.services, SYSTEM, msgspec.structs.replace(question, group_by="month"))
    assert [group.label for group in months.groups] == ["2025-11", "2025-12"]
    users = await explorer.explore(server.services, SYSTEM, msgspec.structs.replace(question, group_by="user"))
    assert {group.key for group in users.groups} == set(accounts)
    assert all(group.label.endswith("@example.com") for group in users.groups)
    await _check_csv(msgspec.structs.replace(question, group_by="user", then_by="day"), server)
    later = Question(start_us=question.end_us, end_us=2 * question.end_us - question.start_us)
    after = await explorer.explore(server.services, SYSTEM, later)
    assert (after.total, after.previous) == (Sums(), models.total)


async def _check_csv(question: Question, server: Administration) -> None:
    answer: Exploration = await explorer.explore(server.services, SYSTEM, question)
    rows = list(csv.DictReader(io.StringIO("".join(explorer.export_csv(question, answer)), newline="")))
    assert sum(money.parse_amount(row["cost"]) for row in rows) == answer.total.charge_nano
    assert sum(int(row["requests"]) for row in rows) == answer.total.requests
    assert list(rows[0]) == ["user", "user_id", "day", "cost", *METRICS[1:]]
    assert {row["user_id"] for row in rows} == {group.key for group in answer.groups}


async def test_keys_of_one_name_are_told_apart(server: Administration) -> None:
    ann, bob = await server.person(name="ann"), await server.person(name="bob")
    made = []
    for owner in (ann, bob, ann):
        key = await api_keys.create_key(server.services, SYSTEM, owner, api_keys.ApiKeyCreate(name="laptop"))
        await record(server, owner, key_id=key.id)
        if not made:
            await api_keys.delete_key(server.services, SYSTEM, ann, key.id)
        made.append(key)
    await record(server, ann)
    await server.services.ledger.recorded()
    now = clock.now_us()
    question = Question(start_us=now - HOUR, end_us=now + HOUR, group_by="key")

    async def labels(actor: Actor) -> dict[str | None, str]:
        answer = await explorer.explore(server.services, actor, question)
        rows = list(csv.DictReader(io.StringIO("".join(explorer.export_csv(question, answer)), newline="")))
        assert {row["key_id"]: row["key"] for row in rows} == {
            "" if group.key == NIL else group.key: group.label for group in answer.groups
        }
        return {group.key: group.label for group in answer.groups if group.key != NIL}

    first, other, second = made
    hints = {key.id: f"{key.key[:7]}…" for key in made}
    assert await labels(SYSTEM) == {
        first.id: f"laptop · ann@example.com · {hints[first.id]}",
        other.id: "laptop · bob@example.com",
        second.id: f"laptop · ann@example.com · {hints[second.id]}",
    }
    assert await labels(standard(ann)) == {key.id: f"laptop · {hints[key.id]}" for key in (first, second)}
    assert await labels(standard(bob)) == {other.id: "laptop"}


async def test_an_alias_that_went_to_another_model_takes_no_sums_along(server: Administration) -> None:
    account = await server.person()
    first, second = ids.new_text(), ids.new_text()
    for model, alias in ((first, "fast"), (first, "old"), (second, "fast")):
        await record(server, account, model_id=model, alias=alias, started_us=START)
    await server.services.ledger.recorded()

    async def requests(**of: str) -> int:
        # More than two days, of which the middle is asked of the sums of days.
        question = Question(start_us=START - 30 * HOUR, end_us=START + 30 * HOUR, **of)  # type: ignore[arg-type]
        return (await explorer.explore(server.services, SYSTEM, question)).total.requests

    assert [await requests(model_id=first), await requests(model_id=second), await requests(model="fast")] == [2, 1, 2]


async def test_one_sees_ones_own_sums(server: Administration) -> None:
    mine, yours = await server.person(), await server.person()
    for account, amount in ((mine, 5), (yours, 7)):
        await record(server, account, charge=Charge(amount, ids.new_text(), 1, 1))
    await server.services.ledger.recorded()
    now = clock.now_us()
    question = Question(start_us=now - HOUR, end_us=now + HOUR, group_by="user")
    assert (await explorer.explore(server.services, standard(mine), question)).total.charge_nano == 5
    assert (await explorer.explore(server.services, standard(mine, "RequestViewer"), question)).total.charge_nano == 12
    with pytest.raises(GatewayError, match="Insufficient"):
        await explorer.explore(server.services, standard(mine), msgspec.structs.replace(question, user_id=yours))
    for wrong, field in (({"top": 0}, "top"), ({"user_id": "me"}, "user_id"), ({"end_us": 0}, "start_us"), ({"start_us": 0}, "start_us")):
        with pytest.raises(GatewayError) as caught:
            await explorer.explore(server.services, SYSTEM, msgspec.structs.replace(question, **wrong))
        assert (caught.value.status, caught.value.param) == (400, field)
    tiles = await explorer.home_tiles(server.services, SYSTEM)
    assert (tiles.requests.value, tiles.spend.value, tiles.active_users.value, tiles.requests.previous) == (2, 12, 2, 0)
    assert [len(tile.points) for tile in (tiles.requests, tiles.errors, tiles.spend, tiles.active_users)] == [24] * 4
    assert sum(tiles.spend.points) == 12
    own = await explorer.home_tiles(server.services, standard(mine), hours=168)
    assert (own.requests.value, own.spend.value, own.active_users.value) == (1, 5, 1)
    with pytest.raises(GatewayError, match="multiple of 24"):
        await explorer.home_tiles(server.services, SYSTEM, hours=7)


async def test_tiles_compare_with_the_time_before(server: Administration) -> None:
    account = await server.person()
    hour = clock.now_us() // HOUR * HOUR
    await record(server, account, started_us=hour - 30 * HOUR, status=502, outcome="failed")
    await record(server, account, started_us=hour - 30 * HOUR)
    await record(server, account, started_us=hour)
    await server.services.ledger.recorded()
    tiles = await explorer.home_tiles(server.services, SYSTEM)
    assert (tiles.requests.value, tiles.requests.previous) == (1, 2)
    assert (tiles.errors.value, tiles.errors.previous) == (0, 1)
    assert tiles.requests.points[-1] == 1


async def catalog(server: Administration, **fields: Any) -> tuple[str, str]:
    endpoint = (await server.admin("POST", "/endpoints", json={"name": "provider", "url": "http://127.0.0.1:9", "sync": False})).body["id"]
    model = (await server.admin("POST", "/models", json={"model_name": "small", "hosted_on": endpoint, **fields})).body["id"]
    return endpoint, model


async def test_the_checklist_follows_the_database(server: Administration) -> None:
    async def done(actor: Actor = SYSTEM) -> list[str]:
        return [step.name for step in await checklist.checklist(server.services, actor) if step.done]

    assert await done() == ["password"]
    await server.services.store.write(
        lambda tx: tx.execute("UPDATE users SET must_change_password = ? WHERE live_email = ?", (True, ADMIN_EMAIL))
    )
    assert await done() == []
    price = {"name": "list", "input_price_per_token": "0.000001", "output_price_per_token": "0", "api_key_purpose": "realtime"}
    _, model = await catalog(server)
    assert await done() == ["endpoint", "model"]
    assert "credit" not in [step.name for step in await checklist.checklist(server.services, SYSTEM)]
    await access.set_grants(server.services, SYSTEM, {(NIL, model): True})
    await server.admin("PATCH", f"/models/{model}", json={"tariffs": [price]})
    assert await done() == ["endpoint", "model", "share", "price"]
    # Credits are asked for where something has a price.
    assert "credit" in [step.name for step in await checklist.checklist(server.services, SYSTEM)]
    gift = TransactionCreate(user_id=await server.person(), transaction_type="admin_grant", amount="1")
    await create_transaction(server.services, SYSTEM, gift)
    assert await done() == ["endpoint", "model", "share", "credit", "price"]
    account = await server.person()
    assert await done(standard(account)) == []
    await server.key_of(account, "realtime")
    await record(server, account, status=502, outcome="failed")
    await server.services.ledger.recorded()
    assert await done(standard(account)) == ["key"]
    await record(server, account)
    await server.services.ledger.recorded()
    assert await done(standard(account)) == ["key", "request"]
    assert await done(standard(await server.person())) == []
    assert await done() == ["endpoint", "model", "share", "credit", "key", "request", "price"]


async def test_access_is_explained_and_granted(server: Administration) -> None:
    _, model = await catalog(server)
    user = await server.person(name="ada")
    team = (await server.admin("POST", "/groups", json={"name": "team"})).body["id"]

    async def explained() -> access.AccessExplanation:
        return await access.explain_access(server.services, SYSTEM, user, model)

    before = await explained()
    assert (before.allowed, before.through, before.would_join) == (False, [], [])
    assert [group.name for group in before.would_share] == ["Everyone"]
    assert before.reason == "'small' is not shared with any group."
    await access.set_grants(server.services, SYSTEM, {(team, model): True})
    await access.set_grants(server.services, SYSTEM, {(team, model): True})
    missing = await explained()
    assert [group.name for group in missing.would_join] == ["team"]
    assert missing.reason == "'small' may be called by 'team', and ada is in none of them."
    assert (await server.admin("POST", f"/users/{user}/groups/{team}")).status == 204
    granted = await explained()
    assert (granted.allowed, [group.name for group in granted.through], granted.would_join) == (True, ["team"], [])
    matrix = await access.access_matrix(server.services, SYSTEM)
    assert [group.name for group in matrix.groups] == ["Everyone", "team"]
    assert ([entry.name for entry in matrix.models], matrix.granted) == (["small"], {(team, model)})
    await access.set_grants(server.services, SYSTEM, {(team, model): False})
    await access.set_grants(server.services, SYSTEM, {(team, model): False})
    assert (await access.access_matrix(server.services, SYSTEM)).granted == set()
    assert len(await server.audit("models.groups")) == 2
    for call in (
        access.access_matrix(server.services, standard(user)),
        access.explain_access(server.services, standard(user), user, model),
        access.set_grants(server.services, standard(user), {(team, model): True}),
    ):
        with pytest.raises(GatewayError, match="Insufficient"):
            await call
    with pytest.raises(GatewayError, match="not found"):
        await access.explain_access(server.services, SYSTEM, user, user)


async def test_consequences_are_counted(server: Administration) -> None:
    price = {"name": "list", "input_price_per_token": "0.000001", "output_price_per_token": "0", "api_key_purpose": "realtime"}
    endpoint, model = await catalog(server, tariffs=[price])
    user = await server.person(name="ada")
    team = (await server.admin("POST", "/groups", json={"name": "team"})).body["id"]
    await access.set_grants(server.services, SYSTEM, {(team, model): True})
    await server.admin("POST", f"/users/{user}/groups/{team}")
    await server.key_of(user, "realtime")
    [key] = (await server.admin("GET", f"/users/{user}/api-keys")).body["data"]
    fields = {"model_id": model, "endpoint_id": endpoint, "key_id": key["id"]}
    for started in (clock.now_us(), clock.now_us(), clock.now_us() - 2 * HOUR):
        await record(server, user, started_us=started, **fields)
    await server.services.ledger.recorded()
    targets: dict[consequences.Kind, tuple[str, str, dict[str, int]]] = {
        "endpoint": (endpoint, "provider", {"models": 1}),
        "model": (model, "small", {"groups": 1, "prices": 1}),
        "api_key": (key["id"], key["name"], {}),
        "user": (user, "ada", {"api_keys": 1, "groups": 1}),
        "group": (team, "team", {"users": 1, "models": 1}),
    }
    for kind, (target, name, uses) in targets.items():
        found = await consequences.consequences(server.services, SYSTEM, kind, target)
        assert (found.name, {use.what: use.count for use in found.uses}, found.requests_last_hour) == (name, uses, 2), kind
        with pytest.raises(GatewayError) as caught:
            await consequences.consequences(server.services, SYSTEM, kind, "nonsense")
        assert caught.value.status == 404
        if kind == "api_key":
            await consequences.consequences(server.services, standard(user), kind, target)
        with pytest.raises(GatewayError, match="Insufficient"):
            await consequences.consequences(server.services, standard(await server.person()), kind, target)


async def test_the_palette_finds_what_one_may_see(server: Administration) -> None:
    _, model = await catalog(server)
    mine, yours = await server.person(name="small-ada"), await server.person(name="small-bob")
    for account in (mine, yours):
        await server.admin("POST", f"/users/{account}/api-keys", json={"name": "small key"})
    made = await record(server, yours)
    await server.services.ledger.recorded()

    async def found(actor: Actor, text: str) -> list[tuple[str, str]]:
        return [(hit.kind, hit.label) for hit in await palette.find(server.services, actor, text)]

    for name in ("Team small", "Team tall"):
        await server.admin("POST", "/groups", json={"name": name})
    assert await found(SYSTEM, "SMALL") == [
        ("model", "small"),
        ("group", "Team small"),
        ("user", "small-ada"),
        ("user", "small-bob"),
        ("api_key", "small key"),
        ("api_key", "small key"),
    ]
    assert await found(standard(mine), "small") == [("api_key", "small key")]
    await access.set_grants(server.services, SYSTEM, {(NIL, model): True})
    assert await found(standard(mine), "small") == [("model", "small"), ("api_key", "small key")]
    assert await found(standard(mine), "team") == []
    assert await found(standard(mine, "PlatformManager"), "team") == [("group", "Team small"), ("group", "Team tall")]
    assert await found(SYSTEM, "provid") == [("endpoint", "provider")]
    assert await found(SYSTEM, made.id) == await found(standard(yours), f" {made.id} ") == [("request", made.id)]
    assert await found(standard(mine), made.id) == []
    assert await found(SYSTEM, " ") == await found(SYSTEM, "%") == []


async def test_a_rotated_key_may_go_on_for_a_while(server: Administration) -> None:
    user = await server.person()
    made = (await server.admin("POST", f"/users/{user}/api-keys", json={"name": "app", "purpose": "platform"})).body
    path = f"/users/{user}/api-keys/{made['id']}/rotate"
    rotated = (await server.admin("POST", f"{path}?overlap=1h")).body
    me = "/admin/api/v1/users/current"
    for secret in (made["key"], rotated["key"]):
        assert (await server.ask("GET", me, secret=secret)).status == 200
    keys = {key["id"]: key for key in (await server.admin("GET", f"/users/{user}/api-keys")).body["data"]}
    assert (keys[made["id"]]["name"], keys[made["id"]]["expires_at"]) == ("app", None)
    old = keys[rotated["old_id"]]
    assert (old["name"].startswith("app (old "), old["expires_at"], old["hint"]) == (True, rotated["old_expires_at"], made["hint"])
    assert 3_590 < (clock.from_rfc3339(old["expires_at"]) - clock.now_us()) / clock.MICROSECONDS <= 3_600
    # Rotated once more and at once: what was current ends, what was old before goes its own way.
    again = (await server.admin("POST", path)).body
    assert set(again) == {"key"}
    assert (await server.ask("GET", me, secret=rotated["key"])).status == 401
    for secret in (made["key"], again["key"]):
        assert (await server.ask("GET", me, secret=secret)).status == 200
    assert (await server.admin("DELETE", f"/users/{user}/api-keys/{rotated['old_id']}")).status == 204
    assert (await server.ask("GET", me, secret=made["key"])).status == 401
    assert (await server.admin("POST", f"{path}?overlap=1y")).status == 400
    assert [entry["after"].get("old_id") for entry in await server.audit("api_keys.rotate")] == [None, rotated["old_id"]]
