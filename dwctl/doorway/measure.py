"""Prometheus metrics of administrative requests. ``endpoint`` is the route's template, so that no caller makes a label."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

from dwctl.telemetry.metrics import REGISTRY

_total = Counter("dwctl_http_requests_total", "Requests by route and status.", ["method", "status", "endpoint"], registry=REGISTRY)
_seconds = Histogram(
    "dwctl_http_requests_duration_seconds", "Duration of requests by route and status.", ["method", "status", "endpoint"], registry=REGISTRY
)
_pending = Gauge("dwctl_http_requests_pending", "Requests that have not been answered.", ["method", "endpoint"], registry=REGISTRY)


class Measured:
    """One request; ``status`` is set once it is known."""

    __slots__ = ("status",)

    def __init__(self) -> None:
        self.status = 499
        """What stays if the client leaves first."""


@contextmanager
def measured(method: str, endpoint: str) -> Iterator[Measured]:
    """Count a request while it is served, and afterwards under its status."""
    request = Measured()
    pending = _pending.labels(method, endpoint)
    pending.inc()
    started = time.perf_counter()
    try:
        yield request
    finally:
        pending.dec()
        _total.labels(method, request.status, endpoint).inc()
        _seconds.labels(method, request.status, endpoint).observe(time.perf_counter() - started)
