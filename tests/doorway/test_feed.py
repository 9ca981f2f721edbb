"""Feeds of pages: messages to resume from, a sign of life, a proper end."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sanic import Sanic

from dwctl import doorway
from dwctl.doorway import Authenticated, Context, Message, Public, Route, feed, route
from tests.administration import Administration, configuration, serving

ROUTES: list[Route] = []
MODULE = "dwctl.doorway.feeds"


@route(ROUTES, "GET", "/test/feed", policy=Public(), summary="Three messages")
async def three(context: Context) -> Any:
    async def messages(last: str | None) -> AsyncIterator[Message]:
        for number in range(int(last or 0) + 1, 4):
            yield Message(str(number), f"<p>\n{number}</p>")

    return feed(context, messages)


@route(ROUTES, "GET", "/test/silent", policy=Authenticated(), summary="Nothing ever")
async def silent(context: Context) -> Any:
    async def messages(_: str | None) -> AsyncIterator[Message]:
        await asyncio.Event().wait()
        yield Message("1", "never")

    return feed(context, messages)


def with_feeds(app: Sanic, services: Any) -> None:
    doorway.install(app, services, ROUTES)


async def _open(server: Administration, path: str, **headers: str) -> Any:
    return await server.client.get(server.url + path, headers=headers)


async def test_messages_have_ids_and_the_feed_ends(sqlite_url: str, data_dir: Path) -> None:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url), with_feeds) as server:
        answer = await _open(server, "/test/feed")
        assert answer.content_type == "text/event-stream"
        assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")
        text = await answer.text()
        assert text == (
            ": here\n\n" + "".join(f"id: {number}\ndata: <p>\ndata: {number}</p>\n\n" for number in (1, 2, 3)) + "event: end\ndata:\n\n"
        )
        resumed = await (await _open(server, "/test/feed", **{"last-event-id": "2"})).text()
        assert "id: 3" in resumed
        assert "id: 2" not in resumed


async def test_one_person_follows_so_many_feeds_and_others_theirs(sqlite_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}.MOST_FEEDS", 2)
    async with serving(sqlite_url, configuration(data_dir, sqlite_url), with_feeds) as server:
        cookie = await server.cookie_of()
        await server.password_user("other@example.com", "a password of their own")
        opened = [await _open(server, "/test/silent", cookie=cookie) for _ in range(2)]
        for answer in opened:
            await answer.content.readline()
        refused = await _open(server, "/test/silent", cookie=cookie)
        assert refused.status == 429
        assert (await refused.json())["error"]["code"] == "too_many_feeds"
        other = await _open(server, "/test/silent", cookie=await server.cookie_of("other@example.com", "a password of their own"))
        assert other.status == 200
        opened.pop().close()
        async with asyncio.timeout(20):
            while (again := await _open(server, "/test/silent", cookie=cookie)).status == 429:
                again.close()
        assert again.status == 200
        for answer in (*opened, other, again):
            answer.close()


async def test_a_silent_feed_shows_life_and_ends_with_the_session(sqlite_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}.HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(f"{MODULE}.RECHECK_SECONDS", 0.05)
    async with serving(sqlite_url, configuration(data_dir, sqlite_url), with_feeds) as server:
        cookie = await server.cookie_of()
        answer = await _open(server, "/test/silent", cookie=cookie)
        received = b""
        async with asyncio.timeout(20):
            while received.count(b": still here") < 8:
                received += await answer.content.readline()
                assert not answer.content.at_eof()
            await server.ask("POST", "/authentication/logout", cookie=cookie)
            received += await answer.content.read()
        assert received.endswith(b"event: end\ndata:\n\n")
