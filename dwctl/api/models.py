"""REST of models and of the groups that may call them: ``/admin/api/v1/models``, ``.../groups/{id}/models``."""

import msgspec
from msgspec import UNSET, UnsetType

from dwctl.api.context import Context
from dwctl.api.paging import included
from dwctl.doorway import Answer, Authenticated, Needs, PageQuery, Route, parse_uuid, route
from dwctl.errors import bad_request
from dwctl.operations import catalog_views, models
from dwctl.operations.catalog_views import Facets, ModelView

ROUTES: list[Route] = []
BASE = "/admin/api/v1/models"
GROUPS = "/admin/api/v1/groups"
TAG = "models"


class ModelListQuery(PageQuery, kw_only=True):
    """``include`` and ``group`` are lists separated by commas."""

    endpoint: str | None = None
    group: str | None = None
    include: str = ""
    deleted: bool = False
    inactive: bool = False
    accessible: bool = False
    search: str | None = None
    is_composite: bool | None = None
    provider: str | None = None
    model_type: str | None = None
    capability: str | None = None
    available_for_realtime: bool | None = None
    sort: catalog_views.Sort = "created_at"
    sort_direction: str = "desc"


class ModelQuery(msgspec.Struct, kw_only=True):
    include: str = ""
    deleted: bool = False


class ModelListResponse(msgspec.Struct, kw_only=True):
    data: list[ModelView]
    total_count: int
    skip: int
    limit: int
    facets: Facets | UnsetType = UNSET


@route(ROUTES, "GET", BASE, policy=Authenticated(), query=ModelListQuery, returns=ModelListResponse, summary="List models", tag=TAG)
async def list_models(context: Context) -> ModelListResponse:
    """Models that the caller can see: those of their groups, or, with the right to read all, every one.

    Fields that need a right the caller lacks are left out.
    """
    query: ModelListQuery = context.query
    if query.sort_direction not in ("asc", "desc"):
        raise bad_request("sort_direction must be asc or desc", param="sort_direction")
    page = context.page()
    groups = None if query.group is None else [parse_uuid(part.strip(), "group") for part in query.group.split(",") if part.strip()]
    found = await catalog_views.list_models(
        context.services,
        context.actor,
        catalog_views.ModelFilter(
            endpoint=query.endpoint,
            groups=groups,
            deleted=query.deleted,
            inactive=query.inactive,
            accessible=query.accessible,
            search=query.search,
            is_composite=query.is_composite,
            provider=query.provider,
            model_type=query.model_type,
            capability=query.capability,
            available_for_realtime=query.available_for_realtime,
            sort=query.sort,
            descending=query.sort_direction == "desc",
        ),
        skip=page.skip,
        limit=page.limit,
        include=included(query.include, catalog_views.INCLUDES),
    )
    return ModelListResponse(
        data=found.models,
        total_count=found.total,
        skip=page.skip,
        limit=page.limit,
        facets=UNSET if found.facets is None else found.facets,
    )


async def _shown(context: Context, model_id: str) -> ModelView:
    return await catalog_views.get_model(context.services, context.actor, model_id, include=("pricing", "groups"))


@route(
    ROUTES,
    "POST",
    BASE,
    policy=Needs("Models", "create_all"),
    body=models.ModelCreate,
    returns=ModelView,
    summary="Create a model",
    tag=TAG,
)
async def create_model(context: Context) -> ModelView:
    """Create a model on an endpoint, with its prices and groups."""
    return await _shown(context, await models.create_model(context.services, context.actor, context.body))


@route(ROUTES, "GET", f"{BASE}/<model_id>", policy=Authenticated(), query=ModelQuery, returns=ModelView, summary="Get a model", tag=TAG)
async def get_model(context: Context) -> ModelView:
    """One model; 404 also when it is beyond what the caller can see."""
    query: ModelQuery = context.query
    include = included(query.include, catalog_views.INCLUDES)
    return await catalog_views.get_model(context.services, context.actor, context.uuid("model_id"), include=include, deleted=query.deleted)


@route(
    ROUTES,
    "PATCH",
    f"{BASE}/<model_id>",
    policy=Needs("Models", "update_all"),
    body=models.ModelUpdate,
    returns=ModelView,
    summary="Change a model",
    tag=TAG,
)
async def change_model(context: Context) -> ModelView:
    """Change the fields that are sent. ``tariffs`` is the full set of prices wished for: what is in it and in force stays,
    other prices are closed, new ones begin now."""
    model_id = context.uuid("model_id")
    await models.change_model(context.services, context.actor, model_id, context.body, revision=context.expected_revision())
    return await _shown(context, model_id)


@route(ROUTES, "DELETE", f"{BASE}/<model_id>", policy=Needs("Models", "delete_all"), returns=str, summary="Delete a model", tag=TAG)
async def delete_model(context: Context) -> str:
    """Delete a model; its alias is free again, its requests and charges stay."""
    model_id = context.uuid("model_id")
    await models.delete_model(context.services, context.actor, model_id, revision=context.expected_revision())
    return model_id


@route(
    ROUTES,
    "GET",
    f"{BASE}/<model_id>/groups",
    policy=Needs("Groups", "read_all"),
    returns=list[str],
    summary="Groups that may call a model",
    tag=TAG,
)
async def model_groups(context: Context) -> list[str]:
    """Ids of the groups."""
    return await catalog_views.model_groups(context.actor, context.uuid("model_id"))


@route(
    ROUTES,
    "GET",
    f"{GROUPS}/<group_id>/models",
    policy=Needs("Groups", "read_all"),
    returns=list[str],
    summary="Models that a group may call",
    tag=TAG,
)
async def group_models(context: Context) -> list[str]:
    """Ids of the models."""
    return await catalog_views.group_models(context.actor, context.uuid("group_id"))


@route(
    ROUTES,
    "POST",
    f"{GROUPS}/<group_id>/models/<model_id>",
    policy=Needs("Groups", "update_all"),
    status=204,
    summary="Let a group call a model",
    tag=TAG,
)
async def grant_model(context: Context) -> Answer:
    """Nothing happens when the group may call it already."""
    await models.grant_model(context.services, context.actor, context.uuid("group_id"), context.uuid("model_id"))
    return Answer(status=204)


@route(
    ROUTES,
    "DELETE",
    f"{GROUPS}/<group_id>/models/<model_id>",
    policy=Needs("Groups", "update_all"),
    status=204,
    summary="Take a model from a group",
    tag=TAG,
)
async def revoke_model(context: Context) -> Answer:
    """From the next request on, members of this group only cannot call it."""
    await models.revoke_model(context.services, context.actor, context.uuid("group_id"), context.uuid("model_id"))
    return Answer(status=204)
