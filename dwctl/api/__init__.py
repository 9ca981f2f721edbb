"""The HTTP surfaces: administration under ``/admin/api/v1``, sign-in under ``/authentication``, inference under ``/ai/v1``.

Administration and sign-in are compatible with Doubleword's control layer (https://github.com/doublewordai/control-layer) in paths,
fields and status codes.

Each module of the administrative surfaces has a list ``ROUTES``; ``register`` puts them all into an application. Inference and
health have handlers of their own, which their modules add.
"""

from functools import partial

from sanic import Sanic

from dwctl import doorway
from dwctl.api import (
    api_keys,
    audit,
    authentication,
    config_api,
    endpoints,
    groups,
    models,
    openapi,
    requests,
    transactions,
    usage,
    users,
)
from dwctl.doorway import Route
from dwctl.operations.proxy_sign_in import proxy_sign_in
from dwctl.operations.services import Services

TABLES: tuple[list[Route], ...] = (
    authentication.ROUTES,
    users.ROUTES,
    groups.ROUTES,
    api_keys.ROUTES,
    endpoints.ROUTES,
    models.ROUTES,
    transactions.ROUTES,
    requests.ROUTES,
    usage.ROUTES,
    config_api.ROUTES,
    openapi.ROUTES,
    audit.ROUTES,
)
"""The route table of every module."""


def register(app: Sanic, services: Services) -> None:
    """Add every administrative route to ``app``."""
    doorway.install(app, services, [route for table in TABLES for route in table], proxy_sign_in=partial(proxy_sign_in, services))
