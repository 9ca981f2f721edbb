"""``/admin/api/v1/audit``: who changed what. An endpoint of our own, with keyset paging."""

import msgspec

from dwctl import clock
from dwctl.api.context import Context
from dwctl.doorway import Needs, Route, parse_uuid, route
from dwctl.errors import bad_request
from dwctl.operations import audit

ROUTES: list[Route] = []


class AuditQuery(msgspec.Struct, kw_only=True):
    """``before``: the ``next`` of the previous page. ``start_date`` and ``end_date`` are RFC 3339."""

    action: str | None = None
    resource: str | None = None
    resource_id: str | None = None
    actor_id: str | None = None
    start_date: str | None = None
    end_date: str | None = None
    before: int | None = None
    limit: int = 50


class AuditPage(msgspec.Struct):
    """Acts, newest first. ``next``: pass it as ``before`` for the page after this one; null: there is none."""

    data: list[audit.AuditEntry]
    next: int | None


@route(
    ROUTES,
    "GET",
    "/admin/api/v1/audit",
    policy=Needs("System", "read_all"),
    query=AuditQuery,
    returns=AuditPage,
    summary="List administrative acts",
    tag="audit",
)
async def list_audit(context: Context) -> AuditPage:
    """Administrative acts, newest first."""
    query = context.query
    limit = min(max(query.limit, 1), 200)
    if query.before is not None and abs(query.before) > 2**62:
        raise bad_request("before is not a place in this list", param="before")
    chosen = audit.AuditFilter(
        action=query.action,
        resource=query.resource,
        resource_id=query.resource_id,
        actor_id=None if query.actor_id is None else parse_uuid(query.actor_id, "actor_id"),
        from_us=_time(query.start_date, "start_date"),
        until_us=_time(query.end_date, "end_date"),
        before_seq=query.before,
    )
    entries = await audit.list_audit(context.services.store, context.actor, chosen, limit=limit + 1)
    more = len(entries) > limit
    return AuditPage(entries[:limit], entries[limit - 1].seq if more else None)


def _time(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    try:
        return clock.from_rfc3339(text)
    except ValueError:
        raise bad_request(f"{name} is not a time in RFC 3339", param=name) from None
