"""Words of an address that several pages have: days of a range, and the address made of words."""

from collections.abc import Mapping
from datetime import date, timedelta
from urllib.parse import urlencode

from dwctl.web.forms import wrong


def address(path: str, words: Mapping[str, str | None]) -> str:
    """The path with those words that have a value."""
    kept = {name: value for name, value in words.items() if value}
    return f"{path}?{urlencode(kept)}" if kept else path


def days(first: str | None, last: str | None) -> tuple[str | None, str | None]:
    """RFC 3339 times of the beginning of the first day and of the end of the last one, in UTC. Raises FormError naming from or to."""
    times: list[str | None] = []
    for name, text, more in (("from", first, 0), ("to", last, 1)):
        try:
            times.append(f"{date.fromisoformat(text) + timedelta(days=more)}T00:00:00Z" if text else None)
        except (ValueError, OverflowError):
            raise wrong(name, "Write a day such as 2026-11-30.") from None
    return times[0], times[1]
