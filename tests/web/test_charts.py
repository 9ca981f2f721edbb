"""Geometry of the charts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.web import charts

NUMBERS = st.one_of(st.none(), st.floats(-1e9, 1e9, allow_nan=False).map(lambda value: round(value, 3)))


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(0, 10, [0, 5, 10]), (0, 0, [0, 0.5, 1]), (-3, 7, [-5, 0, 5, 10]), (0, 0.02, [0, 0.01, 0.02])]
)
def test_ticks_are_round_and_cover_the_values(low: float, high: float, ticks: list[float]) -> None:
    assert charts.nice_ticks(low, high) == ticks


@given(st.lists(NUMBERS, min_size=1, max_size=60))
def test_bars_lie_within_the_axes(values: list[float | None]) -> None:
    low, high = charts.extent([values], stack=True)
    frame = charts.frame([str(index) for index in range(len(values))], low, high)
    bars = charts.stacked([values], frame)
    assert len(bars) == sum(1 for value in values if value)
    for bar in bars:
        assert frame.left <= bar.x <= bar.x + bar.width <= frame.right + 0.1
        assert frame.top - 0.1 <= bar.y <= bar.y + bar.height <= frame.bottom + 0.1


def test_heights_are_in_proportion_and_stacks_meet() -> None:
    frame = charts.frame(["a", "b"], 0, 10)
    one, two = charts.stacked([[5, 10]], frame)
    assert two.height == pytest.approx(2 * one.height, abs=0.02)
    below, above = charts.stacked([[4], [6]], charts.frame(["a"], 0, 10))
    assert above.y + above.height == pytest.approx(below.y, abs=0.02)


def test_a_gap_breaks_the_line_and_zero_does_not() -> None:
    frame = charts.frame(["a"] * 5, 0, 4)
    drawn = charts.line([1, 2, None, 0, 4], frame, low=0, high=4)
    assert [len(piece.split()) for piece in drawn.pieces] == [2, 2]
    assert charts.line([None, 3, None], frame, low=0, high=4).dots
    assert charts.sparkline([]).pieces == []


def test_shares() -> None:
    assert charts.share(0, 10, 100) == 0
    assert charts.share(1, 10_000, 50) == 0.5
    assert charts.share(20, 10, 100) == 100
