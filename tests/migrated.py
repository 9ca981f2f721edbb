"""Databases that are migrated already: the migrations take longer than most tests, and have tests of their own."""

import asyncio
import functools
import tempfile
import threading
from pathlib import Path

from dwctl.store import Store
from dwctl.store.store import DATABASE_FILE


def migrate(url: str | None, data_dir: Path) -> None:
    """Migrate a database, by default the SQLite file in ``data_dir``."""

    async def main() -> None:
        store = await Store.open(url, data_dir)
        await store.close()
        done.append(True)

    # On a loop of its own, away from the one that pytest-asyncio keeps on this thread.
    done: list[bool] = []
    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join()
    assert done, "the migration failed"


@functools.cache
def _file() -> bytes:
    with tempfile.TemporaryDirectory(prefix="dwctl-migrated-") as folder:
        migrate(None, Path(folder))
        return (Path(folder) / DATABASE_FILE).read_bytes()


def put_database(data_dir: Path) -> Path:
    """Put a migrated SQLite file at its usual place in a data directory, which is made if need be; the file."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = data_dir / DATABASE_FILE
    file.write_bytes(_file())
    return file
