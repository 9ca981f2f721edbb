"""Every client's dialect before every provider's, whose bytes and moments are the test's own: what the simulator does not do."""

import asyncio
import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import psutil
import pytest

from dwctl.dialects.names import DIALECTS, DialectName
from tests.appliance import KEY, PRICE, Appliance, running, setup, until
from tests.dialects import wire
from tests.e2e.speaking import SPEAKERS
from tests.e2e.test_edges import Provider
from tests.e2e.test_gateway import row_of

PAIRS = list(itertools.product(DIALECTS, DIALECTS))
EVERY_PAIR = pytest.mark.parametrize(("client", "provider"), PAIRS, ids=[">".join(pair) for pair in PAIRS])
MODES = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
NEXT = dict(zip(DIALECTS, (*DIALECTS[1:], DIALECTS[0]), strict=True))
EVERY_CLIENT = pytest.mark.parametrize(("client", "provider"), list(NEXT.items()), ids=[">".join(pair) for pair in NEXT.items()])
"""Each client's dialect once, before another provider's."""
CANARY = "canary-that-nobody-logs"
CLIENT_IDS = {"id": "x", "completion_id": "x", "completionId": "x", "response_id": "x", "responseId": "x"}


@dataclass
class Stage:
    appliance: Appliance
    provider: Provider

    def body(self, client: DialectName, alias: str, stream: bool, more: Mapping[str, Any] | None = None) -> bytes:
        """A question, with a word in it that belongs into no log."""
        body = SPEAKERS[client].request(alias, "text", stream)
        return json.dumps({**body, **(more or {})}).replace("What is", f"What is {CANARY}").encode()

    async def ask(self, client: DialectName, alias: str, stream: bool, *, body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer."""
        async with (
            aiohttp.ClientSession(headers=HEADERS, timeout=aiohttp.ClientTimeout(30)) as http,
            http.post(self.appliance.url + SPEAKERS[client].path, data=body or self.body(client, alias, stream)) as answer,
        ):
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.read()

    async def connected(self, client: DialectName, alias: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that has asked for a stream."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.appliance.port)
        writer.write(self.request(client, alias))
        return reader, writer

    def request(self, client: DialectName, alias: str) -> bytes:
        body = self.body(client, alias, True)
        head = f"POST {SPEAKERS[client].path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    async def row(self, request_id: str) -> dict[str, Any]:
        """The recorded row of a request."""
        return await row_of(self, request_id)  # type: ignore[arg-type]

    def last_id(self) -> str:
        """The id of the request that the provider was sent last."""
        [request_id] = [line[14:] for line in self.provider.heads[-1].split("\r\n") if line.lower().startswith("x-request-id: ")]
        return request_id

    async def quiet(self) -> None:
        """Wait until requests, slots and holds are back at zero."""
        await asyncio.to_thread(until, lambda: not self.appliance.in_flight(), 5, "slots and holds released")


HEADERS = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}


class Parked:
    """A provider's answer that begins and then waits for what becomes of its connection."""

    def __init__(self, beginning: bytes = b"") -> None:
        self._beginning = beginning
        self.asked = threading.Event()
        self.gone = threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        connection.sendall(self._beginning)
        self.asked.set()
        try:
            while connection.recv(65536):
                pass
        finally:
            self.gone.set()

    async def is_asked(self) -> None:
        assert await asyncio.to_thread(self.asked.wait, 10), "the provider was not asked"

    async def is_left(self, seconds: float) -> None:
        assert await asyncio.to_thread(self.gone.wait, seconds), f"the provider's connection is open after {seconds} s"


def stream_type(provider: DialectName) -> str:
    return f"content-type: {'application/x-ndjson' if provider == 'ollama' else 'text/event-stream'}"


def head(provider: DialectName) -> bytes:
    """The head of a stream whose end is that of the connection."""
    return f"HTTP/1.1 200 OK\r\n{stream_type(provider)}\r\nconnection: close\r\n\r\n".encode()


def begun(provider: DialectName) -> bytes:
    """A stream up to its second piece of text."""
    units = wire.stream(provider)
    last = next(place for place, unit in enumerate(units) if "🙂".encode() in unit)
    return head(provider) + b"".join(units[: last + 1])


def faulty(client: DialectName, provider: DialectName, body: bytes) -> None:
    """The answer ends with an error of the client's dialect, and with no end of a whole one."""
    if client == provider:
        assert b'"error"' in body[-600:]
        return
    said = SPEAKERS[client].streamed(body)
    assert said.error
    assert said.finish == ""
    assert "🙂 an".encode() in body


def served_by(endpoint: str, alias: str, **more: Any) -> dict[str, Any]:
    """A model for an apply document."""
    return {"alias": alias, "endpoint": endpoint, "model_name": "theirs", "groups": ["Everyone"], "prices": [PRICE], **more}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    provider = Provider()

    def document(url: str) -> dict[str, Any]:
        models = [
            served_by(dialect + more, dialect + alias, **fields)
            for dialect in DIALECTS
            for alias, more, fields in (("", "", {}), ("-impatient", "-impatient", {}), ("-one", "", {"capacity": 1}))
        ]
        endpoints = [
            {"name": dialect + more, "url": provider.url, "api_key": "provider-key", "dialect": dialect, **limits}
            for dialect in DIALECTS
            for more, limits in (("", {}), ("-impatient", {"idle_timeout": 1}))
        ]
        # Enough for floods, of which a client that leaves pays what the provider has sent.
        return {**setup(url, models, credit="10000"), "endpoints": endpoints}

    settings = {"log": {"level": "debug", "requests": True}}
    with running(tmp_path_factory.mktemp("translated"), document, settings=settings) as (appliance, _):
        yield Stage(appliance, provider)
    provider.close()


# What providers are sent


ODD: dict[DialectName, bytes] = {
    "openai-chat": rb"""{"top_p":0.70, "seed":7,"stop":["\u00e9 \/"],"tool_choice":"auto","response_format":{"type":"json_object"},
        "messages":[{"role":"user","content":"caf\u00e9","zzz":{"b":1.10,"a":[1e3]}}],"foo":{"z":1,"a":2},"reasoning_effort":"ultra",
        "nvext":{"agent_hints":{"priority":5}}, "priority":-1,
        "model":"openai-chat", "n" : 1}""",
    "openai-responses": rb"""{"zzz":{"b":1.10,"a":[1e3]},"input":[{"role":"user","content":"caf\u00e9 \/","q":0}], "top_p":0.70,
        "previous_response_id":"resp_1","model":"openai-responses","stream":true,"reasoning":{"effort":"ultra","new":[]}}""",
    "anthropic": rb"""{"max_tokens" : 20,"zzz":{"b":1.10,"a":[1e3]},"messages":[{"content":"caf\u00e9 \/","role":"user"}],
        "model":"anthropic", "stream": true,"thinking":{"type":"telepathic"}}""",
    "ollama": rb"""{"options":{"temperature":0.70,"new":1e3},"zzz":{"b":1.10,"a":[1e3]},
        "messages":[{"content":"caf\u00e9 \/","role":"user"}],"model":"ollama", "think" : "telepathic"}""",
}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_provider_of_the_clients_dialect_is_sent_its_bytes(stage: Stage, dialect: DialectName) -> None:
    """But for the model's name and the white space between fields, also values of which nothing is known here; and it is paid."""
    body = ODD[dialect]
    streams = dialect != "openai-chat"
    answer = b"".join(wire.stream(dialect)) if streams else wire.whole(dialect)
    stage.provider.says(answer, "200 OK", stream_type(dialect) if streams else "content-type: application/json")
    status, headers, got = await stage.ask(dialect, dialect, streams, body=body)
    assert (status, got) == (200, answer)
    arrived = stage.provider.bodies[-1]
    fields = {"model", *json.loads(body)}
    assert list(json.loads(arrived)) == list(json.loads(body))
    assert json.loads(arrived) == json.loads(body) | {"model": "theirs"}
    for name in fields - {"model"}:
        assert raw_value(arrived, name) == raw_value(body, name)
    row = await stage.row(headers["x-request-id"])
    assert (row["outcome"], row["estimated"], row["charge_nano"]) == ("complete", 0, 10 * 2500 + 5 * 10_000)


async def test_a_stream_that_was_asked_for_in_words_unknown_here_is_paid(stage: Stage) -> None:
    body = ODD["openai-chat"].replace(b'"n" : 1', b'"stream": true, "stream_options": {"zzz": [1.10]}')
    stage.provider.says(b"".join(wire.stream("openai-chat")), "200 OK", stream_type("openai-chat"))
    status, headers, _ = await stage.ask("openai-chat", "openai-chat", True, body=body)
    assert status == 200
    arrived = json.loads(stage.provider.bodies[-1])
    assert arrived.pop("stream_options") == {"zzz": [1.10], "include_usage": True}
    assert arrived == {name: value for name, value in json.loads(body).items() if name != "stream_options"} | {"model": "theirs"}
    assert (await stage.row(headers["x-request-id"]))["charge_nano"] == 10 * 2500 + 5 * 10_000


def raw_value(body: bytes, name: str) -> str:
    """The text of a field's value as it stands."""
    text = body.decode()
    place = text.index(f'"{name}"') + len(name) + 2
    while text[place] in " \n:":
        place += 1
    _, end = json.JSONDecoder().raw_decode(text[place:])
    return text[place : place + end]


@EVERY_PAIR
async def test_a_provider_is_sent_a_length_of_its_own_and_no_ids_of_the_clients(
    stage: Stage, client: DialectName, provider: DialectName
) -> None:
    stage.provider.says(wire.whole(provider))
    status, _, answer = await stage.ask(client, provider, False, body=stage.body(client, provider, False, CLIENT_IDS))
    assert status == 200, answer
    arrived = stage.provider.bodies[-1]
    lines = stage.provider.heads[-1].lower().split("\r\n")
    assert [line for line in lines if line.startswith(("content-length", "transfer-encoding"))] == [f"content-length: {len(arrived)}"]
    assert not set(json.loads(arrived)) & set(CLIENT_IDS)
    assert json.loads(arrived)["model"] == "theirs"


# What clients get


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/x-ndjson"])
@pytest.mark.parametrize("usage", [{}, {"prompt_eval_count": 3}], ids=["no usage", "usage"])
async def test_ollamas_word_that_a_model_is_loaded_passes_and_is_free(stage: Stage, kind: str, usage: dict[str, int]) -> None:
    """Unless it says that something was read."""
    loaded = wire.line({"model": "theirs", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "load", **usage})
    stage.provider.says(loaded, "200 OK", f"content-type: {kind}")
    status, headers, got = await stage.ask("ollama", "ollama", True, body=b'{"model": "ollama", "messages": []}')
    assert (status, got) == (200, loaded)
    row = await stage.row(headers["x-request-id"])
    assert (row["outcome"], row["finish_reason"], row["estimated"]) == ("complete", "load", 0)
    assert row["charge_nano"] == (3 * 2500 if usage else None)
    await stage.quiet()


@EVERY_PAIR
async def test_a_stream_that_nobody_asked_for(stage: Stage, client: DialectName, provider: DialectName) -> None:
    """It is an answer all the same: whole where it is translated, as it came where it is not."""
    sent = b"".join(wire.stream(provider))
    stage.provider.says(sent, "200 OK", stream_type(provider))
    status, headers, body = await stage.ask(client, provider, False)
    assert status == 200, body
    if client == provider:
        assert body == sent
    else:
        said = SPEAKERS[client].whole(json.loads(body))
        assert (said.text, said.finish, said.tokens) == (wire.TEXT, "stop", wire.TOKENS)
    row = await stage.row(headers["x-request-id"])
    assert (row["outcome"], row["estimated"], row["uncached_input"], row["output"]) == ("complete", 0, *wire.TOKENS)


@MODES
@EVERY_PAIR
async def test_headers_are_ours(stage: Stage, client: DialectName, provider: DialectName, stream: bool) -> None:
    """None of the provider's account or server, and of lengths one alone: that of what is sent."""
    theirs = ("set-cookie: a=b", "server: theirs", "openai-organization: org", "anthropic-organization-id: org", "x-request-id: theirs")
    sent = b"".join(wire.stream(provider)) if stream else wire.whole(provider)
    stage.provider.says(sent, "200 OK", stream_type(provider) if stream else "content-type: application/json", *theirs)
    status, headers, body = await stage.ask(client, provider, stream)
    assert status == 200, body
    assert not {"set-cookie", "server", "openai-organization", "anthropic-organization-id"} & set(headers)
    assert headers["x-request-id"] != "theirs"
    if "transfer-encoding" in headers:
        assert "content-length" not in headers
    else:
        assert headers["content-length"] == str(len(body))


@pytest.mark.parametrize("provider", DIALECTS)
async def test_usage_that_was_not_asked_for_is_paid_and_not_shown(stage: Stage, provider: DialectName) -> None:
    stage.provider.says(b"".join(wire.stream(provider)), "200 OK", stream_type(provider))
    body = {"model": provider, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    status, headers, answer = await stage.ask("openai-chat", provider, True, body=json.dumps(body).encode())
    assert (status, answer[-14:]) == (200, b"data: [DONE]\n\n")
    chunks = [json.loads(event[6:]) for event in answer.split(b"\n\n")[:-2]]
    assert all(chunk["choices"] and not chunk.get("usage") for chunk in chunks)
    row = await stage.row(headers["x-request-id"])
    assert (row["estimated"], row["charge_nano"]) == (0, 10 * 2500 + 5 * 10_000)


@pytest.mark.parametrize(("space", "end"), [(b" ", b"\n"), (b"", b"\r\n")], ids=["plain", "crlf and no space"])
@EVERY_PAIR
async def test_events_flow_as_they_come(stage: Stage, client: DialectName, provider: DialectName, space: bytes, end: bytes) -> None:
    """Also if a character is cut in two: what is whole is there before the rest is sent."""
    sent = b"".join(wire.stream(provider)).replace(b"\n", end).replace(b"data: ", b"data:" + space)
    cut = sent.index("🙂".encode()) + 2
    seen = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.sendall(head(provider) + sent[:cut])
        if seen.wait(10):
            connection.sendall(sent[cut:])

    stage.provider.answer = answer
    async with (
        aiohttp.ClientSession(stage.appliance.url, headers=HEADERS, timeout=aiohttp.ClientTimeout(15)) as http,
        http.post(SPEAKERS[client].path, data=stage.body(client, provider, True)) as response,
    ):
        body = await response.content.readuntil("Grüße".encode())
        seen.set()
        body += await response.read()
    if client != provider:
        said = SPEAKERS[client].streamed(body)
        assert (said.text, said.finish, said.tokens) == (wire.TEXT, "stop", wire.TOKENS)
    else:
        assert body == sent
    assert (await stage.row(response.headers["x-request-id"]))["estimated"] == 0


# Streams that go wrong


@EVERY_PAIR
async def test_nonsense_in_the_midst_of_a_stream(stage: Stage, client: DialectName, provider: DialectName) -> None:
    nonsense = f'{{"{CANARY}'.encode()
    nonsense = nonsense + b"\n" if provider == "ollama" else b"data: " + nonsense + b"\n\n"
    sent = begun(provider) + nonsense + b"".join(wire.stream(provider)[-3:])
    stage.provider.answer = lambda connection: connection.sendall(sent)
    status, headers, body = await stage.ask(client, provider, True)
    assert status == 200
    faulty(client, provider, body)
    row = await stage.row(headers["x-request-id"])
    assert (row["outcome"], row["error_code"]) == ("interrupted", "upstream_malformed")


@EVERY_PAIR
async def test_a_stream_that_stalls(stage: Stage, client: DialectName, provider: DialectName) -> None:
    stage.provider.answer = parked = Parked(begun(provider))
    status, headers, body = await stage.ask(client, f"{provider}-impatient", True)
    assert status == 200
    faulty(client, provider, body)
    await parked.is_left(1)
    row = await stage.row(headers["x-request-id"])
    assert (row["outcome"], row["error_code"]) == ("interrupted", "upstream_idle_timeout")
    await stage.quiet()


ACCOUNT: dict[DialectName, bytes] = {
    "openai-chat": wire.sse({"id": "1", "choices": [], "error": {"code": 402, "message": CANARY, "type": CANARY}}),
    "openai-responses": wire.sse({"type": "error", "code": "invalid_api_key", "message": CANARY, "sequence_number": 9}, "error"),
    "anthropic": wire.sse({"type": "error", "error": {"type": "authentication_error", "message": CANARY}}, "error"),
    "ollama": wire.line({"error": CANARY, "StatusCode": 401}),
}
"""What a provider thinks of the account that it is paid from."""


@EVERY_PAIR
async def test_a_providers_opinion_of_our_account_is_not_told_in_a_stream(stage: Stage, client: DialectName, provider: DialectName) -> None:
    sent = begun(provider) + ACCOUNT[provider]
    stage.provider.answer = lambda connection: connection.sendall(sent)
    _, headers, body = await stage.ask(client, provider, True)
    assert CANARY.encode() not in body
    faulty(client, provider, body)
    row = await stage.row(headers["x-request-id"])
    assert row["outcome"] == "failed"
    assert row["status"] >= 400
    assert CANARY in row["explanation"]


# Answers that failed


def failing(provider: DialectName, streamed: bool) -> bytes:
    """An error that says what was used."""
    answer = json.loads(wire.whole(provider))
    counts = {name: answer[name] for name in ("usage", "prompt_eval_count", "eval_count") if name in answer}
    error = {"error": "Broken" if provider == "ollama" else {"type": "server_error", "message": "Broken", "code": 500}}
    if not streamed:
        return json.dumps({**answer, **error}).encode()
    if provider == "ollama":
        return wire.line({**error, **counts})
    return wire.sse({"type": "error", **error, **counts} if provider != "openai-chat" else {**error, **counts})


UNUSABLE: dict[DialectName, dict[str, Any]] = {
    "openai-chat": {"choices": []},
    "openai-responses": {"output": None},
    "anthropic": {"content": None},
    "ollama": {"message": None},
}


@EVERY_PAIR
async def test_a_failure_that_reports_usage_costs_the_same_for_every_client(
    stage: Stage, client: DialectName, provider: DialectName
) -> None:
    events, json_type = stream_type(provider), "content-type: application/json"
    whole, streamed = failing(provider, False), failing(provider, True)
    unusable = json.dumps({**json.loads(wire.whole(provider)), **UNUSABLE[provider]}).encode()
    asked = {}
    for how, stream, answer in (
        ("status", False, (whole, "500 Internal Server Error", json_type)),
        ("whole", False, (whole, "200 OK", json_type)),
        ("unusable", False, (unusable, "200 OK", json_type)),
        ("streamed", True, (streamed, "200 OK", events)),
        ("after output", True, (begun(provider).partition(b"\r\n\r\n")[2] + streamed, "200 OK", events)),
        ("collected", False, (streamed, "200 OK", events)),
    ):
        stage.provider.says(*answer)
        _, headers, _ = await stage.ask(client, provider, stream)
        asked[how] = headers["x-request-id"]
    rows = {how: await stage.row(request_id) for how, request_id in asked.items()}
    expected = dict.fromkeys(rows, (0, 10 * 2500 + 5 * 10_000, "failed"))
    if client == provider == "openai-chat":
        expected["unusable"] = (*expected["unusable"][:2], "complete")  # it passes unread
    assert {how: (row["estimated"], row["charge_nano"], row["outcome"]) for how, row in rows.items()} == expected


def breaking(provider: DialectName) -> list[list[bytes]]:
    """Ways in which a stream breaks off by what cannot be an answer, and says beside it what was used: 10 and 5 tokens."""
    usage = json.loads(wire.whole(provider)).get("usage")
    if provider == "openai-chat":
        finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "insufficient_system_resource"}]}
        done = b"data: [DONE]\n\n"
        return [
            [wire.sse({**finish, "usage": usage}), done],
            [wire.sse(finish), wire.sse({"choices": [], "usage": usage}), done],
            [wire.sse(finish), wire.sse({"choices": [], "usage": usage})],
            [wire.sse({"choices": [1], "usage": usage})],
        ]
    if provider == "openai-responses":
        cancelled = {"status": "cancelled", "output": [], "usage": usage}
        unnamed = {"status": "completed", "output": [{"type": "function_call"}], "usage": usage}
        return [
            [wire.sse({"type": "response.cancelled", "response": cancelled})],
            [wire.sse({"type": "response.completed", "response": unnamed})],
        ]
    if provider == "anthropic":
        return [[wire.sse({"type": "message_delta", "delta": None, "usage": usage})]]
    last = {"done": True, "prompt_eval_count": 10, "eval_count": 5}
    return [[wire.line({"message": {"content": "", "tool_calls": [{}]}, **last})], [wire.line({"message": {"content": 1}, **last})]]


@EVERY_PAIR
async def test_usage_beside_what_breaks_a_stream_off_costs_the_same_for_every_client(
    stage: Stage, client: DialectName, provider: DialectName
) -> None:
    """Before any output and after some, streamed and collected."""
    asked = {}
    for number, units in enumerate(breaking(provider)):
        end = b"".join(units)
        for how, stream, answer in (
            ("streamed", True, end),
            ("after output", True, begun(provider).partition(b"\r\n\r\n")[2] + end),
            ("collected", False, end),
        ):
            stage.provider.says(answer, "200 OK", stream_type(provider))
            _, headers, _ = await stage.ask(client, provider, stream)
            asked[how, number] = headers["x-request-id"]
    rows = {how: await stage.row(request_id) for how, request_id in asked.items()}
    found = {how: (row["estimated"], row["charge_nano"], row["raw_usage"] is not None) for how, row in rows.items()}
    assert found == dict.fromkeys(rows, (0, 10 * 2500 + 5 * 10_000, True))


@pytest.mark.parametrize("client", ["anthropic", "openai-responses", "ollama"])
@pytest.mark.parametrize(
    ("provider", "kept"),
    [
        ("openai-chat", lambda unit: b"[DONE]" not in unit),
        ("anthropic", lambda unit: b"message_delta" not in unit),
    ],
    ids=["without its last word", "without a count at the end"],
)
async def test_a_stream_that_nobody_asked_for_is_read_as_one_that_somebody_did(
    stage: Stage, client: DialectName, provider: DialectName, kept: Callable[[bytes], bool]
) -> None:
    if client == provider:
        client = "openai-chat"
    rows = []
    for stream in (True, False):
        stage.provider.says(b"".join(filter(kept, wire.stream(provider))), "200 OK", stream_type(provider))
        status, headers, _ = await stage.ask(client, provider, stream)
        assert status == 200
        row = await stage.row(headers["x-request-id"])
        rows.append([row[column] for column in ("outcome", "uncached_input", "output", "estimated", "charge_nano", "raw_usage")])
    assert rows[0] == rows[1]
    assert rows[0][:2] == ["complete", 10]
    assert rows[0][-1] is not None


@MODES
async def test_what_a_chat_provider_says_after_it_has_failed_is_its_error(stage: Stage, stream: bool) -> None:
    ended = {"choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}
    said = {"error": {"message": "overloaded", "code": 429}}
    stage.provider.says(wire.sse(ended) + wire.sse(said), "200 OK", stream_type("openai-chat"))
    _, headers, _ = await stage.ask("anthropic", "openai-chat", stream)
    row = await stage.row(headers["x-request-id"])
    assert "overloaded" in row["explanation"]
    assert (row["outcome"], row["error_code"]) == ("failed", "rate_limit")


@MODES
@pytest.mark.parametrize("client", DIALECTS)
async def test_a_stream_that_fails_costs_what_was_reported_before_it_and_no_estimate(
    stage: Stage, client: DialectName, stream: bool
) -> None:
    """Anthropic says what it has read before it writes; what it wrote then is for the end, which does not come."""
    error = wire.sse({"type": "error", "error": {"type": "overloaded_error", "message": "Broken"}}, "error")
    stage.provider.says(begun("anthropic").partition(b"\r\n\r\n")[2] + error, "200 OK", stream_type("anthropic"))
    _, headers, _ = await stage.ask(client, "anthropic", stream)
    row = await stage.row(headers["x-request-id"])
    assert (row["outcome"], row["estimated"], row["charge_nano"]) == ("failed", 0, 10 * 2500 + 1 * 10_000)
    assert json.loads(row["raw_usage"]) == {"input_tokens": 10, "output_tokens": 1}


@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/embed"])
@pytest.mark.parametrize("provider", ["openai-chat", "ollama"])
async def test_failed_embeddings_that_report_usage_cost_the_same_for_every_client(stage: Stage, path: str, provider: DialectName) -> None:
    asked = []
    for broken in ({"error": {"message": "Broken"}}, {"data": None, "embeddings": None}):
        stage.provider.says(json.dumps({**json.loads(failing(provider, False)), "error": None, **broken}).encode())
        body = {"model": provider, "input": "hi"}
        async with aiohttp.ClientSession(headers=HEADERS) as http, http.post(stage.appliance.url + path, json=body) as answer:
            asked.append(answer.headers["x-request-id"])
    assert [(await stage.row(request_id))["charge_nano"] for request_id in asked] == [10 * 2500] * 2


@pytest.mark.parametrize(
    "rest", [b"", b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n']
)
async def test_usage_reported_before_a_break_costs_the_same_for_every_client(stage: Stage, rest: bytes) -> None:
    """Anthropic says at once what it has read, which is what it asks to be paid for."""
    usage = {"input_tokens": 1000, "cache_creation_input_tokens": 500, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "theirs", "content": [], "usage": usage}
    start = f"event: message_start\ndata: {json.dumps({'type': 'message_start', 'message': message})}\n\n".encode()
    stage.provider.answer = lambda connection: connection.sendall(head("anthropic") + start + rest)
    charges = {}
    for client in DIALECTS:
        await stage.ask(client, "anthropic", True)
        row = await stage.row(stage.last_id())
        charges[client] = row["charge_nano"], json.loads(row["raw_usage"])
    assert charges == dict.fromkeys(DIALECTS, (1500 * 2500 + 1 * 10_000, usage))


# Clients that leave


@pytest.mark.parametrize("begins", [False, True], ids=["before the head", "in the midst"])
@EVERY_PAIR
async def test_a_client_that_leaves(stage: Stage, client: DialectName, provider: DialectName, begins: bool) -> None:
    stage.provider.answer = parked = Parked(begun(provider) if begins else b"")
    reader, writer = await stage.connected(client, provider)
    await parked.is_asked()
    if begins:
        await reader.readuntil("Grüße".encode())
    writer.transport.abort()
    await parked.is_left(1)
    row = await stage.row(stage.last_id())
    assert (row["outcome"], row["status"]) == ("cancelled", 499)
    assert (row["charge_nano"] is not None) == begins
    await stage.quiet()


@EVERY_CLIENT
async def test_a_change_of_the_setup_leaves_what_is_under_way_alone(stage: Stage, client: DialectName, provider: DialectName) -> None:
    """A slot is taken until its stream ends, whatever is loaded anew meanwhile; and nobody waits for those who are under way."""
    stage.provider.answer = parked = Parked(begun(provider))
    alias = f"{provider}-one"
    reader, writer = await stage.connected(client, alias)
    await reader.readuntil("Grüße".encode())
    changed = served_by(provider, alias, capacity=1, prices=[PRICE | {"input_per_million": "3"}])
    await asyncio.to_thread(stage.appliance.apply, {"models": [changed]})
    assert stage.appliance.in_flight()["dwctl_concurrency_slots"] >= 1
    stage.provider.says(wire.whole(provider))
    assert (await stage.ask(client, alias, False))[0] == 429
    assert (await stage.ask(client, provider, False))[0] == 200
    writer.transport.abort()
    await parked.is_left(1)
    await stage.quiet()
    assert (await stage.ask(client, alias, False))[0] == 200


@pytest.mark.parametrize("provider", ["anthropic"])
async def test_hundreds_under_way_and_a_change_of_the_setup(stage: Stage, provider: DialectName) -> None:
    """None blocks the other."""
    waiting, go = threading.Semaphore(0), threading.Event()
    whole = b"".join(wire.stream(provider))

    def answer(connection: socket.socket) -> None:
        waiting.release()
        if go.wait(60):
            connection.sendall(head(provider) + whole)

    stage.provider.answer = answer
    asking = [asyncio.create_task(stage.ask("openai-chat", provider, True)) for _ in range(300)]

    def all_wait() -> None:
        for _ in asking:
            assert waiting.acquire(timeout=30)

    await asyncio.to_thread(all_wait)
    await asyncio.to_thread(stage.appliance.apply, {"models": [served_by(provider, "added")]})
    stage.provider.says(wire.whole(provider))

    async def served() -> bool:
        return (await stage.ask("openai-chat", "added", False))[0] == 200

    async with asyncio.timeout(10):
        while not await served():
            pass
    go.set()
    assert {status for status, _, _ in await asyncio.gather(*asking)} == {200}
    await stage.quiet()


class Flood:
    """A provider that sends 50 MiB as fast as they are taken."""

    def __init__(self, provider: DialectName) -> None:
        piece = "x" * 1023 + " "
        units = wire.stream(provider, pieces=("Grüße ", piece))
        place = next(place for place, unit in enumerate(units) if piece.encode() in unit)
        self._beginning = head(provider) + b"".join(units[:place])
        self._unit = units[place]
        self.sent = 0
        self.gone = threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        connection.sendall(self._beginning)
        try:
            for _ in range(50 * 1024):
                connection.sendall(self._unit)
                self.sent += len(self._unit)
        finally:
            self.gone.set()


@EVERY_CLIENT
async def test_a_client_that_reads_slowly_takes_no_memory(stage: Stage, client: DialectName, provider: DialectName) -> None:
    """Nor its provider's patience: what the client does not take is not read; and when it leaves, the provider is left."""
    process = psutil.Process(stage.appliance.serving_pid())
    stage.provider.answer = Flood(provider)
    reader, writer = await stage.connected(client, provider)
    await reader.readexactly(8 * 1024 * 1024)  # what any stream takes is there from now on
    writer.transport.abort()
    await stage.quiet()
    before = process.memory_info().rss
    stage.provider.answer = flood = Flood(provider)

    def read_slowly() -> tuple[float, int]:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", stage.appliance.port))
            connection.sendall(stage.request(client, provider))
            highest = 0
            for _ in range(4):
                assert connection.recv(1024)
                time.sleep(1)  # a KiB a second is what this client takes
                highest = max(highest, process.memory_info().rss)
            assert not flood.gone.is_set()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        left = time.monotonic()
        assert flood.gone.wait(5)
        return time.monotonic() - left, highest

    seconds, highest = await asyncio.to_thread(read_slowly)
    assert seconds < 1
    assert highest - before < 5 * 1024 * 1024
    assert flood.sent < 20 * 1024 * 1024
    row = await stage.row(stage.last_id())
    assert (row["outcome"], row["status"]) == ("cancelled", 499)
    await stage.quiet()


PINGS: dict[DialectName, bytes] = {"openai-chat": b": ping\n\n", "openai-responses": b": ping\n\n", "anthropic": b"event: ping\n"}


async def test_a_silent_provider_does_not_silence_the_stream(stage: Stage) -> None:
    """Ollama's clients alone have nothing that they would take for a sign of life."""
    stage.provider.answer = Parked(begun("ollama"))

    async def until_ping(client: DialectName, ping: bytes) -> float:
        reader, writer = await stage.connected(client, "ollama")
        await reader.readuntil("🙂 an".encode())
        since = time.monotonic()
        if client == "anthropic":
            await asyncio.sleep(1)  # its first block is followed by a ping at once
            await reader.read(65536)
        await asyncio.wait_for(reader.readuntil(ping), 20)
        writer.transport.abort()
        return time.monotonic() - since

    assert max(await asyncio.gather(*(until_ping(*each) for each in PINGS.items()))) < 17
    await stage.quiet()


# What clients get wrong


MALFORMED: dict[DialectName, list[tuple[dict[str, Any], str]]] = {
    "openai-chat": [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        ({"messages": [{"role": "user", "content": []}]}, "messages"),
        ({"messages": [{"role": "robot", "content": CANARY}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages[0].content[0].text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:,{CANARY}"}}]}]},
            "messages[0].content[0].image_url.url",
        ),
        ({"messages": [{"role": "tool", "content": CANARY}]}, "messages[0].tool_call_id"),
        ({"temperature": CANARY}, "temperature"),
        ({"max_tokens": CANARY}, "max_tokens"),
        ({"stop": [CANARY, 1]}, "stop[1]"),
        ({"stream": CANARY}, "stream"),
        ({"tools": [{"type": "function", "function": {"parameters": {}}}]}, "tools[0].function.name"),
        ({"tool_choice": CANARY}, "tool_choice"),
        ({"response_format": {"type": CANARY}}, "response_format.type"),
        ({"reasoning_effort": 3}, "reasoning_effort"),
        ({"n": CANARY}, "n"),
    ],
    "openai-responses": [
        ({"input": 5}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": [{"role": "user", "content": []}]}, "input"),
        ({"input": [{"type": 5}]}, "input[0].type"),
        ({"input": [{"role": "robot", "content": CANARY}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": 1}]}]}, "input[0].content[0].text"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": CANARY}]}, "input[0].arguments"),
        ({"reasoning": "high"}, "reasoning"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort"),
        ({"text": {"format": {"type": CANARY}}}, "text.format.type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": CANARY}, "tool_choice"),
        ({"max_output_tokens": CANARY}, "max_output_tokens"),
        ({"temperature": CANARY}, "temperature"),
        ({"include": [CANARY, 1]}, "include[1]"),
        ({"metadata": {"k": 1}}, "metadata"),
        ({"stream": CANARY}, "stream"),
        ({"instructions": 5}, "instructions"),
    ],
    "anthropic": [
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": {}}, "messages"),
        ({"messages": []}, "messages: at least one message is required"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        ({"messages": [{"role": "robot", "content": "?"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": CANARY}]}]}, "messages.0.content.0.tool_use_id"),
        ({"system": 1}, "system"),
        ({"temperature": CANARY}, "temperature"),
        ({"stop_sequences": [CANARY, 1]}, "stop_sequences.1"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"tools": [{"input_schema": {}}]}, "tools.0.name"),
        ({"tools": [{"name": "f", "input_schema": []}]}, "tools.0.input_schema"),
        ({"tool_choice": {"type": CANARY}}, "tool_choice.type"),
        ({"output_config": {"effort": CANARY}}, "output_config.effort"),
        ({"stream": CANARY}, "stream"),
    ],
    "ollama": [
        ({"messages": CANARY}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        ({"messages": [{"role": "robot", "content": CANARY}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "images": [CANARY, 5]}]}, "messages[0].images"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"options": []}, "options"),
        ({"options": {"temperature": CANARY}}, "options.temperature"),
        ({"options": {"stop": [1]}}, "options.stop[0]"),
        ({"think": CANARY}, "think"),
        ({"format": CANARY}, "format"),
        ({"stream": CANARY}, "stream"),
    ],
}


@pytest.mark.parametrize(
    ("client", "fields", "path"),
    [(client, *case) for client, cases in MALFORMED.items() for case in cases],
    ids=[f"{client}-{number}-{path}" for client, cases in MALFORMED.items() for number, (_, path) in enumerate(cases)],
)
async def test_a_malformed_field_is_named_in_the_clients_dialect(
    stage: Stage, client: DialectName, fields: dict[str, Any], path: str
) -> None:
    """Before a provider of any other dialect, none of which is asked."""
    asked = len(stage.provider.bodies)
    for provider in DIALECTS:
        if provider == client:
            continue
        body = json.dumps(SPEAKERS[client].request(provider, "text", False) | fields).encode()
        status, headers, answer = await stage.ask(client, provider, False, body=body)
        assert (status, headers["content-type"]) == (400, "application/json")
        error = json.loads(answer)
        message = SPEAKERS[client].refusal(error)
        if client.startswith("openai"):
            assert error["error"]["type"] == "invalid_request_error"
            assert error["error"]["param"] == path
        else:
            assert path in message
        if client == "anthropic":
            assert error["error"]["type"] == "invalid_request_error"
    assert len(stage.provider.bodies) == asked


@pytest.mark.parametrize("provider", DIALECTS)
async def test_an_answer_for_later_is_refused_since_none_is_kept(stage: Stage, provider: DialectName) -> None:
    """Before the provider is asked, also one that would take it."""
    asked = len(stage.provider.bodies)
    for value in (True, 1, "true", "on"):  # some servers read all of them as true
        background = stage.body("openai-responses", provider, False, {"background": value})
        status, headers, answer = await stage.ask("openai-responses", provider, False, body=background)
        error = json.loads(answer)["error"]
        code = "unsupported_parameter" if value is True or provider != "openai-responses" else "invalid_value"
        assert (status, error["code"], error["param"]) == (400, code, "background")
        assert (await stage.row(headers["x-request-id"]))["charge_nano"] is None
    assert len(stage.provider.bodies) == asked
    stage.provider.says(wire.whole(provider))
    at_once = stage.body("openai-responses", provider, False, {"background": False})
    assert (await stage.ask("openai-responses", provider, False, body=at_once))[0] == 200


# What is kept to ourselves


@MODES
@EVERY_PAIR
@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "500 Internal Server Error", "200 OK"])
async def test_what_providers_complain_about(stage: Stage, client: DialectName, provider: DialectName, status: str, stream: bool) -> None:
    """The client hears of what it did itself; nobody but those who read the record of what the provider thinks of us."""
    error: Any = CANARY if provider == "ollama" else {"message": CANARY, "type": "authentication_error", "code": 401}
    stage.provider.says(json.dumps({"type": "error", "error": error}).encode(), status)
    got, _, body = await stage.ask(client, provider, stream)
    assert got == (502 if status[:3] in ("401", "200") else int(status[:3]))
    # Of its errors Ollama says no more than the words.
    assert (CANARY.encode() in body) == (status[:3] in ("400", "500") or (status[:3] == "200" and provider == "ollama")), body


async def test_no_log_has_what_was_said(stage: Stage) -> None:
    """The last test: of all that clients and providers said above, errors and nonsense included, nothing is in the log at level debug."""
    log = stage.appliance.log.read_text()
    assert log.count('"request_id"') + log.count("request_id=") > 100
    for secret in (CANARY, "Grüße", "Gr\\u00fc", "provider-key", KEY):
        assert secret not in log
    assert "Traceback" not in log
    await stage.quiet()
