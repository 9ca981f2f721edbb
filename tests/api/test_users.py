"""Users over REST: who may do what to whom, and what is left afterwards."""

import pytest

from dwctl.accounts import NIL
from dwctl.config import ROLES
from tests.administration import ADMIN_EMAIL, Administration


async def test_created_user_has_the_reference_fields(server: Administration) -> None:
    answer = await server.admin("POST", "/users", json={"username": "ada", "email": "Ada@Example.com", "roles": ["RequestViewer"]})
    assert answer.status == 201
    assert answer.headers["ETag"] == '"1"'
    user = answer.body
    assert (user["username"], user["email"], user["auth_source"]) == ("ada", "Ada@Example.com", "system")
    assert user["roles"] == ["StandardUser", "RequestViewer"]
    assert user["is_admin"] is False
    assert user["last_login"] is None
    assert "groups" not in user
    assert "credit_balance" not in user
    for field in ("display_name", "avatar_url", "external_user_id", "low_balance_threshold", "auto_topup_amount"):
        assert user[field] is None
    for field in ("has_payment_provider_id", "batch_notifications_enabled", "zero_data_retention", "verified", "invoicing_enabled"):
        assert user[field] is False
    row = (await server.audit("users.create"))[0]
    assert row["resource_id"] == user["id"]
    assert row["actor"] == ADMIN_EMAIL
    assert row["via"] == "api_key"


async def test_taken_address_and_name_are_conflicts(server: Administration) -> None:
    await server.person(name="ada")
    answer = await server.admin("POST", "/users", json={"username": "other", "email": "ADA@example.com"})
    assert (answer.status, answer.message, answer.body["resource"]) == (409, "An account with this email address already exists", "user")
    answer = await server.admin("POST", "/users", json={"username": "ada", "email": "new@example.com"})
    assert (answer.status, answer.message) == (409, "This username is already taken")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"username": "x"}, 422, "email"),
        ({"username": " ", "email": "a@b"}, 400, "username"),
        ({"username": "x", "email": "nonsense"}, 400, "email"),
        ({"username": "x", "email": "a@b", "roles": ["King"]}, 422, "roles[0]"),
        ({"username": 5, "email": "a@b"}, 422, "username"),
        ({"username": "x\0y", "email": "a@b"}, 400, "username"),
        ({"username": "x" * 256, "email": "a@b"}, 400, "username"),
    ],
)
async def test_bad_user_names_the_field(server: Administration, body: object, status: int, param: str) -> None:
    answer = await server.admin("POST", "/users", json=body)
    assert (answer.status, answer.param) == (status, param)


async def test_lone_surrogate_names_the_field(server: Administration) -> None:
    answer = await server.admin("POST", "/users", data=b'{"username": "x", "email": "a@b", "display_name": "\\ud800"}')
    assert (answer.status, answer.param) == (400, "display_name")


async def test_list_pages_searches_and_leaves_the_system_user_out(server: Administration) -> None:
    for number in range(12):
        await server.person(name=f"member_{number:02}")
    first = (await server.admin("GET", "/users")).body
    assert (len(first["data"]), first["total_count"], first["skip"], first["limit"]) == (10, 13, 0, 10)
    assert first["data"][0]["username"] == "member_11"
    rest = (await server.admin("GET", "/users?skip=10&limit=1000")).body
    # A page of 100, and one row more, by which a client sees that it is not the last.
    assert (len(rest["data"]), rest["limit"]) == (3, 101)
    assert NIL not in {user["id"] for user in first["data"] + rest["data"]}
    assert (await server.admin("GET", "/users?search=MEMBER_0")).body["total_count"] == 10
    # The underscore is a character, not a wildcard.
    assert (await server.admin("GET", "/users?search=r_1_")).body["total_count"] == 0
    assert (await server.admin("GET", "/users?skip=-1")).param == "skip"
    assert (await server.admin("GET", "/users?limit=many")).status == 400


async def test_include_groups_and_billing(server: Administration) -> None:
    user_id = await server.person(name="ada")
    group = (await server.admin("POST", "/groups", json={"name": "crew"})).body
    await server.admin("POST", f"/users/{user_id}/groups/{group['id']}")
    [user] = (await server.admin("GET", "/users?search=ada&include=groups,billing")).body["data"]
    assert (await server.admin("GET", "/users?include=group")).param == "include"
    assert (await server.admin("GET", "/users/current?include=group")).param == "include"
    assert [each["name"] for each in user["groups"]] == ["crew", "Everyone"]
    assert user["credit_balance"] == 0.0


async def test_current_and_own(server: Administration) -> None:
    user_id = await server.person()
    other_id = await server.person()
    secret = await server.key_of(user_id)
    answer = await server.ask("GET", "/admin/api/v1/users/current?include=billing,organizations", secret=secret)
    assert (answer.status, answer.body["id"], answer.body["organizations"]) == (200, user_id, [])
    assert answer.body["active_organization_id"] is None
    assert answer.body["credit_balance"] == 0.0
    assert (await server.ask("GET", f"/admin/api/v1/users/{other_id}", secret=secret)).status == 403
    assert (await server.ask("GET", "/admin/api/v1/users/nobody", secret=secret)).status == 403
    assert (await server.admin("GET", "/users/nobody")).status == 400
    missing = await server.admin("GET", "/users/11111111-1111-4111-8111-111111111111")
    assert (missing.status, missing.message) == (404, "User with ID 11111111-1111-4111-8111-111111111111 not found")


async def test_update_own_profile_but_not_own_roles(server: Administration) -> None:
    user_id = await server.person()
    secret = await server.key_of(user_id)
    path = f"/admin/api/v1/users/{user_id}"
    answer = await server.ask("PATCH", path, secret=secret, json={"display_name": "Ada", "zero_data_retention": True})
    assert (answer.status, answer.body["display_name"], answer.body["zero_data_retention"]) == (200, "Ada", True)
    assert (await server.ask("PATCH", path, secret=secret, json={"display_name": None})).body["display_name"] == "Ada"
    assert (await server.ask("PATCH", path, secret=secret, json={"display_name": ""})).body["display_name"] is None
    denied = await server.ask("PATCH", path, secret=secret, json={"roles": ["PlatformManager"]})
    assert (denied.status, denied.message) == (403, "Insufficient permissions to Update Users")
    assert (await server.ask("PATCH", path, secret=secret, json={"verified": True})).status == 403
    harmless = {"batch_notifications_enabled": False, "low_balance_threshold": None}
    assert (await server.ask("PATCH", path, secret=secret, json=harmless)).status == 200
    for name, value in (("batch_notifications_enabled", True), ("low_balance_threshold", 0), ("auto_topup_amount", 5)):
        refused = await server.ask("PATCH", path, secret=secret, json={"display_name": "B", name: value})
        assert (refused.status, refused.param, refused.body["error"]["code"]) == (400, name, "not_supported")
    assert (await server.ask("GET", path, secret=secret)).body["display_name"] is None


async def test_new_roles_count_at_once(server: Administration) -> None:
    user_id = await server.person()
    secret = await server.key_of(user_id)
    assert (await server.ask("GET", "/admin/api/v1/groups", secret=secret)).status == 403
    answer = await server.admin("PATCH", f"/users/{user_id}", json={"roles": ["PlatformManager"]})
    assert answer.body["roles"] == ["StandardUser", "PlatformManager"]
    assert (await server.ask("GET", "/admin/api/v1/groups", secret=secret)).status == 200
    [row] = await server.audit("users.update")
    assert (row["before"], row["after"]) == ({"roles": ["StandardUser"]}, {"roles": ["StandardUser", "PlatformManager"]})


async def test_revision_guards_an_update(server: Administration) -> None:
    user_id = await server.person()
    path = f"/users/{user_id}"
    assert (await server.admin("PATCH", path, json={"display_name": "A"}, headers={"If-Match": '"1"'})).headers["ETag"] == '"2"'
    stale = await server.admin("PATCH", path, json={"display_name": "B"}, headers={"If-Match": '"1"'})
    assert stale.status == 412
    assert (await server.admin("GET", path)).body["display_name"] == "A"
    assert (await server.admin("PATCH", path, json={"display_name": "B"}, headers={"If-Match": "nonsense"})).status == 412
    assert (await server.admin("PATCH", path, json={"display_name": "B"}, headers={"If-Match": "*"})).status == 200


async def test_administrators_are_not_deleted_by_others(server: Administration) -> None:
    manager = await server.key_of(await server.person("PlatformManager"))
    admin = (await server.admin("GET", "/users/current")).body["id"]
    assert (await server.ask("DELETE", f"/admin/api/v1/users/{admin}", secret=manager)).status == 403
    assert (await server.ask("DELETE", f"/admin/api/v1/users/{await server.person()}", secret=manager)).status == 204


async def test_deleted_user_is_gone_with_keys_sessions_and_name(server: Administration) -> None:
    user_id = await server.password_user("ada@example.com", "a long password")
    platform, realtime = await server.key_of(user_id), await server.key_of(user_id, "realtime")
    cookie = await server.cookie_of("ada@example.com", "a long password")
    assert (await server.ask("GET", "/admin/api/v1/users/current", secret=platform)).status == 200
    assert (await server.ask("GET", "/ai/v1/models", secret=realtime)).status == 200
    assert (await server.ask("GET", "/admin/api/v1/users/current", cookie=cookie)).status == 200
    assert (await server.admin("DELETE", f"/users/{user_id}")).status == 204
    assert (await server.ask("GET", "/admin/api/v1/users/current", secret=platform)).status == 401
    assert (await server.ask("GET", "/ai/v1/models", secret=realtime)).status == 401
    assert (await server.ask("GET", "/admin/api/v1/users/current", cookie=cookie)).status == 401
    assert (await server.sign_in("ada@example.com", "a long password")).status == 401
    assert (await server.admin("GET", f"/users/{user_id}")).status == 404
    assert (await server.admin("DELETE", f"/users/{user_id}")).status == 404
    [row] = await server.services.store.fetch("SELECT email FROM users WHERE id = ?", (user_id,))
    assert row["email"] == f"deleted-{user_id}@deleted.local"
    again = await server.admin("POST", "/users", json={"username": "ada@example.com", "email": "ada@example.com"})
    assert again.status == 201


async def test_deleting_oneself_and_the_system_user(server: Administration) -> None:
    me = (await server.admin("GET", "/users/current")).body["id"]
    assert (await server.admin("DELETE", f"/users/{me}")).status == 400
    assert (await server.admin("DELETE", "/users/current")).status == 400
    assert (await server.admin("DELETE", f"/users/{NIL}")).status == 403
    assert (await server.admin("PATCH", f"/users/{NIL}", json={"display_name": "x"})).status == 403
    assert (await server.admin("POST", f"/users/{NIL}/api-keys", json={"name": "x"})).status == 403


async def test_manager_cannot_become_administrator_by_a_key(server: Administration) -> None:
    manager = await server.key_of(await server.person("PlatformManager"))
    admin_id = (await server.admin("GET", "/users/current")).body["id"]
    path = f"/admin/api/v1/users/{admin_id}/api-keys"
    assert (await server.ask("POST", path, secret=manager, json={"name": "mine", "purpose": "platform"})).status == 403
    key = (await server.admin("POST", "/users/current/api-keys", json={"name": "admin's", "purpose": "platform"})).body
    assert (await server.ask("POST", f"{path}/{key['id']}/rotate", secret=manager)).status == 403


async def test_every_role_can_be_given(server: Administration) -> None:
    user_id = await server.person()
    answer = await server.admin("PATCH", f"/users/{user_id}", json={"roles": list(ROLES)})
    assert set(answer.body["roles"]) == set(ROLES)
