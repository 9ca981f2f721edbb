"""Errors of the dialect; the codec as a module; and OpenAI's own client on what is rendered."""

import json
from typing import Any

import pytest
from openai import APIError, AsyncOpenAI

from dwctl.dialects import responses
from dwctl.dialects.answers import (
    Answering,
    Counted,
    Event,
    Finished,
    ReasoningDelta,
    ReasoningEnd,
    Started,
    TextDelta,
    ToolDelta,
    ToolStart,
)
from dwctl.dialects.codec import Codec, ProviderError
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError, bad_request
from tests.scripted import reply, scripted

CODEC: Codec = responses
EVENTS: list[Event] = [
    Started(),
    ReasoningDelta("hm"),
    ReasoningEnd(),
    TextDelta("Hel"),
    TextDelta("lo"),
    ToolStart(0, "call_1", "f"),
    ToolDelta(0, '{"a":1}'),
    Finished("tool_calls"),
    Counted(Usage(1, 2, 3, 0, 4, 1), b"{}"),
]


def rendered(events: list[Event], error: GatewayError | None = None) -> bytes:
    renderer = responses.render_stream(responses.parse_request({"model": "m", "input": "x"}), Answering("0" * 32, "m", 1))
    body = b"".join(renderer.render(event) for event in events)
    return reply(body + (renderer.end() if error is None else renderer.fail(error)), "200 OK", "content-type: text/event-stream")


def test_the_module_is_a_codec() -> None:
    assert (CODEC.DIALECT, CODEC.PATH, CODEC.STREAM_TYPE) == ("openai-responses", "/responses", "text/event-stream; charset=utf-8")
    assert CODEC.PING.startswith(b":")


def test_an_error_is_openais() -> None:
    body = json.loads(responses.render_error(bad_request("No.", param="input"), "request"))
    assert body == {"error": {"message": "No.", "type": "invalid_request_error", "param": "input", "code": "bad_request"}}


def test_an_error_after_a_providers_own_stream() -> None:
    event, done, rest = responses.stream_error(bad_request("No."), "request").split(b"\n\n")
    assert event.startswith(b"event: error\ndata: {")
    assert (done, rest) == (b"data: [DONE]", b"")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"id": "resp_1", "output": [], "error": None}, None),
        ({"error": {"message": "m", "type": "t", "code": "c", "param": "p"}}, ProviderError("m", "t", "c", "p")),
        ({"error": {"message": "m", "code": 503}}, ProviderError("m", None, "503", None, 503)),
        ({"error": "m"}, ProviderError("m")),
        (
            {"object": "error", "message": "m", "type": "BadRequestError", "code": 400},
            ProviderError("m", "BadRequestError", "400", None, 400),
        ),
        ({"detail": "m"}, ProviderError("m")),
        (
            {"object": "response", "status": "failed", "error": {"code": "rate_limit_exceeded", "message": "m"}},
            ProviderError("m", None, "rate_limit_exceeded", None, 429),
        ),
        ({"type": "error", "code": "server_error", "message": "m"}, ProviderError("m", "error", "server_error", None, 500)),
    ],
)
def test_errors_of_providers(body: dict[str, Any], error: ProviderError | None) -> None:
    assert responses.read_error(body) == error


async def test_openais_client_reads_a_stream() -> None:
    async with scripted() as provider, AsyncOpenAI(api_key="k", base_url=provider.url, max_retries=0) as client:
        provider.answer = rendered(EVENTS)
        async with client.responses.stream(model="m", input="x") as stream:
            kinds = [event.type async for event in stream]
            answer = await stream.get_final_response()
    assert "response.output_text.delta" in kinds
    assert answer.output_text == "Hello"
    assert [item.type for item in answer.output] == ["reasoning", "message", "function_call"]
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.cache_write_tokens == 3


async def test_openais_client_hears_of_a_failure() -> None:
    async with scripted() as provider, AsyncOpenAI(api_key="k", base_url=provider.url, max_retries=0) as client:
        provider.answer = rendered(EVENTS[:4], GatewayError(503, "internal_error", "upstream_error", "It failed."))
        with pytest.raises(APIError, match="It failed"):
            async for _ in await client.responses.create(model="m", input="x", stream=True):
                pass
