"""Sums over requests: by status, model, time and user, and what an account used.

Whatever the hourly sums can answer is answered from them. Status codes and percentiles need the rows themselves; they are
read for a bounded time, on a connection that keeps nobody waiting.
"""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from dwctl import clock, money
from dwctl.accounts import Actor, policy
from dwctl.errors import bad_request
from dwctl.operations import request_log
from dwctl.operations.requests import emails_of
from dwctl.operations.rows import canonical
from dwctl.operations.services import Services

MINUTE = 60 * clock.MICROSECONDS
DAY = 24 * clock.HOUR
MAX_RANGE = 31 * DAY
MAX_USAGE_DAYS = 180
BUCKETS = ((2 * clock.HOUR, 1), (12 * clock.HOUR, 10), (2 * DAY, 60), (8 * DAY, 360))
"""(longest range, minutes of a point); beyond, a point is a day."""

Number = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "number"})]
"""A decimal that is written digit by digit, since a binary fraction would not be exact."""


class StatusCount(msgspec.Struct):
    status: str
    count: int
    percentage: float


class ModelCount(msgspec.Struct):
    model: str
    count: int
    percentage: float
    avg_latency_ms: float


class TimePoint(msgspec.Struct, kw_only=True):
    timestamp: str
    duration_minutes: int
    requests: int
    input_tokens: int
    output_tokens: int
    avg_latency_ms: float | None
    p95_latency_ms: float | None
    p99_latency_ms: float | None


class RequestsAggregate(msgspec.Struct, kw_only=True):
    """Requests of a time range; ``models`` is left out when one model was asked for."""

    total_requests: int
    model: str | UnsetType = UNSET
    status_codes: list[StatusCount]
    models: list[ModelCount] | UnsetType = UNSET
    time_series: list[TimePoint]


class UserUsage(msgspec.Struct, kw_only=True):
    user_id: str | None
    user_email: str | None
    request_count: int
    total_tokens: int
    input_tokens: int
    output_tokens: int
    total_cost: Number
    last_active_at: str | None
    """To the hour."""


class ModelUserUsage(msgspec.Struct, kw_only=True):
    """What each account did with one model. Times are to the hour."""

    model: str
    start_date: str
    end_date: str
    total_requests: int
    total_tokens: int
    total_cost: Number
    users: list[UserUsage]


class ModelUsage(msgspec.Struct, kw_only=True):
    model: str
    input_tokens: int
    output_tokens: int
    cost: str
    request_count: int


class UsageView(msgspec.Struct, kw_only=True):
    """What an account used. Costs are credits as text."""

    total_input_tokens: int
    total_output_tokens: int
    total_request_count: int
    total_batch_count: int = 0
    avg_requests_per_batch: float = 0.0
    total_cost: str
    estimated_realtime_cost: str
    by_model: list[ModelUsage]


def _span(start_us: int | None, end_us: int | None, default: int, longest: int, field: str) -> tuple[int, int]:
    """The time range asked for: the last ``default`` microseconds unless said. Raises GatewayError 400."""
    end = clock.now_us() if end_us is None else end_us
    start = end - default if start_us is None else start_us
    if start >= end:
        raise bad_request(f"{field} must be before the end of the range", param=field)
    if end - start > longest:
        raise bad_request(f"The range may be at most {longest // DAY} days long", param=field)
    return start, end


async def aggregate(services: Services, actor: Actor, *, model: str | None, start_us: int | None, end_us: int | None) -> RequestsAggregate:
    """Requests of the last 24 hours, or of a range of at most 31 days. Raises GatewayError 400, 403."""
    policy.require(actor, "Analytics", "read_all")
    start, end = _span(start_us, end_us, DAY, MAX_RANGE, "timestamp_after")
    where, scope = await request_log.between(services.store, start, end)
    if model is not None:
        where += " AND alias = ?"
        scope.append(model)
    statuses = await services.store.fetch_report(
        f"SELECT status, COUNT(*) AS requests FROM requests WHERE {where} GROUP BY status ORDER BY requests DESC, status", scope
    )
    total = sum(int(row["requests"]) for row in statuses)
    result = RequestsAggregate(
        total_requests=total,
        status_codes=[StatusCount(str(row["status"]), int(row["requests"]), _percentage(int(row["requests"]), total)) for row in statuses],
        time_series=await _time_series(services, where, scope, start, end),
    )
    if model is not None:
        result.model = model
        return result
    models = await services.store.fetch_report(
        "SELECT alias, COUNT(*) AS requests, SUM(duration_us) AS duration_us FROM requests"
        f" WHERE {where} AND alias IS NOT NULL GROUP BY alias ORDER BY requests DESC, alias",
        scope,
    )
    result.models = [
        ModelCount(
            row["alias"],
            int(row["requests"]),
            _percentage(int(row["requests"]), total),
            int(row["duration_us"]) / int(row["requests"]) / 1000,
        )
        for row in models
    ]
    return result


def _percentage(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


async def _time_series(services: Services, where: str, scope: list[Any], start: int, end: int) -> list[TimePoint]:
    """Points of equal length, aligned to UTC, empty ones included. A percentile is the least duration that is not exceeded by
    that part of the requests."""
    minutes = next((minutes for longest, minutes in BUCKETS if end - start <= longest), 24 * 60)
    width = minutes * MINUTE
    rows = await services.store.fetch_report(
        "SELECT bucket, COUNT(*) AS requests, SUM(input) AS input, SUM(output) AS output, SUM(duration_us) AS duration_us,"
        " MAX(CASE WHEN place = (total * 95 + 99) / 100 THEN duration_us END) AS p95,"
        " MAX(CASE WHEN place = (total * 99 + 99) / 100 THEN duration_us END) AS p99"
        " FROM (SELECT bucket, input, output, duration_us, ROW_NUMBER() OVER (PARTITION BY bucket ORDER BY duration_us) AS place,"
        " COUNT(*) OVER (PARTITION BY bucket) AS total FROM (SELECT started_us / ? AS bucket,"
        " uncached_input + cache_read + cache_write_5m + cache_write_1h AS input, output, duration_us"
        f" FROM requests WHERE {where}) AS scoped) AS ranked GROUP BY bucket",
        [width, *scope],
    )
    found = {int(row["bucket"]): row for row in rows}
    points = []
    for bucket in range(start // width, -(-end // width)):
        row = found.get(bucket)
        requests = int(row["requests"]) if row else 0
        points.append(
            TimePoint(
                timestamp=clock.to_rfc3339(bucket * width),
                duration_minutes=minutes,
                requests=requests,
                input_tokens=int(row["input"]) if row else 0,
                output_tokens=int(row["output"]) if row else 0,
                avg_latency_ms=int(row["duration_us"]) / requests / 1000 if row else None,
                p95_latency_ms=int(row["p95"]) / 1000 if row else None,
                p99_latency_ms=int(row["p99"]) / 1000 if row else None,
            )
        )
    return points


async def aggregate_by_user(
    services: Services, actor: Actor, *, model: str | None, start_us: int | None, end_us: int | None
) -> ModelUserUsage:
    """Who used a model in the last 24 hours, or in a range, from the hourly sums. Raises GatewayError 400, 403."""
    policy.require(actor, "Analytics", "read_all")
    if not model:
        raise bad_request("model is missing", param="model")
    start, end = _span(start_us, end_us, DAY, MAX_USAGE_DAYS * DAY, "start_date")
    first, last = start // clock.HOUR, -(-end // clock.HOUR)
    rows = await services.store.fetch_report(
        "SELECT account_id, SUM(requests) AS requests, SUM(uncached_input + cache_read + cache_write) AS input,"
        " SUM(output) AS output, SUM(charge_nano) AS charge_nano, MAX(hour) AS hour"
        " FROM usage_hourly WHERE hour >= ? AND hour < ? AND alias = ? GROUP BY account_id ORDER BY requests DESC, account_id",
        [first, last, model],
    )
    emails = await emails_of(services, [str(row["account_id"]) for row in rows])
    users = [
        UserUsage(
            user_id=str(row["account_id"]),
            user_email=emails.get(str(row["account_id"])),
            request_count=int(row["requests"]),
            total_tokens=int(row["input"]) + int(row["output"]),
            input_tokens=int(row["input"]),
            output_tokens=int(row["output"]),
            total_cost=_number(int(row["charge_nano"])),
            last_active_at=clock.to_rfc3339(int(row["hour"]) * clock.HOUR),
        )
        for row in rows
    ]
    return ModelUserUsage(
        model=model,
        start_date=clock.to_rfc3339(first * clock.HOUR),
        end_date=clock.to_rfc3339(last * clock.HOUR),
        total_requests=sum(user.request_count for user in users),
        total_tokens=sum(user.total_tokens for user in users),
        total_cost=_number(sum(int(row["charge_nano"]) for row in rows)),
        users=users,
    )


def _number(nano: int) -> msgspec.Raw:
    return msgspec.Raw(money.format_amount(nano).encode())


async def usage(services: Services, actor: Actor, *, user_id: str | None, start_us: int | None, end_us: int | None) -> UsageView:
    """What an account used: the actor's own, or another's with the right to read analytics.

    Without dates everything; with a start or an end at most the 180 days before the end. Whole hours count.
    Raises GatewayError 400, 403.
    """
    account = actor.user_id if user_id is None else canonical(user_id)
    if account is None:
        raise bad_request("user_id is not a UUID", param="user_id")
    if account != actor.user_id:
        policy.require(actor, "Analytics", "read_all")
    where, args = "account_id = ?", [account]
    scope: list[Any] = list(args)
    if start_us is not None or end_us is not None:
        end = clock.now_us() if end_us is None else end_us
        earliest = end - MAX_USAGE_DAYS * DAY
        start = earliest if start_us is None else max(start_us, earliest)
        where += " AND hour >= ? AND hour < ?"
        scope += [start // clock.HOUR, -(-end // clock.HOUR)]
    rows = await services.store.fetch_report(
        "SELECT alias, SUM(requests) AS requests, SUM(uncached_input + cache_read + cache_write) AS input, SUM(output) AS output,"
        f" SUM(charge_nano) AS charge_nano FROM usage_hourly WHERE {where} GROUP BY alias ORDER BY charge_nano DESC, alias",
        scope,
    )
    cost = money.format_amount(sum(int(row["charge_nano"]) for row in rows))
    return UsageView(
        total_input_tokens=sum(int(row["input"]) for row in rows),
        total_output_tokens=sum(int(row["output"]) for row in rows),
        total_request_count=sum(int(row["requests"]) for row in rows),
        total_cost=cost,
        estimated_realtime_cost=cost,
        by_model=[
            ModelUsage(
                model=row["alias"],
                input_tokens=int(row["input"]),
                output_tokens=int(row["output"]),
                cost=money.format_amount(int(row["charge_nano"])),
                request_count=int(row["requests"]),
            )
            for row in rows
        ],
    )
