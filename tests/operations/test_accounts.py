"""Operations on accounts at the same time, and what they leave in the ledger and in the audit trail."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from dwctl.accounts import CLI, SYSTEM, Actor, ProxyUser
from dwctl.config.schema import Auth, Credits, Native, ProxyHeader
from dwctl.errors import GatewayError
from dwctl.operations import api_keys, groups, users
from dwctl.operations.audit import AuditFilter, audit, list_audit
from dwctl.operations.first_start import ensure_administrator
from dwctl.operations.proxy_sign_in import proxy_sign_in
from dwctl.operations.requests import account_named
from dwctl.store import Tx
from tests.administration import QUICK, Administration, configuration, serving


@pytest.fixture
async def server(database_url: str, data_dir: Path) -> AsyncIterator[Administration]:
    auth = Auth(native=Native(password=QUICK), proxy_header=ProxyHeader(enabled=True))
    config = configuration(
        data_dir,
        database_url,
        auth=auth,
        trusted_proxies=("127.0.0.1",),
        credits=Credits(initial_credits_for_standard_users=2_500_000_000),
    )
    async with serving(database_url, config) as running:
        yield running


async def test_first_credits_are_granted_once(server: Administration) -> None:
    user_id = await server.person()
    assert server.services.ledger.balances.balance(user_id) == 2_500_000_000
    rows = await server.services.store.fetch(
        "SELECT transaction_type, amount_nano FROM credits_transactions WHERE account_id = ?", (user_id,)
    )
    assert [(row["transaction_type"], row["amount_nano"]) for row in rows] == [("admin_grant", 2_500_000_000)]
    assert (await server.admin("GET", f"/users/{user_id}?include=billing")).body["credit_balance"] == 2.5


async def test_an_account_is_found_by_its_address_as_it_is_shown(server: Administration) -> None:
    user_id = await server.person(name="Émile")
    for typed in ("Émile@example.com", " émile@EXAMPLE.com "):
        found = await account_named(server.services, typed)
        assert found is not None
        assert found["id"] == user_id
    await users.delete_user(server.services, SYSTEM, user_id)
    assert await account_named(server.services, "Émile@example.com") is None
    found = await account_named(server.services, f"deleted-{user_id}@deleted.local")
    assert found is not None
    assert (found["id"], found["deleted_at"] is None) == (user_id, False)


async def test_one_name_goes_to_one_of_many(server: Administration) -> None:
    user_id = await server.person()
    body = api_keys.ApiKeyCreate(name="the same")
    outcomes = await asyncio.gather(
        *(api_keys.create_key(server.services, SYSTEM, user_id, body) for _ in range(12)), return_exceptions=True
    )
    made = [outcome for outcome in outcomes if isinstance(outcome, api_keys.ApiKeyResponse)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, GatewayError)]
    assert (len(made), len(refused), {error.status for error in refused}) == (1, 11, {409})

    new_users = await asyncio.gather(
        *(users.create_user(server.services, SYSTEM, users.UserCreate(username=f"u{n}", email="a@b")) for n in range(12)),
        return_exceptions=True,
    )
    assert sorted(getattr(outcome, "status", 201) for outcome in new_users) == [201, *[409] * 11]
    new_groups = await asyncio.gather(
        *(groups.create_group(server.services, SYSTEM, groups.GroupCreate(name="crew")) for _ in range(12)), return_exceptions=True
    )
    assert sorted(getattr(outcome, "status", 201) for outcome in new_groups) == [201, *[409] * 11]


async def test_one_account_for_a_proxy_user_who_comes_all_at_once(server: Administration) -> None:
    who = ProxyUser("ext", "ada@example.com", "okta", ("crew", "pilots"), "127.0.0.1")
    actors = await asyncio.gather(*(proxy_sign_in(server.services, who) for _ in range(12)))
    assert len({actor.user_id for actor in actors if actor is not None}) == 1
    assert None not in actors
    user_id = actors[0].user_id  # type: ignore[union-attr]
    again = await proxy_sign_in(server.services, who)
    assert again is not None
    names = [group.name for group in await groups.groups_of(server.services, SYSTEM, user_id)]
    assert names == ["crew", "pilots", "Everyone"]
    assert server.services.ledger.balances.balance(user_id) == 2_500_000_000


async def test_updates_at_once_do_not_lose_one_another(server: Administration) -> None:
    user_id = await server.person()

    async def rename(name: str) -> object:
        return await users.update_user(server.services, SYSTEM, user_id, users.UserUpdate(display_name=name), revision=1)

    outcomes = await asyncio.gather(*(rename(f"name {number}") for number in range(8)), return_exceptions=True)
    assert sorted(getattr(outcome, "status", 200) for outcome in outcomes) == [200, *[412] * 7]


async def test_first_start_of_several_nodes(server: Administration) -> None:
    config = msgspec.structs.replace(server.services.config, admin_email="boss@example.com", admin_password=None)
    server.services.config = config
    passwords = await asyncio.gather(*(ensure_administrator(server.services) for _ in range(5)))
    assert sum(password is not None for password in passwords) == 1
    rows = await server.services.store.fetch("SELECT id FROM users WHERE live_email = ?", ("boss@example.com",))
    assert len(rows) == 1


async def test_operations_check_for_themselves(server: Administration) -> None:
    """A caller that is not HTTP meets the same policy."""
    me = await server.person()
    other = await server.person()
    actor = Actor(me, "me@example.com", False, frozenset({"StandardUser"}), "session")
    services = server.services
    for refused in (
        users.list_users(services, actor, skip=0, limit=10),
        users.get_user(services, actor, other),
        users.create_user(services, actor, users.UserCreate(username="x", email="x@y")),
        users.update_user(services, actor, other, users.UserUpdate()),
        users.delete_user(services, actor, other),
        groups.list_groups(services, actor, skip=0, limit=10),
        groups.create_group(services, actor, groups.GroupCreate(name="x")),
        groups.add_member(services, actor, other, me),
        groups.groups_of(services, actor, other),
        api_keys.list_keys(services, actor, other, skip=0, limit=10),
        api_keys.create_key(services, actor, other, api_keys.ApiKeyCreate(name="x")),
        api_keys.rotate_key(services, actor, other, other),
        list_audit(services.store, actor, AuditFilter(), limit=1),
    ):
        with pytest.raises(GatewayError) as caught:
            await refused
        assert caught.value.code == "insufficient_permissions"


async def test_audit_keeps_differences_and_no_secrets(server: Administration) -> None:
    async def write(tx: Tx) -> None:
        before = {"name": "a", "limit": 1, "secret": "canary-1"}
        after = {"name": "a", "limit": 2, "secret": "canary-2", "password_hash": "canary-3"}
        await audit(tx, CLI, "things.update", "thing", "7", before, after)
        await audit(tx, CLI, "things.delete", "thing", "7", {"name": "a"}, None)

    await server.services.store.write(write)
    rows = await list_audit(server.services.store, SYSTEM, AuditFilter(resource="thing", resource_id="7"), limit=10)
    assert [(row.action, row.before, row.after) for row in rows] == [
        ("things.delete", {"name": "a"}, None),
        ("things.update", {"limit": 1}, {"limit": 2}),
    ]
    assert (rows[0].actor, rows[0].via) == ("cli", "cli")


async def test_audit_in_pages(server: Administration) -> None:
    for number in range(5):
        await groups.create_group(server.services, SYSTEM, groups.GroupCreate(name=f"group {number}"))
    first = (await server.admin("GET", "/audit?action=groups.create&limit=2")).body
    assert [row["after"]["name"] for row in first["data"]] == ["group 4", "group 3"]
    second = (await server.admin("GET", f"/audit?action=groups.create&limit=2&before={first['next']}")).body
    assert [row["after"]["name"] for row in second["data"]] == ["group 2", "group 1"]
    last = (await server.admin("GET", f"/audit?action=groups.create&limit=2&before={second['next']}")).body
    assert ([row["after"]["name"] for row in last["data"]], last["next"]) == (["group 0"], None)
    at = last["data"][0]["at"]
    assert len((await server.admin("GET", f"/audit?action=groups.create&start_date={at}")).body["data"]) == 5
    assert (await server.admin("GET", f"/audit?action=groups.create&end_date={at}")).body["data"] == []
    for query, param in (
        ("actor_id=x", "actor_id"),
        ("start_date=x", "start_date"),
        ("before=x", "before"),
        ("before=" + "9" * 30, "before"),
    ):
        answer = await server.admin("GET", f"/audit?{query}")
        assert (answer.status, answer.param) == (400, param)
