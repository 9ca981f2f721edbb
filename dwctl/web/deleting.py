"""The page that asks before something is deleted: what goes with it, counted by the server, and its name to be typed."""

import msgspec

from dwctl.operations.consequences import Consequences
from dwctl.web.forms import wrong
from dwctl.web.pages import View, view

_USES = {
    "api_keys": ("API key stops working", "API keys stop working"),
    "groups": ("group membership ends", "group memberships end"),
    "users": ("user loses what only this gives them", "users lose what only this gives them"),
    "models": ("model is no longer reached through it", "models are no longer reached through it"),
    "prices": ("price ends", "prices end"),
}


class ConfirmForm(msgspec.Struct, kw_only=True):
    confirm: str


def deletion(kind: str, path: str, found: Consequences, *, trail: tuple[str, str]) -> View:
    """The page: ``kind`` in a word, the page of the thing (``path``), and the list above it (``trail``: label, path)."""
    sentences = [f"{use.count:,} {_USES[use.what][use.count != 1]}." for use in found.uses]
    requests = found.requests_last_hour
    sentences.append(
        f"{requests:,} {'request' if requests == 1 else 'requests'} of the last hour used it."
        if requests
        else "No request of the last hour used it."
    )
    return view("delete.html", kind=kind, path=path, name=found.name, sentences=sentences, trail=trail)


def check_confirmed(form: ConfirmForm, name: str) -> None:
    """Raise FormError unless the name was typed."""
    if form.confirm.strip() != name.strip():
        raise wrong("confirm", "This is not the name. Type it exactly as it is shown.")
