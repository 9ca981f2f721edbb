"""The pages: HTML rendered by the server, for people. Every page works without scripts; htmx saves it the reload.

In: requests of browsers, with the identity, policy and cross-site check of the doorway. Out: ``templates/``, whole or one block of a
page; redirects; downloads; feeds. Each module of a feature has a list ``ROUTES`` of pages (``pages.page``), ``register`` puts them
all into an application. What is done, is done by ``operations``: a page holds no rule of its own about who may do what.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

from sanic import Sanic
from sanic.request import Request
from sanic.response import HTTPResponse

from dwctl import doorway
from dwctl.doorway import Route
from dwctl.errors import GatewayError
from dwctl.operations.proxy_sign_in import proxy_sign_in
from dwctl.operations.services import Services
from dwctl.web import (
    access,
    billing,
    cost,
    docs,
    endpoint_wizard,
    endpoints,
    groups,
    home,
    keys,
    managed_models,
    models,
    palette,
    password,
    playground,
    profile,
    request_tail,
    requests,
    reset,
    sign_in,
    system,
    undo,
    users,
)
from dwctl.web.assets import Assets
from dwctl.web.pages import PageRoute
from dwctl.web.rendering import Renderer
from dwctl.web.surface import Pages, wants_page

__all__ = ["TABLES", "register", "wants_page"]

TABLES: tuple[list[Route], ...] = (
    home.ROUTES,
    sign_in.ROUTES,
    password.ROUTES,
    reset.ROUTES,
    profile.ROUTES,
    users.ROUTES,
    groups.ROUTES,
    access.ROUTES,
    undo.ROUTES,
    billing.ROUTES,
    system.ROUTES,
    docs.ROUTES,
    palette.ROUTES,
    keys.ROUTES,
    playground.ROUTES,
    requests.ROUTES,
    request_tail.ROUTES,
    cost.ROUTES,
    endpoints.ROUTES,
    endpoint_wizard.ROUTES,
    models.ROUTES,
    managed_models.ROUTES,
)
"""The pages of every module."""


def register(app: Sanic, services: Services) -> Callable[[Request, GatewayError], Awaitable[HTTPResponse]]:
    """Add every page to ``app``. What it returns is the page for a request that no route takes."""
    routes = [cast(PageRoute, route) for table in TABLES for route in table]
    assets = Assets()
    assets.register(app)
    pages = Pages(Renderer(services.config, assets, routes), services.sealer.signing_key)
    keeper = doorway.install(app, services, routes, proxy_sign_in=partial(proxy_sign_in, services), surface=pages)

    async def refusal_page(request: Request, error: GatewayError) -> HTTPResponse:
        return await pages.refuse(await keeper.stranger(request), error)

    return refusal_page
