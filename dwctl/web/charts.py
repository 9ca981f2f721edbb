"""Geometry of the charts: plain numbers in, coordinates out. The macros in ``macros/charts.html`` draw them as SVG.

Coordinates are in the units of a chart's view box, with y downwards. A value that is None is a gap, which is not the same as zero.
"""

import math
from collections.abc import Sequence

import msgspec

WIDTH, HEIGHT = 640, 160
_TOP, _BOTTOM = 8, 22


class Tick(msgspec.Struct, frozen=True):
    at: float
    label: str


class Bar(msgspec.Struct, frozen=True):
    """A rectangle; ``series`` and ``index`` say of which value, which ``value`` is."""

    x: float
    y: float
    width: float
    height: float
    series: int
    index: int
    value: float


class Line(msgspec.Struct, frozen=True):
    """The pieces of a line between gaps, as points of a polyline; ``dots`` are pieces of one point."""

    pieces: list[str]
    dots: list[tuple[float, float]]


class Frame(msgspec.Struct, frozen=True):
    """The plot within its axes. ``x_ticks`` are in percent of the width, all else in units of the view box."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    zero: float
    y_ticks: list[Tick]
    x_ticks: list[Tick]


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers (1, 2, 5 times a power of ten) that cover low..high in about three steps: at least two."""
    if high <= low:
        high = low + 1
    raw = (high - low) / 3
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def frame(labels: Sequence[str], low: float, high: float, *, format_value: object = None) -> Frame:
    """Axes for values between low and high, which always include zero. ``format_value`` writes a tick's value."""
    write = format_value if callable(format_value) else compact_number
    ticks = nice_ticks(min(low, 0), max(high, 0))
    bottom, top = HEIGHT - _BOTTOM, _TOP
    scale = _Scale(ticks[0], ticks[-1], bottom, top)
    shown = max(1, math.ceil(len(labels) / 8))
    slot = 100 / max(len(labels), 1)
    return Frame(
        WIDTH,
        HEIGHT,
        0,
        WIDTH,
        top,
        bottom,
        scale(0),
        [Tick(scale(value), str(write(value))) for value in ticks],
        [Tick(round(slot * (index + 0.5), 2), label) for index, label in enumerate(labels) if index % shown == 0],
    )


def stacked(series: Sequence[Sequence[float | None]], axes: Frame) -> list[Bar]:
    """Bars of one or several series on top of each other; negative values hang below zero."""
    length = max((len(values) for values in series), default=0)
    scale = _from_axes(series, axes, stack=True)
    slot = (axes.right - axes.left) / max(length, 1)
    gap = min(2.0, slot * 0.2)
    bars = []
    for index in range(length):
        above = below = 0.0
        for number, values in enumerate(series):
            value = values[index] if index < len(values) else None
            if not value:
                continue
            start = above if value > 0 else below
            end = start + value
            y, other = sorted((scale(start), scale(end)))
            bars.append(
                Bar(round(axes.left + slot * index + gap / 2, 2), y, round(slot - gap, 2), round(other - y, 2), number, index, value)
            )
            above, below = (end, below) if value > 0 else (above, end)
    return bars


def line(values: Sequence[float | None], axes: Frame, *, low: float, high: float) -> Line:
    """One series as a line, broken at gaps."""
    ticks = nice_ticks(min(low, 0), max(high, 0))
    scale = _Scale(ticks[0], ticks[-1], axes.bottom, axes.top)
    slot = (axes.right - axes.left) / max(len(values), 1)
    return _line([None if value is None else (round(axes.left + slot * (i + 0.5), 2), scale(value)) for i, value in enumerate(values)])


def extent(series: Sequence[Sequence[float | None]], *, stack: bool = False) -> tuple[float, float]:
    """The least and the greatest value, with zero; of stacks their ends."""
    if stack:
        length = max((len(values) for values in series), default=0)
        columns = [[values[index] or 0 for values in series if index < len(values)] for index in range(length)]
        lows = [sum(value for value in column if value < 0) for column in columns]
        highs = [sum(value for value in column if value > 0) for column in columns]
    else:
        lows = highs = [value for values in series for value in values if value is not None]
    return min(0, *lows) if lows else 0, max(0, *highs) if highs else 0


def sparkline(values: Sequence[float | None], width: float = 120, height: float = 28) -> Line:
    """A line without axes, from zero up."""
    low, high = extent([values])
    scale = _Scale(low, high or 1, height - 2, 2)
    step = width / max(len(values) - 1, 1)
    return _line([None if value is None else (round(step * i, 2), scale(value)) for i, value in enumerate(values)])


def share(value: float, whole: float, width: float) -> float:
    """How much of ``width`` a part of the whole takes; at least a hair of it if there is a part at all."""
    if whole <= 0 or value <= 0:
        return 0
    return round(max(min(value / whole, 1) * width, width / 100), 2)


def compact_number(value: float) -> str:
    """A tick's label: ``0``, ``250``, ``1.5k``, ``2M``, ``0.02``."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:g}{unit}"
    return f"{value:g}"


class _Scale:
    def __init__(self, low: float, high: float, at_low: float, at_high: float) -> None:
        self._low, self._from = low, at_low
        self._factor = (at_high - at_low) / ((high - low) or 1)

    def __call__(self, value: float) -> float:
        return round(self._from + (value - self._low) * self._factor, 2)


def _from_axes(series: Sequence[Sequence[float | None]], axes: Frame, *, stack: bool) -> _Scale:
    low, high = extent(series, stack=stack)
    ticks = nice_ticks(low, high)
    return _Scale(ticks[0], ticks[-1], axes.bottom, axes.top)


def _line(points: Sequence[tuple[float, float] | None]) -> Line:
    pieces: list[str] = []
    dots: list[tuple[float, float]] = []
    run: list[tuple[float, float]] = []
    for point in [*points, None]:
        if point is not None:
            run.append(point)
            continue
        if len(run) == 1:
            dots.append(run[0])
        elif run:
            pieces.append(" ".join(f"{x:g},{y:g}" for x, y in run))
        run = []
    return Line(pieces, dots)
