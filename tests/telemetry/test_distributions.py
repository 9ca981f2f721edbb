"""The hot path's metrics say what prometheus' own would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dwctl.telemetry.distributions import Counts, Distributions

BOUNDS = (0.5, 1.0, 2.0, 8.0)


def samples(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([*BOUNDS, 0.0, 0.7, 9.0]) | st.floats(0, 100))))
def test_it_renders_as_a_prometheus_histogram(observed: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    fast = Distributions("seconds", "Text.", ["model"], registry=ours, bounds=BOUNDS)
    reference = Histogram("seconds", "Text.", ["model"], registry=theirs, buckets=BOUNDS)
    for model, value in observed:
        fast.labels(model).observe(value)
        reference.labels(model).observe(value)
    assert samples(ours) == pytest.approx(samples(theirs))


@given(st.lists(st.sampled_from("ab")))
def test_it_renders_as_a_prometheus_counter(observed: list[str]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    fast = Counts("requests_total", "Text.", ["model"], registry=ours)
    reference = Counter("requests_total", "Text.", ["model"], registry=theirs)
    for model in observed:
        fast.labels(model).number += 1
        reference.labels(model).inc()
    assert samples(ours) == samples(theirs)


def test_a_wrong_number_of_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="1 labels"):
        Distributions("seconds", "Text.", ["model"], registry=CollectorRegistry(), bounds=BOUNDS).labels("a", "b")
