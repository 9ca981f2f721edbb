"""Histograms and counters for the hot path: prometheus' exposition, filled by additions.

`prometheus_client.Histogram` compares with every bound, and its metrics take a lock and several calls for each observation, which is
fine everywhere but where a model call makes seven. These are the event loop's own and need no lock.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

_Child = TypeVar("_Child")


class Distribution:
    """One histogram with its labels bound."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Count:
    """One counter with its labels bound; whoever counts adds to ``number``."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


class _Family(Collector, Generic[_Child]):
    """Metrics of one name, by the values of their labels."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], make: Callable[[], _Child], registry: CollectorRegistry
    ) -> None:
        self._name, self._documentation, self._labels = name, documentation, tuple(labels)
        self._make = make
        self._children: dict[tuple[str, ...], _Child] = {}
        registry.register(self)

    def labels(self, *values: str) -> _Child:
        """The one of these label values, made at its first use. Raises ValueError for a wrong number of them."""
        if len(values) != len(self._labels):
            raise ValueError(f"{self._name} has {len(self._labels)} labels")
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._make()
        return child


class Distributions(_Family[Distribution]):
    """A family of histograms; ``bounds`` are the upper bounds of its buckets, ascending, without infinity."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], *, bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._bounds = tuple(bounds)
        super().__init__(name, documentation, labels, lambda: Distribution(self._bounds), registry)

    def describe(self) -> Iterator[HistogramMetricFamily]:
        yield HistogramMetricFamily(self._name, self._documentation, labels=self._labels)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, child in self._children.items():
            running = 0
            buckets = []
            for bound, count in zip((*map(str, self._bounds), "+Inf"), child.counts, strict=True):
                running += count
                buckets.append((bound, float(running)))
            family.add_metric(values, buckets, child.total)
        yield family


class Counts(_Family[Count]):
    """A family of counters; its name ends in ``_total``."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], *, registry: CollectorRegistry) -> None:
        super().__init__(name, documentation, labels, Count, registry)

    def describe(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._documentation, labels=self._labels)

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, child in self._children.items():
            family.add_metric(values, child.number)
        yield family
