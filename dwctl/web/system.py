"""``/admin/system``: the configuration in force, the state of database and journal, the audit log, and the licences of what is shipped."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from sanic.response import ResponseStream

from dwctl.accounts import Actor
from dwctl.doorway import Needs, Route
from dwctl.errors import not_found
from dwctl.operations import audit, system, transactions, users
from dwctl.operations.audit import AuditFilter
from dwctl.operations.rows import canonical
from dwctl.web.addresses import address
from dwctl.web.context import Context
from dwctl.web.days import days
from dwctl.web.exports import csv_download
from dwctl.web.forms import wrong
from dwctl.web.home import REASONS
from dwctl.web.licences import components
from dwctl.web.pages import Nav, View, page, view

ROUTES: list[Route] = []
SIZE = 50
_EXPORTED_AT_ONCE = 1000
_RIGHT = Needs("System", "read_all")
RESOURCES = ("user", "group", "api_key", "endpoint", "model", "transaction", "session")


class SettingsQuery(msgspec.Struct, kw_only=True):
    q: str | None = None
    changed: bool = False
    """Only what is not the default."""


class AuditQuery(msgspec.Struct, kw_only=True):
    """``who`` is an e-mail address or an id; ``id`` of the thing that was changed; days are in UTC, both included."""

    action: str | None = None
    resource: str | None = None
    id: str | None = None
    who: str | None = None
    start: str | None = msgspec.field(default=None, name="from")
    end: str | None = msgspec.field(default=None, name="to")
    after: Annotated[int, msgspec.Meta(ge=1, le=2**62)] | None = None


@page(
    ROUTES,
    "GET",
    "/admin/system",
    policy=_RIGHT,
    query=SettingsQuery,
    summary="System",
    nav=Nav("Configure", "System", "settings", 90, key="y"),
)
async def show_settings(context: Context) -> View:
    """Every key of the configuration, with its value and where that came from."""
    query: SettingsQuery = context.query
    wanted = (query.q or "").strip().lower()
    found = [
        setting
        for setting in system.settings(context.services, context.actor)
        if wanted in f"{setting.path} {setting.variable} {setting.description}".lower()
        and (not query.changed or setting.origin != "default")
    ]
    return view("system/settings.html", settings=found, q=query.q, changed=query.changed)


@page(ROUTES, "GET", "/admin/system/state", policy=_RIGHT, summary="State")
async def show_state(context: Context) -> View:
    """Versions, database, journal and recorder."""
    return view("system/state.html", state=await system.state(context.services, context.actor), reasons=REASONS)


@page(ROUTES, "GET", "/admin/system/audit", policy=_RIGHT, query=AuditQuery, summary="Audit log")
async def show_audit(context: Context) -> View:
    """Administrative acts, newest first."""
    query: AuditQuery = context.query
    store, actor = context.services.store, context.actor
    entries = await audit.list_audit(store, actor, await _filter(context, query), limit=SIZE + 1)
    words = _words(query)
    return view(
        "system/audit.html",
        entries=entries[:SIZE],
        following=str(entries[SIZE - 1].seq) if len(entries) > SIZE else None,
        query={name: value or "" for name, value in words.items()} | {"after": str(query.after or "")},
        actions=await audit.recent_actions(store, actor),
        resources=[(name, name.replace("_", " ")) for name in RESOURCES],
        download=address("/admin/system/audit.csv", words),
    )


@page(ROUTES, "GET", "/admin/system/audit.csv", policy=_RIGHT, query=AuditQuery, summary="Audit log as CSV")
async def download_audit(context: Context) -> ResponseStream:
    """What the page lists, all of it."""
    chosen = await _filter(context, context.query)
    head = ("time", "actor", "via", "client_ip", "action", "resource", "resource_id", "before", "after")
    return csv_download("audit-log", head, _rows(context.services.store, context.actor, chosen))


@page(ROUTES, "GET", "/admin/system/licences", policy=_RIGHT, summary="Licences")
async def show_licences(context: Context) -> View:
    """What is shipped."""
    return view("system/licences.html", components=list(components().values()))


@page(ROUTES, "GET", "/admin/system/licences/<component>", policy=_RIGHT, summary="A licence")
async def show_licence(context: Context) -> View:
    """The text of one component's licence."""
    found = components().get(context.parameters["component"])
    if found is None:
        raise not_found("Nothing of this name is shipped")
    return view("system/licence.html", component=found)


async def _filter(context: Context, query: AuditQuery) -> AuditFilter:
    who = query.who and canonical(query.who)
    if query.who and who is None:
        user = await users.find_user(context.services, context.actor, query.who)
        if user is None:
            raise wrong("who", "No account has this e-mail address. Of a deleted account give the id.")
        who = user.id
    start, end = days(query.start, query.end)
    return AuditFilter(
        action=query.action,
        resource=query.resource,
        resource_id=query.id,
        actor_id=who,
        from_us=transactions.instant(start, "from"),
        until_us=transactions.instant(end, "to"),
        before_seq=query.after,
    )


def _words(query: AuditQuery) -> dict[str, str | None]:
    names = {"action": query.action, "resource": query.resource, "id": query.id, "who": query.who}
    return {**names, "from": query.start, "to": query.end}


async def _rows(store: Any, actor: Actor, chosen: AuditFilter) -> AsyncIterator[tuple[object, ...]]:
    while True:
        entries = await audit.list_audit(store, actor, chosen, limit=_EXPORTED_AT_ONCE)
        for entry in entries:
            before, after = (None if side is None else msgspec.json.encode(side).decode() for side in (entry.before, entry.after))
            yield entry.at, entry.actor, entry.via, entry.client_ip, entry.action, entry.resource, entry.resource_id, before, after
        if len(entries) < _EXPORTED_AT_ONCE:
            return
        chosen = msgspec.structs.replace(chosen, before_seq=entries[-1].seq)
