"""What every test may ask for: a fresh database of either kind, a store on it, a PostgreSQL server to mistreat.

One private PostgreSQL serves a whole run (all xdist workers); a test gets a database of its own, cloned from a migrated
template. Without the programs of PostgreSQL or PgBouncer the tests on them are skipped; with CI=1 they fail.
"""

import contextlib
import fcntl
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings

from dwctl.store import Store
from tests.migrated import migrate, put_database
from tests.pooler import Pooler, die_with_parent, pooler_program, unprivileged

# Collecting makes a great many objects that stay until the end: the collector need not look through them again and again.
_THRESHOLDS = gc.get_threshold()
gc.set_threshold(50_000, 50, 50)

# How long an example takes is the machine's business: it may be busy with the other tests.
settings.register_profile("dwctl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dwctl")


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


def postgres_programs() -> Path | None:
    """The directory of initdb and postgres, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


class PostgresServer:
    """A PostgreSQL server of our own on loopback, without a password. PostgreSQL refuses root, so root runs it as postgres."""

    def __init__(self, programs: Path, *settings: str) -> None:
        """``settings`` as in postgresql.conf, e.g. ``fsync=off``."""
        self.programs = programs
        self._settings = settings
        self._account = unprivileged()
        self.directory = Path(tempfile.mkdtemp(prefix="dwctl-postgres-", dir="/tmp"))
        self.directory.chmod(0o755)
        self._data = self.directory / "data"
        self._data.mkdir(mode=0o700)
        if self._account:
            os.chown(self._data, self._account["user"], self._account["group"])
            os.chown(self.directory, self._account["user"], self._account["group"])
        self.process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        subprocess.run(
            [programs / "initdb", "-D", self._data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.directory,
            **self._account,
        )

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start and wait until it answers."""
        assert self.process is None
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(self.programs / "postgres", "-D", self._data, "-p", str(self.port)),
                    *("-k", self.directory, "-h", "127.0.0.1", "-c", "max_connections=200", "-c", "shared_buffers=64MB"),
                    *(part for setting in self._settings for part in ("-c", setting)),
                ],
                stdout=log,
                stderr=log,
                cwd=self.directory,
                preexec_fn=die_with_parent,
                **self._account,
            )
        until = time.monotonic() + 30
        while subprocess.run([self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]).returncode:
            assert self.process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < until, (self.directory / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """Shut down in an orderly way, ending open connections."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL the server and all its processes: whatever was in flight is lost without an answer."""
        assert self.process is not None
        for child in self.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self._end(signal.SIGKILL)

    def children(self) -> list[int]:
        """The server's processes, one a connection among them."""
        assert self.process is not None
        return [int(child) for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]

    def _end(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(30)
        self.process = None

    def execute(self, sql: str, database: str = "postgres") -> str:
        """Run SQL by psql; its output."""
        command = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), "-c", sql]
        return subprocess.run([self.programs / "psql", *command], check=True, capture_output=True, text=True).stdout

    def remove(self) -> None:
        if self.process is not None:
            self.stop()
        shutil.rmtree(self.directory)


def require(name: str, found: Path | None) -> Path:
    if found is None:
        message = f"{name} is not installed (apt-get install {name.lower()}): tests on it are skipped"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


TEMPLATE = "dwctl_template"


@pytest.fixture(scope="session")
def shared_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """The run's server; a function that runs SQL on it, and whose ``url`` makes a database's URL.

    The worker that comes first starts it and stays until the last has left.
    """
    programs = require("PostgreSQL", postgres_programs())
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    note, users = shared / "postgres.json", shared / "postgres.users"
    users.mkdir(exist_ok=True)
    mine = users / str(os.getpid())
    server: PostgresServer | None = None
    with _locked(shared / "postgres.lock"):
        mine.touch()
        if not note.exists():
            # Nobody ends this one in the midst of its work: it need not wait for the disk, neither for a commit nor for a new database.
            server = PostgresServer(programs, "fsync=off")
            try:
                server.start()
                server.execute(f"CREATE DATABASE {TEMPLATE}")
                migrate(server.url(TEMPLATE), base / "postgres-template")
            except BaseException:
                server.remove()
                raise
            note.write_text(json.dumps({"port": server.port}))
        port = json.loads(note.read_text())["port"]

    def execute(sql: str) -> str:
        command = [programs / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", _url(port, "postgres"), "-c", sql]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    execute.url = lambda database: _url(port, database)  # type: ignore[attr-defined]
    yield execute
    mine.unlink()
    if server is not None:
        until = time.monotonic() + 600
        while any(users.iterdir()) and time.monotonic() < until:
            time.sleep(0.1)
        with _locked(shared / "postgres.lock"):
            note.unlink()
            server.remove()


def _url(port: int, database: str) -> str:
    return f"postgresql://postgres@127.0.0.1:{port}/{database}"


@pytest.fixture
def postgres_url(shared_postgres: Any) -> Iterator[str]:
    """A fresh, migrated database on the run's PostgreSQL."""
    name = f"dwctl_{uuid.uuid4().hex}"
    shared_postgres(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield shared_postgres.url(name)
    shared_postgres(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def pooler(shared_postgres: Any) -> Iterator[Pooler]:
    """A PgBouncer in front of the run's PostgreSQL."""
    running = Pooler(require("PgBouncer", pooler_program()), urlsplit(shared_postgres.url("postgres")).port or 0)
    yield running
    running.remove()


@pytest.fixture(scope="session")
def nginx_program() -> Path:
    """Where nginx is."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    return require("nginx", Path(found) if found else None)


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """A started server for one test alone, which may stop, kill and start it."""
    server = PostgresServer(require("PostgreSQL", postgres_programs()))
    try:
        server.start()
        yield server
    finally:
        server.remove()


@contextlib.contextmanager
def small_disk(directory: Path, size: str) -> Iterator[Path]:
    """A file system of this size (``8m``) as a new directory."""
    directory.mkdir(parents=True, mode=0o700)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", directory], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """An empty data directory."""
    directory = tmp_path / "dwctl-data"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def sqlite_url(data_dir: Path) -> str:
    """A fresh, migrated SQLite database at its usual place in the data directory."""
    return f"sqlite://{put_database(data_dir)}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database, on SQLite and on PostgreSQL in turn; with ``everywhere`` also through a pooler."""
    if request.param == "pooler":
        pooler: Pooler = request.getfixturevalue("pooler")
        return pooler.url(request.getfixturevalue("postgres_url"))
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


everywhere = pytest.mark.parametrize("database_url", ["sqlite", "postgresql", "pooler"], indirect=True)
"""For tests of which ``direct_url`` is taken, too."""


@pytest.fixture
def direct_url(request: pytest.FixtureRequest, database_url: str) -> str | None:
    """``database.direct_url`` where ``database_url`` is a pooler's."""
    through_pooler = request.node.callspec.params.get("database_url") == "pooler"
    return request.getfixturevalue("postgres_url") if through_pooler else None


@pytest.fixture
async def store(database_url: str, direct_url: str | None, data_dir: Path) -> AsyncIterator[Store]:
    """An open store on ``database_url``."""
    opened = await Store.open(database_url, data_dir, direct_url=direct_url)
    yield opened
    await opened.close()
