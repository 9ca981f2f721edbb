"""The catalog as prometheus gauges, read from the snapshot when they are scraped: what has vanished is gone."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dwctl.ledger import prices
from dwctl.money import PICO
from dwctl.routing.snapshot import Snapshot
from dwctl.telemetry.metrics import REGISTRY


class _Catalog(Collector):
    """Gauges of every model of the snapshot that ``current`` returns; none until it is set. ``keys``: how many keys there are by
    the groups of their owners."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.current: Callable[[], Snapshot] | None = None
        self.keys: Callable[[], Iterable[tuple[frozenset[str], int]]] = tuple
        registry.register(self)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("dwctl_model_info", "Models that can be called.", labels=["model", "endpoint", "upstream_model"])
        yield GaugeMetricFamily("dwctl_model_rate_limit_rps", "Requests per second that a model allows.", labels=["model"])
        yield GaugeMetricFamily("dwctl_model_concurrency_limit", "Concurrent requests that a model allows.", labels=["model"])
        yield GaugeMetricFamily("dwctl_model_api_key_count", "API keys whose owners may call a model.", labels=["model"])
        yield GaugeMetricFamily("dwctl_model_group_info", "Groups whose members may call a model.", labels=["model", "group_id"])
        yield GaugeMetricFamily("dwctl_model_tariff", "Realtime price in force, in credits per token.", labels=["model", "direction"])

    def collect(self) -> Iterator[GaugeMetricFamily]:
        owned = list(self.keys())
        info, rate, capacity, keys, groups, tariff = families = tuple(self.describe())
        for model in self.current().listing if self.current is not None else ():
            for candidate in model.candidates:
                info.add_metric([model.alias, candidate.endpoint.name, candidate.model_name], 1)
            if model.requests_per_second is not None:
                rate.add_metric([model.alias], model.requests_per_second)
            if model.capacity is not None:
                capacity.add_metric([model.alias], model.capacity)
            keys.add_metric([model.alias], sum(count for having, count in owned if not having.isdisjoint(model.groups)))
            for group in sorted(model.groups):
                groups.add_metric([model.alias, group], 1)
            price = prices.select(model.prices, prices.REALTIME)
            if price is not None:
                tariff.add_metric([model.alias, "input"], price.input_pico / PICO)
                tariff.add_metric([model.alias, "output"], price.output_pico / PICO)
        return iter(families)


_catalog = _Catalog(REGISTRY)


def watch(current: Callable[[], Snapshot], keys: Callable[[], Iterable[tuple[frozenset[str], int]]]) -> None:
    """Let the gauges read what ``current`` and ``keys`` return when they are scraped."""
    _catalog.current, _catalog.keys = current, keys
