"""A server killed again and again under load keeps exact books. ``make crash`` is the long form of this."""

from pathlib import Path

import pytest

from tests.crash.run import SERVING_AGAIN_SECONDS, crash

KILLS = 25


@pytest.mark.timeout(400)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_killed_under_load_the_books_are_right(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url: str | None = request.getfixturevalue("postgres_url") if database == "postgresql" else None
    report = await crash(tmp_path / "run", kills=KILLS, database_url=url)
    # The time that the machine gave to others (tests run beside each other) says nothing about the server.
    assert report.serving_again() < SERVING_AGAIN_SECONDS, "\n".join(report.lines)
