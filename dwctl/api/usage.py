"""REST of usage: ``/admin/api/v1/usage``."""

import msgspec

from dwctl.api.context import Context
from dwctl.doorway import Authenticated, Route, route
from dwctl.operations import usage
from dwctl.operations.transactions import instant
from dwctl.operations.usage import UsageView

ROUTES: list[Route] = []


class UsageQuery(msgspec.Struct, kw_only=True):
    """Times are RFC 3339. ``refresh`` changes nothing: answers are never older than the last recorded request."""

    start_date: str | None = None
    end_date: str | None = None
    refresh: bool = False
    user_id: str | None = None


@route(
    ROUTES, "GET", "/admin/api/v1/usage", policy=Authenticated(), query=UsageQuery, returns=UsageView, summary="What was used", tag="usage"
)
async def get_usage(context: Context) -> UsageView:
    """One's own tokens, requests and costs by model; another account's with the right to read analytics."""
    query: UsageQuery = context.query
    return await usage.usage(
        context.services,
        context.actor,
        user_id=query.user_id,
        start_us=instant(query.start_date, "start_date"),
        end_us=instant(query.end_date, "end_date"),
    )
