"""A whole dwctl and its simulated provider, as processes on loopback ports, for tests that drive them from outside."""

import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.migrated import put_database

ROOT = Path(__file__).resolve().parents[1]
FROM_SOURCE = (sys.executable, str(ROOT / "app.py"))
KEY = "sk-test-" + "k" * 35
ADMIN_EMAIL = "admin@example.com"
ADMIN_PASSWORD = "correct horse battery"
USER = "dev@example.com"
START_SECONDS = 30


_PORTS = range(11_000, 32_000)
"""Below those that the system gives to connections, one of which could take a port before its server does."""
_next_port = itertools.count(os.getpid() * 7919)


def free_port() -> int:
    """A loopback port on which nobody listens, and that other processes of the tests are not about to use."""
    for number in _next_port:
        port = _PORTS[number % len(_PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("unreachable")


def until(condition: Any, seconds: float, what: str) -> Any:
    """Poll for something that another process does, ever less often; the result once it is true."""
    started = time.monotonic()
    while not (result := condition()):
        waited = time.monotonic() - started
        assert waited < seconds, f"not within {seconds} s: {what}"
        time.sleep(min(max(0.02, waited / 20), 0.25))
    return result


class Simulator:
    """``dwctl simulate`` as a process."""

    def __init__(self, directory: Path, program: Sequence[str] = FROM_SOURCE, *arguments: str) -> None:
        self.ledger = directory / "served.jsonl"
        self._process = subprocess.Popen(
            [*program, "simulate", "--port", "0", "--ledger", str(self.ledger), *arguments],
            stdout=subprocess.PIPE,
            stderr=(directory / "simulator.log").open("ab"),
            text=True,
            env=environment(),
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert "listening on" in line, line
        self.url = line.split()[-1]

    def served(self) -> dict[str, Any]:
        """The provider's own account: request id -> entry."""
        return dict(self._ask("/_served")["served"])

    def requests(self) -> list[dict[str, Any]]:
        """The last requests as they arrived, oldest first."""
        return list(self._ask("/_requests")["requests"])

    def _ask(self, path: str) -> dict[str, Any]:
        host, _, port = self.url.removeprefix("http://").partition("/")[0].partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        connection.request("GET", path)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)


def environment(**settings: str) -> dict[str, str]:
    """The tester's environment without any setting of dwctl's, plus ``settings``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DWCTL_") and name != "DATABASE_URL"}
    return kept | settings


class Appliance:
    """``dwctl serve`` as a process, with its data under ``directory``."""

    def __init__(
        self,
        directory: Path,
        *,
        database_url: str | None = None,
        program: Sequence[str] = FROM_SOURCE,
        settings: Mapping[str, Any] | None = None,
        port: int | None = None,
        prepare: Callable[[], None] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """``settings`` are merged into the configuration; ``prepare`` runs in the server's process before its program, which has
        ``variables`` in its environment."""
        self.directory = directory
        self._prepare = prepare
        self._variables = dict(variables or {})
        self.data_dir = directory / "data"
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "serve.log"
        self._program = tuple(program)
        self._config = directory / "dwctl.yaml"
        configuration: dict[str, Any] = {
            "port": self.port,
            "data_dir": str(self.data_dir),
            "admin_email": ADMIN_EMAIL,
            "admin_password": ADMIN_PASSWORD,
            "log": {"format": "json"},
        }
        if database_url is not None:
            configuration["database"] = {"url": database_url}
            configuration["secret_key"] = "a secret key for tests only"
        directory.mkdir(parents=True, exist_ok=True)
        self._config.write_text(yaml.safe_dump(_merged(configuration, settings or {})))
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run another command of the program with the same configuration."""
        return subprocess.run(
            [*self._program, *arguments, "--config", str(self._config)],
            capture_output=True,
            text=True,
            env=environment(),
            check=check,
            timeout=120,
        )

    def apply(self, document: Mapping[str, Any]) -> str:
        """Bring the document into the database; what the command said."""
        file = self.directory / "setup.yaml"
        file.write_text(yaml.safe_dump(dict(document)))
        done = self.command("apply", str(file), check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def start(self) -> float:
        """Start and wait until /healthz answers 200; the seconds that took."""
        started = time.monotonic()
        self.launch()
        self.wait_ready()
        return time.monotonic() - started

    def launch(self) -> None:
        """Start, and do not wait."""
        assert self.process is None
        with self.log.open("ab") as log:
            command = [*self._program, "serve", "--config", str(self._config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(**self._variables), preexec_fn=self._prepare)

    def wait_ready(self) -> None:
        """Wait until /healthz answers 200."""
        assert self.process is not None
        started = time.monotonic()
        while self.get("/healthz") != 200:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() - started < START_SECONDS, self.log.read_text()
            time.sleep(0.01)

    def serving_pid(self) -> int:
        """The process that serves: of the one-file binary the child of the one that was started."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children()
        return children[0].pid if children else self.process.pid

    def waited_for_cpu(self) -> float:
        """Seconds for which the server was ready to run and others had the CPUs."""
        assert self.process is not None
        started = {self.process.pid, self.serving_pid()}  # the binary unpacks itself in one, and serves in the other
        return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) for pid in started) / 1e9

    def in_flight(self) -> dict[str, float]:
        """What the server says is under way: requests, slots and holds that are not zero."""
        metrics = self.metrics()
        names = ("onwards_requests_inflight", "dwctl_concurrency_slots", "dwctl_holds_nanocredits")
        return {name: metrics[name] for name in names if metrics[name]}

    def get(self, path: str) -> int:
        """Status of a GET, 0 if there is no answer."""
        return self.get_json(path)[0]

    def get_json(self, path: str) -> tuple[int, Any]:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                body = response.read()
                return response.status, json.loads(body) if "json" in response.headers.get("content-type", "") else body.decode()
            finally:
                connection.close()
        except OSError:
            return 0, None

    def metrics(self) -> dict[str, float]:
        """Metrics without labels, by name; those with labels as ``name{...}``."""
        status, text = self.get_json("/internal/metrics")
        assert status == 200, text
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the server has logged under this name, over all its runs."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [entry for entry in lines if entry["event"] == name]

    def kill(self) -> None:
        """SIGKILL of the process that was started; nothing that it started outlives it."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait(10)
        self.process = None
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive, f"outlived the program that started them: {alive}"

    def stop(self, timeout: float = 30) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout)
        self.process = None
        return status

    def close(self) -> None:
        if self.process is not None:
            self.kill()


def _merged(base: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in more.items():
        base[name] = _merged(dict(base.get(name) or {}), value) if isinstance(value, Mapping) else value
    return base


def model(alias: str, name: str, *, prices: Sequence[Mapping[str, str]] = (), **fields: Any) -> dict[str, Any]:
    """A model of the simulator for ``setup``."""
    return {
        "alias": alias,
        "endpoint": "sim",
        "model_name": name,
        "groups": ["Everyone"],
        "prices": [dict(price) for price in prices],
        **fields,
    }


PRICE = {"input_per_million": "2.50", "output_per_million": "10"}


def setup(simulator_url: str, models: Sequence[Mapping[str, Any]], *, credit: str | None = "100", **key: Any) -> dict[str, Any]:
    """An apply document: the simulator as endpoint ``sim``, models, one user with a key and credit."""
    document: dict[str, Any] = {
        "endpoints": [{"name": "sim", "url": simulator_url, "api_key": "provider-key"}],
        "users": [{"email": USER}],
        "models": [dict(entry) for entry in models],
        "keys": [{"user": USER, "name": "test", "secret": KEY, **key}],
    }
    if credit is not None:
        document["grants"] = [{"user": USER, "amount": credit, "source_id": "test-credit"}]
    return document


@contextlib.contextmanager
def running(directory: Path, document: Any, **options: Any) -> Iterator[tuple[Appliance, Simulator]]:
    """A simulator and a server that was set up by ``document(simulator_url)``; both are gone afterwards. SQLite is migrated already."""
    directory.mkdir(parents=True, exist_ok=True)
    simulator = Simulator(directory, options.get("program", FROM_SOURCE), "--api-key", "provider-key")
    appliance = Appliance(directory, **options)
    if "database_url" not in options:
        put_database(appliance.data_dir)
    try:
        appliance.apply(document(simulator.url))
        appliance.start()
        yield appliance, simulator
    finally:
        appliance.close()
        simulator.close()
