"""Whole answers and errors, both ways."""

import json
from typing import Any

import pytest
from anthropic.types import Message, MessageTokensCount
from anthropic.types.shared.error_response import ErrorResponse

from dwctl.dialects import anthropic
from dwctl.dialects.answers import Answering, Choice, MalformedAnswer, Response
from dwctl.dialects.canonical import Reasoning, Refusal, Request, Text, ToolCall
from dwctl.dialects.codec import Codec
from dwctl.dialects.signatures import unwrap
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError

ANSWERING = Answering("0123456789abcdef" * 2, "our-name", 1)
REQUEST = Request(model="our-name", messages=[])

RECORDED: dict[str, Any] = {
    "id": "msg_01",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "EqQB=="},
        {"type": "redacted_thinking", "data": "blob"},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
        {"type": "text", "text": "Moment."},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Köln"}},
        {"type": "tool_use", "id": "toolu_2", "name": "time", "input": {}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 100,
        "cache_read_input_tokens": 600,
        "cache_creation_input_tokens": 300,
        "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
        "output_tokens": 50,
        "service_tier": "priority",
    },
}


def rendered(response: Response, request: Request = REQUEST) -> dict[str, Any]:
    message = anthropic.render_response(response, request, ANSWERING)
    Message.model_validate(message, strict=True)
    return message


def answer(*parts: Any, finish: Any = "stop", **more: Any) -> Response:
    return Response("theirs", "their-name", [Choice(list(parts), finish)], **more)


def test_a_recorded_answer_is_read_and_written_the_same() -> None:
    response = anthropic.parse_response(RECORDED)
    assert response.usage == Usage(100, 600, 200, 100, 50)
    assert json.loads(response.raw_usage or b"") == RECORDED["usage"]
    assert response.choices[0].parts[0] == Reasoning("Hm.", signature="EqQB==", origin="anthropic")
    message = rendered(response)
    assert message["content"] == [block for block in RECORDED["content"] if block["type"] != "server_tool_use"]
    assert message["stop_reason"] == "tool_use"
    assert {name: message["usage"][name] for name in RECORDED["usage"]} == RECORDED["usage"]
    assert (message["id"], message["model"]) == (f"msg_{ANSWERING.id}", "our-name")


def test_tokens_of_the_cache_are_not_input_tokens() -> None:
    usage = rendered(answer(Text("x"), usage=Usage(100, 600, 300, 0, 9, 4)))["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]) == (100, 600, 300)
    assert usage["output_tokens_details"] == {"thinking_tokens": 4}
    nothing = rendered(answer(Text("x")))["usage"]
    assert (nothing["cache_read_input_tokens"], nothing["cache_creation_input_tokens"], nothing["service_tier"]) == (0, 0, "standard")


def test_thoughts_of_another_provider_come_back_as_they_were() -> None:
    thought = Reasoning("a plan", True, "ciphertext", "openai-responses", "rs_1")
    [block, _] = rendered(answer(thought, Text("x")))["content"]
    assert unwrap(block["thinking"], block["signature"], "anthropic") == thought


def test_a_refusal_and_a_stop_sequence() -> None:
    refused = rendered(answer(Refusal("No.")))
    assert refused["content"] == [{"type": "text", "text": "No."}]
    assert (refused["stop_reason"], refused["stop_details"]["type"]) == ("refusal", "refusal")
    stopped = rendered(Response(None, None, [Choice([Text("x")], "stop_sequence", "###")]))
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", "###")


def test_arguments_that_are_no_object() -> None:
    broken = ToolCall("a", "f", '{"x": ')
    with pytest.raises(MalformedAnswer):
        rendered(answer(broken, finish="tool_calls"))
    assert rendered(answer(broken, finish="length"))["content"][0]["input"] == {}
    for nothing in ("", "null"):
        message = rendered(answer(ToolCall("a", "f", nothing)))
        assert (message["content"][0]["input"], message["stop_reason"]) == ({}, "tool_use")


@pytest.mark.parametrize(
    "body",
    [
        {"choices": []},
        {"type": "message"},
        {"type": "completion", "content": []},
        {"type": "message", "content": "text"},
        {"type": "message", "content": [{"type": "text"}]},
        {"type": "message", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": "x"}]},
    ],
)
def test_what_is_not_of_the_dialect(body: dict[str, Any]) -> None:
    with pytest.raises(MalformedAnswer):
        anthropic.parse_response(body)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (409, "invalid_request_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_errors_by_status(status: int, kind: str) -> None:
    body = json.loads(anthropic.render_error(GatewayError(status, "t", "c", "Sorry.", fields={"balance": "1.00"}), "abc"))
    assert body == {"type": "error", "error": {"type": kind, "message": "Sorry.", "balance": "1.00"}, "request_id": "req_abc"}
    if status != 413:  # the SDK has no type for it
        ErrorResponse.model_validate(body, strict=True)


def test_errors_of_a_provider() -> None:
    error = anthropic.read_error({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    assert error is not None
    assert (error.message, error.type, error.status) == ("Overloaded", "overloaded_error", 529)
    assert anthropic.read_error({"type": "message", "content": []}) is None


def test_it_is_a_codec() -> None:
    codec: Codec = anthropic
    assert {name for name in vars(Codec) if not name.startswith("_")} <= set(dir(codec))


def test_counts() -> None:
    MessageTokensCount.model_validate(anthropic.render_count(7), strict=True)


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"input_tokens": 9, "output_tokens": 20.0, "cache_read_input_tokens": None}, Usage(9, output=20)),
        ({"input_tokens": 9, "output_tokens": None}, None),
        ({"input_tokens": 10**30, "output_tokens": 1}, None),
        ({"input_tokens": 9, "output_tokens": 1, "cache_read_input_tokens": -5}, None),
    ],
)
def test_usage_with_a_count_that_is_none_is_no_usage(usage: dict[str, Any], counted: Usage | None) -> None:
    assert anthropic.parse_response(RECORDED | {"usage": usage}).usage == counted
