"""The OpenAPI documents: they say what is served, resolve in themselves, and show themselves to whom they should."""

from pathlib import Path
from typing import Any

import pytest

from dwctl.api import inference_reference, openapi
from dwctl.config.schema import Openapi
from dwctl.doorway import InferenceKey, Needs, policy_of, route_table
from tests.administration import Administration, configuration, serving


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return found.union(*map(_references, value.values()))
    return set().union(*map(_references, value)) if isinstance(value, list) else set()


def _resolves(document: dict[str, Any], reference: str) -> bool:
    at: Any = document
    for step in reference.removeprefix("#/").split("/"):
        at = at.get(step) if isinstance(at, dict) else None
    return at is not None


@pytest.fixture
async def sqlite_server(sqlite_url: str, data_dir: Path) -> Any:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as running:
        yield running


async def test_every_administrative_route_is_described(sqlite_server: Administration) -> None:
    answer = await sqlite_server.ask("GET", "/admin/openapi.json", secret=await sqlite_server.admin_secret())
    assert answer.status == 200
    document = answer.body
    assert document["openapi"] == "3.1.0"
    described = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    served = {(route.method, route.template) for route in route_table(sqlite_server.app) if not route.path.endswith("openapi.json")}
    assert described == served
    assert len(described) > 50
    assert all(_resolves(document, reference) for reference in _references(document))
    operation_ids = [operation["operationId"] for operations in document["paths"].values() for operation in operations.values()]
    assert len(operation_ids) == len(set(operation_ids))
    for route in route_table(sqlite_server.app):
        if route.path.endswith("openapi.json"):
            continue
        operation = document["paths"][route.template][route.method.lower()]
        assert operation["summary"]
        if isinstance(route.policy, Needs):
            assert operation["x-policy"]["resource"] == route.policy.resource
            assert "403" in operation["responses"]
        in_path = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"]
        assert tuple(in_path) == route.parameters
        queried = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
        assert queried == set(route.query.__struct_fields__ if route.query else ())
        assert ("requestBody" in operation) == (route.body is not None)
    [tag] = [found for found in document["paths"]["/admin/api/v1/requests"]["get"]["parameters"] if found["name"] == "tag"]
    tags = document["components"]["schemas"]["RequestEntry"]["properties"]["tags"]
    assert all("x-dwctl-tags" in described for described in (tag["schema"]["description"], tags["description"]))


async def test_inference_is_described_as_it_is_served(sqlite_server: Administration) -> None:
    document = openapi.inference_document()
    described = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    served = set()
    for route in sqlite_server.app.router.routes:
        path = f"/{route.path}"
        if isinstance(policy_of(route.handler), InferenceKey) and path.startswith(inference_reference.ROOT):
            template = path.replace("<", "{").replace(">", "}").replace("__dwctl", "")
            for name in ("path", "model_id", "response_id"):
                template = template.replace(f"{{{name}:path}}", f"{{{name}}}")
            served |= {(method, template) for method in route.methods}
    assert described == served
    assert all(_resolves(document, reference) for reference in _references(document))
    for operations in document["paths"].values():
        for method, operation in operations.items():
            assert ("x-dwctl-tags" in [parameter["name"] for parameter in operation["parameters"]]) == (method == "post")


async def test_who_may_read_them(sqlite_server: Administration) -> None:
    person = await sqlite_server.person()
    platform, inference = await sqlite_server.key_of(person), await sqlite_server.key_of(person, "realtime")
    manager = await sqlite_server.key_of(await sqlite_server.person("PlatformManager"))
    ask = sqlite_server.ask
    assert (await ask("GET", "/admin/openapi.json")).status == 401
    assert (await ask("GET", "/admin/openapi.json", secret=platform)).status == 403
    assert (await ask("GET", "/admin/openapi.json", secret=manager)).status == 200
    assert (await ask("GET", "/ai/openapi.json")).status == 401
    for secret in (platform, inference, manager):
        assert (await ask("GET", "/ai/openapi.json", secret=secret)).status == 200


async def test_switched_off(sqlite_url: str, data_dir: Path) -> None:
    config = configuration(data_dir, sqlite_url, openapi=Openapi(admin_enabled=False, ai_enabled=False))
    async with serving(sqlite_url, config) as server:
        secret = await server.admin_secret()
        assert (await server.ask("GET", "/admin/openapi.json", secret=secret)).status == 404
        assert (await server.ask("GET", "/ai/openapi.json", secret=secret)).status == 404
