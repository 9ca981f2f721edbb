"""The feed of requests over HTTP: resumed, ended when somebody may no longer listen, and gone when nobody does."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dwctl import clock, ids
from dwctl.accounts import SYSTEM
from dwctl.config.schema import Auth, Native, Session
from dwctl.ledger import Record
from dwctl.ledger.records import OUTCOMES
from dwctl.operations import sign_in, users
from dwctl.web import request_tail
from dwctl.web.ranges import written
from tests.administration import ADMIN_EMAIL, QUICK, Administration, configuration, serving
from tests.web.visitor import Visitor

VIEWER = "viewer@example.com"
PASSWORD = "a password of their own"
SOON = 10.0
"""Less than the time between two looks that a feed takes by itself."""


@pytest.fixture
async def server(sqlite_url: str, data_dir: Path) -> AsyncIterator[Administration]:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as running:
        yield running


class Listener:
    """A page that follows."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def message(self) -> tuple[str, str]:
        """The next message that is no comment: its id (or ``event: end``) and its text."""
        while True:
            lines = []
            while (line := (await self._response.content.readline()).decode().rstrip("\n")) or not lines:
                if not line and self._response.content.at_eof():
                    return "", ""
                if line:
                    lines.append(line)
            if not lines[0].startswith(":"):
                return lines[0].removeprefix("id:").strip(), "\n".join(line.removeprefix("data: ") for line in lines[1:])


@asynccontextmanager
async def listening(server: Administration, cookie: str, query: str = "", last_id: str | None = None) -> AsyncIterator[Listener]:
    headers = {"Cookie": cookie, "HX-Request": "true"} | ({"Last-Event-ID": last_id} if last_id else {})
    async with server.client.get(f"{server.url}/events/requests{query}", headers=headers) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        yield Listener(response)


async def ended(server: Administration, **fields: Any) -> str:
    """A request that is over: recorded, and told of."""
    values: dict[str, Any] = {
        "id": ids.new_text(),
        "started_us": clock.now_us(),
        "path": "/chat/completions",
        "alias": "chat",
        "status": 200,
    }
    record = Record(**values | {"account_id": await account(server)} | fields)
    server.services.ledger.end(record, None)
    if server.services.events.listening:
        server.services.events.publish(record)
    return record.id


async def account(server: Administration) -> str:
    [row] = await server.services.store.fetch("SELECT id FROM users WHERE live_email = ?", (ADMIN_EMAIL,))
    return str(row["id"])


async def test_a_page_is_told_of_what_came_since_and_then_of_what_comes(server: Administration) -> None:
    cookie = await server.cookie_of()
    old = await ended(server)
    await server.services.ledger.recorded()
    since = await ended(server)
    async with listening(server, cookie, "?after=1") as page:
        number, text = await page.message()
        assert number == "", "whoever loses the feed here begins anew"
        assert since in text
        assert old not in text
        first = await ended(server)
        number, text = await page.message()
        assert first in text
    missed = [await ended(server) for _ in range(3)]
    async with listening(server, cookie, "?after=1", number) as page:
        told = [await page.message() for _ in missed]
        assert [found for found, (_, text) in zip(missed, told, strict=True) if found in text] == missed
    server.services.events._be_silent()  # as after a restart: the id leads nowhere
    async with listening(server, cookie, "?after=1", told[-1][0]) as page:
        _, text = await page.message()
        assert [found for found in (old, since, first, *missed) if found in text] == [since, first, *missed]


async def test_it_begins_though_the_database_takes_nothing(server: Administration, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_tail, "PATIENCE_SECONDS", 0.1)
    cookie = await server.cookie_of()
    other = sqlite3.connect(data_dir / "dwctl.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    await ended(server)
    async with asyncio.timeout(SOON), listening(server, cookie, "?after=0") as page:
        assert "whole" in (await page.message())[1]
        told = await ended(server)
        assert told in (await page.message())[1]
    other.close()


async def test_it_keeps_to_the_filters(server: Administration) -> None:
    async with listening(server, await server.cookie_of(), "?model=small&after=0") as page:
        await page.message()
        await ended(server)
        wanted = await ended(server, alias="small")
        assert wanted in (await page.message())[1]
    async with listening(server, await server.cookie_of(), "?tag=team%3Da&model=chat&after=0") as page:
        await page.message()
        await ended(server, tags=("team=b",))
        wanted = await ended(server, tags=("beta", "team=a"))
        text = (await page.message())[1]
        assert wanted in text
        assert 'href="/requests?model=chat&amp;tag=beta"' in text, "a tag leads to its requests among those of the page"


async def test_errors_are_every_end_but_a_good_one_and_the_clients_own(server: Administration) -> None:
    cookie = await server.cookie_of()
    visitor = await Visitor.sign_in(server)
    made = [await ended(server, status=200, outcome=outcome) for outcome in OUTCOMES]
    await server.services.ledger.recorded()
    home, listed = await visitor.open("/"), await visitor.open("/requests?outcome=errors")
    assert 'href="/requests?range=24h&amp;outcome=errors"' in home.body
    assert "<option selected>errors</option>" in listed.body
    assert [request_id for request_id in made if request_id in listed.body] == made[2:]
    async with listening(server, cookie, "?outcome=errors&after=0") as page:
        _, text = await page.message()
        assert [request_id for request_id in made if request_id in text] == made[2:]
        told = [await ended(server, outcome=outcome) for outcome in OUTCOMES]
        assert [request_id in (await page.message())[1] for request_id in told[2:]] == [True] * 3


async def test_a_list_that_begins_empty_is_not_filled_with_what_it_had_not_found(server: Administration) -> None:
    cookie, long_ago = await server.cookie_of(), clock.now_us() - clock.HOUR
    old = [await ended(server, started_us=long_ago), await ended(server, started_us=long_ago, status=500, outcome="failed")]
    await server.services.ledger.recorded()
    visitor = await Visitor.sign_in(server)
    lately = f"from={written(clock.now_us() - clock.HOUR // 2)}"
    queries = ("range=15m&model=chat", "range=15m&outcome=errors", f"{lately}&status=500", lately)
    shown = {query: await visitor.open(f"/requests?{query}") for query in queries}
    since = await ended(server, status=500, outcome="failed")
    await server.services.ledger.recorded()
    for query, answer in shown.items():
        assert "No request matches" in answer.body, query
        feed = re.search(r'hx-sse:connect="/events/requests([^"]*)"', answer.body)
        assert feed is not None
        async with listening(server, cookie, unescape(feed.group(1))) as page:
            _, text = await page.message()
            assert since in text, query
            assert [request_id for request_id in old if request_id in text] == [], query


async def over(page: Listener) -> None:
    """The feed has nothing more to tell and says so at once, though nothing happens that it could tell of."""
    async with asyncio.timeout(SOON):
        assert (await page.message())[0] == "event: end"


async def test_it_ends_at_once_after_signing_out(server: Administration) -> None:
    cookie, other = await server.cookie_of(), await server.cookie_of()
    async with listening(server, cookie) as page, listening(server, other) as elsewhere:
        await page.message()
        await elsewhere.message()
        await ended(server)
        assert (await page.message())[0].partition("-")[2] == "1"
        await server.ask("POST", "/authentication/logout", cookie=cookie)
        await over(page)
        told = await ended(server)
        await elsewhere.message()
        assert told in (await elsewhere.message())[1], "whoever is still signed in goes on"


async def test_it_ends_at_once_when_the_sessions_are_ended_from_elsewhere(server: Administration) -> None:
    viewer = await server.password_user(VIEWER, PASSWORD)
    there, here = await server.cookie_of(VIEWER, PASSWORD), await server.cookie_of(VIEWER, PASSWORD)
    async with listening(server, there) as page, listening(server, here) as kept:
        await page.message()
        await kept.message()
        await server.ask(
            "POST", "/authentication/password-change", cookie=here, json={"current_password": PASSWORD, "new_password": f"{PASSWORD}!"}
        )
        await over(page)
        told = await ended(server, account_id=viewer)
        assert told in (await kept.message())[1]
        await sign_in.reset_password(server.services.store, VIEWER, server.services.config)  # as the command line does
        await over(kept)


async def test_it_ends_at_once_when_the_account_is_deleted(server: Administration) -> None:
    viewer = await server.password_user(VIEWER, PASSWORD)
    async with listening(server, await server.cookie_of(VIEWER, PASSWORD)) as page:
        await page.message()
        await users.delete_user(server.services, SYSTEM, viewer)
        await over(page)


async def test_what_was_seen_by_a_lost_role_is_told_no_more(server: Administration) -> None:
    viewer = await server.password_user(VIEWER, PASSWORD)
    await users.update_user(server.services, SYSTEM, viewer, users.UserUpdate(roles=["RequestViewer"]))
    async with listening(server, await server.cookie_of(VIEWER, PASSWORD)) as page:
        await page.message()
        foreign = await ended(server)
        assert foreign in (await page.message())[1]
        await users.update_user(server.services, SYSTEM, viewer, users.UserUpdate(roles=["StandardUser"]))
        await ended(server)
        await over(page)


@pytest.mark.long
@pytest.mark.timeout(150)
async def test_it_ends_within_a_minute_of_its_session(sqlite_url: str, data_dir: Path) -> None:
    """Of a session whose time runs out nobody is told: it is looked up anew."""
    lifetime = 5.0
    auth = Auth(native=Native(password=QUICK, session=Session(timeout=lifetime)))
    async with serving(sqlite_url, configuration(data_dir, sqlite_url, auth=auth)) as server:
        begun = asyncio.get_running_loop().time()
        async with listening(server, await server.cookie_of()) as page:
            await page.message()
            assert (await page.message())[0] == "event: end"
        assert lifetime < asyncio.get_running_loop().time() - begun < lifetime + 61


async def test_nothing_is_left_of_a_page_that_has_gone(server: Administration) -> None:
    async with listening(server, await server.cookie_of()) as page:
        await page.message()
        assert len(server.services.events._subscriptions) == 1
    async with asyncio.timeout(5):
        while server.services.events._subscriptions:
            await ended(server)  # the server notices when it writes
            await asyncio.sleep(0.01)
