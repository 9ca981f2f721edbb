"""What strangers send where no model is called: nothing of it is kept, and neither connection nor log suffers."""

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator

import aiohttp
import psutil
import pytest

from tests.appliance import KEY
from tests.e2e.conftest import PAGES, Served
from tests.e2e.test_gateway import raw

MEGABYTE = 1024 * 1024
PLATFORM_KEY = "sk-test-platform-00000000000"
OWN_KEYS = "/admin/api/v1/users/current/api-keys"
NEXT = b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
FORM = b"content-type: application/x-www-form-urlencoded\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"


def head(line: bytes, more: bytes = b"", length: int | None = None) -> bytes:
    framing = b"content-length: %d\r\n" % length if length is not None else b""
    return line + b" HTTP/1.1\r\nhost: x\r\n" + more + framing + b"\r\n"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"POST /ai/api/show", 401),
        (b"GET /ai/v1/models", 401),
        (b"POST /admin/api/v1/groups", 401),
        (b"POST /admin/groups/new", 401),
        (b"POST /authentication/login", 413),
        (b"POST /login", 413),
        (b"HEAD /ai/v1", 413),
        (b"POST /nowhere", 404),
        (b"PUT /login", 405),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_strangers_body_is_not_waited_for(served: Served, line: bytes, status: int, chunked: bool) -> None:
    request = head(line, CHUNKED) + b"10000\r\n" if chunked else head(line, length=2 * MEGABYTE - 1)
    if chunked and status == 413:
        request += b"x" * 65536
    answer = await asyncio.to_thread(raw, served.appliance.port, request, close=False)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer


async def test_strangers_bodies_fill_no_memory(served: Served) -> None:
    lines = [b"POST /login", b"POST /authentication/login", b"POST /ai/api/show", b"GET /ai/v1/models", b"GET /healthz"]
    lines += [b"GET /static/0/no.css", b"OPTIONS /ai/v1/models", b"POST /nowhere"]
    process = psutil.Process(served.appliance.serving_pid())
    length = 2 * MEGABYTE

    def grown() -> int:
        with contextlib.ExitStack() as stack:
            before = process.memory_info().rss
            for line in lines * 5:
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", served.appliance.port), timeout=10))
                connection.sendall(head(line, f"origin: {PAGES}\r\n".encode() + FORM, length) + b"x" * (length - 1))
            # The server takes 64 kB or more from each of them before it comes back to whoever asks again and again.
            asking = stack.enter_context(socket.create_connection(("127.0.0.1", served.appliance.port), timeout=10))
            for _ in range(2 * length // 65536):
                asking.sendall(head(b"GET /healthz"))
                assert asking.recv(4096).startswith(b"HTTP/1.1 200 ")
            return process.memory_info().rss - before

    assert await asyncio.to_thread(grown) < 20 * MEGABYTE


@pytest.mark.parametrize(
    ("line", "more", "status"),
    [
        (b"POST /login", FORM, 413),
        (b"POST /ai/api/show", b"", 401),
        (b"POST /ai/api/show", b"authorization: Bearer %s\r\n" % KEY.encode(), 413),
        (b"POST " + OWN_KEYS.encode(), b"authorization: Bearer %s\r\n" % PLATFORM_KEY.encode(), 413),
        (b"POST /nowhere", b"", 404),
        (b"GET /healthz", b"", 200),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_what_comes_after_a_body_that_nobody_wants_is_the_next_request(
    served: Served, line: bytes, more: bytes, status: int, chunked: bool
) -> None:
    """Also if it is larger than any that is taken."""
    before = served.appliance.log.read_text()
    body = b"x" * 5 * MEGABYTE
    framed = b"".join(b"%x\r\n%s\r\n" % (MEGABYTE, b"x" * MEGABYTE) for _ in range(5)) + b"0\r\n\r\n"
    request = head(line, more + CHUNKED) + framed if chunked else head(line, more, len(body)) + body
    answer = await asyncio.to_thread(raw, served.appliance.port, request + NEXT)
    assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"%d" % status, b"200"], answer
    assert "body not consumed" not in served.appliance.log.read_text().removeprefix(before)


async def test_whoever_is_known_may_send_a_megabyte_and_is_told_so_in_their_dialect(served: Served) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 65536

    message = "Request body too large: the maximum allowed size is 1048576 bytes."
    padded = json.dumps({"model": "chat", "padding": "x" * 1_000_000})
    async with aiohttp.ClientSession(served.url, headers={"authorization": f"Bearer {KEY}"}) as http:
        async with http.post("/ai/api/show", data=padded) as response:
            assert response.status == 200, await response.text()
        for body in (b"x" * 1_048_577, pieces()):
            async with http.post("/ai/api/show", data=body) as response:
                assert (response.status, await response.json()) == (413, {"error": message})
        platform = {"authorization": f"Bearer {PLATFORM_KEY}", "content-type": "application/json"}
        async with http.post(OWN_KEYS, data=b" " * 1_048_577, headers=platform) as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"], error["message"]) == (413, "payload_too_large", message)
        async with http.post(OWN_KEYS, data=b" " * 1_048_576, headers=platform) as response:
            assert (await response.json())["error"]["code"] == "invalid_json"


async def test_late_bodies_are_refused_and_counted_once(served: Served) -> None:
    asked = {"/ai/api/show": KEY, OWN_KEYS.replace("current", "{user_id}"): PLATFORM_KEY, "/authentication/login": "none"}

    def counted(path: str) -> dict[str, float]:
        found = {}
        for name, value in served.appliance.metrics().items():
            if name.startswith("dwctl_http_requests_total") and 'method="POST"' in name and f'endpoint="{path}"' in name:
                found[name.partition('status="')[2][:3]] = value
        return found

    def trickle(path: str, key: str) -> bytes:
        line = f"POST {path}".replace("{user_id}", "current").encode()
        request = head(line, f"authorization: Bearer {key}\r\n".encode(), 100) + b"{"
        return raw(served.appliance.port, request, close=False)

    before = [counted(path) for path in ("", *asked)]
    answers = await asyncio.gather(*(asyncio.to_thread(trickle, *one) for one in asked.items()))
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 408 "), answer
        assert b"The request body did not arrive in time." in answer
    after = [counted(path) for path in ("", *asked)]
    assert after[0] == before[0]
    for was, now in zip(before[1:], after[1:], strict=True):
        assert now == was | {"408": was.get("408", 0) + 1}


TARGETS = [b"GET http://evil", b"POST http://evil", b"HEAD http://evil", b"POST http://h?/ai/v1/chat/completions", b"GET http://h#/login"]


@pytest.mark.parametrize("host", [b"host: x\r\n", b""])
@pytest.mark.parametrize("line", TARGETS)
async def test_a_target_without_a_path(served: Served, line: bytes, host: bytes) -> None:
    before = served.appliance.log.read_text()
    answer = await asyncio.to_thread(raw, served.appliance.port, line + b" HTTP/1.1\r\n" + host + b"content-length: 0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert line.startswith(b"HEAD") or json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"
    assert "Traceback" not in served.appliance.log.read_text().removeprefix(before)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (b"application/x-www-form-urlencoded", b"email=\xff", 400),
        (b"multipart/form-data", b"--x\r\n\r\n", 415),
        (b"multipart/form-data; boundary=x", b"--x\r\ncontent-disposition\r\n\r\n1\r\n--x--\r\n", 415),
        (b"", b"email=a", 415),
    ],
)
async def test_what_is_no_form_is_refused_and_leaves_no_traceback(served: Served, kind: bytes, body: bytes, status: int) -> None:
    before = served.appliance.log.read_text()
    more = (b"content-type: %s\r\n" % kind if kind else b"") + b"accept: text/html\r\nconnection: close\r\n"
    answer = await asyncio.to_thread(raw, served.appliance.port, head(b"POST /login", more, len(body)) + body)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert "Traceback" not in served.appliance.log.read_text().removeprefix(before)


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("address", [b"http://[", b"http://x/\xff", "http://\u2100/".encode()])
async def test_a_page_whose_address_cannot_be_read_asks_to_sign_in(served: Served, method: bytes, address: bytes) -> None:
    before = served.appliance.log.read_text()
    more = b"accept: text/html\r\nhx-request: true\r\nhx-current-url: %s\r\nreferer: %s\r\nconnection: close\r\n" % (address, address)
    for headers, status in ((more, 401), (more.replace(b"hx-request", b"x"), 303)):
        answer = await asyncio.to_thread(raw, served.appliance.port, head(method + b" /keys/new", headers))
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer
        assert b"/login?next=" in answer
    assert "Traceback" not in served.appliance.log.read_text().removeprefix(before)
