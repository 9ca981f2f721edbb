"""How a page is declared, and what its handler may answer.

A page is a handler of the doorway with a policy, like a route of the API. What it adds: the struct that its form is read into
(``form``), the handler that shows the form again when it cannot be accepted (``again``), and its place in the navigation (``nav``).
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from sanic.response import HTTPResponse, ResponseStream

from dwctl.doorway import Policy, Route
from dwctl.web.context import Context
from dwctl.web.signing import Flash

PageNumber = Annotated[int, msgspec.Meta(ge=1, le=10**6)]
"""Of a list with numbered pages."""

Section = Literal["Observe", "Build", "Configure", "Account"]


class View(msgspec.Struct):
    """A template and what it shows. ``once``: it shows a secret, which nobody may keep. ``flash``: a message beside the block that was
    asked for."""

    template: str
    values: dict[str, Any]
    status: int = 200
    headers: dict[str, str] = {}
    cookies: list[str] = []
    once: bool = False
    flash: Flash | None = None


class Go(msgspec.Struct):
    """Go on to another page; ``flash`` is shown there."""

    to: str
    flash: Flash | None = None
    cookies: list[str] = []


class Update(msgspec.Struct, frozen=True):
    """A message of a feed: what its template shows. ``id`` is what a page that lost the feed comes back with."""

    id: str
    values: dict[str, Any]


class Feed(msgspec.Struct):
    """A feed of server-sent events, each the template with other values. ``updates`` is called with the id of the last one seen."""

    template: str
    updates: Callable[[str | None], AsyncIterator[Update]]


class Nav(msgspec.Struct, frozen=True):
    """A page's entry in the navigation. Entries of a section are in ascending ``order``; ``key`` goes there after ``g``."""

    section: Section
    label: str
    icon: str
    order: int = 50
    key: str = ""


class PageRoute(Route, frozen=True):
    """A page, or what a form of a page is sent to."""

    form: type[msgspec.Struct] | None = None
    again: "PageHandler | None" = None
    nav: Nav | None = None


PageAnswer = View | Go | Feed | HTTPResponse | ResponseStream
PageHandler = Callable[[Context], Awaitable[PageAnswer]]
_Handler = TypeVar("_Handler", bound=PageHandler)


def view(template: str, /, *, status: int = 200, once: bool = False, **values: Any) -> View:
    """A page: the template's path below ``templates/`` and the values that it shows."""
    return View(template, values, status, once=once)


def go(to: str, flash: str | Flash | None = None, *, cookies: list[str] | None = None) -> Go:
    """On to the page at ``to``, with a message if there is one."""
    return Go(to, Flash(flash) if isinstance(flash, str) else flash, cookies or [])


def page(
    table: list[Route],
    method: Literal["GET", "POST"],
    path: str,
    *,
    policy: Policy,
    summary: str,
    query: type[msgspec.Struct] | None = None,
    form: type[msgspec.Struct] | None = None,
    again: PageHandler | None = None,
    nav: Nav | None = None,
    needs_own_password: bool = True,
) -> Callable[[_Handler], _Handler]:
    """Add the decorated handler to ``table``.

    The handler gets a Context whose ``query`` and ``body`` are decoded to ``query`` and ``form``. A GatewayError raised in answer to
    a form shows the form again by ``again``, with what was typed and the message.
    """
    if method == "POST" and again is None and form is not None:
        raise TypeError(f"POST {path} has a form, and must say which handler shows it again")

    def add(handler: _Handler) -> _Handler:
        table.append(
            PageRoute(
                method,
                path,
                handler,
                policy,
                summary,
                query=query,
                form=form,
                again=again,
                nav=nav,
                needs_own_password=needs_own_password,
            )
        )
        return handler

    return add
