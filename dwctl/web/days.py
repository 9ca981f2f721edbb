"""Days in the words of an address, as browsers' date fields send them."""

from datetime import date, timedelta

from dwctl.web.forms import wrong


def days(first: str | None, last: str | None) -> tuple[str | None, str | None]:
    """RFC 3339 times of the beginning of the first day and of the end of the last one, in UTC. Raises FormError naming from or to."""
    times: list[str | None] = []
    for name, text, more in (("from", first, 0), ("to", last, 1)):
        try:
            times.append(f"{date.fromisoformat(text) + timedelta(days=more)}T00:00:00Z" if text else None)
        except (ValueError, OverflowError):
            raise wrong(name, "Write a day such as 2026-11-30.") from None
    return times[0], times[1]
