"""One server before the simulator as an endpoint of every dialect, for programs that are not ours."""

from collections.abc import Iterator
from typing import Any

import pytest

from dwctl.dialects.names import DIALECTS
from tests.appliance import PRICE, Appliance, Simulator, model, running, setup, until

MODELS = {
    "plain": "sim-chat",
    "agent": "sim-chat?thinking=4&calls=1",
}
"""By alias; each is there once for each provider dialect, ``plain.anthropic``."""


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Appliance, Simulator]]:
    def document(url: str) -> dict[str, Any]:
        models = [
            model(f"{alias}.{dialect}", name, prices=[PRICE]) | {"endpoint": dialect}
            for dialect in DIALECTS
            for alias, name in MODELS.items()
        ]
        endpoints = [{"name": dialect, "url": url, "dialect": dialect, "api_key": "provider-key"} for dialect in DIALECTS]
        return setup(url, models) | {"endpoints": endpoints}

    with running(tmp_path_factory.mktemp("clients"), document) as programs:
        yield programs
        assert until(lambda: not programs[0].in_flight(), 10, "requests under way") is True
