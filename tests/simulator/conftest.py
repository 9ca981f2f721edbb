"""A simulator with a key and a ledger, for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dwctl import simulator
from dwctl.simulator import Simulator


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Simulator]:
    running = await simulator.start(api_key="sk-test", ledger=tmp_path / "ledger.jsonl")
    yield running
    await running.close()
