"""nginx in front, as docs/operations.md writes it."""

import contextlib
import http.client
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.appliance import ADMIN_EMAIL, ADMIN_PASSWORD, KEY, ROOT, Appliance, free_port, model, running, setup, until
from tests.conftest import require

Answer = tuple[int, http.client.HTTPMessage, bytes]


@contextlib.contextmanager
def in_front(directory: Path, appliance: Appliance) -> Iterator[int]:
    """The documented server block on a free port, without TLS."""
    program = require("nginx", Path(found) if (found := shutil.which("nginx")) else None)
    [block] = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs/operations.md").read_text(), re.DOTALL)
    port = free_port()
    block = re.sub(r"\n *ssl_.*", "", block).replace("listen 443 ssl", f"listen 127.0.0.1:{port}").replace("3001", str(appliance.port))
    folders = "".join(f"{folder}_temp_path {directory}/{folder};" for folder in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; pid {directory}/pid; error_log stderr; events {{}} http {{ access_log off; {folders} {block} }}"
    )
    log = (directory / "nginx.log").open("wb")
    process = subprocess.Popen([program, "-p", directory, "-c", configuration], stderr=log)
    try:
        until(lambda: process.poll() is not None or ask(port, "GET", "/healthz") is not None, 10, "nginx answers")
        yield port
    finally:
        process.kill()
        process.wait(10)


def ask(port: int, method: str, path: str, body: object = None, **headers: str) -> Answer | None:
    """Status, headers and body of an answer; None if nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), {"content-type": "application/json"} | headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    except ConnectionRefusedError:
        return None
    finally:
        connection.close()


def test_nginx_as_documented(tmp_path: Path) -> None:
    settings = {"trusted_proxies": ["127.0.0.1"]}
    with (
        running(tmp_path, lambda url: setup(url, [model("chat", "sim-chat")]), settings=settings) as (appliance, _),
        in_front(tmp_path, appliance) as port,
    ):
        question = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        answered = ask(port, "POST", "/v1/chat/completions", question, authorization=f"Bearer {KEY}")
        assert answered is not None
        assert answered[0] == 200
        assert answered[2].endswith(b"data: [DONE]\n\n")
        metrics = ask(port, "GET", "/internal/metrics")
        assert metrics is not None
        assert metrics[0] == 403
        assert not appliance.events("metrics_refused_behind_proxy"), "nginx itself refuses"
        assert appliance.metrics()["onwards_requests_inflight"] == 0, "this machine may read them"

        who = {"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}
        host = f"127.0.0.1:{port}"
        signed_in = ask(port, "POST", "/authentication/login", who, origin=f"http://{host}", **{"X-Forwarded-Host": "evil.example"})
        assert signed_in is not None
        assert signed_in[0] == 200
        cookie = signed_in[1]["set-cookie"].partition(";")[0]
        # What a client says of itself goes no further than nginx.
        said = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example", "cookie": cookie}
        page = ask(port, "GET", "/models", **said)
        assert page is not None
        assert page[0] == 200
        assert b"evil.example" not in page[2]
        trail = ask(port, "GET", "/admin/api/v1/audit?action=sessions.create", cookie=cookie)
        assert trail is not None
        assert json.loads(trail[2])["data"][0]["client_ip"] == "127.0.0.1"
