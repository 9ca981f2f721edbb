"""Requests as a provider of Responses gets them."""

from typing import Any

import pytest
from openai.types.responses import response_create_params
from pydantic import TypeAdapter

from dwctl.dialects import responses
from dwctl.dialects.canonical import (
    File,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    Refusal,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from dwctl.errors import GatewayError

_PARAMS: TypeAdapter[Any] = TypeAdapter(response_create_params.ResponseCreateParamsBase)

USER = Message("user", [Text("Hello")])


def rendered(*messages: Message, **fields: Any) -> dict[str, Any]:
    body = responses.render_request(Request(model="alias", messages=list(messages) or [USER], **fields), "upstream")
    _PARAMS.validate_python(body)
    assert body["model"] == "upstream"
    assert body["store"] is False
    return body


def test_leading_system_prompts_are_the_instructions_and_later_ones_stay_where_they_are() -> None:
    body = rendered(
        Message("system", [Text("One."), Text("Two.")]),
        Message("system", [Text("Three.")]),
        Message("developer", [Text("Four.")]),
        USER,
        Message("system", [Text("Five.")]),
    )
    assert body["instructions"] == "One.\n\nTwo.\n\nThree."
    assert [(item["role"], item["content"][0]["text"]) for item in body["input"]] == [
        ("developer", "Four."),
        ("user", "Hello"),
        ("system", "Five."),
    ]


def test_a_conversation_of_instructions_alone_still_has_an_input() -> None:
    body = rendered(Message("system", [Text("Tell a story.")]))
    assert "instructions" not in body
    assert body["input"] == [{"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Tell a story."}]}]


def test_a_whole_conversation() -> None:
    body = rendered(
        Message(
            "user",
            [
                Text("Look"),
                Image("p", data="QUJD", media_type="image/png", detail="low"),
                Image("p", url="https://pictures.example/1"),
                File("p", data="QUJD", media_type="application/pdf"),
                File("p", url="https://files.example/1"),
                File("p", text="plain", name="a.txt", context="old"),
            ],
        ),
        Message(
            "assistant",
            [
                Reasoning("hm", summary=True, signature="gAAA", origin="openai-responses", id="rs_1"),
                Reasoning("mine", signature="sig", origin="anthropic"),
                Text("I look."),
                Refusal("Not that."),
                ToolCall("call_1", "f", '{"a":1}'),
                ToolCall("call_2", "patch", "text", custom=True),
            ],
        ),
        Message(
            "tool",
            [
                ToolResult("call_1", [Text("sun")], is_error=True),
                ToolResult("call_2", [Text("see"), Image("p", data="QUJD", media_type="image/png")], custom=True),
            ],
        ),
    )
    assert body["input"] == [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look"},
                {"type": "input_image", "image_url": "data:image/png;base64,QUJD", "detail": "low"},
                {"type": "input_image", "image_url": "https://pictures.example/1", "detail": "auto"},
                {"type": "input_file", "filename": "document.pdf", "file_data": "data:application/pdf;base64,QUJD"},
                {"type": "input_file", "file_url": "https://files.example/1"},
                {"type": "input_text", "text": "a.txt\nold\nplain"},
            ],
        },
        {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "gAAA"},
        {"type": "message", "role": "assistant", "content": "I look."},
        {"type": "message", "role": "assistant", "content": "Not that."},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": "text"},
        {"type": "function_call_output", "call_id": "call_1", "output": "Error: sun"},
        {
            "type": "custom_tool_call_output",
            "call_id": "call_2",
            "output": [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "image_url": "data:image/png;base64,QUJD", "detail": "auto"},
            ],
        },
    ]
    assert body["include"] == ["reasoning.encrypted_content"]


def test_a_thought_that_led_to_nothing_is_left_out() -> None:
    thought = Reasoning("hm", signature="gAAA", origin="openai-responses", id="rs_1")
    assert [item["type"] for item in rendered(USER, Message("assistant", [thought]), USER)["input"]] == ["message", "message"]


def test_ids_that_are_too_long_are_the_same_wherever_they_stand() -> None:
    long = "call_" + "x" * 100
    body = rendered(Message("assistant", [ToolCall(long, "f", "{}")]), Message("tool", [ToolResult(long, [])]))
    call, output = body["input"]
    assert call["call_id"] == output["call_id"]
    assert len(call["call_id"]) <= 64
    assert output["output"] == ""


def test_tools_are_flat_and_lax_unless_strictness_was_asked_for() -> None:
    body = rendered(
        tools=[
            Tool("t", "f"),
            Tool("t", "g", "d", {"type": "object", "properties": {"a": {}}}, strict=True),
            Tool("t", "patch", custom=True, grammar={"syntax": "lark", "definition": "start: x"}),
        ],
        tool_choice=ToolChoice("allowed", ["f", "patch"], must=True),
        parallel_tool_calls=False,
    )
    assert body["tools"] == [
        {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False},
        {"type": "function", "name": "g", "description": "d", "parameters": {"type": "object", "properties": {"a": {}}}, "strict": True},
        {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
    ]
    assert body["tool_choice"] == {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "patch"}],
    }
    assert body["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (ToolChoice("auto"), "auto"),
        (ToolChoice("none"), "none"),
        (ToolChoice("required"), "required"),
        (ToolChoice("named", ["f"]), {"type": "function", "name": "f"}),
        (ToolChoice("named", ["patch"]), {"type": "custom", "name": "patch"}),
    ],
)
def test_choices_of_tools(choice: ToolChoice, said: Any) -> None:
    tools = [Tool("t", "f"), Tool("t", "patch", custom=True)]
    assert rendered(tools=tools, tool_choice=choice)["tool_choice"] == said
    assert "tool_choice" not in rendered(tool_choice=choice)


def test_every_other_field() -> None:
    body = rendered(
        stream=True,
        max_output=16,
        temperature=0.5,
        top_p=0.9,
        logprobs=True,
        top_logprobs=2,
        effort="max",
        reasoning_summary="auto",
        output_format=OutputFormat({"type": "object"}, "n", "d", True),
        verbosity="low",
        user="u",
        metadata={"a": "b"},
        service_tier="flex",
        prompt_cache_key="k",
        prompt_cache_retention="24h",
        safety_identifier="s",
    )
    assert {name: body[name] for name in body.keys() - {"input", "model", "store"}} == {
        "stream": True,
        "max_output_tokens": 16,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_logprobs": 2,
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "reasoning": {"effort": "max", "summary": "auto"},
        "text": {
            "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "description": "d", "strict": True},
            "verbosity": "low",
        },
        "user": "u",
        "metadata": {"a": "b"},
        "service_tier": "flex",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "safety_identifier": "s",
    }


def test_a_model_of_which_nothing_is_known_is_not_asked_for_its_thoughts() -> None:
    assert rendered().keys() == {"model", "input", "store"}
    assert "include" not in rendered(effort="none")


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({"thinking": "enabled", "thinking_budget": 2048}, "low"),
        ({"thinking": "enabled", "thinking_budget": 8192}, "medium"),
        ({"thinking": "enabled", "thinking_budget": 8193}, "high"),
        ({"thinking": "disabled"}, "none"),
    ],
)
def test_thinking_is_an_effort(fields: dict[str, Any], effort: str) -> None:
    assert rendered(**fields, reasoning_summary="omitted")["reasoning"] == {"effort": effort}


def test_any_object() -> None:
    assert rendered(output_format=OutputFormat())["text"] == {"format": {"type": "json_object"}}


@pytest.mark.parametrize("part", [Foreign("input[0].type", "item_reference"), Image("input[0].file_id", file_id="f")])
def test_what_cannot_be_said_is_refused_by_name(part: Any) -> None:
    with pytest.raises(GatewayError) as caught:
        responses.render_request(Request(model="m", messages=[Message("user", [part])]), "m")
    assert caught.value.param == part.path
