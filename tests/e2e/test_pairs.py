"""Every client's dialect before every provider's, streamed and not: the same question has the same answer.

What clients write and accept is in ``speaking``, what providers write and accept in the simulator; neither shares code with dwctl.
"""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dwctl.simulator import script
from tests.appliance import KEY, PRICE, Appliance, Simulator, running, setup, until
from tests.e2e.speaking import PIXEL, SPEAKERS, TOOLS, Said

DIALECTS = tuple(SPEAKERS)
BEHAVIOURS = {
    "text": "sim-chat?tokens=9",
    "tools": "sim-chat?calls=2&preface=3&interleaved=1",
    "image": "sim-chat?tokens=9",
    "reasoning": "sim-chat?thinking=4&tokens=9",
    "schema": "sim-chat",
    "refusal": "sim-chat?refusal=1",
    "length": "sim-chat?tokens=60",
    "unfinished": "sim-chat?calls=1&unfinished=1&rate=100",
    "busy": "sim-503",
    "limited": "sim-429?retry_after=7",
    "bad": "sim-400",
    "breaks": "sim-error-event?rate=100&tokens=20",
    "ends": "sim-nofinish?rate=100&tokens=20&after=12",
    "wrong": "sim-wrong-dialect",
    "embedded": "sim-error-200",
    "html": "sim-html",
    "empty": "sim-empty",
    "json": "sim-json-stream?tokens=9",
    "crlf": "sim-crlf?tokens=9",
    "split": "sim-chat?tokens=9&thinking=2&split=1",
}
PAIRS = [(client, provider) for client in DIALECTS for provider in DIALECTS]
MODES = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
EVERY_PAIR = pytest.mark.parametrize(("client", "provider"), PAIRS, ids=[f"{client}>{provider}" for client, provider in PAIRS])


@dataclass
class Stage:
    appliance: Appliance
    simulator: Simulator
    http: aiohttp.ClientSession

    async def ask(self, client: str, provider: str, feature: str, stream: bool) -> tuple[int, dict[str, str], bytes]:
        speaker = SPEAKERS[client]
        body = speaker.request(f"{provider}-{feature}", feature, stream)
        async with self.http.post(self.appliance.url + speaker.path, json=body) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.read()

    async def said(self, client: str, provider: str, feature: str, stream: bool) -> tuple[Said, str]:
        """The answer, which is one of the client's dialect, and the request's id."""
        status, headers, body = await self.ask(client, provider, feature, stream)
        assert status == 200, body
        speaker = SPEAKERS[client]
        if not stream:
            assert headers["content-type"].startswith("application/json")
            said = _ollama(body) if client == provider == "ollama" else speaker.whole(json.loads(body))
            return said, headers["x-request-id"]
        assert headers["content-type"] == ("application/x-ndjson" if client == "ollama" else "text/event-stream; charset=utf-8")
        if client == provider:
            return _own(client, body), headers["x-request-id"]
        return speaker.streamed(body), headers["x-request-id"]

    async def arrived(self, request_id: str) -> dict[str, Any]:
        """The body that the provider was sent."""
        async with self.http.get(f"{self.simulator.url.removesuffix('/v1')}/_requests?id={request_id}") as answer:
            [request] = (await answer.json())["requests"]
        found: dict[str, Any] = json.loads(request["body"])
        return found

    def row(self, request_id: str) -> dict[str, Any]:
        """The request's record, once it is there."""

        def found() -> Any:
            with sqlite3.connect(self.appliance.data_dir / "dwctl.db") as database:
                database.row_factory = sqlite3.Row
                return database.execute("SELECT * FROM requests WHERE id = ?", (request_id,)).fetchone()

        return dict(until(found, 10, "the record"))


def _own(client: str, body: bytes) -> Said:
    """A stream that passed as the provider wrote it, whose ways are its own: what its last words say is enough."""
    if client == "openai-responses":
        last = json.loads(body.decode().removesuffix("data: [DONE]\n\n").rstrip().rpartition("data: ")[2])
        return SPEAKERS[client].whole(last["response"])
    if client == "anthropic":
        return _anthropic(body)
    if client == "ollama":
        return _ollama(body)
    said = Said()
    calls: dict[int, list[str]] = {}
    for event in body.decode().replace("\r\n", "\n").split("\n\n"):
        data = "".join(line.partition(":")[2] for line in event.split("\n") if line.startswith("data:")).strip()
        if not data or data == "[DONE]":
            continue
        chunk = json.loads(data)
        if chunk.get("usage"):
            said.tokens = chunk["usage"]["prompt_tokens"], chunk["usage"]["completion_tokens"]
        for choice in chunk["choices"]:
            delta = choice["delta"]
            said.text += (delta.get("content") or "") + (delta.get("refusal") or "")
            said.reasoning += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls", []):
                known = calls.setdefault(call["index"], [call.get("function", {}).get("name", ""), ""])
                known[1] += call["function"].get("arguments", "")
            finish = choice["finish_reason"]
            said.finish = {"stop": "stop", "length": "length", "tool_calls": "tools", "content_filter": "refusal"}.get(finish, said.finish)
    said.calls = [(name, json.loads(arguments)) for name, arguments in calls.values()]
    return said


def _anthropic(body: bytes) -> Said:
    message: dict[str, Any] = {}
    partial: dict[int, str] = {}
    for event in body.decode().replace("\r\n", "\n").split("\n\n"):
        data = "".join(line.partition(":")[2] for line in event.split("\n") if line.startswith("data:")).strip()
        if not data:
            continue
        value = json.loads(data)
        match value["type"]:
            case "message_start":
                message = value["message"]
            case "content_block_start":
                message["content"].append(value["content_block"])
            case "content_block_delta":
                block, delta = message["content"][value["index"]], value["delta"]
                for name in ("text", "thinking"):
                    if name in delta:
                        block[name] += delta[name]
                partial[value["index"]] = partial.get(value["index"], "") + delta.get("partial_json", "")
            case "message_delta":
                message |= value["delta"]
                message["usage"] |= value["usage"]
    for index, text in partial.items():
        if text:
            message["content"][index]["input"] = json.loads(text)
    return SPEAKERS["anthropic"].whole(message)


def _ollama(body: bytes) -> Said:
    said = Said()
    for line in body.splitlines():
        message = json.loads(line)
        said.text += message["message"].get("content", "")
        said.reasoning += message["message"].get("thinking", "")
        said.calls += [(call["function"]["name"], call["function"]["arguments"]) for call in message["message"].get("tool_calls", [])]
        if message["done"]:
            said.tokens = message["prompt_eval_count"], message["eval_count"]
            said.finish = "length" if message["done_reason"] == "length" else "tools" if said.calls else "stop"
    return said


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Appliance, Simulator]]:
    directory: Path = tmp_path_factory.mktemp("pairs")

    def document(url: str) -> dict[str, Any]:
        models = [
            {"alias": f"{dialect}-{name}", "endpoint": dialect, "model_name": behaviour, "groups": ["Everyone"], "prices": [PRICE]}
            for dialect in DIALECTS
            for name, behaviour in BEHAVIOURS.items()
        ]
        endpoints = [{"name": dialect, "url": url, "api_key": "provider-key", "dialect": dialect} for dialect in DIALECTS]
        return {**setup(url, models), "endpoints": endpoints}

    with running(directory, document) as programs:
        yield programs


@pytest.fixture
async def stage(programs: tuple[Appliance, Simulator]) -> AsyncIterator[Stage]:
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as http:
        yield Stage(*programs, http)


@MODES
@EVERY_PAIR
async def test_text(stage: Stage, client: str, provider: str, stream: bool) -> None:
    said, request_id = await stage.said(client, provider, "text", stream)
    expected, _ = await stage.said("openai-chat", "openai-chat", "text", False)
    assert said == expected
    row = await asyncio.to_thread(stage.row, request_id)
    assert (row["outcome"], row["uncached_input"], row["output"]) == ("complete", *said.tokens)
    assert row["charge_nano"] == said.tokens[0] * 2500 + said.tokens[1] * 10_000


@MODES
@EVERY_PAIR
async def test_parallel_tools(stage: Stage, client: str, provider: str, stream: bool) -> None:
    said, _ = await stage.said(client, provider, "tools", stream)
    expected, _ = await stage.said("openai-chat", "openai-chat", "tools", False)
    assert [name for name, _ in said.calls] == list(TOOLS)
    assert said == expected


@MODES
@EVERY_PAIR
async def test_an_image_reaches_the_model(stage: Stage, client: str, provider: str, stream: bool) -> None:
    _, request_id = await stage.said(client, provider, "image", stream)
    assert PIXEL in json.dumps(await stage.arrived(request_id))


@MODES
@EVERY_PAIR
async def test_reasoning(stage: Stage, client: str, provider: str, stream: bool) -> None:
    said, _ = await stage.said(client, provider, "reasoning", stream)
    expected, _ = await stage.said("openai-chat", "openai-chat", "reasoning", False)
    if (client, provider) != ("openai-chat", "openai-responses"):  # who shows nothing to those who cannot ask for it
        assert said.reasoning == expected.reasoning != ""
    assert (said.text, said.finish, said.tokens) == (expected.text, expected.finish, expected.tokens)


@MODES
@EVERY_PAIR
async def test_structured_output(stage: Stage, client: str, provider: str, stream: bool) -> None:
    said, _ = await stage.said(client, provider, "schema", stream)
    assert json.loads(said.text).keys() == {"city"}


@MODES
@EVERY_PAIR
async def test_refusal(stage: Stage, client: str, provider: str, stream: bool) -> None:
    said, _ = await stage.said(client, provider, "refusal", stream)
    assert said.text
    if "ollama" not in (client, provider):  # which has no word for it
        assert said.finish == "refusal"


@MODES
@EVERY_PAIR
async def test_length(stage: Stage, client: str, provider: str, stream: bool) -> None:
    said, _ = await stage.said(client, provider, "length", stream)
    assert said.finish == "length"
    assert said.text


@MODES
@EVERY_PAIR
@pytest.mark.parametrize("feature", ["busy", "limited", "bad"])
async def test_an_error_before_the_first_byte(stage: Stage, client: str, provider: str, stream: bool, feature: str) -> None:
    status, headers, body = await stage.ask(client, provider, feature, stream)
    assert status == {"busy": 503, "limited": 429, "bad": 400}[feature]
    assert headers["content-type"] == "application/json"
    if client != provider:
        assert SPEAKERS[client].refusal(json.loads(body))
    if feature == "limited":
        assert headers["retry-after"] == "7"


@EVERY_PAIR
@pytest.mark.parametrize("feature", ["breaks", "ends", "unfinished"])
async def test_an_error_after_the_first_byte_is_never_a_clean_end(stage: Stage, client: str, provider: str, feature: str) -> None:
    if feature == "unfinished" and (client == provider or provider in ("ollama", "anthropic")):
        return  # passed on as it came; or arguments that are whole by their nature
    status, headers, body = await stage.ask(client, provider, feature, True)
    if status == 200:
        if client == provider:
            assert b'"error"' in body[-600:]
        else:
            said = SPEAKERS[client].streamed(body)
            assert said.error
            assert said.finish == ""
    else:
        assert status >= 500
        assert SPEAKERS[client].refusal(json.loads(body))
    row = await asyncio.to_thread(stage.row, headers["x-request-id"])
    assert row["outcome"] in ("interrupted", "failed")


@EVERY_PAIR
async def test_an_answer_that_breaks_off_costs_what_was_written(stage: Stage, client: str, provider: str) -> None:
    """Also where the provider said at the beginning what it had read, and would have said at the end what it wrote."""
    _, headers, _ = await stage.ask(client, provider, "ends", True)
    row = await asyncio.to_thread(stage.row, headers["x-request-id"])
    assert (row["outcome"], row["estimated"]) == ("interrupted", 1)
    assert row["output"] >= 10  # of about 12
    assert row["charge_nano"] >= 10 * 10_000


@MODES
@EVERY_PAIR
@pytest.mark.parametrize("feature", ["wrong", "embedded", "html", "empty"])
async def test_what_is_no_answer_is_a_502_and_recorded_with_what_came_back(
    stage: Stage, client: str, provider: str, stream: bool, feature: str
) -> None:
    status, headers, body = await stage.ask(client, provider, feature, stream)
    if client == provider and stream and feature == "embedded":
        assert status in (200, 502)  # the provider's own event passes
    else:
        assert status == 502, body
        assert SPEAKERS[client].refusal(json.loads(body))
    row = await asyncio.to_thread(stage.row, headers["x-request-id"])
    assert row["outcome"] == "failed"
    assert "the provider" in row["explanation"] or feature == "html"


@EVERY_PAIR
@pytest.mark.parametrize("feature", ["json", "crlf", "split"])
async def test_streams_that_providers_frame_in_their_own_way(stage: Stage, client: str, provider: str, feature: str) -> None:
    if client == provider and feature == "crlf":
        return  # passed on byte for byte
    said, _ = await stage.said(client, provider, feature, True)
    expected, _ = await stage.said("openai-chat", "openai-chat", feature, False)
    assert (said.text, said.finish, said.tokens) == (expected.text, expected.finish, expected.tokens)
    if provider != "openai-responses":  # who shows thoughts to those only who ask for them
        assert said.reasoning == expected.reasoning


@pytest.mark.parametrize("provider", DIALECTS)
async def test_a_chat_stream_tells_usage_to_nobody_who_did_not_ask(stage: Stage, provider: str) -> None:
    body = {"model": f"{provider}-text", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    async with stage.http.post(f"{stage.appliance.url}/v1/chat/completions", json=body) as answer:
        sent = await answer.text()
    chunks = [json.loads(line.removeprefix("data: ")) for line in sent.splitlines() if line.startswith("data: {")]
    assert chunks
    assert all(chunk["choices"] and not chunk.get("usage") for chunk in chunks)
    row = await asyncio.to_thread(stage.row, answer.headers["x-request-id"])
    assert (row["uncached_input"], row["output"]) == (1, 9)


@pytest.mark.parametrize("provider", DIALECTS)
async def test_a_chat_as_items_without_a_type(stage: Stage, provider: str) -> None:
    items = [
        {"role": role, "content": text} for role, text in (("system", "Be brief."), ("user", "Hi"), ("assistant", "Hi."), ("user", "Now?"))
    ]
    body = {"model": f"{provider}-text", "input": items, "stream": False, "service_tier": "flex"}
    async with stage.http.post(f"{stage.appliance.url}/v1/responses", json=body) as answer:
        said = SPEAKERS["openai-responses"].whole(await answer.json())
    assert said.text == script.text(script.seed("Now?"), 9)
    assert said.tokens == (5, 9)


def test_nothing_is_left(programs: tuple[Appliance, Simulator]) -> None:
    assert until(lambda: not programs[0].in_flight(), 10, "requests under way") is True
