"""Acts on several rows: all that match on every page of a list, shown before they are done, done all or not at all."""

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import pytest

from dwctl import clock, ids
from dwctl.accounts import SYSTEM, Actor
from dwctl.errors import GatewayError
from dwctl.ledger import Record
from dwctl.operations import api_keys, groups, model_management, users
from dwctl.operations.access import access_matrix, set_grants
from dwctl.operations.consequences import consequences
from dwctl.operations.models import ModelCreate, create_model
from tests.administration import ADMIN_EMAIL, Administration, Answer, configuration, serving
from tests.web.visitor import Visitor, hidden

PASSWORD = "a password of their own"
MANY = 130


@pytest.fixture
async def server(database_url: str, data_dir: Path) -> AsyncIterator[Administration]:
    async with serving(database_url, configuration(data_dir, database_url)) as running:
        yield running


@pytest.fixture
async def visitor(server: Administration) -> Visitor:
    return await Visitor.sign_in(server)


async def keys_of(server: Administration, owner: str, count: int, name: str) -> None:
    for number in range(count):
        body = api_keys.ApiKeyCreate(name=f"{name} {number}", purpose="realtime")
        await api_keys.create_key(server.services, SYSTEM, owner, body)


async def live_keys(server: Administration) -> int:
    [row] = await server.services.store.fetch("SELECT COUNT(*) AS live FROM api_keys WHERE deleted_at IS NULL AND NOT hidden")
    return int(row["live"])


def said(answer: Answer) -> str:
    """What the page says, without markup."""
    main = re.sub(r"<[^>]+>", " ", answer.body.split('<main id="main"')[1])
    return " ".join(unescape(main).split())


async def test_all_keys_that_match_go_and_no_other(server: Administration, visitor: Visitor) -> None:
    owner = await server.person()
    await keys_of(server, owner, MANY, "doomed")
    await keys_of(server, owner, 3, "kept")
    [used] = await server.services.store.fetch("SELECT id FROM api_keys WHERE name = 'doomed 7'")
    fields = {"path": "/chat/completions", "operation": "chat", "alias": "chat", "endpoint_name": "sim", "status": 200}
    record = Record(id=ids.new_text(), started_us=clock.now_us(), account_id=owner, holder_id=owner, key_id=str(used["id"]), **fields)
    server.services.ledger.end(record, None)
    await server.services.ledger.recorded()
    path = "/keys/delete?all=true&scope=all&q=doomed"
    asked = await visitor.open(path)
    assert f"Delete {MANY} API keys?" in said(asked)
    assert "1 request used them within the last hour." in said(asked)
    assert f"and {MANY - 25} more" in said(asked)
    seen = hidden(asked, "seen")
    wrong = await visitor.send(path, [("seen", seen), ("confirm", "all of them")])
    assert (wrong.status, await live_keys(server)) == (422, MANY + 3)
    done = await visitor.send(path, [("seen", seen), ("confirm", f"{MANY} API keys")])
    assert done.status == 303
    rows = await server.services.store.fetch("SELECT name FROM api_keys WHERE deleted_at IS NULL AND NOT hidden ORDER BY name")
    assert [row["name"] for row in rows] == ["kept 0", "kept 1", "kept 2"]
    [audited] = await server.services.store.fetch("SELECT COUNT(*) AS rows FROM audit_log WHERE action = 'api_keys.delete'")
    assert audited["rows"] == MANY


async def test_what_is_confirmed_is_what_was_shown(server: Administration, visitor: Visitor) -> None:
    owner = await server.person()
    await keys_of(server, owner, 3, "some")
    path = "/keys/delete?all=true&scope=all&q=some"
    seen = hidden(await visitor.open(path), "seen")
    await keys_of(server, owner, 1, "another some")
    late = await visitor.send(path, [("seen", seen), ("confirm", "3 API keys")])
    assert late.status == 409
    assert "other rows are chosen now" in said(late)
    assert "Delete 4 API keys?" in said(late)
    assert await live_keys(server) == 4
    assert (await visitor.send(path, [("seen", hidden(late, "seen")), ("confirm", "4 API keys")])).status == 303
    assert await live_keys(server) == 0


async def test_one_refused_row_is_named_and_nothing_is_done(server: Administration, visitor: Visitor) -> None:
    for number in range(MANY):
        await server.person(name=f"crew{number}")
    manager = await server.password_user("boss@example.com", PASSWORD)
    await users.update_user(server.services, SYSTEM, manager, users.UserUpdate(roles=["PlatformManager"]))
    boss = await Visitor.sign_in(server, "boss@example.com", PASSWORD)
    path = "/admin/users/delete?all=true"
    asked = await boss.open(path)
    refused = await boss.send(path, [("seen", hidden(asked, "seen")), ("confirm", f"{MANY + 2} users")])
    assert refused.status == 422
    assert "boss@example.com: You cannot delete your own account. Nothing was changed." in said(refused)
    emails = (ADMIN_EMAIL, "crew0@example.com")
    rows = await server.services.store.fetch("SELECT id FROM users WHERE email IN (?, ?)", emails)
    path = "/admin/users/delete?" + "&".join(f"id={row['id']}" for row in rows)
    refused = await boss.send(path, [("seen", hidden(await boss.open(path), "seen")), ("confirm", "2 users")])
    assert refused.status == 403
    assert f"{ADMIN_EMAIL}: Only an administrator can delete an administrator" in said(refused)
    assert (await users.list_users(server.services, SYSTEM, skip=0, limit=1))[1] == MANY + 2
    [audited] = await server.services.store.fetch("SELECT COUNT(*) AS rows FROM audit_log WHERE action = 'users.delete'")
    assert audited["rows"] == 0
    # The administrator may, and the search keeps those who are not meant.
    path = "/admin/users/delete?all=true&q=crew"
    seen = hidden(await visitor.open(path), "seen")
    assert (await visitor.send(path, [("seen", seen), ("confirm", f"{MANY} users")])).status == 303
    assert (await users.list_users(server.services, SYSTEM, skip=0, limit=1))[1] == 2


async def test_users_join_a_group_together(server: Administration, visitor: Visitor) -> None:
    people = [await server.person(name=f"crew{number}") for number in range(MANY)]
    await server.person(name="somebody")
    group = (await groups.create_group(server.services, SYSTEM, groups.GroupCreate(name="the crew"))).id
    await groups.add_member(server.services, SYSTEM, group, people[0])
    path = f"/admin/users/join?all=true&q=crew&group={group}"
    asked = await visitor.open(path)
    assert f"Add {MANY} users to the crew?" in said(asked)
    assert f"1 of {MANY} is a member already" in said(asked)
    done = await visitor.send(path, [("seen", hidden(asked, "seen"))])
    assert done.headers["Location"] == f"/admin/groups/{group}"
    assert set(await groups.members_of(server.services, SYSTEM, group)) == set(people)
    [audited] = await server.services.store.fetch("SELECT COUNT(*) AS rows FROM audit_log WHERE action = 'users.join_group'")
    assert audited["rows"] == MANY
    assert "Nothing is chosen" in said(await visitor.open(f"/admin/users/join?id=nonsense&group={group}"))
    # Some of them, ticked; and without a group.
    ticked = "&".join(f"id={user}" for user in people[:2])
    assert "Add 2 users to the crew?" in said(await visitor.open(f"/admin/users/join?{ticked}&group={group}"))
    none = await visitor.open(f"/admin/users/join?{ticked}")
    assert (none.status, "Choose a group beside the list first." in said(none)) == (400, True)
    everyone = "00000000-0000-0000-0000-000000000000"
    path = f"/admin/users/join?{ticked}&group={everyone}"
    assert (await visitor.send(path, [("seen", hidden(await visitor.open(path), "seen"))])).status == 403


async def test_models_are_shared_and_taken_together(server: Administration, visitor: Visitor) -> None:
    endpoint = (await server.admin("POST", "/endpoints", json={"name": "e", "url": "http://127.0.0.1:9/v1", "sync": False})).body["id"]
    made = [
        await create_model(server.services, SYSTEM, ModelCreate(model_name=f"m{number}", alias=f"many-{number}", hosted_on=endpoint))
        for number in range(MANY)
    ]
    other = await create_model(server.services, SYSTEM, ModelCreate(model_name="other", hosted_on=endpoint))
    group = (await groups.create_group(server.services, SYSTEM, groups.GroupCreate(name="readers"))).id
    member = await server.person()
    await groups.add_member(server.services, SYSTEM, group, member)
    await set_grants(server.services, SYSTEM, {(group, made[0]): True, (group, other): True})
    path = f"/admin/models/share?all=true&q=many&group={group}"
    asked = await visitor.open(path)
    assert f"Share {MANY} models with readers?" in said(asked)
    assert f"1 of {MANY} may be called by readers already" in said(asked)
    assert (await visitor.send(path, [("seen", hidden(asked, "seen"))])).status == 303
    assert (await access_matrix(server.services, SYSTEM)).granted == {(group, model) for model in [*made, other]}
    path = f"/admin/models/take?all=true&q=many&group={group}"
    asked = await visitor.open(path)
    assert "1 user of readers may not call them any more" in said(asked)
    assert f"{MANY} models can be called by nobody then." in said(asked)
    assert (await visitor.send(path, [("seen", hidden(asked, "seen"))])).status == 303
    assert (await access_matrix(server.services, SYSTEM)).granted == {(group, other)}
    # A group that goes in between stops the whole.
    path = f"/admin/models/share?all=true&q=many&group={group}"
    seen = hidden(await visitor.open(path), "seen")
    await groups.delete_group(server.services, SYSTEM, group)
    assert (await visitor.send(path, [("seen", seen)])).status == 404
    assert (await model_management.managed_models(server.services, SYSTEM, lacking="groups", skip=0, limit=1))[1] == MANY + 1


async def test_roles_hold_as_for_single_rows(server: Administration) -> None:
    other = await server.person()
    await keys_of(server, other, 2, "theirs")
    mine = await server.password_user("one@example.com", PASSWORD)
    await keys_of(server, mine, 2, "mine")
    one = await Visitor.sign_in(server, "one@example.com", PASSWORD)
    assert (await one.open("/keys/delete?all=true&scope=all")).status == 403
    assert (await one.open(f"/keys/delete?all=true&user={other}")).status == 403
    for path in ("/admin/users/delete?all=true", "/admin/users/join?all=true", "/admin/models/share?all=true"):
        assert (await one.open(path)).status == 403
        assert (await one.send(path, [("seen", "")])).status == 403
    # A key of somebody else's that is ticked is none of one's own.
    [theirs] = await server.services.store.fetch("SELECT id FROM api_keys WHERE name = 'theirs 0'")
    assert "Nothing is chosen" in said(await one.open(f"/keys/delete?id={theirs['id']}"))
    # Nor do they go along with one's own.
    [own] = await server.services.store.fetch("SELECT id FROM api_keys WHERE name = 'mine 0'")
    both, actor = [str(own["id"]), str(theirs["id"])], Actor(mine, "one@example.com", False, frozenset({"StandardUser"}), "session")
    for refused in (consequences(server.services, actor, "api_key", *both), api_keys.delete_keys(server.services, actor, both)):
        with pytest.raises(GatewayError, match="theirs 0: Insufficient"):
            await refused
    assert await live_keys(server) == 4
    seen = hidden(await one.open("/keys/delete?all=true"), "seen")
    assert (await one.send("/keys/delete?all=true", [("seen", seen), ("confirm", "2 API keys")])).status == 303
    assert await live_keys(server) == 2
