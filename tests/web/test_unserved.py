"""What programs may set and this server does not serve (batches and their like) is offered on no page, and is not lost on one."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.administration import Administration, configuration, serving
from tests.web.visitor import Visitor, hidden


@pytest.fixture
async def server(sqlite_url: str, data_dir: Path) -> AsyncIterator[Administration]:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as running:
        yield running


async def test_roles_that_open_nothing_are_offered_only_to_be_taken_away(server: Administration) -> None:
    visitor = await Visitor.sign_in(server)

    async def offered(path: str) -> list[str]:
        return re.findall(r'name="roles" value="(\w+)"', (await visitor.open(path)).body)

    useful = ["PlatformManager", "RequestViewer", "BillingManager"]
    plain, held = await server.person(), await server.person("BatchAPIUser")
    assert await offered("/admin/users/new") == useful
    assert await offered(f"/admin/users/{plain}") == useful
    assert await offered(f"/admin/users/{held}") == [*useful, "BatchAPIUser"]
    revision = hidden(await visitor.open(f"/admin/users/{held}"), "revision")
    await visitor.send(f"/admin/users/{held}", [("revision", revision), ("roles", "BillingManager")])
    assert (await server.admin("GET", f"/users/{held}")).body["roles"] == ["StandardUser", "BillingManager"]


async def test_limits_and_prices_of_batches_are_not_offered_and_stay(server: Administration) -> None:
    visitor = await Visitor.sign_in(server)
    endpoint = await server.admin("POST", "/endpoints", json={"name": "e", "url": "http://127.0.0.1:9/v1", "sync": False})
    fields = {"type": "standard", "model_name": "m", "hosted_on": endpoint.body["id"], "batch_capacity": 6, "throughput": 7}
    model = f"/models/{(await server.admin('POST', '/models', json=fields)).body['id']}"
    page = await visitor.open(f"/admin{model}/limits")
    assert "atch" not in page.body.split("<main")[1]
    await visitor.send(f"/admin{model}/limits", [("revision", hidden(page, "revision")), ("capacity", "5")])
    stored = (await server.admin("GET", model)).body
    assert (stored["capacity"], stored["batch_capacity"], stored["throughput"]) == (5, 6, 7)

    assert "purpose=batch" not in (await visitor.open(f"/admin{model}/pricing")).body
    tariffs = [{"name": "b", "input_price_per_token": "0.0000005", "api_key_purpose": "batch"}]
    await server.admin("PATCH", model, json={"tariffs": tariffs})
    assert "purpose=batch" in (await visitor.open(f"/admin{model}/pricing")).body
    revision = hidden(await visitor.open(f"/admin{model}/pricing?purpose=batch"), "revision")
    await visitor.send(f"/admin{model}/pricing/end", [("purpose", "batch"), ("revision", revision)])
    assert "purpose=batch" not in (await visitor.open(f"/admin{model}/pricing")).body
