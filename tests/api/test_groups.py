"""Groups over REST: names, members, Everyone."""

from urllib.parse import quote

import pytest

from dwctl.accounts import NIL
from tests.administration import Administration

NOBODY = "11111111-1111-4111-8111-111111111111"


async def test_create_change_and_delete(server: Administration) -> None:
    created = await server.admin("POST", "/groups", json={"name": " crew ", "description": "those aboard"})
    assert (created.status, created.body["name"], created.body["source"]) == (201, "crew", "native")
    assert created.body["created_by"] == (await server.admin("GET", "/users/current")).body["id"]
    path = f"/groups/{created.body['id']}"
    assert (await server.admin("POST", "/groups", json={"name": "crew"})).status == 409
    changed = await server.admin("PATCH", path, json={"name": "team"}, headers={"If-Match": created.headers["ETag"]})
    assert (changed.status, changed.body["name"], changed.body["description"]) == (200, "team", "those aboard")
    assert (await server.admin("PATCH", path, json={"description": ""})).body["description"] is None
    assert (await server.admin("PATCH", path, json={"name": "x"}, headers={"If-Match": created.headers["ETag"]})).status == 412
    assert (await server.admin("POST", "/groups", json={"name": "crew"})).status == 201
    assert (await server.admin("PATCH", path, json={"name": "crew"})).status == 409
    assert (await server.admin("DELETE", path)).status == 204
    assert (await server.admin("GET", path)).status == 404
    assert (await server.admin("DELETE", path)).status == 404
    assert (await server.admin("POST", "/groups", json={"name": "team"})).status == 201
    assert [row["action"] for row in (await server.admin("GET", "/audit?resource=group")).body["data"]] == [
        "groups.create",
        "groups.delete",
        "groups.create",
        "groups.update",
        "groups.update",
        "groups.create",
    ]


async def test_everyone_is_there_and_protected(server: Administration) -> None:
    user_id = await server.person()
    listed = (await server.admin("GET", "/groups")).body["data"]
    assert [(group["id"], group["name"]) for group in listed] == [(NIL, "Everyone")]
    members = (await server.admin("GET", f"/groups/{NIL}/users")).body
    assert user_id in members
    assert NIL not in members
    for answer in (
        await server.admin("PATCH", f"/groups/{NIL}", json={"name": "x"}),
        await server.admin("DELETE", f"/groups/{NIL}"),
        await server.admin("POST", f"/groups/{NIL}/users/{user_id}"),
        await server.admin("DELETE", f"/groups/{NIL}/users/{user_id}"),
    ):
        assert answer.status == 403
    assert (await server.admin("POST", "/groups", json={"name": "Everyone"})).status == 409


@pytest.mark.parametrize("by_user", [False, True])
async def test_membership(server: Administration, by_user: bool) -> None:
    user_id = await server.person()
    group_id = (await server.admin("POST", "/groups", json={"name": "crew"})).body["id"]
    path = f"/users/{user_id}/groups/{group_id}" if by_user else f"/groups/{group_id}/users/{user_id}"
    assert (await server.admin("DELETE", path)).status == 404
    assert (await server.admin("POST", path)).status == 204
    assert (await server.admin("POST", path)).status == 204
    assert (await server.admin("GET", f"/groups/{group_id}/users")).body == [user_id]
    assert [group["name"] for group in (await server.admin("GET", f"/users/{user_id}/groups")).body] == ["crew", "Everyone"]
    assert (await server.admin("DELETE", path)).status == 204
    assert (await server.admin("GET", f"/groups/{group_id}/users")).body == []
    assert (await server.admin("POST", f"/groups/{group_id}/users/{NOBODY}")).status == 404
    assert (await server.admin("POST", f"/groups/{NOBODY}/users/{user_id}")).status == 404
    assert (await server.admin("GET", f"/groups/{NOBODY}/users")).status == 404
    missing = await server.admin("GET", f"/groups/{NOBODY}/models")
    assert (missing.status, missing.message) == (404, f"Group with ID {NOBODY} not found")
    assert len(await server.audit("users.join_group")) == 1


async def test_membership_reaches_keys_at_once(server: Administration) -> None:
    user_id = await server.person()
    secret = await server.key_of(user_id, "realtime")
    group_id = (await server.admin("POST", "/groups", json={"name": "crew"})).body["id"]
    assert server.services.keyring.find(secret).groups == {NIL}
    await server.admin("POST", f"/groups/{group_id}/users/{user_id}")
    assert server.services.keyring.find(secret).groups == {NIL, group_id}
    await server.admin("DELETE", f"/groups/{group_id}/users/{user_id}")
    assert server.services.keyring.find(secret).groups == {NIL}


async def test_makers_of_groups_are_not_for_everybody(server: Administration) -> None:
    secret = await server.key_of(await server.person())
    [everyone] = (await server.ask("GET", "/admin/api/v1/users/current/groups", secret=secret)).body
    assert everyone["name"] == "Everyone"
    assert "created_by" not in everyone
    assert (await server.ask("GET", "/admin/api/v1/users/current?include=groups", secret=secret)).body["groups"] == [everyone]
    assert "created_by" in (await server.admin("GET", "/users/current?include=groups")).body["groups"][0]


async def test_include_users_and_models(server: Administration) -> None:
    user_id = await server.person(name="ada")
    group_id = (await server.admin("POST", "/groups", json={"name": "crew"})).body["id"]
    await server.admin("POST", f"/groups/{group_id}/users/{user_id}")
    [group] = (await server.admin("GET", "/groups?search=REW&include=users,models")).body["data"]
    assert [user["username"] for user in group["users"]] == ["ada"]
    assert group["models"] == []
    await server.admin("POST", "/groups", json={"name": "Ärzte 50% [a]"})
    for typed, found in (("Ärzte", 1), ("50%", 1), ("[A]", 1), ("Ä%", 0), ("ä?z", 0), ("A", 1 + 1)):
        assert (await server.admin("GET", f"/groups?search={quote(typed)}")).body["total_count"] == found, typed
    [plain] = (await server.admin("GET", "/groups?search=crew")).body["data"]
    assert "users" not in plain
    slip = await server.admin("GET", "/groups?include=users,modles")
    assert (slip.status, slip.param) == (400, "include")
    assert "'modles'" in slip.message


async def test_bad_group(server: Administration) -> None:
    assert (await server.admin("POST", "/groups", json={"name": ""})).param == "name"
    assert (await server.admin("POST", "/groups", json={})).status == 422
    assert (await server.admin("POST", "/groups", data=b"{")).status == 400
    assert (await server.admin("POST", "/groups", data=b"{}", headers={"Content-Type": "text/plain"})).status == 415
    assert (await server.admin("GET", "/groups/nonsense")).param == "group_id"
