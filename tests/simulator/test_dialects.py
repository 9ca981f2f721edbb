"""What the four dialects have in common: the same answer, whole and as a stream, the same faults, the same account."""

import json
from typing import Any

import aiohttp
import pytest

from dwctl.simulator import Simulator, behaviour, script
from tests.simulator.asking import BODIES, DIALECTS, PATHS, PROMPT_TOKENS, TEXT, ask, events, post, question

START = script.seed(TEXT)
WORDS = script.text(START, 16)
THOUGHT = script.text(START + script.THINKING, 5)
STOPS = {
    "stop": {"chat": "stop", "responses": "completed", "anthropic": "end_turn", "ollama": "stop"},
    "length": {"chat": "length", "responses": "max_output_tokens", "anthropic": "max_tokens", "ollama": "length"},
    "calls": {"chat": "tool_calls", "responses": "completed", "anthropic": "tool_use", "ollama": "stop"},
    "refusal": {"chat": "content_filter", "responses": "completed", "anthropic": "refusal", "ollama": "stop"},
}
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
EACH = pytest.mark.parametrize("dialect", DIALECTS)


@EACH
@BOTH
async def test_a_text_and_its_usage(provider: Simulator, dialect: str, stream: bool) -> None:
    said = await ask(provider, dialect, question(dialect, "sim-chat", stream=stream), {"x-request-id": "one"})
    assert (said.text, said.stop, said.usage) == (WORDS, STOPS["stop"][dialect], (PROMPT_TOKENS, 16))
    entry = provider.served.report("one")["served"]["one"]
    assert (entry["outcome"], entry["prompt_tokens"], entry["completion_tokens"], entry["sent"]) == ("complete", PROMPT_TOKENS, 16, 16)
    assert (entry["reported"], entry["stream"], entry["status"]) == (True, stream, 200)


@EACH
@BOTH
async def test_thinking_comes_first_and_counts(provider: Simulator, dialect: str, stream: bool) -> None:
    said = await ask(provider, dialect, question(dialect, "sim-chat?thinking=5&reasoning=2", stream=stream), {"x-request-id": "one"})
    assert (said.thinking, said.text, said.usage) == (THOUGHT, script.text(START, 9), (PROMPT_TOKENS, 16))
    assert provider.served.report("one")["served"]["one"]["reasoning_tokens"] == 7


@EACH
@BOTH
async def test_calls_whose_arguments_are_known_beforehand(provider: Simulator, dialect: str, stream: bool) -> None:
    said = await ask(provider, dialect, question(dialect, "sim-chat?calls=3&thinking=5", stream=stream, tools=2))
    expected = [({"city": TEXT}, 1), ({"city": f"{TEXT} 2"}, 2), ({"city": f"{TEXT} 3"}, 3)]
    assert [name for _, name, _ in said.calls] == ["tool_0", "tool_1", "tool_0"]
    assert [json.loads(arguments) for _, _, arguments in said.calls] == [{**city, "days": days} for city, days in expected]
    assert len({identity for identity, _, _ in said.calls}) == 3
    assert (said.text, said.thinking, said.stop, said.usage) == ("", THOUGHT, STOPS["calls"][dialect], (PROMPT_TOKENS, 16))


@EACH
@BOTH
async def test_text_before_a_call(provider: Simulator, dialect: str, stream: bool) -> None:
    said = await ask(provider, dialect, question(dialect, "sim-tool?preface=4", stream=stream, tools=1))
    assert (said.text, len(said.calls)) == (script.text(START, 4), 1)


@EACH
@BOTH
async def test_a_limit_ends_the_text(provider: Simulator, dialect: str, stream: bool) -> None:
    said = await ask(provider, dialect, question(dialect, "sim-chat?tokens=50", stream=stream, limit=20))
    assert (said.text, said.stop, said.usage) == (script.text(START, 20), STOPS["length"][dialect], (PROMPT_TOKENS, 20))


@EACH
@BOTH
async def test_a_refusal(provider: Simulator, dialect: str, stream: bool) -> None:
    said = await ask(provider, dialect, question(dialect, "sim-chat?refusal=1", stream=stream))
    shown = said.refusal if dialect in ("chat", "responses") else said.text
    assert (shown, said.stop, said.usage) == (script.REFUSAL, STOPS["refusal"][dialect], (PROMPT_TOKENS, 8))


SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "kind": {"enum": ["b", "c"]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
        "inner": {"type": "object", "properties": {"on": {"type": "boolean"}}, "additionalProperties": False},
    },
    "additionalProperties": False,
    "$defs": {"tag": {"type": "string"}},
}
FORMATS: dict[str, Any] = {
    "chat": {"response_format": {"type": "json_schema", "json_schema": {"name": "trip", "schema": SCHEMA}}},
    "responses": {"text": {"format": {"type": "json_schema", "name": "trip", "schema": SCHEMA}}},
    "anthropic": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    "ollama": {"format": SCHEMA},
}  # fmt: skip


@EACH
@BOTH
async def test_an_answer_that_fits_a_schema(provider: Simulator, dialect: str, stream: bool) -> None:
    said = await ask(provider, dialect, question(dialect, "sim-chat", stream=stream, **FORMATS[dialect]))
    assert json.loads(said.text) == {"city": TEXT, "kind": "b", "tags": [TEXT], "inner": {"on": True}}
    assert said.usage == (PROMPT_TOKENS, len(script.pieces(said.text)))


@pytest.mark.parametrize("dialect", ["chat", "anthropic", "ollama"])
@BOTH
async def test_a_stop_sequence_ends_the_text_where_it_occurs(provider: Simulator, dialect: str, stream: bool) -> None:
    stop = script.token(START, 5)
    more: dict[str, Any] = {
        "chat": {"stop": [stop]},
        "anthropic": {"stop_sequences": ["no", stop]},
        "ollama": {"options": {"stop": [stop]}},
    }
    said = await ask(provider, dialect, question(dialect, "sim-chat", stream=stream, **more[dialect]))
    assert said.text == script.text(START, 5)
    assert said.stop == {"chat": "stop", "anthropic": "stop_sequence", "ollama": "stop"}[dialect]
    assert said.usage == (PROMPT_TOKENS, 5)


@EACH
@BOTH
async def test_the_cache_is_counted_in_each_dialects_way(provider: Simulator, dialect: str, stream: bool) -> None:
    model = "sim-chat?input=1000&cached=600&cache_write=200&cache_write_1h=100"
    body = question(dialect, model, stream=stream)
    _, _, data = await post(provider, PATHS[dialect], body, {"x-request-id": "one"})
    entry = provider.served.report("one")["served"]["one"]
    assert (entry["prompt_tokens"], entry["cached_tokens"]) == (1000, 600)
    assert (entry["cache_write_tokens"], entry["cache_write_1h_tokens"]) == (200, 100)
    last: Any = events(dialect, data)[-1] if stream else json.loads(data)
    if dialect == "chat":
        assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 600, "cache_write_tokens": 300}
    elif dialect == "responses":
        details = (last["response"] if stream else last)["usage"]["input_tokens_details"]
        written = {"ttl_30m_tokens": 200, "ttl_12h_tokens": 100}
        assert details == {"cached_tokens": 600, "cache_write_tokens": 300, "cache_write_tokens_details": written}
    elif dialect == "anthropic":
        usage = events(dialect, data)[0]["message"]["usage"] if stream else last["usage"]
        assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]) == (100, 600, 300)
        assert usage["cache_creation"] == {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100}
    else:
        assert last["prompt_eval_count"] == 1000


# errors and faults ---------------------------------------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 503, 529])
async def test_an_error_status_in_the_dialects_envelope(provider: Simulator, dialect: str, status: int) -> None:
    got, headers, data = await post(provider, PATHS[dialect], question(dialect, f"sim-{status}"))
    body = json.loads(data)
    assert got == status
    assert ("retry-after" in headers) == (status in (429, 503))
    if dialect == "anthropic":
        assert (body["type"], set(body["error"])) == ("error", {"type", "message"})
        assert (body["request_id"][:4], headers["request-id"][:4]) == ("req_", "req_")
        if status == 529:
            assert body["error"] == {"type": "overloaded_error", "message": "Overloaded"}
    elif dialect == "ollama":
        assert list(body) == ["error"]
        assert isinstance(body["error"], str)
    else:
        assert set(body["error"]) == {"message", "type", "param", "code"}


@EACH
async def test_a_wrong_key_and_an_unknown_model(provider: Simulator, dialect: str) -> None:
    status, _, data = await post(provider, PATHS[dialect], question(dialect, "sim-chat"), {"authorization": "Bearer sk-wrong"})
    assert status == 401
    assert b"sk-wrong" not in data
    status, _, data = await post(provider, PATHS[dialect], question(dialect, "gpt-nobody"))
    assert status == (400 if dialect == "responses" else 404)
    assert b"gpt-nobody" in data


@EACH
async def test_an_error_in_the_midst_of_a_stream(provider: Simulator, dialect: str) -> None:
    _, _, data = await post(provider, PATHS[dialect], question(dialect, "sim-error-event", stream=True), {"x-request-id": "one"})
    if dialect == "chat":
        assert data.split(b"\n\n")[-3].startswith(b'data: {"error":{')
    elif dialect == "ollama":
        assert "error" in json.loads(data.splitlines()[-1])
    else:
        assert data.rsplit(b"event: ", 1)[1].startswith(b'error\ndata: {"type":"error"')
    entry = provider.served.report("one")["served"]["one"]
    assert (entry["outcome"], entry["sent"], entry["reported"]) == ("fault", 3, False)


@EACH
@BOTH
async def test_an_error_in_a_200(provider: Simulator, dialect: str, stream: bool) -> None:
    status, _, data = await post(provider, PATHS[dialect], question(dialect, "sim-error-200", stream=stream))
    assert status == 200
    assert b'"error"' in data
    assert WORDS.split()[0].encode() not in data
    status, _, data = await post(provider, PATHS[dialect], question(dialect, "sim-error-inside"))
    BODIES[dialect].validate_json(data)
    assert "error" in json.loads(data)


@EACH
@BOTH
async def test_an_answer_of_another_dialect(provider: Simulator, dialect: str, stream: bool) -> None:
    body = question(dialect, "sim-wrong-dialect", stream=stream)
    _, _, data = await post(provider, PATHS[dialect], body, {"x-request-id": "one"})
    assert (b'"chat.completion' in data) == (dialect != "chat")
    assert (b'"type":"message"' in data) == (dialect == "chat")
    assert provider.served.report("one")["served"]["one"]["outcome"] == "complete"


@EACH
async def test_a_stream_that_ends_within_the_arguments(provider: Simulator, dialect: str) -> None:
    body = question(dialect, "sim-nofinish?calls=1&after=4", stream=True, tools=1)
    _, _, data = await post(provider, PATHS[dialect], body, {"x-request-id": "one"})
    assert b"tool_0" in data
    assert TEXT.split()[-1].encode() not in data or dialect == "ollama"
    assert provider.served.report("one")["served"]["one"]["outcome"] == "fault"


@pytest.mark.parametrize("dialect", ["chat", "responses", "anthropic"])
async def test_arguments_that_are_not_json_though_the_answer_is_finished(provider: Simulator, dialect: str) -> None:
    said = await ask(provider, dialect, question(dialect, "sim-chat?calls=2&unfinished=1", stream=True, tools=1))
    assert json.loads(said.calls[0][2])
    with pytest.raises(json.JSONDecodeError):
        json.loads(said.calls[1][2])


@EACH
async def test_bad_json_and_bad_utf8_in_a_stream(provider: Simulator, dialect: str) -> None:
    _, _, data = await post(provider, PATHS[dialect], question(dialect, "sim-badjson", stream=True))
    payloads = [line.removeprefix(b"data: ") for line in data.splitlines() if line.startswith((b"data: ", b"{"))]
    assert sum(not _is_json(payload) for payload in payloads if payload != b"[DONE]") == 1
    _, _, data = await post(provider, PATHS[dialect], question(dialect, "sim-badutf8", stream=True))
    with pytest.raises(UnicodeDecodeError):
        data.decode()


def _is_json(payload: bytes) -> bool:
    try:
        json.loads(payload)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("dialect", ["responses", "anthropic", "ollama"])
async def test_every_fault_leads_to_one_closed_entry(provider: Simulator, dialect: str) -> None:
    """But those that wait for the client to leave, which are the same in every dialect."""
    silent = {"sim-stall", "sim-stall-headers", "sim-hang-open"}
    broken = {"sim-reset", "sim-close", "sim-cut", "sim-garbage", "sim-long-length", "sim-short-length", "sim-redirect"}
    for base in behaviour.BASES.keys() - silent - broken:
        for stream in (False, True):
            name = f"{base}-{stream}"
            await post(provider, PATHS[dialect], question(dialect, base, stream=stream), {"x-request-id": name})
            assert provider.served.report(name)["served"][name]["outcome"] != "open", name
    assert provider.served.in_flight == 0


async def test_the_last_requests_can_be_read_without_their_keys(provider: Simulator) -> None:
    for number, dialect in enumerate(DIALECTS):
        await post(provider, PATHS[dialect], question(dialect, "sim-chat"), {"x-request-id": f"id-{number}", "x-api-key": "sk-test"})
    async with aiohttp.ClientSession() as session, session.get(provider.url + "/_requests?id=id-2") as answer:
        [one] = (await answer.json())["requests"]
    assert (one["path"], json.loads(one["body"])) == ("/v1/messages", question("anthropic", "sim-chat"))
    headers = dict(one["headers"])
    assert headers["authorization"].startswith("sha256:")
    assert headers["x-api-key"].startswith("sha256:")
    assert headers["anthropic-version"] == "2023-06-01"
    assert "sk-test" not in json.dumps(one)
