"""Whole chat answers: of every kind of server, understood; to every client, as the SDK's types have it."""

from typing import Any

import msgspec
import pytest
from openai.types.chat import ChatCompletion

from dwctl.dialects import chat, signatures
from dwctl.dialects.answers import Answering, Choice, Finish, MalformedAnswer, Response
from dwctl.dialects.canonical import Reasoning, Refusal, Request, Text, Tool, ToolCall
from dwctl.dialects.usage import Usage

ANSWERING = Answering("0" * 31 + "1", "alias", 1_700_000_000)
REQUEST = Request(model="alias", messages=[])
LOGPROBS = {"content": [{"token": "hi", "logprob": -0.1, "bytes": [104, 105], "top_logprobs": []}], "refusal": None}
CITATION = {"type": "url_citation", "url_citation": {"start_index": 0, "end_index": 2, "title": "t", "url": "https://h"}}


def answer(message: dict[str, Any], **choice: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]}


def only(body: dict[str, Any]) -> Choice:
    [choice] = chat.parse_response(body).choices
    return choice


def written(*choices: Choice, request: Request = REQUEST, **fields: Any) -> dict[str, Any]:
    body = chat.render_response(Response("up", "theirs", list(choices), **fields), request, ANSWERING)
    ChatCompletion.model_validate(msgspec.json.decode(msgspec.json.encode(body)), strict=True)
    return body


def message(*parts: Any, finish: Finish = "stop", request: Request = REQUEST) -> dict[str, Any]:
    return written(Choice(list(parts), finish), request=request)["choices"][0]["message"]  # type: ignore[no-any-return]


def test_a_whole_answer_there_and_back() -> None:
    body = {
        "id": "chatcmpl-" + ANSWERING.id,
        "object": "chat.completion",
        "created": ANSWERING.created,
        "model": "alias",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "hi",
                    "refusal": None,
                    "reasoning_content": "hm",
                    "annotations": [CITATION],
                    "tool_calls": [
                        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
                        {"id": "b", "type": "custom", "custom": {"name": "g", "input": "y"}},
                    ],
                },
                "logprobs": LOGPROBS,
                "finish_reason": "tool_calls",
            },
            {
                "index": 1,
                "message": {"role": "assistant", "content": "ho", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": "###",
            },
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 1,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
    }
    read = chat.parse_response(body)
    assert read.usage == Usage(5, 3, 2, 0, 5, 1)
    assert read.raw_usage == msgspec.json.encode(body["usage"])
    assert chat.render_response(read, REQUEST, ANSWERING) == body


def test_an_answer_of_the_barest_server() -> None:
    read = chat.parse_response({"choices": [{"message": {"content": "hi"}}]})
    assert read == Response(None, None, [Choice([Text("hi")])])
    body = written(*read.choices)
    assert body["id"] == "chatcmpl-" + ANSWERING.id
    assert body["created"] == ANSWERING.created
    assert body["model"] == "alias"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["choices"][0]["logprobs"] is None
    assert "usage" not in body


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": []},
        {"choices": "x"},
        {"choices": [{}]},
        {"choices": ["x"]},
        {"content": [{"type": "text", "text": "hi"}], "type": "message"},
        {"message": {"content": "hi"}, "done": True},
        answer({"tool_calls": ["x"]}),
        answer({"tool_calls": [{"id": "a", "function": {"arguments": "{}"}}]}),
        answer({"content": "hal"}, finish_reason="abort"),
        answer({"content": "hal"}, finish_reason="error"),
    ],
)
def test_what_is_no_answer_is_malformed(body: dict[str, Any]) -> None:
    with pytest.raises(MalformedAnswer):
        chat.parse_response(body)


@pytest.mark.parametrize(
    ("said", "finish"),
    [
        ({"finish_reason": "stop"}, "stop"),
        ({"finish_reason": "eos"}, "stop"),
        ({"finish_reason": "length"}, "length"),
        ({"finish_reason": "content_filter"}, "refusal"),
        ({"finish_reason": "function_call"}, "tool_calls"),
        ({"finish_reason": None}, None),
        ({"finish_reason": "something new"}, "stop"),
    ],
)
def test_reasons_to_finish_are_read(said: dict[str, Any], finish: str | None) -> None:
    assert only(answer({"content": "hi"}, **said)).finish == finish


@pytest.mark.parametrize(
    ("finish", "said"),
    [
        ("stop", "stop"),
        ("stop_sequence", "stop"),
        ("pause", "stop"),
        ("length", "length"),
        ("context_overflow", "length"),
        ("refusal", "content_filter"),
        (None, "stop"),
    ],
)
def test_reasons_to_finish_are_written(finish: Finish | None, said: str) -> None:
    assert written(Choice([Text("hi")], finish))["choices"][0]["finish_reason"] == said


@pytest.mark.parametrize("name", ["stop_reason", "matched_stop"])
def test_the_stop_sequence_that_ended_it_is_read(name: str) -> None:
    choice = only(answer({"content": "hi"}, **{name: "###"}))
    assert (choice.finish, choice.stop_sequence) == ("stop_sequence", "###")
    for other in (151645, None, "stop", "end_turn"):
        choice = only(answer({"content": "hi"}, **{name: other}))
        assert (choice.finish, choice.stop_sequence) == ("stop", None)
    assert only(answer({"content": "hi"}, finish_reason="length", **{name: "###"})).finish == "length"


def test_an_answer_with_calls_ends_for_them_whatever_the_server_says() -> None:
    choice = only(answer({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}))
    assert choice == Choice([ToolCall("a", "f", "{}")], "tool_calls")


@pytest.mark.parametrize("arguments", [None, "", "  ", "null", " null "])
def test_arguments_that_are_none_are_an_empty_object(arguments: str | None) -> None:
    choice = only(answer({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": arguments}}]}))
    assert written(choice)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_arguments_are_passed_on_as_they_were_written() -> None:
    text = '{ "a" : 1e2, "b":"\\u00e9" }'
    assert message(ToolCall("a", "f", text))["tool_calls"][0]["function"]["arguments"] == text
    assert only(answer({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"a": 1}}}]})).parts == [
        ToolCall("a", "f", '{"a": 1}')
    ]


def test_a_call_that_is_not_whole_cannot_be_said_unless_the_answer_was_cut() -> None:
    for arguments in ('{"a": ', "[1]", '"x"'):
        with pytest.raises(MalformedAnswer):
            message(ToolCall("a", "f", arguments), finish="tool_calls")
    body = written(Choice([ToolCall("a", "f", '{"a": ')], "length"))
    assert body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"a": '
    assert message(ToolCall("a", "f", "any text", custom=True))["tool_calls"][0]["custom"] == {"name": "f", "input": "any text"}


def test_calls_without_ids_get_some_of_their_own() -> None:
    calls = {"tool_calls": [{"function": {"name": "f"}}, {"function": {"name": "f"}}], "function_call": {"name": "g", "arguments": "{}"}}
    first = [part.id for part in only(answer(calls)).parts if isinstance(part, ToolCall)]
    other = [part.id for part in only({**answer(calls), "id": "c2/x"}).parts if isinstance(part, ToolCall)]
    assert len({*first, *other}) == 6
    assert all(id.replace("_", "").replace("-", "").isalnum() for id in [*first, *other])


def test_a_custom_tool_at_a_provider_that_knows_functions_only() -> None:
    request = Request(model="alias", messages=[], tools=[Tool("tools[0]", "patch", custom=True)])
    [call] = message(ToolCall("a", "patch", '{"input": "*** Begin"}'), request=request)["tool_calls"]
    assert call == {"id": "a", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}}


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"reasoning_content": "hm", "reasoning": "something else"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"reasoning_content": None, "reasoning": "hm"},
    ],
)
def test_reasoning_is_read_once_whatever_its_spelling(fields: dict[str, Any]) -> None:
    choice = only(answer({"content": "hi", **fields}))
    assert choice.parts == [Reasoning("hm", origin="openai-chat"), Text("hi")]
    assert message(*choice.parts)["reasoning_content"] == "hm"
    assert "reasoning" not in message(*choice.parts)


def test_content_in_parts() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]}
    choice = only(answer({"content": [thinking, {"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}))
    assert choice.parts == [Reasoning("hm", origin="openai-chat"), Text("hi")]


def test_what_a_provider_wants_back_survives_a_client_of_this_dialect() -> None:
    thoughts = [
        Reasoning("one", signature="sig==", origin="anthropic"),
        Reasoning("", signature="cipher", origin="anthropic", redacted=True),
        Reasoning("in short", summary=True, signature="enc", origin="openai-responses", id="rs_1"),
    ]
    spoken = message(*thoughts, Text("hi"))
    assert spoken["reasoning_content"] == "onein short"
    [turn] = chat.parse_request({"model": "m", "messages": [spoken]}).messages
    assert turn.parts == [*thoughts, Text("hi")]


def test_what_a_provider_of_this_dialect_wants_back_survives_any_client() -> None:
    details = [
        {"type": "reasoning.summary", "summary": "hm", "index": 0, "format": "openai-responses-v1"},
        {"type": "reasoning.encrypted", "data": "abc", "index": 1, "id": "rs_1", "format": "openai-responses-v1"},
    ]
    thought, _ = only(answer({"content": "hi", "reasoning": "hm", "reasoning_details": details})).parts
    assert isinstance(thought, Reasoning)
    carried = signatures.wrap(thought.origin, thought.signature, id=thought.id, redacted=thought.redacted, summary=thought.summary)
    back = signatures.unwrap(thought.text, carried, "anthropic")
    request = chat.parse_request({"model": "m", "messages": [{"role": "assistant", "content": "hi"}]})
    request.messages[0].parts.insert(0, back)
    [sent] = chat.render_request(request, "m")["messages"]
    assert sent["reasoning_details"] == details


def test_a_refusal_there_and_back() -> None:
    choice = only(answer({"content": None, "refusal": "I cannot"}))
    assert choice == Choice([Refusal("I cannot")], "refusal")
    [said] = written(choice)["choices"]
    assert (said["message"]["refusal"], said["message"]["content"], said["finish_reason"]) == ("I cannot", None, "stop")


def test_choices_are_put_in_order() -> None:
    body = {"choices": [{"index": index, "message": {"content": str(index)}, "finish_reason": "stop"} for index in (1, 0)]}
    assert [choice.parts for choice in chat.parse_response(body).choices] == [[Text("0")], [Text("1")]]


def test_an_answer_without_any_part() -> None:
    assert message() == {"role": "assistant", "content": "", "refusal": None}
    assert len(written()["choices"]) == 1


def test_usage_of_a_gateway_to_anthropic() -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 600},
        "cache_creation_input_tokens": 300,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
    }
    read = chat.parse_response({**answer({"content": "hi"}), "usage": usage}).usage
    assert read == Usage(100, 600, 100, 200, 5)


@pytest.mark.parametrize("usage", [Usage(5, 3, 2, 0, 5, 1), Usage(5, 3, 2, 4, 5, 1), Usage(), Usage(1)])
def test_usage_there_and_back(usage: Usage) -> None:
    body = written(Choice([Text("hi")], "stop"), usage=usage)
    assert chat.parse_response(body).usage == usage
    assert body["usage"]["total_tokens"] == usage.total


def test_only_tiers_that_the_dialect_has_are_told() -> None:
    assert "service_tier" not in written(Choice([Text("hi")], "stop"), service_tier="standard")
    assert written(Choice([Text("hi")], "stop"), service_tier="priority")["service_tier"] == "priority"
