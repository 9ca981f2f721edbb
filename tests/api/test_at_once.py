"""Acts of two administrators at the same moment, on two nodes where the database allows for that: the second one waits for the first,
and finds what it left."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from dwctl.store import Changes
from dwctl.store.sqlite import SqliteDatabase
from tests.administration import Administration, Answer, configuration, serving
from tests.ledger.making import make_record

Request = tuple[str, str, dict[str, Any] | None]
Held = Callable[[Request], contextlib.AbstractAsyncContextManager[asyncio.Task[Answer]]]
Race = Callable[[Request, Request], Awaitable[tuple[Answer, Answer]]]

LEFT_OVER = {
    "grants of a group that is deleted": "deployment_groups d JOIN groups g ON g.id = d.group_id WHERE g.deleted_at IS NOT NULL",
    "members of a group that is deleted": "user_groups m JOIN groups g ON g.id = m.group_id WHERE g.deleted_at IS NOT NULL",
    "models of an endpoint that is deleted": "deployed_models m JOIN inference_endpoints e ON e.id = m.endpoint_id"
    " WHERE m.deleted_at IS NULL AND e.deleted_at IS NOT NULL",
    "keys of a user who is deleted": "api_keys k JOIN users u ON u.id = k.user_id WHERE k.deleted_at IS NULL AND u.deleted_at IS NOT NULL",
    "names of keys that are deleted": "api_keys WHERE deleted_at IS NOT NULL AND live_name IS NOT NULL",
    "acts of deletion that happened twice": "(SELECT 1 AS found FROM audit_log WHERE action LIKE '%.delete' GROUP BY resource_id"
    " HAVING COUNT(*) > 1) AS twice",
}
"""What none of these races may leave behind."""


@pytest.fixture
async def other(server: Administration, database_url: str, tmp_path: Path) -> AsyncIterator[Administration]:
    """Another node, where there can be one."""
    if isinstance(server.services.store.database, SqliteDatabase):
        yield server
        return
    async with serving(database_url, configuration(tmp_path / "other", database_url)) as running:
        await running.admin_secret()
        yield running


async def waits(node: Administration) -> bool:
    """Whether an act waits for another one."""
    database = node.services.store.database
    if isinstance(database, SqliteDatabase):
        return bool(database._writer._queue)
    found = await node.services.store.fetch(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(found)


@pytest.fixture
def held(server: Administration, monkeypatch: pytest.MonkeyPatch) -> Held:
    """A request that comes to the end of its transaction, and commits after the block."""

    @contextlib.asynccontextmanager
    async def hold(request: Request) -> AsyncIterator[asyncio.Task[Answer]]:
        reached, go_on = asyncio.Event(), asyncio.Event()
        note = Changes.note

        async def late(*args: Any) -> int:
            if not reached.is_set():
                reached.set()
                await go_on.wait()
            return await note(*args)

        with monkeypatch.context() as patch:
            patch.setattr(Changes, "note", staticmethod(late))
            task = asyncio.create_task(server.admin(*request[:2], json=request[2]))
            await asyncio.wait_for(reached.wait(), 10)
            yield task
            go_on.set()
            await task

    return hold


@pytest.fixture
def race(held: Held, other: Administration) -> Race:
    """Two requests, of which the second comes to the other node before the first may commit."""

    async def run(first: Request, second: Request) -> tuple[Answer, Answer]:
        async with held(first) as one:
            two = asyncio.create_task(other.admin(*second[:2], json=second[2]))
            async with asyncio.timeout(10):
                while not (two.done() or await waits(other)):  # noqa: ASYNC110 (the database tells nobody)
                    await asyncio.sleep(0.01)
        return await one, await two

    return run


async def make(server: Administration, name: str) -> dict[str, str]:
    """The path of one of each kind. The user is a member of the group, and has the key; the endpoint has the model."""

    async def made(path: str, body: dict[str, Any]) -> str:
        answer = await server.admin("POST", path, json=body)
        assert answer.status in (200, 201), answer
        return f"{path}/{answer.body['id']}"

    user = f"/users/{await server.person(name=name)}"
    group = await made("/groups", {"name": name})
    assert (await server.admin("POST", f"{group}{user}")).status == 204
    endpoint = await made("/endpoints", {"name": name, "url": "http://127.0.0.1:9/v1", "skip_fetch": True, "model_filter": [name]})
    [row] = await server.services.store.fetch("SELECT id FROM deployed_models WHERE live_alias = ?", (name,))
    key = await made(f"{user}/api-keys", {"name": "k"})
    return {"user": user, "group": group, "endpoint": endpoint, "model": f"/models/{row['id']}", "key": key}


def acts(paths: dict[str, str]) -> list[tuple[Request, str, int]]:
    """Acts on something, the kind of that, and how they are answered where it is not there."""
    model = {"model_name": "x", "alias": f"new {paths['model']}", "hosted_on": paths["endpoint"].rpartition("/")[2]}
    return [
        (("POST", f"{paths['group']}{paths['model']}", None), "group", 404),
        (("PATCH", paths["key"], {"name": "another"}), "key", 404),
        (("POST", f"{paths['key']}/rotate", {}), "key", 404),
        (("POST", "/models", model), "endpoint", 400),
        (("POST", f"{paths['user']}/api-keys", {"name": "new"}), "user", 404),
        *((("DELETE", path, None), kind, 404) for kind, path in paths.items()),
    ]


async def left_over(server: Administration) -> list[str]:
    counts = {what: await server.services.store.fetch(f"SELECT COUNT(*) AS rows FROM {where}") for what, where in LEFT_OVER.items()}
    return [what for what, [count] in counts.items() if count["rows"]]


async def test_what_is_being_deleted_is_not_there_any_more(server: Administration, race: Race) -> None:
    for number in range(10):
        act, kind, status = acts(paths := await make(server, f"thing-{number}"))[number]
        deleted, refused = await race(("DELETE", paths[kind], None), act)
        assert (deleted.status // 100, refused.status, await left_over(server)) == (2, status, []), act


async def test_what_is_being_changed_is_deleted_as_it_is_then(server: Administration, race: Race) -> None:
    for number in range(5):
        act, kind, _ = acts(paths := await make(server, f"thing-{number}"))[number]
        # What is made or changed may be gone when its answer is written.
        _, deleted = await race(act, ("DELETE", paths[kind], None))
        assert (deleted.status // 100, await left_over(server)) == (2, []), act


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_requests_are_recorded_beside_an_act(server: Administration, held: Held) -> None:
    """Charges, bodies, when a key was last used, and the work of the clock."""
    services, record = server.services, make_record()
    async with held(("POST", "/groups", {"name": "g"})) as act, asyncio.timeout(4):
        services.ledger.end(record)
        await services.ledger.recorded()
        services.bodies.put(record.id, record.started_us, b"{}", b"{}", False)
        await services.bodies.flush()
        services.keyring.touches.key(str(record.key_id), record.started_us)
        await services.keyring.touches.flush()
        await services.bodies.purge(record.started_us)
        await services.changes.prune()
        assert not act.done()
    assert (await act).status == 201
