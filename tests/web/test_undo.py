"""Undo: who may take an act back, until when, and what is then there and on record."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dwctl.accounts import SYSTEM
from dwctl.operations import groups, users
from dwctl.web import undo
from tests.administration import Administration, configuration, serving
from tests.web.visitor import Visitor, hidden

PASSWORD = "a password of their own"


@pytest.fixture
async def server(sqlite_url: str, data_dir: Path) -> AsyncIterator[Administration]:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as running:
        yield running


async def removed(server: Administration, visitor: Visitor) -> tuple[str, str, str]:
    """A membership that was just ended on a page: group, user, and the offer to undo it, as it is on the page that follows."""
    user = await server.person()
    group = (await groups.create_group(server.services, SYSTEM, groups.GroupCreate(name=f"group of {user}"))).id
    await groups.add_member(server.services, SYSTEM, group, user)
    answer = await visitor.send(f"/admin/groups/{group}/members/remove", [("user", user)])
    assert answer.status == 303
    return group, user, hidden(await visitor.open(answer.headers["Location"]), "offer")


async def members(server: Administration, group: str) -> list[str]:
    return await groups.members_of(server.services, SYSTEM, group)


async def test_an_offer_is_taken_up_once_or_twice_and_is_on_record_as_an_act(server: Administration) -> None:
    visitor = await Visitor.sign_in(server)
    group, user, offer = await removed(server, visitor)
    assert await members(server, group) == []
    for _ in range(2):
        answer = await visitor.send("/undo", [("offer", offer)])
        assert (answer.status, answer.headers["Location"]) == (303, f"/admin/groups/{group}")
        assert await members(server, group) == [user]
    assert [row["resource_id"] for row in await server.audit("users.join_group")] == [user, user]  # the first time, and the undoing
    assert next(row["actor"] for row in await server.audit("users.join_group")) == "admin@example.com"
    # The message is shown once, and with it the offer.
    await visitor.open(f"/admin/groups/{group}")
    assert 'name="offer"' not in (await visitor.open(f"/admin/groups/{group}")).body


async def test_a_late_undo_is_refused_in_words(server: Administration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undo, "SECONDS", -10)  # an offer that was over before it was made
    visitor = await Visitor.sign_in(server)
    group, _, offer = await removed(server, visitor)
    answer = await visitor.send("/undo", [("offer", offer)])
    assert answer.status == 409
    assert "seconds, and they are over. Nothing was changed." in answer.body
    assert f'href="/admin/groups/{group}"' in answer.body
    assert await members(server, group) == []


async def test_an_offer_is_of_use_to_nobody_else(server: Administration) -> None:
    visitor = await Visitor.sign_in(server)
    group, _, offer = await removed(server, visitor)
    other = await server.password_user("other@example.com", PASSWORD)
    stranger = await Visitor.sign_in(server, "other@example.com", PASSWORD)
    assert (await stranger.send("/undo", [("offer", offer)])).status == 403  # may change no group
    await users.update_user(server.services, SYSTEM, other, users.UserUpdate(roles=["PlatformManager"]))
    answer = await stranger.send("/undo", [("offer", offer)])
    assert (answer.status, "This was not offered to you." in answer.body) == (422, True)
    for forged in (offer[:-2], f"x{offer}", ""):
        assert (await visitor.send("/undo", [("offer", forged)])).status == 422
    assert await members(server, group) == []


async def test_what_is_gone_meanwhile_cannot_be_undone(server: Administration) -> None:
    visitor = await Visitor.sign_in(server)
    group, _, offer = await removed(server, visitor)
    await groups.delete_group(server.services, SYSTEM, group)
    answer = await visitor.send("/undo", [("offer", offer)])
    assert answer.status == 422
    assert f"Group with ID {group} not found" in answer.body
