"""One server and one simulated provider for all tests of a module that only call models, and one for all tests of the SDKs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.appliance import PRICE, Appliance, Simulator, model, running, setup
from tests.e2e.sdks import Sdks, document

FAULTS = (
    *["chat", "embed", "rerank", "speech", "transcribe", "429", "500", "503", "401", "404", "reset", "close"],
    *[
        "cut",
        "badjson",
        "badutf8",
        "nousage",
        "nodone",
        "nofinish",
        "hang-open",
        "crlf",
        "multiline",
        "short-length",
        "long-length",
        "no-length",
    ],
    *["cookie", "error-event", "json-stream", "gzip", "html", "empty", "garbage", "redirect", "echo", "stall", "stall-headers"],
)


PAGES = "https://app.example"
"""Pages from there may call the API."""


@dataclass
class Served:
    appliance: Appliance
    simulator: Simulator
    at_rest: dict[str, float]
    """Metrics before any request."""

    @property
    def url(self) -> str:
        return self.appliance.url


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Every behaviour of the simulator under its own alias (``chat``, ``cut``, ...), priced, on SQLite."""
    directory: Path = tmp_path_factory.mktemp("served")

    def document(url: str) -> dict[str, object]:
        models = [model(name, f"sim-{name}", prices=[PRICE]) for name in FAULTS]
        models += [
            model("free", "sim-chat"),
            model("image", "sim-image", prices=[{"per_request": "0.04"}]),
            model("big", "sim-chat?tokens=200000"),
            model("slow", "sim-chat?latency=400"),
            model("paced", "sim-chat?rate=40&tokens=400", prices=[PRICE]),
            model("one", "sim-chat?rate=20&tokens=200", prices=[PRICE], capacity=1),
            model("rated", "sim-chat", requests_per_second=0.5, burst_size=2),
            model("rarely", "sim-chat", requests_per_second=0.001, burst_size=2),
            model("once", "sim-chat", requests_per_second=0.001, burst_size=1),
            model("private", "sim-chat") | {"groups": []},
        ]
        models += [
            model("unreachable", "sim-chat") | {"endpoint": "down"},
            model("too-long", "sim-chat?rate=20&tokens=4000", prices=[PRICE]) | {"endpoint": "narrow"},
            model("narrow", "sim-chat?rate=20&tokens=20") | {"endpoint": "narrow"},
        ]
        document = setup(url, models)
        document["endpoints"] += [
            {"name": "down", "url": "http://127.0.0.1:9/v1"},
            {"name": "narrow", "url": url, "api_key": "provider-key", "total_timeout": 2, "max_concurrency": 1},
        ]
        return document | {
            "keys": [
                {"user": "dev@example.com", "name": "test", "secret": "sk-test-" + "k" * 35},
                {
                    "user": "dev@example.com",
                    "name": "expired",
                    "secret": "sk-test-expired-000000000000",
                    "expires_at": "2020-01-01T00:00:00Z",
                },
                {"user": "dev@example.com", "name": "platform", "secret": "sk-test-platform-00000000000", "purpose": "platform"},
                {
                    "user": "dev@example.com",
                    "name": "slow",
                    "secret": "sk-test-slow-0000000000000000",
                    "requests_per_second": 0.2,
                    "burst_size": 1,
                },
            ]
        }

    settings = {
        "timeouts": {"connect": 2, "first_byte": 1.5, "idle": 1.5, "total": 20, "client_write": 2, "request_read": 2},
        "limits": {"requests": {"max_body_size": "2MiB"}},
        "log": {"requests": True},
        "auth": {"security": {"cors": {"allowed_origins": [PAGES]}}},
    }
    with running(directory, document, settings=settings) as (appliance, simulator):
        yield Served(appliance, simulator, appliance.metrics())


@pytest.fixture(scope="session")
def every_dialect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sdks]:
    """The simulator behind all four dialects. Starting it takes longer than the tests, so that they share it."""
    with running(tmp_path_factory.mktemp("dialects"), document) as (appliance, simulator):
        yield Sdks(appliance, simulator)


@pytest.fixture
def sdks(every_dialect: Sdks) -> Iterator[Sdks]:
    """That server; when the test is over, everything that it answered is held against the SDKs' types."""
    every_dialect.answers.clear()
    yield every_dialect
    every_dialect.check_answers()
