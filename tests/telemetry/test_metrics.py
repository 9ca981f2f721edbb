"""The registry renders, and holds what the whole program shares."""

from prometheus_client.parser import text_string_to_metric_families

from dwctl.telemetry import metrics


def test_what_is_rendered_parses_and_has_the_process() -> None:
    families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
    assert "process_resident_memory_bytes" in families
