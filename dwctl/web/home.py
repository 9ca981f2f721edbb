"""``/``: how the gateway does, what needs attention, and the way to a first request. Programs that ask get the server's name and its
addresses as JSON.
"""

from collections.abc import AsyncIterator
from typing import Literal

import msgspec
from sanic.response import HTTPResponse, ResponseStream

from dwctl import __version__
from dwctl.accounts import policy
from dwctl.doorway import Authenticated, Message, Public, Route, feed
from dwctl.operations import attention
from dwctl.operations.calls import first_model, models_for
from dwctl.operations.checklist import Step, checklist
from dwctl.operations.explorer import HomeTiles, Tile, home_tiles
from dwctl.operations.live import follow
from dwctl.operations.request_log import RequestFilter
from dwctl.operations.snippets import snippets
from dwctl.operations.users import read_user
from dwctl.web.addresses import api_base
from dwctl.web.context import Context
from dwctl.web.pages import Go, Nav, View, go, page, view
from dwctl.web.request_tail import reads_everybodys, strip
from dwctl.web.surface import wants_page

ROUTES: list[Route] = []
HIDDEN_COOKIE = "dwctl_checklist"
_YEAR = 365 * 86400
_SECONDS_TO_RECORD = 30
_HOURS = {"24h": 24, "3d": 72, "7d": 168}

REASONS = {
    "database_unavailable": "The database does not answer. Requests are served from memory, and recorded on disk until it is back.",
    "recorder_lagging": "Records reach the database late. What the pages show may be some seconds old.",
    "journal_sync_failed": "The journal could not be written to disk in time: a power failure now could lose the newest records.",
    "quarantine": "Some records could not be stored and wait in journal/quarantine of the data directory. Their charges are kept.",
    "journal_full": "The journal on disk is full: priced requests are refused until records have reached the database.",
    "changes_not_announced": "The direct connection to PostgreSQL is lost: what other nodes change arrives up to half a second later.",
    "node_id_in_use": "Another dwctl on this database has the name of this node: charges may be lost. Stop one of the two.",
}
"""Reasons of ``/readyz`` in sentences; others are shown as they are."""

_STEPS: dict[str, tuple[str, str, str, str]] = {
    "password": ("Choose a password of your own", "The first one was printed to a terminal.", "Change password", "/password"),
    "endpoint": ("Add an endpoint", "A provider, or a server of your own, that answers requests.", "Add endpoint", "/admin/endpoints/new"),
    "model": (
        "Import models",
        "Choose which of the endpoint's models are offered, and how they are named.",
        "Endpoints",
        "/admin/endpoints",
    ),
    "share": ("Let a group call them", "A model is seen by nobody until a group may call it.", "Access", "/admin/access"),
    "credit": (
        "Give an account credits",
        "Models have a price: requests of an account without credits are refused.",
        "Give credits",
        "/billing",
    ),
    "key": ("Create an API key", "Programs sign in with a key; every request is booked to its owner.", "New key", "/keys/new"),
    "request": ("Send a first request", "With your key in the variable DWCTL_API_KEY, from any terminal.", "Playground", "/playground"),
    "price": ("Set a price", "So that each request shows what it costs. Without one, models are free.", "Models", "/admin/models"),
}
"""Step of the checklist -> what to do, why, and the button with where it leads."""


class HomeQuery(msgspec.Struct, kw_only=True):
    range: Literal["24h", "3d", "7d"] = "24h"


class HideForm(msgspec.Struct, kw_only=True):
    hidden: bool = False


class Shown(msgspec.Struct, frozen=True):
    """A number of Home: as it is (``kind`` says how to write it), how it has changed in words, its course, and where it leads."""

    label: str
    kind: Literal["count", "money", "percent"]
    value: float | None
    change: str
    direction: str
    points: list[int]
    href: str | None


@page(ROUTES, "GET", "/", policy=Public(), query=HomeQuery, summary="Home", nav=Nav("Observe", "Home", "house", 0, key="h"))
async def home(context: Context) -> View | Go | HTTPResponse:
    """What a person sees first."""
    if not wants_page(context.request):
        about = {"name": "dwctl", "version": __version__, "inference": "/ai/v1", "administration": "/admin/api/v1"}
        return HTTPResponse(msgspec.json.encode(about), 200, {"vary": "Accept"}, "application/json")
    if context.visitor is None:
        return go("/login")
    services, actor = context.services, context.actor
    query: HomeQuery = context.query or HomeQuery()
    user = await read_user(services, actor.user_id)
    steps = await checklist(services, actor)
    waiting = any(step.name == "request" and not step.done for step in steps)
    everybody = policy.allows(actor, "Analytics", "read_all")
    hidden = context.request.cookies.get(HIDDEN_COOKIE) == "hidden"
    return view(
        "home/page.html",
        name=user.display_name or user.username,
        steps=steps,
        words=_STEPS,
        shown=not hidden and (not _all_done(steps) or "hx-request" in context.request.headers),
        hidden=hidden and not _all_done(steps),
        complete=_all_done(steps),
        first=await _first(context) if waiting and not hidden else None,
        tiles=_shown(await home_tiles(services, actor, hours=_HOURS[query.range]), query.range, everybody),
        everybody=everybody,
        range=query.range,
        concerns=await attention.concerns(services, actor),
        reasons=REASONS,
        admitting=services.ledger.can_admit(),
        strip=await strip(context) if policy.allows(actor, "Requests", "read_own") else None,
        everybodys_requests=reads_everybodys(context),
    )


@page(
    ROUTES, "POST", "/checklist", policy=Authenticated(), form=HideForm, again=home, summary="Hide the set-up checklist, or show it again"
)
async def hide(context: Context) -> Go:
    """Keep the choice in this browser."""
    value, age = ("hidden", _YEAR) if context.body.hidden else ("", 0)
    return go("/", cookies=[f"{HIDDEN_COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}"])


@page(ROUTES, "GET", "/events/first-request", policy=Authenticated(), summary="Ends when a first request was answered")
async def first_request(context: Context) -> ResponseStream:
    """The feed ends when the step is done, and the page then asks for the list again."""
    services, actor = context.services, context.actor

    async def done() -> bool:
        return any(step.name == "request" and step.done for step in await checklist(services, actor))

    async def messages(_: str | None) -> AsyncIterator[Message]:
        if not await done():
            async for event in follow(services, actor, RequestFilter(status_code_max=399)):
                if event.kind == "end":
                    await services.ledger.recorded(_SECONDS_TO_RECORD)
                if await done():
                    break
        yield Message("done", "")

    return feed(context, messages)


def _all_done(steps: list[Step]) -> bool:
    return all(step.done for step in steps)


class First(msgspec.Struct, frozen=True):
    """The first request as a line for a terminal. ``unpaid``: it costs something, and whoever is signed in has nothing to pay with."""

    code: str
    model: str
    unpaid: bool


async def _first(context: Context) -> First | None:
    """With a model that a key of whoever is signed in may call."""
    services = context.services
    model = first_model(await models_for(services, services.keyring.principal_of_person(context.actor.user_id, "realtime")))
    if model is None:
        return None
    return First(snippets(api_base(context), model.alias, model.kind)[0].code, model.alias, model.unpaid)


def _shown(tiles: HomeTiles, span: str, everybody: bool) -> list[Shown]:
    since = f"range={span}"
    rate = _Share(tiles.errors, tiles.requests)
    shown = [
        _number("Requests", "count", tiles.requests, f"/requests?{since}"),
        Shown("Failed", "percent", rate.now, rate.change, rate.direction, tiles.errors.points, f"/requests?{since}&outcome=errors"),
        _number("Spend", "money", tiles.spend, f"/cost?{since}"),
    ]
    return [*shown, _number("Active users", "count", tiles.active_users, f"/cost?{since}&by=user")] if everybody else shown


def _number(label: str, kind: Literal["count", "money"], tile: Tile, href: str) -> Shown:
    if tile.value == tile.previous:
        change, direction = "as before", ""
    elif not tile.previous:
        change, direction = "none before", ""
    else:
        part = 100 * abs(tile.value - tile.previous) / tile.previous
        direction = "up" if tile.value > tile.previous else "down"
        change = f"{part:,.0f} % {'more' if direction == 'up' else 'less'} than before"
    return Shown(label, kind, tile.value, change, direction, tile.points, href)


class _Share:
    """The share of errors now, and in words how it was before."""

    def __init__(self, errors: Tile, requests: Tile) -> None:
        self.now = errors.value / requests.value if requests.value else None
        before = errors.previous / requests.previous if requests.previous else None
        self.direction = (
            "" if before is None or self.now is None or abs(before - self.now) < 0.0005 else "up" if self.now > before else "down"
        )
        self.change = "none before" if before is None else f"{100 * before:.1f} % before"
