"""The gateway between a provider and a client that both speak odd HTTP: each answer stays well-formed, priced, and free of leaks."""

import asyncio
import contextlib
import json
import socket
import sqlite3
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.appliance import KEY, PRICE, USER, Appliance, model, running, setup, until
from tests.e2e.test_gateway import raw, row_of

HEADERS = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
SECOND_KEY = "sk-test-" + "s" * 35
OTHERS_KEY = "sk-test-" + "o" * 35
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
WHOLE: dict[str, Any] = {"id": "1", "object": "chat.completion", "model": "m", "usage": USAGE, "choices": [CHOICE]}
STREAM = b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}\n\n'
STREAM += b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
STREAM += b'data: {"choices": [], "usage": %s}\n\ndata: [DONE]\n\n' % json.dumps(USAGE).encode()


class Provider:
    """Answers every connection by ``answer(connection)``, and keeps heads and bodies of what it was sent."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self.answer: Callable[[socket.socket], None] = lambda connection: None
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def says(self, body: bytes, status: str = "200 OK", *headers: str) -> None:
        """From now on this is the answer; ``headers`` instead of the usual content type."""
        head = "\r\n".join((f"HTTP/1.1 {status}", f"content-length: {len(body)}", *(headers or ("content-type: application/json",))))
        self.answer = lambda connection: connection.sendall(head.encode("latin-1") + b"\r\nconnection: close\r\n\r\n" + body)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            head, _, body = data.partition(b"\r\n\r\n")
            length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            while len(body) < length:
                body += connection.recv(65536)
            self.heads.append(head.decode("latin-1"))
            self.bodies.append(body)
            self.answer(connection)

    def close(self) -> None:
        self._listener.close()


@dataclass
class Edge:
    appliance: Appliance
    provider: Provider

    def raw(self, *lines: bytes, body: bytes = b"", path: str = "/ai/v1/chat/completions") -> bytes:
        """What the server answers to a POST with these header lines, until it closes."""
        head = [f"POST {path} HTTP/1.1".encode(), b"host: x", f"authorization: Bearer {KEY}".encode(), b"connection: close", *lines]
        with socket.create_connection(("127.0.0.1", self.appliance.port), timeout=10) as connection:
            connection.sendall(b"\r\n".join([*head, b"content-length: %d" % len(body)]) + b"\r\n\r\n" + body)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
            return answer

    async def row(self, request_id: str) -> dict[str, Any]:
        """The recorded row of a request."""
        return await row_of(self, request_id)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    provider = Provider()

    def document(url: str) -> dict[str, object]:
        both = PRICE | {"per_request": "0.04"}
        written = PRICE | {"input_per_million": "0"}
        models = [
            model("m", "m", prices=[PRICE]),
            model("both", "m", prices=[both]),
            model("org/a b", "m"),
            model("written", "m", prices=[written]),
        ]
        document = setup(url, [entry | {"endpoint": "scripted"} for entry in models])
        document["endpoints"].append({"name": "scripted", "url": provider.url, "api_key": "provider-key"})
        document["users"].append({"email": "other@example.com"})
        document["keys"] += [
            {"user": "other@example.com", "name": "test", "secret": OTHERS_KEY},
            {"user": USER, "name": "second", "secret": SECOND_KEY},
        ]
        document["grants"].append({"user": "other@example.com", "amount": "10", "source_id": "other-credit"})
        return document

    settings = {"timeouts": {"first_byte": 2, "idle": 1, "total": 20, "client_write": 2, "request_read": 2}}
    with running(tmp_path_factory.mktemp("edge"), document, settings=settings) as (appliance, _):
        yield Edge(appliance, provider)
    provider.close()


@pytest.fixture
async def http(edge: Edge) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(edge.appliance.url, headers=HEADERS, timeout=aiohttp.ClientTimeout(15)) as session:
        yield session


async def ask(http: aiohttp.ClientSession, path: str = "/chat/completions", **fields: Any) -> tuple[int, Any, str]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]} | fields
    async with http.post("/ai/v1" + path, json=body) as response:
        return response.status, response.headers, await response.text()


def code(text: str) -> str:
    return str(json.loads(text)["error"]["code"])


def sent(edge: Edge, name: str) -> list[str]:
    """The values of a header that the provider was sent last."""
    lines = (line.partition(": ") for line in edge.provider.heads[-1].split("\r\n")[1:])
    return [value for key, _, value in lines if key.lower() == name]


async def test_a_stream_that_comes_in_one_piece_says_nothing_of_its_speed(http: aiohttp.ClientSession, edge: Edge) -> None:
    def observed(name: str) -> float:
        metrics = edge.appliance.metrics()
        return sum(value for key, value in metrics.items() if key.startswith(f"gen_ai_server_{name}_seconds_count"))

    names = ("request_duration", "time_per_output_token")
    before = [await asyncio.to_thread(observed, name) for name in names]
    edge.provider.says(STREAM, "200 OK", "content-type: text/event-stream")
    status, headers, _ = await ask(http, stream=True)
    assert status == 200
    assert (await edge.row(headers["x-request-id"]))["output"] == 5
    assert [await asyncio.to_thread(observed, name) for name in names] == [before[0] + 1, before[1]]


# What is paid


@pytest.mark.parametrize("path", ["/chat/completions/", "/v1/chat/completions", "/chat/%63ompletions", "/v1/Chat/Completions"])
async def test_another_spelling_of_a_path_costs_the_same(http: aiohttp.ClientSession, edge: Edge, path: str) -> None:
    edge.provider.says(STREAM, "200 OK", "content-type: text/event-stream")
    url = URL(f"{edge.appliance.url}/ai/v1{path}", encoded=True)
    async with http.post(url, json={"model": "both", "messages": [], "stream": True, "max_tokens": 5}) as response:
        assert response.status == 200
        text = await response.text()
    assert '"usage"' not in text
    assert json.loads(edge.provider.bodies[-1])["stream_options"] == {"include_usage": True}
    row = await edge.row(response.headers["x-request-id"])
    assert (row["operation"], row["charge_nano"]) == ("chat", 40_000_000 + 10 * 2500 + 5 * 10_000)
    assert row["hold_nano"] >= row["charge_nano"]


@pytest.mark.parametrize("usage", [{}, {"total_tokens": 15}, {"prompt_tokens": "\ud800"}, {"prompt_tokens": 9, "completion_tokens": None}])
async def test_usage_that_says_nothing_is_no_usage(http: aiohttp.ClientSession, edge: Edge, usage: dict[str, Any]) -> None:
    edge.provider.says(json.dumps(WHOLE | {"usage": usage}).encode().replace(b'"\\ud800"', b'"no"'))
    status, headers, _ = await ask(http)
    assert status == 200
    row = await edge.row(headers["x-request-id"])
    assert row["estimated"] == 1
    assert row["charge_nano"] > 0


@pytest.mark.parametrize(
    "beginning", [b": PROCESSING\n\n", b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n']
)
async def test_a_stream_that_breaks_before_any_output_costs_nothing(http: aiohttp.ClientSession, edge: Edge, beginning: bytes) -> None:
    edge.provider.says(beginning, "200 OK", "content-type: text/event-stream")
    status, headers, text = await ask(http, model="both", stream=True)
    assert (status, '"upstream_disconnected"' in text) == (200, True)
    row = await edge.row(headers["x-request-id"])
    assert (row["outcome"], row["charge_nano"]) == ("interrupted", None)


async def test_a_failure_that_reports_no_tokens_costs_nothing(http: aiohttp.ClientSession, edge: Edge) -> None:
    nothing = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    edge.provider.says(json.dumps({"error": {"message": "Slow down."}, "usage": nothing}).encode(), "429 Too Many Requests")
    status, headers, _ = await ask(http, model="both")
    assert status == 429
    row = await edge.row(headers["x-request-id"])
    assert (row["outcome"], row["charge_nano"]) == ("failed", None)


async def test_an_error_with_status_200_costs_nothing_on_any_path(http: aiohttp.ClientSession, edge: Edge) -> None:
    edge.provider.says(answer := b'{"error": {"message": "The picture would not be safe."}}')
    async with http.post("/ai/v1/images/generations", json={"model": "both", "prompt": "x"}) as response:
        assert (response.status, await response.read()) == (200, answer)
    row = await edge.row(response.headers["x-request-id"])
    assert (row["outcome"], row["error_code"], row["charge_nano"]) == ("failed", "upstream_error", None)


async def test_embeddings_of_a_model_that_is_priced_by_output_alone_are_refused(http: aiohttp.ClientSession, edge: Edge) -> None:
    edge.provider.says(b"{}")
    status, _, text = await ask(http, "/embeddings", model="written", input="hi")
    assert (status, code(text)) == (400, "unpriced_path")


async def test_embeddings_have_no_output_whatever_is_reported(http: aiohttp.ClientSession, edge: Edge) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5000, "total_tokens": 5010}
    edge.provider.says(json.dumps({"data": [{"index": 0, "embedding": [0.5]}], "usage": usage}).encode())
    async with http.post("/ai/v1/embeddings", json={"model": "m", "input": "hi"}) as response:
        assert response.status == 200
    row = await edge.row(response.headers["x-request-id"])
    assert (row["output"], row["charge_nano"], json.loads(row["raw_usage"])) == (0, 10 * 2500, usage)
    assert row["hold_nano"] >= row["charge_nano"]


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/responses", "/messages", "/images/generations"])
async def test_a_number_of_answers_that_cannot_be_read_is_refused(http: aiohttp.ClientSession, edge: Edge, path: str) -> None:
    """Some servers read " 3" as 3: it would be held for once, and answered three times."""
    asked = len(edge.provider.bodies)
    for name in ("n", "best_of"):
        async with http.post("/ai/v1" + path, json={"model": "both", "max_tokens": 5, name: " 3"}) as response:
            assert response.status == 400
            assert f"Invalid value for '{name}': expected a whole number." in await response.text()
    assert len(edge.provider.bodies) == asked


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/api/chat", "/v1/audio/speech"]
)
async def test_a_stream_that_only_some_servers_would_send_is_refused(http: aiohttp.ClientSession, edge: Edge, path: str) -> None:
    """vLLM reads 1 and "yes" as true: without `include_usage`, its stream would be charged for next to nothing."""
    asked = len(edge.provider.bodies)
    for value in (1, 1.0, "true", "yes"):
        body = {"model": "both", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "stream": value}
        async with http.post(path, json=body) as response:
            assert response.status == 400
            assert "Invalid value for 'stream': expected true or false." in await response.text()
    assert len(edge.provider.bodies) == asked


async def test_the_pictures_that_a_form_asks_for_are_held_for(edge: Edge) -> None:
    edge.provider.says(json.dumps({"created": 1, "data": []}).encode())

    async def post(*wanted: str) -> tuple[int, str, str]:
        form = aiohttp.FormData({"model": "both"})
        for value in wanted:
            form.add_field("n", value)
        form.add_field("image", b"x", filename="cat.png", content_type="image/png")
        async with (
            aiohttp.ClientSession(edge.appliance.url) as plain,
            plain.post("/ai/v1/images/edits", data=form, headers={"authorization": HEADERS["authorization"]}) as response,
        ):
            return response.status, response.headers["x-request-id"], await response.text()

    status, request_id, _ = await post("3")
    assert status == 200
    assert (await edge.row(request_id))["hold_nano"] >= 3 * 4096 * 10_000
    assert (await post("1099511627777"))[0] == 402
    for wanted, said in (
        (["3 "], "Invalid value for 'n'"),
        (["+3"], "Invalid value for 'n'"),
        (["1", "3"], "the field 'n' more than once"),
    ):
        status, _, text = await post(*wanted)
        assert (status, said in text) == (400, True), text


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
async def test_what_follows_the_usage_and_says_nothing_costs_nothing(http: aiohttp.ClientSession, edge: Edge, path: str) -> None:
    """Some providers count before they say why the answer ended; whoever leaves then pays what they counted, in any dialect."""
    chunk = {"choices": [{"index": 0, "delta": {"content": "word " * 40}}]}
    usage = {"choices": [], "usage": USAGE}
    last = {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]}
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    sent = head + b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in (chunk, usage, last))

    def answer(connection: socket.socket) -> None:
        connection.sendall(sent)
        connection.recv(1)  # until the gateway has left, too

    edge.provider.answer = answer
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    async with http.post("/ai" + path, json=body) as response:
        assert b"word" in await response.content.readline()
        response.close()
    row = await edge.row(response.headers["x-request-id"])
    assert (row["outcome"], row["estimated"], row["charge_nano"]) == ("cancelled", 0, 10 * 2500 + 5 * 10_000)


async def test_every_prompt_of_a_list_is_held_for(http: aiohttp.ClientSession, edge: Edge) -> None:
    edge.provider.says(json.dumps(WHOLE).encode())
    holds = []
    for prompt in ("a", ["a", "b", "c"], [[1, 2], [3]], [1, 2, 3]):
        async with http.post("/ai/v1/completions", json={"model": "m", "prompt": prompt, "max_tokens": 1000}) as response:
            assert response.status == 200
        holds.append(int((await edge.row(response.headers["x-request-id"]))["hold_nano"]) // 10_000_000)
    assert holds == [1, 3, 2, 1]


@pytest.mark.parametrize(("input_tokens", "counts_later"), [(10, False), (10, True), (0, False)])
async def test_a_client_that_leaves_pays_what_was_sent_since_the_usage_was_told(
    http: aiohttp.ClientSession, edge: Edge, input_tokens: int, counts_later: bool
) -> None:
    """Some providers report usage with each piece, some with the first one, where nothing is written yet; some say zero until the end."""
    chunk = {"choices": [{"index": 0, "delta": {"content": "word " * 200}}]}
    first, last = ({"prompt_tokens": input_tokens, "completion_tokens": output} for output in (0, 7))
    events = [{"choices": [], "usage": first}, chunk | ({"usage": last} if counts_later else {})]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    sent = head + b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events)

    def answer(connection: socket.socket) -> None:
        connection.sendall(sent)
        connection.recv(1)  # until the gateway has left, too

    edge.provider.answer = answer
    async with http.post("/ai/v1/chat/completions", json={"model": "m", "prompt": "hi", "stream": True}) as response:
        assert b"word" in await response.content.readuntil(b"\n\n")
        response.close()
    row = await edge.row(response.headers["x-request-id"])
    assert (row["outcome"], row["uncached_input"], row["estimated"]) == ("cancelled", input_tokens or 1, not counts_later)
    assert row["output"] == 7 if counts_later else row["output"] >= 200


async def test_what_hides_from_the_count_is_paid_and_held_for(http: aiohttp.ClientSession, edge: Edge) -> None:
    edge.provider.says(json.dumps({name: value for name, value in WHOLE.items() if name != "usage"}).encode())
    words = "word " * 2000
    for path, fields in (
        ("/chat/completions", {"messages": [{"role": "user", "type": "file", "content": words}]}),
        ("/completions", {"prompt": "image", "suffix": words}),
    ):
        async with http.post("/ai/v1" + path, json={"model": "m", "max_tokens": 5, **fields}) as response:
            assert response.status == 200
        row = await edge.row(response.headers["x-request-id"])
        assert (row["estimated"], 2000 <= row["uncached_input"] < 2010) == (1, True)
        assert row["hold_nano"] >= 2000 * 2500


async def test_tokens_are_held_for_on_every_path_where_they_are_charged(http: aiohttp.ClientSession, edge: Edge) -> None:
    answer = {"created": 1, "data": [], "usage": {"input_tokens": 100, "output_tokens": 2000}}
    edge.provider.says(json.dumps(answer).encode())
    body = b'{"model":"both","prompt":"a cat","n":2,"max_tokens":1}'
    async with http.post("/ai/v1/images/generations", data=body) as response:
        assert response.status == 200
    row = await edge.row(response.headers["x-request-id"])
    assert row["charge_nano"] == 40_000_000 + 100 * 2500 + 2000 * 10_000
    assert row["hold_nano"] == 40_000_000 + len(body) * 2500 + 2 * 4096 * 10_000
    form = aiohttp.FormData({"model": "both", "prompt": "a cat"})
    form.add_field("image", bytes(50_000), filename="cat.png", content_type="image/png")
    async with (
        aiohttp.ClientSession(edge.appliance.url) as plain,
        plain.post("/ai/v1/images/edits", data=form, headers={"authorization": HEADERS["authorization"]}) as response,
    ):
        assert response.status == 200
    row = await edge.row(response.headers["x-request-id"])
    assert row["hold_nano"] == 40_000_000 + (len("botha cat") + 16_384) * 2500 + 4096 * 10_000


async def test_a_text_that_takes_too_long_to_count_is_held_for_byte_by_byte(http: aiohttp.ClientSession, edge: Edge) -> None:
    edge.provider.says(json.dumps(WHOLE).encode())
    content = "image " + "four" * 300_000
    status, headers, _ = await ask(http, messages=[{"role": "user", "content": content}], max_tokens=5)
    assert status == 200
    bound = len(f"user\n{content}") + 16 + 8
    assert (await edge.row(headers["x-request-id"]))["hold_nano"] == bound * 2500 + 5 * 10_000


# What providers send


async def test_a_slow_json_answer_is_not_idle(http: aiohttp.ClientSession, edge: Edge) -> None:
    whole = json.dumps(WHOLE).encode()

    def dribble(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n")
        for _ in range(8):
            time.sleep(0.25)
            connection.sendall(b"\n")
        connection.sendall(whole)

    edge.provider.answer = dribble
    status, _, text = await ask(http)
    assert (status, json.loads(text)) == (200, WHOLE)


@pytest.mark.parametrize("content_type", ["content-type: Text/Event-Stream", "content-type: text/plain", "x-nothing: 1"])
async def test_events_are_known_by_what_they_are(http: aiohttp.ClientSession, edge: Edge, content_type: str) -> None:
    edge.provider.says(STREAM, "200 OK", content_type)
    status, headers, text = await ask(http, stream=True)
    assert (status, text[-14:]) == (200, "data: [DONE]\n\n")
    assert headers["content-type"].startswith("text/event-stream")
    assert (await edge.row(headers["x-request-id"]))["charge_nano"] == 10 * 2500 + 5 * 10_000


async def test_half_an_event_at_the_end_of_another_paths_stream_is_dropped(http: aiohttp.ClientSession, edge: Edge) -> None:
    whole = b'data: {"type": "transcript.text.delta", "delta": "x"}\n\n'
    for rest, outcome in ((b'data: {"type": "transcript.text.do', "interrupted"), (b'data: {"type": "transcript.text.done"}', "complete")):
        edge.provider.says(whole + rest, "200 OK", "content-type: text/event-stream")
        async with http.post("/ai/v1/images/generations", json={"model": "both", "prompt": "x", "stream": True}) as response:
            answer = await response.read()
        assert answer.startswith(whole)
        assert (rest in answer) == (outcome == "complete"), answer
        assert (b"upstream_malformed" in answer) == (outcome == "interrupted"), answer
        assert (await edge.row(response.headers["x-request-id"]))["outcome"] == outcome


@pytest.mark.parametrize("encoding", ["Identity", " ", "identity "])
async def test_an_answer_that_says_it_is_not_compressed(http: aiohttp.ClientSession, edge: Edge, encoding: str) -> None:
    edge.provider.says(json.dumps(WHOLE).encode(), "200 OK", "content-type: application/json", f"content-encoding: {encoding}")
    status, _, text = await ask(http)
    assert (status, json.loads(text)) == (200, WHOLE)


NO_OBJECTS = [b"[]", b"null", b'"x"', b'{"id": "1", "object": "chat.completion"}']
ODD_OBJECTS = [b'{"choices": 5}', b'{"choices": [{"message": "x"}]}']
"""As JSON these are passed on as they are; as a stream they cannot be."""


@pytest.mark.parametrize(
    ("answer", "stream"), [*((answer, False) for answer in NO_OBJECTS), *((answer, True) for answer in (*NO_OBJECTS, *ODD_OBJECTS))]
)
async def test_json_that_is_no_answer(http: aiohttp.ClientSession, edge: Edge, answer: bytes, stream: bool) -> None:
    edge.provider.says(answer)
    status, headers, text = await ask(http, stream=stream)
    assert (status, code(text)) == (502, "upstream_malformed")
    assert (await edge.row(headers["x-request-id"]))["charge_nano"] is None


async def test_a_retry_after_beyond_all_bounds(http: aiohttp.ClientSession, edge: Edge) -> None:
    edge.provider.says(b"slow down", "429 Too Many Requests", "content-type: text/plain", "retry-after: " + "9" * 400)
    status, headers, text = await ask(http)
    assert (status, code(text)) == (429, "rate_limit")
    assert len(headers.get("retry-after", "")) < 10


async def test_a_status_that_does_not_exist(http: aiohttp.ClientSession, edge: Edge) -> None:
    edge.provider.says(b"{}", "999 Odd")
    status, _, text = await ask(http)
    assert (status, code(text)) == (502, "upstream_protocol_error")


async def test_no_content_has_no_length(edge: Edge) -> None:
    edge.provider.says(b"", "204 No Content", "x-nothing: 1")
    answer = await asyncio.to_thread(edge.raw, b"content-type: application/json", body=b'{"model": "org/a b"}', path="/ai/v1/anything")
    assert answer.startswith(b"HTTP/1.1 204 ")
    assert b"content-length" not in answer.lower()
    assert b"transfer-encoding" not in answer.lower()
    assert answer.endswith(b"\r\n\r\n")


# Which model answers


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat", "/v1/embeddings", "/v1/rerank"])
async def test_no_further_model_answers(http: aiohttp.ClientSession, edge: Edge, path: str) -> None:
    asked = len(edge.provider.bodies)
    for name in ("models", "fallback_models", "Models"):
        async with http.post(path, json={"model": "both", "messages": [], name: ["best"]}) as response:
            assert response.status == 400
            assert f"'{name}' is not supported: a request is answered by the one model" in await response.text()
    async with http.post(path, json={"model": "both", "messages": [], "tools": [{"type": "x", "model": "best"}]}) as response:
        assert response.status == 400
        assert "'tools[0].model' is not supported" in await response.text()
    assert len(edge.provider.bodies) == asked


async def test_a_form_keeps_its_boundary(edge: Edge) -> None:
    edge.provider.says(b"{}")
    body = b'--B\r\ncontent-disposition: form-data; name="model"\r\n\r\nboth\r\n--B--\r\n'
    answer = await asyncio.to_thread(edge.raw, b"content-type: multipart/form-data; boundary=B", body=body, path="/v1/audio/transcriptions")
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert sent(edge, "content-type") == ["multipart/form-data; boundary=B"]


async def test_the_same_idempotency_key_of_two_accounts_is_not_the_same(http: aiohttp.ClientSession, edge: Edge) -> None:
    edge.provider.says(json.dumps(WHOLE).encode())
    keys = []
    for secret, said in ((KEY, "order-1"), (KEY, "order-1"), (SECOND_KEY, "order-1"), (KEY, "order-2"), (OTHERS_KEY, "order-1")):
        headers = {"authorization": f"Bearer {secret}", "idempotency-key": said}
        async with http.post("/ai/v1/chat/completions", json={"model": "m", "messages": []}, headers=headers) as response:
            assert response.status == 200
        keys += sent(edge, "idempotency-key")
    first, again, by_another_key, other_order, others = keys
    assert first == again == by_another_key
    assert len({first, other_order, others, "order-1"}) == 4


# What clients send


@pytest.mark.parametrize("header", [b"user-agent: caf\xe9", b"idempotency-key: \xff\xfe"])
async def test_header_bytes_that_cannot_be_passed_on(edge: Edge, header: bytes) -> None:
    edge.provider.says(json.dumps(WHOLE).encode())
    body = json.dumps({"model": "m", "messages": []}).encode()
    answer = await asyncio.to_thread(edge.raw, b"content-type: application/json", header, body=body)
    assert answer.startswith(b"HTTP/1.1 200 "), answer


NEXT = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
"""What would be answered if it were taken for a request of its own."""
CHUNKED = b"host: x\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("path", [b"/ai/v1/chat/completions", b"/authentication/login", b"/login"])
@pytest.mark.parametrize(
    "rest",
    [
        b"host: x\r\ncontent-length : %d\r\n\r\n" % len(NEXT),
        b"host: x\r\ncontent-length\t: %d\r\n\r\n" % len(NEXT),
        b"host: x\r\nx: a\r\n content-length: %d\r\n\r\n" % len(NEXT),
        b"host: x\r\ntransfer-encoding : chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        b"host: x\r\ncontent-length: \xd9\xa5\r\n\r\n{}   ",
        b"host: x\r\ncontent-length: \x0b2\r\n\r\n{}",
        b"host: x\r\ncontent-length: \xc2\xa02\r\n\r\n{}",
        b"host: x\r\ntransfer-encoding: \xc2\xa0chunked\r\n\r\n0\r\n\r\n",
        b"host: x\r\nx: a\ncontent-length: 3\r\n\r\n",
        b"host: x\r\nx: a\rcontent-length: 3\r\n\r\n",
        b"host: x\r\nx: a\0b\r\n\r\n",
        b"host: x\r\n: a\r\n\r\n",
        b"host: x\r\nx(y: a\r\n\r\n",
        b"accept: */*\r\n\r\n",
        b"host: x\r\nHost: y\r\n\r\n",
        CHUNKED + b"2\r\n{}XX0\r\n\r\n",
        CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
        CHUNKED + b" 2 \r\n{}\r\n0\r\n\r\n",
        CHUNKED + b"2;a\nb\r\n{}\r\n0\r\n\r\n",
        CHUNKED + b"\r\n2\r\n{}\r\n0\r\n\r\n",
        CHUNKED + b"\xd9\xa2\r\n{}\r\n0\r\n\r\n",
    ],
)
async def test_framing_that_somebody_in_front_may_read_otherwise_is_refused(edge: Edge, path: bytes, rest: bytes) -> None:
    head = b"POST %s HTTP/1.1\r\nauthorization: Bearer %s\r\n" % (path, KEY.encode())
    answer = await asyncio.to_thread(raw, edge.appliance.port, head + rest + NEXT)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert answer.count(b"HTTP/1.1 ") == 1, "what follows was taken for a request"


async def test_what_is_wrong_with_a_head_is_said_in_the_callers_dialect(edge: Edge) -> None:
    answer = await asyncio.to_thread(raw, edge.appliance.port, b"POST /ai/v1/messages HTTP/1.1\r\ncontent-length: 0\r\n\r\n")
    error = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")
    assert "Host" in error["error"]["message"]


@pytest.mark.parametrize("size", [b"%x", b"00%X", b"%x;name=value"])
async def test_chunks_that_come_in_pieces(edge: Edge, size: bytes) -> None:
    edge.provider.says(json.dumps(WHOLE).encode())
    body = b'{"model":"m","messages":[{"role":"user","content":"some more"}]}'
    chunks = [(size % len(part)) + b"\r\n" + part + b"\r\n" for part in (body[:40], body[40:])]

    def send() -> bytes:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer %s\r\nexpect: 100-continue\r\nconnection: close\r\n"
        with socket.create_connection(("127.0.0.1", edge.appliance.port), timeout=10) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(head % KEY.encode() + CHUNKED)
            answer = connection.recv(65536)
            for byte in b"".join([*chunks, b"0\r\n\r\n"]):
                connection.sendall(bytes([byte]))
            while more := connection.recv(65536):
                answer += more
            return answer

    answer = await asyncio.to_thread(send)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "), answer
    assert json.loads(edge.provider.bodies[-1])["messages"] == json.loads(body)["messages"]


async def test_http_1_0_may_go_without_a_host(edge: Edge) -> None:
    assert (await asyncio.to_thread(raw, edge.appliance.port, b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    twice = b"GET /healthz HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n"
    assert (await asyncio.to_thread(raw, edge.appliance.port, twice)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("line", [b"CONNECT a:1", b"GET /docs/\x1bx", b"GET \xff", b"GET http://[", b"GET :"])
async def test_a_target_that_cannot_be_read(edge: Edge, line: bytes) -> None:
    before = edge.appliance.log.read_text()
    answer = await asyncio.to_thread(raw, edge.appliance.port, line + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert "Traceback" not in edge.appliance.log.read_text().removeprefix(before)


async def test_a_model_header_that_is_not_text(edge: Edge) -> None:
    answer = await asyncio.to_thread(edge.raw, b"content-type: application/json", b"model-override: \xff\xfe", body=b"{}")
    assert answer.startswith(b"HTTP/1.1 400 "), answer


async def test_a_model_in_the_header_alone_reaches_the_provider(edge: Edge) -> None:
    edge.provider.says(json.dumps(WHOLE).encode())
    answer = await asyncio.to_thread(edge.raw, b"model-override: m", body=b'{"messages": []}')
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert json.loads(edge.provider.bodies[-1])["model"] == "m"
    assert "content-type: application/json" in edge.provider.heads[-1].lower()


FORM = b"content-type: multipart/form-data; boundary=b"
FIELD = b'--b\r\nContent-Disposition: form-data; name="model"%s\r\n\r\n%s\r\n'


async def test_the_same_in_a_form(edge: Edge) -> None:
    edge.provider.says(b'{"text": "hi"}')
    file = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--b--\r\n'
    for body in (file, FIELD % (b"", b"both") + file):
        answer = await asyncio.to_thread(edge.raw, FORM, b"model-override: org/a b", body=body, path="/ai/v1/audio/transcriptions")
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert edge.provider.bodies[-1] == FIELD % (b"", b"m") + file


@pytest.mark.parametrize(
    "other",
    [
        FIELD % (b"", b"dear"),
        FIELD % (b"", b""),
        FIELD % (b'; filename=""', b"dear"),
        FIELD % (b'\r\nContent-Disposition: form-data; name="x"', b"dear"),
        FIELD.replace(b'name="model"', b"name*=utf-8''model") % (b"", b"dear"),
        FIELD.replace(b'name="model"', b'name*0="mod"; name*1="el"') % (b"", b"dear"),
    ],
)
async def test_a_form_names_no_second_model_to_the_provider(edge: Edge, other: bytes) -> None:
    edge.provider.says(b"{}")
    asked = len(edge.provider.bodies)
    body = other + FIELD % (b"", b"org/a b") + b"--b--\r\n"
    answer = await asyncio.to_thread(edge.raw, FORM, body=body, path="/ai/v1/images/edits")
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert len(edge.provider.bodies) == asked


@pytest.mark.parametrize(
    "path",
    [
        "/ai/v1/images/generations?model=dear",
        "/v1/chat/completions?a=b&Model%5B%5D=dear",
        "/v1/x?a;model",
        "/ai/v1/chat/completions?beta=true&Stream=1",
        "/v1/messages?fallbacks=dear",
        "/ai/v1/engines/dear/completions",
        "/ai/v1/engines/dear/rerank",
        "/v1/dear/chat/completions",
        "/v1/model/dear/invoke",
        "/v1/openai/Deployments/dear/chat/completions?api-version=1",
        "/v1/%6dodels/dear:generate",
    ],
)
async def test_neither_a_path_nor_a_query_names_the_model(http: aiohttp.ClientSession, edge: Edge, path: str) -> None:
    asked = len(edge.provider.bodies)
    async with http.post(URL(edge.appliance.url + path, encoded=True), json={"model": "org/a b", "max_tokens": 5}) as response:
        text = await response.text()
        assert response.status == 400
        assert "The path cannot be passed on: " in text
    assert len(edge.provider.bodies) == asked


async def test_other_queries_pass(http: aiohttp.ClientSession, edge: Edge) -> None:
    edge.provider.says(b"{}")
    async with http.post("/ai/v1/rerank?model_version=5&beta=true&x=model", json={"model": "org/a b"}) as response:
        assert response.status == 200
    assert edge.provider.heads[-1].startswith("POST /v1/rerank?model_version=5&beta=true&x=model HTTP/1.1")


async def test_a_provider_reads_json_in_no_other_charset(edge: Edge) -> None:
    """In UTF-7 this would name another model."""
    edge.provider.says(b"{}")
    body = b'{"model": "org/a b", "+AG0-odel": "dear"}'
    for kind in (b"application/json; charset=utf-7", b"application/x+json;charset=utf-7"):
        answer = await asyncio.to_thread(edge.raw, b"content-type: " + kind, body=body, path="/ai/v1/images/edits")
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert "\r\ncontent-type: application/json\r\n" in edge.provider.heads[-1].lower() + "\r\n"


@pytest.mark.parametrize("boundary", [b"b" * 300, b'"\xff"', b"caf\xc3\xa9", b""])
async def test_a_form_whose_type_cannot_be_read(edge: Edge, boundary: bytes) -> None:
    before = edge.appliance.log.read_text()
    answer = await asyncio.to_thread(edge.raw, FORM[:-1] + boundary, body=FIELD % (b"", b"m") + b"--b--\r\n", path="/ai/v1/images/edits")
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b"multipart/form-data; boundary=" in answer
    assert "Traceback" not in edge.appliance.log.read_text().removeprefix(before)


async def test_a_model_by_its_encoded_name(http: aiohttp.ClientSession, edge: Edge) -> None:
    for name in ("org/a%20b", "org%2Fa%20b"):
        async with http.get(URL(f"{edge.appliance.url}/ai/v1/models/{name}", encoded=True)) as response:
            assert (response.status, (await response.json()).get("id")) == (200, "org/a b")


@pytest.mark.parametrize("path", ["/authentication/login", "/ai/v1/models", "/ai/v1/chat/completions", "/nowhere"])
async def test_a_body_that_never_comes(edge: Edge, path: str) -> None:
    """Also where no model is called: a sender that trickles is not waited for."""

    def trickle() -> float:
        started = time.monotonic()
        method = "GET" if "models" in path else "POST"
        with socket.create_connection(("127.0.0.1", edge.appliance.port)) as connection:
            connection.settimeout(0.25)
            connection.sendall(f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n".encode())
            while time.monotonic() - started < 14:
                try:
                    connection.sendall(b" ")
                    if not connection.recv(4096):
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
            return time.monotonic() - started

    assert await asyncio.to_thread(trickle) < 12


async def test_what_a_client_says_switches_off_no_deadline(edge: Edge) -> None:
    """Not that it wants to upgrade to what is not there, nor that the body's last chunk has come."""

    def answer(connection: socket.socket) -> None:
        time.sleep(1.3)  # the server looks after its deadlines in half of the shortest one, which is a second
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + json.dumps(WHOLE).encode())

    edge.provider.answer = answer
    upgrade = b"host: x\r\nupgrade: websocket\r\n"
    call = b'{"model": "m", "messages": []}'
    key = b"authorization: Bearer %s\r\ncontent-type: application/json\r\n" % KEY.encode()
    requests = [
        b"POST %s HTTP/1.1\r\n" % path + key + rest
        for path in (b"/authentication/login", b"/login", b"/api/show", b"/nowhere")
        for rest in (upgrade + b"content-length: 100\r\n\r\n{", CHUNKED + b"2\r\n{}\r\n0\r\n")
    ]
    requests.append(b"POST /v1/chat/completions HTTP/1.1\r\n%scontent-length: %d\r\n\r\n%sGET /he" % (key + upgrade, len(call), call))

    def send() -> list[bytes]:
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(socket.create_connection(("127.0.0.1", edge.appliance.port), timeout=9)) for _ in requests]
            for connection, request in zip(connections, requests, strict=True):
                connection.sendall(request)
            return [b"".join(iter(lambda connection=connection: connection.recv(65536), b"")) for connection in connections]

    answers = await asyncio.to_thread(send)
    assert answers.pop().startswith(b"HTTP/1.1 200 ")
    assert all(b" 408 " in answer or b" 404 " in answer for answer in answers), answers


@pytest.mark.parametrize("stream", [False, True])
async def test_a_credential_that_a_provider_repeats_is_neither_shown_nor_kept(
    http: aiohttp.ClientSession, edge: Edge, stream: bool
) -> None:
    complaint = b'{"error": {"message": "quota of provider-key is used up", "code": 429}}'
    edge.provider.says(
        b"data: " + complaint + b"\n\ndata: [DONE]\n\n" if stream else complaint, "200 OK", *(["content-type: text/event-stream"] * stream)
    )
    _, headers, text = await ask(http, stream=stream)
    assert "quota of" in text
    assert "provider-key" not in text
    await edge.row(headers["x-request-id"])

    def kept() -> bytes:
        name = headers["x-request-id"].encode()
        content = b""
        for path in edge.appliance.data_dir.glob("bodies-*.sqlite"):
            with contextlib.closing(sqlite3.connect(path)) as bodies:
                for (blob,) in bodies.execute("SELECT content FROM bodies WHERE content IS NOT NULL"):
                    content += zlib.decompress(blob)
        return content if name in content else b""

    content = await asyncio.to_thread(until, kept, 5, "the stored bodies")
    assert b"quota of" in content
    assert b"provider-key" not in content


@pytest.mark.parametrize("path", ["/ai/api/show", "/api/chat", "/v1/messages", "/v1/responses", "/v1/messages/count_tokens"])
async def test_a_body_that_is_nested_without_end_is_refused(edge: Edge, path: str) -> None:
    body = b'{"model":"m","max_tokens":5,"messages":' + b"[" * 5000 + b"]" * 5000 + b"}"
    answer = await asyncio.to_thread(lambda: edge.raw(b"content-type: application/json", body=body, path=path))
    assert answer.startswith(b"HTTP/1.1 400 "), answer


PARTS = b'{"role":"user","content":[%s]}' % b",".join([b'{"type":"text","text":"a"}'] * 60_000)
TURNS = b",".join([b'{"role":"user","content":"a"},{"role":"assistant","content":"b"}'] * 20_000)


@pytest.mark.parametrize("path", ["/messages", "/messages/count_tokens"])
async def test_while_a_large_body_is_read_others_are_served(http: aiohttp.ClientSession, edge: Edge, path: str) -> None:
    """One of many tiny parts, which takes long to translate."""
    edge.provider.says(json.dumps(WHOLE | {"usage": {}}).encode())
    body = b'{"model":"m","max_tokens":5,"messages":[%s,%s]}' % (PARTS, TURNS)
    started = time.monotonic()
    asking = asyncio.create_task(http.post("/ai/v1" + path, data=body))
    longest = 0.0
    while not asking.done():
        asked = time.monotonic()
        async with http.get("/healthz") as response:
            assert response.status == 200
        longest = max(longest, time.monotonic() - asked)
    took = time.monotonic() - started
    async with await asking as response:
        assert response.status == 200, await response.text()
    assert longest < took / 3
    if path == "/messages":
        row = await edge.row(response.headers["x-request-id"])
        texts = ["user", *["a"] * 60_000, *["user", "a", "assistant", "b"] * 20_000]
        assert (row["estimated"], row["uncached_input"]) == (1, -(-len("\n".join(texts)) // 4))


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_cuts_an_emoji_in_two_is_an_answer(http: aiohttp.ClientSession, edge: Edge, stream: bool) -> None:
    answer = json.dumps(WHOLE | {"choices": [CHOICE | {"message": {"role": "assistant", "content": "\ud83d"}}]}).encode()
    edge.provider.says(answer)
    status, headers, text = await ask(http, stream=stream)
    assert status == 200, text
    assert "\\ud83d" in text
    row = await edge.row(headers["x-request-id"])
    assert (row["outcome"], row["finish_reason"], row["charge_nano"]) == ("complete", "stop", 10 * 2500 + 5 * 10_000)
    edge.provider.says(answer.replace(b'"usage"', b'"used"'))
    _, headers, _ = await ask(http, stream=stream)
    row = await edge.row(headers["x-request-id"])
    assert (row["estimated"], 1 <= row["output"] <= 3) == (1, True)


async def test_an_error_in_a_stream_that_nobody_asked_for_is_a_502(http: aiohttp.ClientSession, edge: Edge) -> None:
    edge.provider.says(b'data: {"error": {"message": "Broken", "code": 500}}\n\n', "200 OK", "content-type: text/event-stream")
    async with http.post(
        "/ai/v1/messages", json={"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    ) as response:
        assert response.status == 502, await response.text()
    assert "Broken" in (await edge.row(response.headers["x-request-id"]))["explanation"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("size", [70_000, 300_000])
async def test_a_client_that_leaves_after_a_large_body_is_missed_at_once(edge: Edge, size: int, stream: bool) -> None:
    asked, left = threading.Event(), threading.Event()

    def answer(connection: socket.socket) -> None:
        asked.set()
        connection.settimeout(10)
        if not connection.recv(1):
            left.set()

    edge.provider.answer = answer
    body = json.dumps({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "x" * size}]}).encode()
    head = f"POST /ai/v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", edge.appliance.port)) as client:
        await asyncio.to_thread(client.sendall, f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        assert await asyncio.to_thread(asked.wait, 10)
    assert await asyncio.to_thread(left.wait, 1.5), "sooner than the provider would have had to answer"
    [request_id] = [line[14:] for line in edge.provider.heads[-1].split("\r\n") if line.lower().startswith("x-request-id: ")]
    row = await edge.row(request_id)
    assert (row["outcome"], row["charge_nano"]) == ("cancelled", None)
