"""What clients of Responses send, read into the one model."""

from typing import Any

import pytest

from dwctl.dialects import responses
from dwctl.dialects.canonical import Audio, File, Foreign, Image, Message, Reasoning, Refusal, Request, Text, ToolCall, ToolResult
from dwctl.dialects.fields import settle
from dwctl.dialects.signatures import wrap
from dwctl.errors import GatewayError


def parsed(input: Any = "Hello", **fields: Any) -> Request:
    return responses.parse_request({"model": "m", "input": input, **fields})


def refusal_of(input: Any = "Hello", **fields: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        parsed(input, **fields)
    assert caught.value.status == 400
    return caught.value


CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'}


def test_a_string_is_a_message_of_the_user_and_instructions_come_first() -> None:
    assert parsed("Hello", instructions="Be brief.").messages == [Message("system", [Text("Be brief.")]), Message("user", [Text("Hello")])]


def test_items_without_a_type_are_messages_of_every_role() -> None:
    items = [{"role": role, "content": role} for role in ("system", "developer", "user", "assistant")]
    assert [(message.role, message.parts) for message in parsed(items).messages] == [
        (role, [Text(role)]) for role in ("system", "developer", "user", "assistant")
    ]


def test_a_type_that_is_not_text_is_refused() -> None:
    error = refusal_of([{"type": 5, "role": "user", "content": "x"}])
    assert (error.code, error.param) == ("invalid_type", "input[0].type")


def test_parts() -> None:
    parts = [
        {"type": "input_text", "text": "look"},
        {"type": "input_text", "text": ""},
        {"type": "input_image", "image_url": "data:image/jpeg;base64,QUJD", "detail": "high"},
        {"type": "input_image", "image_url": "https://pictures.example/1.png"},
        {"type": "input_image", "file_id": "file_1"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "QUJD"},
        {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,QUJD"},
        {"type": "input_file", "file_url": "https://files.example/a.pdf"},
        {"type": "input_file", "file_id": "file_2"},
        {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
        {"type": "input_video", "video_url": "https://films.example/1"},
    ]
    (message,) = parsed([{"role": "user", "content": parts}]).messages
    place = "input[0].content[{}].{}".format
    assert message.parts == [
        Text("look"),
        Image(place(2, "image_url"), data="QUJD", media_type="image/jpeg", detail="high"),
        Image(place(3, "image_url"), url="https://pictures.example/1.png"),
        Image(place(4, "file_id"), file_id="file_1"),
        File(place(5, "file_data"), data="QUJD", media_type="application/pdf", name="a.pdf"),
        File(place(6, "file_data"), data="QUJD", media_type="application/pdf", name="a.pdf"),
        File(place(7, "file_data"), text="ABC", media_type="text/plain", name="a.txt"),
        File(place(8, "file_url"), url="https://files.example/a.pdf"),
        File(place(9, "file_id"), file_id="file_2"),
        Audio(place(10, "input_audio"), "QUJD", "wav"),
        Foreign(place(11, "type"), "input_video"),
    ]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"text": "x"}, "input[0].content[0].type"),
        ({"type": "input_text"}, "input[0].content[0].text"),
        ({"type": "input_text", "text": 1}, "input[0].content[0].text"),
        ({"type": "input_image"}, "input[0].content[0].image_url"),
        ({"type": "input_image", "image_url": {"url": "https://x"}}, "input[0].content[0].image_url"),
        ({"type": "input_image", "image_url": "data:image/png,QUJD"}, "input[0].content[0].image_url"),
        ({"type": "input_file", "filename": "x"}, "input[0].content[0].file_data"),
        ("x", "input[0].content[0]"),
    ],
)
def test_a_malformed_part_is_named(part: Any, param: str) -> None:
    assert refusal_of([{"role": "user", "content": [part]}]).param == param


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ("x", "input[0]"),
        ({"role": "tool", "content": "x"}, "input[0].role"),
        ({"content": "x"}, "input[0].role"),
        ({"role": "user"}, "input[0].content"),
        ({"role": "user", "content": 3}, "input[0].content"),
        ({"type": "function_call", "name": "f", "arguments": "{}"}, "input[0].call_id"),
        ({"type": "function_call", "call_id": "c", "arguments": "{}"}, "input[0].name"),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": {}}, "input[0].arguments"),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": "nonsense"}, "input[0].arguments"),
        ({"type": "custom_tool_call", "call_id": "c", "name": "f"}, "input[0].input"),
        ({"type": "reasoning", "summary": ["x"]}, "input[0].summary[0]"),
    ],
)
def test_a_malformed_item_is_named(item: Any, param: str) -> None:
    assert refusal_of([item]).param == param


def test_a_turn_of_the_assistant_is_one_message_with_its_thoughts_and_calls() -> None:
    request = parsed(
        [
            {"role": "user", "content": "weather?"},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "gAAA"},
            {"type": "message", "role": "assistant", "phase": "commentary", "content": [{"type": "output_text", "text": "I look."}]},
            CALL,
            {"type": "reasoning", "id": "rs_2", "summary": [], "content": [{"type": "reasoning_text", "text": "and"}]},
            {**CALL, "call_id": "call_2"},
            {"type": "function_call_output", "call_id": "call_1", "output": "sun"},
            {
                "type": "function_call_output",
                "call_id": "call_2",
                "output": [{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": "data:image/png;base64,QUJD"}],
            },
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            {"role": "assistant", "content": "But."},
        ]
    )
    assert [message.role for message in request.messages] == ["user", "assistant", "tool", "assistant", "assistant"]
    assert request.messages[1].parts == [
        Reasoning("hm", summary=True, signature="gAAA", origin="openai-responses", id="rs_1"),
        Text("I look."),
        ToolCall("call_1", "f", '{"a":1}'),
        Reasoning("and", origin="openai-responses", id="rs_2"),
        ToolCall("call_2", "f", '{"a":1}'),
    ]
    assert request.messages[2].parts == [
        ToolResult("call_1", [Text("sun")]),
        ToolResult("call_2", [Text("see"), Image("input[7].output[1].image_url", data="QUJD", media_type="image/png")]),
    ]
    assert [message.parts for message in request.messages[3:]] == [[Refusal("No.")], [Text("But.")]]


def test_tools_of_a_namespace_are_told_apart_by_its_name() -> None:
    tools = [{"type": "function", "name": "f", "description": "Find."}, {"type": "custom", "name": "patch"}]
    group = {"type": "namespace", "name": "crm", "description": "Customers.", "tools": tools}
    request = parsed([{**CALL, "namespace": "crm"}, CALL], tools=[{"type": "function", "name": "f"}, group])
    assert [(tool.path, tool.name, tool.description, tool.custom) for tool in request.tools] == [
        ("tools[0]", "f", None, False),
        ("tools[1].tools[0]", "crm__f", "Customers.\n\nFind.", False),
        ("tools[1].tools[1]", "crm__patch", "Customers.", True),
    ]
    assert [part.name for part in request.messages[0].parts if isinstance(part, ToolCall)] == ["crm__f", "f"]
    assert refusal_of(tools=[{"type": "namespace", "name": "crm"}]).param == "tools[0].tools"
    assert refusal_of(tools=[{**group, "tools": [{"type": "function"}]}]).param == "tools[0].tools[0].name"


@pytest.mark.parametrize("provider", ["openai-chat", "anthropic", "ollama"])
def test_a_namespace_holds_what_the_client_runs_itself(provider: str) -> None:
    for kind in ("web_search", "namespace"):
        group = {"type": "namespace", "name": "crm", "tools": [{"type": kind, "name": "x", "tools": []}]}
        with pytest.raises(GatewayError) as caught:
            settle(parsed(tools=[group]), "openai-responses", provider)
        assert caught.value.param == "tools[0].tools[0].type"


def test_custom_tools_keep_their_text() -> None:
    request = parsed(
        [
            {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "*** Begin"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
        ],
        tools=[{"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}}],
    )
    assert request.messages[0].parts == [ToolCall("c", "patch", "*** Begin", custom=True)]
    assert request.messages[1].parts == [ToolResult("c", [Text("done")], custom=True)]
    assert request.tools[0].custom
    assert request.tools[0].grammar == {"syntax": "lark", "definition": "start: x"}


def test_an_envelope_that_comes_back_is_opened() -> None:
    carried = wrap("anthropic", "c2ln", id=None, thought="I think.")
    (message,) = parsed([{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": carried}]).messages
    assert message.parts == [Reasoning("I think.", signature="c2ln", origin="anthropic")]


def test_an_output_without_its_call_is_refused_unless_there_was_something_before() -> None:
    output = {"type": "function_call_output", "call_id": "call_1", "output": "sun"}
    assert refusal_of([output, CALL]).param == "input[0].call_id"
    assert refusal_of([{**output, "type": "custom_tool_call_output"}]).param == "input[0].call_id"
    assert parsed([output], previous_response_id="resp_1").messages[0].parts == [ToolResult("call_1", [Text("sun")])]


@pytest.mark.parametrize("item", [{"type": "item_reference", "id": "msg_1"}, {"id": "msg_1"}])
def test_a_reference_is_refused_elsewhere_with_what_to_send(item: dict[str, Any]) -> None:
    with pytest.raises(GatewayError, match="send the items themselves") as caught:
        settle(parsed([item]), "openai-responses", "openai-chat")
    assert caught.value.param == "input[0].type"


@pytest.mark.parametrize("provider", ["openai-chat", "anthropic", "ollama"])
def test_what_only_openai_runs_is_refused_by_name_elsewhere(provider: Any) -> None:
    with pytest.raises(GatewayError) as caught:
        settle(parsed(tools=[{"type": "web_search"}], tool_choice={"type": "web_search_preview"}), "openai-responses", provider)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "tools[0].type")
    with pytest.raises(GatewayError) as caught:
        settle(parsed([{"type": "web_search_call", "id": "ws_1", "status": "completed"}]), "openai-responses", provider)
    assert caught.value.param == "input[0].type"


def test_function_tools_are_the_clients_own() -> None:
    (bare, full) = parsed(
        tools=[
            {"type": "function", "name": "f"},
            {"type": "function", "name": "g", "description": "d", "parameters": {"type": "object"}, "strict": True},
        ]
    ).tools
    assert (bare.path, bare.name, bare.description, bare.parameters, bare.strict, bare.hosted) == ("tools[0]", "f", None, None, None, None)
    assert (full.name, full.description, full.parameters, full.strict) == ("g", "d", {"type": "object"}, True)


def test_choices_of_tools() -> None:
    assert [parsed(tool_choice=mode).tool_choice.mode for mode in ("auto", "none", "required")] == ["auto", "none", "required"]
    named = parsed(tool_choice={"type": "custom", "name": "patch"}).tool_choice
    assert named is not None
    assert (named.mode, named.names) == ("named", ["patch"])
    allowed = parsed(
        tool_choice={"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}, {"type": "mcp"}]}
    ).tool_choice
    assert allowed is not None
    assert (allowed.mode, allowed.names, allowed.must) == ("allowed", ["f"], True)


def test_every_other_field() -> None:
    request = parsed(
        stream=True,
        max_output_tokens=100,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        seed=7,
        stop="END",
        parallel_tool_calls=False,
        include=["reasoning.encrypted_content", "message.output_text.logprobs", "web_search_call.action.sources"],
        top_logprobs=3,
        reasoning={"effort": "xhigh", "summary": "auto", "context": "all_turns"},
        text={"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
        user="u",
        metadata={"a": "b"},
        service_tier="flex",
        prompt_cache_key="k",
        prompt_cache_retention="24h",
        safety_identifier="s",
        store=True,
        client_metadata={"x": "y"},
        previous_response_id=None,
    )
    assert request.stream
    assert (request.max_output, request.temperature, request.top_p, request.top_k) == (100, 0.5, 0.9, 40)
    assert (request.presence_penalty, request.frequency_penalty, request.seed, request.stop) == (0.1, 0.2, 7, ["END"])
    assert (request.parallel_tool_calls, request.encrypted_reasoning, request.logprobs, request.top_logprobs) == (False, True, True, 3)
    assert (request.effort, request.reasoning_summary, request.verbosity) == ("xhigh", "auto", "low")
    wanted = request.output_format
    assert wanted is not None
    assert (wanted.name, wanted.schema, wanted.strict) == ("n", {"type": "object"}, True)
    assert (request.user, request.metadata, request.service_tier) == ("u", {"a": "b"}, "flex")
    assert (request.prompt_cache_key, request.prompt_cache_retention, request.safety_identifier) == ("k", "24h", "s")
    assert request.others == {
        "store": True,
        "client_metadata": {"x": "y"},
        "include[2]": "web_search_call.action.sources",
        "reasoning.context": "all_turns",
    }
    assert request.echo["text"]["verbosity"] == "low"
    assert request.echo["store"] is True
    assert "previous_response_id" not in request.echo


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"reasoning": "high"}, "reasoning", "invalid_type"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort", "invalid_type"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort", "invalid_value"),
        ({"reasoning": {"summary": True}}, "reasoning.summary", "invalid_type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema", "missing_required_parameter"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
        ({"text": {"verbosity": "wordy"}}, "text.verbosity", "invalid_value"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "missing_required_parameter"),
        ({"tools": [{"name": "f"}]}, "tools[0].type", "missing_required_parameter"),
        ({"tool_choice": "any"}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name", "missing_required_parameter"),
        ({"tool_choice": 1}, "tool_choice", "invalid_type"),
        ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
        ({"max_output_tokens": "10"}, "max_output_tokens", "invalid_type"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"include": ["reasoning.encrypted_content", 1]}, "include[1]", "invalid_type"),
        ({"top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata", "invalid_value"),
        ({"metadata": {"k": "v" * 513}}, "metadata", "invalid_value"),
        ({"metadata": {"k": 1}}, "metadata", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": 5}, "input", "invalid_type"),
        ({"instructions": 5}, "instructions", "invalid_type"),
    ],
)
def test_a_malformed_field_is_named(fields: dict[str, Any], param: str, code: str) -> None:
    error = refusal_of(**fields)
    assert (error.param, error.code) == (param, code)


@pytest.mark.parametrize("name", ["previous_response_id", "conversation", "prompt", "background"])
def test_what_a_provider_would_have_to_keep_is_refused_elsewhere(name: str) -> None:
    with pytest.raises(GatewayError) as caught:
        settle(parsed(**{name: "x"}), "openai-responses", "anthropic")
    assert caught.value.param == name
