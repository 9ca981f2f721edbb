"""The navigation: the entries that pages declare, as far as somebody may open them."""

from collections.abc import Iterable
from typing import get_args

import msgspec

from dwctl.accounts.actors import Actor
from dwctl.accounts.policy import allows, roles_with
from dwctl.doorway import Needs, Policy
from dwctl.web.formats import role_words
from dwctl.web.pages import Nav, PageRoute, Section


class Entry(msgspec.Struct, frozen=True):
    """A link of the navigation; ``current`` if it leads to the page that is shown, or to one above it."""

    nav: Nav
    path: str
    current: bool


class Navigation:
    """Built once from the table of pages."""

    def __init__(self, routes: Iterable[PageRoute]) -> None:
        routes = list(routes)
        self._creating = [route for route in routes if route.method == "GET" and route.path.endswith("/new") and not route.parameters]
        self._routes = sorted((route for route in routes if route.nav is not None), key=lambda route: route.nav.order if route.nav else 0)

    def sections(self, actor: Actor, path: str) -> list[tuple[Section, list[Entry]]]:
        """The sections with what the actor may open, each with its entries in order."""
        open_to = [route for route in self._routes if may_open(actor, route.policy)]
        above = [route.path for route in open_to if path == route.path or path.startswith(route.path.rstrip("/") + "/")]
        # Home is above everything, and is the present page only when it is shown itself.
        current = max((found for found in above if found != "/" or path == "/"), key=len, default=None)
        found = {section: [] for section in get_args(Section)}  # type: dict[Section, list[Entry]]
        for route in open_to:
            assert route.nav is not None
            found[route.nav.section].append(Entry(route.nav, route.path, route.path == current))
        return [(section, entries) for section, entries in found.items() if entries]

    def actions(self, actor: Actor) -> list[tuple[str, str]]:
        """What the actor may create: what to call it, and the page."""
        return [(route.summary, route.path) for route in self._creating if may_open(actor, route.policy)]


def may_open(actor: Actor, policy: Policy) -> bool:
    """Whether a page's policy lets the actor in; of pages about one owner, whether it lets anybody of theirs in."""
    return allows(actor, policy.resource, policy.operation) if isinstance(policy, Needs) else True


def roles_named(right: tuple[object, object] | None) -> list[str]:
    """The roles that have a right, in words."""
    if right is None:
        return []
    return [role_words(role) for role in roles_with(*right)]  # type: ignore[arg-type]
