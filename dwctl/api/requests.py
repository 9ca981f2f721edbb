"""REST of the request log: ``/admin/api/v1/requests``."""

from typing import Annotated

import msgspec

from dwctl.api.context import Context
from dwctl.doorway import Needs, PageQuery, Route, parse_uuid, route
from dwctl.operations import requests, usage
from dwctl.operations.request_log import RequestFilter
from dwctl.operations.requests import RequestDetail, RequestEntry
from dwctl.operations.transactions import instant
from dwctl.operations.usage import ModelUserUsage, RequestsAggregate

ROUTES: list[Route] = []
BASE = "/admin/api/v1/requests"
TAG = "requests"


StatusCode = Annotated[int, msgspec.Meta(ge=0, le=999)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=2**42)]
RequestTag = Annotated[str, msgspec.Meta(description="One of the words that the caller gave the request in the header x-dwctl-tags.")]


class RequestListQuery(PageQuery, kw_only=True):
    """Times are RFC 3339. ``after`` is the id of the last request of the page before: steadier than ``skip`` while requests come in."""

    method: str | None = None
    uri_pattern: str | None = None
    status_code: StatusCode | None = None
    status_code_min: StatusCode | None = None
    status_code_max: StatusCode | None = None
    min_duration_ms: Milliseconds | None = None
    max_duration_ms: Milliseconds | None = None
    timestamp_after: str | None = None
    timestamp_before: str | None = None
    order_desc: bool = True
    model: str | None = None
    fusillade_batch_id: str | None = None
    custom_id: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None
    outcome: str | None = None
    error_code: str | None = None
    tag: RequestTag | None = None
    after: str | None = None


class RequestList(msgspec.Struct, kw_only=True):
    entries: list[RequestEntry]


class AggregateQuery(msgspec.Struct, kw_only=True):
    model: str | None = None
    timestamp_after: str | None = None
    timestamp_before: str | None = None


class ByUserQuery(msgspec.Struct, kw_only=True):
    model: str | None = None
    start_date: str | None = None
    end_date: str | None = None


def _uuid(text: str | None, field: str) -> str | None:
    return None if text is None else parse_uuid(text, field)


@route(
    ROUTES, "GET", BASE, policy=Needs("Requests", "read_all"), query=RequestListQuery, returns=RequestList, summary="List requests", tag=TAG
)
async def list_requests(context: Context) -> RequestList:
    """Requests, newest first, refused ones included. No request belongs to a batch or has a custom id."""
    query: RequestListQuery = context.query
    page = context.page()
    if query.fusillade_batch_id is not None or query.custom_id is not None:
        return RequestList(entries=[])
    chosen = RequestFilter(
        method=query.method,
        uri_pattern=query.uri_pattern,
        status_code=query.status_code,
        status_code_min=query.status_code_min,
        status_code_max=query.status_code_max,
        min_duration_ms=query.min_duration_ms,
        max_duration_ms=query.max_duration_ms,
        after_us=instant(query.timestamp_after, "timestamp_after"),
        before_us=instant(query.timestamp_before, "timestamp_before"),
        model=query.model,
        user_id=_uuid(query.user_id, "user_id"),
        key_id=_uuid(query.api_key_id, "api_key_id"),
        outcome=query.outcome,
        error_code=query.error_code,
        tag=query.tag,
        descending=query.order_desc,
        after_id=_uuid(query.after, "after"),
    )
    return RequestList(entries=await requests.list_requests(context.services, context.actor, chosen, skip=page.skip, limit=page.limit))


@route(
    ROUTES,
    "GET",
    f"{BASE}/aggregate",
    policy=Needs("Analytics", "read_all"),
    query=AggregateQuery,
    returns=RequestsAggregate,
    summary="Sum up requests",
    tag=TAG,
)
async def aggregate_requests(context: Context) -> RequestsAggregate:
    """By status, by model and over time: the last 24 hours, or a range of at most 31 days."""
    query: AggregateQuery = context.query
    return await usage.aggregate(
        context.services,
        context.actor,
        model=query.model,
        start_us=instant(query.timestamp_after, "timestamp_after"),
        end_us=instant(query.timestamp_before, "timestamp_before"),
    )


@route(
    ROUTES,
    "GET",
    f"{BASE}/aggregate-by-user",
    policy=Needs("Analytics", "read_all"),
    query=ByUserQuery,
    returns=ModelUserUsage,
    summary="Sum up the requests of one model by user",
    tag=TAG,
)
async def aggregate_by_user(context: Context) -> ModelUserUsage:
    """Who used ``model``: the last 24 hours, or a range, in whole hours."""
    query: ByUserQuery = context.query
    return await usage.aggregate_by_user(
        context.services,
        context.actor,
        model=query.model,
        start_us=instant(query.start_date, "start_date"),
        end_us=instant(query.end_date, "end_date"),
    )


@route(
    ROUTES, "GET", f"{BASE}/<request_id>", policy=Needs("Requests", "read_all"), returns=RequestDetail, summary="Explain a request", tag=TAG
)
async def get_request(context: Context) -> RequestDetail:
    """One request: where its time went, who was tried, how its cost came about, and its bodies where they are kept."""
    return await requests.get_request(context.services, context.actor, context.uuid("request_id"))
