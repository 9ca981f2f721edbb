"""``/``: how the gateway does, and where to go. Programs that ask get the server's name and its addresses as JSON."""

from typing import Any

import msgspec
from sanic.response import HTTPResponse

from dwctl import __version__
from dwctl.doorway import Context, Public, Route
from dwctl.operations.users import read_user
from dwctl.web.pages import Nav, go, page, view
from dwctl.web.surface import wants_page

ROUTES: list[Route] = []

_REASONS = {
    "database_unavailable": "The database does not answer. Requests are served from memory, and recorded on disk until it is back.",
    "recorder_lagging": "Records reach the database late. What the pages show may be some seconds old.",
    "journal_sync_failed": "The journal could not be written to disk in time: a power failure now could lose the newest records.",
    "quarantine": "Some records could not be stored and wait in journal/quarantine of the data directory. Their charges are kept.",
    "journal_full": "The journal on disk is full: priced requests are refused until records have reached the database.",
}
"""Reasons of ``/readyz`` in sentences; others are shown as they are."""


@page(ROUTES, "GET", "/", policy=Public(), summary="Home", nav=Nav("Observe", "Home", "house", 0, key="h"))
async def home(context: Context) -> Any:
    """What a person sees first."""
    if not wants_page(context.request):
        about = {"name": "dwctl", "version": __version__, "inference": "/ai/v1", "administration": "/admin/api/v1"}
        return HTTPResponse(msgspec.json.encode(about), 200, {"vary": "Accept"}, "application/json")
    if context.visitor is None:
        return go("/login")
    user = await read_user(context.services, context.actor.user_id)
    ledger = context.services.ledger
    reasons = [_REASONS.get(reason, reason.replace("_", " ")) for reason in ledger.degraded()]
    return view("home/page.html", name=user.display_name or user.username, reasons=reasons, admitting=ledger.can_admit())
