"""Requests as they happen: the feed behind the Requests page and behind Home's strip, and what both begin with.

A page names the place in the log up to which it has read (``after``). Its feed first tells of everything since, then of what happens; a
page that lost it comes back with the id of the last event, and where that leads nowhere, is told of everything since ``after`` once
more. A request that is told of twice replaces itself.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from dwctl.accounts import policy
from dwctl.doorway import Needs, Route
from dwctl.errors import bad_request
from dwctl.operations import live, request_search
from dwctl.operations.live import InFlight
from dwctl.operations.request_log import RequestFilter
from dwctl.operations.request_search import LoggedRequest
from dwctl.operations.request_words import Words, understand
from dwctl.web.addresses import address
from dwctl.web.context import Context
from dwctl.web.pages import Feed, Update, page

ROUTES: list[Route] = []
PATH = "/requests"
FILTERS = ("q", "model", "endpoint", "key", "user", "status", "outcome", "tag")
"""Words of the address that say which requests."""

CATCH_UP = 200
"""So many requests, the newest, are told of at once."""
STRIP = 8
PATIENCE_SECONDS = 2.0
"""For the recorder, before a page is told what the log has so far."""


class TailQuery(msgspec.Struct, kw_only=True):
    q: str | None = None
    model: str | None = None
    endpoint: str | None = None
    key: str | None = None
    user: str | None = None
    status: str | None = None
    outcome: str | None = None
    tag: str | None = None
    range: str | None = None
    """Is kept in the address of the requests that are told of."""
    after: int | None = None
    strip: bool = False
    """For Home's strip, whose requests open on their own page."""


def _links(query: TailQuery) -> dict[str, Callable[[str], str]]:
    """Where a row leads to: ``to_open`` of a request's id, ``to_tag`` of a tag."""
    words = {name: getattr(query, name) for name in (*FILTERS, "range")}
    return {
        "to_open": lambda request_id: f"{PATH}/{request_id}" if query.strip else address(PATH, words | {"open": request_id}),
        "to_tag": lambda tag: address(PATH, words | {"tag": tag}),
    }


class Strip(msgspec.Struct, kw_only=True):
    """What ``live.html`` needs to show the newest requests and to follow them."""

    entries: list[LoggedRequest]
    running: list[InFlight]
    feed: str
    most: int
    to_open: Callable[[str], str]
    to_tag: Callable[[str], str]


def reads_everybodys(context: Context) -> bool:
    """Whether the list has the users' column."""
    return policy.allows(context.actor, "Requests", "read_all")


def feed_address(words: dict[str, Any], after: int) -> str:
    """Where the feed of a list is that has been read when the log ended at ``after``."""
    return address("/events/requests", words | {"after": after})


async def strip(context: Context) -> Strip:
    """The newest requests of whoever asks, for Home."""
    chosen = RequestFilter()
    end = await request_search.end(context.services)
    found = await request_search.search(context.services, context.actor, chosen, limit=STRIP)
    running = await live.in_flight(context.services, context.actor, chosen)
    return Strip(
        entries=found.entries,
        running=running[::-1],
        feed=feed_address({"strip": "true"}, end),
        most=STRIP,
        **_links(TailQuery(strip=True)),
    )


@page(ROUTES, "GET", "/events/requests", policy=Needs("Requests", "read_own"), query=TailQuery, summary="Requests as they happen")
async def follow(context: Context) -> Feed:
    """The feed."""
    query: TailQuery = context.query
    given = {name: getattr(query, name) for name in FILTERS if name != "q"}
    found = await understand(context.services, context.actor, Words(search=query.q, **given))
    if found.problems:
        field, sentence = next(iter(found.problems.items()))
        raise bad_request(sentence, param=field)
    request_search.scoped(context.actor, found.chosen)
    return Feed("requests/update.html", lambda last_id: _updates(context, query, found.chosen, last_id))


async def _updates(context: Context, query: TailQuery, chosen: RequestFilter, last_id: str | None) -> AsyncIterator[Update]:
    services, actor = context.services, context.actor
    everybody = reads_everybodys(context)
    common = {"everybody": everybody, **_links(query), "sheet": not query.strip}
    events = live.follow(services, actor, chosen, last_id)
    upcoming = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)  # now it listens: nothing is lost between what is read here and what it tells
    try:
        if last_id is None:
            yield Update("", common | await _since(context, chosen, query.after))
        while True:
            event = await upcoming
            upcoming = asyncio.ensure_future(anext(events))
            if reads_everybodys(context) is not everybody:
                return  # the role is another than at the beginning: so is what may be told
            if event.kind == "skip":
                yield Update("", common | await _since(context, chosen, query.after))
            elif event.event_id is not None:
                running = [event.began] if event.began is not None else []
                ended = [event.ended] if event.ended is not None else []
                yield Update(event.event_id, common | {"running": running, "ended": ended, "whole": False})
    finally:
        upcoming.cancel()


async def _since(context: Context, chosen: RequestFilter, after: int | None) -> dict[str, Any]:
    """All that a page may have missed. It is sent without an id: whoever loses the feed after it begins anew."""
    await context.services.ledger.recorded(PATIENCE_SECONDS)
    running = await live.in_flight(context.services, context.actor, chosen)
    ended: list[LoggedRequest] = []
    if after is not None:
        newest = await request_search.search(context.services, context.actor, chosen, limit=CATCH_UP)
        ended = [entry for entry in newest.entries if entry.seq > after]
    return {"running": running[::-1], "ended": ended, "whole": True}
