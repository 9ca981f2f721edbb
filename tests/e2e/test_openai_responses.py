"""OpenAI's Responses by its SDK, with providers of every dialect."""

import json
from typing import Any

import openai
import pytest

from dwctl.dialects.names import DIALECTS
from dwctl.simulator.script import REFUSAL
from tests.e2e.sdks import PNG, TOOLS, Sdks, Weather, said, thought

everywhere = pytest.mark.parametrize("provider", DIALECTS)
streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

LAST = "What is it like outside?"
ASK: dict[str, Any] = {"instructions": "Be brief.", "input": LAST}
FUNCTIONS: list[Any] = [{"type": "function", "name": name, "parameters": schema, "strict": True} for name, schema in TOOLS.items()]


@pytest.fixture
def client(sdks: Sdks) -> openai.OpenAI:
    return sdks.openai("/ai/v1")


def respond(client: openai.OpenAI, stream: bool, **asked: Any) -> Any:
    """A response, told at once or put together by the SDK from its stream."""
    if not stream:
        return client.responses.parse(**asked) if "text_format" in asked else client.responses.create(**asked)
    with client.responses.stream(**asked) as events:
        for event in events:
            if event.type == "response.incomplete":
                return event.response
        return events.get_final_response()


def conversation(answer: Any) -> list[Any]:
    """What was asked and answered so far, as the next request's input."""
    kept = [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in answer.output]
    return [{"role": "user", "content": LAST}, *kept]


@everywhere
@streamed
def test_text(client: openai.OpenAI, provider: str, stream: bool) -> None:
    answer = respond(client, stream, model=f"plain.{provider}", **ASK)
    assert answer.status == "completed"
    assert answer.output_text == said(LAST)
    assert [item.type for item in answer.output] == ["message"]
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (7, 16, 23)


@everywhere
def test_events(client: openai.OpenAI, provider: str) -> None:
    events = list(client.responses.create(model=f"plain.{provider}", stream=True, **ASK))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [events[0].type, events[-1].type] == ["response.created", "response.completed"]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == said(LAST)


@everywhere
@streamed
def test_length(client: openai.OpenAI, provider: str, stream: bool) -> None:
    answer = respond(client, stream, model=f"long.{provider}", max_output_tokens=20, **ASK)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (answer.output_text, answer.usage.output_tokens) == (said(LAST, 20), 20)


@everywhere
@streamed
def test_a_tool_and_its_result(client: openai.OpenAI, provider: str, stream: bool) -> None:
    answer = respond(client, stream, model=f"tool.{provider}", tools=FUNCTIONS, **ASK)
    [call] = answer.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "get_weather", {"city": LAST, "days": 1})
    more = [*conversation(answer), {"type": "function_call_output", "call_id": call.call_id, "output": "Rain all day"}]
    answer = respond(client, stream, model=f"tool.{provider}", input=more, tools=FUNCTIONS)
    assert answer.output_text == said("Rain all day")


@everywhere
@streamed
def test_parallel_tools_and_their_results(client: openai.OpenAI, provider: str, stream: bool) -> None:
    answer = respond(client, stream, model=f"tools.{provider}", tools=FUNCTIONS, **ASK)
    assert answer.output_text == said(LAST, 3)
    calls = [item for item in answer.output if item.type == "function_call"]
    called = [(call.name, json.loads(call.arguments)) for call in calls]
    assert called == [("get_weather", {"city": LAST, "days": 1}), ("get_time", {"zone": f"{LAST} 2"})]
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": f"result {n}"} for n, call in enumerate(calls)]
    more = [*conversation(answer), *results]
    assert respond(client, stream, model=f"tools.{provider}", input=more, tools=FUNCTIONS).output_text == said("result 1")


@everywhere
def test_a_picture(sdks: Sdks, client: openai.OpenAI, provider: str) -> None:
    picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
    ask: Any = [{"role": "user", "content": [{"type": "input_text", "text": LAST}, picture]}]
    assert client.responses.create(model=f"plain.{provider}", input=ask).output_text == said(LAST)
    assert PNG in json.dumps(sdks.asked()[-1])


@everywhere
@streamed
@pytest.mark.parametrize("model", ["agent", "sealed"])
def test_reasoning_that_is_handed_back(client: openai.OpenAI, sdks: Sdks, provider: str, stream: bool, model: str) -> None:
    asked: dict[str, Any] = {
        "model": f"{model}.{provider}",
        "tools": FUNCTIONS,
        "reasoning": {"effort": "high", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "store": False,
    }
    answer = respond(client, stream, **asked, **ASK)
    reasoning, call = answer.output
    shown = "".join(part.text for part in reasoning.summary or reasoning.content or [])
    assert shown == ("" if model == "sealed" and provider != "ollama" else thought(LAST, 4))
    assert reasoning.encrypted_content
    more = [*conversation(answer), {"type": "function_call_output", "call_id": call.call_id, "output": "Rain all day"}]
    # A provider that signs or seals its thoughts refuses one that does not come back as it was given.
    assert respond(client, stream, **asked, input=more).output_text == said("Rain all day", 12)
    assert sdks.thoughts_asked() == (provider in ("anthropic", "openai-responses"))


@streamed
def test_a_conversation_that_goes_around(client: openai.OpenAI, sdks: Sdks, stream: bool) -> None:
    """Each provider's thoughts come back to it as it sealed them, whoever spoke in between, and to nobody else."""
    history: list[Any] = []
    sealed = 0
    for number, provider in enumerate([*DIALECTS, "openai-responses"] * 2):
        if number % 2 == 0:
            history.append({"role": "user", "content": f"Once more, {number}"})
        asked: dict[str, Any] = {"model": f"agent.{provider}", "tools": FUNCTIONS, "reasoning": {"effort": "high"}, "store": False}
        answer = respond(client, stream, **asked, input=history, include=["reasoning.encrypted_content"])
        assert [item.type for item in answer.output] == ["reasoning", "function_call" if number % 2 == 0 else "message"]
        history += conversation(answer)[1:]
        if number % 2 == 0:
            history.append({"type": "function_call_output", "call_id": answer.output[-1].call_id, "output": f"result {number}"})
        if provider == "openai-responses":
            assert sdks.thoughts_asked() == sealed
            sealed += 1


@everywhere
@streamed
def test_a_structured_answer(client: openai.OpenAI, provider: str, stream: bool) -> None:
    answer = respond(client, stream, model=f"plain.{provider}", text_format=Weather, **ASK)
    assert answer.output_parsed == Weather(city=LAST, degrees=1, windy=True)


@everywhere
@streamed
def test_a_refusal(client: openai.OpenAI, provider: str, stream: bool) -> None:
    answer = respond(client, stream, model=f"refuses.{provider}", **ASK)
    [message] = answer.output
    told = [(part.type, part.refusal if part.type == "refusal" else part.text) for part in message.content]
    wanted = {
        "anthropic": [("output_text", REFUSAL), ("refusal", "The simulated model refuses.")],
        "ollama": [("output_text", REFUSAL)],
    }
    assert told == wanted.get(provider, [("refusal", REFUSAL)])


@everywhere
@streamed
def test_usage_in_all_classes(client: openai.OpenAI, provider: str, stream: bool) -> None:
    usage = respond(client, stream, model=f"classes.{provider}", **ASK).usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (100, 16, 116)
    if provider != "ollama":
        assert (usage.input_tokens_details.cached_tokens, usage.input_tokens_details.cache_write_tokens) == (30, 30)
        assert usage.output_tokens_details.reasoning_tokens == 3


@everywhere
def test_errors(client: openai.OpenAI, provider: str) -> None:
    def refusal(kind: type[openai.APIStatusError], name: str, **asked: Any) -> openai.APIStatusError:
        with pytest.raises(kind) as caught:
            client.responses.create(**{"model": f"{name}.{provider}", "input": LAST} | asked)
        assert caught.value.request_id
        assert caught.value.message
        return caught.value

    assert refusal(openai.BadRequestError, "plain", previous_response_id="resp_1").param == "previous_response_id"
    assert refusal(openai.NotFoundError, "missing").code == "model_not_found"
    assert refusal(openai.RateLimitError, "limited").response.headers["retry-after"] == "7"
    assert refusal(openai.InternalServerError, "broken").status_code == 500
    assert refusal(openai.InternalServerError, "busy").response.headers["retry-after"] == "3"
    assert refusal(openai.InternalServerError, "locked").code == "provider_refused_gateway"
    with pytest.raises(openai.PermissionDeniedError):
        client.with_options(api_key="sk-unknown").responses.create(model=f"plain.{provider}", input=LAST)


@everywhere
@pytest.mark.parametrize("model", ["failing", "failed", "cut"])
def test_an_error_in_the_midst_of_a_stream(client: openai.OpenAI, provider: str, model: str) -> None:
    heard, failed = "", False
    try:
        for event in client.responses.create(model=f"{model}.{provider}", stream=True, input=LAST):
            heard += event.delta if event.type == "response.output_text.delta" else ""
            assert event.type != "response.completed"
            failed = failed or event.type in ("response.failed", "error")
    except openai.APIError as error:
        failed = bool(error.message)
    assert (heard, failed) == (said(LAST, 3), True)


def test_the_account(sdks: Sdks) -> None:
    sdks.check_account()
