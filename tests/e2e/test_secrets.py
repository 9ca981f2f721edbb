"""Canaries: an API key, a provider's key, passwords and a session, used in every way, are found nowhere afterwards.

Nowhere is: the data directory (database, write-ahead log, journal, bodies, decompressed), the log at level debug, the metrics,
and whatever the server answered (but for the one answer that shows a new key).
"""

import base64
import contextlib
import http.client
import json
import re
import sqlite3
import threading
import urllib.parse
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.appliance import FROM_SOURCE, Appliance, Simulator, model, until

KEY = "sk-canaryKEYcanaryKEYcanaryKEYcanaryKEY0001"
ECHOING_KEY = "canary-credential-of-the-provider-that-echoes-0002"
PROVIDER_KEY = "sk-canary-credential-of-the-simulator-000000003"
NEW_PROVIDER_KEY = "canary-credential-that-was-replaced-000000004"
ADMIN_PASSWORD = "canary administrator password 0005"
USER_PASSWORD = "canary user password number 000006"
NEW_PASSWORD = "canary password after the change 07"
WRONG_PASSWORD = "canary password with a typing error"
WRONG_KEY = "sk-canaryKEYthatNobodyHasButWhoMistypes0008"
EMAIL = "canary@example.com"
CANARIES = (*(KEY, ECHOING_KEY, PROVIDER_KEY, NEW_PROVIDER_KEY, ADMIN_PASSWORD, USER_PASSWORD, NEW_PASSWORD, WRONG_PASSWORD, WRONG_KEY),)
PRICE = {"input_per_million": "2", "output_per_million": "8"}
FAULTS = ("429", "500", "401", "reset", "cut", "badjson", "error-event", "garbage", "html", "nousage", "stall")
ECHOES = ("400", "401", "429", "500", "html", "inside", "coded", "stream", "header", "garbage")


class Echo(BaseHTTPRequestHandler):
    """A provider that puts the credential it was given into every kind of error."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        what = body["model"].removeprefix("echo-")
        given = self.headers["authorization"]
        error = {"error": {"message": f"Incorrect API key provided: {given}", "type": given, "code": "invalid_api_key"}}
        text = json.dumps(error)
        if what.isdigit():
            self.answer(int(what), "application/json", text)
        elif what == "html":
            self.answer(502, "text/html", f"<html>{given}</html>")
        elif what == "inside":
            self.answer(200, "application/json", text)
        elif what == "coded":
            self.answer(200, "application/json", json.dumps({"error": dict.fromkeys(("message", "type", "code", "param"), given)}))
        elif what == "header":
            self.answer(503, "application/json", "{}", {"retry-after": given, "x-request-id": given, "openai-model": given})
        elif what == "garbage":
            self.answer(200, "application/json", f'{{"error": {given}')
        else:
            first = {
                "id": "1",
                "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}],
            }
            self.answer(200, "text/event-stream", f"data: {json.dumps(first)}\n\ndata: {text}\n\ndata: [DONE]\n\n")

    def do_GET(self) -> None:
        self.answer(401, "application/json", json.dumps({"error": {"message": f"who is {self.headers['authorization']}?"}}))

    def answer(self, status: int, content_type: str, text: str, headers: dict[str, str] | None = None) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in {"content-type": content_type, "content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


class Patient(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that the server breaks off is nothing to speak of."""


@contextlib.contextmanager
def echoing() -> Iterator[str]:
    server = Patient(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Visitor:
    """Asks, and keeps every answer with its headers."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.seen: list[tuple[str, str]] = []
        self.shown: list[str] = []
        """Answers that may hold a secret, since they are there to show it."""

    def ask(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, leave: bool = False, shows: bool = False
    ) -> tuple[int, Any, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, raw, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            if leave:
                response.read(1)
                return response.status, None, {}
            content = response.read().decode("utf-8", "replace")
        finally:
            connection.close()
        answered = {name.lower(): value for name, value in response.getheaders()}
        text = "\n".join(f"{name}: {value}" for name, value in answered.items()) + "\n\n" + content
        if shows:
            self.shown.append(text)
        else:
            self.seen.append((f"{method} {path} {response.status}", text))
        with contextlib.suppress(ValueError):
            return response.status, json.loads(content), answered
        return response.status, content, answered

    def model(self, name: str, *, key: str = KEY, stream: bool = False, **options: Any) -> int:
        body = {"model": name, "messages": [{"role": "user", "content": "Say something"}], "stream": stream}
        return self.ask("POST", "/ai/v1/chat/completions", body, headers={"Authorization": f"Bearer {key}"}, **options)[0]


def use_models(visitor: Visitor, echoes: bool) -> None:
    for stream in (False, True):
        assert visitor.model("chat", stream=stream) == 200
        for fault in FAULTS:
            with contextlib.suppress(http.client.HTTPException):
                visitor.model(fault, stream=stream)
        for echo in ECHOES if echoes else ():
            visitor.model(f"echo-{echo}", stream=stream)
    visitor.model("paced", stream=True, leave=True)
    assert visitor.model("unpaid") == 402
    assert visitor.model("private") == 403
    assert visitor.model("nothing") == 404
    for header in (f"Bearer {WRONG_KEY}", WRONG_KEY, f"Basic {base64.b64encode(f'{EMAIL}:{USER_PASSWORD}'.encode()).decode()}"):
        assert visitor.ask("POST", "/ai/v1/chat/completions", {"model": "chat"}, headers={"Authorization": header})[0] in (401, 403)
    visitor.ask("POST", "/ai/v1/chat/completions", {"model": "chat"}, headers={"x-api-key": WRONG_KEY})
    visitor.ask("POST", "/ai/v1/chat/completions", b'{"model": "chat"', headers={"Authorization": f"Bearer {KEY}"})
    visitor.ask("POST", f"/ai/v1/embeddings?api_key={KEY}", {"model": "embed", "input": "a"}, headers={"Authorization": f"Bearer {KEY}"})
    visitor.ask("GET", f"/ai/v1/models?api_key={KEY}", headers={"Authorization": f"Bearer {KEY}"})
    visitor.ask("GET", f"/ai/v1/models/chat?api_key={KEY}", headers={"Authorization": f"Bearer {KEY}"})
    visitor.ask("GET", f"/nowhere/{KEY}?password={urllib.parse.quote(USER_PASSWORD)}")


def administer(visitor: Visitor, echo_url: str) -> tuple[str, str]:
    """Sign-in and administration; returns the secrets that the server made: a session and a key."""
    sign_in = {"email": EMAIL, "password": USER_PASSWORD}
    assert visitor.ask("POST", "/authentication/register", sign_in | {"username": "canary"})[0] == 201
    assert visitor.ask("POST", "/authentication/login", sign_in | {"password": WRONG_PASSWORD})[0] == 401
    for body in ({"email": 5, "password": USER_PASSWORD}, {"email": EMAIL, "password": [USER_PASSWORD]}, {"password": USER_PASSWORD}):
        assert visitor.ask("POST", "/authentication/login", body)[0] == 422
    visitor.ask("POST", "/authentication/login", f'{{"email": "{EMAIL}", "password": "{USER_PASSWORD}'.encode())
    status, _, headers = visitor.ask("POST", "/authentication/login", sign_in, shows=True)
    assert status == 200
    own = {"Cookie": headers["set-cookie"].partition(";")[0]}
    change = {"current_password": USER_PASSWORD, "new_password": NEW_PASSWORD}
    assert visitor.ask("POST", "/authentication/password-change", change | {"current_password": WRONG_PASSWORD}, headers=own)[0] in (
        400,
        401,
    )
    assert visitor.ask("POST", "/authentication/password-change", change, headers=own)[0] == 200
    admin_sign_in = {"email": "admin@example.com", "password": ADMIN_PASSWORD}
    status, _, headers = visitor.ask("POST", "/authentication/login", admin_sign_in, shows=True)
    assert status == 200
    cookie = headers["set-cookie"].partition(";")[0]
    admin = {"Cookie": cookie}
    root = "/admin/api/v1"
    status, made, _ = visitor.ask(
        "POST", f"{root}/users/current/api-keys", {"name": "canary", "purpose": "platform"}, headers=admin, shows=True
    )
    assert status == 201, made
    endpoint = {"name": "refusing", "url": echo_url, "api_key": ECHOING_KEY}
    assert visitor.ask("POST", f"{root}/endpoints", endpoint, headers=admin)[0] >= 400, "its list of models cannot be had"
    assert visitor.ask("POST", f"{root}/endpoints", endpoint | {"api_key": [ECHOING_KEY]}, headers=admin)[0] == 422
    test = {"type": "new", "url": echo_url, "api_key": ECHOING_KEY}
    assert visitor.ask("POST", f"{root}/endpoints/validate", test, headers=admin)[0] == 500
    status, created, _ = visitor.ask(
        "POST", f"{root}/endpoints", endpoint | {"name": "added", "skip_fetch": True, "sync": False}, headers=admin
    )
    assert status == 201, created
    assert visitor.ask("PATCH", f"{root}/endpoints/{created['id']}", {"api_key": NEW_PROVIDER_KEY}, headers=admin)[0] == 200
    visitor.ask("POST", f"{root}/endpoints/{created['id']}/synchronize", headers=admin)
    platform = {"Authorization": f"Bearer {made['key']}"}
    paths = ("endpoints", "users", "groups", "models", "transactions", "requests", "usage", "config", "audit", "users/current/api-keys")
    for path in paths:
        for headers in (admin, platform):
            status, found, _ = visitor.ask("GET", f"{root}/{path}?limit=100", headers=headers)
            assert status == 200, (path, found)
    _, listed, _ = visitor.ask("GET", f"{root}/requests?limit=100", headers=admin)
    for entry in listed["entries"]:
        visitor.ask("GET", f"{root}/requests/{entry['id']}", headers=admin)
    visitor.ask("GET", "/admin/openapi.json", headers=admin)
    assert visitor.model("chat", key=made["key"]) == 403, "a platform key is not for models"
    visitor.ask("GET", f"{root}/users", headers={"Authorization": f"Bearer {WRONG_KEY}"})
    visitor.ask("GET", f"{root}/users", headers={"Cookie": cookie[:-3] + "xyz"})
    return cookie.partition("=")[2], made["key"]


def spellings(canary: str) -> list[bytes]:
    """The canary as it is, in base64 (at each offset), in hex, and escaped for a URL."""
    raw = canary.encode()
    found = [raw, raw.hex().encode(), urllib.parse.quote(canary).encode(), urllib.parse.quote_plus(canary).encode()]
    for offset in range(3):
        # What the neighbours of the canary cannot change.
        encoded = base64.b64encode(b"\0" * offset + raw)
        found += [encoded[4 * (offset > 0) : -4], base64.urlsafe_b64encode(b"\0" * offset + raw)[4 * (offset > 0) : -4]]
    return found


def hits(place: str, content: bytes, canaries: tuple[str, ...]) -> list[str]:
    lowered = content.lower()
    return [f"{canary!r} in {place}" for canary in canaries for spelling in spellings(canary) if spelling.lower() in lowered]


def on_disk(data_dir: Path, canaries: tuple[str, ...]) -> list[str]:
    """Places in the data directory that hold a canary: files as they lie there, and every value of every database."""
    found = []
    files = [path for path in data_dir.rglob("*") if path.is_file()]
    assert len(files) > 4
    for path in files:
        content = path.read_bytes()
        found += hits(str(path), content, canaries)
        if content.startswith(b"SQLite format 3\0"):
            for place, value in values_of(path):
                found += hits(f"{path} {place}", value, canaries)
                with contextlib.suppress(zlib.error):
                    found += hits(f"{path} {place}, decompressed", zlib.decompress(value), canaries)
    return found


def values_of(path: Path) -> Iterator[tuple[str, bytes]]:
    database = sqlite3.connect(path)
    try:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    if isinstance(value, str | bytes):
                        yield table, value.encode() if isinstance(value, str) else value
    finally:
        database.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("bodies", ["none", "full"])
def test_no_secret_is_found_anywhere(bodies: str, tmp_path: Path) -> None:
    """With ``bodies: full`` the provider that echoes its credential is left out: there a body contains it."""
    settings = {
        "admin_password": ADMIN_PASSWORD,
        "bodies": {"mode": bodies},
        "log": {"level": "debug", "requests": True},
        "timeouts": {"first_byte": 1, "idle": 1},
        "auth": {"native": {"allow_registration": True}},
    }
    simulator = Simulator(tmp_path, FROM_SOURCE, "--api-key", PROVIDER_KEY)
    appliance = Appliance(tmp_path / "run", settings=settings)
    try:
        with echoing() as echo_url:
            said = appliance.apply(document(simulator.url, echo_url))
            appliance.start()
            visitor = Visitor(appliance.port)
            use_models(visitor, echoes=bodies == "none")
            session, platform_key = administer(visitor, echo_url)
            visitor.ask("GET", "/internal/metrics")
            until(lambda: not appliance.in_flight(), 20, "requests end")
            canaries = (*CANARIES, session, platform_key)
            found = on_disk(appliance.data_dir, canaries)
            assert appliance.stop() == 0
            found += on_disk(appliance.data_dir, canaries)
            found += hits("what apply said", said.encode(), canaries)
            found += hits("the log", appliance.log.read_bytes(), canaries)
            for place, text in visitor.seen:
                found += hits(f"the answer to {re.sub('canary[^ ]*', '...', place)}", text.encode(), canaries)
            assert not found, "\n".join(sorted(set(found)))
            for text in visitor.shown:
                assert not hits("an answer that shows one secret", text.encode(), CANARIES)
            assert any(kept_bodies(appliance.data_dir)) == (bodies == "full"), "the test looked at bodies"
    finally:
        appliance.close()
        simulator.close()


def kept_bodies(data_dir: Path) -> Iterator[bytes]:
    for path in data_dir.glob("bodies-*.sqlite"):
        for _, value in values_of(path):
            with contextlib.suppress(zlib.error):
                yield zlib.decompress(value)


def document(simulator_url: str, echo_url: str) -> dict[str, Any]:
    models = [
        model("chat", "sim-chat", prices=[PRICE]),
        model("embed", "sim-embed", prices=[PRICE]),
        model("paced", "sim-chat?rate=50&tokens=100", prices=[PRICE]),
        model("unpaid", "sim-chat", prices=[{"output_per_million": "1000000"}]),
        model("private", "sim-chat") | {"groups": []},
        *(model(fault, f"sim-{fault}", prices=[PRICE]) for fault in FAULTS),
        *(model(f"echo-{echo}", f"echo-{echo}", prices=[PRICE]) | {"endpoint": "echo"} for echo in ECHOES),
    ]
    return {
        "endpoints": [
            {"name": "sim", "url": simulator_url, "api_key": PROVIDER_KEY},
            {"name": "echo", "url": echo_url, "api_key": ECHOING_KEY},
        ],
        "users": [{"email": "caller@example.com"}],
        "models": models,
        "keys": [{"user": "caller@example.com", "name": "canary", "secret": KEY}],
        "grants": [{"user": "caller@example.com", "amount": "5", "source_id": "canary"}],
    }
