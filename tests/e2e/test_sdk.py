"""The OpenAI SDK against a whole server whose provider is another process."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.appliance import FROM_SOURCE, KEY, PRICE, ROOT, Appliance, model, running, setup, until

BINARY = ROOT / "dist" / "dwctl"


@pytest.fixture(scope="module", params=["source", "binary"])
def appliance(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    if request.param == "binary" and not BINARY.exists():
        pytest.fail("dist/dwctl is missing: run make binary")
    program = FROM_SOURCE if request.param == "source" else (str(BINARY),)
    models = [
        model("gpt", "sim-chat", prices=[PRICE]),
        model("embed", "sim-embed", model_type="EMBEDDINGS", prices=[{"input_per_million": "0.02"}]),
        model("limited", "sim-429?retry_after=0"),
        model("broken", "sim-500"),
        model("private", "sim-chat") | {"groups": []},
    ]
    directory: Path = tmp_path_factory.mktemp(request.param)
    with running(directory, lambda url: setup(url, models), program=program) as (appliance, _):
        yield appliance


@pytest.fixture(params=["/ai/v1", "/v1"])
def client(appliance: Appliance, request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=appliance.url + request.param, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


ASK = [{"role": "user", "content": "Say something short"}]


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="gpt", messages=ASK, max_tokens=9)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 9
    assert answer.choices[0].finish_reason == "length"


def test_stream_with_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(model="gpt", messages=ASK, stream=True, max_tokens=7, stream_options={"include_usage": True})
    )
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 7
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_stream_without_usage_has_no_extra_chunk(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="gpt", messages=ASK, stream=True, max_tokens=7))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_text_completion(client: openai.OpenAI) -> None:
    assert client.completions.create(model="gpt", prompt="Once", max_tokens=3).usage.completion_tokens == 3  # type: ignore[union-attr]
    assert list(client.completions.create(model="gpt", prompt="Once", max_tokens=3, stream=True))


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(client: openai.OpenAI, encoding: str) -> None:
    answer = client.embeddings.create(model="embed", input=["one", "two"], encoding_format=encoding)  # type: ignore[call-overload]
    assert len(answer.data) == 2
    assert answer.usage.prompt_tokens > 0
    default = client.embeddings.create(model="embed", input="one")
    assert all(isinstance(number, float) for number in default.data[0].embedding)


def test_models(client: openai.OpenAI) -> None:
    assert [entry.id for entry in client.models.list()] == ["broken", "embed", "gpt", "limited"]
    assert client.models.retrieve("gpt").id == "gpt"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("private")


def test_errors_are_the_sdks_own(client: openai.OpenAI, appliance: Appliance) -> None:
    def refusal(kind: type[openai.APIStatusError], model: str, using: openai.OpenAI = client) -> openai.APIStatusError:
        with pytest.raises(kind) as caught:
            using.chat.completions.create(model=model, messages=ASK)
        assert caught.value.request_id
        return caught.value

    assert refusal(openai.NotFoundError, "nothing").code == "model_not_found"
    denied = refusal(openai.PermissionDeniedError, "private")
    assert "You do not have access to 'private'" in denied.message
    assert denied.code == "model_access_denied"
    assert refusal(openai.RateLimitError, "limited").response.headers["retry-after"]
    assert refusal(openai.InternalServerError, "broken").status_code == 500
    stranger = client.with_options(api_key="sk-unknown")
    assert refusal(openai.PermissionDeniedError, "gpt", stranger).code == "forbidden"
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    with pytest.raises(openai.BadRequestError):
        client.post("/chat/completions", body={"messages": ASK}, cast_to=object)


def test_the_async_client(appliance: Appliance) -> None:
    import asyncio

    async def many() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=appliance.url + "/v1", api_key=KEY, max_retries=0) as client:
            answers = await asyncio.gather(*(client.chat.completions.create(model="gpt", messages=ASK, max_tokens=2) for _ in range(20)))
            return [answer.choices[0].message.content for answer in answers]

    assert all(asyncio.run(many()))


def test_nothing_is_left(appliance: Appliance) -> None:
    def quiet() -> bool:
        metrics = appliance.metrics()
        return metrics["onwards_requests_inflight"] == metrics["dwctl_concurrency_slots"] == metrics["dwctl_holds_nanocredits"] == 0

    until(quiet, 5, "all slots and holds released")
