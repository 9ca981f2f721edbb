"""The route table: what the doorway serves, as a plain list that other parts may read (OpenAPI, tests)."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from dwctl.doorway.context import Context
from dwctl.doorway.policies import Policy

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Handler = Callable[[Context], Awaitable[Any]]

_PARAMETER = re.compile(r"<([a-z_]+)(?::[^>]*)?>")


def template_of(path: str) -> str:
    """A path in Sanic's notation, in OpenAPI's."""
    return _PARAMETER.sub(r"{\1}", path)


class Route(msgspec.Struct, frozen=True):
    """One method on one path. ``body``, ``query`` and ``returns`` are types that msgspec can decode and describe."""

    method: Method
    path: str
    """In Sanic's notation: ``/admin/api/v1/users/<user_id>``."""
    handler: Handler
    policy: Policy
    summary: str
    body: Any = None
    query: type[msgspec.Struct] | None = None
    returns: Any = None
    status: int = 200
    tag: str = ""
    needs_own_password: bool = True
    """Whether somebody who must change their password first has to do that."""

    @property
    def template(self) -> str:
        """The path in OpenAPI's notation: ``/admin/api/v1/users/{user_id}``."""
        return template_of(self.path)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the path's parameters, in order."""
        return tuple(_PARAMETER.findall(self.path))

    @property
    def compares_revisions(self) -> bool:
        """Whether the handler obeys ``If-Match``."""
        return Context.expected_revision.__name__ in self.handler.__code__.co_names

    @property
    def description(self) -> str:
        """The handler's docstring."""
        return (self.handler.__doc__ or "").strip()


def route(
    table: list[Route],
    method: Method,
    path: str,
    *,
    policy: Policy,
    summary: str,
    body: Any = None,
    query: type[msgspec.Struct] | None = None,
    returns: Any = None,
    status: int = 200,
    tag: str = "",
    needs_own_password: bool = True,
) -> Callable[[Handler], Handler]:
    """Add the decorated handler to ``table``.

    The handler gets a Context whose ``body`` and ``query`` are decoded to the given types, and returns a value to be encoded as
    JSON under ``status`` (None: an empty answer), an ``Answer``, or a Sanic response.
    """

    def add(handler: Handler) -> Handler:
        table.append(Route(method, path, handler, policy, summary, body, query, returns, status, tag, needs_own_password))
        return handler

    return add
