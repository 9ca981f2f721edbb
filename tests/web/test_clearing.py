"""A text that was emptied in a form is gone, and one of several lines comes back as it was."""

from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import pytest

from tests.administration import Administration, configuration, serving
from tests.web.visitor import Visitor

STATIC = {"name": "e", "url": "http://127.0.0.1:9/v1", "skip_fetch": True, "model_filter": ["m"]}
TEXT = "of\ntwo lines"


@pytest.fixture
async def server(sqlite_url: str, data_dir: Path) -> AsyncIterator[Administration]:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as running:
        yield running


async def test_texts_are_kept_line_by_line_and_cleared(server: Administration) -> None:
    endpoint = (await server.admin("POST", "/endpoints", json=STATIC)).body["id"]
    model = (await server.admin("GET", "/models")).body["data"][0]["id"]
    group = (await server.admin("POST", "/groups", json={"name": "g"})).body["id"]
    key = (await server.admin("POST", "/users/current/api-keys", json={"name": "k"})).body["id"]
    identity = {"alias": "m", "model_name": "m", "model_type": "CHAT"}
    visitor = await Visitor.sign_in(server)
    for path, page, others in (
        (f"/groups/{group}", f"/admin/groups/{group}", {"name": "g"}),
        (f"/users/current/api-keys/{key}", f"/keys/{key}", {"name": "k"}),
        (f"/endpoints/{endpoint}", f"/admin/endpoints/{endpoint}/edit", {"name": "e", "url": STATIC["url"]}),
        (f"/models/{model}", f"/admin/models/{model}/identity", identity),
    ):
        for typed, stored in ((TEXT.replace("\n", "\r\n"), TEXT), ("", None)):
            revision = str((await server.admin("GET", path)).body["revision"])
            saved = await visitor.send(page, [*others.items(), ("description", typed), ("revision", revision)])
            assert saved.status == 303, saved.body
            assert (await server.admin("GET", path)).body["description"] == stored, path
            shown = unescape((await visitor.open(page)).body)
            assert (f">\n{TEXT}</textarea>" in shown) is (stored is not None), path


async def test_names_are_cleared(server: Administration) -> None:
    user = await server.person()
    own = (await server.admin("GET", "/users/current")).body["id"]
    await server.admin("POST", "/endpoints", json=STATIC)
    [model] = (await server.admin("GET", "/models")).body["data"]
    identity = {"alias": "m", "model_name": "m", "model_type": "CHAT"}
    visitor = await Visitor.sign_in(server)
    for path, page, others in (
        (f"/users/{user}", f"/admin/users/{user}", dict[str, str]()),
        (f"/users/{own}", "/me/name", dict[str, str]()),
        (f"/models/{model['id']}", f"/admin/models/{model['id']}/identity", identity),
    ):
        for typed, stored in (("Ada", "Ada"), ("", None)):
            revision = str((await server.admin("GET", path)).body["revision"])
            saved = await visitor.send(page, [*others.items(), ("display_name", typed), ("revision", revision)])
            assert saved.status == 303, saved.body
            assert (await server.admin("GET", path)).body["display_name"] == stored, path
