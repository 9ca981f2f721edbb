"""The gateway from outside: what clients send and providers answer, good and bad, and that nothing stays behind."""

import asyncio
import base64
import contextlib
import gzip
import json
import re
import socket
import sqlite3
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.appliance import KEY, ROOT, until
from tests.e2e.conftest import PAGES, Served

HEADERS = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
ASK = [{"role": "user", "content": "one two three"}]


@pytest.fixture
async def http(served: Served) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(served.url, headers=HEADERS, timeout=aiohttp.ClientTimeout(15)) as session:
        yield session


def ask(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": ASK, **fields}


async def chat(http: aiohttp.ClientSession, model: str, *, root: str = "/ai/v1", **fields: Any) -> tuple[int, Any, Any]:
    """Status, headers, and the JSON body or the text of a chat completion."""
    async with http.post(f"{root}/chat/completions", json=ask(model, **fields)) as response:
        body = await response.read()
        return (
            response.status,
            response.headers,
            json.loads(body) if "json" in response.headers["content-type"] else body.decode("utf-8", "replace"),
        )


def error_of(status: int, body: Any) -> tuple[int, str]:
    return status, body["error"]["code"]


def events(text: str) -> list[Any]:
    data = [line[6:] for line in text.replace("\r\n", "\n").split("\n") if line.startswith("data: ")]
    return [json.loads(line) if line != "[DONE]" else line for line in data]


def raw(port: int, request: bytes, *, close: bool = True, timeout: float = 10) -> bytes:
    """What the server answers to these bytes, until it closes or falls silent after a whole answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
            if not close and b"\r\n\r\n" in answer:
                break
        return answer


def request_bytes(body: bytes, path: str = "/ai/v1/chat/completions", more: str = "") -> bytes:
    """A POST as it stands on the wire, with the test's key."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
    return f"{head}{more}content-length: {len(body)}\r\n\r\n".encode() + body


async def row_of(served: Served, request_id: str) -> dict[str, Any]:
    """The recorded row of a request."""

    def look() -> dict[str, Any] | None:
        found = table(served, "SELECT * FROM requests WHERE id = ?", request_id)
        return found[0] if found else None

    return await asyncio.to_thread(until, look, 5, f"the row of {request_id}")


def table(served: Served, query: str, *values: str) -> list[dict[str, Any]]:
    """Rows of the server's database, read beside it."""
    with contextlib.closing(sqlite3.connect(f"file:{served.appliance.data_dir}/dwctl.db?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(query, values)]


# What clients get wrong


@pytest.mark.parametrize("root", ["/ai/v1", "/v1"])
async def test_unknown_model(http: aiohttp.ClientSession, served: Served, root: str) -> None:
    status, headers, body = await chat(http, "nothing", root=root)
    assert error_of(status, body) == (404, "model_not_found")
    assert "`nothing`" in body["error"]["message"]
    row = await row_of(served, headers["x-request-id"])
    assert (row["outcome"], row["status"], row["alias"], row["access_source"]) == ("refused", 404, "nothing", "api_key")


@pytest.mark.parametrize("model", ["chat", "nothing", "private"])
async def test_strangers_learn_nothing(http: aiohttp.ClientSession, model: str) -> None:
    answers = []
    for headers in ({"authorization": "Basic x"}, {"authorization": "Bearer sk-wrong"}):
        async with http.post("/ai/v1/chat/completions", json=ask(model), headers=headers) as response:
            answers.append((response.status, (await response.json())["error"]["code"]))
    assert answers == [(401, "unauthenticated"), (403, "forbidden")]


async def test_a_strangers_body_is_not_waited_for(served: Served) -> None:
    head = b"POST /ai/v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"
    answer = await asyncio.to_thread(raw, served.appliance.port, head, close=False)
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(("authorization", "source"), [("Bearer sk-stranger", "unknown_api_key"), ("", "unauthenticated")])
async def test_a_strangers_refusal_is_kept_under_the_id_that_it_got(
    http: aiohttp.ClientSession, served: Served, authorization: str, source: str
) -> None:
    async with http.get("/ai/v1/models", headers={"authorization": authorization}) as response:
        assert response.status == 401
    row = await row_of(served, response.headers["x-request-id"])
    assert (row["access_source"], row["path"], row["account_id"]) == (source, "/models", None)


async def test_strangers_are_recorded_and_beyond_a_rate_counted(http: aiohttp.ClientSession, served: Served) -> None:
    async def knock() -> None:
        async with http.post("/ai/v1/chat/completions", json=ask("chat"), headers={"authorization": "Bearer sk-stranger"}) as response:
            assert response.status == 403

    before = table(served, "SELECT count(*) AS rows FROM requests WHERE access_source = 'unknown_api_key'")[0]["rows"]
    await asyncio.gather(*(knock() for _ in range(100)))

    def all_there() -> bool:
        rows = table(served, "SELECT count(*) AS rows FROM requests WHERE access_source = 'unknown_api_key'")[0]["rows"] - before
        counted = table(served, "SELECT coalesce(sum(count), 0) AS counted FROM anonymous_refusals")[0]["counted"]
        return 0 < rows < 100 <= rows + counted

    await asyncio.to_thread(until, all_there, 5, "a row or a count for each")


@pytest.mark.parametrize(
    ("secret", "code"), [("sk-test-expired-000000000000", "api_key_expired"), ("sk-test-platform-00000000000", "wrong_key_purpose")]
)
async def test_keys_that_may_not(http: aiohttp.ClientSession, served: Served, secret: str, code: str) -> None:
    async with http.post("/ai/v1/chat/completions", json=ask("chat"), headers={"authorization": f"Bearer {secret}"}) as response:
        assert error_of(response.status, await response.json()) == (403, code)
        row = await row_of(served, response.headers["x-request-id"])
    assert row["key_id"] is not None
    assert row["error_code"] == code


@pytest.mark.parametrize("header", [{"Authorization": f"bearer {KEY}"}, {"x-api-key": KEY}])
async def test_ways_to_bring_a_key(served: Served, header: dict[str, str]) -> None:
    async with (
        aiohttp.ClientSession() as plain,
        plain.post(f"{served.url}/v1/chat/completions", json=ask("free"), headers=header) as response,
    ):
        assert response.status == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{oops", None),
        (b"[1]", None),
        (b"\xff\xfe", None),
        (b'{"messages":[]}', "model"),
        (b'{"model":7}', "model"),
        (rb'{"model":"chat","messages":[{"role":"user","content":"\ud800"}]}', None),
    ],
)
async def test_bodies_that_cannot_be_read(http: aiohttp.ClientSession, body: bytes, param: str | None) -> None:
    async with http.post("/ai/v1/chat/completions", data=body) as response:
        error = (await response.json())["error"]
        assert (response.status, error["type"], error["param"]) == (400, "invalid_request_error", param)


async def test_nul_in_strings(http: aiohttp.ClientSession, served: Served) -> None:
    status, headers, body = await chat(http, "no\x00thing")
    assert error_of(status, body) == (404, "model_not_found")
    assert "\x00" not in (await row_of(served, headers["x-request-id"]))["alias"]
    status, headers, _ = await chat(http, "chat", user="a\x00b")
    assert status == 200
    assert (await row_of(served, headers["x-request-id"]))["outcome"] == "complete"


async def test_wrong_content_type(http: aiohttp.ClientSession) -> None:
    async with http.post("/ai/v1/chat/completions", data=json.dumps(ask("chat")), headers={"content-type": "text/plain"}) as response:
        error = (await response.json())["error"]
        assert (response.status, error["code"], error["param"]) == (415, "unsupported_media_type", "content-type")
        assert "application/json" in error["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/audio/transcriptions"])
async def test_a_compressed_body(http: aiohttp.ClientSession, path: str) -> None:
    """A wrong header alone does no harm: what can be read is."""
    kind = "multipart/form-data; boundary=x" if "audio" in path else "application/json"
    async with http.post(path, data=gzip.compress(b"x"), headers={"content-encoding": "GZip", "content-type": kind}) as response:
        error = (await response.json())["error"]
        assert (response.status, response.headers["accept-encoding"]) == (415, "identity")
        assert "Content-Encoding" in error["message"]
    for encoding, status in (("gzip", 200), ("identity", 400)):
        body = json.dumps(ask("free")) if status == 200 else "{oops"
        async with http.post("/v1/chat/completions", data=body, headers={"content-encoding": encoding}) as response:
            assert response.status == status


@pytest.mark.parametrize("declared", [True, False])
async def test_a_huge_body(http: aiohttp.ClientSession, declared: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(24):
            yield b"x" * 131072

    async with http.post("/ai/v1/chat/completions", data=b"x" * 3_000_000 if declared else pieces()) as response:
        assert error_of(response.status, await response.json()) == (413, "payload_too_large")


async def test_a_body_below_the_limit(http: aiohttp.ClientSession) -> None:
    status, _, _ = await chat(http, "chat", padding="x" * 1_900_000)
    assert status == 200


@pytest.mark.parametrize(
    "path", ["/ai/v1//evil.example/x", "/ai/v1/https://evil.example/x", "/ai/v1/..%2f..%2fadmin", "/ai/v1/x/../../y", "/v1/%2e%2e/x"]
)
async def test_paths_that_lead_elsewhere(served: Served, path: str) -> None:
    body = b'{"model":"free"}'
    answer = await asyncio.to_thread(raw, served.appliance.port, request_bytes(body, path, "connection: close\r\n"))
    assert int(answer.split(b" ", 2)[1]) in (400, 404), answer


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/ai/v1/nothing", 405), ("DELETE", "/v1/chat/completions", 405), ("GET", "/nothing", 404)]
)
async def test_unknown_paths_and_methods(http: aiohttp.ClientSession, method: str, path: str, status: int) -> None:
    async with http.request(method, path) as response:
        assert response.status == status
        assert (await response.json())["error"]["message"]


@pytest.mark.parametrize("path", ["/ai", "/ai/v1", "/v1"])
async def test_a_base_url_is_there(http: aiohttp.ClientSession, path: str) -> None:
    async with http.head(path) as response:
        assert (response.status, response.headers["content-type"]) == (200, "text/plain")


REFUSED_BESIDE_CALLS = [
    ("GET", "/ai/v1/chat/completions", KEY, 405, "method_not_allowed"),
    ("POST", "/v1/models", KEY, 405, "method_not_allowed"),
    ("GET", "/v1/models/nope", KEY, 404, "model_not_found"),
    ("GET", "/ai/v1/models", "sk-test-platform-00000000000", 403, "wrong_key_purpose"),
]


@pytest.mark.parametrize(("method", "path", "key", "status", "code"), REFUSED_BESIDE_CALLS)
async def test_what_is_refused_of_a_known_key_is_found_by_the_id_that_the_client_got(
    http: aiohttp.ClientSession, served: Served, method: str, path: str, key: str, status: int, code: str
) -> None:
    headers = {"authorization": f"Bearer {key}"}
    async with http.request(method, path, headers=headers, json={"model": "nope"} if method == "POST" else None) as response:
        assert error_of(response.status, await response.json()) == (status, code)
    row = await row_of(served, response.headers["x-request-id"])
    below = path.removeprefix("/ai").removeprefix("/v1")
    assert (row["method"], row["path"], row["status"], row["error_code"]) == (method, below, status, code)
    [owner] = table(served, "SELECT id FROM users WHERE email = 'dev@example.com'")
    assert (row["outcome"], row["access_source"], row["account_id"]) == ("refused", "api_key", owner["id"])
    assert row["key_id"]


async def test_refusals_of_a_known_key_are_not_lost_among_strangers(http: aiohttp.ClientSession, served: Served) -> None:
    async def ask_wrongly(headers: dict[str, str]) -> str:
        async with http.get("/v1/models/nope", headers=headers) as response:
            return response.headers["x-request-id"]

    strangers, own = {"authorization": "Bearer sk-stranger"}, {}
    ids = await asyncio.gather(*(ask_wrongly(strangers if number % 2 else own) for number in range(60)))
    for request_id in ids[::2]:
        await row_of(served, request_id)


async def test_every_request_is_in_the_log_and_in_the_metrics(http: aiohttp.ClientSession, served: Served) -> None:
    def count(metrics: dict[str, float], name: str, **labels: str) -> float:
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(value for key, value in metrics.items() if key.startswith(name + "{") and all(label in key for label in wanted))

    asked = [
        ("POST", "/ai/v1/chat/completions", "/ai/v1/chat/completions", 200, None),
        ("POST", "/v1/chat/completions", "/v1/chat/completions", 404, "model_not_found"),
        ("POST", "/v1/rerank", "/v1/{path}", 400, "unpriced_path"),
        ("GET", "/v1/models", "/v1/models", 200, None),
        ("GET", "/ai/v1/models/nope", "/ai/v1/models/{model_id}", 404, "model_not_found"),
        ("PUT", "/v1/models", "", 405, "method_not_allowed"),
        ("GET", "/ai/api/version", "/ai/api/version", 200, None),
        ("HEAD", "/v1", "/v1", 200, None),
        ("GET", "/nowhere", "", 404, None),
    ]
    before = await asyncio.to_thread(served.appliance.metrics)
    for method, path, _, status, code in asked:
        body = ask("nothing" if code == "model_not_found" else "chat") if method == "POST" else None
        async with http.request(method, path, json=body) as response:
            assert response.status == status, (method, path)
            request_id = response.headers.get("x-request-id")
            await response.read()

        def lines(request_id: str | None = request_id, path: str = path) -> list[dict[str, Any]]:
            key, value = ("path", path) if request_id is None else ("request_id", request_id)
            return [entry for entry in served.appliance.events("request") if entry.get(key) == value]

        [logged] = await asyncio.to_thread(until, lines, 5, f"the line of {method} {path}")
        assert (logged["method"], logged["status"], logged.get("error")) == (method, status, code)
    after = await asyncio.to_thread(served.appliance.metrics)
    for method, path, endpoint, status, _ in asked:
        labels = {"method": method, "endpoint": endpoint, "status": str(status)}
        assert count(after, "dwctl_http_requests_total", **labels) - count(before, "dwctl_http_requests_total", **labels) == 1, path
        if endpoint:
            name = "dwctl_http_requests_duration_seconds_count"
            assert count(after, name, **labels) - count(before, name, **labels) == 1, path
            assert count(after, "dwctl_http_requests_pending", method=method, endpoint=endpoint) == 0, path
    for code, times in (("model_not_found", 2), ("method_not_allowed", 1), ("unpriced_path", 1)):
        name = "proxy_limit_rejections_total"
        assert count(after, name, code=code) - count(before, name, code=code) == times, code


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("path", ["/v1/responses/resp_1", "/ai/v1/responses/resp_1/input_items"])
async def test_responses_are_not_kept(http: aiohttp.ClientSession, method: str, path: str) -> None:
    async with http.request(method, path) as response:
        body = await response.json()
        assert error_of(response.status, body) == (404, "response_not_found")
        assert "resp_1" in body["error"]["message"]
        assert "not kept" in body["error"]["message"]
    async with http.request(method, path, headers={"authorization": "Bearer sk-wrong"}) as response:
        assert error_of(response.status, await response.json()) == (401, "invalid_api_key")


async def test_no_credit_and_unpriced_path(http: aiohttp.ClientSession, served: Served) -> None:
    async with http.post("/ai/v1/rerank", json={"model": "chat", "query": "x", "documents": ["y"]}) as response:
        assert error_of(response.status, await response.json()) == (400, "unpriced_path")
    status, headers, body = await chat(http, "chat", max_tokens=10**9)
    assert error_of(status, body) == (402, "insufficient_balance")
    assert float(body["error"]["hold"]) > float(body["error"]["balance"]) > 0
    row = await row_of(served, headers["x-request-id"])
    assert row["admit_us"] > 0, "what refused it is where its time went"
    assert (row["decide_us"], row["dispatch_us"]) == (0, 0)


async def test_other_headers_do_not_count(http: aiohttp.ClientSession) -> None:
    forged = {
        "x-fusillade-request-id": "11111111-1111-1111-1111-111111111111",
        "x-forwarded-for": "9.9.9.9",
        "cookie": "a=b",
        "x-dwctl-user": "x",
    }
    async with http.post("/ai/v1/chat/completions", json=ask("echo"), headers=forged) as response:
        seen = {name.lower(): value for name, value in dict((await response.json())["echo"]["headers"]).items()}
        assert response.headers["x-request-id"] == seen["x-request-id"] != forged["x-fusillade-request-id"]
    assert not {"x-fusillade-request-id", "x-forwarded-for", "cookie", "x-dwctl-user"} & set(seen)
    assert seen["authorization"] == "Bearer provider-key"


async def test_bytes_reach_the_provider_unchanged(http: aiohttp.ClientSession) -> None:
    body = b'{"messages":[{"role":"user","content":"caf\\u00e9 \\/ 1.0"}],"zzz":{"b":1.10,"a":[1e3]},"model":"echo","temperature":0.700}'
    async with http.post("/ai/v1/chat/completions", data=body) as response:
        echo = (await response.json())["echo"]
    assert base64.b64decode(echo["body_base64"]) == body.replace(b'"echo"', b'"sim-echo"')
    assert {name.lower(): value for name, value in dict(echo["headers"]).items()}["content-length"] == str(echo["bytes"])


async def unreadable(served: Served, answer: bytes) -> tuple[int, str]:
    """Status and code of the row of a request whose head could not be read, after a look at what else its answer and its row say."""
    [request_id] = re.findall(rb"x-request-id: (\S+)", answer)
    row = await row_of(served, request_id.decode())
    assert (row["path"], row["outcome"], row["client_ip"], row["account_id"]) == ("(unreadable)", "refused", "127.0.0.1", None)
    assert answer.startswith(b"HTTP/1.1 %d " % row["status"])
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == row["error_code"]
    return row["status"], row["error_code"]


@pytest.mark.parametrize(
    "framing", [b"transfer-encoding: chunked\r\ncontent-length: 5", b"content-length: -1"], ids=["two lengths", "no length"]
)
async def test_a_head_that_cannot_be_read_is_recorded(served: Served, framing: bytes) -> None:
    answer = await asyncio.to_thread(
        raw, served.appliance.port, b"POST /ai/v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + framing + b"\r\n\r\n"
    )
    assert await unreadable(served, answer) == (400, "bad_request")


async def test_a_request_refused_for_its_framing_says_where_it_came_from(served: Served) -> None:
    head = f"POST /ai/v1/chat/completions HTTP/1.1\r\nauthorization: Bearer {KEY}\r\ncontent-length: 0\r\n\r\n"
    answer = await asyncio.to_thread(raw, served.appliance.port, head.encode())
    [request_id] = re.findall(rb"x-request-id: (\S+)", answer)
    row = await row_of(served, request_id.decode())
    assert (row["status"], row["client_ip"], row["access_source"]) == (400, "127.0.0.1", "api_key")


async def test_slow_head_and_slow_body(served: Served) -> None:
    def trickle(first: bytes, drop: bytes) -> tuple[float, bytes]:
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", served.appliance.port)) as connection:
            connection.settimeout(0.2)
            connection.sendall(first)
            answer = b""
            while time.monotonic() - started < 15:
                try:
                    if not (chunk := connection.recv(4096)):
                        break
                    answer += chunk
                except TimeoutError:
                    try:
                        connection.sendall(drop)
                    except OSError:
                        break
                except OSError:
                    break
            return time.monotonic() - started, answer

    head = b"POST /ai/v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
    body = head + f"authorization: Bearer {KEY}\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n".encode()
    (head_seconds, refused), (body_seconds, answer) = await asyncio.gather(
        asyncio.to_thread(trickle, head, b"x"), asyncio.to_thread(trickle, body, b" ")
    )
    assert head_seconds < 8
    assert await unreadable(served, refused) == (408, "request_timeout")
    assert body_seconds < 14
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert b"request_timeout" in answer
    [request_id] = re.findall(rb"x-request-id: (\S+)", answer)
    row = await row_of(served, request_id.decode())
    assert row["duration_us"] - 1000 < row["receive_us"] <= row["duration_us"], "all of the time went by while the body was awaited"


# What providers get wrong


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("reset", 502, "upstream_reset"),
        ("close", 502, "upstream_reset"),
        ("garbage", 502, "upstream_protocol_error"),
        ("stall-headers", 504, "upstream_first_byte_timeout"),
        ("401", 502, "provider_refused_gateway"),
        ("html", 502, "upstream_error"),
        ("redirect", 502, "upstream_protocol_error"),
        ("gzip", 502, "upstream_protocol_error"),
    ],
)
async def test_providers_that_do_not_answer(
    http: aiohttp.ClientSession, served: Served, model: str, status: int, code: str, stream: bool
) -> None:
    got, headers, body = await chat(http, model, stream=stream)
    assert error_of(got, body) == (status, code)
    assert "provider-key" not in json.dumps(body)
    row = await row_of(served, headers["x-request-id"])
    assert (row["outcome"], row["status"], row["error_code"], row["charge_nano"]) == ("failed", status, code, None)


async def test_the_wait_for_an_answer_begins_with_the_connection(http: aiohttp.ClientSession, served: Served) -> None:
    """Whatever time connecting might have taken: it is 2 s here, beside 1.5 s for the first byte."""
    _, headers, _ = await chat(http, "stall-headers")
    row = await row_of(served, headers["x-request-id"])
    assert 1_500_000 <= row["duration_us"] < 3_000_000


async def test_a_provider_that_is_not_there(http: aiohttp.ClientSession, served: Served) -> None:
    status, headers, body = await chat(http, "unreachable")
    assert error_of(status, body) == (502, "upstream_unreachable")
    assert json.loads((await row_of(served, headers["x-request-id"]))["attempts"])[0][-1] == "connect"


async def test_limits_of_one_endpoint(http: aiohttp.ClientSession, served: Served) -> None:
    async with http.post("/ai/v1/chat/completions", json=ask("too-long", stream=True)) as first:
        await first.content.readuntil(b"content")
        status, _, body = await chat(http, "narrow")
        assert error_of(status, body) == (429, "concurrency_limit_exceeded")
        rest = (await first.read()).decode()
    assert '"code":"upstream_total_timeout"' in rest
    row = await row_of(served, first.headers["x-request-id"])
    assert row["outcome"] == "interrupted"
    assert 1_900_000 < row["duration_us"] < 4_000_000


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("badjson", "upstream_malformed"),
        ("cut", "upstream_truncated"),
        ("empty", "upstream_malformed"),
        ("long-length", "upstream_truncated"),
    ],
)
async def test_bodies_that_are_broken(http: aiohttp.ClientSession, served: Served, model: str, code: str) -> None:
    status, headers, body = await chat(http, model)
    assert error_of(status, body) == (502, code)
    row = await row_of(served, headers["x-request-id"])
    assert row["charge_nano"] is None
    [attempt] = json.loads(row["attempts"])
    assert attempt[-2:] == [200, code]


@pytest.mark.parametrize(("model", "status"), [("429", 429), ("500", 500), ("503", 503), ("404", 404)])
async def test_providers_errors_are_passed_on(http: aiohttp.ClientSession, served: Served, model: str, status: int) -> None:
    got, headers, body = await chat(http, model)
    assert got == status
    assert body["error"]["message"]
    if status in (429, 503):
        assert headers["retry-after"]
    row = await row_of(served, headers["x-request-id"])
    assert (row["outcome"], row["status"]) == ("failed", status)


@pytest.mark.parametrize(
    ("model", "code"),
    [("cut", None), ("badjson", "upstream_malformed"), ("nofinish", "upstream_disconnected"), ("stall", "upstream_idle_timeout")],
)
async def test_streams_that_break_end_with_an_error_event(
    http: aiohttp.ClientSession, served: Served, model: str, code: str | None
) -> None:
    status, headers, text = await chat(http, model, stream=True)
    seen = events(text)
    assert status == 200
    assert seen[-1] == "[DONE]"
    assert seen[-2]["error"]["code"] == (code or seen[-2]["error"]["code"])
    assert seen[0]["choices"]
    row = await row_of(served, headers["x-request-id"])
    assert row["outcome"] == "interrupted"
    assert row["estimated"] == 1
    assert row["charge_nano"] > 0
    assert row["error_code"] == seen[-2]["error"]["code"] == json.loads(row["attempts"])[-1][-1]


async def test_an_error_inside_a_stream_is_forwarded_and_recorded(http: aiohttp.ClientSession, served: Served) -> None:
    status, headers, text = await chat(http, "error-event", stream=True)
    assert status == 200
    assert any("error" in event for event in events(text) if event != "[DONE]")
    row = await row_of(served, headers["x-request-id"])
    assert row["outcome"] == "failed"
    assert row["status"] >= 400


@pytest.mark.parametrize("model", ["nodone", "crlf", "multiline", "hang-open", "badutf8", "chat", "no-length"])
async def test_streams_that_are_whole(http: aiohttp.ClientSession, served: Served, model: str) -> None:
    status, headers, text = await chat(http, model, stream=True)
    assert status == 200
    assert "finish_reason" in text
    assert "prompt_tokens" not in text
    row = await row_of(served, headers["x-request-id"])
    entry = served.simulator.served()[headers["x-request-id"]]
    assert (row["outcome"], row["estimated"]) == ("complete", 0)
    assert (row["uncached_input"], row["output"]) == (entry["prompt_tokens"], entry["completion_tokens"])
    assert row["charge_nano"] == entry["prompt_tokens"] * 2_500 + entry["completion_tokens"] * 10_000
    assert row["first_byte_us"] is not None
    assert row["dispatch_us"] > 0
    assert json.loads(row["attempts"])


async def test_a_body_where_a_stream_was_asked_for(http: aiohttp.ClientSession, served: Served) -> None:
    status, headers, text = await chat(http, "json-stream", stream=True, stream_options={"include_usage": True})
    seen = events(text)
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert seen[-1] == "[DONE]"
    assert seen[-2]["usage"]
    assert seen[0]["choices"][0]["delta"]["content"]


@pytest.mark.parametrize("stream", [False, True])
async def test_no_usage_is_estimated(http: aiohttp.ClientSession, served: Served, stream: bool) -> None:
    _, headers, _ = await chat(http, "nousage", stream=stream)
    row = await row_of(served, headers["x-request-id"])
    assert row["outcome"] == "complete"
    assert row["estimated"] == 1
    assert row["uncached_input"] > 0
    assert row["output"] > 0
    assert row["charge_nano"] == row["uncached_input"] * 2_500 + row["output"] * 10_000


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_that_sends_more_than_it_declared(http: aiohttp.ClientSession, stream: bool) -> None:
    status, _, body = await chat(http, "short-length", stream=stream)
    assert status == 502
    assert body["error"]["code"].startswith("upstream_")


async def test_provider_headers_stay_out(http: aiohttp.ClientSession) -> None:
    for stream in (False, True):
        status, headers, _ = await chat(http, "cookie", stream=stream)
        assert status == 200
        assert not {"set-cookie", "server", "openai-organization", "openai-processing-ms", "alt-svc"} & {name.lower() for name in headers}


async def test_other_paths_pass(http: aiohttp.ClientSession, served: Served) -> None:
    async with http.post("/ai/v1/images/generations", json={"model": "image", "prompt": "a cat"}) as response:
        assert response.status == 200
        assert (await response.json())["data"]
        row = await row_of(served, response.headers["x-request-id"])
        assert (row["charge_nano"], row["hold_nano"], row["operation"]) == (40_000_000, 40_000_000, "other")
    form = aiohttp.FormData({"model": "free"})
    form.add_field("file", b"RIFF....", filename="speech.wav", content_type="audio/wav")
    async with (
        aiohttp.ClientSession() as plain,
        plain.post(f"{served.url}/v1/audio/transcriptions", data=form, headers={"x-api-key": KEY}) as response,
    ):
        assert response.status == 200, await response.text()
    async with http.post("/v1/audio/speech", json={"model": "free", "input": "hello", "voice": "alloy"}) as response:
        assert response.status == 200
        assert len(await response.read()) > 0
        assert "json" not in response.headers["content-type"]


# Clients that leave, and limits


async def test_a_client_that_leaves_before_the_answer(served: Served) -> None:
    before = set(served.simulator.served())
    body = json.dumps(ask("stall-headers")).encode()
    with socket.create_connection(("127.0.0.1", served.appliance.port)) as connection:
        connection.sendall(request_bytes(body))
        [request_id] = await asyncio.to_thread(until, lambda: set(served.simulator.served()) - before, 5, "the provider was asked")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    row = await row_of(served, request_id)
    assert (row["outcome"], row["status"], row["error_code"], row["charge_nano"]) == ("cancelled", 499, "client_disconnected", None)


async def test_a_client_that_leaves_mid_stream_pays_for_what_was_sent(http: aiohttp.ClientSession, served: Served) -> None:
    async with http.post("/ai/v1/chat/completions", json=ask("paced", stream=True)) as response:
        for _ in range(2):  # the first chunk says whose turn it is, and nothing else
            await response.content.readuntil(b"content")
        request_id = response.headers["x-request-id"]
        response.close()
    row = await row_of(served, request_id)
    assert (row["outcome"], row["status"], row["estimated"]) == ("cancelled", 499, 1)
    assert (row["error_code"], json.loads(row["attempts"])[0][-1]) == ("client_disconnected", "client_disconnected")
    assert row["charge_nano"] > 0
    assert row["output"] < 400


async def test_a_client_that_stops_reading_is_dropped(served: Served) -> None:
    body = json.dumps(ask("big", stream=True)).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", served.appliance.port))
        connection.sendall(request_bytes(body))
        head = connection.recv(512).decode()
        request_id = next(line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("x-request-id"))
        row = await row_of_within(served, request_id, 10)
    assert (row["outcome"], row["error_code"]) == ("cancelled", "client_write_timeout")


async def row_of_within(served: Served, request_id: str, seconds: float) -> dict[str, Any]:
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await row_of(served, request_id)
            except AssertionError:
                continue


async def test_streams_count_to_their_end(http: aiohttp.ClientSession) -> None:
    async with http.post("/ai/v1/chat/completions", json=ask("one", stream=True)) as first:
        await first.content.readuntil(b"content")
        status, headers, body = await chat(http, "one")
        assert error_of(status, body) == (429, "concurrency_limit_exceeded")
        assert int(headers["retry-after"]) >= 1
        first.close()
    async with asyncio.timeout(5):
        while (await chat(http, "one", max_tokens=1))[0] == 429:
            pass


async def test_rates(http: aiohttp.ClientSession) -> None:
    answers = [await chat(http, "rated") for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 200, 429]
    _, headers, body = answers[-1]
    assert body["error"]["code"] == "rate_limit"
    assert 1 <= int(headers["retry-after"]) <= 2
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("2", "0")
    assert answers[0][1]["x-ratelimit-remaining-requests"] == "1"


async def test_a_key_over_its_rate_spends_nothing_of_the_models(served: Served, http: aiohttp.ClientSession) -> None:
    slow = {"authorization": "Bearer sk-test-slow-0000000000000000"}
    codes = []
    for _ in range(4):
        async with http.post("/ai/v1/chat/completions", json=ask("rarely"), headers=slow) as response:
            codes.append(response.status)
    assert codes == [200, 429, 429, 429]
    assert [(await chat(http, "rarely"))[0] for _ in range(2)] == [200, 429], "of the model's two the key has spent one"


async def test_pages_of_an_allowed_origin_read_answers_of_models(http: aiohttp.ClientSession) -> None:
    for origin, allowed in ((PAGES, PAGES), ("https://evil.example", None), (None, None)):
        for model, status, stream in (("free", 200, False), ("free", 200, True), ("503", 503, False), ("none", 404, False)):
            sent = {"origin": origin} if origin else {}
            async with http.post("/v1/chat/completions", json=ask(model, stream=stream), headers=sent) as response:
                assert response.status == status
                assert response.headers.get("access-control-allow-origin") == allowed
                assert response.headers.get("vary") == ("Origin" if origin else None)
                assert ("data: [DONE]" in await response.text()) is stream
    statuses = []
    for _ in range(2):
        async with http.post("/ai/v1/chat/completions", json=ask("once"), headers={"origin": PAGES}) as response:
            statuses.append(response.status)
            assert response.headers["access-control-allow-origin"] == PAGES
            exposed = {*response.headers["access-control-expose-headers"].split(", ")}
            assert exposed >= {name for name in map(str.lower, response.headers) if name.startswith("x-ratelimit-")} | {"x-request-id"}
    assert statuses == [200, 429]
    assert "retry-after" in response.headers
    assert "retry-after" in exposed


async def test_no_answer_is_taken_for_what_it_does_not_say_it_is(http: aiohttp.ClientSession) -> None:
    for path in ("/healthz", "/health", "/readyz", "/internal/metrics", "/ai/v1/models", "/v1/models/none", "/api/version", "/v1/none"):
        async with http.get(path) as response:
            assert response.headers.getall("x-content-type-options") == ["nosniff"], path
    for model in ("free", "none", "500", "html", "json-stream"):
        for stream in (False, True):
            _, headers, _ = await chat(http, model, stream=stream)
            assert headers.getall("x-content-type-options") == ["nosniff"], model
            assert headers.getall("cache-control") == ["no-store"], model
    async with http.options("/v1/models") as response:
        assert response.headers.getall("x-content-type-options") == ["nosniff"]


@pytest.mark.parametrize("path", ["/ai/v1/models", "/v1/models/free", "/ai/api/tags", "/v1/models/none", "/v1/none"])
async def test_what_a_key_may_see_is_kept_by_no_proxy(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path) as response:
        assert response.headers.getall("cache-control") == ["no-store"]


async def test_many_at_once(http: aiohttp.ClientSession) -> None:
    answers = await asyncio.gather(*(chat(http, "chat", stream=number % 2 == 0, max_tokens=3) for number in range(200)))
    assert all(status == 200 for status, _, _ in answers)


async def test_the_catalog_is_among_the_metrics_and_each_has_its_line_in_the_documentation(
    http: aiohttp.ClientSession, served: Served
) -> None:
    metrics = await asyncio.to_thread(served.appliance.metrics)
    assert metrics['dwctl_model_info{endpoint="sim",model="chat",upstream_model="sim-chat"}'] == 1
    assert metrics['dwctl_model_tariff{direction="input",model="paced"}'] == 2.5e-6
    assert metrics['dwctl_model_tariff{direction="output",model="paced"}'] == 1e-5
    assert metrics['dwctl_model_concurrency_limit{model="one"}'] == 1
    assert metrics['dwctl_model_rate_limit_rps{model="rated"}'] == 0.5
    keys = "SELECT count(*) AS count FROM api_keys WHERE deleted_at IS NULL AND purpose <> 'platform' AND user_id <> ?"
    [expected] = table(served, keys, "00000000-0000-0000-0000-000000000000")
    assert metrics['dwctl_model_api_key_count{model="one"}'] == expected["count"] > 1
    assert metrics['dwctl_model_api_key_count{model="private"}'] == 0
    await chat(http, "narrow")
    port = served.simulator.url.rpartition(":")[2].partition("/")[0]
    observed = [name for name in await asyncio.to_thread(served.appliance.metrics) if name.startswith("gen_ai_server_request_duration_")]
    assert [name for name in observed if f'server_address="127.0.0.1",server_port="{port}"' in name and '"narrow"' in name]
    assert [name for name in metrics if name.startswith("dwctl_model_group_info") and 'model="one"' in name]
    assert not [name for name in metrics if name.startswith("dwctl_model_group_info") and 'model="private"' in name]
    _, text = await asyncio.to_thread(served.appliance.get_json, "/internal/metrics")
    page = (ROOT / "docs/metrics.md").read_text()
    families = {name for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE) if not name.endswith("_created")}
    assert [name for name in sorted(families) if f"`{name}`" not in page] == []


async def test_nothing_is_left(served: Served) -> None:
    def quiet() -> bool:
        now = served.appliance.metrics()
        released = now["onwards_requests_inflight"] == now["dwctl_concurrency_slots"] == now["dwctl_holds_nanocredits"] == 0
        # Idle connections to the provider are kept for 15 s; a handful of files is the database's.
        return (
            released
            and now["dwctl_tasks"] <= served.at_rest["dwctl_tasks"] + 2
            and now["process_open_fds"] <= served.at_rest["process_open_fds"] + 8
        )

    await asyncio.to_thread(until, quiet, 40, "all slots, holds, tasks and files released")
    assert await asyncio.to_thread(served.appliance.get_json, "/readyz") == (200, {"status": "ok", "reasons": []})
    log = served.appliance.log.read_text()
    assert "Traceback" not in log
    assert "exchange_failed" not in log
