"""Clients that read slowly, or no more, or are gone: what somebody takes is sent to its end, and for who takes nothing nothing is kept."""

import contextlib
import http.client
import json
import socket
import sqlite3
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.appliance import ADMIN_EMAIL, ADMIN_PASSWORD, KEY, PRICE, Appliance, model, setup, until
from tests.certificates import self_signed
from tests.e2e.test_edges import CHOICE, USAGE, Provider
from tests.migrated import put_database

LARGE = 900_000
"""Bytes: several times what is on the way between the server and one of these clients, which ask for small segments. Streams have three
times as many, more than the server reads ahead of its provider."""
WORDS = "word " * (LARGE // 5)
JSON = {"id": "1", "model": "m", "choices": [CHOICE | {"message": {"role": "assistant", "content": WORDS}}], "usage": USAGE}
EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "%s"}}]}\n\n' % (b"word " * 800)
STREAM = EVENT * (3 * LARGE // 4000) + b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
CHAT, MESSAGES, SPEECH = "/ai/v1/chat/completions", "/ai/v1/messages", "/ai/v1/audio/speech"
BEGINNING = b"HTTP/1.1 "
PAGE, CSV = "/admin/api/v1/audit?limit=50", "/admin/system/audit.csv"


class Slow:
    """A server, and clients of it that take little at once."""

    def __init__(self, appliance: Appliance, certificate: Path | None) -> None:
        self.appliance = appliance
        self._tls = ssl.create_default_context(cafile=str(certificate)) if certificate is not None else None
        self._pool = ThreadPoolExecutor(16)
        self._cookie = ""

    def sign_in(self) -> None:
        client = http.client.HTTPSConnection if self._tls is not None else http.client.HTTPConnection
        options: dict[str, Any] = {"context": self._tls} if self._tls is not None else {}
        connection = client("127.0.0.1", self.appliance.port, timeout=20, **options)
        body = json.dumps({"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD})
        connection.request("POST", "/authentication/login", body, {"content-type": "application/json"})
        self._cookie = (connection.getresponse().getheader("set-cookie") or "").partition(";")[0]
        connection.close()

    def ask(self, path: str, name: str = "", *, version: str = "1.1", keep: bool = False, **fields: Any) -> socket.socket:
        """A connection that has brought the beginning of an answer."""
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1000)
        plain.settimeout(20)
        plain.connect(("127.0.0.1", self.appliance.port))
        connection = self._tls.wrap_socket(plain, server_hostname="127.0.0.1") if self._tls is not None else plain
        body = json.dumps({"model": name, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **fields}) if name else ""
        head = [f"{'POST' if name else 'GET'} {path} HTTP/{version}", "host: x", f"connection: {'keep-alive' if keep else 'close'}"]
        head += [f"authorization: Bearer {KEY}", f"content-length: {len(body)}"] if name else [f"cookie: {self._cookie}"]
        connection.sendall("\r\n".join([*head, "", body]).encode())
        assert connection.recv(len(BEGINNING)) == BEGINNING
        return connection

    def read(self, connection: socket.socket, seconds: float) -> "Future[bytes]":
        """All that comes: a third of it steadily in so many seconds, then the rest."""
        return self._pool.submit(_read, connection, seconds)

    def connections(self) -> list[str]:
        """The states of what the system keeps of connections with clients, also of those that the server has given up."""
        states = [entry.status for entry in psutil.net_connections("tcp4") if entry.laddr and entry.laddr.port == self.appliance.port]
        return [state for state in states if state not in (psutil.CONN_LISTEN, psutil.CONN_TIME_WAIT)]

    def stop(self) -> float:
        """SIGTERM; the seconds that the server took to end."""
        stopped_at = time.monotonic()
        assert self.appliance.stop() == 0
        return time.monotonic() - stopped_at

    def rows(self) -> list[tuple[str, str | None]]:
        with contextlib.closing(sqlite3.connect(self.appliance.data_dir / "dwctl.db")) as database:
            return database.execute("SELECT outcome, error_code FROM requests ORDER BY seq").fetchall()


def _read(connection: socket.socket, seconds: float) -> bytes:
    started = time.monotonic()
    answer = bytearray(BEGINNING)
    length = float("inf")
    with connection, contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
        while len(answer) < length and (chunk := connection.recv(4096)):
            answer += chunk
            if length == float("inf") and b"\r\n\r\n" in answer:
                head = bytes(answer).partition(b"\r\n\r\n")[0]
                named = head.lower().partition(b"content-length: ")[2]
                length = len(head) + 4 + int(named.split()[0]) if named else 2**60
            time.sleep(max(0.0, started + seconds * min(1, 3 * len(answer) / LARGE) - time.monotonic()))  # being slow
    return bytes(answer).partition(b"\r\n\r\n")[2]


Start = Callable[..., Slow]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A server with these settings, whose pages of the audit log are large, too."""
    with contextlib.ExitStack() as ending:

        def begin(*, tls: bool = False, **settings: Any) -> Slow:
            providers = {name: Provider() for name in ("json", "stream", "bytes")}
            providers["json"].says(json.dumps(JSON).encode())
            providers["stream"].says(STREAM, "200 OK", "content-type: text/event-stream")
            providers["bytes"].says(bytes(3 * LARGE), "200 OK", "content-type: audio/mpeg")
            certificate = self_signed(tmp_path) if tls else None
            if certificate is not None:
                settings["tls"] = {"certificate": str(certificate), "key": str(certificate)}
            appliance = Appliance(tmp_path, settings=settings)
            ending.callback(appliance.close)
            put_database(appliance.data_dir)
            models = [model(name, "m", prices=[] if name == "bytes" else [PRICE]) | {"endpoint": name} for name in providers]
            document = setup("http://127.0.0.1:9/v1", models)
            document["endpoints"] = [{"name": name, "url": provider.url, "api_key": "x"} for name, provider in providers.items()]
            appliance.apply(document)
            with contextlib.closing(sqlite3.connect(appliance.data_dir / "dwctl.db")) as database, database:
                database.executemany(
                    "INSERT INTO audit_log (at, actor, via, action, resource, after) VALUES (?, 'cli', 'cli', 'x', 'model', ?)",
                    [(number, json.dumps({"description": "word " * (LARGE // 200)})) for number in range(40)],
                )
            appliance.launch()
            slow = Slow(appliance, certificate)
            until(lambda: appliance.events("listening") or _answers(appliance.port), 30, "it listens")
            slow.sign_in()
            for provider in providers.values():
                ending.callback(provider.close)
            return slow

        yield begin
        assert "Traceback" not in (tmp_path / "serve.log").read_text()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


WHOLE: dict[str, Callable[[bytes], bool]] = {
    "json": lambda text: json.loads(text) == JSON,
    "kept": lambda text: json.loads(text) == JSON,
    "old": lambda text: json.loads(text) == JSON,
    "stream": lambda text: text.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"),
    "translated": lambda text: len(json.loads(text)["content"][0]["text"]) == len(WORDS),
    "bytes": lambda text: text == bytes(3 * LARGE),
    "page": lambda text: len(json.loads(text)["data"]) > 40,
    "csv": lambda text: text.endswith(b"0\r\n\r\n") and text.count(b"word word") > 40,
}
"""Whether an answer has come to its end."""


def _ask_for_everything(slow: Slow) -> dict[str, socket.socket]:
    return {
        "json": slow.ask(CHAT, "json"),
        "kept": slow.ask(CHAT, "json", keep=True),
        "old": slow.ask(CHAT, "json", version="1.0"),
        "stream": slow.ask(CHAT, "stream", stream=True),
        "translated": slow.ask(MESSAGES, "json"),
        "bytes": slow.ask(SPEECH, "bytes"),
        "page": slow.ask(PAGE),
        "csv": slow.ask(CSV),
    }


def _cut_off(reading: "dict[str, Future[bytes]]") -> list[str]:
    """The answers that did not come to their end."""

    def whole(name: str, text: bytes) -> bool:
        with contextlib.suppress(ValueError):
            return WHOLE[name](text)
        return False

    return [name for name, future in reading.items() if not whole(name, future.result(30))]


def test_whoever_reads_slowly_reads_to_the_end(start: Start) -> None:
    slow = start(timeouts={"client_write": 1})
    reading = {name: slow.read(connection, 6.5) for name, connection in _ask_for_everything(slow).items()}
    until(lambda: len(slow.rows()) == 4, 5, "what need not be read on from a provider is recorded")
    under_way = slow.appliance.metrics()["onwards_requests_inflight"]
    assert _cut_off(reading) == []
    assert under_way == 6
    until(lambda: not slow.appliance.in_flight(), 5, "nothing is under way")
    assert {outcome for outcome, _ in slow.rows()} == {"complete"}


@pytest.mark.parametrize("tls", [False, True])
def test_stopping_waits_for_slow_clients(start: Start, tls: bool) -> None:
    slow = start(tls=tls, timeouts={"client_write": 1}, shutdown={"drain_timeout": 30})
    reading = {name: slow.read(connection, 6.5) for name, connection in _ask_for_everything(slow).items()}
    took = slow.stop()
    assert _cut_off(reading) == []
    assert took < 15, "whoever has it all is not waited for"
    assert {outcome for outcome, _ in slow.rows()} == {"complete"}


def test_after_the_time_to_drain_slow_clients_are_cut_off(start: Start) -> None:
    slow = start(shutdown={"drain_timeout": 0.5})
    connections = _ask_for_everything(slow)
    assert slow.stop() < 8
    cut = _cut_off({name: slow.read(connection, 0) for name, connection in connections.items()})
    assert set(cut) == set(connections)
    assert sorted(slow.rows()) == [("complete", None)] * 4 + [("interrupted", "server_shutting_down")] * 2


@pytest.mark.parametrize("tls", [False, True])
def test_who_takes_nothing_or_is_gone_leaves_nothing_behind(start: Start, tls: bool) -> None:
    slow = start(tls=tls, timeouts={"client_write": 1})
    connections = _ask_for_everything(slow)
    vanished = [slow.ask(CHAT, "json"), slow.ask(CSV)]
    for connection in vanished:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    until(lambda: not slow.connections(), 8, "nothing is kept of any of them")
    assert len(_cut_off({name: slow.read(connection, 0) for name, connection in connections.items()})) == len(connections)
    with slow.ask("/events/requests", keep=True):
        assert slow.stop() < 4, "nobody is waited for, no page either that follows a list"
    assert slow.rows().count(("cancelled", "client_write_timeout")) == 2
