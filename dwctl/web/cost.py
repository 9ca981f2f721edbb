"""``/cost``: what was used and what it cost, by whatever is asked for, from the hourly sums that the ledger keeps.

The chart shows time: bars of the groups of the table, on top of each other. A group leads to the same page about it alone, a bar and a
number of requests to the requests themselves.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
from sanic.response import HTTPResponse

from dwctl.accounts import NIL, policy
from dwctl.clock import HOUR, MICROSECONDS, now_us
from dwctl.doorway import Needs, Route
from dwctl.errors import GatewayError
from dwctl.money import format_amount
from dwctl.operations import explorer
from dwctl.operations.explorer import BYS, By, Exploration, Group, Metric, Question, Sums
from dwctl.operations.request_words import Words, understand
from dwctl.web.addresses import Chip, Query, address, refuse, tidied
from dwctl.web.context import Context
from dwctl.web.exports import attached
from dwctl.web.formats import tick_text, with_symbol
from dwctl.web.pages import Nav, View, page, view
from dwctl.web.ranges import PRESETS, Range, read_range, written

ROUTES: list[Route] = []
PATH = "/cost"

TIMES = ("hour", "day", "month")
FILTERS = ("model", "endpoint", "key", "user")
SERIES = 7
"""Groups with a colour of their own; the rest is one."""
DEFAULT_RANGE = "7d"
TOPS = (5, 10, 25, 100)
METRICS: dict[Metric, str] = {
    "charge_nano": "Cost",
    "requests": "Requests",
    "errors": "Errors",
    "input_tokens": "Input tokens",
    "cached_tokens": "Cached input tokens",
    "output_tokens": "Output tokens",
}
LABELS: dict[By, str] = {
    "model": "Model",
    "key": "API key",
    "user": "User",
    "endpoint": "Endpoint",
    "hour": "Hour",
    "day": "Day",
    "month": "Month",
}


class CostQuery(Query, kw_only=True, rename={"start": "from", "end": "to"}):
    """Words of the address."""

    range: str | None = None
    start: str | None = None
    end: str | None = None
    by: str | None = None
    then: str | None = None
    metric: str | None = None
    top: str | None = None
    model: str | None = None
    endpoint: str | None = None
    key: str | None = None
    user: str | None = None


class Asked(msgspec.Struct, kw_only=True):
    """What the address asks for. ``said``: filter -> what it names."""

    question: Question
    span: Range
    said: dict[str, str]
    problems: dict[str, str]


async def _asked(context: Context) -> Asked:
    query: CostQuery = context.query
    given = {name: getattr(query, name) for name in FILTERS}
    found = await understand(context.services, context.actor, Words(**given), "Analytics")
    relative = query.range or (None if query.start or query.end else DEFAULT_RANGE)
    span = read_range(relative, query.start, query.end, now_us())
    problems = found.problems | span.problems
    end_us = now_us() if span.to_us is None else span.to_us
    question = Question(
        start_us=end_us - 7 * 24 * HOUR if span.from_us is None else span.from_us,
        end_us=end_us,
        user_id=found.chosen.user_id,
        key_id=found.chosen.key_id,
        model=query.model,
        endpoint=query.endpoint,
    )
    for name, field, known in (("by", "group_by", BYS), ("then", "then_by", BYS), ("metric", "metric", get_args(Metric))):
        text = getattr(query, name)
        if text is None:
            continue
        if text in known:
            setattr(question, field, text)
        else:
            problems[name] = f"Choose one of: {', '.join(known)}."
    if question.then_by == question.group_by:
        question.then_by = None
    if query.top is not None:
        if query.top.isascii() and query.top.isdigit() and 1 <= int(query.top[:4]) <= 100:
            question.top = int(query.top)
        else:
            problems["top"] = "Write a number from 1 to 100."
    return Asked(question=question, span=span, said=found.said, problems=problems)


@page(
    ROUTES,
    "GET",
    PATH,
    policy=Needs("Analytics", "read_own"),
    query=CostQuery,
    nav=Nav("Observe", "Cost & usage", "chart-column", 40, key="c"),
    summary="Cost and usage",
)
async def cost(context: Context) -> View | HTTPResponse:
    """The page."""
    clean = tidied(context.request)
    if clean is not None:
        return clean
    asked = await _asked(context)
    words = context.query.words()
    question = asked.question
    everybody = policy.allows(context.actor, "Analytics", "read_all")
    bys = [(by, LABELS[by]) for by in BYS if everybody or by != "user"]
    chips = [
        Chip(name, asked.said.get(name, words[name]), address(PATH, words | {name: ""})) for name in FILTERS if words[name] is not None
    ]
    if asked.span.preset is None:
        chips.append(Chip("time", asked.span.said, address(PATH, words | {"range": "", "from": "", "to": ""})))
    values: dict[str, Any] = {
        "query": words,
        "problems": asked.problems,
        "presets": PRESETS,
        "preset": asked.span.preset,
        "bys": bys,
        "metrics": METRICS,
        "tops": TOPS,
        "question": question,
        "chips": chips,
        "csv": address(f"{PATH}.csv", words),
        "labels": LABELS,
        "answer": None,
    }
    if not asked.problems:
        try:
            if question.group_by in TIMES:
                answer = course = await explorer.explore(context.services, context.actor, question)
            else:
                answer, course = await explorer.explore_over(context.services, context.actor, question, _unit(question))
        except GatewayError as error:
            if error.status != 400:
                raise
            asked.problems["range" if error.param in (None, "start_us") else error.param] = error.message
        else:
            to_requests = _to_requests(context, words, everybody)
            values |= {
                "answer": answer,
                "hours": " – ".join(written(at)[:16].replace("T", " ") for at in (answer.start_us, answer.end_us)),
                "chart": _chart(context, question, answer, course, to_requests),
                "rows": [_row(question, group, words, to_requests, answer) for group in answer.groups],
                "everything": to_requests({}, answer.start_us, answer.end_us),
                "changes": {metric: _change(answer.total, answer.previous, metric) for metric in METRICS},
            }
    return view("cost/page.html", status=422 if asked.problems else 200, **values)


ToRequests = Callable[[dict[str, str | None], int, int], str | None]


def _to_requests(context: Context, words: dict[str, Any], everybody: bool) -> ToRequests:
    """The address of the requests of a group in a time; None where there is none, or where they may not be read."""
    readable = not everybody or policy.allows(context.actor, "Requests", "read_all")

    def to(narrowed: dict[str, str | None], start_us: int, end_us: int) -> str | None:
        if not readable or any(value in (None, "", NIL) for value in narrowed.values()):
            return None
        kept = {name: words[name] for name in FILTERS}
        return address("/requests", kept | narrowed | {"from": written(start_us), "to": written(end_us)})

    return to


def _narrowing(by: By | None, key: str | None) -> dict[str, str | None]:
    return {} if by is None or by in TIMES else {by: key}


def _ends(by: By, key: str) -> tuple[int, int]:
    """When a group of time begins and ends."""
    start = int(key)
    if by != "month":
        return start, start + (HOUR if by == "hour" else 24 * HOUR)
    first = datetime.fromtimestamp(start // MICROSECONDS, UTC)
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return start, int(after.timestamp()) * MICROSECONDS


def _cut(ends: tuple[int, int], to: tuple[int, int]) -> tuple[int, int]:
    """What of a time lies within another."""
    return max(ends[0], to[0]), min(ends[1], to[1])


def _times(by: By, answer: Exploration) -> list[str]:
    """The keys of all groups of time in the range, those without a request as well."""
    width = HOUR if by == "hour" else 24 * HOUR
    keys = [str(number * width) for number in range(answer.start_us // width, -(-answer.end_us // width))]
    if by != "month":
        return keys
    days = (datetime.fromtimestamp(int(key) // MICROSECONDS, UTC) for key in keys)
    return list(dict.fromkeys(str(int(day.replace(day=1).timestamp()) * MICROSECONDS) for day in days))


def _chart(context: Context, question: Question, answer: Exploration, course: Exploration, to_requests: ToRequests) -> dict[str, Any]:
    """Bars over time; of groups beyond the first few one bar in grey."""
    timed = question.group_by in TIMES
    over: By = question.group_by if timed else _unit(question)
    stacked = question.then_by if timed else question.group_by
    if stacked in TIMES:
        stacked = None
    keys = _times(over, course)
    by_time = {group.key: group for group in course.groups}
    names = (
        _series(question.metric, course) if timed else {group.key or "": group.label for group in answer.groups if group.key is not None}
    )
    shown = dict(list(names.items())[:SERIES]) if stacked is not None else {}
    series: list[tuple[str, list[int]]] = []
    links: list[list[str | None]] = []
    whole = course.start_us, course.end_us

    def amount(group: Group | None, wanted: Callable[[Group], bool]) -> int:
        return sum(getattr(part.sums, question.metric) for part in group.parts if wanted(part)) if group is not None else 0

    for key, label in shown.items():
        series.append((label, [amount(by_time.get(at), lambda part, key=key: part.key == key) for at in keys]))  # type: ignore[misc]
        links.append([to_requests(_narrowing(stacked, key), *_cut(_ends(over, at), whole)) for at in keys])
    if stacked is None:
        sums = [getattr(by_time[at].sums, question.metric) if at in by_time else 0 for at in keys]
        series.append((METRICS[question.metric], sums))
        links.append([to_requests({}, *_cut(_ends(over, at), whole)) for at in keys])
    else:
        rest = [amount(by_time.get(at), lambda part: part.key not in shown) for at in keys]
        if any(rest):
            series.append(("Other", rest))
            links.append([None] * len(keys))
    currency = context.services.config.billing.currency
    money = question.metric == "charge_nano"
    return {
        "title": f"{METRICS[question.metric]} by {over}" + (f" and {LABELS[stacked].lower()}" if stacked else "") + " (UTC)",
        "labels": [_said(over, at) for at in keys],
        "series": series,
        "links": links,
        "classes": [f"c{number + 1}" for number in range(len(shown))] + ["c1" if stacked is None else "muted"],
        "format": (lambda nano: with_symbol(format_amount(round(nano)), currency)) if money else None,
        "format_tick": (lambda nano: tick_text(nano, currency)) if money else None,
    }


def _unit(question: Question) -> By:
    """The width of the chart's bars."""
    hours = (question.end_us - question.start_us) // HOUR
    return "hour" if hours <= 48 else "day" if hours <= 92 * 24 else "month"


def _series(metric: Metric, course: Exploration) -> dict[str, str]:
    """The parts of groups of time, those with the most first."""
    sums: dict[str, int] = {}
    names: dict[str, str] = {}
    for group in course.groups:
        for part in group.parts:
            if part.key is not None:
                sums[part.key] = sums.get(part.key, 0) + getattr(part.sums, metric)
                names[part.key] = part.label
    return {key: names[key] for key in sorted(sums, key=lambda key: -sums[key])}


def _said(by: By, key: str) -> str:
    at = datetime.fromtimestamp(int(key) // MICROSECONDS, UTC)
    return at.strftime({"hour": "%a %H:00", "day": "%d %b"}.get(by, "%b %Y"))


def _row(question: Question, group: Group, words: dict[str, Any], to_requests: ToRequests, answer: Exploration) -> dict[str, Any]:
    """A group with its parts. ``alone`` is the page about it alone."""
    whole = answer.start_us, answer.end_us

    def line(by: By, shown: Group, narrowed: dict[str, str | None], within: tuple[int, int]) -> dict[str, Any]:
        alone, label = None, shown.label
        if by in TIMES and shown.key is not None:
            if _cut(ends := _ends(by, shown.key), whole) != ends:
                label = f"{label} (part)"
            within = _cut(ends, within)
        if shown.key not in (None, "", NIL) and by not in TIMES:
            further = {} if question.then_by is None else {"by": question.then_by, "then": ""}
            alone = address(PATH, words | further | narrowed)
        return {"label": label, "sums": shown.sums, "alone": alone, "requests": to_requests(narrowed, *within)}

    by, then = question.group_by, question.then_by
    own = _cut(_ends(by, group.key), whole) if by in TIMES and group.key is not None else whole
    narrowed = _narrowing(by, group.key)
    parts = []
    for part in group.parts:
        assert then is not None
        parts.append(line(then, part, narrowed | _narrowing(then, part.key), own))
    return line(by, group, narrowed, whole) | {"parts": parts}


def _change(now: Sums, before: Sums, metric: Metric) -> tuple[str, str]:
    """The change against the period before, in words and as a direction."""
    new, old = getattr(now, metric), getattr(before, metric)
    if not old:
        return ("nothing in the period before", "") if new else ("as in the period before", "")
    share = 100 * (new - old) / old
    if abs(share) < 0.05:
        return "as in the period before", ""
    return f"{abs(share):.1f} % {'more' if share > 0 else 'less'} than before", "up" if share > 0 else "down"


@page(ROUTES, "GET", f"{PATH}.csv", policy=Needs("Analytics", "read_own"), query=CostQuery, summary="Cost and usage as CSV")
async def export(context: Context) -> HTTPResponse:
    """The groups of the table."""
    asked = await _asked(context)
    refuse(asked.problems)
    answer = await explorer.explore(context.services, context.actor, asked.question)
    name = f"cost-{written(answer.start_us)[:13]}-{written(answer.end_us)[:13]}.csv"
    text = "".join(explorer.export_csv(asked.question, answer))
    return HTTPResponse(text, 200, attached(name), "text/csv; charset=utf-8")
