"""The OpenAPI documents: they say what is served and what it answers, are valid, and show themselves to whom they should."""

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from dwctl import simulator
from dwctl.accounts import NIL
from dwctl.api import openapi
from dwctl.config.schema import Openapi
from dwctl.doorway import Needs, route_table
from dwctl.operations.catalog_views import INCLUDES
from tests.administration import ADMIN_EMAIL, Administration, Answer, configuration, serving

NOTHING = "11111111-1111-4111-8111-111111111111"
ANTHROPIC = {"anthropic-version": "2023-06-01"}
ROLES = ("PlatformManager", "StandardUser", "RequestViewer", "BillingManager")


class Described:
    """A document that everything is held against."""

    def __init__(self, document: dict[str, Any]) -> None:
        OpenAPIV31SpecValidator(document).validate()
        self.document = document

    def operation(self, method: str, template: str) -> Any:
        return self.document["paths"][template][method.lower()]

    def _fits(self, value: Any, schema: dict[str, Any]) -> None:
        Draft202012Validator({**schema, "components": self.document["components"]}).validate(value)

    def takes(self, method: str, template: str, body: Any) -> None:
        self._fits(body, self.operation(method, template)["requestBody"]["content"]["application/json"]["schema"])

    def answers(self, method: str, template: str, answer: Answer) -> None:
        """Success has its own status, headers and body; what is wrong may be under ``default``."""
        described = self.operation(method, template)["responses"]
        assert str(answer.status) in described or answer.status >= 400, answer
        response = described.get(str(answer.status), described["default"])
        if "$ref" in response:
            response = self.document["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
        assert ("etag" in answer.headers) == ("etag" in response.get("headers", {})), answer
        if "content" not in response:
            assert answer.body == b"", answer
            return
        schema = response["content"][answer.headers["Content-Type"].partition(";")[0]]["schema"]
        self._fits(answer.body if isinstance(answer.body, dict | list | str) else answer.body.decode(), schema)


@pytest.fixture
async def sqlite_server(sqlite_url: str, data_dir: Path) -> Any:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as running:
        yield running


def _described(server: Administration) -> Described:
    return Described(openapi.admin_document(route_table(server.app)))


async def test_every_administrative_route_is_described(sqlite_server: Administration) -> None:
    answer = await sqlite_server.ask("GET", "/admin/openapi.json", secret=await sqlite_server.admin_secret())
    assert answer.status == 200
    document = Described(answer.body).document
    described = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    served = {(route.method, route.template) for route in route_table(sqlite_server.app) if not route.path.endswith("openapi.json")}
    assert described == served
    assert len(described) > 50
    for route in route_table(sqlite_server.app):
        if route.path.endswith("openapi.json"):
            continue
        operation = document["paths"][route.template][route.method.lower()]
        assert operation["summary"]
        if isinstance(route.policy, Needs):
            assert operation["x-policy"]["resource"] == route.policy.resource
        in_path = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"]
        assert tuple(in_path) == route.parameters
        queried = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
        assert queried == set(route.query.__struct_fields__ if route.query else ())
        assert ("requestBody" in operation) == (route.body is not None)
    [tag] = [found for found in document["paths"]["/admin/api/v1/requests"]["get"]["parameters"] if found["name"] == "tag"]
    tags = document["components"]["schemas"]["RequestEntry"]["properties"]["tags"]
    assert all("x-dwctl-tags" in described for described in (tag["schema"]["description"], tags["description"]))


async def test_each_role_is_answered_as_described(sqlite_server: Administration) -> None:
    """Bodies that are taken, and whatever each role gets to read: fields that it may not see are not promised to it."""
    server, described = sqlite_server, _described(sqlite_server)
    secrets = {"administrator": await server.admin_secret()}
    people = {role: await server.person(role) for role in ROLES}
    secrets |= {role: await server.key_of(user_id) for role, user_id in people.items()}

    async def send(method: str, template: str, body: Any = None, **ids: str) -> Any:
        template = f"/admin/api/v1{template}"
        if body is not None:
            described.takes(method, template, body)
        answer = await server.ask(method, template.format(**ids), secret=secrets["administrator"], json=body)
        assert answer.status < 300, answer
        described.answers(method, template, answer)
        return answer.body

    running = await simulator.start()
    try:
        endpoint = await send("POST", "/endpoints", {"name": "sim", "url": running.url, "model_filter": ["sim-chat"]})
        await send("POST", "/endpoints/validate", {"type": "existing", "endpoint_id": endpoint["id"]})
        await send("POST", "/endpoints/{endpoint_id}/synchronize", endpoint_id=endpoint["id"])
    finally:
        await running.close()
    [imported] = (await send("GET", "/models"))["data"]
    prices = [{"name": "as number", "input_price_per_token": 0.0000025, "output_price_per_token": "0.00001"}]
    model = await send("POST", "/models", {"model_name": "m", "hosted_on": endpoint["id"], "tariffs": prices, "groups": [NIL]})
    model = await send("PATCH", "/models/{model_id}", {"requests_per_second": 2.5}, model_id=model["id"])
    group = await send("POST", "/groups", {"name": "g", "description": "d"})
    await send("PATCH", "/groups/{group_id}", {"description": None}, group_id=group["id"])
    await send("POST", "/groups/{group_id}/models/{model_id}", group_id=group["id"], model_id=imported["id"])
    user = await send("POST", "/users", {"username": "u", "email": "u@example.com", "roles": ["StandardUser"]})
    await send("POST", "/groups/{group_id}/users/{user_id}", group_id=group["id"], user_id=user["id"])
    key = await send("POST", "/users/{user_id}/api-keys", {"name": "k", "purpose": "realtime"}, user_id=user["id"])
    await send("POST", "/users/{user_id}/api-keys/{key_id}/rotate", user_id=user["id"], key_id=key["id"])
    given: dict[str, Any] = {"user_id": people["StandardUser"], "transaction_type": "admin_grant", "amount": 2.5}
    for amount in (2.5, "0.000000001"):
        transaction = await send("POST", "/transactions", given | {"amount": amount})
    refused = await server.ask("POST", "/ai/v1/chat/completions", secret=await server.key_of(user["id"], "realtime"), json={"model": "x"})
    await server.services.ledger.recorded()

    ids = {"user_id": "current", "key_id": key["id"], "group_id": group["id"], "endpoint_id": endpoint["id"], "model_id": model["id"]}
    ids |= {"transaction_id": transaction["id"], "request_id": refused.headers["x-request-id"]}
    includes = {"users": "groups,billing", "groups": "users,models", "models": ",".join(INCLUDES)}
    reads = [route for route in route_table(server.app) if route.method == "GET" and route.path.startswith("/admin/api/")]
    for role, secret in secrets.items():
        for route in reads:
            query: list[str] = []
            if "include" in getattr(route.query, "__struct_fields__", ()):
                query.append(f"include={includes[route.path.split('/')[4]]}")
            if "model" in getattr(route.query, "__struct_fields__", ()):
                query.append("model=x")
            names = ids | ({"user_id": user["id"]} if role == "administrator" else {})
            answer = await server.ask("GET", f"{route.template.format(**names)}?{'&'.join(query)}", secret=secret)
            assert answer.status == 200 or role != "administrator", f"{route.path}: {answer}"
            described.answers("GET", route.template, answer)
    shown = await server.ask("GET", f"/admin/api/v1/models/{model['id']}", secret=secrets["StandardUser"])
    assert (shown.status, "requests_per_second" in shown.body, "created_by" in shown.body) == (200, False, False)

    await send("DELETE", "/users/{user_id}/api-keys/{key_id}", user_id=user["id"], key_id=key["id"])
    for kind in ("user", "group", "model", "endpoint"):
        await send("DELETE", f"/{kind}s/{{{kind}_id}}", **{f"{kind}_id": {**ids, "user_id": user["id"]}[f"{kind}_id"]})


async def test_refusals_are_as_described(sqlite_server: Administration) -> None:
    server, described = sqlite_server, _described(sqlite_server)
    login = "/authentication/login"
    wrong = {"email": ADMIN_EMAIL, "password": "not this one"}
    described.takes("POST", login, wrong)
    admin, person = await server.admin_secret(), await server.key_of(await server.person())
    nobody_there = {"type": "new", "url": "http://127.0.0.1:9"}
    asked: list[tuple[int, str, str, dict[str, Any]]] = [
        (401, "POST", login, {"json": wrong}),
        (413, "POST", login, {"data": b"{" + b" " * 100_000}),
        (415, "POST", login, {"data": b"{}", "headers": {"Content-Type": "text/plain"}}),
        (422, "POST", login, {"json": {"email": 1}}),
        (401, "GET", "/admin/api/v1/usage", {}),
        (403, "GET", "/admin/api/v1/usage", {"secret": person, "query": f"?user_id={NOTHING}"}),
        (403, "GET", "/admin/api/v1/transactions", {"secret": person, "query": "?all=true"}),
        (404, "GET", "/admin/api/v1/groups/{group_id}", {"secret": admin}),
        (500, "POST", "/admin/api/v1/endpoints/validate", {"secret": admin, "json": nobody_there}),
    ]
    for status, method, template, sent in asked:
        answer = await server.ask(method, template.format(group_id=NOTHING) + sent.pop("query", ""), **sent)
        assert answer.status == status, f"{method} {template}: {answer}"
        described.answers(method, template, answer)
    while (answer := await server.ask("POST", login, json=wrong)).status == 401:
        pass
    assert answer.status == 429
    described.answers("POST", login, answer)
    assert int(answer.headers["Retry-After"]) > 0


async def test_if_match_is_described_where_it_is_obeyed(sqlite_server: Administration) -> None:
    secret, described = await sqlite_server.admin_secret(), _described(sqlite_server)
    obeyed = set()
    for route in route_table(sqlite_server.app):
        if route.method == "GET" or not route.path.startswith("/admin/api/"):
            continue
        path = route.template.format(**dict.fromkeys(route.parameters, NOTHING))
        answer = await sqlite_server.ask(route.method, path, secret=secret, json={}, headers={"if-match": "no tag"})
        parameters = [parameter["name"] for parameter in described.operation(route.method, route.template)["parameters"]]
        assert ("if-match" in parameters) == (answer.status == 412), f"{route.method} {path}: {answer}"
        described.answers(route.method, route.template, answer)
        obeyed |= {route.template} if answer.status == 412 else set()
    assert len(obeyed) >= 5


async def test_inference_is_described_as_it_is_served(sqlite_server: Administration) -> None:
    document = Described(openapi.inference_document()).document
    described = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    by_doorway = {route.path for route in route_table(sqlite_server.app)}
    served = set()
    for route in sqlite_server.app.router.routes:
        path = f"/{route.path}".replace("__dwctl", "")
        if path.startswith("/ai/") and path not in by_doorway:
            template = path.replace(":path>", ">").replace("<", "{").replace(">", "}")
            served |= {(method, template) for method in route.methods - {"HEAD"}}
    assert described == served
    calls = {path for path, operations in document["paths"].items() if "402" in operations.get("post", {"responses": {}})["responses"]}
    assert {"/ai/v1/messages", "/ai/api/generate", "/ai/v1/{path}"} <= calls
    assert not {"/ai/api/show", "/ai/v1/models"} & calls
    for path, operations in document["paths"].items():
        for operation in operations.values():
            names = {parameter["name"] for parameter in operation["parameters"]}
            assert ({"x-dwctl-tags", "model-override"} <= names) == (path in calls), path


async def test_models_answer_as_described(sqlite_server: Administration) -> None:
    server, described = sqlite_server, Described(openapi.inference_document())
    secret = await server.key_of(await server.person(), "realtime")
    running = await simulator.start()

    async def ask(method: str, path: str, status: int = 200, template: str | None = None, **sent: Any) -> Any:
        answer = await server.ask(method, f"/ai{path}", **{"secret": secret, **sent})
        assert answer.status == status, f"{path}: {answer}"
        assert answer.headers["x-request-id"]
        described.answers(method, f"/ai{template or path}", answer)
        return answer.body

    try:
        endpoint = (await server.admin("POST", "/endpoints", json={"name": "sim", "url": running.url})).body["id"]
        for model in (await server.admin("GET", f"/models?endpoint={endpoint}")).body["data"]:
            await server.admin("POST", f"/groups/{NIL}/models/{model['id']}")
        said = [{"role": "user", "content": "Hello"}]
        bodies: dict[str, dict[str, Any]] = {
            "/v1/chat/completions": {"messages": said},
            "/v1/responses": {"input": "Hello"},
            "/v1/messages": {"messages": said, "max_tokens": 9},
            "/v1/completions": {"prompt": "Hello"},
            "/api/chat": {"messages": said},
            "/api/generate": {"prompt": "Hello"},
        }
        for path, body in bodies.items():
            for stream in (False, True):
                body |= {"model": "sim-chat", "stream": stream}
                described.takes("POST", f"/ai{path}", body)
                streamed = isinstance(await ask("POST", path, json=body), bytes)
                assert streamed == stream, path
            assert isinstance(
                await ask("POST", path, json=body | {"stream": False, "model": "x"}, headers={"model-override": "sim-chat"}), dict
            )
        bodies |= {"/v1/embeddings": {"input": "Hello"}, "/api/embed": {"input": ["Hello"]}, "/api/embeddings": {"prompt": "Hello"}}
        for path in ("/v1/embeddings", "/api/embed", "/api/embeddings"):
            body = bodies[path] | {"model": "sim-embed"}
            described.takes("POST", f"/ai{path}", body)
            await ask("POST", path, json=body)
        counted = {"model": "sim-chat", "messages": said}
        described.takes("POST", "/ai/v1/messages/count_tokens", counted)
        await ask("POST", "/v1/messages/count_tokens", json=counted)
    finally:
        await running.close()
    for headers in ({}, ANTHROPIC):
        assert (await ask("GET", "/v1/models", headers=headers))["data"]
        await ask("GET", "/v1/models/sim-chat", template="/v1/models/{model_id}", headers=headers)
        await ask("GET", "/v1/models/none", 404, "/v1/models/{model_id}", headers=headers)
        await ask("GET", "/v1/models", 401, secret=None, headers=headers)
    assert (await ask("GET", "/v1/models", secret=None, headers={"x-api-key": secret}))["data"]
    assert (await ask("GET", "/api/tags"))["models"]
    await ask("POST", "/api/show", json={"model": "sim-chat"})
    await ask("POST", "/api/show", 404, json={"model": "none"})
    await ask("GET", "/api/version", secret=None)
    await ask("GET", "/v1/responses/r", 404, "/v1/responses/{response_id}")
    for path in bodies:
        await ask("POST", path, 401, secret=None, json={})
        await ask("POST", path, 403, secret="sk-unknown", json={})
        await ask("POST", path, 404, json={"model": "none"})


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
