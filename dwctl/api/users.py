"""``/admin/api/v1/users``: users and their groups."""

from dwctl.api.context import Context
from dwctl.api.paging import Paginated, included
from dwctl.doorway import Needs, PageQuery, Route, route
from dwctl.operations import groups, users
from dwctl.operations.account_views import GroupResponse, UserResponse

ROUTES: list[Route] = []


class UserListQuery(PageQuery, kw_only=True):
    """``include``: groups and billing, separated by commas. ``search``: part of a name or e-mail address."""

    search: str | None = None
    include: str = ""


class UserQuery(PageQuery, kw_only=True):
    """``include``: billing, groups and organizations, separated by commas."""

    include: str = ""


@route(
    ROUTES,
    "GET",
    "/admin/api/v1/users",
    policy=Needs("Users", "read_all"),
    query=UserListQuery,
    returns=Paginated[UserResponse],
    summary="List users",
    tag="users",
)
async def list_users(context: Context) -> Paginated[UserResponse]:
    page, query = context.page(), context.query
    include = included(query.include, ("groups", "billing"))
    found, total = await users.list_users(
        context.services, context.actor, skip=page.skip, limit=page.limit, search=query.search, include=include
    )
    return Paginated(found, total, page.skip, page.limit)


@route(
    ROUTES,
    "POST",
    "/admin/api/v1/users",
    policy=Needs("Users", "create_all"),
    body=users.UserCreate,
    returns=UserResponse,
    status=201,
    summary="Create a user",
    tag="users",
)
async def create_user(context: Context) -> UserResponse:
    return await users.create_user(context.services, context.actor, context.body)


@route(
    ROUTES,
    "GET",
    "/admin/api/v1/users/<user_id>",
    policy=Needs("Users", "read_all", own="user_id"),
    query=UserQuery,
    returns=UserResponse,
    summary="Get a user; `current` is the caller",
    tag="users",
)
async def get_user(context: Context) -> UserResponse:
    include = included(context.query.include, ("billing", "groups", "organizations"))
    user = await users.get_user(context.services, context.actor, context.user_id(), include=include)
    if context.parameters["user_id"] == "current":
        user.active_organization_id = None
    return user


@route(
    ROUTES,
    "PATCH",
    "/admin/api/v1/users/<user_id>",
    policy=Needs("Users", "update_all", own="user_id"),
    body=users.UserUpdate,
    returns=UserResponse,
    summary="Change a user",
    tag="users",
)
async def update_user(context: Context) -> UserResponse:
    return await users.update_user(context.services, context.actor, context.user_id(), context.body, revision=context.expected_revision())


@route(
    ROUTES,
    "DELETE",
    "/admin/api/v1/users/<user_id>",
    policy=Needs("Users", "delete_all"),
    status=204,
    summary="Delete a user",
    tag="users",
)
async def delete_user(context: Context) -> None:
    await users.delete_user(context.services, context.actor, context.user_id(), revision=context.expected_revision())


@route(
    ROUTES,
    "GET",
    "/admin/api/v1/users/<user_id>/groups",
    policy=Needs("Users", "read_all", own="user_id"),
    returns=list[GroupResponse],
    summary="List a user's groups",
    tag="users",
)
async def list_groups_of_user(context: Context) -> list[GroupResponse]:
    return await groups.groups_of(context.services, context.actor, context.user_id())


@route(
    ROUTES,
    "POST",
    "/admin/api/v1/users/<user_id>/groups/<group_id>",
    policy=Needs("Users", "update_all"),
    status=204,
    summary="Add a user to a group",
    tag="users",
)
async def add_group(context: Context) -> None:
    await groups.add_member(context.services, context.actor, context.uuid("group_id"), context.user_id())


@route(
    ROUTES,
    "DELETE",
    "/admin/api/v1/users/<user_id>/groups/<group_id>",
    policy=Needs("Users", "update_all"),
    status=204,
    summary="Take a user out of a group",
    tag="users",
)
async def remove_group(context: Context) -> None:
    await groups.remove_member(context.services, context.actor, context.uuid("group_id"), context.user_id())
