"""Ollama's SDK, with providers of every dialect."""

import base64
import json
from typing import Any

import ollama
import pytest

from dwctl.dialects.names import DIALECTS
from dwctl.simulator.answers import vector
from dwctl.simulator.script import REFUSAL
from tests.appliance import KEY
from tests.e2e.sdks import PNG, TOOLS, Sdks, Weather, said, thought

everywhere = pytest.mark.parametrize("provider", DIALECTS)
streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

LAST = "What is it like outside?"
ASK: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": LAST}]
FUNCTIONS: list[Any] = [{"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in TOOLS.items()]


@pytest.fixture(params=["", "/ai"])
def client(sdks: Sdks, request: pytest.FixtureRequest) -> ollama.Client:
    return sdks.ollama(request.param)


def chat(client: ollama.Client, stream: bool, **asked: Any) -> Any:
    """An answer, told at once or put together from its stream."""
    if not stream:
        return client.chat(**asked)
    parts = list(client.chat(**asked, stream=True))
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    whole = parts[-1].model_copy(deep=True)
    whole.message.content = "".join(part.message.content or "" for part in parts)
    whole.message.thinking = "".join(part.message.thinking or "" for part in parts) or None
    whole.message.tool_calls = [call for part in parts for call in part.message.tool_calls or []] or None
    return whole


@everywhere
@streamed
def test_text(client: ollama.Client, provider: str, stream: bool) -> None:
    answer = chat(client, stream, model=f"plain.{provider}", messages=ASK)
    assert (answer.message.role, answer.message.content) == ("assistant", said(LAST))
    assert (answer.done, answer.done_reason) == (True, "stop")
    assert (answer.prompt_eval_count, answer.eval_count) == (7, 16)


@everywhere
def test_a_line_of_ollamas_documentation(sdks: Sdks, provider: str) -> None:
    """`curl http://localhost:11434/api/generate -d '{...}'`, whose body curl calls a form."""
    body = json.dumps({"model": f"plain.{provider}", "prompt": LAST, "stream": False}).encode()
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/x-www-form-urlencoded"}
    answer = sdks.http().post("/api/generate", content=body, headers=headers)
    assert answer.json()["response"] == said(LAST)


@everywhere
@streamed
def test_length(client: ollama.Client, provider: str, stream: bool) -> None:
    answer = chat(client, stream, model=f"long.{provider}", messages=ASK, options={"num_predict": 20})
    assert (answer.message.content, answer.done_reason, answer.eval_count) == (said(LAST, 20), "length", 20)


@everywhere
@streamed
@pytest.mark.parametrize("model", ["tool", "tools"])
def test_tools_and_their_results(client: ollama.Client, provider: str, stream: bool, model: str) -> None:
    answer = chat(client, stream, model=f"{model}.{provider}", messages=ASK, tools=FUNCTIONS)
    called = [(call.function.name, dict(call.function.arguments)) for call in answer.message.tool_calls]
    assert called == [("get_weather", {"city": LAST, "days": 1}), ("get_time", {"zone": f"{LAST} 2"})][: len(called)]
    assert len(called) == (2 if model == "tools" else 1)
    results = [{"role": "tool", "tool_name": name, "content": f"result {n}"} for n, (name, _) in enumerate(called)]
    more = chat(client, stream, model=f"{model}.{provider}", messages=[*ASK, answer.message, *results], tools=FUNCTIONS)
    assert more.message.content == said(f"result {len(called) - 1}")


@everywhere
def test_a_picture(sdks: Sdks, client: ollama.Client, provider: str) -> None:
    ask = [{"role": "user", "content": LAST, "images": [base64.b64decode(PNG)]}]
    assert client.chat(model=f"plain.{provider}", messages=ask).message.content == said(LAST)
    assert PNG in json.dumps(sdks.asked()[-1])


@everywhere
@streamed
def test_thinking(client: ollama.Client, provider: str, stream: bool) -> None:
    message = chat(client, stream, model=f"thinks.{provider}", messages=ASK, think=True).message
    assert (message.thinking, message.content) == (thought(LAST), said(LAST, 11))
    message = chat(client, stream, model=f"thinks.{provider}", messages=ASK, think=False).message
    assert message.thinking is None


@everywhere
@streamed
def test_a_structured_answer(client: ollama.Client, provider: str, stream: bool) -> None:
    answer = chat(client, stream, model=f"plain.{provider}", messages=ASK, format=Weather.model_json_schema())
    assert Weather.model_validate_json(answer.message.content) == Weather(city=LAST, degrees=1, windy=True)


@everywhere
@streamed
def test_a_refusal(client: ollama.Client, provider: str, stream: bool) -> None:
    assert chat(client, stream, model=f"refuses.{provider}", messages=ASK).message.content.startswith(REFUSAL)


@everywhere
@streamed
def test_usage(client: ollama.Client, provider: str, stream: bool) -> None:
    answer = chat(client, stream, model=f"classes.{provider}", messages=ASK)
    assert (answer.prompt_eval_count, answer.eval_count) == (100, 16)


@everywhere
@streamed
def test_generate(client: ollama.Client, provider: str, stream: bool) -> None:
    asked: dict[str, Any] = {"model": f"plain.{provider}", "system": "Be brief.", "prompt": LAST}
    parts = list(client.generate(**asked, stream=True)) if stream else [client.generate(**asked)]
    assert "".join(part.response or "" for part in parts) == said(LAST)
    assert (parts[-1].done, parts[-1].prompt_eval_count, parts[-1].eval_count) == (True, 7, 16)


@everywhere
@streamed
def test_a_model_that_is_loaded_is_asked_nothing(sdks: Sdks, client: ollama.Client, provider: str, stream: bool) -> None:
    """Nobody but Ollama hears of it; what it costs is in the account."""
    before, model = len(sdks.simulator.served()), f"plain.{provider}"

    def told(answer: Any) -> Any:
        [one] = answer if stream else [answer]
        return one

    for reason, fields in (("load", {}), ("load", {"keep_alive": "10m"}), ("unload", {"keep_alive": 0})):
        asked: Any = {"model": model, "stream": stream, **fields}
        for answer in (told(client.generate(**asked)), told(client.generate(**asked, system="Be brief."))):
            assert (answer.done, answer.done_reason, answer.response) == (True, reason, "")
        answer = told(client.chat(**asked, messages=[]))
        assert (answer.done, answer.done_reason, answer.message.role, answer.message.content) == (True, reason, "assistant", "")
    assert len(sdks.simulator.served()) - before == (9 if provider == "ollama" else 0)


@pytest.mark.parametrize("provider", ["openai-chat", "openai-responses", "ollama"])
def test_embed(client: ollama.Client, provider: str) -> None:
    answer = client.embed(model=f"embed.{provider}", input=["one", "two words"])
    assert [list(numbers) for numbers in answer.embeddings] == [vector("one", 16), vector("two words", 16)]
    assert answer.prompt_eval_count == 3
    assert [list(numbers) for numbers in client.embed(model=f"embed.{provider}", input="one").embeddings] == [vector("one", 16)]


def test_nobody_embeds_with_anthropic(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        client.embed(model="embed.anthropic", input="one")
    assert (caught.value.status_code, "embed.anthropic" in caught.value.error) == (400, True)


def test_models(client: ollama.Client, sdks: Sdks) -> None:
    names = [entry.model for entry in client.list().models]
    assert "plain.anthropic" in names
    assert "private" not in names
    assert client.show("plain.anthropic").capabilities
    with pytest.raises(ollama.ResponseError) as caught:
        client.show("private")
    assert caught.value.status_code == 404


@everywhere
def test_errors(client: ollama.Client, sdks: Sdks, provider: str) -> None:
    def refusal(name: str, stream: bool = False, **asked: Any) -> ollama.ResponseError:
        with pytest.raises(ollama.ResponseError) as caught:
            chat(client, stream, **{"model": f"{name}.{provider}", "messages": ASK} | asked)
        assert caught.value.error
        assert not caught.value.error.startswith("{")
        return caught.value

    for stream in (False, True):
        assert refusal("missing", stream).status_code == 404
        assert refusal("limited", stream).status_code == 429
        assert refusal("broken", stream).status_code == 500
        assert refusal("busy", stream).status_code == 503
        assert refusal("locked", stream).status_code == 502
    assert "num_predict" in refusal("plain", options={"num_predict": "many"}).error
    with pytest.raises(ollama.ResponseError) as caught:
        sdks.ollama(key="sk-unknown").chat(model=f"plain.{provider}", messages=ASK)
    assert caught.value.status_code == 403


@everywhere
@pytest.mark.parametrize("model", ["failing", "failed", "cut"])
def test_an_error_in_the_midst_of_a_stream(client: ollama.Client, provider: str, model: str) -> None:
    heard: list[str] = []
    parts = client.chat(model=f"{model}.{provider}", messages=ASK, stream=True)
    with pytest.raises(ollama.ResponseError) as caught:
        heard.extend(part.message.content or "" for part in parts)
    assert "".join(heard) == said(LAST, 3)
    assert caught.value.error


def test_the_account(sdks: Sdks) -> None:
    sdks.check_account()
