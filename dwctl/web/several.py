"""Acts on several rows of a list: those that are ticked, or all that match its filters, shown with what follows before it is done.

The list's address with ``id`` or ``all`` says which rows they are, on the page that asks and again in the form that is sent. What is
confirmed is what was shown: if other rows match by then, the page asks again.
"""

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from dwctl.errors import bad_request, conflict
from dwctl.operations.consequences import Joining, Sharing
from dwctl.operations.rows import canonical
from dwctl.web.context import Context
from dwctl.web.deletion import check_confirmed
from dwctl.web.forms import decode_fields
from dwctl.web.pages import View, view

MOST = 1000
"""Rows of one act, which is one transaction: on SQLite all other writes wait for it."""
_NAMED = 25


class Chosen(msgspec.Struct, kw_only=True):
    """Words of the address beside those of the list. ``group``: whom the act is about, if it is about one."""

    id: list[str] = []
    all: bool = False
    group: str | None = None

    @property
    def ids(self) -> list[str] | None:
        """The rows that are ticked, None for all that match."""
        return None if self.all else [known for row_id in self.id if (known := canonical(row_id)) is not None]

    @property
    def needed_group(self) -> str:
        """Raises GatewayError 400 if none was chosen."""
        if self.group is None:
            raise bad_request("Choose a group beside the list first.", param="group")
        return self.group


class SeveralForm(msgspec.Struct, kw_only=True):
    """``seen``: which rows the page had shown (``mark``); ``confirm``: how many of what, typed."""

    seen: str
    confirm: str = ""


class Rows(msgspec.Struct, frozen=True):
    """What was chosen: ids and names. ``kind`` in words for one and for several."""

    named: Sequence[tuple[str, str]]
    kind: tuple[str, str]

    @property
    def ids(self) -> list[str]:
        return [row_id for row_id, _ in self.named]

    @property
    def said(self) -> str:
        """``1 user``, ``137 users``."""
        return f"{len(self.named)} {self.kind[len(self.named) != 1]}"

    @property
    def mark(self) -> str:
        """Tells this choice from every other."""
        return hashlib.sha256("\n".join(sorted(self.ids)).encode()).hexdigest()


def chosen_of(context: Context) -> Chosen:
    """Which rows the address names."""
    chosen: Chosen = decode_fields(dict(context.request.args), Chosen)
    return chosen


def rows(found: Iterable[tuple[str, str]], total: int, kind: tuple[str, str]) -> Rows:
    """What was chosen. Raises GatewayError 400 if it is too much at once."""
    if total > MOST:
        raise bad_request(f"{total:,} {kind[1]} match, and {MOST:,} are the most at once. Narrow the list by a search first.")
    return Rows(list(found), kind)


def asking(chosen: Rows, verb: str, sentences: list[str], *, trail: tuple[str, str], danger: bool = False, rest: str = "") -> View:
    """The page that asks. ``verb`` and ``rest`` are the words around what was chosen; what is dangerous wants its number typed."""
    return view(
        "several.html",
        chosen=chosen,
        verb=verb,
        rest=rest,
        named=[name for _, name in chosen.named[:_NAMED]],
        more=max(0, len(chosen.named) - _NAMED),
        sentences=sentences,
        trail=trail,
        danger=danger,
    )


def check(form: SeveralForm, chosen: Rows, *, typed: bool = False) -> None:
    """Raise GatewayError unless what is confirmed is what was shown, and its number was typed if it had to be."""
    if form.seen != chosen.mark:
        raise conflict("The list has changed since, so that other rows are chosen now. Look at them, and confirm again.")
    if typed:
        check_confirmed(form, chosen.said)


def join_sentences(found: Joining, users: int) -> list[str]:
    """What it means that users join a group."""
    told = [f"They may call what {found.group} may call: {_count(found.models, 'model')}. It holds from the next request on."]
    if found.members:
        told.insert(0, f"{found.members} of {users} {'is a member' if found.members == 1 else 'are members'} already, and nothing changes.")
    return told


def share_sentences(found: Sharing, models: int) -> list[str]:
    """What it means that a group gets models."""
    told = [f"{_count(found.members, 'user')} of {found.group} may call them. It holds from the next request on."]
    if found.held:
        told.insert(0, f"{found.held} of {models} may be called by {found.group} already, and nothing changes.")
    return told


def take_sentences(found: Sharing, models: int) -> list[str]:
    """What it means that models are taken from a group."""
    told = [f"{found.group} may call {found.held} of {models} now."]
    told.append(f"{_count(found.members, 'user')} of {found.group} may not call them any more, except through other groups.")
    if found.last:
        told.append(f"{_count(found.last, 'model')} can be called by nobody then.")
    told.append(f"{_count(found.requests_last_hour, 'request')} of its members used them in the last hour.")
    return told


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
