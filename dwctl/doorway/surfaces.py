"""What differs between the API and the pages behind one door: which identities count, how input is read, how answers and errors look."""

from typing import Protocol

from sanic.response import HTTPResponse, ResponseStream

from dwctl.doorway.answers import respond, respond_error
from dwctl.doorway.context import Context
from dwctl.doorway.decode import decode_body, decode_query
from dwctl.doorway.identity import Keys
from dwctl.doorway.policies import Authenticated
from dwctl.doorway.routes import Route
from dwctl.errors import GatewayError, forbidden


class Surface(Protocol):
    """How a group of routes meets its callers."""

    table: str
    """The name under which ``route_table`` finds the routes."""
    methods: dict[str, list[str]]
    """The HTTP methods that a route's method answers."""
    knows_visitors: bool
    """Whether public routes learn who asks."""
    cross_origin: bool
    """Whether pages of the configured other origins may read the answers."""

    def keys(self, route: Route) -> Keys:
        """Which API keys count as an identity on this route."""

    async def serve(self, route: Route, context: Context) -> HTTPResponse | ResponseStream:
        """The answer to an admitted request. Raises GatewayError and whatever the handler raises."""

    async def refuse(self, context: Context, error: GatewayError) -> HTTPResponse:
        """The answer that says what was wrong."""


class Api:
    """JSON for programs."""

    table = "api"
    methods: dict[str, list[str]] = {}  # noqa: RUF012 - never changed
    knows_visitors = False
    cross_origin = True

    def keys(self, route: Route) -> Keys:
        return "every" if isinstance(route.policy, Authenticated) and route.policy.any_key else "platform"

    async def serve(self, route: Route, context: Context) -> HTTPResponse | ResponseStream:
        actor = context.visitor
        if actor is not None and actor.must_change_password and route.needs_own_password:
            raise forbidden("Change your password first.", code="password_change_required")
        if route.query is not None:
            context.query = decode_query(context.request, route.query)
        if route.body is not None:
            context.body = decode_body(context.request, route.body)
        return respond(await route.handler(context), route.status)

    async def refuse(self, context: Context, error: GatewayError) -> HTTPResponse:
        return respond_error(error)
