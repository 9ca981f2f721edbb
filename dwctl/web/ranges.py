"""Time ranges in the addresses of pages: ``range=24h`` up to now, or ``from`` and ``to`` (days, both included, times in RFC 3339, or
relative such as ``now-24h``).

A day, and a time without a zone, is UTC, which is what browsers' date fields send.
"""

import re
from datetime import UTC, date, datetime, timedelta

import msgspec

from dwctl.clock import MICROSECONDS

PRESETS = (
    ("15m", "Last 15 minutes"),
    ("1h", "Last hour"),
    ("6h", "Last 6 hours"),
    ("24h", "Last 24 hours"),
    ("7d", "Last 7 days"),
    ("30d", "Last 30 days"),
    ("90d", "Last 90 days"),
)
_UNITS = {"m": 60, "h": 3600, "d": 86400}
_RELATIVE = re.compile(r"now(?:-(\d{1,6})([mhd]))?")
_LENGTH = re.compile(r"(\d{1,6})([mhd])")
_LATEST = 2**53


class Range(msgspec.Struct, kw_only=True):
    """Microseconds; None: no bound. ``said`` is the range in words; ``problems``: field -> a sentence."""

    from_us: int | None = None
    to_us: int | None = None
    said: str = "Any time"
    preset: str | None = None
    problems: dict[str, str] = {}


def read_range(preset: str | None, start: str | None, end: str | None, now_us: int) -> Range:
    """The range that the words of an address mean. ``start`` and ``end`` count before ``preset``."""
    found = Range()
    if start is None and end is None:
        if preset is None:
            return found
        length = _LENGTH.fullmatch(preset)
        if length is None:
            found.problems["range"] = "Write a length of time such as 24h or 7d."
            return found
        found.preset = preset
        found.from_us = now_us - int(length[1]) * _UNITS[length[2]] * MICROSECONDS
        found.said = dict(PRESETS).get(preset, f"Last {preset}")
        return found
    for field, text in (("from", start), ("to", end)):
        if text is None:
            continue
        moment = _moment(text, now_us, ends=field == "to")
        if moment is None:
            found.problems[field] = "Write a time such as 2026-01-31T09:00 (UTC), a day such as 2026-01-31, or now-24h."
        elif field == "from":
            found.from_us = moment
        else:
            found.to_us = moment
    if found.from_us is not None and found.to_us is not None and found.from_us >= found.to_us:
        found.problems["to"] = "The range must begin before it ends."
    found.said = " – ".join(_said(text, moment) for text, moment in ((start, found.from_us), (end, found.to_us)))
    return found


def _moment(text: str, now_us: int, *, ends: bool) -> int | None:
    relative = _RELATIVE.fullmatch(text)
    if relative is not None:
        return now_us - (int(relative[1]) * _UNITS[relative[2]] * MICROSECONDS if relative[1] else 0)
    try:
        parsed = datetime.fromisoformat(text)
        if ends and _is_day(text):
            parsed += timedelta(days=1)
        moment = int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()) * MICROSECONDS
    except (ValueError, OverflowError):
        return None
    return moment if 0 <= moment <= _LATEST else None


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _said(text: str | None, moment: int | None) -> str:
    if moment is None:
        return "…"
    if text is not None and text.startswith("now"):
        return text
    if text is not None and _is_day(text):
        return f"{text} UTC"
    return f"{datetime.fromtimestamp(moment // MICROSECONDS, UTC):%Y-%m-%d %H:%M:%S} UTC"


def written(moment_us: int) -> str:
    """A moment as addresses and date fields have it, in UTC."""
    return f"{datetime.fromtimestamp(moment_us // MICROSECONDS, UTC):%Y-%m-%dT%H:%M:%S}"
