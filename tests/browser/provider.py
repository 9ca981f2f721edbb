"""A provider that a test tells what to answer, on a loopback port; with TLS under a certificate that nobody trusts."""

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.certificates import self_signed


class Provider:
    """Lists ``models`` in OpenAI's, Anthropic's and Ollama's way to whoever has the ``key``, unless ``status`` says otherwise. ``silent``:
    until it is closed."""

    def __init__(self) -> None:
        self.models: list[str] = ["alpha", "beta"]
        self.key: str | None = None
        self.status = 200
        self.silent = False
        self.url = ""
        self.closing = threading.Event()
        self.credentials: list[str | None] = []
        """The Authorization header of every request, or its x-api-key."""


@contextlib.contextmanager
def provider(certificate_in: Path | None = None) -> Iterator[Provider]:
    told = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("authorization") or self.headers.get("x-api-key")
            told.credentials.append(given)
            if told.silent:
                told.closing.wait()
                return
            path = self.path.partition("?")[0]
            lists = {"/v1/models": ("data", "id"), "/api/tags": ("models", "name")}
            allowed = not told.key or given in (told.key, f"Bearer {told.key}")
            status = 404 if path not in lists else told.status if allowed else 401
            array, key = lists.get(path, ("", ""))
            self.tell(status, {array: [{key: name} for name in told.models]} if status == 200 else {"error": "no"})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.tell(200, {"capabilities": ["completion", "vision"]})

        def tell(self, status: int, document: Any) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate_in is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self_signed(certificate_in))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
    told.url = f"http{'s' if certificate_in else ''}://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        told.closing.set()
        server.shutdown()
        server.server_close()
