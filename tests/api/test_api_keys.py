"""API keys over REST: shown once, unique by name, bounded, and dead when they are ended."""

from pathlib import Path

import pytest

from dwctl.accounts import NIL
from dwctl.config.schema import Auth, Native, RateLimit, RateLimits
from dwctl.store import Tx
from tests.administration import QUICK, Administration, configuration, serving

KEYS = "/users/current/api-keys"


async def test_secret_is_in_one_answer_alone(server: Administration) -> None:
    created = await server.admin("POST", KEYS, json={"name": "laptop", "description": "mine"})
    assert created.status == 201
    key = created.body
    secret = key["key"]
    assert len(secret) == 46
    assert secret.startswith("sk-")
    assert (key["purpose"], key["name"], key["description"], key["hint"]) == ("realtime", "laptop", "mine", secret[:7])
    assert key["user_id"] == key["created_by"] == (await server.admin("GET", "/users/current")).body["id"]
    assert (key["spend"], key["total_spend"], key["spend_limit"], key["model_access"], key["last_used"]) == ("0", "0", None, [], None)
    listed = await server.admin("GET", KEYS)
    one = await server.admin("GET", f"{KEYS}/{key['id']}")
    assert one.body in listed.body["data"]
    for answer in (listed, one, await server.admin("GET", "/audit")):
        assert secret not in str(answer.body)
    rows = await server.services.store.fetch("SELECT * FROM api_keys")
    assert secret not in str(rows)


async def test_names_are_unique_among_the_living(server: Administration) -> None:
    first = (await server.admin("POST", KEYS, json={"name": "laptop"})).body
    assert (await server.admin("POST", KEYS, json={"name": "laptop"})).status == 409
    other = (await server.admin("POST", KEYS, json={"name": "desk"})).body
    assert (await server.admin("PATCH", f"{KEYS}/{other['id']}", json={"name": "laptop"})).status == 409
    assert (await server.admin("PATCH", f"{KEYS}/{other['id']}", json={"name": "desk", "spend_limit": None})).status == 200
    assert (await server.admin("PATCH", f"{KEYS}/{other['id']}", json={"name": "x", "spend_limit": "5"})).param == "spend_limit"
    assert (await server.admin("DELETE", f"{KEYS}/{first['id']}")).status == 204
    assert (await server.admin("POST", KEYS, json={"name": "laptop"})).status == 201
    user_id = await server.person()
    assert (await server.admin("POST", f"/users/{user_id}/api-keys", json={"name": "laptop"})).status == 201


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"name": "  "}, 400, "name"),
        ({"name": "k", "purpose": "batch"}, 400, "purpose"),
        ({"name": "k", "purpose": "playground"}, 400, "purpose"),
        ({"name": "k", "purpose": "other"}, 422, "purpose"),
        ({"name": "k", "requests_per_second": 0}, 400, "requests_per_second"),
        ({"name": "k", "requests_per_second": -1.5}, 400, "requests_per_second"),
        ({"name": "k", "requests_per_second": 1e-300}, 400, "requests_per_second"),
        ({"name": "k", "burst_size": 0}, 400, "burst_size"),
        ({"name": "k", "burst_size": 2**63}, 400, "burst_size"),
        ({"name": "k", "max_concurrency": 0}, 400, "max_concurrency"),
        ({"name": "k", "bodies": "some"}, 422, "bodies"),
        ({"name": "k", "expires_at": "tomorrow"}, 400, "expires_at"),
        ({"name": "k", "expires_at": "2020-01-01T00:00:00Z"}, 400, "expires_at"),
        ({"name": "k", "spend_limit": "5"}, 400, "spend_limit"),
        ({"name": "k", "member_id": NIL}, 400, "member_id"),
        ({"name": "k", "description": "a\0b"}, 400, "description"),
    ],
)
async def test_bad_key_names_the_field(server: Administration, body: object, status: int, param: str) -> None:
    answer = await server.admin("POST", KEYS, json=body)
    assert (answer.status, answer.param) == (status, param)


async def test_limits_reach_the_principal_and_can_be_cleared(server: Administration) -> None:
    body = {
        "name": "k",
        "requests_per_second": 0.5,
        "burst_size": 3,
        "max_concurrency": 2,
        "bodies": "none",
        "always_stream_usage": True,
        "expires_at": "2999-01-01T00:00:00+01:00",
    }
    key = (await server.admin("POST", KEYS, json=body)).body
    assert key["expires_at"] == "2998-12-31T23:00:00.000000Z"
    principal = server.services.keyring.find(key["key"])
    assert (principal.rps, principal.burst, principal.max_concurrency, principal.bodies) == (0.5, 3, 2, "none")
    assert principal.always_stream_usage
    assert principal.expires_us is not None
    cleared = {"requests_per_second": None, "burst_size": None, "max_concurrency": None, "bodies": None, "expires_at": None}
    assert (await server.admin("PATCH", f"{KEYS}/{key['id']}", json=cleared)).status == 200
    principal = server.services.keyring.find(key["key"])
    assert (principal.rps, principal.burst, principal.max_concurrency, principal.bodies, principal.expires_us) == (None,) * 5
    assert principal.always_stream_usage
    stale = await server.admin("PATCH", f"{KEYS}/{key['id']}", json={"name": "z"}, headers={"If-Match": '"1"'})
    assert stale.status == 412


async def test_only_who_manages_keys_raises_a_limit_of_the_configuration(sqlite_url: str, data_dir: Path) -> None:
    limits = RateLimits(unverified=RateLimit(requests_per_second=2.5))
    config = configuration(data_dir, sqlite_url, auth=Auth(native=Native(password=QUICK), rate_limits=limits))
    async with serving(sqlite_url, config) as server:
        user_id = await server.person("StandardUser")
        secret, path = await server.key_of(user_id), f"/admin/api/v1{KEYS}"
        for number, (field, value) in enumerate((("requests_per_second", 2.6), ("burst_size", 4))):
            answer = await server.ask("POST", path, secret=secret, json={"name": f"k{number}", field: value})
            assert (answer.status, answer.param) == (400, field)
        made = await server.ask("POST", path, secret=secret, json={"name": "k", "requests_per_second": 2.5, "burst_size": 3})
        assert made.status == 201
        key = made.body["id"]
        raised = await server.ask("PATCH", f"{path}/{key}", secret=secret, json={"requests_per_second": 1e6})
        assert (raised.status, raised.param) == (400, "requests_per_second")
        assert "at most 2.5" in raised.message
        assert (await server.admin("PATCH", f"/users/{user_id}/api-keys/{key}", json={"requests_per_second": 1e6})).status == 200
        # What somebody else allowed stays while the rest of a form is changed.
        kept = await server.ask("PATCH", f"{path}/{key}", secret=secret, json={"name": "z", "requests_per_second": 1e6, "burst_size": 1})
        assert (kept.status, kept.body["requests_per_second"]) == (200, 1e6)


async def test_an_expiry_that_could_not_be_shown_is_refused(server: Administration) -> None:
    answer = await server.admin("POST", KEYS, json={"name": "k", "expires_at": "9999-12-31T23:59:59-14:00"})
    assert (answer.status, answer.param) == (400, "expires_at")
    assert (await server.admin("GET", KEYS)).body["data"] is not None


async def test_an_expiry_is_shown_to_the_microsecond_up_to_the_last_one(server: Administration) -> None:
    shown = ["9999-12-31T23:59:59.999999Z", "3000-01-01T00:00:00.999999Z"]
    for number, written in enumerate(("9999-12-31T23:59:59.9999999Z", shown[1])):
        created = await server.admin("POST", KEYS, json={"name": f"k{number}", "expires_at": written})
        assert (created.status, created.body["expires_at"]) == (201, shown[number])
    listed = (await server.admin("GET", KEYS)).body["data"]
    assert {key["expires_at"] for key in listed} == {None, *shown}


async def test_rotation_ends_the_old_secret(server: Administration) -> None:
    key = (await server.admin("POST", KEYS, json={"name": "k", "purpose": "platform"})).body
    assert (await server.ask("GET", "/admin/api/v1/users/current", secret=key["key"])).status == 200
    rotated = await server.admin("POST", f"{KEYS}/{key['id']}/rotate")
    assert rotated.status == 200
    assert set(rotated.body) == {"key"}
    assert (await server.ask("GET", "/admin/api/v1/users/current", secret=key["key"])).status == 401
    assert (await server.ask("GET", "/admin/api/v1/users/current", secret=rotated.body["key"])).status == 200
    assert (await server.admin("GET", f"{KEYS}/{key['id']}")).body["hint"] == rotated.body["key"][:7]


async def test_deleted_key_is_dead(server: Administration) -> None:
    key = (await server.admin("POST", KEYS, json={"name": "k"})).body
    assert (await server.ask("GET", "/ai/v1/models", secret=key["key"])).status == 200
    assert (await server.admin("DELETE", f"{KEYS}/{key['id']}")).status == 204
    assert (await server.ask("GET", "/ai/v1/models", secret=key["key"])).status == 401
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate")):
        assert (await server.admin(method, f"{KEYS}/{key['id']}{path}", json={} if method == "PATCH" else None)).status == 404
    [audited] = await server.audit("api_keys.delete")
    owner = {name: key[name] for name in ("user_id", "created_by")}
    assert (audited["resource_id"], audited["after"]) == (key["id"], None)
    assert audited["before"] == {"name": "k", **owner, "hint": key["key"][:7]}


async def test_somebody_elses_key_is_not_found(server: Administration) -> None:
    key = (await server.admin("POST", KEYS, json={"name": "k"})).body
    user_id = await server.person()
    secret = await server.key_of(user_id)
    path = f"/admin/api/v1/users/{user_id}/api-keys/{key['id']}"
    assert (await server.ask("GET", path, secret=secret)).status == 404
    assert (await server.ask("DELETE", path, secret=secret)).status == 404
    assert (await server.ask("POST", f"{path}/rotate", secret=secret)).status == 404
    assert (await server.ask("GET", f"/admin/api/v1/users/{key['user_id']}/api-keys", secret=secret)).status == 403


async def test_hidden_keys_do_not_exist(server: Administration) -> None:
    key = (await server.admin("POST", KEYS, json={"name": "k"})).body

    async def hide(tx: object) -> None:
        await tx.execute("UPDATE api_keys SET hidden = ? WHERE id = ?", (True, key["id"]))  # type: ignore[attr-defined]

    await server.services.store.write(hide)
    assert (await server.admin("GET", f"{KEYS}/{key['id']}")).status == 404
    assert (await server.admin("DELETE", f"{KEYS}/{key['id']}")).status == 404
    assert key["id"] not in {each["id"] for each in (await server.admin("GET", KEYS)).body["data"]}


async def test_list_by_holder(server: Administration) -> None:
    user_id = await server.person()
    other_id = await server.person()
    secret = await server.key_of(user_id)
    path = "/admin/api/v1/users/current/api-keys"
    assert (await server.ask("GET", f"{path}?created_by={user_id}", secret=secret)).body["total_count"] == 1
    assert (await server.ask("GET", f"{path}?created_by={other_id}", secret=secret)).status == 403
    assert (await server.admin("GET", f"/users/{user_id}/api-keys?created_by={other_id}")).body["total_count"] == 0
    assert (await server.admin("GET", f"/users/{user_id}/api-keys?created_by=x")).param == "created_by"


async def test_purposes_open_their_own_doors(server: Administration) -> None:
    user_id = await server.person()
    platform, realtime = await server.key_of(user_id), await server.key_of(user_id, "inference")
    assert (await server.ask("GET", "/admin/api/v1/users/current", secret=realtime)).status == 401
    assert (await server.ask("GET", "/ai/v1/models", secret=realtime)).status == 200
    assert (await server.ask("GET", "/admin/api/v1/users/current", secret=platform)).status == 200
    refused = await server.ask("POST", "/ai/v1/chat/completions", secret=platform, json={"model": "m", "messages": []})
    assert refused.status == 403
    assert "platform" in str(refused.body)


async def test_expired_key_is_refused(server: Administration) -> None:
    created = await server.admin("POST", KEYS, json={"name": "k", "purpose": "platform", "expires_at": "2999-01-01T00:00:00Z"})
    secret = created.body["key"]
    assert (await server.ask("GET", "/admin/api/v1/users/current", secret=secret)).status == 200

    async def expire(tx: object) -> int:
        await tx.execute("UPDATE api_keys SET expires_at = 1 WHERE id = ?", (created.body["id"],))  # type: ignore[attr-defined]
        return await server.services.changes.note(tx, "key", created.body["id"])  # type: ignore[arg-type]

    await server.services.changes.applied(await server.services.store.write(expire))
    assert (await server.ask("GET", "/admin/api/v1/users/current", secret=secret)).status == 401


async def test_the_form_of_an_expired_key_can_be_sent_back(server: Administration) -> None:
    created = await server.admin("POST", KEYS, json={"name": "k", "expires_at": "2999-01-01T00:00:00Z"})
    path = f"{KEYS}/{created.body['id']}"
    assert (await server.admin("PATCH", path, json={"expires_at": "2020-01-01T00:00:00Z"})).param == "expires_at"

    async def expire(tx: Tx) -> None:
        await tx.execute("UPDATE api_keys SET expires_at = 1500000000000001 WHERE id = ?", (created.body["id"],))

    await server.services.store.write(expire)
    stored = (await server.admin("GET", path)).body
    sent = {name: stored[name] for name in ("name", "requests_per_second", "bodies", "expires_at")} | {"description": "ended"}
    changed = await server.admin("PATCH", path, json=sent)
    assert (changed.status, changed.body["description"], changed.body["expires_at"]) == (200, "ended", stored["expires_at"])
    another = await server.admin("PATCH", path, json={"expires_at": "2020-01-01T00:00:00Z"})
    assert (another.status, another.param) == (400, "expires_at")


async def test_last_use_is_written_in_the_background(server: Administration) -> None:
    created = await server.admin("POST", KEYS, json={"name": "k", "purpose": "platform"})
    head = await server.services.changes.head()
    await server.ask("GET", "/admin/api/v1/users/current", secret=created.body["key"])
    await server.services.keyring.touches.flush()
    assert (await server.admin("GET", f"{KEYS}/{created.body['id']}")).body["last_used"] is not None
    assert await server.services.changes.head() == head
