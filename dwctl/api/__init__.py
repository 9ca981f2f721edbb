"""The HTTP surfaces: administration under ``/admin/api/v1``, sign-in under ``/authentication``, inference under ``/ai/v1``.

Each module of the administrative surfaces has a list ``ROUTES``; ``register`` puts them all into an application.
"""

from typing import TYPE_CHECKING

from sanic import Sanic

from dwctl import doorway
from dwctl.doorway import Route
from dwctl.operations.services import Services

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLES: "Sequence[list[Route]]" = ()
"""The route table of every module."""


def register(app: Sanic, services: Services) -> None:
    """Add every administrative route to ``app``."""
    doorway.install(app, services, [route for table in TABLES for route in table])
