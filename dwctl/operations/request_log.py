"""Where in the log the requests of a filter are, found by index whatever is combined.

Newest first means highest ``seq`` first: the order in which requests were recorded. A time range becomes a range of ``seq`` by
``request_hours``. One thing to search by is one index; of several the narrowest is taken, and only in the hours in which the
hourly sums know requests that have all of them, so that a pair that never met is answered without reading a row. What did
not end well is found in an index of its own, which holds everything that can be asked of it. Tags have a table that is an index,
which is read along, or looked into for each request that another index leads to; the sums do not know them. On SQLite the index is
named, since its planner knows too little; PostgreSQL chooses by its statistics.
"""

from typing import Any

import msgspec

from dwctl.clock import HOUR
from dwctl.ledger.records import ERRORS, OUTCOMES
from dwctl.store import Row, Store
from dwctl.store.tables.ledger import BY_ACCOUNT, BY_ENDPOINT, BY_FAILURE, BY_KEY, BY_MODEL

END = 2**63 - 1
_TAGS = "request_tags"
FEW_ROWS = 20_000
"""So many are looked through without asking the hourly sums first."""
COUNTED_ROWS = 50_000
OUTCOME_WORDS = (*OUTCOMES, "errors")
"""What a filter may ask for."""


class RequestFilter(msgspec.Struct, kw_only=True):
    """Which requests; None: no restriction. Times are microseconds UTC, ``before_us`` exclusive; durations are milliseconds."""

    request_id: str | None = None
    method: str | None = None
    uri_pattern: str | None = None
    """As SQL's LIKE: % and _ stand for any text and any character. Nothing escapes them."""
    status_code: int | None = None
    status_code_min: int | None = None
    status_code_max: int | None = None
    min_duration_ms: int | None = None
    max_duration_ms: int | None = None
    after_us: int | None = None
    before_us: int | None = None
    model: str | None = None
    """The alias that was asked for."""
    user_id: str | None = None
    """The account that pays."""
    key_id: str | None = None
    endpoint: str | None = None
    """The provider's name at the time."""
    outcome: str | None = None
    """One of ``OUTCOME_WORDS``."""
    error_code: str | None = None
    tag: str | None = None
    descending: bool = True
    after_id: str | None = None
    """Rows beyond this request, in the order asked for."""


class _Dimension(msgspec.Struct, frozen=True):
    field: str
    column: str
    index: str | None
    """Of ``requests``; None: the table of tags."""


_DIMENSIONS = (
    _Dimension("key_id", "key_id", BY_KEY),
    _Dimension("user_id", "account_id", BY_ACCOUNT),
    _Dimension("endpoint", "endpoint_name", BY_ENDPOINT),
    _Dimension("model", "alias", BY_MODEL),
)
"""What the hourly sums know as well, those that mostly are narrow first."""
_TAG = _Dimension("tag", "tag", None)


class _Hour(msgspec.Struct, frozen=True):
    """An hour with requests that may match: how many, and where."""

    hour: int
    first: int
    last: int
    requests: int


class Plan(msgspec.Struct, frozen=True):
    """How the requests of a filter are found: conditions on ``source``, and the hours to look into (None: any)."""

    source: str
    where: list[str]
    args: list[Any]
    hours: list[_Hour] | None

    def query(self, columns: str, *, lowest: int = 0, highest: int = END, tail: str = "") -> tuple[str, list[Any]]:
        """SELECT of ``columns`` from the requests with ``seq`` from ``lowest`` to ``highest``."""
        where, args, source = list(self.where), list(self.args), self.source
        if self.hours is not None:
            hours = [hour.hour for hour in self.hours if hour.last >= lowest and hour.first <= highest]
            source = f"request_hours CROSS JOIN {source}"
            where += [
                f"hour IN ({', '.join('?' * len(hours)) or 'NULL'})",
                "seq >= first_seq",
                "seq <= last_seq",
                f"started_us / {HOUR} = hour",
            ]
            args += hours
        if lowest > 0:
            where.append("seq >= ?")
            args.append(lowest)
        if highest < END:
            where.append("seq <= ?")
            args.append(highest)
        conditions = " WHERE " + " AND ".join(where) if where else ""
        return f"SELECT {columns} FROM {source}{conditions}{tail}", args


def outcomes(word: str) -> tuple[str, ...]:
    """What one of ``OUTCOME_WORDS`` stands for."""
    return ERRORS if word == "errors" else (word,)


def _where(chosen: RequestFilter) -> tuple[list[str], list[Any]]:
    wanted: tuple[tuple[str, Any], ...] = (
        ("id = ?", chosen.request_id),
        ("method = ?", chosen.method and chosen.method.upper()),
        ("path LIKE ? ESCAPE '!'", chosen.uri_pattern and chosen.uri_pattern.replace("!", "!!")),
        ("status = ?", chosen.status_code),
        ("status >= ?", chosen.status_code_min),
        ("status <= ?", chosen.status_code_max),
        ("duration_us >= ?", None if chosen.min_duration_ms is None else chosen.min_duration_ms * 1000),
        ("duration_us <= ?", None if chosen.max_duration_ms is None else chosen.max_duration_ms * 1000),
        ("started_us >= ?", chosen.after_us),
        ("started_us < ?", chosen.before_us),
        *((f"{dimension.column} = ?", getattr(chosen, dimension.field)) for dimension in _DIMENSIONS),
        ("error_code = ?", chosen.error_code),
        ("tag = ?", chosen.tag),
    )
    given = [(condition, value) for condition, value in wanted if value is not None]
    conditions, args = [condition for condition, _ in given], [value for _, value in given]
    if chosen.outcome is not None:
        meant = outcomes(chosen.outcome)
        conditions.append(f"outcome IN ({', '.join('?' * len(meant))})")
        args += meant
    return conditions, args


async def plan(store: Store, chosen: RequestFilter) -> Plan | None:
    """How to find the requests of a filter; None if there can be none."""
    where, args = _where(chosen)
    tagged = chosen.tag is not None
    if chosen.request_id is not None:
        return Plan(_source(store, "requests", tagged), where, args, None)
    if chosen.after_us is not None or chosen.before_us is not None:
        first, last = await _reach(store, *_hours(chosen))
        if last == 0:
            return None
        where += ["seq >= ?", "seq <= ?"]
        args += [first, last]
    given = [dimension for dimension in _DIMENSIONS if getattr(chosen, dimension.field) is not None]
    if _failed(chosen) and not (tagged and await _count(store, chosen, _TAG) <= FEW_ROWS):
        return Plan(_source(store, _by(store, BY_FAILURE), tagged), ["outcome <> 'complete'", *where], args, None)
    indexes = [*given, _TAG] if tagged else given
    if not indexes:
        return Plan("requests", where, args, None)
    hours = None
    narrowest = indexes[0]
    if len(indexes) > 1:
        counts = [await _count(store, chosen, dimension) for dimension in indexes]
        narrowest = indexes[counts.index(min(counts))]
        if min(counts) > FEW_ROWS and len(given) > 1:
            hours = await _hours_of(store, chosen, given)
            if not hours:
                return None
    # How many of an hour's requests have the tag is not known, so that they cannot be looked through hour by hour.
    return Plan(_source(store, _by(store, narrowest.index), tagged), where, args, None if tagged else hours)


async def _count(store: Store, chosen: RequestFilter, dimension: _Dimension) -> int:
    """How many requests there are, counted in the index up to ``COUNTED_ROWS``."""
    [row] = await store.fetch_report(
        f"SELECT COUNT(*) AS requests FROM (SELECT 1 FROM {_by(store, dimension.index)} WHERE {dimension.column} = ? LIMIT ?) AS counted",
        (getattr(chosen, dimension.field), COUNTED_ROWS),
    )
    return int(row["requests"])


async def between(store: Store, start_us: int, end_us: int) -> tuple[str, list[Any]]:
    """The condition of requests that began in a time, with its arguments."""
    first, last = await _reach(store, start_us // HOUR, (end_us - 1) // HOUR)
    return "started_us >= ? AND started_us < ? AND seq >= ? AND seq <= ?", [start_us, end_us, first, last]


async def _reach(store: Store, first_hour: int, last_hour: int) -> tuple[int, int]:
    """Between which ``seq`` the requests of these hours are; (0, 0) if there are none."""
    [row] = await store.fetch(
        "SELECT min(first_seq) AS first, max(last_seq) AS last FROM request_hours WHERE hour >= ? AND hour <= ?", (first_hour, last_hour)
    )
    return row["first"] or 0, row["last"] or 0


def _by(store: Store, index: str | None) -> str:
    if index is None:
        return _TAGS
    return f"requests INDEXED BY {index}" if store.dialect == "sqlite" else "requests"


def _source(store: Store, first: str, tagged: bool) -> str:
    """Requests as the table ``first`` leads to them, beside their tags where one is asked for. A request has a tag once, so that it is
    found once. SQLite reads tables that are joined so from the left to the right."""
    if not tagged:
        return first
    other = "requests" if first == _TAGS else _TAGS
    return f"{first} {'CROSS ' if store.dialect == 'sqlite' else ''}JOIN {other} USING (seq)"


def _failed(chosen: RequestFilter) -> bool:
    """Whether only requests are wanted that did not end well. Those with an error's status never do."""
    if chosen.outcome is not None:
        return chosen.outcome != "complete"
    lowest = chosen.status_code if chosen.status_code is not None else chosen.status_code_min
    return chosen.error_code is not None or (lowest is not None and lowest >= 400)


def _hours(chosen: RequestFilter) -> tuple[int, int]:
    return (chosen.after_us or 0) // HOUR, END if chosen.before_us is None else (chosen.before_us - 1) // HOUR


async def _hours_of(store: Store, chosen: RequestFilter, given: list[_Dimension]) -> list[_Hour]:
    """The hours in which the hourly sums know requests with all the dimensions, newest first."""
    account = chosen.user_id
    conditions = [f"{dimension.column} = ?" for dimension in given]
    args: list[Any] = [getattr(chosen, dimension.field) for dimension in given]
    if account is None and chosen.key_id is not None:
        # A key's account never changes, and the sums are indexed by account.
        rows = await store.fetch("SELECT user_id FROM api_keys WHERE id = ?", (chosen.key_id,))
        conditions += ["account_id = ?"] * len(rows)
        args += [str(row["user_id"]) for row in rows]
    rows = await store.fetch_report(
        "SELECT h.hour, h.first_seq, h.last_seq, u.requests FROM (SELECT hour, SUM(requests) AS requests FROM usage_hourly"
        f" WHERE {' AND '.join(conditions)} AND hour >= ? AND hour <= ? GROUP BY hour) AS u"
        " JOIN request_hours h ON h.hour = u.hour ORDER BY h.hour DESC",
        [*args, *_hours(chosen)],
    )
    return [_Hour(row["hour"], row["first_seq"], row["last_seq"], int(row["requests"])) for row in rows]


async def seqs(
    store: Store, found: Plan, *, limit: int, skip: int = 0, lowest: int = 0, highest: int = END, down: bool = True
) -> list[int]:
    """The ``seq`` of matching requests from ``lowest`` to ``highest``, in order; ``down``: the highest first."""
    order = "DESC" if down else "ASC"
    if found.hours is None:
        sql, args = found.query("seq", lowest=lowest, highest=highest, tail=f" ORDER BY seq {order} LIMIT ? OFFSET ?")
        return [row["seq"] for row in await store.fetch_report(sql, [*args, limit, skip])]
    result: list[int] = []
    for low, high in _windows(found.hours, limit + skip, lowest, highest, down):
        sql, args = found.query("seq", lowest=low, highest=high, tail=f" ORDER BY seq {order} LIMIT ?")
        result += [row["seq"] for row in await store.fetch_report(sql, [*args, limit + skip - len(result)])]
        if len(result) >= limit + skip:
            break
    return result[skip:]


def _windows(hours: list[_Hour], wanted: int, lowest: int, highest: int, down: bool) -> list[tuple[int, int]]:
    """Ranges of ``seq`` that do not overlap, in the order of the search, each with about ``wanted`` matching requests."""
    ordered = [hour for hour in (hours if down else reversed(hours)) if hour.last >= lowest and hour.first <= highest]
    windows: list[tuple[int, int]] = []
    expected = 0
    for place, hour in enumerate(ordered):
        expected += hour.requests
        if expected < wanted and place + 1 < len(ordered):
            continue
        expected = 0
        last = place + 1 == len(ordered)
        if down:
            low, high = lowest if last else hour.first, windows[-1][0] - 1 if windows else highest
        else:
            low, high = windows[-1][1] + 1 if windows else lowest, highest if last else hour.last
        if low <= high:
            windows.append((low, high))
    return windows


async def rows(store: Store, chosen: RequestFilter, *, limit: int, skip: int = 0) -> list[Row]:
    """Whole rows in the order asked for."""
    found = await plan(store, chosen)
    if found is None:
        return []
    lowest, highest = 0, END
    if chosen.after_id is not None:
        known = await store.fetch("SELECT seq FROM requests WHERE id = ?", (chosen.after_id,))
        if not known:
            return []
        lowest, highest = (0, known[0]["seq"] - 1) if chosen.descending else (known[0]["seq"] + 1, END)
    places = await seqs(store, found, limit=limit, skip=skip, lowest=lowest, highest=highest, down=chosen.descending)
    return await at(store, places)


async def at(store: Store, places: list[int]) -> list[Row]:
    """The rows with these ``seq``, in their order."""
    if not places:
        return []
    found = await store.fetch_report(f"SELECT * FROM requests WHERE seq IN ({', '.join('?' * len(places))})", places)
    by_seq = {row["seq"]: row for row in found}
    return [by_seq[seq] for seq in places if seq in by_seq]
