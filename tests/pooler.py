"""PgBouncer in front of a PostgreSQL of the tests, configured as docs/operations.md says."""

import configparser
import contextlib
import ctypes
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DOCS = Path(__file__).resolve().parents[1] / "docs" / "operations.md"
PASSWORD = "canary-password-of-the-pooler"
SIZE = 2


def unprivileged() -> dict[str, Any]:
    """How to start what refuses root: as postgres."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def pooler_program() -> Path | None:
    found = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    return Path(found) if found else None


class Pooler:
    """A running PgBouncer in transaction mode, with ``SIZE`` connections to each database, which asks for a password."""

    def __init__(self, program: Path, server_port: int, **settings: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="dwctl-pooler-", dir="/tmp"))
        self.directory.chmod(0o755)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        users = self.directory / "userlist.txt"
        users.write_text(f'"postgres" "{PASSWORD}"\n')
        [documented] = re.findall(r"```ini\n(\[databases\].*?)```", DOCS.read_text(), re.DOTALL)
        config = configparser.ConfigParser()
        config.read_string(documented)
        config["databases"] = {"*": f"host=127.0.0.1 port={server_port}"}
        ours = {"listen_port": str(self.port), "auth_file": str(users), "default_pool_size": str(SIZE)}
        # Debian's own folder for sockets is there only while its service runs.
        config["pgbouncer"].update(ours | {"unix_socket_dir": ""} | settings)
        file = self.directory / "pgbouncer.ini"
        with file.open("w") as written:
            config.write(written)
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [program, "-q", file], stdout=log, stderr=log, cwd=self.directory, preexec_fn=die_with_parent, **unprivileged()
            )
        until = time.monotonic() + 10
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
                return
            assert self.process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < until, "PgBouncer does not listen"
            time.sleep(0.01)

    def url(self, direct_url: str) -> str:
        """The database of ``direct_url``, by way of the pooler."""
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}{urlsplit(direct_url).path}"

    def remove(self) -> None:
        # SIGTERM ends it at once, whoever is connected.
        self.process.terminate()
        self.process.wait(10)
        shutil.rmtree(self.directory)
