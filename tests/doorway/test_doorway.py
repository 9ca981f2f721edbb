"""The doorway around handlers: CORS, outages, failures, metrics, revisions."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sanic import Sanic

from dwctl import doorway
from dwctl.config.schema import Auth, Cors, Native, Security
from dwctl.doorway import Answer, Context, InferenceKey, MetricsReader, Needs, Public, Route, declare, policy_of, route
from dwctl.doorway.peers import TrustedProxies
from dwctl.telemetry import metrics
from tests.administration import QUICK, configuration, serving

ROUTES: list[Route] = []


class Echo(msgspec.Struct):
    revision: int
    text: str


@route(ROUTES, "GET", "/test/fails", policy=Public(), summary="Fails")
async def fails(context: Context) -> None:
    raise RuntimeError("a secret of the inside")


@route(ROUTES, "GET", "/test/echo/<text>", policy=Public(), returns=Echo, status=201, summary="Echo")
async def echo(context: Context) -> Echo:
    """What was sent."""
    return Echo(7, context.parameters["text"])


@route(ROUTES, "GET", "/test/cookies", policy=Public(), summary="Two cookies")
async def cookies(context: Context) -> Answer:
    return Answer({"who": context.visitor}, status=202, revision=3, headers={"x-more": "1"}, cookies=["a=1", "b=2"])


def with_test_routes(app: Sanic, services: Any) -> None:
    doorway.install(app, services, ROUTES)
    doorway.verify(app)


async def test_answers(sqlite_url: str, data_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url), with_test_routes) as server:
        failed = await server.ask("GET", "/test/fails")
        assert (failed.status, failed.body["error"]["code"]) == (500, "internal_error")
        assert "secret" not in str(failed.body)
        echoed = await server.ask("GET", "/test/echo/hello%20there")
        assert (echoed.status, echoed.body["text"], echoed.headers["ETag"]) == (201, "hello%20there", '"7"')
        assert echoed.headers["Cache-Control"] == "no-store"
        assert echoed.headers["X-Content-Type-Options"] == "nosniff"
        several = await server.ask("GET", "/test/cookies")
        assert (several.status, several.body, several.headers["ETag"], several.headers["X-More"]) == (202, {"who": None}, '"3"', "1")
        assert several.headers.getall("Set-Cookie") == ["a=1", "b=2"]
        assert {each.path for each in ROUTES} <= {each.path for each in doorway.route_table(server.app)}
        text = metrics.render().decode()
        assert 'dwctl_http_requests_total{endpoint="/test/echo/{text}",method="GET",status="201"}' in text
        assert 'dwctl_http_requests_pending{endpoint="/test/echo/{text}",method="GET"} 0.0' in text


async def test_unknown_paths_and_methods_are_json(sqlite_url: str, data_dir: Path) -> None:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as server:
        for method, path, status in (("GET", "/admin/api/v1/nothing", 404), ("PUT", "/admin/api/v1/users", 405)):
            answer = await server.ask(method, path)
            assert answer.status == status
            assert answer.message


async def test_a_refused_method_names_those_that_are_taken(sqlite_url: str, data_dir: Path) -> None:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as server:
        for method, path, allowed in (
            ("PUT", "/admin/api/v1/users", {"GET", "POST"}),
            ("PUT", "/admin/api/v1/groups/1", {"GET", "PATCH", "DELETE"}),
            ("PUT", "/admin/api/v1/users/current/api-keys", {"GET", "POST"}),
            ("DELETE", "/v1/chat/completions", {"POST"}),
            ("GET", "/ai/v1/nothing", {"POST"}),
            ("PATCH", "/ai/v1/models/a/b", {"GET"}),
            ("POST", "/models/1", {"GET", "HEAD"}),
        ):
            for accept in ("application/json", "text/html"):
                answer = await server.ask(method, path, headers={"accept": accept})
                assert answer.status == 405, f"{path}: {answer}"
                assert {*answer.headers["Allow"].split(", ")} == allowed, path


async def test_cors(sqlite_url: str, data_dir: Path) -> None:
    ui, evil = "https://ui.example", "https://evil.example"
    cors = Cors(allowed_origins=(ui,), allow_credentials=True, max_age=60.0)
    auth = Auth(native=Native(password=QUICK), security=Security(cors=cors))
    async with serving(sqlite_url, configuration(data_dir, sqlite_url, auth=auth)) as server:
        path = "/admin/api/v1/users/current"
        preflight = await server.ask("OPTIONS", path, headers={"Origin": ui, "Access-Control-Request-Method": "PATCH"})
        assert preflight.status == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == ui
        assert preflight.headers["Access-Control-Allow-Credentials"] == "true"
        assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
        assert preflight.headers["Access-Control-Max-Age"] == "60"
        assert "Access-Control-Allow-Origin" not in (await server.ask("OPTIONS", path, headers={"Origin": evil})).headers
        cookie = await server.cookie_of()
        changed = await server.ask("PATCH", path, cookie=cookie, json={}, headers={"Origin": ui, "Sec-Fetch-Site": "cross-site"})
        assert (changed.status, changed.headers["Access-Control-Allow-Origin"], changed.headers["Vary"]) == (200, ui, "Origin")
        assert (await server.ask("PATCH", path, cookie=cookie, json={}, headers={"Origin": evil})).status == 403
    cors = Cors(allowed_origins=("*",), allow_credentials=True)
    auth = Auth(native=Native(password=QUICK), security=Security(cors=cors))
    async with serving(sqlite_url, configuration(data_dir, sqlite_url, auth=auth)) as server:
        answer = await server.ask("OPTIONS", path, headers={"Origin": evil})
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers
        cookie = await server.cookie_of()
        assert (await server.ask("PATCH", path, cookie=cookie, json={}, headers={"Origin": evil})).status == 403


async def test_origins_without_credentials_do_not_share_the_cookie(sqlite_url: str, data_dir: Path) -> None:
    cors = Cors(allowed_origins=("https://ui.example",))
    auth = Auth(native=Native(password=QUICK), security=Security(cors=cors))
    async with serving(sqlite_url, configuration(data_dir, sqlite_url, auth=auth)) as server:
        sent = {"Origin": "https://ui.example"}
        answer = await server.ask("PATCH", "/admin/api/v1/users/current", cookie=await server.cookie_of(), json={}, headers=sent)
        assert answer.status == 403


async def test_pages_of_other_origins_may_call_models(sqlite_url: str, data_dir: Path) -> None:
    ui, evil = "https://ui.example", "https://evil.example"
    auth = Auth(native=Native(password=QUICK), security=Security(cors=Cors(allowed_origins=(ui,), max_age=60.0)))
    names = "authorization, Content-Type,x-stainless-os, x-dwctl-tags"
    async with serving(sqlite_url, configuration(data_dir, sqlite_url, auth=auth)) as server:
        asked = 0
        for route in server.app.router.routes:
            path = "/" + "/".join("x" if part.startswith("<") else part for part in route.path.split("/"))
            if not isinstance(policy_of(route.handler), InferenceKey) and path not in ("/ai", "/ai/v1", "/v1", "/api/version"):
                continue
            for method in route.methods:
                sent = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": f"{names}, a b"}
                preflight = await server.ask("OPTIONS", path, headers={"Origin": ui, **sent})
                assert (preflight.status, preflight.body) == (204, b""), path
                assert preflight.headers["Access-Control-Allow-Origin"] == ui
                assert method in {"HEAD", *preflight.headers["Access-Control-Allow-Methods"].split(", ")}, "HEAD is always allowed"
                assert preflight.headers["Access-Control-Allow-Headers"] == names.replace("e,x", "e, x"), "no header's name has a blank"
                assert preflight.headers["Access-Control-Max-Age"] == "60"
                refused = await server.ask("OPTIONS", path, headers={"Origin": evil, **sent})
                assert not [name for name in refused.headers if name.lower().startswith("access-control-")], path
                asked += 1
        assert asked > 30
        secret = await server.key_of(await server.person(), "realtime")
        chat = {"json": {"model": "m"}}
        for status, method, path, options in (
            (200, "GET", "/ai/v1/models", {"secret": secret}),
            (200, "GET", "/api/version", {}),
            (200, "HEAD", "/v1", {}),
            (401, "GET", "/v1/models", {}),
            (401, "POST", "/ai/v1/chat/completions", chat),
            (403, "POST", "/v1/messages", {"secret": "sk-wrong", **chat}),
            (404, "POST", "/ai/api/chat", {"secret": secret, **chat}),
            (404, "GET", "/ai/v1/models/m", {"secret": secret}),
            (404, "GET", "/api/nothing", {}),
            (405, "PUT", "/v1/responses", {}),
        ):
            answer = await server.ask(method, path, headers={"Origin": ui}, **options)
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (status, ui), path
            assert answer.headers.getall("Vary") == ["Origin"]
            assert {"x-request-id", "request-id", "retry-after"} <= {*answer.headers["Access-Control-Expose-Headers"].split(", ")}
            assert "Access-Control-Allow-Credentials" not in answer.headers
            for origin in ({"Origin": evil}, {}):
                answer = await server.ask(method, path, headers=origin, **options)
                assert answer.status == status
                assert not [name for name in answer.headers if name.lower().startswith("access-control-")], path
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as server:
        for path in ("/ai/v1/chat/completions", "/v1/models", "/api/chat"):
            assert (await server.ask("OPTIONS", path, headers={"Origin": ui, "Access-Control-Request-Method": "POST"})).status == 405
            answer = await server.ask("GET" if path == "/v1/models" else "POST", path, headers={"Origin": ui})
            assert not [name for name in answer.headers if name.lower().startswith("access-control-")], path


async def test_database_away_is_503(sqlite_url: str, data_dir: Path) -> None:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as server:
        secret = await server.admin_secret()
        cookie = await server.cookie_of()
        other = sqlite3.connect(data_dir / "dwctl.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        try:
            answers = await asyncio.gather(
                server.ask("POST", "/admin/api/v1/groups", secret=secret, json={"name": "crew"}),
                server.ask("POST", "/authentication/logout", cookie=cookie),
            )
        finally:
            other.execute("ROLLBACK")
            other.close()
        for answer in answers:
            assert (answer.status, answer.body["error"]["code"]) == (503, "database_unavailable")
            assert answer.headers["Retry-After"] == "5"
        assert (await server.ask("POST", "/admin/api/v1/groups", secret=secret, json={"name": "crew"})).status == 201


async def test_policies_that_the_doorway_cannot_enforce_are_refused(sqlite_url: str, data_dir: Path) -> None:
    for policy in (InferenceKey(), MetricsReader()):
        table = [Route("GET", "/test/x", echo, policy, "x")]

        def prepare(app: Sanic, services: Any, table: list[Route] = table) -> None:
            doorway.install(app, services, table)

        with pytest.raises(TypeError):
            async with serving(sqlite_url, configuration(data_dir, sqlite_url), prepare):
                pass


def test_declarations_stay_with_their_handler() -> None:
    from functools import partial

    def one() -> None: ...
    def two() -> None: ...

    assert policy_of(one) is None
    declare(one, Public())
    assert policy_of(one) == Public()
    assert policy_of(partial(one)) == Public()
    assert policy_of(two) is None
    bound = declare(partial(two), Needs("Users", "read_all"))
    assert policy_of(bound) == Needs("Users", "read_all")
    assert policy_of(two) is None


def test_routes_describe_themselves() -> None:
    described = next(each for each in ROUTES if each.path == "/test/echo/<text>")
    assert (described.template, described.parameters, described.description) == ("/test/echo/{text}", ("text",), "What was sent.")


@pytest.mark.parametrize(
    ("networks", "address", "inside"),
    [
        ([], "127.0.0.1", False),
        (["127.0.0.1"], "127.0.0.1", True),
        (["127.0.0.1"], "127.0.0.2", False),
        (["10.0.0.0/8"], "10.255.0.1", True),
        (["10.0.0.0/8"], "::ffff:10.0.0.1", True),
        (["10.0.0.0/8"], "2001:db8::1", False),
        (["2001:db8::/32"], "2001:db8::1", True),
        (["0.0.0.0/0"], "nonsense", False),
    ],
)
def test_trusted_networks(networks: list[str], address: str, inside: bool) -> None:
    assert (address in TrustedProxies(networks)) is inside
