"""Failures that no answer tells of: each is a line in the log and a count, so that an alarm can be set on one metric."""

from typing import Any, Literal

import structlog
from prometheus_client import Counter

from dwctl.telemetry.metrics import REGISTRY

Severity = Literal["warning", "error", "critical"]

log = structlog.get_logger(__name__)

_failures = Counter(
    "dwctl_background_errors_total",
    "Failures of work that no request waits for, and faults of dwctl itself met by a model call. `component` and `operation`, joined by a"
    " dot, are the event's name in the log (warning: it is tried again, or little is lost; critical: a person should look).",
    ["component", "operation", "severity"],
    registry=REGISTRY,
)


def alarm(component: str, operation: str, severity: Severity = "error", **details: Any) -> None:
    """Log the event ``component.operation`` with its details, and count it. Component and operation are written out where it is called:
    never a caller's text."""
    _failures.labels(component, operation, severity).inc()
    getattr(log, severity)(f"{component}.{operation}", **details)
