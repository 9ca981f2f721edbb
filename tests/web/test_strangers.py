"""What pages keep from whoever may not see it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dwctl import ids
from tests.administration import Administration, configuration, serving
from tests.web.visitor import Visitor

MEMBER, PASSWORD = "member@example.com", "a password of their own"


@pytest.fixture
async def server(sqlite_url: str, data_dir: Path) -> AsyncIterator[Administration]:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as running:
        yield running


@pytest.fixture
async def member(server: Administration) -> Visitor:
    await server.password_user(MEMBER, PASSWORD)
    return await Visitor.sign_in(server, MEMBER, PASSWORD)


async def test_a_key_for_somebody_else_names_them_only_to_whoever_may_make_it(server: Administration, member: Visitor) -> None:
    other = await server.person(name="somebody-else")
    path = f"/keys/new?user={other}"
    refused, unknown = await member.open(path), await member.open(f"/keys/new?user={ids.new_text()}")
    assert (refused.status, unknown.status) == (403, 403)
    assert "somebody-else" not in refused.body
    again = await member.send("/keys/new", [("user", other), ("name", "")])
    assert again.status == 403
    assert "somebody-else" not in again.body
    assert "somebody-else" in (await (await Visitor.sign_in(server)).open(path)).body
