"""``/admin/api/v1/users/{id}/api-keys``: API keys of a user."""

import msgspec

from dwctl.api.context import Context
from dwctl.api.paging import Paginated
from dwctl.doorway import Needs, PageQuery, Route, parse_uuid, route
from dwctl.operations import api_keys
from dwctl.operations.account_views import ApiKeyInfoResponse, ApiKeyResponse

ROUTES: list[Route] = []
BASE = "/admin/api/v1/users/<user_id>/api-keys"
TAG = "api-keys"


class ApiKeyListQuery(PageQuery, kw_only=True):
    """``created_by``: the holder's id."""

    created_by: str | None = None


class RotateQuery(msgspec.Struct, kw_only=True):
    """``overlap``: how long the old secret goes on."""

    overlap: api_keys.Overlap = "now"


@route(
    ROUTES,
    "GET",
    BASE,
    policy=Needs("ApiKeys", "read_all", own="user_id"),
    query=ApiKeyListQuery,
    returns=Paginated[ApiKeyInfoResponse],
    summary="List a user's API keys",
    tag=TAG,
)
async def list_keys(context: Context) -> Paginated[ApiKeyInfoResponse]:
    """Keys, newest first, without their secrets."""
    page, holder = context.page(), context.query.created_by
    found, total = await api_keys.list_keys(
        context.services,
        context.actor,
        context.user_id(),
        skip=page.skip,
        limit=page.limit,
        created_by=None if holder is None else parse_uuid(holder, "created_by"),
    )
    return Paginated(found, total, page.skip, page.limit)


@route(
    ROUTES,
    "POST",
    BASE,
    policy=Needs("ApiKeys", "create_all", own="user_id"),
    body=api_keys.ApiKeyCreate,
    returns=ApiKeyResponse,
    status=201,
    summary="Create an API key",
    tag=TAG,
)
async def create_key(context: Context) -> ApiKeyResponse:
    """Create a key. Its secret (`key`) is in this answer and in no other."""
    return await api_keys.create_key(context.services, context.actor, context.user_id(), context.body)


@route(
    ROUTES,
    "GET",
    f"{BASE}/<key_id>",
    policy=Needs("ApiKeys", "read_all", own="user_id"),
    returns=ApiKeyInfoResponse,
    summary="Get an API key",
    tag=TAG,
)
async def get_key(context: Context) -> ApiKeyInfoResponse:
    """One key, without its secret."""
    return await api_keys.get_key(context.services, context.actor, context.user_id(), context.uuid("key_id"))


@route(
    ROUTES,
    "PATCH",
    f"{BASE}/<key_id>",
    policy=Needs("ApiKeys", "update_all", own="user_id"),
    body=api_keys.ApiKeyUpdate,
    returns=ApiKeyInfoResponse,
    summary="Change an API key",
    tag=TAG,
)
async def update_key(context: Context) -> ApiKeyInfoResponse:
    """Change name, limits or expiry; null clears a limit."""
    return await api_keys.update_key(
        context.services, context.actor, context.user_id(), context.uuid("key_id"), context.body, revision=context.expected_revision()
    )


@route(
    ROUTES,
    "DELETE",
    f"{BASE}/<key_id>",
    policy=Needs("ApiKeys", "delete_all", own="user_id"),
    status=204,
    summary="Delete an API key",
    tag=TAG,
)
async def delete_key(context: Context) -> None:
    """Delete a key; it ends at once."""
    await api_keys.delete_key(
        context.services, context.actor, context.user_id(), context.uuid("key_id"), revision=context.expected_revision()
    )


@route(
    ROUTES,
    "POST",
    f"{BASE}/<key_id>/rotate",
    policy=Needs("ApiKeys", "update_all", own="user_id"),
    query=RotateQuery,
    returns=api_keys.RotatedKey,
    summary="Give an API key a new secret",
    tag=TAG,
)
async def rotate_key(context: Context) -> api_keys.RotatedKey:
    """The new secret, once; the old one ends at once, or after `overlap` (until then it is listed as a key of its own)."""
    return await api_keys.rotate_key(
        context.services,
        context.actor,
        context.user_id(),
        context.uuid("key_id"),
        overlap=context.query.overlap,
        revision=context.expected_revision(),
    )
