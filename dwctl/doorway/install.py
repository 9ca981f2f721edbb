"""Puts a route table into a Sanic application: identity, policy, decoding and rendering around every handler.

There is no middleware and there are no signal handlers: they would cost every inference request. What an
administrative request needs happens in the wrapper of its handler.
"""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from sanic import Sanic
from sanic.request import Request
from sanic.response import HTTPResponse, ResponseStream
from tortoise.exceptions import IntegrityError

from dwctl.accounts.policy import require, require_for
from dwctl.doorway.bodies import streamed, take_body
from dwctl.doorway.context import Context, Parts
from dwctl.doorway.cors import CrossOrigin
from dwctl.doorway.cross_site import refuse_cross_site
from dwctl.doorway.identity import ProxySignIn, identify
from dwctl.doorway.measure import RouteMetrics
from dwctl.doorway.peers import TrustedProxies
from dwctl.doorway.policies import Authenticated, Needs, Public, declare, policy_of
from dwctl.doorway.routes import Route
from dwctl.doorway.surfaces import Api, Surface
from dwctl.errors import ConfigurationError, GatewayError, conflict, internal_error, unauthenticated, unavailable
from dwctl.store import StoreUnavailable

_log = structlog.get_logger("dwctl.doorway")

AMBIENT = ("session", "proxy_header")
"""Identities that a browser brings along by itself, whoever made it ask."""


@dataclass(frozen=True)
class Doorkeeper:
    """What every route's wrapper needs: who may be believed, and the parts that identify callers."""

    services: Parts
    proxies: TrustedProxies
    cross_origin: CrossOrigin
    proxy_sign_in: ProxySignIn | None

    async def stranger(self, request: Request) -> Context:
        """The context of a request that no route takes, with whoever sent it."""
        context = Context(self.services, request, self.proxies.peer(request), {})
        try:
            context.admit(await identify(self.services, request, context.peer, keys="none", proxy_sign_in=self.proxy_sign_in))
        except StoreUnavailable:
            pass  # nobody can be known at the moment; that is no reason to answer less
        return context

    async def admit(self, route: Route, context: Context, surface: Surface) -> None:
        """Let one request to a route in, or not. Raises GatewayError, StoreUnavailable."""
        policy, request, peer = route.policy, context.request, context.peer
        refusal = refuse_cross_site(request, peer.host, self.cross_origin.trusted)
        public = isinstance(policy, Public)
        if public and refusal is not None:
            # Nobody may be signed in, or out, by a request that another site made.
            raise refusal
        if public and not surface.knows_visitors:
            return
        actor = await identify(self.services, request, peer, keys=surface.keys(route), proxy_sign_in=self.proxy_sign_in)
        if not public:
            if actor is None:
                raise unauthenticated("Authentication required")
            if refusal is not None and actor.via in AMBIENT:
                raise refusal
        context.admit(actor)
        if isinstance(policy, Needs):
            _check(policy, context)


def install(
    app: Sanic, services: Parts, routes: Iterable[Route], *, proxy_sign_in: ProxySignIn | None = None, surface: Surface | None = None
) -> Doorkeeper:
    """Add every route to ``app``, by default as parts of the API; who keeps its door. ``proxy_sign_in`` finds the account of a
    proxy's user."""
    table = tuple(routes)
    shown = surface or Api()
    app.ctx.routes = {**getattr(app.ctx, "routes", {}), shown.table: (*route_table(app, shown.table), *table)}
    cross_origin = CrossOrigin(services.config.auth.security.cors)
    keeper = Doorkeeper(services, TrustedProxies(services.config.trusted_proxies), cross_origin, proxy_sign_in)
    for route in table:
        if not isinstance(route.policy, Public | Authenticated | Needs):
            raise TypeError(f"{route.method} {route.path}: the doorway cannot enforce {route.policy!r}")
        handler = declare(_handler(keeper, route, shown), route.policy)
        methods = shown.methods.get(route.method, [route.method])
        add_route(app, handler, route.path, methods, _name(route.method, route.path))
    if cross_origin.enabled and shown.cross_origin:
        add_preflights(app, cross_origin.preflight, (route.path for route in table))
    return keeper


def add_route(app: Sanic, handler: Callable[..., Any], path: str, methods: Iterable[str], name: str) -> None:
    """Add a handler to Sanic itself; its policy is stated with ``declare``.

    Our error handler renders every error. Sanic would still read the source of each handler to learn the form of its errors, a
    quarter of the time that a start takes, unless it is told one.
    """
    app.add_route(handler, path, methods=methods, name=name, error_format="json")


def add_preflights(app: Sanic, handler: Callable[..., Any], paths: Iterable[str]) -> None:
    """Add the handler by which browsers ask, before other sites' pages may use these paths."""
    for path in dict.fromkeys(paths):
        add_route(app, declare(handler, Public()), path, ["OPTIONS"], _name("OPTIONS", path))


def route_table(app: Sanic, table: str = "api") -> tuple[Route, ...]:
    """Every route of a surface that the doorway serves in ``app``."""
    found: tuple[Route, ...] = getattr(app.ctx, "routes", {}).get(table, ())
    return found


def verify(app: Sanic) -> None:
    """Raise ConfigurationError if a route of ``app``, however it was added, has no declared policy."""
    bare = sorted(f"{'/'.join(sorted(route.methods))} /{route.path}" for route in app.router.routes if policy_of(route.handler) is None)
    if bare:
        raise ConfigurationError(f"routes without a declared policy: {', '.join(bare)}")


def _name(method: str, path: str) -> str:
    return f"{method.lower()}_{path}".translate(str.maketrans("/<>:-", "_____"))


def _handler(keeper: Doorkeeper, route: Route, surface: Surface) -> Any:
    log_requests = keeper.services.config.log.requests
    request_read = keeper.services.config.timeouts.request_read
    public = isinstance(route.policy, Public)
    metrics = RouteMetrics(route.method, route.template)

    async def answer(context: Context) -> HTTPResponse | ResponseStream:
        try:
            await keeper.admit(route, context, surface)
            await take_body(context.request, public=public, seconds=request_read)
            if context.request.body:
                await keeper.admit(route, context, surface)  # what they may by now: a body can take its time
            return await surface.serve(route, context)
        except GatewayError as raised:
            error = raised
            if error.status == 403:
                _note_refusal(route, context, error)
        except IntegrityError:
            error = conflict("Somebody else has just stored the same. Please look again, and repeat what is still missing.")
        except StoreUnavailable:
            error = unavailable("database_unavailable", "The database is not available at the moment. Please try again.")
        except Exception:
            error = internal_error()
            error.fields["reference"] = reference = secrets.token_hex(4)
            _log.exception("request failed", method=route.method, path=route.path, reference=reference)
        return await surface.refuse(context, error)

    async def handle(request: Request, **parameters: str) -> HTTPResponse | ResponseStream:
        with metrics.measured() as measurement:
            context = Context(keeper.services, request, keeper.proxies.peer(request), parameters)
            context.readmit = partial(keeper.admit, route, context, surface)
            response = await answer(context)
            measurement.status = response.status
        if surface.cross_origin and isinstance(response, HTTPResponse):
            keeper.cross_origin.mark(request, response)
        if log_requests:
            _log.info("request", method=route.method, path=request.path, status=response.status, client_ip=context.peer.ip)
        return response

    return streamed(handle)


def _note_refusal(route: Route, context: Context, error: GatewayError) -> None:
    """Whoever tries what they may not leaves a line in the log."""
    visitor = context.visitor
    _log.warning(
        "forbidden",
        method=route.method,
        path=route.path,
        code=error.code,
        user_id=visitor.user_id if visitor is not None else None,
        client_ip=context.peer.ip,
    )


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
