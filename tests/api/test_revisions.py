"""If-Match over REST: what somebody else has changed meanwhile is neither ended nor given another secret."""

from tests.administration import Administration

STATIC = {"name": "e", "url": "http://127.0.0.1:9/v1", "skip_fetch": True, "model_filter": ["m"]}


async def test_what_has_changed_meanwhile_is_left_alone(server: Administration) -> None:
    endpoint = (await server.admin("POST", "/endpoints", json=STATIC)).body["id"]
    [model] = (await server.admin("GET", "/models")).body["data"]
    group = (await server.admin("POST", "/groups", json={"name": "g"})).body["id"]
    user = await server.person()
    key = f"/users/current/api-keys/{(await server.admin('POST', '/users/current/api-keys', json={'name': 'k'})).body['id']}"
    for path, change in (
        (f"/models/{model['id']}", {"alias": "z"}),
        (f"/endpoints/{endpoint}", {"name": "z"}),
        (f"/groups/{group}", {"name": "z"}),
        (f"/users/{user}", {"display_name": "z"}),
        (key, {"name": "z"}),
    ):
        seen = {"If-Match": (await server.admin("GET", path)).headers["ETag"]}
        now = {"If-Match": (await server.admin("PATCH", path, json=change)).headers["ETag"]}
        refused = await server.admin("DELETE", path, headers=seen)
        assert (refused.status, refused.body["error"]["code"]) == (412, "stale_revision"), path
        assert (await server.admin("GET", path)).status == 200
        if path == key:
            assert (await server.admin("POST", f"{key}/rotate", headers=seen)).status == 412
            rotated = await server.admin("POST", f"{key}/rotate", headers=now)
            assert rotated.status == 200
            now = {"If-Match": (await server.admin("GET", path)).headers["ETag"]}
        assert (await server.admin("DELETE", path, headers=now)).status in (200, 204), path
        assert (await server.admin("GET", path)).status == 404
