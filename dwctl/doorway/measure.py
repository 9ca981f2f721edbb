"""Prometheus metrics of requests. ``endpoint`` is the route's template, so that no caller makes a label."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge
from sanic.constants import HTTP_METHODS

from dwctl.clock import monotonic
from dwctl.telemetry.distributions import Count, Counts, Distribution, Distributions
from dwctl.telemetry.metrics import REGISTRY

_total = Counts(
    "dwctl_http_requests_total",
    "Requests by route and status. `endpoint` is empty for those that were refused before they reached a route.",
    ["method", "status", "endpoint"],
    registry=REGISTRY,
)
_seconds = Distributions(
    "dwctl_http_requests_duration_seconds",
    "Duration of requests by route and status.",
    ["method", "status", "endpoint"],
    registry=REGISTRY,
    bounds=(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
_pending = Gauge("dwctl_http_requests_pending", "Requests that have not been answered.", ["method", "endpoint"], registry=REGISTRY)


class Measured:
    """One request; ``status`` is set once it is known. ``started_at`` in monotonic seconds."""

    __slots__ = ("started_at", "status")

    def __init__(self, started_at: float) -> None:
        self.started_at = started_at
        self.status = 499
        """What stays if the client leaves first."""


class RouteMetrics:
    """What is counted of one route, bound once, so that no request pays for finding its metrics."""

    __slots__ = ("_ended", "_labels", "_pending")

    def __init__(self, method: str, endpoint: str) -> None:
        self._labels = method, endpoint
        self._pending = 0
        self._ended: dict[int, tuple[Count, Distribution]] = {}
        _pending.labels(method, endpoint).set_function(lambda: self._pending)

    def begun(self) -> None:
        """A request is served from now on; ``ended`` follows, whatever happens."""
        self._pending += 1

    def ended(self, status: int, seconds: float) -> None:
        """It was answered with this status after so long, or its client has left (499)."""
        self._pending -= 1
        bound = self._ended.get(status)
        if bound is None:
            method, endpoint = self._labels
            labels = method, str(status), endpoint
            bound = self._ended[status] = _total.labels(*labels), _seconds.labels(*labels)
        bound[0].number += 1
        bound[1].observe(seconds)

    @contextmanager
    def measured(self) -> Iterator[Measured]:
        """Count a request while it is served, and afterwards under its status."""
        request = Measured(monotonic())
        self.begun()
        try:
            yield request
        finally:
            self.ended(request.status, monotonic() - request.started_at)


def count_unrouted(method: str, status: int) -> None:
    """Count a request that was refused before it reached a route. Its method is the caller's word."""
    _total.labels(method if method in HTTP_METHODS else "", str(status), "").number += 1
