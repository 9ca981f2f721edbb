"""``/search``: pages, what can be created, and things by a few letters of their names or by an id; the same in a dialog on every page."""

from typing import Any

import msgspec

from dwctl.doorway import Authenticated, Route
from dwctl.operations.palette import Hit, find
from dwctl.web.context import Context
from dwctl.web.pages import View, page, view

ROUTES: list[Route] = []

_KINDS = {
    "request": ("Request", "activity", "/requests/{}"),
    "model": ("Model", "boxes", "/models/{}"),
    "group": ("Group", "users-round", "/admin/groups/{}"),
    "endpoint": ("Endpoint", "plug", "/admin/endpoints/{}"),
    "user": ("User", "users", "/admin/users/{}"),
    "api_key": ("API key", "key-round", "/keys/{}"),
}
"""Kind -> its name, its icon, and the address of one."""


class SearchQuery(msgspec.Struct, kw_only=True):
    q: str | None = None


class Thing(msgspec.Struct, frozen=True):
    """Something that was found."""

    kind: str
    icon: str
    label: str
    hint: str
    href: str


@page(ROUTES, "GET", "/search", policy=Authenticated(), query=SearchQuery, summary="Search")
async def search(context: Context) -> View:
    """What is found, as a page or as the dialog's list."""
    text = (context.query.q or "").strip()
    found: list[Any] = [_thing(hit) for hit in await find(context.services, context.actor, text)]
    return view("palette/page.html", q=text, things=found)


def _thing(hit: Hit) -> Thing:
    kind, icon, path = _KINDS[hit.kind]
    return Thing(kind, icon, hit.label, hit.hint, path.format(hit.id))
