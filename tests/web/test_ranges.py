"""Time ranges in addresses."""

import pytest

from dwctl.web.ranges import read_range, written

NOW = 1_775_000_000_000_000


@pytest.mark.parametrize(
    ("start", "end", "from_", "to"),
    [
        ("2026-09-01", "2026-09-30", "2026-09-01T00:00:00", "2026-10-01T00:00:00"),
        ("2026-02-28", "2026-02-28", "2026-02-28T00:00:00", "2026-03-01T00:00:00"),
        ("2026-09-01T10:30", "2026-09-01T12:00:00+02:00", "2026-09-01T10:30:00", None),
        ("2026-09-01T10:30", "2026-09-01T14:00:00+02:00", "2026-09-01T10:30:00", "2026-09-01T12:00:00"),
    ],
)
def test_a_day_is_a_whole_one_and_a_time_is_exact(start: str, end: str, from_: str, to: str | None) -> None:
    found = read_range(None, start, end, NOW)
    assert found.from_us is not None
    assert found.to_us is not None
    assert written(found.from_us) == from_
    assert found.problems == ({"to": "The range must begin before it ends."} if to is None else {})
    assert to is None or written(found.to_us) == to


@pytest.mark.parametrize("text", ["2026-02-30", "yesterday", "9999-12-31", "0001-01-01"])
def test_what_is_no_time_is_said(text: str) -> None:
    assert "Write a time such as" in read_range(None, None, text, NOW).problems["to"]
