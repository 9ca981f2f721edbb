"""Puts a route table into a Sanic application: identity, policy, decoding and rendering around every handler.

There is no middleware and there are no signal handlers: they would cost every inference request. What an
administrative request needs happens in the wrapper of its handler.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import structlog
from sanic import Sanic
from sanic.request import Request
from sanic.response import HTTPResponse
from tortoise.exceptions import IntegrityError

from dwctl.accounts.policy import require, require_for
from dwctl.doorway.answers import respond, respond_error
from dwctl.doorway.context import Context
from dwctl.doorway.cors import CrossOrigin
from dwctl.doorway.cross_site import refuse_cross_site
from dwctl.doorway.decode import decode_body, decode_query
from dwctl.doorway.identity import ProxySignIn, identify
from dwctl.doorway.measure import measured
from dwctl.doorway.peers import TrustedProxies
from dwctl.doorway.policies import Authenticated, Needs, Public, declare, policy_of
from dwctl.doorway.routes import Route
from dwctl.errors import ConfigurationError, GatewayError, conflict, internal_error, unauthenticated, unavailable
from dwctl.store import StoreUnavailable

_log = structlog.get_logger("dwctl.doorway")

AMBIENT = ("session", "proxy_header")
"""Identities that a browser brings along by itself, whoever made it ask."""


@dataclass(frozen=True)
class Doorkeeper:
    """What every route's wrapper needs: who may be believed, and the parts that identify callers."""

    services: Any
    proxies: TrustedProxies
    cross_origin: CrossOrigin
    proxy_sign_in: ProxySignIn | None

    async def serve(self, route: Route, request: Request, parameters: dict[str, str]) -> HTTPResponse:
        """One request to a route. Raises GatewayError, StoreUnavailable and whatever the handler raises."""
        policy = route.policy
        peer = self.proxies.peer(request)
        refusal = refuse_cross_site(request, peer.host, self.cross_origin.trusted)
        actor = None
        if isinstance(policy, Public):
            # Nobody may be signed in, or out, by a request that another site made.
            if refusal is not None:
                raise refusal
        else:
            any_key = isinstance(policy, Authenticated) and policy.any_key
            actor = await identify(self.services, request, peer, any_key=any_key, proxy_sign_in=self.proxy_sign_in)
            if actor is None:
                raise unauthenticated("Authentication required")
            if refusal is not None and actor.via in AMBIENT:
                raise refusal
        context = Context(self.services, request, peer, actor, parameters)
        if isinstance(policy, Needs):
            _check(policy, context)
        if route.query is not None:
            context.query = decode_query(request, route.query)
        if route.body is not None:
            context.body = decode_body(request, route.body, public=isinstance(policy, Public))
        return respond(await route.handler(context), route.status)


def install(app: Sanic, services: Any, routes: Iterable[Route], *, proxy_sign_in: ProxySignIn | None = None) -> None:
    """Add every route to ``app``. ``proxy_sign_in`` finds the account of a proxy's user."""
    table = tuple(routes)
    app.ctx.routes = (*route_table(app), *table)
    cross_origin = CrossOrigin(services.config.auth.security.cors)
    keeper = Doorkeeper(services, TrustedProxies(services.config.trusted_proxies), cross_origin, proxy_sign_in)
    for route in table:
        if not isinstance(route.policy, Public | Authenticated | Needs):
            raise TypeError(f"{route.method} {route.path}: the doorway cannot enforce {route.policy!r}")
        handler = declare(_handler(keeper, route), route.policy)
        app.add_route(handler, route.path, methods=[route.method], name=_name(route.method, route.path))
    if cross_origin.enabled:
        for path in dict.fromkeys(route.path for route in table):
            app.add_route(declare(cross_origin.preflight, Public()), path, methods=["OPTIONS"], name=_name("OPTIONS", path))


def route_table(app: Sanic) -> tuple[Route, ...]:
    """Every route that the doorway serves in ``app``."""
    return getattr(app.ctx, "routes", ())


def verify(app: Sanic) -> None:
    """Raise ConfigurationError if a route of ``app``, however it was added, has no declared policy."""
    bare = sorted(f"{'/'.join(sorted(route.methods))} /{route.path}" for route in app.router.routes if policy_of(route.handler) is None)
    if bare:
        raise ConfigurationError(f"routes without a declared policy: {', '.join(bare)}")


def _name(method: str, path: str) -> str:
    return f"{method.lower()}_{path}".translate(str.maketrans("/<>:-", "_____"))


def _handler(keeper: Doorkeeper, route: Route) -> Any:
    log_requests = keeper.services.config.log.requests

    async def answer(request: Request, parameters: dict[str, str]) -> HTTPResponse:
        try:
            return await keeper.serve(route, request, parameters)
        except GatewayError as error:
            return respond_error(error)
        except IntegrityError:
            return respond_error(conflict("Somebody else has just stored the same. Please look again, and repeat what is still missing."))
        except StoreUnavailable:
            return respond_error(unavailable("database_unavailable", "The database is not available at the moment. Please try again."))
        except Exception:
            _log.exception("request failed", method=route.method, path=route.path)
            return respond_error(internal_error())

    async def handle(request: Request, **parameters: str) -> HTTPResponse:
        with measured(route.method, route.template) as measurement:
            response = await answer(request, parameters)
            measurement.status = response.status
        keeper.cross_origin.mark(request, response)
        if log_requests:
            _log.info("request", method=route.method, path=request.path, status=response.status, client_ip=keeper.proxies.peer(request).ip)
        return response

    return handle


def _check(policy: Needs, context: Context) -> None:
    if policy.own is None:
        require(context.actor, policy.resource, policy.operation)
        return
    try:
        owner = context.user_id(policy.own)
    except GatewayError:
        # Whoever may touch everybody's learns that the id is wrong; others only that they may not.
        require(context.actor, policy.resource, policy.operation)
        raise
    require_for(context.actor, policy.resource, policy.operation, owner)
