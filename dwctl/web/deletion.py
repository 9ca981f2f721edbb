"""The page that asks before something is deleted: what goes with it, counted by the server, and its name to be typed."""

from typing import Protocol

import msgspec

from dwctl.operations.consequences import Consequences
from dwctl.web.forms import wrong
from dwctl.web.pages import View, view

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


def sentences(kind: str, found: Consequences) -> list[str]:
    """A sentence for each thing that uses it, the requests of the last hour, and what stays."""
    told = [f"{use.count:,} {_USES[kind][use.what][use.count != 1]}." for use in found.uses]
    used = found.requests_last_hour
    told.append(
        f"{used:,} request{' used' if used == 1 else 's used'} it in the last hour." if used else "Nothing has used it in the last hour."
    )
    told.append("Requests that were made, and what they cost, stay on record.")
    return told


def deletion(kind: str, path: str, found: Consequences, *, trail: tuple[str, str]) -> View:
    """The page: ``kind`` in a word, the page of the thing (``path``), and the list above it (``trail``: label, path)."""
    return view("delete.html", kind=kind, path=path, name=found.name, sentences=sentences(kind, found), trail=trail)


def check_confirmed(form: Confirmed, name: str) -> None:
    """Raise FormError unless the name was typed."""
    if form.confirm.strip() != name.strip():
        raise wrong("confirm", "This is not the name. Nothing was deleted: type it exactly as it is shown.")
