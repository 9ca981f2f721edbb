"""``/undo``: takes back what was just taken away, while the offer stands.

An offer is a signed text beside the message about the act: how it was before, to whom it is made, until when. Nothing is stored. Taking
an offer up is the act itself the other way round, with the same rights, the same checks and the same audit.
"""

import base64
from collections.abc import Mapping
from typing import Literal

import msgspec

from dwctl import clock
from dwctl.doorway import Needs, Route
from dwctl.errors import conflict
from dwctl.operations.access import set_grants
from dwctl.operations.groups import set_memberships
from dwctl.web.context import Context
from dwctl.web.forms import wrong
from dwctl.web.pages import Go, View, go, page, view
from dwctl.web.signing import Flash, Signer

ROUTES: list[Route] = []
PATH = "/undo"
SECONDS = 10
"""For which an offer is shown."""
_ON_THE_WAY = 2
"""Seconds for which an offer holds beyond that, since it has a way to the page and back."""
_MOST = 10
"""An offer is kept in a cookie: of more changes at once none is made."""

Act = Literal["grants", "memberships"]
_ACTS = {"grants": set_grants, "memberships": set_memberships}


class Offer(msgspec.Struct, array_like=True):
    """``before``: pairs as the operation names them, and whether each was there. ``back`` is the page of the act."""

    act: Act
    before: list[tuple[str, str, bool]]
    back: str
    until_us: int


class UndoForm(msgspec.Struct, kw_only=True):
    offer: str


def undoable(context: Context, text: str, act: Act, before: Mapping[tuple[str, str], bool], *, back: str) -> Flash:
    """The message about an act, with an offer to undo it if it took something away."""
    if not any(before.values()) or len(before) > _MOST:
        return Flash(text)
    until_us = clock.now_us() + (SECONDS + _ON_THE_WAY) * clock.MICROSECONDS
    offer = Offer(act, [(*pair, was) for pair, was in before.items()], back, until_us)
    written = base64.urlsafe_b64encode(msgspec.json.encode(offer)).decode()
    return Flash(text, undo=PATH, fields={"offer": _signer(context).sign(_purpose(context), written)}, seconds=SECONDS)


def _opened(context: Context, signed: str) -> Offer | None:
    """The offer, if it was made to whoever takes it up."""
    written = _signer(context).open(_purpose(context), signed)
    return msgspec.json.decode(base64.urlsafe_b64decode(written), type=Offer) if written is not None else None


def _signer(context: Context) -> Signer:
    return Signer(context.services.sealer.signing_key)


def _purpose(context: Context) -> str:
    return f"undo {context.actor.user_id}"


async def refused(context: Context) -> View:
    """Why it stays as it is, and the way back."""
    offer = _opened(context, context.form.value("offer"))
    return view("undo.html", back=offer.back if offer is not None else "/")


@page(ROUTES, "POST", PATH, policy=Needs("Groups", "update_all"), form=UndoForm, again=refused, summary="Undo")
async def undo(context: Context) -> Go:
    """Make it as it was."""
    offer = _opened(context, context.body.offer)
    if offer is None:
        raise wrong("offer", "This was not offered to you.")
    if clock.now_us() > offer.until_us:
        raise conflict(f"Undo is offered for {SECONDS} seconds, and they are over. Nothing was changed.")
    await _ACTS[offer.act](context.services, context.actor, {(one, other): was for one, other, was in offer.before})
    return go(offer.back, "It is as it was before.")
