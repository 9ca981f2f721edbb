"""What is kept from whoever may not have it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from yarl import URL

from dwctl import ids
from tests.administration import Administration, Answer, configuration, serving
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


async def test_a_form_may_be_a_megabyte_of_whoever_is_signed_in(server: Administration, member: Visitor) -> None:
    taken = await member.send("/keys/new", [("name", ""), ("more", "x" * 1_000_000)])
    assert taken.status == 422, taken
    refused = await member.send("/keys/new", [("name", "mine"), ("more", "x" * 1_048_576)])
    assert refused.status == 413
    assert "the maximum allowed size is 1048576 bytes" in refused.body


async def interrupted(server: Administration, path: str, credential: str, body: bytes, change: Callable[[], Awaitable[Answer]]) -> int:
    """Status of a request whose sender was looked at before the change, and whose body came after it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(server.url).port)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{credential}\r\nexpect: 100-continue\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == b"100"
    changed = await change()
    assert changed.status < 300, changed
    writer.write(body)
    status = int((await reader.readuntil(b"\r\n\r\n")).split()[1])
    writer.close()
    return status


async def test_a_session_that_ends_while_a_body_comes_opens_nothing(server: Administration, member: Visitor) -> None:
    [(name, value)] = member.cookies.items()
    cookie = f"{name}={value}"
    body = b'{"name": "late", "purpose": "realtime"}'
    path = "/admin/api/v1/users/current/api-keys"
    leave = partial(server.ask, "POST", "/authentication/logout", cookie=cookie)
    assert await interrupted(server, path, f"cookie: {cookie}", body, leave) == 401
    assert not await server.services.store.fetch("SELECT id FROM api_keys WHERE name = 'late'")


async def test_a_key_that_ends_while_a_question_comes_is_told_nothing(server: Administration) -> None:
    person = await server.person()
    secret = await server.key_of(person, "realtime")
    [row] = await server.services.store.fetch("SELECT id FROM api_keys WHERE user_id = ? AND purpose = 'realtime'", (person,))
    delete = partial(server.admin, "DELETE", f"/users/{person}/api-keys/{row['id']}")
    assert await interrupted(server, "/api/show", f"authorization: Bearer {secret}", b'{"model": "m"}', delete) == 401
