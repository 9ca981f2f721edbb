"""The Requests page: a page of the log, what it adds up to, its neighbours, and all of it as CSV.

Whoever may read everybody's requests does; everyone else finds their own account's. Nothing here reads more than the rows that it
shows, the summary no more than the newest ``SUMMARY_ROWS``.
"""

from collections.abc import AsyncIterator
from typing import Literal

import msgspec

from dwctl import clock
from dwctl.accounts import Actor, policy
from dwctl.errors import bad_request
from dwctl.operations import request_log
from dwctl.operations.account_views import in_chunks
from dwctl.operations.csv_text import csv_line
from dwctl.operations.request_log import END, OUTCOME_WORDS, RequestFilter
from dwctl.operations.requests import RequestEntry, emails_of, entry
from dwctl.operations.rows import canonical
from dwctl.operations.services import Services
from dwctl.store import Row

SUMMARY_ROWS = 10_000
EXPORT_ROWS = 1_000
"""Rows that an export holds at once."""
BARS = 60
_SECOND = clock.MICROSECONDS
WIDTHS = tuple(seconds * _SECOND for seconds in (1, 5, 15, 60, 300, 900, 3_600, 3 * 3_600, 6 * 3_600, 86_400, 5 * 86_400, 30 * 86_400))
"""Of a histogram's bar: each a multiple of the one before."""

_INPUT = "uncached_input + cache_read + cache_write_5m + cache_write_1h"


class LoggedRequest(RequestEntry, kw_only=True):
    """A request in the list of the page: ``seq`` is its place in the log, times are microseconds, money nano-credits."""

    seq: int
    started_us: int
    duration_us: int
    first_byte_us: int | None
    charge_nano: int | None
    api_key_name: str | None
    upstream_model: str | None
    """What the provider was asked for."""
    tariff_id: str | None
    """The price by which it was charged."""


class RequestPage(msgspec.Struct, kw_only=True):
    """Newest first. ``older`` and ``newer`` are the cursors (``before``, ``after``) of the pages beside it, None where there is none."""

    entries: list[LoggedRequest]
    older: int | None
    newer: int | None


class Totals(msgspec.Struct, kw_only=True):
    """``errors``: neither complete nor cancelled by the client. ``average_us`` is None without requests."""

    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    charge_nano: int = 0
    average_us: int | None = None


class Bar(msgspec.Struct, kw_only=True):
    """Requests that began from ``start_us`` for the histogram's width; the three parts add up to all of them."""

    start_us: int
    succeeded: int = 0
    """Also those that the client cancelled."""
    client_errors: int = 0
    server_errors: int = 0
    """With a status from 500, or broken off after the head of a success."""


class Summary(msgspec.Struct, kw_only=True):
    """Totals and histogram of the same requests: ``all`` that match, or the ``newest`` ``SUMMARY_ROWS`` of them."""

    covers: Literal["all", "newest"]
    from_us: int | None
    until_us: int | None
    """The first and the last start of a request that is covered; None without any."""
    totals: Totals
    width_us: int
    bars: list[Bar]


NOTHING = Summary(covers="all", from_us=None, until_us=None, totals=Totals(), width_us=WIDTHS[0], bars=[])
"""What no requests add up to."""


class Neighbours(msgspec.Struct, kw_only=True):
    """Ids of the requests beside one in the list."""

    newer: str | None
    older: str | None


def scoped(actor: Actor, chosen: RequestFilter) -> RequestFilter:
    """The filter as far as the actor may see. Raises GatewayError 400 for a value that cannot be, 403."""
    for field, text in (("request_id", chosen.request_id), ("user_id", chosen.user_id), ("key_id", chosen.key_id)):
        if text is not None:
            known = canonical(text)
            if known is None:
                raise bad_request(f"{field} is not a UUID: copy it from the list, or leave it empty", param=field)
            chosen = msgspec.structs.replace(chosen, **{field: known})
    if chosen.outcome is not None and chosen.outcome not in OUTCOME_WORDS:
        raise bad_request(f"outcome must be one of {', '.join(OUTCOME_WORDS)}", param="outcome")
    if chosen.after_us is not None and chosen.before_us is not None and chosen.after_us >= chosen.before_us:
        raise bad_request("The range must begin before it ends", param="after_us")
    if policy.allows(actor, "Requests", "read_all"):
        return chosen
    policy.require_for(actor, "Requests", "read_all", chosen.user_id or actor.user_id)
    return msgspec.structs.replace(chosen, user_id=actor.user_id)


async def end(services: Services) -> int:
    """The place of the newest request in the log; 0 if there is none. What is recorded from here on has a higher one."""
    [row] = await services.store.fetch("SELECT coalesce(max(seq), 0) AS seq FROM requests")
    place: int = row["seq"]
    return place


async def search(
    services: Services, actor: Actor, chosen: RequestFilter, *, limit: int = 50, before: int | None = None, after: int | None = None
) -> RequestPage:
    """A page of the log, newest first: from the top, or next to a cursor of another page. Raises GatewayError 400, 403."""
    found = await request_log.plan(services.store, scoped(actor, chosen))
    if found is None:
        return RequestPage(entries=[], older=None, newer=None)
    if after is not None:
        places = await request_log.seqs(services.store, found, limit=limit + 1, lowest=after + 1, down=False)
        has_newer, has_older = len(places) > limit, True
        places = places[:limit][::-1]
    else:
        places = await request_log.seqs(services.store, found, limit=limit + 1, highest=END if before is None else before - 1)
        has_newer, has_older = before is not None, len(places) > limit
        places = places[:limit]
    return RequestPage(
        entries=await _entries(services, await request_log.at(services.store, places)),
        older=places[-1] if places and has_older else None,
        newer=places[0] if places and has_newer else None,
    )


async def _entries(services: Services, rows: list[Row]) -> list[LoggedRequest]:
    emails = await emails_of(services, [str(row["account_id"]) for row in rows if row["account_id"] is not None])
    keys = [str(row["key_id"]) for row in rows if row["key_id"] is not None]
    names = {
        str(row["id"]): row["name"] for row in await in_chunks(services.store, "SELECT id, name FROM api_keys WHERE id IN ({places})", keys)
    }
    return [
        LoggedRequest(
            **entry(row, emails),
            seq=row["seq"],
            started_us=row["started_us"],
            duration_us=row["duration_us"],
            first_byte_us=row["first_byte_us"],
            charge_nano=row["charge_nano"],
            api_key_name=names.get(str(row["key_id"])),
            upstream_model=row["upstream_model"],
            tariff_id=None if row["tariff_id"] is None else str(row["tariff_id"]),
        )
        for row in rows
    ]


async def summarize(services: Services, actor: Actor, chosen: RequestFilter) -> Summary:
    """What the matching requests add up to, and when they were. Raises GatewayError 400, 403."""
    found = await request_log.plan(services.store, scoped(actor, chosen))
    places = [] if found is None else await request_log.seqs(services.store, found, limit=SUMMARY_ROWS)
    if found is None or not places:
        return NOTHING
    lowest = places[-1]
    ends = [row["started_us"] for row in await request_log.at(services.store, [lowest, places[0]])]
    width = _width(abs(ends[-1] - ends[0]))
    kind = (
        "CASE WHEN outcome IN ('complete', 'cancelled') THEN 'succeeded' WHEN status >= 400 AND status < 500 THEN 'client_errors'"
        " ELSE 'server_errors' END"
    )
    sql, args = found.query(
        f"started_us / {width} AS bucket, {kind} AS kind, COUNT(*) AS requests, SUM({_INPUT}) AS input, SUM(cache_read) AS cached,"
        " SUM(output) AS output, SUM(charge_nano) AS charge_nano, SUM(duration_us) AS duration_us, MIN(started_us) AS first_us,"
        " MAX(started_us) AS last_us",
        lowest=lowest,
        highest=places[0],
        tail=f" GROUP BY started_us / {width}, {kind}",
    )
    rows = await services.store.fetch_report(sql, args)

    def total(column: str) -> int:
        return sum(int(row[column] or 0) for row in rows)

    requests = total("requests")
    first_us, last_us = min(row["first_us"] for row in rows), max(row["last_us"] for row in rows)
    # Requests that ended last need not have begun last: the bars may have to be wider.
    width = _width(last_us - first_us, width)
    bars = [Bar(start_us=bucket * width) for bucket in range(first_us // width, last_us // width + 1)]
    for row in rows:
        bar = bars[row["first_us"] // width - first_us // width]
        setattr(bar, row["kind"], getattr(bar, row["kind"]) + int(row["requests"]))
    return Summary(
        covers="newest" if len(places) == SUMMARY_ROWS else "all",
        from_us=first_us,
        until_us=last_us,
        totals=Totals(
            requests=requests,
            errors=sum(int(row["requests"]) for row in rows if row["kind"] != "succeeded"),
            input_tokens=total("input"),
            cached_tokens=total("cached"),
            output_tokens=total("output"),
            charge_nano=total("charge_nano"),
            average_us=total("duration_us") // requests,
        ),
        width_us=width,
        bars=bars,
    )


def _width(span_us: int, least: int = 0) -> int:
    """The narrowest bar by which a span takes at most ``BARS``."""
    return next((width for width in WIDTHS if width >= least and span_us // width < BARS), WIDTHS[-1])


async def neighbours(services: Services, actor: Actor, chosen: RequestFilter, seq: int) -> Neighbours:
    """What lies beside a request in the list of a filter. Raises GatewayError 400, 403."""
    found = await request_log.plan(services.store, scoped(actor, chosen))
    if found is None:
        return Neighbours(newer=None, older=None)
    older = await request_log.seqs(services.store, found, limit=1, highest=seq - 1)
    newer = await request_log.seqs(services.store, found, limit=1, lowest=seq + 1, down=False)
    ids = {row["seq"]: str(row["id"]) for row in await request_log.at(services.store, older + newer)}
    return Neighbours(newer=ids.get(newer[0]) if newer else None, older=ids.get(older[0]) if older else None)


_COLUMNS: dict[str, str] = {
    "timestamp": "time_utc",
    "id": "request_id",
    "user_email": "user",
    "user_id": "user_id",
    "api_key_name": "api_key",
    "api_key_id": "api_key_id",
    "model": "model",
    "served_by": "endpoint",
    "method": "method",
    "uri": "path",
    "status_code": "status",
    "outcome": "outcome",
    "error_code": "error_code",
    "stream": "stream",
    "prompt_tokens": "input_tokens",
    "cache_read_input_tokens": "cached_tokens",
    "cache_creation_input_tokens": "cache_write_tokens",
    "completion_tokens": "output_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "estimated": "estimated",
    "first_byte_us": "first_byte_us",
    "duration_us": "duration_us",
    "tariff_id": "tariff_id",
    "total_cost": "cost",
    "tags": "tags",
}
"""Field -> heading of the export. ``cost`` is in credits, exact; empty: not billed. ``tags`` are as in the header, between commas."""


async def export_csv(services: Services, actor: Actor, chosen: RequestFilter) -> AsyncIterator[str]:
    """Everything that matches as CSV, newest first, in pieces. What is recorded meanwhile is not in it. Raises GatewayError 400, 403
    before the first piece."""
    found = await request_log.plan(services.store, scoped(actor, chosen))
    yield csv_line(_COLUMNS.values())
    highest = END
    while found is not None:
        places = await request_log.seqs(services.store, found, limit=EXPORT_ROWS, highest=highest)
        entries = await _entries(services, await request_log.at(services.store, places))
        if entries:
            yield "".join(map(_csv_line, entries))
        if len(places) < EXPORT_ROWS:
            return
        highest = places[-1] - 1


def _csv_line(logged: LoggedRequest) -> str:
    return csv_line(",".join(logged.tags) if field == "tags" else getattr(logged, field) for field in _COLUMNS)
