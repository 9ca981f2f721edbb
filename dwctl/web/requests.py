"""``/requests``: finding requests, and what one of them was: when, how long, by whom, for how much, and why.

Everything that the page shows is in its address: what is searched for, the range, the place in the list, the request that is open at
the side (``open``) and its tab, and whether new requests come in by themselves (``live=off``: they do not).
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET
from sanic.response import HTTPResponse, ResponseStream

from dwctl.clock import now_us
from dwctl.doorway import Needs, Route
from dwctl.errors import GatewayError
from dwctl.operations import catalog_views, inspector, live, palette, request_search, snippets
from dwctl.operations.catalog_views import ModelFilter
from dwctl.operations.conversation import Turn, answered, asked
from dwctl.operations.inspector import Inspection
from dwctl.operations.request_log import OUTCOME_WORDS, RequestFilter
from dwctl.operations.request_search import Bar, Summary
from dwctl.operations.request_words import Understood, Words, understand
from dwctl.web.addresses import Chip, Query, address, api_base, refuse, tidied
from dwctl.web.context import Context
from dwctl.web.exports import attached, csv_stream
from dwctl.web.pages import Nav, View, page, view
from dwctl.web.ranges import PRESETS, Range, read_range, written
from dwctl.web.request_tail import FILTERS, PATH, feed_address, reads_everybodys
from dwctl.web.surface import asked_block

ROUTES: list[Route] = []

ROWS = 50
SHOWN_BYTES = 32 * 1024
"""Of a body on a page; the rest is in the download."""
REPLAYED_BYTES = 8 * 1024
"""A longer body is not written into a command line."""
STATUSES = ("2xx", "3xx", "4xx", "5xx", "400", "401", "402", "403", "404", "429", "499", "500", "502", "503", "504")


class RequestsQuery(Query, kw_only=True, rename={"start": "from", "end": "to", "opened": "open"}):
    """Words of the address."""

    q: str | None = None
    model: str | None = None
    endpoint: str | None = None
    key: str | None = None
    user: str | None = None
    status: str | None = None
    outcome: str | None = None
    tag: str | None = None
    range: str | None = None
    start: str | None = None
    end: str | None = None
    before: str | None = None
    after: str | None = None
    opened: str | None = None
    tab: str | None = None
    live: str | None = None


class InspectorQuery(msgspec.Struct, kw_only=True):
    tab: str | None = None


class BodyQuery(msgspec.Struct, kw_only=True):
    part: Literal["request", "response"] = "request"


@page(
    ROUTES,
    "GET",
    PATH,
    policy=Needs("Requests", "read_own"),
    query=RequestsQuery,
    nav=Nav("Observe", "Requests", "scroll-text", 20, key="r"),
    summary="Requests",
)
async def requests(context: Context) -> View | HTTPResponse:
    """The list, or (for a page that is open) the request at its side."""
    clean = tidied(context.request)
    if clean is not None:
        return clean
    query: RequestsQuery = context.query
    words = query.words()
    values: dict[str, Any] = {"query": words, "inspected": None, "missing": None, "close": address(PATH, words | {"open": "", "tab": ""})}
    if query.opened is not None:
        values |= await _opened(context, query)
    if asked_block(context.request) == "sheet":
        return view("requests/page.html", **values)
    found, span = await _understood(context, query)
    values |= await _list(context, query, found, span)
    return view("requests/page.html", status=422 if values["problems"] else 200, **values)


async def _understood(context: Context, query: RequestsQuery) -> tuple[Understood, Range]:
    given = {name: getattr(query, name) for name in FILTERS if name != "q"}
    found = await understand(context.services, context.actor, Words(search=query.q, **given))
    span = read_range(query.range, query.start, query.end, now_us())
    found.chosen.after_us, found.chosen.before_us = span.from_us, span.to_us
    found.problems |= span.problems
    for name, text in (("before", query.before), ("after", query.after)):
        if text is not None and _cursor(text) is None:
            found.problems[name] = f"{name} is the place of a request in the log, a whole number."
    return found, span


def _cursor(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else None


async def _list(context: Context, query: RequestsQuery, found: Understood, span: Range) -> dict[str, Any]:
    services, actor, words = context.services, context.actor, query.words()
    before, after = _cursor(query.before), _cursor(query.after)
    top = words | {"before": "", "after": "", "open": "", "tab": ""}
    chips = []
    for name in FILTERS:
        if words[name] is not None:
            said = "search" if name == "q" else name
            chips.append(Chip(said, found.said.get(said, words[name]), address(PATH, top | {name: ""})))
    if span.said != "Any time":
        chips.append(Chip("time", span.said, address(PATH, top | {"range": "", "from": "", "to": ""})))
    values: dict[str, Any] = {
        "everybody": reads_everybodys(context),
        "problems": found.problems,
        "chips": chips,
        "presets": PRESETS,
        "ends": [
            written(moment) if text is not None and moment is not None else ""
            for text, moment in ((query.start, span.from_us), (query.end, span.to_us))
        ],
        "outcomes": OUTCOME_WORDS,
        "statuses": STATUSES,
        "models": await _models(context),
        "csv": address(f"{PATH}.csv", {name: words[name] for name in (*FILTERS, "range", "from", "to")}),
        "entries": [],
        "running": [],
        "feed": None,
        "totals": None,
        "older": None,
        "newer": None,
        "hits": [],
        "to_open": lambda request_id: address(PATH, words | {"open": request_id}),
        "to_tag": lambda tag: address(PATH, top | {"tag": tag}),
        "follow": address(PATH, top | {"live": ""}),
        "stay": address(PATH, top | {"live": "off"}),
        "alike": lambda **changes: address(PATH, top | changes),
    }
    if found.problems:
        return values
    end = await request_search.end(services)
    shown = await request_search.search(services, actor, found.chosen, limit=ROWS, before=before, after=after)
    is_empty = not shown.entries and before is None and after is None
    summary = request_search.NOTHING if is_empty else await request_search.summarize(services, actor, found.chosen)
    follows = span.to_us is None and before is None and after is None and found.chosen.request_id is None
    if follows and query.live != "off":
        values["running"] = (await live.in_flight(services, actor, found.chosen))[::-1]
        values["feed"] = feed_address({name: words[name] for name in (*FILTERS, "range")}, end)
    if not shown.entries and query.q is not None:
        values["hits"] = [hit for hit in await palette.find(services, actor, query.q) if hit.kind not in ("request", "group")]
    return values | {
        "entries": shown.entries,
        "follows": follows,
        "summary": summary,
        "totals": summary.totals,
        "bars": _bars(summary, top),
        "older": None if shown.older is None else address(PATH, top | {"before": shown.older}),
        "newer": None if shown.newer is None else address(PATH, top | {"after": shown.newer}),
        "at": now_us(),
    }


async def _models(context: Context) -> list[str]:
    """Aliases to choose from."""
    found = await catalog_views.list_models(context.services, context.actor, ModelFilter(sort="alias", descending=False), skip=0, limit=100)
    return [model.alias for model in found.models]


def _bars(summary: Summary, words: dict[str, Any]) -> dict[str, Any]:
    """The histogram: what its bars are called, how high they are, and where they lead."""

    def series(part: str) -> list[int]:
        return [getattr(bar, part) for bar in summary.bars]

    def narrowed(bar: Bar) -> str:
        ends = {"from": written(bar.start_us), "to": written(bar.start_us + summary.width_us), "range": ""}
        return address(PATH, words | ends)

    return {
        "labels": [_label(bar.start_us, summary.width_us) for bar in summary.bars],
        "series": [
            ("Succeeded", series("succeeded")),
            ("Client errors", series("client_errors")),
            ("Server errors", series("server_errors")),
        ],
        "links": [narrowed(bar) for bar in summary.bars],
        "width": _WIDTHS.get(summary.width_us // 1_000_000, f"{summary.width_us // 1_000_000} s"),
    }


_WIDTHS = {
    **{1: "second", 5: "5 s", 15: "15 s", 60: "minute", 300: "5 min", 900: "15 min", 3_600: "hour"},
    **{10_800: "3 h", 21_600: "6 h", 86_400: "day", 432_000: "5 days", 2_592_000: "30 days"},
}


def _label(start_us: int, width_us: int) -> str:
    day, clock = written(start_us).split("T")
    if width_us >= 86_400 * 1_000_000:
        return day[5:]
    return clock if width_us < 60 * 1_000_000 else clock[:5] if width_us < 10_800 * 1_000_000 else f"{day[5:]} {clock[:5]}"


async def _opened(context: Context, query: RequestsQuery) -> dict[str, Any]:
    words = query.words()
    assert query.opened is not None
    try:
        found = await inspector.inspect(context.services, context.actor, query.opened)
    except GatewayError as error:
        if error.status != 404:
            raise
        return {"missing": query.opened}
    return inspected(context, found, query.tab, lambda tab: address(PATH, words | {"tab": "" if tab == "summary" else tab}))


def inspected(context: Context, found: Inspection, tab: str | None, to_tab: Any) -> dict[str, Any]:
    """What ``requests/inspector.html`` shows of one request."""
    detail = found.detail
    bodies = None if detail.bodies is UNSET else detail.bodies
    kept = bodies.request if bodies is not None and not bodies.truncated else None
    usable = kept is not None and len(kept) <= REPLAYED_BYTES and not kept.startswith("base64:")
    return {
        "inspected": found,
        "everybody": reads_everybodys(context),
        "tab": tab if tab in ("bodies", "replay") else "summary",
        "to_tab": to_tab,
        "steps": _steps(found),
        "parts": []
        if bodies is None
        else [
            _part("request", bodies.request, asked(bodies.request or "", detail.uri)),
            _part("response", bodies.response, answered(bodies.response or "", detail.uri)),
        ],
        "truncated": bodies is not None and bodies.truncated,
        "replay": snippets.replay(api_base(context), detail.uri, kept if usable else None, detail.model or ""),
        "replays_body": usable,
        "playground": None if detail.model is None else address("/playground", {"model": detail.model}),
    }


def _part(name: str, text: str | None, said: list[Turn]) -> dict[str, Any]:
    """A body for reading: what is said in it, and as it is, JSON in lines, if it is short enough."""
    room = SHOWN_BYTES
    turns: list[Turn] = []
    for turn in said:
        room -= turn.length
        if room < 0 and turns:
            break
        turns.append(turn)
    shown = (text or "")[:SHOWN_BYTES]
    language = "text"
    if text is not None and len(text) <= SHOWN_BYTES:
        try:
            shown = msgspec.json.format(text.encode(), indent=2).decode()
            language = "json"
        except msgspec.DecodeError:
            pass
    return {
        "name": name,
        "turns": turns,
        "more_turns": len(said) - len(turns),
        "text": None if text is None else shown,
        "language": language,
        "left_out": max(0, len(text or "") - SHOWN_BYTES),
    }


_STAGES = {
    "receive": "receive",
    "admit": "key, limits, hold",
    "decide": "decide",
    "dispatch": "ask the provider",
    "first_byte": "first token",
    "relay": "answer",
    "end": "end",
}


def _steps(found: Inspection) -> list[dict[str, Any]]:
    """The waterfall: stages one after another, and within the asking each attempt."""
    steps: list[dict[str, Any]] = []
    for stage in found.stages:
        kind = {"dispatch": "c1", "first_byte": "c6", "relay": "ok", "end": "warn"}.get(stage.name, "muted")
        steps.append(_step(_STAGES[stage.name], stage.start_us, stage.duration_us, kind))
        if stage.name == "dispatch":
            for number, tried in enumerate(found.attempts, 1):
                failed = tried.error is not None or tried.status is None or tried.status >= 400
                name = f"attempt {number} · {tried.endpoint[:14]}"
                text = str(tried.status or tried.error or "no answer")
                steps.append(_step(name, tried.started_us, tried.duration_us, "danger" if failed else "c2", f"{text} · "))
    return steps


def _step(name: str, start_us: int, length_us: int, kind: str, said: str = "") -> dict[str, Any]:
    took = f"{length_us} µs" if length_us < 1000 else f"{length_us / 1000:.0f} ms" if length_us < 1_000_000 else f"{length_us / 1e6:.2f} s"
    return {"name": name, "start": start_us, "length": length_us, "kind": kind, "text": f"{said}{took}"}


@page(ROUTES, "GET", f"{PATH}.csv", policy=Needs("Requests", "read_own"), query=RequestsQuery, summary="Requests as CSV")
async def export(context: Context) -> ResponseStream:
    """All that the filters find, in the order of the list."""
    found, _ = await _understood(context, context.query)
    refuse(found.problems)
    request_search.scoped(context.actor, found.chosen)
    return csv_stream(
        f"requests-{written(now_us()).replace(':', '')}", request_search.export_csv(context.services, context.actor, found.chosen)
    )


@page(ROUTES, "GET", f"{PATH}/<request_id>", policy=Needs("Requests", "read_own"), query=InspectorQuery, summary="One request, explained")
async def request(context: Context) -> View:
    """The inspector as a page of its own."""
    request_id = context.parameters["request_id"]
    found = await inspector.inspect(context.services, context.actor, request_id)
    beside = await request_search.neighbours(context.services, context.actor, RequestFilter(), found.seq)
    path = f"{PATH}/{found.detail.id}"
    values = inspected(context, found, context.query.tab, lambda tab: address(path, {"tab": "" if tab == "summary" else tab}))
    return view("requests/request.html", beside=beside, **values)


@page(ROUTES, "GET", f"{PATH}/<request_id>/raw", policy=Needs("Requests", "read_own"), query=BodyQuery, summary="A kept body")
async def raw(context: Context) -> HTTPResponse:
    """A body as it was, to keep; never for showing."""
    part = context.query.part
    found = await inspector.body(context.services, context.actor, context.parameters["request_id"], part)
    headers = attached(f"{part}-{context.parameters['request_id'][-12:]}.txt")
    return HTTPResponse(found, 200, headers, "text/plain; charset=utf-8")
