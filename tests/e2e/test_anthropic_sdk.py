"""Anthropic's SDK, with providers of every dialect."""

import base64
import json
from functools import partial
from typing import Any

import anthropic
import pytest

from dwctl.dialects.names import DIALECTS
from dwctl.simulator.script import REFUSAL
from tests.appliance import KEY
from tests.e2e.sdks import PNG, TOOLS, Sdks, Weather, said, thought

everywhere = pytest.mark.parametrize("provider", DIALECTS)
streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

LAST = "What is it like outside?"
ASK: list[Any] = [{"role": "user", "content": LAST}]
FUNCTIONS: list[Any] = [{"name": name, "description": name, "input_schema": schema} for name, schema in TOOLS.items()]
THINK: Any = {"type": "enabled", "budget_tokens": 1024}


@pytest.fixture
def client(sdks: Sdks) -> anthropic.Anthropic:
    return sdks.anthropic()


def message(client: anthropic.Anthropic, stream: bool, **asked: Any) -> Any:
    """A message, told at once or put together by the SDK from its stream."""
    asked = {"max_tokens": 2000, "messages": ASK} | asked
    if not stream:
        return client.messages.create(**asked)
    with client.messages.stream(**asked) as events:
        kinds = [event.type for event in events]
        assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
        return events.get_final_message()


def told(answer: Any) -> list[Any]:
    """What an answer says, without what differs from one to the next."""
    return [block.model_dump(exclude={"id", "signature", "citations", "caller"}, exclude_none=True) for block in answer.content]


def turn(answer: Any) -> dict[str, Any]:
    """An answer as it is handed back."""
    return {"role": "assistant", "content": answer.content}


def results(answer: Any, *more: Any) -> dict[str, Any]:
    """The turn that has the results of an answer's calls."""
    calls = [block for block in answer.content if block.type == "tool_use"]
    blocks = [{"type": "tool_result", "tool_use_id": call.id, "content": f"result {n}"} for n, call in enumerate(calls)]
    return {"role": "user", "content": [*blocks, *more]}


@everywhere
def test_the_stream_comes_to_the_whole(client: anthropic.Anthropic, provider: str) -> None:
    whole, put_together = (message(client, stream, model=f"plain.{provider}", system="Be brief.") for stream in (False, True))
    for answer in (whole, put_together):
        assert (answer.type, answer.role, answer.stop_reason, answer.stop_sequence) == ("message", "assistant", "end_turn", None)
        assert told(answer) == [{"type": "text", "text": said(LAST)}]
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 16)
    assert whole.model == put_together.model


@everywhere
@streamed
def test_length(client: anthropic.Anthropic, provider: str, stream: bool) -> None:
    answer = message(client, stream, model=f"long.{provider}", max_tokens=20)
    assert (told(answer), answer.stop_reason) == ([{"type": "text", "text": said(LAST, 20)}], "max_tokens")


@everywhere
@streamed
@pytest.mark.parametrize("model", ["tool", "tools"])
def test_tools_and_their_results(client: anthropic.Anthropic, provider: str, stream: bool, model: str) -> None:
    asked: dict[str, Any] = {"model": f"{model}.{provider}", "tools": FUNCTIONS}
    answer = message(client, stream, **asked)
    assert answer.stop_reason == "tool_use"
    calls = [
        {"type": "tool_use", "name": "get_weather", "input": {"city": LAST, "days": 1}},
        {"type": "tool_use", "name": "get_time", "input": {"zone": f"{LAST} 2"}},
    ]
    assert told(answer) == ([{"type": "text", "text": said(LAST, 3)}, *calls] if model == "tools" else calls[:1])
    answer = message(client, stream, **asked, messages=[*ASK, turn(answer), results(answer)])
    assert told(answer) == [{"type": "text", "text": said("result 1" if model == "tools" else "result 0")}]


@everywhere
@streamed
@pytest.mark.parametrize("model", ["agent", "sealed"])
def test_thoughts_that_are_handed_back(client: anthropic.Anthropic, sdks: Sdks, provider: str, stream: bool, model: str) -> None:
    asked: dict[str, Any] = {"model": f"{model}.{provider}", "tools": FUNCTIONS, "thinking": THINK}
    answer = message(client, stream, **asked)
    thinking, call = answer.content
    if thinking.type == "thinking":
        assert thinking.signature
        assert thinking.thinking == ("" if model == "sealed" and provider != "ollama" else thought(LAST, 4))
    else:
        assert (model, thinking.type) == ("sealed", "redacted_thinking")
    assert call.type == "tool_use"
    # A provider that signs or seals its thoughts refuses one that does not come back as it was given.
    answer = message(client, stream, **asked, messages=[*ASK, turn(answer), results(answer)])
    assert told(answer)[-1] == {"type": "text", "text": said("result 0", 12)}
    assert sdks.thoughts_asked() == (provider in ("anthropic", "openai-responses"))


@streamed
def test_a_conversation_that_goes_around(client: anthropic.Anthropic, sdks: Sdks, stream: bool) -> None:
    """Each provider's thoughts come back to it as it signed them, whoever spoke in between, and to nobody else."""
    history: list[Any] = []
    signed = 0
    for number, provider in enumerate([*DIALECTS, "anthropic"] * 2):
        if number % 2 == 0:
            history.append({"role": "user", "content": f"Once more, {number}"})
        asked: dict[str, Any] = {"model": f"agent.{provider}", "tools": FUNCTIONS, "thinking": THINK}
        answer = message(client, stream, **asked, messages=history)
        assert [block.type for block in answer.content] == ["thinking", "tool_use" if number % 2 == 0 else "text"]
        history.append(turn(answer))
        if number % 2 == 0:
            history.append(results(answer))
        if provider == "anthropic":
            assert sdks.thoughts_asked() == signed
            signed += 1


@everywhere
def test_pictures(client: anthropic.Anthropic, sdks: Sdks, provider: str) -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    ask: list[Any] = [{"role": "user", "content": [picture, {"type": "text", "text": LAST}]}]
    assert told(message(client, False, model=f"plain.{provider}", messages=ask)) == [{"type": "text", "text": said(LAST)}]
    assert PNG in json.dumps(sdks.asked()[-1])
    answer = message(client, False, model=f"tool.{provider}", tools=FUNCTIONS)
    shown = results(answer)
    shown["content"][0]["content"] = [{"type": "text", "text": "A picture"}, picture]
    message(client, False, model=f"plain.{provider}", tools=FUNCTIONS, messages=[*ASK, turn(answer), shown])
    assert PNG in json.dumps(sdks.asked()[-1])


@everywhere
def test_documents(client: anthropic.Anthropic, sdks: Sdks, provider: str) -> None:
    def ask(source: dict[str, str]) -> Any:
        content = [{"type": "document", "title": "notes", "source": source}, {"type": "text", "text": LAST}]
        return message(client, False, model=f"plain.{provider}", messages=[{"role": "user", "content": content}])

    assert told(ask({"type": "text", "media_type": "text/plain", "data": "Bring umbrellas"}))
    assert "Bring umbrellas" in json.dumps(sdks.asked()[-1])
    pdf = base64.b64encode(b"%PDF-1.4 nothing much").decode()
    source = {"type": "base64", "media_type": "application/pdf", "data": pdf}
    if provider == "ollama":
        with pytest.raises(anthropic.BadRequestError, match=r"messages\.0\.content\.0\.source\.data.* takes no documents but plain text"):
            ask(source)
    else:
        assert told(ask(source))[0]["text"] == said(LAST)
        assert pdf in json.dumps(sdks.asked()[-1])


@everywhere
@streamed
def test_a_stop_sequence(client: anthropic.Anthropic, provider: str, stream: bool) -> None:
    stop = said(LAST).split()[4]
    if provider == "openai-responses":
        with pytest.raises(anthropic.BadRequestError, match="stop_sequences"):
            message(client, stream, model=f"plain.{provider}", stop_sequences=[stop])
        return
    answer = message(client, stream, model=f"plain.{provider}", stop_sequences=[stop])
    assert told(answer) == [{"type": "text", "text": said(LAST).partition(stop)[0]}]
    # OpenAI and Ollama do not tell whether it was one.
    assert (answer.stop_reason, answer.stop_sequence) == (("stop_sequence", stop) if provider == "anthropic" else ("end_turn", None))


@everywhere
def test_a_structured_answer(client: anthropic.Anthropic, provider: str) -> None:
    answer = client.messages.parse(model=f"plain.{provider}", max_tokens=2000, messages=ASK, output_format=Weather)
    assert answer.parsed_output == Weather(city=LAST, degrees=1, windy=True)


@everywhere
@streamed
def test_a_refusal(client: anthropic.Anthropic, provider: str, stream: bool) -> None:
    answer = message(client, stream, model=f"refuses.{provider}")
    assert told(answer) == [{"type": "text", "text": REFUSAL}]
    assert answer.stop_reason == ("end_turn" if provider == "ollama" else "refusal")


@everywhere
@streamed
def test_usage_in_all_classes(client: anthropic.Anthropic, provider: str, stream: bool) -> None:
    usage = message(client, stream, model=f"classes.{provider}").usage
    assert usage.output_tokens == 16
    if provider == "ollama":
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (100, 0, 0)
    else:
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (40, 30, 30)
    if provider == "anthropic":
        assert (usage.cache_creation.ephemeral_5m_input_tokens, usage.cache_creation.ephemeral_1h_input_tokens) == (20, 10)


@everywhere
def test_count_tokens(client: anthropic.Anthropic, sdks: Sdks, provider: str) -> None:
    before = len(sdks.simulator.served())
    counted = client.messages.count_tokens(model=f"plain.{provider}", messages=ASK, system="Be brief.", tools=FUNCTIONS).input_tokens
    asked = len(sdks.simulator.served()) - before
    if provider == "anthropic":
        assert (counted, asked) == (7, 1)
    else:
        assert asked == 0
        assert 7 <= counted <= 200
        picture: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
        shown = client.messages.count_tokens(model=f"plain.{provider}", messages=[{"role": "user", "content": [picture]}])
        assert shown.input_tokens == 1600
        search: Any = [{"type": "web_search_20250305", "name": "web_search"}]
        refusals = []
        for ask in (client.messages.count_tokens, partial(client.messages.create, max_tokens=9)):
            with pytest.raises(anthropic.BadRequestError, match=r"tools\.0\.type") as caught:
                ask(model=f"plain.{provider}", messages=ASK, tools=search)
            refusals.append(caught.value.body["error"])  # type: ignore[index]
        assert refusals[0] == refusals[1]


def test_models(client: anthropic.Anthropic) -> None:
    every = [entry.id for entry in client.models.list(limit=1000)]
    assert every == [entry.id for entry in client.models.list(limit=7)]
    assert "plain.ollama" in every
    assert "private" not in every
    page = client.models.list(limit=3, after_id=every[4])
    assert [entry.id for entry in page.data] == every[5:8]
    back = client.models.list(limit=3, before_id=every[4])
    assert [entry.id for entry in back.data] == every[1:4]
    assert client.models.retrieve("plain.ollama").display_name
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("private")


def test_either_header_for_the_key(sdks: Sdks) -> None:
    asked: dict[str, Any] = {"model": "plain.anthropic", "max_tokens": 9, "messages": ASK}
    no_bearer: dict[str, Any] = {"Authorization": anthropic.omit, "X-Api-Key": KEY}
    for client in (sdks.anthropic("/ai"), sdks.anthropic(api_key=None, auth_token=KEY), sdks.anthropic(default_headers=no_bearer)):
        assert client.messages.create(**asked).usage.output_tokens == 9
        assert client.models.list().data


@everywhere
def test_errors(client: anthropic.Anthropic, provider: str) -> None:
    def refusal(kind: type[anthropic.APIStatusError], name: str, **asked: Any) -> Any:
        with pytest.raises(kind) as caught:
            message(client, False, **{"model": f"{name}.{provider}"} | asked)
        error: Any = caught.value
        assert error.request_id == f"req_{error.response.headers['x-request-id']}"
        assert error.body["error"]["message"]
        return error

    wrong = refusal(anthropic.BadRequestError, "plain", messages=[{"role": "user", "content": [{"type": "image"}]}])
    assert wrong.type == "invalid_request_error"
    assert "messages.0.content.0" in str(wrong)
    assert refusal(anthropic.NotFoundError, "missing").type == "not_found_error"
    limited = refusal(anthropic.RateLimitError, "limited")
    assert (limited.type, limited.response.headers["retry-after"]) == ("rate_limit_error", "7")
    assert refusal(anthropic.InternalServerError, "broken").type == "api_error"
    assert refusal(anthropic.InternalServerError, "busy").response.headers["retry-after"] == "3"
    assert refusal(anthropic.InternalServerError, "locked").type == "api_error"
    with pytest.raises(anthropic.PermissionDeniedError) as caught:
        message(client.with_options(api_key="sk-unknown"), False, model=f"plain.{provider}")
    assert caught.value.type == "permission_error"


def test_no_key(sdks: Sdks) -> None:
    omit: dict[str, Any] = {"Authorization": anthropic.omit}
    with pytest.raises(anthropic.AuthenticationError) as caught:
        sdks.anthropic(default_headers=omit).messages.create(model="plain.anthropic", max_tokens=9, messages=ASK)
    assert (caught.value.type, bool(caught.value.request_id)) == ("authentication_error", True)


@everywhere
@pytest.mark.parametrize("model", ["failing", "failed", "cut"])
def test_an_error_in_the_midst_of_a_stream(client: anthropic.Anthropic, provider: str, model: str) -> None:
    heard: list[str] = []

    def listen() -> None:
        with client.messages.stream(model=f"{model}.{provider}", max_tokens=99, messages=ASK) as events:
            heard.extend(events.text_stream)

    with pytest.raises(anthropic.APIError) as caught:
        listen()
    assert "".join(heard) == said(LAST, 3)
    error: Any = caught.value
    assert error.message
    if provider != "anthropic":  # whose own event passes
        assert error.body["request_id"] == error.request_id == f"req_{error.response.headers['x-request-id']}"


def test_the_account(sdks: Sdks) -> None:
    sdks.check_account()
