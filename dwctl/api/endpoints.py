"""REST of endpoints: ``/admin/api/v1/endpoints``. Compatible with Doubleword's control layer in paths, fields and status codes."""

from typing import Literal

import msgspec

from dwctl import catalog
from dwctl.api.context import Context
from dwctl.doorway import Answer, Needs, PageQuery, Route, route
from dwctl.operations import catalog_views, endpoint_sync, endpoints
from dwctl.operations.catalog_views import EndpointView

ROUTES: list[Route] = []
BASE = "/admin/api/v1/endpoints"
TAG = "endpoints"


class ModelList(msgspec.Struct, kw_only=True):
    """A provider's models in the shape of OpenAI's list."""

    object: Literal["list"] = "list"
    data: list[catalog.ProviderModel]


class Validation(msgspec.Struct, kw_only=True):
    """The provider answered. If it does not, the request fails with an error that says why."""

    status: Literal["success"] = "success"
    models: ModelList
    error: None = None


@route(
    ROUTES,
    "GET",
    BASE,
    policy=Needs("Endpoints", "read_all"),
    query=PageQuery,
    returns=list[EndpointView],
    summary="List endpoints",
    tag=TAG,
)
async def list_endpoints(context: Context) -> list[EndpointView]:
    """Endpoints by name, as a bare array."""
    page = context.page()
    return await catalog_views.list_endpoints(context.actor, skip=page.skip, limit=page.limit)


@route(
    ROUTES,
    "POST",
    BASE,
    policy=Needs("Endpoints", "create_all"),
    body=endpoints.EndpointCreate,
    returns=EndpointView,
    status=201,
    summary="Create an endpoint",
    tag=TAG,
)
async def create_endpoint(context: Context) -> EndpointView:
    """Create an endpoint and import its models, all or nothing.

    The provider's list is fetched (within 30 s) unless ``skip_fetch`` says that ``model_filter`` is the list, or ``sync`` is
    false. An alias that is taken is a 409 whose ``conflicts`` name the models.
    """
    endpoint_id = await endpoints.create_endpoint(context.services, context.actor, context.body)
    return await catalog_views.get_endpoint(context.actor, endpoint_id)


@route(
    ROUTES,
    "POST",
    f"{BASE}/validate",
    policy=Needs("Endpoints", "create_all"),
    body=endpoints.EndpointValidate,
    returns=Validation,
    summary="Try an endpoint",
    tag=TAG,
)
async def validate_endpoint(context: Context) -> Validation:
    """Fetch a provider's model list without storing anything."""
    return Validation(models=ModelList(data=await endpoints.validate_endpoint(context.services, context.actor, context.body)))


@route(
    ROUTES, "GET", f"{BASE}/<endpoint_id>", policy=Needs("Endpoints", "read_all"), returns=EndpointView, summary="Get an endpoint", tag=TAG
)
async def get_endpoint(context: Context) -> EndpointView:
    """One endpoint; of its credential only ``requires_api_key``."""
    return await catalog_views.get_endpoint(context.actor, context.uuid("endpoint_id"))


@route(
    ROUTES,
    "PATCH",
    f"{BASE}/<endpoint_id>",
    policy=Needs("Endpoints", "update_all"),
    body=endpoints.EndpointUpdate,
    returns=EndpointView,
    summary="Change an endpoint",
    tag=TAG,
)
async def change_endpoint(context: Context) -> EndpointView:
    """Change the fields that are sent. When the address, credential or filter changes, the provider's list is followed anew
    unless ``alias_mapping`` is sent; should the provider not answer, the change stands."""
    endpoint_id = context.uuid("endpoint_id")
    await endpoints.change_endpoint(context.services, context.actor, endpoint_id, context.body, revision=context.expected_revision())
    return await catalog_views.get_endpoint(context.actor, endpoint_id)


@route(
    ROUTES, "DELETE", f"{BASE}/<endpoint_id>", policy=Needs("Endpoints", "delete_all"), status=204, summary="Delete an endpoint", tag=TAG
)
async def delete_endpoint(context: Context) -> Answer:
    """Delete an endpoint and the models on it; their requests and charges stay."""
    endpoint_id = context.uuid("endpoint_id")
    await endpoints.delete_endpoint(context.services, context.actor, endpoint_id, revision=context.expected_revision())
    return Answer(status=204)


@route(
    ROUTES,
    "POST",
    f"{BASE}/<endpoint_id>/synchronize",
    policy=Needs("Endpoints", "update_all"),
    returns=endpoint_sync.SyncReport,
    summary="Follow the provider's model list",
    tag=TAG,
)
async def synchronize_endpoint(context: Context) -> endpoint_sync.SyncReport:
    """Create what is new, revive what is back, retire what is gone, delete what the filter leaves out."""
    return await endpoint_sync.synchronize_endpoint(context.services, context.actor, context.uuid("endpoint_id"))
