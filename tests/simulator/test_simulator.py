"""The simulator as a client sees it: the real OpenAI SDK and raw sockets, over real connections."""

import asyncio
import base64
import hashlib
import json
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from dwctl import simulator
from dwctl.simulator import Simulator, answers, behaviour, script

MESSAGES: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say  something nice\nabout café 東京"}]
PROMPT_TOKENS = 2 + 6


@pytest.fixture
async def client(provider: Simulator) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=provider.url, api_key="sk-test", max_retries=0, timeout=10) as opened:
        yield opened


async def raw(provider: Simulator, body: Any, *, path: str = "/v1/chat/completions", headers: str = "", version: str = "1.1") -> bytes:
    """Everything that the simulator sends on a connection of its own until it closes that, or is silent for 0.3 seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(provider))
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer sk-test\r\nConnection: close\r\n{headers}"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
    received = b""
    try:
        while piece := await asyncio.wait_for(reader.read(65_536), 0.3):
            received += piece
    except (TimeoutError, ConnectionResetError) as error:
        received += b"<" + type(error).__name__.encode() + b">"
    writer.close()
    return received


def port_of(provider: Simulator) -> int:
    return int(provider.url.split(":")[2].split("/")[0])


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that will come; the test's own timeout bounds it."""
    while not condition():  # noqa: ASYNC110 (the account has no events to wait for)
        await asyncio.sleep(0.005)


def asked(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": MESSAGES, "max_tokens": 6, **more}


def dechunked(data: bytes) -> tuple[list[bytes], bool]:
    """The chunks of a chunked HTTP message, and whether it was ended."""
    rest = data.split(b"\r\n\r\n", 1)[1]
    chunks: list[bytes] = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if size.startswith(b"<"):
            return chunks, False
        if int(size, 16) == 0:
            return chunks, True
        chunks.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    return chunks, False


# the real SDK -----------------------------------------------------------------------------------------------------------------------


async def test_a_chat_whose_text_and_usage_were_known_beforehand(client: openai.AsyncOpenAI, provider: Simulator) -> None:
    answer = await client.chat.completions.create(model="sim-chat", messages=MESSAGES, max_tokens=6, extra_headers={"x-request-id": "id-1"})
    start = zlib.crc32(MESSAGES[-1]["content"].encode())
    assert answer.choices[0].message.content == script.text(start, 6)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (PROMPT_TOKENS, 6, PROMPT_TOKENS + 6)
    entry = provider.served.report()["served"]["id-1"]
    assert (entry["outcome"], entry["prompt_tokens"], entry["completion_tokens"], entry["reported"]) == ("complete", PROMPT_TOKENS, 6, True)


async def test_options_in_the_models_name(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="sim-chat?tokens=50&input=1000&cached=400&reasoning=20", messages=MESSAGES, max_tokens=90, n=2
    )
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.completion_tokens_details is not None
    assert [choice.finish_reason for choice in answer.choices] == ["stop", "stop"]
    assert (answer.usage.prompt_tokens, answer.usage.prompt_tokens_details.cached_tokens) == (1000, 400)
    assert (answer.usage.completion_tokens, answer.usage.completion_tokens_details.reasoning_tokens) == (100, 40)
    content = answer.choices[0].message.content
    assert content is not None
    assert content.count(" ") == 29
    assert answer.choices[1].message.content != content


@pytest.mark.parametrize(
    "model", ["sim-chat", "sim-crlf", "sim-multiline", "sim-chat?split=7", "sim-nodone", "sim-no-length", "sim-cookie"]
)
@pytest.mark.parametrize("with_usage", [True, False])
async def test_a_stream_says_the_same_as_the_whole_answer(client: openai.AsyncOpenAI, model: str, with_usage: bool) -> None:
    whole = await client.chat.completions.create(model="sim-chat", messages=MESSAGES, n=2)
    options: Any = {"include_usage": True} if with_usage else openai.NOT_GIVEN
    stream = await client.chat.completions.create(model=model, messages=MESSAGES, n=2, stream=True, stream_options=options)
    texts, reasons, usages = ["", ""], ["", ""], []
    async for chunk in stream:
        if chunk.usage is not None:
            usages.append(chunk.usage)
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == [choice.message.content for choice in whole.choices]
    assert reasons == ["stop", "stop"]
    assert [usage.model_dump() for usage in usages] == ([whole.usage.model_dump()] if with_usage and whole.usage else [])


async def test_text_completions(client: openai.AsyncOpenAI) -> None:
    whole = await client.completions.create(model="sim-chat", prompt=["one two", "three"], max_tokens=5)
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens, len(whole.choices)) == (3, 10, 2)
    stream = await client.completions.create(
        model="sim-chat", prompt=["one two", "three"], max_tokens=5, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices and chunk.choices[0].index == 1) == whole.choices[1].text
    assert chunks[-1].usage == whole.usage


async def test_embeddings_are_the_same_as_floats_and_as_base64(client: openai.AsyncOpenAI) -> None:
    floats = await client.embeddings.create(model="sim-embed", input=["a b", "c"], dimensions=32, encoding_format="float")
    packed = await client.embeddings.create(model="sim-embed", input=["a b", "c"], dimensions=32)
    assert [item.embedding for item in floats.data] == [item.embedding for item in packed.data]
    assert [len(item.embedding) for item in floats.data] == [32, 32]
    assert floats.data[0].embedding != floats.data[1].embedding
    assert (floats.usage.prompt_tokens, floats.usage.total_tokens) == (3, 3)
    tokens = await client.embeddings.create(model="sim-embed", input=[5, 6, 7])
    assert (len(tokens.data), tokens.usage.prompt_tokens) == (1, 3)


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == list(behaviour.LISTED)
    assert (await client.models.retrieve("sim-embed")).owned_by == "simulator"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("sim-none")


async def test_images_speech_and_transcription(client: openai.AsyncOpenAI) -> None:
    picture = await client.images.generate(model="sim-image", prompt="a red square", n=2)
    assert picture.data is not None
    assert [base64.b64decode(item.b64_json or "")[:4] for item in picture.data] == [b"\x89PNG"] * 2
    speech = await client.audio.speech.create(model="sim-speech", voice="alloy", input="hello")
    assert speech.content == answers.SPEECH
    heard = await client.audio.transcriptions.create(model="sim-transcribe?tokens=3", file=("a.wav", bytes(range(256)) * 9))
    assert heard.text == "The quick brown"
    edited = await client.images.edit(model="sim-echo", image=("a.png", answers.IMAGE), prompt="bluer")
    assert edited.data is not None


async def test_rerank_and_any_other_path(client: openai.AsyncOpenAI, provider: Simulator) -> None:
    ranked: Any = await client.post(
        "/rerank", body={"model": "sim-rerank", "query": "a b", "documents": ["x", "y z", "w"], "top_n": 2}, cast_to=object
    )
    assert [result["index"] for result in ranked["results"]] == [0, 1]
    assert ranked["usage"]["total_tokens"] == 6
    body = json.dumps({"model": "sim-chat", "anything": [1.0, None]}).encode()
    seen = json.loads((await raw(provider, body, path="/v1/some/other")).split(b"\r\n\r\n", 1)[1])
    assert (seen["path"], seen["bytes"], seen["sha256"]) == ("/v1/some/other", len(body), hashlib.sha256(body).hexdigest())


async def test_echo_shows_what_arrived(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="sim-echo", messages=MESSAGES, extra_headers={"x-one": "1"}, extra_query={"a": "b"}, extra_body={"odd": 1.10}
    )
    echo: Any = (answer.model_extra or {})["echo"]
    assert echo["target"] == "/v1/chat/completions?a=b"
    assert ["x-one", "1"] in echo["headers"]
    body = base64.b64decode(echo["body_base64"])
    assert json.loads(body)["odd"] == 1.10
    assert (echo["bytes"], echo["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    stream = await client.chat.completions.create(model="sim-echo", messages=MESSAGES, stream=True)
    first = await anext(aiter(stream))
    assert (first.model_extra or {})["echo"]["method"] == "POST"


async def test_a_tool_is_called(client: openai.AsyncOpenAI) -> None:
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    answer = await client.chat.completions.create(model="sim-tool", messages=MESSAGES, tools=tools)
    calls: Any = answer.choices[0].message.tool_calls
    assert (calls[0].function.name, json.loads(calls[0].function.arguments)) == ("weather", {"text": MESSAGES[-1]["content"]})
    stream = await client.chat.completions.create(model="sim-tool", messages=MESSAGES, tools=tools, stream=True)
    deltas: Any = [choice.delta for chunk in [chunk async for chunk in stream] for choice in chunk.choices]
    functions = [delta.tool_calls[0].function for delta in deltas if delta.tool_calls]
    assert [function.name for function in functions if function.name] == ["weather"]
    assert "".join(function.arguments for function in functions) == calls[0].function.arguments


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("sim-400", openai.BadRequestError),
        ("sim-401", openai.AuthenticationError),
        ("sim-403", openai.PermissionDeniedError),
        ("sim-404", openai.NotFoundError),
        ("sim-429", openai.RateLimitError),
        ("sim-500", openai.InternalServerError),
        ("sim-529", openai.InternalServerError),
        ("sim-html", openai.InternalServerError),
        ("gpt-nobody", openai.NotFoundError),
        ("sim-chat?typo=1", openai.BadRequestError),
        ("sim-chat?tokens=many", openai.BadRequestError),
        ("sim-200", openai.NotFoundError),
    ],
)
async def test_error_statuses_are_the_sdks_exceptions(client: openai.AsyncOpenAI, model: str, error: type[openai.APIStatusError]) -> None:
    with pytest.raises(error) as caught:
        await client.chat.completions.create(model=model, messages=MESSAGES)
    if model == "sim-429":
        assert caught.value.response.headers["retry-after"] == "1"
        assert caught.value.code == "rate_limit_exceeded"


async def test_a_wrong_key_and_no_key(provider: Simulator) -> None:
    async with openai.AsyncOpenAI(base_url=provider.url, api_key="sk-wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as caught:
            await stranger.models.list()
    assert caught.value.code == "invalid_api_key"
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(provider))
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 401")
    writer.close()


async def test_bad_requests(provider: Simulator) -> None:
    for body in (
        b"{",
        b'{"model": 5}',
        b'{"messages": []}',
        b'{"model":"sim-chat","messages":"no"}',
        b'{"model":"sim-chat","n":0}',
        b"\xff",
    ):
        assert (await raw(provider, body)).startswith(b"HTTP/1.1 400"), body
    assert (await raw(provider, asked("sim-chat"), path="/v1/chat/completions", headers="Bad Header\r\n")).startswith(b"HTTP/1.1 400")


# faults, byte by byte ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "stream", "ends"),
    [
        ("sim-reset", False, b"<ConnectionResetError>"),
        ("sim-close", False, b""),
        ("sim-stall-headers", True, b"<TimeoutError>"),
        ("sim-garbage", False, b"\x00\x01\x02 this is not HTTP \xff\r\n\r\n"),
    ],
)
async def test_no_answer_at_all(provider: Simulator, model: str, stream: bool, ends: bytes) -> None:
    assert await raw(provider, asked(model, stream=stream)) == ends
    assert provider.served.outcomes == {"fault": 1}


async def test_a_stalled_stream_and_a_stalled_body(provider: Simulator) -> None:
    received = await raw(provider, asked("sim-stall?after=2", stream=True))
    chunks, ended = dechunked(received)
    assert (len(chunks), ended) == (3, False)
    assert received.endswith(b"<TimeoutError>")
    received = await raw(provider, asked("sim-stall"))
    assert received.startswith(b"HTTP/1.1 200")
    assert received.endswith(b"\r\n\r\n<TimeoutError>")


@pytest.mark.parametrize(("option", "ends"), [("", b""), ("&reset=1", b"<ConnectionResetError>")])
async def test_a_cut_stream_and_a_cut_body(provider: Simulator, option: str, ends: bytes) -> None:
    received = await raw(provider, asked("sim-cut?after=2" + option, stream=True), headers="x-request-id: cut\r\n")
    chunks, ended = dechunked(received)
    assert (len(chunks), ended, chunks[-1].endswith(b"\n\n")) == (4, False, False)
    assert received.endswith(ends)
    entry = provider.served.report("cut")["served"]["cut"]
    assert (entry["outcome"], entry["sent"], entry["reported"]) == ("fault", 2, False)
    head, body = (await raw(provider, asked("sim-cut" + option.replace("&", "?")))).split(b"\r\n\r\n", 1)
    assert int(head.split(b"content-length: ")[1].split(b"\r\n")[0]) > len(body.removesuffix(ends))


async def test_bad_json_and_bad_utf8(provider: Simulator, client: openai.AsyncOpenAI) -> None:
    body = (await raw(provider, asked("sim-badjson"))).split(b"\r\n\r\n", 1)[1]
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)
    chunks, ended = dechunked(await raw(provider, asked("sim-badjson", stream=True)))
    bad = [chunk for chunk in chunks if not is_json(chunk)]
    assert (ended, len(bad), chunks[-1]) == (True, 1, b"data: [DONE]\n\n")
    body = (await raw(provider, asked("sim-badutf8"))).split(b"\r\n\r\n", 1)[1]
    with pytest.raises(UnicodeDecodeError):
        body.decode()
    chunks, ended = dechunked(await raw(provider, asked("sim-badutf8", stream=True)))
    assert (ended, sum(b"\xff" in chunk for chunk in chunks)) == (True, 1)


def is_json(event: bytes) -> bool:
    payload = event.removeprefix(b"data: ").strip()
    try:
        return payload == b"[DONE]" or bool(json.loads(payload))
    except ValueError:
        return False


async def test_lengths_that_lie(provider: Simulator) -> None:
    for stream in (False, True):
        for model, difference in (("sim-short-length", -10), ("sim-long-length", 10)):
            received = await raw(provider, asked(model, stream=stream))
            head, body = received.split(b"\r\n\r\n", 1)
            assert int(head.split(b"content-length: ")[1].split(b"\r\n")[0]) - len(body) == difference


async def test_endings_of_a_stream(provider: Simulator) -> None:
    usage = {"include_usage": True}
    for model, done, finished, reported, ends in (
        ("sim-chat", True, True, True, True),
        ("sim-nodone", False, True, True, True),
        ("sim-nofinish", False, False, False, True),
        ("sim-hang-open", True, True, True, False),
        ("sim-nousage", True, True, False, True),
        ("sim-error-event", True, False, False, True),
    ):
        chunks, ended = dechunked(await raw(provider, asked(model, stream=True, stream_options=usage)))
        joined = b"".join(chunks)
        found = (b"[DONE]" in joined, b'"finish_reason":"' in joined, b'"total_tokens"' in joined, ended)
        assert found == (done, finished, reported, ends), model
    assert b'data: {"error":' in joined
    assert (await raw(provider, asked("sim-error-event"))).startswith(b"HTTP/1.1 500")


async def test_answers_of_another_kind(provider: Simulator) -> None:
    received = await raw(provider, asked("sim-json-stream", stream=True))
    assert b"content-type: application/json\r\n" in received
    received = await raw(provider, asked("sim-gzip"))
    assert json.loads(zlib.decompress(received.split(b"\r\n\r\n", 1)[1], 31))["object"] == "chat.completion"
    received = await raw(provider, asked("sim-cookie"))
    assert received.count(b"set-cookie: ") == 2
    assert b"openai-organization: " in received
    assert (await raw(provider, asked("sim-empty"))).endswith(b"content-length: 0\r\nconnection: close\r\n\r\n")
    assert (await raw(provider, asked("sim-redirect"))).startswith(b"HTTP/1.1 302")
    received = await raw(provider, asked("sim-no-length"))
    assert b"content-length" not in received
    assert json.loads(received.split(b"\r\n\r\n", 1)[1])["usage"]


async def test_every_fault_is_documented_and_answered(provider: Simulator) -> None:
    """No base is a mere name: each leads to bytes or to a broken connection, and to one closed entry of the account."""
    cases = [(base, stream) for base in behaviour.BASES for stream in (False, True)]
    await asyncio.gather(
        *(raw(provider, asked(base, stream=stream), headers=f"x-request-id: {base}-{stream}\r\n") for base, stream in cases)
    )
    found = provider.served.report()
    assert {name for name, entry in found["served"].items() if entry["outcome"] != "open"} == {f"{base}-{stream}" for base, stream in cases}
    assert (found["asked"], found["in_flight"]) == (len(cases), 0)


# the wire ------------------------------------------------------------------------------------------------------------------------------


async def test_http_1_0_gets_no_chunks_and_a_closed_connection(provider: Simulator) -> None:
    received = await raw(provider, asked("sim-chat", stream=True), version="1.0")
    head, body = received.split(b"\r\n\r\n", 1)
    assert b"chunked" not in head
    assert body.endswith(b"data: [DONE]\n\n")
    assert (await raw(provider, asked("sim-chat"), version="1.0")).endswith(b"}")


async def test_pipelined_requests_are_answered_in_order(provider: Simulator) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(provider))
    for model in ("sim-chat?latency=60&tokens=1", "sim-chat?tokens=2", "sim-chat?tokens=3"):
        body = json.dumps({"model": model, "messages": MESSAGES}).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nAuthorization: Bearer sk-test\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    found = []
    for _ in range(3):
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        found.append(json.loads(body)["usage"]["completion_tokens"])
    assert found == [1, 2, 3]
    writer.close()


async def test_latency_and_rate_pace_an_answer(client: openai.AsyncOpenAI) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    stream = await client.chat.completions.create(model="sim-chat?latency=100&rate=50&tokens=10", messages=MESSAGES, stream=True)
    assert loop.time() - began >= 0.1
    times = [loop.time() async for _ in stream]
    assert times[-1] - times[0] >= 0.17
    began = loop.time()
    await client.chat.completions.create(model="sim-chat?rate=50&tokens=10", messages=MESSAGES)
    assert loop.time() - began >= 0.2


async def test_a_client_that_reads_nothing_holds_up_its_stream_only(provider: Simulator, client: openai.AsyncOpenAI) -> None:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port_of(provider)))
    body = json.dumps({"model": "sim-chat?tokens=3000000", "messages": MESSAGES, "stream": True}).encode()
    sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nAuthorization: Bearer sk-test\r\nContent-Type: application/json\r\n")
    sock.sendall(b"x-request-id: lazy\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    sent = -1
    while (now := provider.served.report("lazy")["served"].get("lazy", {}).get("sent", -1)) != sent or now < 1:
        sent = now
        await client.chat.completions.create(model="sim-chat", messages=MESSAGES)
    assert 0 < sent < 200_000
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    await until(lambda: not provider.served.in_flight)
    entry = provider.served.report("lazy")["served"]["lazy"]
    assert (entry["outcome"], entry["completion_tokens"]) == ("aborted", 3_000_000)


# the account ---------------------------------------------------------------------------------------------------------------------------


async def test_the_account_over_http(client: openai.AsyncOpenAI, provider: Simulator) -> None:
    for name in ("a", "b", "b"):
        await client.chat.completions.create(model="sim-chat", messages=MESSAGES, extra_headers={"x-request-id": name})
    await client.chat.completions.create(model="sim-chat", messages=MESSAGES)
    report: Any = await client.get("/_served", cast_to=object)
    assert (report["asked"], report["in_flight"], report["outcomes"]) == (4, 0, {"complete": 4})
    assert {key: entry["times"] for key, entry in report["served"].items()} == {"a": 1, "b": 2, "sim-request-1": 1}
    one: Any = await client.get("/_served?id=b", cast_to=object)
    assert list(one["served"]) == ["b"]
    await client.post("/_reset", cast_to=object)
    report = await client.get("/_served", cast_to=object)
    assert (report["asked"], report["served"], report["outcomes"]) == (0, {}, {})


async def test_the_ledger_has_a_line_for_each_outcome(client: openai.AsyncOpenAI, provider: Simulator, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    await client.chat.completions.create(model="sim-chat", messages=MESSAGES, extra_headers={"x-request-id": "whole"})
    with pytest.raises(openai.RateLimitError):
        await client.chat.completions.create(model="sim-429", messages=MESSAGES, extra_headers={"x-request-id": "refused"})
    stream = await client.chat.completions.create(
        model="sim-chat?rate=20&tokens=1000", messages=MESSAGES, stream=True, extra_headers={"x-request-id": "left"}
    )
    await anext(aiter(stream))
    assert "left" not in simulator.read_ledger(ledger)
    assert provider.served.report("left")["served"]["left"]["outcome"] == "open"
    await stream.close()
    await until(lambda: not provider.served.in_flight)
    with ledger.open("ab") as file:
        file.write(b'{"id":"torn')
    found = simulator.read_ledger(ledger)
    assert {key: entry.outcome for key, entry in found.items()} == {"whole": "complete", "refused": "refused", "left": "aborted"}
    assert (found["whole"].prompt_tokens, found["whole"].completion_tokens) == (PROMPT_TOKENS, 16)


async def test_what_a_client_has_in_full_is_in_the_ledger(client: openai.AsyncOpenAI, tmp_path: Path) -> None:
    """Looked up at the very moment at which the terminal event arrives."""
    for index in range(30):
        name = f"id-{index}"
        stream = await client.chat.completions.create(
            model="sim-chat", messages=MESSAGES, stream=True, extra_headers={"x-request-id": name}
        )
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].finish_reason:
                assert simulator.read_ledger(tmp_path / "ledger.jsonl")[name].outcome == "complete"


async def test_closing_breaks_off_what_is_in_flight(tmp_path: Path) -> None:
    running = await simulator.start(ledger=tmp_path / "ledger")
    task = asyncio.create_task(raw(running, asked("sim-chat?latency=100000"), headers="x-request-id: waiting\r\n"))
    await until(lambda: running.served.in_flight == 1)
    await running.close()
    assert await task in (b"", b"<ConnectionResetError>")
    assert simulator.read_ledger(tmp_path / "ledger")["waiting"].outcome == "aborted"
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port_of(running))
