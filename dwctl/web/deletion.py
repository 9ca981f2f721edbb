"""The page that asks before something is deleted: what goes with it, counted by the server, and its name to be typed."""

import re
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from dwctl.accounts import Actor
from dwctl.doorway import Needs, Route
from dwctl.operations.consequences import Consequences, Kind, consequences
from dwctl.operations.services import Services
from dwctl.web.context import Context
from dwctl.web.forms import wrong
from dwctl.web.pages import Go, View, go, page, view

_USES = {
    "endpoint": {"models": ("model goes with it", "models go with it")},
    "model": {"groups": ("group loses access to it", "groups lose access to it"), "prices": ("price ends", "prices end")},
    "user": {
        "api_keys": ("API key stops working", "API keys stop working"),
        "groups": ("group membership ends", "group memberships end"),
    },
    "group": {
        "users": ("user loses what only this gives them", "users lose what only this gives them"),
        "models": ("model is no longer reached through it", "models are no longer reached through it"),
    },
}
"""What is deleted -> what uses it, in words for one and for several."""


class DeleteForm(msgspec.Struct, kw_only=True):
    confirm: str


class Confirmed(Protocol):
    """A form with what was typed to confirm it."""

    confirm: str


def sentences(kind: str, found: Consequences, count: int = 1) -> list[str]:
    """A sentence for each thing that uses what is deleted (``count`` of it), the requests of the last hour, and what stays."""
    it = "it" if count == 1 else "them"
    told = [f"{use.count:,} {_USES[kind][use.what][use.count != 1]}." for use in found.uses]
    used = found.requests_last_hour
    told.append(
        f"{used:,} request{' used' if used == 1 else 's used'} {it} in the last hour."
        if used
        else f"Nothing has used {it} in the last hour."
    )
    told.append("Requests that were made, and what they cost, stay on record.")
    return told


def add_deletion(
    table: list[Route],
    kind: Kind,
    path: str,
    *,
    policy: Needs,
    trail: tuple[str, str],
    delete: Callable[[Services, Actor, str], Awaitable[None]],
    said: str,
) -> None:
    """Add the page ``path``/delete, and what its form is sent to. ``path`` is the page of the thing, whose id is its one parameter;
    ``trail`` the list above it (label, path); ``said`` what is told afterwards, with a place for the name."""

    def id_in(context: Context) -> str:
        [parameter] = context.parameters
        return context.uuid(parameter)

    async def ask(context: Context) -> View:
        target_id = id_in(context)
        found = await consequences(context.services, context.actor, kind, target_id)
        own = _PARAMETER.sub(target_id, path)
        return view("delete.html", kind=kind, path=own, name=found.name, sentences=sentences(kind, found), trail=trail)

    async def act(context: Context) -> Go:
        target_id = id_in(context)
        found = await consequences(context.services, context.actor, kind, target_id)
        check_confirmed(context.body, found.name)
        await delete(context.services, context.actor, target_id)
        return go(trail[1], said.format(found.name))

    summary = f"Delete {'an' if kind[0] in 'aeiou' else 'a'} {kind}"
    page(table, "GET", f"{path}/delete", policy=policy, summary=summary)(ask)
    page(table, "POST", f"{path}/delete", policy=policy, form=DeleteForm, again=ask, summary=summary)(act)


_PARAMETER = re.compile(r"<\w+>")


def check_confirmed(form: Confirmed, name: str) -> None:
    """Raise FormError unless the name was typed."""
    if form.confirm.strip() != name.strip():
        raise wrong("confirm", "This is not the name. Nothing was deleted: type it exactly as it is shown.")
