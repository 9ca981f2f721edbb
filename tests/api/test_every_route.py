"""Every route, every role, one's own and others' resources, against the declared policy, and the declarations against the matrix.

The matrix of rights and the table of declarations below are written out by hand, so that they do not share a mistake with the code.
"""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sanic import Sanic
from sanic.response import empty

from dwctl import ids
from dwctl.accounts.policy import OPERATIONS, RESOURCES
from dwctl.config import ROLES
from dwctl.doorway import Authenticated, InferenceKey, MetricsReader, Needs, Public, Route, declare, policy_of, route_table, verify
from dwctl.errors import ConfigurationError
from tests.administration import Administration, configuration, serving

NOTHING = "11111111-1111-4111-8111-111111111111"
ACTIONS = {"c": "create", "r": "read", "u": "update", "d": "delete"}


def rights(text: str) -> set[tuple[str, str]]:
    """``Users:R,ro``: capital letters are rights over everybody's, small ones with ``o`` over one's own."""
    found = set()
    for part in text.split():
        resource, _, letters = part.partition(":")
        for token in letters.split(","):
            if token.isupper():
                found |= {(resource, f"{ACTIONS[letter.lower()]}_all") for letter in token}
            else:
                found |= {(resource, f"{ACTIONS[letter]}_own") for letter in token.removesuffix("o")}
    return found


MATRIX: dict[str, set[tuple[str, str]]] = {
    "PlatformManager": set(itertools.product(set(RESOURCES) - {"Requests"}, set(OPERATIONS) - {"system_access"})),
    "StandardUser": rights("Models:ro CompositeModels:ro ApiKeys:crudo Users:ruo Credits:ro Webhooks:crudo Organizations:cruo"),
    "RequestViewer": rights("Requests:R,ro Analytics:R,ro Users:ro Groups:ro Credits:ro"),
    "BillingManager": rights("Credits:CRUD,crudo Users:R"),
    "BatchAPIUser": rights("Files:crdo Batches:crudo"),
    "ConnectionsUser": rights("Connections:crudo Files:ro Batches:ro"),
    "BackgroundInferenceUser": set(),
    "nothing": set(),
    "administrator": set(itertools.product(RESOURCES, OPERATIONS)),
}

DECLARED = """
GET    /authentication/login                              anyone
GET    /authentication/register                           anyone
POST   /authentication/login                              anyone
POST   /authentication/register                           anyone
POST   /authentication/logout                             anyone
POST   /authentication/password-change                    signed-in
POST   /authentication/password-resets                    anyone
POST   /authentication/password-resets/{token_id}/confirm  anyone
GET    /admin/api/v1/users                                Users read_all
POST   /admin/api/v1/users                                Users create_all
GET    /admin/api/v1/users/{user_id}                      Users read_all own
PATCH  /admin/api/v1/users/{user_id}                      Users update_all own
DELETE /admin/api/v1/users/{user_id}                      Users delete_all
GET    /admin/api/v1/users/{user_id}/groups               Users read_all own
POST   /admin/api/v1/users/{user_id}/groups/{group_id}    Users update_all
DELETE /admin/api/v1/users/{user_id}/groups/{group_id}    Users update_all
GET    /admin/api/v1/users/{user_id}/api-keys             ApiKeys read_all own
POST   /admin/api/v1/users/{user_id}/api-keys             ApiKeys create_all own
GET    /admin/api/v1/users/{user_id}/api-keys/{key_id}    ApiKeys read_all own
PATCH  /admin/api/v1/users/{user_id}/api-keys/{key_id}    ApiKeys update_all own
DELETE /admin/api/v1/users/{user_id}/api-keys/{key_id}    ApiKeys delete_all own
POST   /admin/api/v1/users/{user_id}/api-keys/{key_id}/rotate  ApiKeys update_all own
GET    /admin/api/v1/groups                               Groups read_all
POST   /admin/api/v1/groups                               Groups create_all
GET    /admin/api/v1/groups/{group_id}                    Groups read_all
PATCH  /admin/api/v1/groups/{group_id}                    Groups update_all
DELETE /admin/api/v1/groups/{group_id}                    Groups delete_all
GET    /admin/api/v1/groups/{group_id}/users              Users read_all
POST   /admin/api/v1/groups/{group_id}/users/{user_id}    Groups update_all
DELETE /admin/api/v1/groups/{group_id}/users/{user_id}    Groups update_all
GET    /admin/api/v1/groups/{group_id}/models             Groups read_all
POST   /admin/api/v1/groups/{group_id}/models/{model_id}  Groups update_all
DELETE /admin/api/v1/groups/{group_id}/models/{model_id}  Groups update_all
GET    /admin/api/v1/models/{model_id}/groups             Groups read_all
GET    /admin/api/v1/models                               signed-in
GET    /admin/api/v1/models/{model_id}                    signed-in
POST   /admin/api/v1/models                               Models create_all
PATCH  /admin/api/v1/models/{model_id}                    Models update_all
DELETE /admin/api/v1/models/{model_id}                    Models delete_all
GET    /admin/api/v1/endpoints                            Endpoints read_all
POST   /admin/api/v1/endpoints                            Endpoints create_all
GET    /admin/api/v1/endpoints/{endpoint_id}              Endpoints read_all
PATCH  /admin/api/v1/endpoints/{endpoint_id}              Endpoints update_all
DELETE /admin/api/v1/endpoints/{endpoint_id}              Endpoints delete_all
POST   /admin/api/v1/endpoints/validate                   Endpoints create_all
POST   /admin/api/v1/endpoints/{endpoint_id}/synchronize  Endpoints update_all
POST   /admin/api/v1/transactions                         Credits create_all
GET    /admin/api/v1/transactions                         signed-in
GET    /admin/api/v1/transactions/{transaction_id}        signed-in
GET    /admin/api/v1/requests                             Requests read_all
GET    /admin/api/v1/requests/{request_id}                Requests read_all
GET    /admin/api/v1/requests/aggregate                   Analytics read_all
GET    /admin/api/v1/requests/aggregate-by-user           Analytics read_all
GET    /admin/api/v1/usage                                signed-in
GET    /admin/api/v1/config                               signed-in
GET    /admin/openapi.json                                System read_all
GET    /ai/openapi.json                                   signed-in, also with keys for models
GET    /admin/api/v1/audit                                System read_all
"""


def _declared(route: Route) -> str:
    policy = route.policy
    if isinstance(policy, Public):
        return "anyone"
    if isinstance(policy, Authenticated):
        return "signed-in, also with keys for models" if policy.any_key else "signed-in"
    assert isinstance(policy, Needs)
    assert policy.own in (None, "user_id")
    return f"{policy.resource} {policy.operation}{' own' if policy.own else ''}"


@pytest.fixture
async def lone_server(sqlite_url: str, data_dir: Path) -> AsyncIterator[Administration]:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as running:
        yield running


async def test_declarations_are_the_references(lone_server: Administration) -> None:
    found = {f"{route.method} {route.template}": _declared(route) for route in route_table(lone_server.app)}
    written = {}
    for line in DECLARED.strip().splitlines():
        method, path, policy = line.split(maxsplit=2)
        written[f"{method} {path}"] = policy
    assert found == written


async def _with_exact_roles(server: Administration, role: str) -> tuple[str, str]:
    """The id and a platform key of a user who has this role alone."""
    user_id = await server.person()
    secret = await server.key_of(user_id)
    roles, is_admin = ([role], False) if role in ROLES else ([], role == "administrator")

    async def write(tx: Any) -> int:
        text = '["' + '","'.join(roles) + '"]' if roles else "[]"
        await tx.execute("UPDATE users SET roles = ?, is_admin = ? WHERE id = ?", (text, is_admin, user_id))
        return await server.services.changes.note(tx, "user", user_id)

    await server.services.changes.applied(await server.services.store.write(write))
    return user_id, secret


def _may(route: Route, role: str, *, own: bool) -> bool:
    policy = route.policy
    if not isinstance(policy, Needs):
        return True
    granted = MATRIX[role]
    if (policy.resource, policy.operation) in granted:
        return True
    mine = policy.operation.replace("_all", "_own")
    return policy.own is not None and own and (policy.resource, mine) in granted


@pytest.mark.parametrize("role", list(MATRIX))
async def test_every_route_for_a_role(server: Administration, role: str) -> None:
    me, secret = await _with_exact_roles(server, role)
    other = await server.person()
    for route in route_table(server.app):
        targets = {"own": me, "current": "current", "other": other, "none": NOTHING} if "user_id" in route.parameters else {"": ""}
        for whose, user_id in targets.items():
            path = route.template
            for name in route.parameters:
                path = path.replace("{" + name + "}", user_id if name == "user_id" else NOTHING)
            answer = await server.ask(route.method, path, secret=secret)
            what = f"{role}: {route.method} {path} ({whose}): {answer}"
            assert answer.status != 401, what
            denied = answer.status == 403 and answer.body["error"]["code"] == "insufficient_permissions"
            if isinstance(route.policy, Needs):
                assert denied is not _may(route, role, own=whose in ("own", "current")), what
            assert answer.status < 500, what
            if route.method == "DELETE" and answer.status == 204:
                other = await server.person()
                targets["other"] = other


async def test_every_route_without_an_identity(server: Administration) -> None:
    wrong = {"Authorization": f"Bearer sk-{'x' * 43}"}
    realtime = await server.key_of(await server.person("PlatformManager"), "realtime")
    for route in route_table(server.app):
        path = route.template
        for name in route.parameters:
            path = path.replace("{" + name + "}", "current" if name == "user_id" else NOTHING)
        answers = [
            await server.ask(route.method, path),
            await server.ask(route.method, path, headers=wrong),
            await server.ask(route.method, path, cookie="dwctl_session=x"),
        ]
        if not (isinstance(route.policy, Authenticated) and route.policy.any_key):
            answers.append(await server.ask(route.method, path, secret=realtime))
        for answer in answers:
            assert (answer.status == 401) is not isinstance(route.policy, Public), f"{route.method} {path}: {answer}"


async def test_routes_with_handlers_of_their_own(lone_server: Administration) -> None:
    platform = await lone_server.admin_secret()
    seen = set()
    for route in lone_server.app.router.routes:
        policy = policy_of(route.handler)
        assert policy is not None, route
        if not isinstance(policy, InferenceKey | MetricsReader):
            continue
        seen.add(type(policy))
        path = "/" + "/".join("x" if part.startswith("<") else part for part in route.path.split("/"))
        for method in route.methods:
            if isinstance(policy, InferenceKey):
                assert (await lone_server.ask(method, path)).status == 401, path
                assert (await lone_server.ask(method, path, secret="sk-wrong")).status in (401, 403), path
                answer = await lone_server.ask(method, path, secret=platform, json={"model": "m"} if method == "POST" else None)
                assert answer.status in (401, 403), f"{method} {path}: {answer}"
    assert InferenceKey in seen


async def test_undeclared_route_fails_the_start(sqlite_url: str, data_dir: Path) -> None:
    async def forgotten(_: object, some_id: str) -> object:
        return empty()

    def prepare(app: Sanic, _: object) -> None:
        app.add_route(forgotten, "/forgotten/<some_id>", methods=["GET"])  # type: ignore[arg-type]
        verify(app)

    with pytest.raises(ConfigurationError, match="GET /forgotten/"):
        async with serving(sqlite_url, configuration(data_dir, sqlite_url), prepare):
            pass
    declare(forgotten, Public())
    async with serving(sqlite_url, configuration(data_dir, sqlite_url), prepare) as server:
        assert (await server.ask("GET", f"/forgotten/{ids.new_text()}")).status == 204
