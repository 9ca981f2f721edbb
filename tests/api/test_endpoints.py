"""Endpoints over REST: the credential that never comes back, import of models, following the provider's list."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dwctl import simulator
from dwctl.config.schema import Auth, Native, ProxyHeader
from dwctl.errors import ConfigurationError
from dwctl.operations.apply import apply
from dwctl.store import Tx
from tests.administration import QUICK, Administration, Answer, configuration, serving
from tests.scripted import Scripted, reply, scripted

CANARY = "sk-provider-canary"
NOBODY = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
async def provider() -> AsyncIterator[Scripted]:
    async with scripted() as running:
        yield running


def _static(name: str = "static", *models: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "url": "http://127.0.0.1:9/v1", "skip_fetch": True, "model_filter": list(models), **fields}


async def _aliases(server: Administration) -> list[str]:
    answer = await server.admin("GET", "/models?limit=100&sort=alias&sort_direction=asc")
    return [model["alias"] for model in answer.body["data"]]


async def test_create_imports_the_simulators_models_which_are_served_at_once(server: Administration) -> None:
    running = await simulator.start(api_key=CANARY)
    try:
        created = await server.admin(
            "POST",
            "/endpoints",
            json={"name": " sim ", "url": running.url, "api_key": CANARY, "alias_mapping": {"sim-chat": "friendly"}},
        )
        assert created.status == 201, created
        endpoint = created.body
        assert (endpoint["name"], endpoint["requires_api_key"], endpoint["auth_header_name"]) == ("sim", True, "Authorization")
        assert (endpoint["auth_header_prefix"], endpoint["model_filter"], endpoint["revision"]) == ("Bearer ", None, 1)
        models = (await server.admin("GET", f"/models?limit=100&endpoint={endpoint['id']}")).body["data"]
        by_name = {model["model_name"]: model for model in models}
        assert by_name["sim-chat"]["alias"] == "friendly"
        assert by_name["sim-embed"]["model_type"] == "EMBEDDINGS"
        assert by_name["sim-rerank"]["model_type"] == "RERANKER"
        served = server.services.snapshot().models["friendly"]
        assert served.candidates[0].endpoint.auth() == {"Authorization": f"Bearer {CANARY}"}
        # The list is empty for a key, since no group has been given the models.
        assert (await server.admin("GET", f"/endpoints/{endpoint['id']}")).body == endpoint
        assert (await server.admin("GET", "/endpoints")).body == [endpoint]
    finally:
        await running.close()


async def test_the_credential_is_nowhere_to_be_seen(server: Administration) -> None:
    created = await server.admin("POST", "/endpoints", json=_static(api_key=CANARY))
    path = f"/endpoints/{created.body['id']}"
    answers = [created, await server.admin("GET", path), await server.admin("GET", "/endpoints")]
    answers.append(await server.admin("PATCH", path, json={"api_key": CANARY + "2"}))
    answers.append(await server.admin("GET", "/audit"))
    for answer in answers:
        assert answer.status in (200, 201)
        assert CANARY not in repr(answer.body)
    rows = await server.services.store.fetch("SELECT * FROM inference_endpoints")
    assert CANARY.encode() not in bytes(rows[0]["sealed_credential"])
    cleared = await server.admin("PATCH", path, json={"api_key": None})
    assert cleared.body["requires_api_key"] is False
    before, after = (await server.audit("endpoints.update"))[1]["before"], (await server.audit("endpoints.update"))[1]["after"]
    assert (before, after) == ({"credential_changed": False}, {"credential_changed": True})


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"name": "  "}, "name"),
    ({"url": "ftp://h/"}, "url"),
    ({"url": "http://169.254.169.254/"}, "url"),
    ({"url": "http://user:secret@h/"}, "url"),
    ({"api_key": "two\nlines"}, "api_key"),
    ({"dialect": "grpc"}, "dialect"),
    ({"dialect": ""}, "dialect"),
    ({"auth_header_name": "no colon:"}, "auth_header_name"),
    ({"auth_header_name": "Content-Length"}, "auth_header_name"),
    ({"auth_header_name": "X-Doubleword-User"}, "auth_header_name"),
    ({"auth_header_name": "X-Forwarded-For"}, "auth_header_name"),
    ({"auth_header_prefix": "a\r\nb"}, "auth_header_prefix"),
    ({"forward_headers": ["authorization"]}, "forward_headers"),
    ({"forward_headers": ["x-api-key"]}, "forward_headers"),
    ({"forward_headers": ["X-dwctl-Tags"]}, "forward_headers"),
    ({"forward_headers": ["X-Doubleword-Email"]}, "forward_headers"),
    ({"forward_headers": ["X-Real-IP"]}, "forward_headers"),
    ({"forward_headers": ["not a header"]}, "forward_headers"),
    ({"max_concurrency": 0}, "max_concurrency"),
    ({"idle_timeout": -1}, "idle_timeout"),
    ({"reasoning_translation": {"responses": {}}}, "reasoning_translation"),
    ({"total_timeout": 1e9}, "total_timeout"),
    ({"model_filter": None}, "model_filter"),
    ({"model_filter": ["ok", ""]}, "model_filter"),
    ({"model_filter": ["a"], "alias_mapping": {"a": "b", "typo": "c"}}, "alias_mapping"),
]


async def test_what_cannot_be_is_refused_by_field(server: Administration) -> None:
    for changes, param in REFUSED:
        answer = await server.admin("POST", "/endpoints", json=_static() | changes)
        assert (answer.status, answer.param) == (400, param), answer
        assert "two\nlines" not in repr(answer.body)
    assert (await server.admin("GET", "/endpoints")).body == []


PROXYS = [
    *("x-user", "x-email", "x-groups", "x-idp", "X-Doubleword-User", "X-Doubleword-SSO-Provider"),
    *("X-Forwarded-For", "X-Forwarded-User", "X-Real-IP", "Forwarded", "Via"),
]


async def test_no_endpoint_speaks_as_a_proxy(sqlite_url: str, data_dir: Path, provider: Scripted) -> None:
    header = ProxyHeader(header_name="X-User", email_header_name="x-email", groups_field_name="x-groups", provider_field_name="x-idp")
    config = configuration(data_dir, sqlite_url, auth=Auth(native=Native(password=QUICK), proxy_header=header))
    async with serving(sqlite_url, config) as server:
        made = (await server.admin("POST", "/endpoints", json=_static("one", "a", api_key="k"))).body
        path = f"/endpoints/{made['id']}"
        for name in PROXYS:
            for field, value in (("auth_header_name", name), ("forward_headers", [name])):
                refused = await server.admin("PATCH", path, json={field: value})
                assert (refused.status, refused.param) == (400, field), name
            tried = {"type": "new", "url": provider.url, "api_key": "k", "auth_header_name": name}
            assert (await server.admin("POST", "/endpoints/validate", json=tried)).param == "auth_header_name", name
            with pytest.raises(ConfigurationError, match=r"auth_header_name must not be .* name the header that the provider reads"):
                await apply(server.services, {"endpoints": [{"name": "two", "url": provider.url, "auth_header_name": name}]})

        async def stored(column: str, value: str) -> Answer:
            """As if the row had been written before this was refused."""
            await server.services.store.write(
                lambda tx: tx.execute(
                    f"UPDATE inference_endpoints SET url = ?, {column} = ? WHERE id = ?", (provider.url, value, made["id"])
                )
            )
            return await server.admin("PATCH", path, json={"description": value})

        [candidate] = server.services.snapshot().models["a"].candidates
        assert candidate.endpoint.forward_headers == ()
        await stored("forward_headers", '["x-team", "x-user", "via"]')
        [candidate] = server.services.snapshot().models["a"].candidates
        assert candidate.endpoint.forward_headers == ("x-team",)
        with capture_logs() as logs:
            await stored("auth_header_name", "X-User")
        [reason] = [log["reason"] for log in logs if log["event"].endswith("endpoint_unusable")]
        assert "name the header that the provider reads" in reason
        assert server.services.snapshot().models["a"].candidates == ()
        for method, where, body in (
            ("POST", f"{path}/synchronize", None),
            ("POST", "/endpoints/validate", {"type": "existing", "endpoint_id": made["id"]}),
        ):
            assert (await server.admin(method, where, json=body)).param == "auth_header_name"
        assert provider.requests == []
        assert (await server.admin("PATCH", path, json={"auth_header_name": "x-key"})).status == 200
        assert len(server.services.snapshot().models["a"].candidates) == 1


async def test_names_and_aliases_are_unique_and_a_conflict_creates_nothing(server: Administration) -> None:
    assert (await server.admin("POST", "/endpoints", json=_static("one", "a", "b"))).status == 201
    again = await server.admin("POST", "/endpoints", json=_static("one", "c"))
    assert (again.status, again.body["resource"], again.param) == (409, "endpoint", "name")
    clash = await server.admin("POST", "/endpoints", json=_static("two", "c", "a", "d", alias_mapping={"d": "c"}))
    assert clash.status == 409
    assert clash.body["conflicts"] == [
        {"model_name": "a", "attempted_alias": "a"},
        {"model_name": "d", "attempted_alias": "c"},
    ]
    assert [endpoint["name"] for endpoint in (await server.admin("GET", "/endpoints")).body] == ["one"]
    assert await _aliases(server) == ["a", "b"]


async def test_a_provider_that_does_not_answer_leaves_nothing_behind(server: Administration, provider: Scripted) -> None:
    provider.answer = reply(CANARY.encode(), "401 Unauthorized")
    refused = await server.admin("POST", "/endpoints", json={"name": "x", "url": provider.url, "api_key": CANARY})
    assert refused.status == 500
    assert refused.message == "Could not read the provider's models: The provider refused the credential (HTTP 401)"
    assert CANARY not in repr(refused.body)
    assert (await server.admin("GET", "/endpoints")).body == []
    unsynced = await server.admin("POST", "/endpoints", json={"name": "x", "url": provider.url, "sync": False})
    assert unsynced.status == 201
    assert len(provider.requests) == 1


async def test_validate(server: Administration, provider: Scripted) -> None:
    provider.models("a", "b")
    answer = await server.admin("POST", "/endpoints/validate", json={"type": "new", "url": provider.url, "api_key": CANARY})
    assert answer.status == 200
    assert answer.body == {
        "status": "success",
        "models": {
            "object": "list",
            "data": [{"id": name, "created": 0, "owned_by": "them", "object": "model"} for name in ("a", "b")],
        },
        "error": None,
    }
    stored = (await server.admin("POST", "/endpoints", json={"name": "x", "url": provider.url, "api_key": CANARY, "sync": False})).body[
        "id"
    ]
    assert (await server.admin("POST", "/endpoints/validate", json={"type": "existing", "endpoint_id": stored})).status == 200
    assert f"Authorization: Bearer {CANARY}" in provider.requests[-1]
    async with scripted() as elsewhere:
        elsewhere.models("a")
        asked = {"type": "existing", "endpoint_id": stored, "url": elsewhere.url}
        refused = await server.admin("POST", "/endpoints/validate", json=asked)
        assert (refused.status, refused.param, elsewhere.requests) == (400, "api_key", [])
        assert (await server.admin("POST", "/endpoints/validate", json=asked | {"api_key": "other"})).status == 200
        assert "Bearer other" in elsewhere.requests[0]
    provider.answer = reply(b"<html>")
    broken = await server.admin("POST", "/endpoints/validate", json={"type": "existing", "endpoint_id": stored})
    assert (broken.status, broken.body["error"]["code"]) == (500, "provider_bad_answer")
    for wrong, status in (
        ({"type": "existing", "endpoint_id": NOBODY}, 404),
        ({"type": "new"}, 400),
        ({"type": "existing"}, 400),
        ({"type": "new", "url": "gopher://h"}, 400),
        ({"type": "other"}, 422),
    ):
        assert (await server.admin("POST", "/endpoints/validate", json=wrong)).status == status


async def test_synchronize_follows_the_list_and_counts(server: Administration, provider: Scripted) -> None:
    provider.models("a", "b", "c")
    endpoint = (await server.admin("POST", "/endpoints", json={"name": "x", "url": provider.url})).body
    path = f"/endpoints/{endpoint['id']}"
    assert await _aliases(server) == ["a", "b", "c"]
    await server.admin("POST", "/endpoints", json=_static("other", "taken"))

    provider.models("a", "d", "taken")
    report = await server.admin("POST", f"{path}/synchronize")
    assert report.status == 200
    synced_at = report.body.pop("synced_at")
    assert synced_at.endswith("Z")
    assert report.body == {
        "endpoint_id": endpoint["id"],
        "changes_made": 3,
        "new_models_created": 1,
        "models_reactivated": 0,
        "models_deactivated": 2,
        "models_deleted": 0,
        "total_models_fetched": 3,
        "filtered_models_count": 3,
        "conflicts": [{"model_name": "taken", "attempted_alias": "taken"}],
    }
    assert await _aliases(server) == ["a", "d", "taken"]
    # Deleting by hand is final: the provider's list does not bring it back.
    [model] = [row for row in (await server.admin("GET", "/models?search=d")).body["data"] if row["alias"] == "d"]
    await server.admin("DELETE", f"/models/{model['id']}")
    provider.models("a", "b", "d")
    again = (await server.admin("POST", f"{path}/synchronize")).body
    assert (again["models_reactivated"], again["new_models_created"], again["changes_made"]) == (1, 0, 1)
    assert await _aliases(server) == ["a", "b", "taken"]
    assert (await server.admin("POST", f"{path}/synchronize")).body["changes_made"] == 0
    provider.answer = reply(b"{", "200 OK")
    assert (await server.admin("POST", f"{path}/synchronize")).status == 500
    assert await _aliases(server) == ["a", "b", "taken"]
    # A new filter is followed by itself; a list that cannot be had is told in the log, and does not undo the change.
    provider.models("a", "b")
    assert (await server.admin("PATCH", path, json={"model_filter": ["b"]})).status == 200
    assert await _aliases(server) == ["b", "taken"]
    provider.answer = b""
    with capture_logs() as logged:
        assert (await server.admin("PATCH", path, json={"model_filter": None})).body["model_filter"] is None
    [warning] = [entry for entry in logged if entry["log_level"] == "warning"]
    assert (warning["event"], warning["endpoint_id"]) == ("provider_not_followed", path.removeprefix("/endpoints/"))
    assert "Could not read the provider's models" in warning["reason"]
    assert await _aliases(server) == ["b", "taken"]


async def test_the_credential_does_not_follow_to_another_host(server: Administration, provider: Scripted) -> None:
    provider.models("a")
    created = await server.admin("POST", "/endpoints", json=_static(api_key=CANARY))
    path = f"/endpoints/{created.body['id']}"
    refused = await server.admin("PATCH", path, json={"url": provider.url})
    assert (refused.status, refused.param, provider.requests) == (400, "api_key", [])
    assert (await server.admin("PATCH", path, json={"url": "http://127.0.0.1:9/v2"})).status == 200
    assert (await server.admin("PATCH", path, json={"url": provider.url, "api_key": "another"})).status == 200
    assert provider.requests
    assert not any(CANARY in request for request in provider.requests)


async def test_patch_changes_what_is_sent_under_its_revision(server: Administration) -> None:
    created = await server.admin("POST", "/endpoints", json=_static("x", "a", "b", idle_timeout=5, max_concurrency=3))
    path = f"/endpoints/{created.body['id']}"
    changed = await server.admin(
        "PATCH",
        path,
        json={"name": "y", "description": "d", "idle_timeout": None, "forward_headers": ["X-Team"]},
        headers={"If-Match": created.headers["ETag"]},
    )
    assert changed.status == 200, changed
    body = changed.body
    assert (body["name"], body["description"], body["idle_timeout"], body["max_concurrency"]) == ("y", "d", None, 3)
    assert (body["forward_headers"], body["revision"]) == (["x-team"], 2)
    assert (await server.admin("PATCH", path, json={"name": "z"}, headers={"If-Match": created.headers["ETag"]})).status == 412
    nothing = await server.admin("PATCH", path, json={"name": None, "url": None, "reasoning_translation": None})
    assert (nothing.status, nothing.body["revision"]) == (200, 2)
    unsupported = await server.admin("PATCH", path, json={"name": "z", "reasoning_translation": {"responses": {}}})
    assert (unsupported.status, unsupported.param, unsupported.body["error"]["code"]) == (400, "reasoning_translation", "not_supported")
    renamed = await server.admin("PATCH", path, json={"alias_mapping": {"a": "alpha"}})
    assert renamed.status == 200
    assert await _aliases(server) == ["alpha", "b"]
    assert "alpha" in server.services.snapshot().models
    assert (await server.admin("PATCH", path, json={"alias_mapping": {"b": "alpha"}})).status == 409
    slip = await server.admin("PATCH", path, json={"name": "z", "alias_mapping": {"b": "beta", "typo": "gamma"}})
    assert (slip.status, slip.param) == (400, "alias_mapping")
    assert "'typo'" in slip.message
    assert (await server.admin("GET", path)).body["name"] == "y"
    assert await _aliases(server) == ["alpha", "b"]
    assert (await server.admin("PATCH", f"/endpoints/{NOBODY}", json={"name": "z"})).status == 404
    assert (await server.admin("PATCH", "/endpoints/nonsense", json={"name": "z"})).status == 400


async def test_a_damaged_credential_takes_only_its_own_models(server: Administration) -> None:
    damaged = (await server.admin("POST", "/endpoints", json=_static("x", "a", api_key=CANARY))).body["id"]

    async def damage(tx: Tx) -> None:
        await tx.execute("UPDATE inference_endpoints SET sealed_credential = ? WHERE id = ?", (b"\x01" + bytes(40), damaged))

    await server.services.store.write(damage)
    assert (await server.admin("POST", "/endpoints", json=_static("y", "b"))).status == 201
    models = server.services.snapshot().models
    assert (models["a"].candidates, len(models["b"].candidates)) == ((), 1)


async def test_a_dialect_says_how_a_provider_is_reached(server: Administration) -> None:
    """The header of the key follows the dialect until somebody chooses one."""

    def reached() -> Any:
        return server.services.snapshot().models["a"].candidates[0].endpoint

    created = (await server.admin("POST", "/endpoints", json=_static("x", "a", api_key=CANARY))).body
    path = f"/endpoints/{created['id']}"
    assert created["dialect"] == reached().dialect == "openai-chat"
    changed = await server.admin("PATCH", path, json={"dialect": "anthropic"})
    assert [changed.body[name] for name in ("dialect", "auth_header_name", "auth_header_prefix")] == ["anthropic", "x-api-key", ""]
    endpoint = reached()
    assert (endpoint.dialect, endpoint.auth()) == ("anthropic", {"x-api-key": CANARY})
    assert str(endpoint.url("/messages", "")) == "http://127.0.0.1:9/v1/messages"
    [row] = await server.audit("endpoints.update")
    assert row["before"] == {"dialect": "openai-chat", "auth_header_name": "Authorization", "auth_header_prefix": "Bearer "}
    assert row["after"] == {"dialect": "anthropic", "auth_header_name": "x-api-key", "auth_header_prefix": ""}
    await server.admin("PATCH", path, json={"dialect": "ollama"})
    endpoint = reached()
    assert endpoint.auth() == {"Authorization": f"Bearer {CANARY}"}
    assert str(endpoint.url("/api/chat", "")) == "http://127.0.0.1:9/api/chat"
    await server.admin("PATCH", path, json={"auth_header_name": "x-key", "auth_header_prefix": ""})
    await server.admin("PATCH", path, json={"dialect": "anthropic"})
    assert reached().auth() == {"x-key": CANARY}
    assert (await server.admin("PATCH", path, json={"dialect": None})).body["dialect"] == "anthropic"
    wrong = await server.admin("PATCH", path, json={"dialect": "claude"})
    assert (wrong.status, wrong.param) == (400, "dialect")
    assert wrong.message == "dialect must be one of openai-chat, openai-responses, anthropic, ollama"
    named = await server.admin("POST", "/endpoints", json=_static("y", dialect="anthropic", auth_header_name="Authorization"))
    assert (named.body["auth_header_name"], named.body["auth_header_prefix"]) == ("Authorization", "Bearer ")


async def test_each_dialect_has_its_list(server: Administration, provider: Scripted) -> None:
    """Trying, creating and following an endpoint ask in its dialect."""
    provider.answers = {
        "GET /v1/models?limit=1000": reply(b'{"data": [{"id": "claude"}], "has_more": false}'),
        "GET /api/tags": reply(b'{"models": [{"name": "seer"}]}'),
        'POST /api/show {"model":"seer"}': reply(b'{"capabilities": ["completion", "vision"]}'),
    }
    asked = {"type": "new", "url": provider.root, "api_key": CANARY}
    tried = await server.admin("POST", "/endpoints/validate", json=asked | {"dialect": "anthropic"})
    assert [model["id"] for model in tried.body["models"]["data"]] == ["claude"]
    assert f"x-api-key: {CANARY}" in provider.requests[-1]
    refused = await server.admin("POST", "/endpoints/validate", json=asked | {"dialect": "x"})
    assert (refused.status, refused.param) == (400, "dialect")
    created = await server.admin("POST", "/endpoints", json={"name": "o", "url": provider.root, "dialect": "ollama"})
    assert created.status == 201, created
    [model] = (await server.admin("GET", f"/models?endpoint={created.body['id']}")).body["data"]
    assert (model["alias"], model["model_type"], model["capabilities"]) == ("seer", "CHAT", ["vision"])
    asked = {"type": "existing", "endpoint_id": created.body["id"]}
    assert (await server.admin("POST", "/endpoints/validate", json=asked)).body["models"]["data"] == [
        {"id": "seer", "created": 0, "owned_by": "", "object": "model", "model_type": "CHAT", "capabilities": ["vision"]}
    ]
    tried = await server.admin("POST", "/endpoints/validate", json=asked | {"dialect": "anthropic"})
    assert [model["id"] for model in tried.body["models"]["data"]] == ["claude"]
    # Another dialect leads to another list, which is followed, also where the key is sent as before.
    provider.answers["GET /models"] = reply(b'{"data": [{"id": "gpt"}]}')
    await server.admin("PATCH", f"/endpoints/{created.body['id']}", json={"dialect": "openai-chat"})
    assert await _aliases(server) == ["gpt"]
    await server.admin("PATCH", f"/endpoints/{created.body['id']}", json={"dialect": "anthropic"})
    assert await _aliases(server) == ["claude"]
    provider.answers["GET /v1/models?limit=1000"] = reply(b'{"data": [{"id": "claude"}, {"id": "claude-2"}]}')
    report = (await server.admin("POST", f"/endpoints/{created.body['id']}/synchronize")).body
    assert report["new_models_created"] == 1


async def test_anthropics_version_is_sent_unless_the_client_says_another(server: Administration, provider: Scripted) -> None:
    provider.answer = reply(b"{}", "400 Bad Request")
    everyone = (await server.admin("GET", "/groups")).body["data"][0]["id"]
    for name, dialect in (("a", "anthropic"), ("o", "openai-chat")):
        endpoint = await server.admin("POST", "/endpoints", json=_static(name, url=provider.url, dialect=dialect, api_key=CANARY))
        body = {"model_name": name, "hosted_on": endpoint.body["id"], "groups": [everyone]}
        assert (await server.admin("POST", "/models", json=body)).status == 200
    secret = await server.key_of(await server.person(), "realtime")

    async def sent(model: str, headers: dict[str, str]) -> list[str]:
        body = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
        await server.ask("POST", "/ai/v1/chat/completions", secret=secret, json=body, headers=headers)
        return provider.requests[-1].split("\r\n")

    head = await sent("a", {})
    assert "anthropic-version: 2023-06-01" in head
    assert f"x-api-key: {CANARY}" in head
    head = await sent("a", {"anthropic-version": "2030-01-01"})
    assert [line for line in head if line.startswith("anthropic-version")] == ["anthropic-version: 2030-01-01"]
    assert not any(line.startswith("anthropic-version") for line in await sent("o", {"anthropic-version": "2030-01-01"}))


async def test_delete_takes_the_models_along(server: Administration) -> None:
    created = (await server.admin("POST", "/endpoints", json=_static("x", "a", api_key=CANARY))).body
    path = f"/endpoints/{created['id']}"
    assert (await server.admin("DELETE", path)).status == 204
    assert (await server.admin("DELETE", path)).status == 404
    assert (await server.admin("GET", path)).status == 404
    assert await _aliases(server) == []
    assert "a" not in server.services.snapshot().models
    rows = await server.services.store.fetch("SELECT sealed_credential FROM inference_endpoints")
    assert rows[0]["sealed_credential"] is None
    # Name and alias are free again.
    assert (await server.admin("POST", "/endpoints", json=_static("x", "a"))).status == 201


async def test_only_those_who_manage_may(server: Administration) -> None:
    secret = await server.key_of(await server.person())
    for method, path in (
        ("GET", "/endpoints"),
        ("POST", "/endpoints"),
        ("POST", "/endpoints/validate"),
        ("GET", f"/endpoints/{NOBODY}"),
        ("PATCH", f"/endpoints/{NOBODY}"),
        ("DELETE", f"/endpoints/{NOBODY}"),
        ("POST", f"/endpoints/{NOBODY}/synchronize"),
    ):
        answer = await server.ask(method, f"/admin/api/v1{path}", secret=secret, json={})
        assert answer.status == 403, (method, path)
        assert answer.message.startswith("Insufficient permissions to ")
        assert answer.message.endswith(" Endpoints")
