"""``/admin/api/v1/groups``: groups and their members. Which models they may call is in ``dwctl.api.models``."""

from dwctl.api.context import Context
from dwctl.api.paging import Paginated, included
from dwctl.doorway import Needs, PageQuery, Route, route
from dwctl.operations import groups
from dwctl.operations.account_views import GroupResponse

ROUTES: list[Route] = []
BASE = "/admin/api/v1/groups"
TAG = "groups"


INCLUDES = ("users", "models")


class GroupListQuery(PageQuery, kw_only=True):
    """``include``: of ``INCLUDES``, separated by commas. ``search``: part of the name or description."""

    search: str | None = None
    include: str = ""


@route(
    ROUTES,
    "GET",
    BASE,
    policy=Needs("Groups", "read_all"),
    query=GroupListQuery,
    returns=Paginated[GroupResponse],
    summary="List groups",
    tag=TAG,
)
async def list_groups(context: Context) -> Paginated[GroupResponse]:
    """Groups by name."""
    page, query = context.page(), context.query
    found, total = await groups.list_groups(
        context.services, context.actor, skip=page.skip, limit=page.limit, search=query.search, include=included(query.include, INCLUDES)
    )
    return Paginated(found, total, page.skip, page.limit)


@route(
    ROUTES,
    "POST",
    BASE,
    policy=Needs("Groups", "create_all"),
    body=groups.GroupCreate,
    returns=GroupResponse,
    status=201,
    summary="Create a group",
    tag=TAG,
)
async def create_group(context: Context) -> GroupResponse:
    """Create a group without members."""
    return await groups.create_group(context.services, context.actor, context.body)


@route(ROUTES, "GET", f"{BASE}/<group_id>", policy=Needs("Groups", "read_all"), returns=GroupResponse, summary="Get a group", tag=TAG)
async def get_group(context: Context) -> GroupResponse:
    """One group."""
    return await groups.get_group(context.services, context.actor, context.uuid("group_id"))


@route(
    ROUTES,
    "PATCH",
    f"{BASE}/<group_id>",
    policy=Needs("Groups", "update_all"),
    body=groups.GroupUpdate,
    returns=GroupResponse,
    summary="Change a group",
    tag=TAG,
)
async def update_group(context: Context) -> GroupResponse:
    """Change name or description. Everyone is protected."""
    return await groups.update_group(
        context.services, context.actor, context.uuid("group_id"), context.body, revision=context.expected_revision()
    )


@route(ROUTES, "DELETE", f"{BASE}/<group_id>", policy=Needs("Groups", "delete_all"), status=204, summary="Delete a group", tag=TAG)
async def delete_group(context: Context) -> None:
    """Delete a group; members lose what only it gave them. Everyone is protected."""
    group_id = context.uuid("group_id")
    await groups.delete_group(context.services, context.actor, group_id, revision=context.expected_revision())


@route(
    ROUTES, "GET", f"{BASE}/<group_id>/users", policy=Needs("Users", "read_all"), returns=list[str], summary="List a group's users", tag=TAG
)
async def list_members(context: Context) -> list[str]:
    """Ids of the members; of everybody, for Everyone."""
    return await groups.members_of(context.services, context.actor, context.uuid("group_id"))


@route(
    ROUTES,
    "POST",
    f"{BASE}/<group_id>/users/<user_id>",
    policy=Needs("Groups", "update_all"),
    status=204,
    summary="Add a user to a group",
    tag=TAG,
)
async def add_member(context: Context) -> None:
    """Make a user a member; nothing happens if they are one."""
    await groups.add_member(context.services, context.actor, context.uuid("group_id"), context.user_id())


@route(
    ROUTES,
    "DELETE",
    f"{BASE}/<group_id>/users/<user_id>",
    policy=Needs("Groups", "update_all"),
    status=204,
    summary="Take a user out of a group",
    tag=TAG,
)
async def remove_member(context: Context) -> None:
    """End a membership."""
    await groups.remove_member(context.services, context.actor, context.uuid("group_id"), context.user_id())
