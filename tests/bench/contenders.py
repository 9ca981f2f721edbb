"""Who is measured: nothing in between (direct), nginx, the bare forwarder, and dwctl with everything on.

Each has a URL for each kind of upstream:

- ``json``: nginx answers 200 with about 480 bytes of JSON;
- ``sse``: the simulated provider streams 100 tokens, one every 5 ms, each a chunk and a wake-up of its own;
- ``burst``: the same 100 chunks as quickly as the socket takes them;
- ``paced``: chunks with the time of their sending in them (`tests.bench.load.PacedUpstream`).
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import machine

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("json", "sse", "burst", "paced")
UPSTREAM_MODELS = {"json": "bench", "sse": "sim-chat?tokens=100&rate=200", "burst": "sim-chat?tokens=100", "paced": "bench"}
SECRET = "sk-bench-0123456789abcdef"
PATH = "/v1/chat/completions"
ANSWER = (
    '{"id":"chatcmpl-bench","object":"chat.completion","created":1767225600,"model":"bench","choices":[{"index":0,"message":{"role":'
    '"assistant","content":"The quick brown fox jumps over the lazy dog while seven wise wizards quietly brew a potion of naive words"},'
    '"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":160,"completion_tokens":22,"total_tokens":182,'
    '"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}'
)
QUESTION = "Explain why the bench measures the gateway and not the model. " * 14

_TURNS = [{"role": "user", "content": QUESTION}]
QUESTIONS: dict[str, dict[str, object]] = {
    "chat": {"messages": _TURNS, "max_tokens": 100},
    "messages": {"messages": _TURNS, "max_tokens": 100},
    "responses": {"input": _TURNS, "max_output_tokens": 100},
}


@dataclass
class Contender:
    """Something that a request can be sent to. ``pid`` is the root of its process tree; None for the upstreams themselves."""

    name: str
    pid: int | None
    urls: dict[str, str]
    models: dict[str, str]
    headers: dict[str, str]
    requests: int = 0
    """Requests that it has answered so far."""
    dialect: str = "chat"
    """chat, messages or responses: what it is spoken to in."""

    def body(self, kind: str) -> bytes:
        """About 1 kB of request for one kind of upstream."""
        request: dict[str, object] = {"model": self.models[kind], **QUESTIONS[self.dialect]}
        if kind != "json":
            request["stream"] = True
        return json.dumps(request).encode()

    def in_dialect(self, dialect: str) -> "Contender":
        """The same server, spoken to by clients of another dialect, whose requests and answers it has to translate."""
        urls = {kind: url.replace("/chat/completions", f"/{dialect}") for kind, url in self.urls.items()}
        return replace(self, name=f"{dialect} -> chat", urls=urls, dialect=dialect, requests=0)


class Programs:
    """Every process of a run; leaving the context ends them all."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Programs":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, name: str, command: list[str], cores: set[int], ready: str, environment: dict[str, str] | None = None) -> int:
        """Start a program on its cores and wait until ``ready`` answers. Its output goes to NAME.log."""
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=os.environ | (environment or {}),
                preexec_fn=machine.pinned(cores),
            )
        self._processes.append(process)
        until = time.monotonic() + 40
        while True:
            try:
                with urllib.request.urlopen(ready, timeout=2):
                    return process.pid
            except OSError as error:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{name} does not answer ({error}):\n{(self.directory / f'{name}.log').read_text()}") from None
                time.sleep(0.05)


def _nginx(programs: Programs, name: str, cores: set[int], servers: str, ready: str) -> int:
    home = programs.directory / name
    home.mkdir()
    folders = "".join(f"{folder}_temp_path {home}/{folder};" for folder in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    configuration = home / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; worker_processes 1; pid {home}/pid; error_log stderr warn;\n"
        "events { worker_connections 4096; }\n"
        f"http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600; {folders}\n{servers}\n}}\n"
    )
    return programs.start(name, ["nginx", "-p", str(home), "-c", str(configuration)], cores, ready)


def upstreams(programs: Programs, paced_port: int) -> Contender:
    """Start the upstreams; going to them directly is the first contender."""
    port, simulated = machine.free_port(), machine.free_port()
    server = (
        f"""server {{ listen 127.0.0.1:{port} backlog=4096; default_type application/json; location / {{ return 200 '{ANSWER}'; }} }}"""
    )
    _nginx(programs, "upstream", machine.LOAD_CORES, server, f"http://127.0.0.1:{port}/healthz")
    command = [sys.executable, "app.py", "simulate", "--port", str(simulated)]
    programs.start("simulator", command, machine.LOAD_CORES, f"http://127.0.0.1:{simulated}/healthz")
    ports = {"json": port, "sse": simulated, "burst": simulated, "paced": paced_port}
    return Contender("direct", None, {kind: f"http://127.0.0.1:{ports[kind]}{PATH}" for kind in KINDS}, UPSTREAM_MODELS, {})


def nginx(programs: Programs, direct: Contender) -> Contender:
    """nginx as a reverse proxy with kept connections and without buffering."""
    servers, urls = "", {}
    for kind in KINDS:
        port = machine.free_port()
        host = direct.urls[kind].split("/")[2]
        servers += f"""
        upstream {kind} {{ server {host}; keepalive 1024; keepalive_requests 1000000000; }}
        server {{
            listen 127.0.0.1:{port} backlog=4096;
            location /healthz {{ return 200; }}
            location / {{
                proxy_pass http://{kind};
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_buffering off;
                proxy_read_timeout 3600;
            }}
        }}"""
        urls[kind] = f"http://127.0.0.1:{port}{PATH}"
    pid = _nginx(programs, "nginx", machine.SERVER_CORE, servers, urls["json"].replace(PATH, "/healthz"))
    return Contender("nginx", pid, urls, UPSTREAM_MODELS, {})


def forwarder(programs: Programs, direct: Contender) -> Contender:
    """The bare forwarder of Sanic and aiohttp, on the interpreter that dwctl runs on."""
    port = machine.free_port()
    routes = {f"bench-{kind}": (direct.urls[kind], UPSTREAM_MODELS[kind]) for kind in KINDS}
    command = [sys.executable, "-m", "tests.bench.forwarder", str(port), json.dumps(routes)]
    pid = programs.start("forwarder", command, machine.SERVER_CORE, f"http://127.0.0.1:{port}/healthz")
    return Contender(
        "forwarder", pid, dict.fromkeys(KINDS, f"http://127.0.0.1:{port}{PATH}"), {kind: f"bench-{kind}" for kind in KINDS}, {}
    )


def dwctl(programs: Programs, direct: Contender, command: list[str]) -> Contender:
    """dwctl as it is installed: keys, access, holds, prices, journal, recorder, previews of bodies, metrics.

    ``command`` is how it is run: the interpreter and app.py, or the binary.
    """
    port, data = machine.free_port(), programs.directory / "dwctl-data"
    document = {
        "endpoints": [{"name": kind, "url": direct.urls[kind].removesuffix("/chat/completions")} for kind in KINDS],
        "users": [{"email": "bench@localhost"}],
        "models": [
            {
                "alias": f"bench-{kind}",
                "endpoint": kind,
                "model_name": UPSTREAM_MODELS[kind],
                "groups": ["Everyone"],
                "prices": [{"input_per_million": "2.50", "output_per_million": "10"}],
            }
            for kind in KINDS
        ],
        "keys": [{"user": "bench@localhost", "name": "bench", "secret": SECRET}],
        "grants": [{"user": "bench@localhost", "amount": "1000000", "source_id": "bench"}],
    }
    file = programs.directory / "bench.yaml"
    file.write_text(json.dumps(document))
    applied = subprocess.run([*command, "apply", str(file), "--data-dir", str(data)], cwd=ROOT, capture_output=True, text=True)
    if applied.returncode:
        raise RuntimeError(f"dwctl apply failed:\n{applied.stdout}{applied.stderr}")
    serve = [*command, "serve", "--data-dir", str(data), "--port", str(port)]
    pid = programs.start("dwctl", serve, machine.SERVER_CORE, f"http://127.0.0.1:{port}/healthz")
    urls = dict.fromkeys(KINDS, f"http://127.0.0.1:{port}/ai{PATH}")
    return Contender("dwctl", pid, urls, {kind: f"bench-{kind}" for kind in KINDS}, {"authorization": f"Bearer {SECRET}"})
