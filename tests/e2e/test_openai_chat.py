"""Chat completions of the OpenAI SDK, with providers of every dialect."""

import base64
import json
import struct
from typing import Any

import openai
import pytest

from dwctl.dialects.names import DIALECTS
from dwctl.simulator.answers import vector
from dwctl.simulator.script import REFUSAL
from tests.e2e.sdks import PNG, TOOLS, Sdks, Weather, said, thought

everywhere = pytest.mark.parametrize("provider", DIALECTS)
streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

ASK: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is it like outside?"}]
LAST = "What is it like outside?"
FUNCTIONS: list[Any] = [{"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in TOOLS.items()]


@pytest.fixture
def client(sdks: Sdks) -> openai.OpenAI:
    return sdks.openai()


def complete(client: openai.OpenAI, stream: bool, **asked: Any) -> Any:
    """A completion, told at once or put together by the SDK from its stream."""
    if not stream:
        completions = client.chat.completions
        return completions.parse(**asked) if "response_format" in asked else completions.create(**asked)
    with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as answers:
        for _ in answers:
            pass
        return answers.get_final_completion()


@everywhere
@streamed
def test_text(client: openai.OpenAI, provider: str, stream: bool) -> None:
    answer = complete(client, stream, model=f"plain.{provider}", messages=ASK)
    assert answer.model == f"plain.{provider}" or provider == "openai-chat"
    assert [choice.message.content for choice in answer.choices] == [said(LAST)]
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 16, 23)


@everywhere
@streamed
def test_length(client: openai.OpenAI, provider: str, stream: bool) -> None:
    asked: dict[str, Any] = {"model": f"long.{provider}", "messages": ASK, "max_completion_tokens": 20}
    if stream:
        with pytest.raises(openai.LengthFinishReasonError) as caught:
            complete(client, stream, **asked)
        answer: Any = caught.value.completion
    else:
        answer = complete(client, stream, **asked)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (said(LAST, 20), "length")
    assert answer.usage.completion_tokens == 20


@everywhere
def test_chunks_without_usage(client: openai.OpenAI, provider: str) -> None:
    chunks = list(client.chat.completions.create(model=f"plain.{provider}", messages=ASK, stream=True))
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == said(LAST)


@everywhere
@streamed
def test_a_tool_and_its_result(client: openai.OpenAI, provider: str, stream: bool) -> None:
    answer = complete(client, stream, model=f"tool.{provider}", messages=ASK, tools=FUNCTIONS)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": LAST, "days": 1})
    turn = choice.message.model_dump(exclude_none=True, exclude={"parsed"})
    more = [*ASK, turn, {"role": "tool", "tool_call_id": call.id, "content": "Rain all day"}]
    answer = complete(client, stream, model=f"tool.{provider}", messages=more, tools=FUNCTIONS)
    assert answer.choices[0].message.content == said("Rain all day")


@everywhere
@streamed
def test_parallel_tools_and_their_results(client: openai.OpenAI, provider: str, stream: bool) -> None:
    answer = complete(client, stream, model=f"tools.{provider}", messages=ASK, tools=FUNCTIONS)
    message = answer.choices[0].message
    assert message.content == said(LAST, 3)
    called = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]
    assert called == [("get_weather", {"city": LAST, "days": 1}), ("get_time", {"zone": f"{LAST} 2"})]
    assert len({call.id for call in message.tool_calls}) == 2
    results = [{"role": "tool", "tool_call_id": call.id, "content": f"result {n}"} for n, call in enumerate(message.tool_calls)]
    more = [*ASK, message.model_dump(exclude_none=True, exclude={"parsed"}), *results]
    assert complete(client, stream, model=f"tools.{provider}", messages=more, tools=FUNCTIONS).choices[0].message.content == said(
        "result 1"
    )


@everywhere
def test_one_tool_only(client: openai.OpenAI, provider: str) -> None:
    if provider == "ollama":
        with pytest.raises(openai.BadRequestError) as refusal:
            client.chat.completions.create(model=f"tools.{provider}", messages=ASK, tools=FUNCTIONS, tool_choice="required")
        assert refusal.value.param == "tool_choice"
        return
    chosen: Any = {"type": "function", "function": {"name": "get_time"}}
    model = f"tools.{provider}"
    answer = client.chat.completions.create(model=model, messages=ASK, tools=FUNCTIONS, tool_choice=chosen, parallel_tool_calls=False)
    assert [call.function.name for call in answer.choices[0].message.tool_calls or [] if call.type == "function"] == ["get_time"]


@pytest.mark.parametrize("provider", [provider for provider in DIALECTS if provider != "openai-chat"])
@streamed
@pytest.mark.parametrize("model", ["tool", "tools"])
def test_old_functions_and_their_results(client: openai.OpenAI, sdks: Sdks, provider: str, stream: bool, model: str) -> None:
    """Whoever offers these is asked for one call at a time, and knows nothing of the word for several."""
    asked: dict[str, Any] = {"model": f"{model}.{provider}", "functions": [tool["function"] for tool in FUNCTIONS]}
    choice = complete(client, stream, **asked, messages=ASK).choices[0]
    called = choice.message.function_call
    assert (choice.finish_reason, choice.message.tool_calls) == ("function_call", None)
    assert (called.name, json.loads(called.arguments)) == ("get_weather", {"city": LAST, "days": 1})
    if provider != "ollama":
        assert '"disable_parallel_tool_use": true' in json.dumps(sdks.asked()[-1]) or sdks.asked()[-1]["parallel_tool_calls"] is False
    turn = choice.message.model_dump(exclude_none=True, exclude={"parsed"})
    more = [*ASK, turn, {"role": "function", "name": called.name, "content": "Rain all day"}]
    choice = complete(client, stream, **asked, messages=more).choices[0]
    assert (choice.message.content, choice.finish_reason) == (said("Rain all day"), "stop")
    if provider == "ollama":
        with pytest.raises(openai.BadRequestError) as refusal:
            complete(client, stream, **asked, messages=ASK, function_call={"name": "get_time"})
        assert refusal.value.param == "function_call"
    else:
        choice = complete(client, stream, **asked, messages=ASK, function_call={"name": "get_time"}).choices[0]
        assert (choice.message.function_call.name, choice.finish_reason) == ("get_time", "function_call")


@everywhere
def test_a_picture(sdks: Sdks, client: openai.OpenAI, provider: str) -> None:
    picture: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    ask: list[Any] = [{"role": "user", "content": [{"type": "text", "text": LAST}, picture]}]
    assert client.chat.completions.create(model=f"plain.{provider}", messages=ask).choices[0].message.content == said(LAST)
    assert PNG in json.dumps(sdks.asked()[-1])


@everywhere
@streamed
def test_reasoning(client: openai.OpenAI, provider: str, stream: bool) -> None:
    answer = complete(client, stream, model=f"thinks.{provider}", messages=ASK, reasoning_effort="high")
    message = answer.choices[0].message
    # Responses shows a summary to those who ask for it, which a chat cannot.
    assert getattr(message, "reasoning_content", None) == (None if provider == "openai-responses" else thought(LAST))
    assert message.content == said(LAST, 11)
    assert answer.usage.completion_tokens == 16
    if provider != "ollama":
        assert answer.usage.completion_tokens_details.reasoning_tokens == 5


@everywhere
@streamed
def test_a_structured_answer(client: openai.OpenAI, provider: str, stream: bool) -> None:
    answer = complete(client, stream, model=f"plain.{provider}", messages=ASK, response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(city=LAST, degrees=1, windy=True)


@everywhere
@streamed
def test_a_refusal(client: openai.OpenAI, provider: str, stream: bool) -> None:
    asked: dict[str, Any] = {"model": f"refuses.{provider}", "messages": ASK}
    if not stream:
        choice = client.chat.completions.create(**asked).choices[0]
        told: Any = (choice.message.content, choice.message.refusal, choice.finish_reason)
    else:
        chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
        content = "".join(chunk.delta.content or "" for chunk in chunks) or None
        told = (content, "".join(chunk.delta.refusal or "" for chunk in chunks) or None, chunks[-1].finish_reason)
    wanted = {
        "openai-chat": (None, REFUSAL, "content_filter"),
        "openai-responses": (None, REFUSAL, "stop"),
        "anthropic": (REFUSAL, "The simulated model refuses.", "stop"),  # the answer so far, and why it ends
        "ollama": (REFUSAL, None, "stop"),  # which has no word for it
    }
    assert told == wanted[provider]


@everywhere
@streamed
def test_a_stop_sequence(client: openai.OpenAI, provider: str, stream: bool) -> None:
    stop = said(LAST).split()[4]
    if provider == "openai-responses":
        with pytest.raises(openai.BadRequestError) as refusal:
            complete(client, stream, model=f"plain.{provider}", messages=ASK, stop=[stop])
        assert refusal.value.param == "stop"
        return
    choice = complete(client, stream, model=f"plain.{provider}", messages=ASK, stop=[stop]).choices[0]
    assert (choice.message.content, choice.finish_reason) == (said(LAST).partition(stop)[0], "stop")


@everywhere
@streamed
def test_usage_in_all_classes(client: openai.OpenAI, provider: str, stream: bool) -> None:
    usage = complete(client, stream, model=f"classes.{provider}", messages=ASK).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (100, 16, 116)
    if provider != "ollama":
        assert usage.prompt_tokens_details.cached_tokens == 30
        assert usage.prompt_tokens_details.cache_write_tokens == 30
        assert usage.completion_tokens_details.reasoning_tokens == 3


@everywhere
def test_errors(client: openai.OpenAI, provider: str) -> None:
    def refusal(kind: type[openai.APIStatusError], name: str, **asked: Any) -> openai.APIStatusError:
        with pytest.raises(kind) as caught:
            client.chat.completions.create(**{"model": f"{name}.{provider}", "messages": ASK} | asked)
        assert caught.value.request_id
        assert caught.value.message
        return caught.value

    assert refusal(openai.BadRequestError, "plain", messages=[{"role": "user", "content": [{"type": "image_url"}]}]).param is not None
    assert refusal(openai.NotFoundError, "missing").code == "model_not_found"
    assert refusal(openai.RateLimitError, "limited").response.headers["retry-after"] == "7"
    assert refusal(openai.InternalServerError, "broken").status_code == 500
    assert refusal(openai.InternalServerError, "busy").response.headers["retry-after"] == "3"
    assert refusal(openai.InternalServerError, "locked").code == "provider_refused_gateway"
    assert refusal(openai.InternalServerError, "failing").status_code == 500
    with pytest.raises(openai.PermissionDeniedError):
        client.with_options(api_key="sk-unknown").chat.completions.create(model=f"plain.{provider}", messages=ASK)


@everywhere
@pytest.mark.parametrize("model", ["failing", "cut"])
def test_an_error_in_the_midst_of_a_stream(client: openai.OpenAI, provider: str, model: str) -> None:
    heard: list[str] = []
    chunks = client.chat.completions.create(model=f"{model}.{provider}", messages=ASK, stream=True)
    with pytest.raises(openai.APIError) as caught:
        heard.extend(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert "".join(heard) == said(LAST, 3)
    assert caught.value.message


@pytest.mark.parametrize("provider", ["openai-chat", "openai-responses", "ollama"])
@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_embeddings(client: openai.OpenAI, provider: str, encoding: Any) -> None:
    more = {} if encoding is None else {"encoding_format": encoding}
    answer = client.embeddings.create(model=f"embed.{provider}", input=["one", "two words"], **more)
    told: Any = [entry.embedding for entry in answer.data]
    if encoding == "base64":  # asked for by the SDK itself it comes back as numbers
        told = [list(struct.unpack("<16f", base64.b64decode(text))) for text in told]
    assert told == [vector("one", 16), vector("two words", 16)]
    assert [entry.index for entry in answer.data] == [0, 1]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (3, 3)


def test_nobody_embeds_with_anthropic(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="embed.anthropic", input="one")
    assert caught.value.code == "unsupported_path"


def test_models(client: openai.OpenAI) -> None:
    assert "plain.anthropic" in [entry.id for entry in client.models.list()]
    assert client.models.retrieve("plain.ollama").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("private")


def test_the_account(sdks: Sdks) -> None:
    sdks.check_account()
