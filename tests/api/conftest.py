from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.administration import Administration, configuration, serving


@pytest.fixture
async def server(database_url: str, data_dir: Path) -> AsyncIterator[Administration]:
    """A server on each kind of database."""
    async with serving(database_url, configuration(data_dir, database_url)) as running:
        yield running
