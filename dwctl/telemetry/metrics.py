"""The one prometheus registry. Each room defines its own metrics against it; labels come from configuration, never from callers."""

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST

REGISTRY = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)


def render() -> bytes:
    """Everything in the registry in prometheus' text format (`CONTENT_TYPE`)."""
    return generate_latest(REGISTRY)
