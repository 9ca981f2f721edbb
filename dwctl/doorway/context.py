"""What a handler gets: the parts of the program, who asks, and what they ask, already checked and decoded."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import msgspec
from sanic.request import Request

from dwctl.accounts.actors import Actor
from dwctl.accounts.principals import Keyring
from dwctl.config import Config
from dwctl.doorway.peers import Peer
from dwctl.errors import GatewayError, bad_request
from dwctl.store import Store
from dwctl.telemetry.bell import Bell

MAX_LIMIT = 101
"""A page of 100, and the one row more by which a client sees that there is a next page."""


class PageQuery(msgspec.Struct, kw_only=True):
    """Query of a list in pages; other queries derive from it."""

    skip: int = 0
    limit: int = 10


class Page(msgspec.Struct, frozen=True):
    """Which rows of a list: ``limit`` rows after the first ``skip``."""

    skip: int
    limit: int


class Parts(Protocol):
    """What the doorway itself needs of the program. Handlers get more: the API and the pages say what."""

    @property
    def config(self) -> Config: ...
    @property
    def store(self) -> Store: ...
    @property
    def keyring(self) -> Keyring: ...
    @property
    def access(self) -> Bell: ...
    @property
    def listening(self) -> Counter[str]: ...


PartsT_co = TypeVar("PartsT_co", bound=Parts, covariant=True)


class Context(Generic[PartsT_co]):
    """One administrative request."""

    __slots__ = ("_actor", "body", "form", "parameters", "peer", "query", "readmit", "request", "services")

    def __init__(self, services: PartsT_co, request: Request, peer: Peer, parameters: Mapping[str, str]) -> None:
        self.services = services
        self.request = request
        self.peer = peer
        self._actor: Actor | None = None
        self.parameters = parameters
        self.body: Any = None
        self.query: Any = None
        self.readmit: Callable[[], Awaitable[None]]
        """Ask again whether the request may be served, with what holds now. Raises GatewayError, StoreUnavailable."""
        self.form: Any = None
        """On pages: what was typed into a form that could not be accepted, with the messages about it."""

    def admit(self, actor: Actor | None) -> None:
        """It is known who asks."""
        self._actor = actor

    @property
    def visitor(self) -> Actor | None:
        """Who asks, if that is known: on public routes of the API it never is."""
        return self._actor

    @property
    def actor(self) -> Actor:
        """Who asks. There is one on every route that is not public."""
        if self._actor is None:
            raise LookupError("a public route has no actor")
        return self._actor

    def page(self) -> Page:
        """The page asked for by a ``PageQuery``; the limit is brought into 1..``MAX_LIMIT``, as Doubleword's control layer does."""
        query = self.query
        skip = getattr(query, "skip", 0)
        if not 0 <= skip <= 2**62:
            raise bad_request("skip must be a number that is not negative", param="skip")
        return Page(skip, min(max(getattr(query, "limit", 10), 1), MAX_LIMIT))

    def uuid(self, name: str) -> str:
        """A path parameter that is a UUID, in canonical form. Raises GatewayError 400."""
        return parse_uuid(self.parameters[name], name)

    def user_id(self, name: str = "user_id") -> str:
        """A path parameter that is a user's UUID, or ``current`` for the actor. Raises GatewayError 400."""
        return self.actor.user_id if self.parameters[name] == "current" else self.uuid(name)

    def expected_revision(self) -> int | None:
        """The revision that ``If-Match`` asks for; None without the header or with ``*``. Raises GatewayError 412."""
        header = self.request.headers.get("if-match", "*").strip()
        if header == "*":
            return None
        digits = header.removeprefix("W/").strip('"')
        if digits.isascii() and digits.isdigit() and len(digits) < 10:
            return int(digits)
        raise GatewayError(412, "invalid_request_error", "precondition_failed", "If-Match is not an ETag of this API", param="if-match")


def parse_uuid(text: str, name: str) -> str:
    """Canonical text of a UUID. Raises GatewayError 400 that names the field."""
    try:
        return str(UUID(text))
    except ValueError:
        raise bad_request(f"{name} is not a UUID", param=name) from None
