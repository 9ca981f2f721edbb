"""A whole server behind PgBouncer with two connections: everything works, and what needs a session goes to PostgreSQL itself."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.appliance import ADMIN_EMAIL, ADMIN_PASSWORD, PRICE, Appliance, model, running, setup
from tests.crash import books
from tests.crash.aftermath import recorded, spend_everything
from tests.crash.books import Database
from tests.crash.client import CHAT, chat, one
from tests.pooler import PASSWORD, Pooler

pytestmark = pytest.mark.xdist_group("pooler")

READS = 200
AT_ONCE = 16
PAGES = ("/", "/requests", "/models", "/keys", "/billing", "/admin/system/state", "/admin/system", "/admin/users", "/admin/endpoints")
LISTS = ("users", "models", "groups", "endpoints", "requests", "transactions", "audit", "usage")


async def eventually(condition: Callable[[], Awaitable[object]]) -> None:
    """Return once the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 (what is waited for tells nobody)
            await asyncio.sleep(0.05)


class Behind:
    """A server behind a pooler. ``role`` signs in at the direct address alone."""

    def __init__(self, appliance: Appliance, database: Database, role: str, sql: Callable[[str], str]) -> None:
        self.appliance, self.database, self.role, self.sql = appliance, database, role, sql

    async def sessions(self) -> list[dict[str, Any]]:
        """The server's sessions at PostgreSQL, but for those of commands that have ended."""
        [rows] = await self.database.fetch(
            "SELECT pid, client_port, usename::text AS role, query FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND client_port IS NOT NULL"
        )
        return rows

    async def readiness(self) -> tuple[int, list[str]]:
        """Status and reasons of /readyz."""
        status, body = await asyncio.to_thread(self.appliance.get_json, "/readyz")
        return status, body["reasons"]

    async def ready(self, *reasons: str) -> None:
        """Wait until requests are served, and exactly this is not well."""

        async def is_so() -> bool:
            return await self.readiness() == (200, list(reasons))

        await eventually(is_so)

    async def direct(self) -> list[dict[str, Any]]:
        return [row for row in await self.sessions() if row["role"] == self.role]


@pytest.fixture(scope="module")
def behind(shared_postgres: Any, pooler: Pooler, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """On a database that was empty."""
    name = f"dwctl_{uuid.uuid4().hex}"
    shared_postgres(f"CREATE ROLE {name} SUPERUSER LOGIN")
    shared_postgres(f"CREATE DATABASE {name}")
    url = shared_postgres.url(name)
    settings = {"database": {"direct_url": url.replace("postgres@", f"{name}:{PASSWORD}@")}, "log": {"level": "debug"}}
    directory: Path = tmp_path_factory.mktemp("behind")

    def document(simulator: str) -> object:
        return setup(simulator, [model("fast", "sim-chat", prices=[PRICE]), model("old", "sim-chat")])

    with running(directory, document, database_url=pooler.url(url), settings=settings) as (appliance, _):
        yield Behind(appliance, Database(url, appliance.data_dir), name, shared_postgres)
        log = appliance.log.read_text()
        assert PASSWORD not in log
        assert "Traceback" not in log
    shared_postgres(f"DROP DATABASE {name} WITH (FORCE)")
    shared_postgres(f"DROP ROLE {name}")


async def test_requests_reach_the_ledger_and_changes_of_others_the_server(behind: Behind) -> None:
    answers = await asyncio.gather(*(one(behind.appliance.port, CHAT, chat("fast")) for _ in range(20)))
    assert all(answer.ok for answer in answers)
    await recorded(behind.database, {answer.id for answer in answers if answer.id})
    # Another process makes a model that costs all that is left.
    _, last = await spend_everything(behind.appliance, behind.database)
    assert last.id
    await recorded(behind.database, {last.id})
    found = await books.read(behind.database)
    books.check(found)
    assert len(found.charges()) == 21
    assert set(found.balances.values()) == {0}


async def test_many_read_at_once(behind: Behind) -> None:
    url = behind.appliance.url
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        async with client.post(f"{url}/authentication/login", json={"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}) as answer:
            assert answer.status == 200
        paths = [*(f"/admin/api/v1/{name}" for name in LISTS), *PAGES]
        turns = iter([path for _ in range(READS) for path in paths][:READS])
        wrong = []

        async def read() -> None:
            for path in turns:
                async with client.get(url + path, headers={"accept": "text/html"} if path in PAGES else {}) as answer:
                    text = await answer.text()
                    if answer.status != 200 or "canary" in text:
                        wrong.append((path, answer.status, text))

        await asyncio.gather(*(read() for _ in range(AT_ONCE)))
    assert not wrong, wrong[0]


async def test_only_one_session_is_not_the_poolers(behind: Behind, pooler: Pooler) -> None:
    [[owner]] = await behind.database.fetch("SELECT tableowner FROM pg_tables WHERE tablename = 'deployed_models'")
    assert owner == {"tableowner": behind.role}, "migrations have a session, too"

    async def listens() -> bool:
        return [row["query"].split()[0] for row in await behind.direct()] == ["LISTEN"]

    await eventually(listens)
    [direct] = await behind.direct()
    server = psutil.Process(behind.appliance.serving_pid())
    assert direct["client_port"] in {connection.laddr.port for connection in server.net_connections("tcp")}
    through = [row["client_port"] for row in await behind.sessions() if row["role"] != behind.role]
    assert set(through) <= {connection.laddr.port for connection in psutil.Process(pooler.process.pid).net_connections("tcp")}
    assert 1 <= len(through) <= 2


async def test_the_direct_address_alone_is_lost(behind: Behind) -> None:
    behind.sql(f"ALTER ROLE {behind.role} NOLOGIN")
    behind.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{behind.role}'")
    await behind.ready("changes_not_announced")
    # What somebody else changes is found all the same, without a word.
    await behind.database.execute(
        "UPDATE deployed_models SET alias = 'renamed', live_alias = 'renamed' WHERE alias = 'old'; "
        "INSERT INTO change_log (area, at) VALUES ('catalog', 0)"
    )

    async def known() -> bool:
        return (await one(behind.appliance.port, CHAT, chat("renamed"))).status != 404

    await eventually(known)
    behind.sql(f"ALTER ROLE {behind.role} LOGIN")
    await behind.ready()
    lost, found = (behind.appliance.events(name) for name in ("changes_not_announced", "changes_announced_again"))
    assert len(lost) == len(found) == 1
    assert behind.role in lost[0]["error"]


def test_a_pooler_alone_is_refused_with_the_remedy(shared_postgres: Any, pooler: Pooler, tmp_path: Path) -> None:
    appliance = Appliance(tmp_path, database_url=pooler.url(shared_postgres.url("postgres")))
    done = appliance.command("serve", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: database.url is the address of a connection pooler")
    assert "set database.direct_url" in done.stderr
    assert PASSWORD not in done.stderr + done.stdout
