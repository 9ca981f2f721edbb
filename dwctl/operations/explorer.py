"""Cost and usage by whatever was asked for, from the sums of hours and days: groups, time, the period before, totals equal to the ledger's.

Whole hours UTC count. Whoever may read analytics sees everybody's, everyone else their own account's. An hour's requests are those
that began in it; their charges count there, whenever they were recorded.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from dwctl import clock, money
from dwctl.accounts import NIL, Actor, policy
from dwctl.errors import bad_request
from dwctl.operations.account_views import in_chunks
from dwctl.operations.csv_text import csv_line
from dwctl.operations.requests import emails_of
from dwctl.operations.rows import canonical
from dwctl.operations.services import Services
from dwctl.store import Row

By = Literal["model", "key", "user", "endpoint", "hour", "day", "month"]
BYS: tuple[By, ...] = ("model", "key", "user", "endpoint", "hour", "day", "month")
Metric = Literal["charge_nano", "requests", "errors", "input_tokens", "cached_tokens", "output_tokens"]
METRICS: tuple[Metric, ...] = ("charge_nano", "requests", "errors", "input_tokens", "cached_tokens", "output_tokens")
MAX_HOURS = 400 * 24
SPARK_POINTS = 24
MAX_TILE_HOURS = 7 * 24

_EXPRESSIONS: dict[By, str] = {
    "model": "alias",
    "key": "key_id",
    "user": "account_id",
    "endpoint": "endpoint_name",
    "hour": "hour",
    "day": "day",
    "month": "day",
}
_COLUMNS = "account_id, key_id, alias, endpoint_name, charge_nano, requests, errors, uncached_input, cache_read, cache_write, output"
_SUMS = (
    "SUM(charge_nano) AS charge_nano, SUM(requests) AS requests, SUM(errors) AS errors,"
    " SUM(uncached_input + cache_read + cache_write) AS input_tokens, SUM(cache_read) AS cached_tokens, SUM(output) AS output_tokens"
)


class Question(msgspec.Struct, kw_only=True):
    """What to add up: hours from ``start_us`` until before ``end_us`` (both widened to whole hours), of some, by something."""

    start_us: int
    end_us: int
    group_by: By = "model"
    then_by: By | None = None
    metric: Metric = "charge_nano"
    """By which groups are ranked."""
    top: int = 10
    """Groups shown by themselves; the rest is ``Other``. Groups of time are never put together."""
    user_id: str | None = None
    key_id: str | None = None
    model: str | None = None
    """Its alias, which another model may have had before."""
    model_id: str | None = None
    endpoint: str | None = None


class Sums(msgspec.Struct, kw_only=True):
    """Money in nano-credits; ``input_tokens`` include ``cached_tokens``."""

    charge_nano: int = 0
    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


class Group(msgspec.Struct, kw_only=True):
    """One group. ``key`` is what a filter takes (an id, an alias, microseconds of a time; None for ``Other``), ``label`` what to show."""

    key: str | None
    label: str
    sums: Sums
    parts: list["Group"] = []
    """By ``then_by``; they add up to the group."""


class Exploration(msgspec.Struct, kw_only=True):
    """Groups, the largest first (times: the earliest first), and ``Other``, which together are the ``total``. ``previous`` is the total
    of the equally long period before."""

    start_us: int
    end_us: int
    groups: list[Group]
    total: Sums
    previous: Sums


async def explore(services: Services, actor: Actor, question: Question) -> Exploration:
    """The answer. Raises GatewayError 400, 403."""
    scope = _checked(actor, question)
    rows, previous = await asyncio.gather(_sums(services, scope, _bys(question)), _before(services, scope))
    return await _answer(services, scope, question, rows, previous)


async def explore_over(services: Services, actor: Actor, question: Question, unit: By) -> tuple[Exploration, Exploration]:
    """The answer, and the same in groups of time with the question's groups as their parts (its ``previous`` is not looked up).
    Raises GatewayError 400, 403."""
    scope = _checked(actor, question)
    course = msgspec.structs.replace(question, group_by=unit, then_by=question.group_by, top=100)
    if question.then_by is None:
        over, previous = await asyncio.gather(_sums(services, scope, _bys(course)), _before(services, scope))
        rows: list[Row] = [{**row, "by_0": row["by_1"]} for row in over]
    else:
        rows, over, previous = await asyncio.gather(
            _sums(services, scope, _bys(question)), _sums(services, scope, _bys(course)), _before(services, scope)
        )
    return await _answer(services, scope, question, rows, previous), await _answer(services, scope, course, over, [])


class _Scope(msgspec.Struct, frozen=True):
    """Hours from ``first`` until before ``last``, with further conditions."""

    first: int
    last: int
    where: str
    args: list[Any]
    everybody: bool
    """Whether the actor sees the sums of others as well."""


def _checked(actor: Actor, question: Question) -> _Scope:
    first, last = _range(question.start_us, question.end_us)
    if not 1 <= question.top <= 100:
        raise bad_request("top must be a number from 1 to 100", param="top")
    return _Scope(first, last, *_scope(actor, question), policy.allows(actor, "Analytics", "read_all"))


def _bys(question: Question) -> list[By]:
    return [question.group_by, *([question.then_by] if question.then_by else [])]


async def _sums(services: Services, scope: _Scope, bys: list[By]) -> list[Row]:
    keys = [_EXPRESSIONS[by] for by in bys]
    columns = "".join(f"{key} AS by_{place}, " for place, key in enumerate(keys))
    grouped = f" GROUP BY {', '.join(keys)}" if keys else ""
    sums_of = _hourly if "hour" in bys else _whole_days
    source, args = sums_of(scope.first, scope.last, scope.where, scope.args)
    return await services.store.fetch_report(f"SELECT {columns}{_SUMS} FROM ({source}) AS used{grouped}", args)


async def _before(services: Services, scope: _Scope) -> list[Row]:
    earlier = msgspec.structs.replace(scope, first=2 * scope.first - scope.last, last=scope.first)
    return await _sums(services, earlier, [])


async def _answer(services: Services, scope: _Scope, question: Question, rows: list[Row], previous: list[Row]) -> Exploration:
    names = await _names(services, question, rows, owners=scope.everybody)
    return Exploration(
        start_us=scope.first * clock.HOUR,
        end_us=scope.last * clock.HOUR,
        groups=_groups(rows, 0, _bys(question), question, names),
        total=_added(rows),
        previous=_added(previous),
    )


def _hourly(first: int, last: int, where: str, args: list[Any]) -> tuple[str, list[Any]]:
    return f"SELECT hour, hour / 24 AS day, {_COLUMNS} FROM usage_hourly WHERE hour >= ? AND hour < ?{where}", [first, last, *args]


def _whole_days(first: int, last: int, where: str, args: list[Any]) -> tuple[str, list[Any]]:
    """The sums of some hours: those of days where they are whole, those of hours at the edges."""
    first_day, last_day = -(-first // 24), last // 24
    if first_day >= last_day:
        return _hourly(first, last, where, args)
    edges = f"SELECT hour / 24 AS day, {_COLUMNS} FROM usage_hourly WHERE hour >= ? AND hour < ?{where}"
    return (
        f"SELECT day, {_COLUMNS} FROM usage_daily WHERE day >= ? AND day < ?{where} UNION ALL {edges} UNION ALL {edges}",
        [first_day, last_day, *args, first, first_day * 24, *args, last_day * 24, last, *args],
    )


def _range(start_us: int, end_us: int) -> tuple[int, int]:
    first, last = start_us // clock.HOUR, -(-end_us // clock.HOUR)
    if start_us < 0 or first >= last:
        raise bad_request("The range must begin before it ends", param="start_us")
    if last - first > MAX_HOURS:
        raise bad_request(f"The range may be at most {MAX_HOURS // 24} days long", param="start_us")
    return first, last


def _scope(actor: Actor, question: Question) -> tuple[str, list[Any]]:
    account = question.user_id
    if account is not None and (account := canonical(account)) is None:
        raise bad_request("user_id is not a UUID", param="user_id")
    if not policy.allows(actor, "Analytics", "read_all"):
        policy.require_for(actor, "Analytics", "read_all", account or actor.user_id)
        account = actor.user_id
    key = question.key_id
    if key is not None and (key := canonical(key)) is None:
        raise bad_request("key_id is not a UUID", param="key_id")
    columns = {
        "account_id": account,
        "key_id": key,
        "alias": question.model,
        "model_id": question.model_id,
        "endpoint_name": question.endpoint,
    }
    given = [(column, value) for column, value in columns.items() if value is not None]
    return "".join(f" AND {column} = ?" for column, _ in given), [value for _, value in given]


def _added(rows: Iterable[Row]) -> Sums:
    held = list(rows)
    return Sums(**{metric: sum(int(row[metric] or 0) for row in held) for metric in METRICS})


def _groups(rows: list[Row], level: int, bys: list[By], question: Question, names: dict[str, str]) -> list[Group]:
    if level == len(bys):
        return []
    by = bys[level]
    held: dict[str, list[Row]] = {}
    for row in rows:
        held.setdefault(_key(by, row[f"by_{level}"]), []).append(row)
    groups = [
        Group(key=key, label=_label(by, key, names), sums=_added(some), parts=_groups(some, level + 1, bys, question, names))
        for key, some in held.items()
    ]
    if by in ("hour", "day", "month"):
        return sorted(groups, key=lambda group: int(group.key or 0))
    groups.sort(key=lambda group: (-getattr(group.sums, question.metric), group.label))
    rest = groups[question.top :]
    if len(rest) > 1:
        others = [row for group in rest for row in held[group.key or ""]]
        parts = _groups(others, level + 1, bys, question, names)
        groups[question.top :] = [Group(key=None, label=f"Other ({len(rest)})", sums=_added(others), parts=parts)]
    return groups


def _key(by: By, value: Any) -> str:
    if by == "hour":
        return str(int(value) * clock.HOUR)
    if by in ("day", "month"):
        day_us = int(value) * 24 * clock.HOUR
        if by == "month":
            day_us = int(datetime.fromtimestamp(day_us // clock.MICROSECONDS, UTC).replace(day=1).timestamp()) * clock.MICROSECONDS
        return str(day_us)
    return str(value)


def _label(by: By, key: str, names: dict[str, str]) -> str:
    match by:
        case "hour" | "day" | "month":
            at = datetime.fromtimestamp(int(key) // clock.MICROSECONDS, UTC)
            return at.strftime({"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "month": "%Y-%m"}[by])
        case "key" if key == NIL:
            return "(no key)"
        case "key" | "user":
            return names.get(key, key)
        case _:
            return key or "(none)"


async def _names(services: Services, question: Question, rows: list[Row], *, owners: bool) -> dict[str, str]:
    """What keys (with their ``owners``) and accounts are called, deleted ones included."""
    names: dict[str, str] = {}
    for level, by in enumerate((question.group_by, question.then_by)):
        ids = {str(row[f"by_{level}"]) for row in rows} if by in ("key", "user") else set()
        if by == "user":
            names |= await emails_of(services, list(ids))
        elif by == "key":
            names |= await _key_names(services, ids, owners=owners)
    return names


async def _key_names(services: Services, key_ids: set[str], *, owners: bool) -> dict[str, str]:
    """``laptop``, or ``laptop · bob@example.com``; of keys that are called the same, the beginning of the secret as well."""
    found = await in_chunks(services.store, "SELECT id, name, user_id, secret_hint FROM api_keys WHERE id IN ({places})", key_ids)
    emails = await emails_of(services, list({str(row["user_id"]) for row in found})) if owners else {}
    names = {str(row["id"]): " · ".join([row["name"], *filter(None, [emails.get(str(row["user_id"]))])]) for row in found}
    same = {name for name, count in Counter(names.values()).items() if count > 1}
    return names | {str(row["id"]): f"{name} · {row['secret_hint']}…" for row in found if (name := names[str(row["id"])]) in same}


def export_csv(question: Question, answer: Exploration) -> Iterator[str]:
    """The groups as CSV lines, without a line of totals; keys and users with their ids, costs in credits, exact."""
    bys = _bys(question)
    yield csv_line((*(head for by in bys for head in _heads(by)), "cost", *METRICS[1:]))
    for group in answer.groups:
        for path in [(group, part) for part in group.parts] if question.then_by else [(group,)]:
            sums = path[-1].sums
            cells = (money.format_amount(sums.charge_nano), *(getattr(sums, metric) for metric in METRICS[1:]))
            yield csv_line((*(cell for by, shown in zip(bys, path, strict=True) for cell in _names_of(by, shown)), *cells))


def _heads(by: By) -> tuple[str, ...]:
    return (by, f"{by}_id") if by in ("key", "user") else (by,)


def _names_of(by: By, shown: Group) -> tuple[str | None, ...]:
    return (shown.label, None if shown.key == NIL else shown.key) if by in ("key", "user") else (shown.label,)


class Tile(msgspec.Struct, kw_only=True):
    """A number now and in the equally long period before, and its course in ``SPARK_POINTS`` points, oldest first."""

    value: int
    previous: int
    points: list[int]


class HomeTiles(msgspec.Struct, kw_only=True):
    """Home's numbers. ``spend`` is in nano-credits; the share of errors is ``errors`` of ``requests``."""

    start_us: int
    end_us: int
    requests: Tile
    errors: Tile
    spend: Tile
    active_users: Tile


async def home_tiles(services: Services, actor: Actor, *, hours: int = 24) -> HomeTiles:
    """The last ``hours`` whole hours, the present one included: a multiple of 24, at most a week.
    Raises GatewayError 400, 403."""
    if hours % SPARK_POINTS or not SPARK_POINTS <= hours <= MAX_TILE_HOURS:
        raise bad_request(f"hours must be a multiple of {SPARK_POINTS}, at most {MAX_TILE_HOURS}", param="hours")
    last = clock.now_us() // clock.HOUR + 1
    first, width = last - hours, hours // SPARK_POINTS
    where, args = _scope(actor, Question(start_us=first * clock.HOUR, end_us=last * clock.HOUR))
    rows = await services.store.fetch_report(
        f"SELECT (hour - ?) / ? AS point, SUM(requests) AS requests, SUM(errors) AS errors, SUM(charge_nano) AS spend,"
        f" COUNT(DISTINCT account_id) AS active_users FROM usage_hourly WHERE hour >= ? AND hour < ?{where} GROUP BY 1",
        [first - hours, width, first - hours, last, *args],
    )
    [users] = await services.store.fetch_report(
        "SELECT COUNT(DISTINCT CASE WHEN hour >= ? THEN account_id END) AS now, COUNT(DISTINCT CASE WHEN hour < ? THEN account_id END)"
        f" AS before FROM usage_hourly WHERE hour >= ? AND hour < ?{where}",
        [first, first, first - hours, last, *args],
    )
    points = {int(row["point"]): row for row in rows}

    def tile(column: str) -> Tile:
        course = [int(points[point][column] or 0) if point in points else 0 for point in range(2 * SPARK_POINTS)]
        before, now = course[:SPARK_POINTS], course[SPARK_POINTS:]
        return Tile(value=sum(now), previous=sum(before), points=now)

    active = tile("active_users")
    active.value, active.previous = int(users["now"]), int(users["before"])
    return HomeTiles(
        start_us=first * clock.HOUR,
        end_us=last * clock.HOUR,
        requests=tile("requests"),
        errors=tile("errors"),
        spend=tile("spend"),
        active_users=active,
    )
