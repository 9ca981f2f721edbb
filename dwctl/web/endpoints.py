"""``/admin/endpoints``: the providers, how each is reached, and what goes with one that is deleted."""

import msgspec

from dwctl.doorway import Needs, Route
from dwctl.operations import catalog_views, endpoint_setup, endpoints
from dwctl.operations.catalog_views import EndpointView
from dwctl.operations.endpoint_setup import Failure
from dwctl.web.context import Context
from dwctl.web.deletion import add_deletion
from dwctl.web.endpoint_forms import DIALECTS, SPEAKS, ConnectionForm, chosen_header
from dwctl.web.pages import Go, Nav, PageNumber, View, go, page, view

ROUTES: list[Route] = []
BASE = "/admin/endpoints"
PAGE_SIZE = 50
_TIMEOUTS = ("connection", "first byte", "between bytes", "in all")


class ListQuery(msgspec.Struct, kw_only=True):
    page: PageNumber = 1


async def endpoint_of(context: Context) -> EndpointView:
    """The endpoint that the path names. Raises GatewayError 400, 403, 404."""
    return await catalog_views.get_endpoint(context.actor, context.uuid("endpoint_id"))


@page(
    ROUTES,
    "GET",
    BASE,
    policy=Needs("Endpoints", "read_all"),
    query=ListQuery,
    summary="Endpoints",
    nav=Nav("Configure", "Endpoints", "plug", 10, key="e"),
)
async def show_endpoints(context: Context) -> View:
    """All endpoints with their numbers."""
    number = context.query.page
    found, total = await endpoint_setup.endpoint_summaries(context.services, context.actor, skip=(number - 1) * PAGE_SIZE, limit=PAGE_SIZE)
    return view("endpoints/list.html", summaries=found, total=total, page=number, size=PAGE_SIZE)


@page(ROUTES, "GET", f"{BASE}/<endpoint_id>", policy=Needs("Endpoints", "read_all"), summary="An endpoint")
async def show_endpoint(context: Context) -> View:
    """One endpoint and its models."""
    endpoint = await endpoint_of(context)
    held = await endpoint_setup.held_models(context.services, context.actor, endpoint.id)
    named = zip(_TIMEOUTS, (getattr(endpoint, name) for name in endpoints.TIMEOUTS), strict=True)
    timeouts = ", ".join(f"{label} {seconds:g} s" for label, seconds in named if seconds is not None)
    return view("endpoints/page.html", endpoint=endpoint, held=held, timeouts=timeouts, speaks=DIALECTS[endpoint.dialect][0])


@page(ROUTES, "GET", f"{BASE}/<endpoint_id>/edit", policy=Needs("Endpoints", "update_all"), summary="Change an endpoint")
async def edit_endpoint(context: Context) -> View:
    """How it is reached."""
    return connection(await endpoint_of(context))


def connection(endpoint: EndpointView, *, failure: Failure | None = None, advice: str = "", first: bool = False) -> View:
    """The form of a stored connection. ``failure`` and ``advice`` tell what came of testing it, ``first`` that it has no models yet."""
    return view(
        "endpoints/connection.html",
        endpoint=endpoint,
        speaks=SPEAKS,
        header=chosen_header(endpoint),
        failure=failure,
        advice=advice,
        first=first,
    )


@page(
    ROUTES,
    "POST",
    f"{BASE}/<endpoint_id>/edit",
    policy=Needs("Endpoints", "update_all"),
    form=ConnectionForm,
    again=edit_endpoint,
    summary="Change an endpoint",
)
async def change_endpoint(context: Context) -> Go:
    """Save; an endpoint that has no models yet goes on to them."""
    form: ConnectionForm = context.body
    stored = await endpoint_of(context)
    await endpoints.change_endpoint(context.services, context.actor, stored.id, form.change(stored), revision=form.revision)
    if not await endpoint_setup.held_models(context.services, context.actor, stored.id):
        return go(f"{BASE}/{stored.id}/models")
    return go(f"{BASE}/{stored.id}", "The endpoint is saved.")


add_deletion(
    ROUTES,
    "endpoint",
    f"{BASE}/<endpoint_id>",
    policy=Needs("Endpoints", "delete_all"),
    trail=("Endpoints", BASE),
    delete=endpoints.delete_endpoint,
    said="The endpoint {} and its models are deleted.",
)
