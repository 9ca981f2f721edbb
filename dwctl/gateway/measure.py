"""Prometheus metrics of model calls: names of OpenTelemetry's GenAI conventions. Label values come from configuration only."""

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import Counter, Gauge

from dwctl.clock import MICROSECONDS
from dwctl.gateway.receive import INFERENCE
from dwctl.ledger.records import Record, token_interval_us
from dwctl.routing import metrics as catalog
from dwctl.telemetry.distributions import Count, Counts, Distribution, Distributions
from dwctl.telemetry.metrics import REGISTRY

if TYPE_CHECKING:
    from dwctl.gateway.gateway import Gateway
    from dwctl.routing.snapshot import EndpointEntry

_LABELS = [
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    "gen_ai_request_model",
    "gen_ai_response_model",
    "server_address",
    "server_port",
    "error_type",
    "request_origin",
    "billing_tier",
]
_SECONDS = tuple(0.01 * 2**power for power in range(14))
_TOKENS = tuple(4.0**power for power in range(14))

_duration = Distributions("gen_ai_server_request_duration_seconds", "Duration of model calls.", _LABELS, registry=REGISTRY, bounds=_SECONDS)
_first_token = Distributions(
    "gen_ai_server_time_to_first_token_seconds",
    "Until the first byte of the answer was released.",
    _LABELS,
    registry=REGISTRY,
    bounds=_SECONDS,
)
_per_token = Distributions(
    "gen_ai_server_time_per_output_token_seconds",
    "Between output tokens, after the first, of streams that take long enough to tell.",
    _LABELS,
    registry=REGISTRY,
    bounds=tuple(0.001 * 2**power for power in range(12)),
)
_token_usage = Distributions(
    "gen_ai_client_token_usage", "Tokens of a model call.", [*_LABELS, "gen_ai_token_type"], registry=REGISTRY, bounds=_TOKENS
)
_attempts = Counts("proxy_upstream_attempts_total", "Requests sent to providers.", ["alias", "provider", "outcome"], registry=REGISTRY)
_refusals = Counter("proxy_limit_rejections_total", "Requests refused by dwctl, by reason.", ["code"], registry=REGISTRY)
_live = Gauge("onwards_requests_inflight", "Model calls that have not ended.", registry=REGISTRY)
_slots = Gauge("dwctl_concurrency_slots", "Units of concurrency held by model calls.", registry=REGISTRY)
_tasks = Gauge("dwctl_tasks", "Tasks of the event loop.", registry=REGISTRY)


class _Bound(NamedTuple):
    duration: Distribution
    first_token: Distribution
    per_token: Distribution
    input_tokens: Distribution
    output_tokens: Distribution
    attempts: Count


_NOWHERE = ("", "")
_bound: dict[tuple[str | tuple[str, str] | None, ...], _Bound] = {}


def watch(gateway: "Gateway") -> None:
    """Let the gauges of what is in flight, and of the catalog, read the gateway when they are scraped."""
    _live.set_function(lambda: len(gateway.live))
    _slots.set_function(gateway.limits.total_active)
    _tasks.set_function(lambda: len(asyncio.all_tasks()))
    catalog.watch(
        lambda: gateway.snapshot,
        lambda: [(groups, count) for (purpose, groups), count in gateway.keyring.access.items() if purpose in INFERENCE],
    )


def _children(record: Record, server: tuple[str, str]) -> _Bound:
    # Nothing here is a caller's text: the alias is known by now, and the rest is ours.
    error = record.error_code if record.outcome != "complete" else ""
    key = (
        record.operation,
        record.endpoint_name,
        record.alias,
        record.upstream_model,
        server,
        error,
        record.origin,
        record.service_tier,
        record.outcome,
    )
    bound = _bound.get(key)
    if bound is None:
        named = (record.operation, record.endpoint_name, record.alias, record.upstream_model)
        labels = [value or "" for value in (*named, *server, error, record.origin, record.service_tier)]
        bound = _bound[key] = _Bound(
            _duration.labels(*labels),
            _first_token.labels(*labels),
            _per_token.labels(*labels),
            _token_usage.labels(*labels, "input"),
            _token_usage.labels(*labels, "output"),
            _attempts.labels(record.alias or "", record.endpoint_name or "", record.outcome),
        )
    return bound


def refusal(code: str) -> None:
    """Count a request that dwctl said no to; the code is one of ours."""
    _refusals.labels(code).inc()


def exchange(record: Record, endpoint: "EndpointEntry | None") -> None:
    """Count one settled exchange that was not refused, whose model is known."""
    bound = _children(record, endpoint.server if endpoint is not None else _NOWHERE)
    bound.duration.observe(record.duration_us / MICROSECONDS)
    bound.attempts.number += 1
    usage = record.usage
    if record.first_byte_us is not None and record.stream:
        bound.first_token.observe(record.first_byte_us / MICROSECONDS)
        if usage is not None and record.outcome != "failed":
            interval_us = token_interval_us(usage.output, record.first_byte_us, record.duration_us)
            if interval_us is not None:
                bound.per_token.observe(interval_us / MICROSECONDS)
    if usage is not None:
        bound.input_tokens.observe(usage.input)
        bound.output_tokens.observe(usage.output)
