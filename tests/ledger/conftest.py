"""Ledgers on a database of either kind."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from dwctl.ledger import Ledger
from dwctl.store import Store
from tests.ledger.making import NODE

StartLedger = Callable[..., Any]


@pytest.fixture
async def start_ledger(store: Store, data_dir: Path) -> AsyncIterator[StartLedger]:
    """Starts ledgers on one data directory; the last one is closed at the end of the test."""
    started: list[Ledger] = []

    async def start(use: Any = None, **options: Any) -> Ledger:
        ledger = Ledger(use or store, data_dir, NODE, **options)
        await ledger.start()
        started.append(ledger)
        return ledger

    yield start
    for ledger in started[-1:]:
        await ledger.close(5)


@pytest.fixture
async def ledger(start_ledger: StartLedger) -> Ledger:
    """A started ledger with its defaults."""
    started: Ledger = await start_ledger()
    return started
