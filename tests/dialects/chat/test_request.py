"""Chat requests: what clients send is understood, and what providers are sent is what they take."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.dialects import chat, signatures
from dwctl.dialects.canonical import (
    Audio,
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
from dwctl.dialects.codec import Codec
from dwctl.dialects.fields import CHAT, FIELDS
from dwctl.errors import GatewayError

SAID: dict[str, Any] = {
    "max_output": 64,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.05,
    "presence_penalty": 0.1,
    "frequency_penalty": -0.1,
    "seed": 7,
    "stop": ["END"],
    "n": 2,
    "logprobs": True,
    "top_logprobs": 3,
    "logit_bias": {"50256": -100},
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "effort": "high",
    "output_format": {"type": "json_object"},
    "verbosity": "low",
    "user": "u1",
    "metadata": {"k": "v"},
    "service_tier": "flex",
    "prompt_cache_key": "key",
    "prompt_cache_retention": "24h",
    "safety_identifier": "hash",
}


ASK = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def read(*messages: dict[str, Any], **fields: Any) -> Request:
    return chat.parse_request({**ASK, **({"messages": list(messages)} if messages else {}), **fields})


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def written(*messages: Message, **fields: Any) -> dict[str, Any]:
    return chat.render_request(Request(model="alias", messages=list(messages), **fields), "model")


def sent(*messages: Message) -> list[dict[str, Any]]:
    return written(*messages)["messages"]  # type: ignore[no-any-return]


def refusal(**body: Any) -> GatewayError:
    with pytest.raises(GatewayError) as raised:
        chat.parse_request({**ASK, **body})
    assert raised.value.status == 400
    return raised.value


def test_the_module_is_a_codec() -> None:
    codec: Codec = chat
    assert (codec.DIALECT, codec.PATH, codec.STREAM_TYPE, codec.PING) == (
        "openai-chat",
        "/chat/completions",
        "text/event-stream; charset=utf-8",
        b": ping\n\n",
    )


@pytest.mark.parametrize("field", [field for field in FIELDS if CHAT in field.says], ids=lambda field: field.name)
def test_every_field_of_the_table_is_read_and_written(field: Any) -> None:
    path, value = field.says[CHAT], SAID[field.name]
    body = {**ASK, path: value}
    request = chat.parse_request(body)
    assert getattr(request, field.name) not in (None, [])
    assert request.others == {}
    if field.fate(CHAT) == "translated":
        tools = {"tools": SAID["tools"]} if field.name in ("tool_choice", "parallel_tool_calls") else {}
        assert chat.render_request(chat.parse_request(body | tools), "gpt-5")[path] == value
    else:
        assert path not in chat.render_request(request, "gpt-5")


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({"thinking": "disabled"}, "none"),
        ({"thinking": "adaptive"}, None),
        ({"thinking": "adaptive", "effort": "max"}, "max"),
        ({"thinking": "enabled"}, "medium"),
        ({"thinking": "enabled", "thinking_budget": 2048}, "low"),
        ({"thinking": "enabled", "thinking_budget": 8192}, "medium"),
        ({"thinking": "enabled", "thinking_budget": 8193}, "high"),
        ({"thinking": "enabled", "thinking_budget": 8193, "effort": "minimal"}, "minimal"),
        ({}, None),
    ],
)
def test_thinking_becomes_an_effort(fields: dict[str, Any], effort: str | None) -> None:
    assert written(**fields).get("reasoning_effort") == effort


@pytest.mark.parametrize("effort", ["none", "minimal", "low", "medium", "high", "xhigh", "max"])
def test_every_effort_is_known(effort: str) -> None:
    assert read(reasoning_effort=effort).effort == effort


def test_an_unknown_effort_is_refused() -> None:
    error = refusal(reasoning_effort="extreme")
    assert (error.param, error.code) == ("reasoning_effort", "invalid_value")


def test_both_names_of_the_limit_are_read_and_the_newer_wins() -> None:
    assert read(max_tokens=5).max_output == 5
    assert read(max_tokens=5, max_completion_tokens=6).max_output == 6
    assert read(max_tokens=5, max_completion_tokens=None).max_output == 5


@pytest.mark.parametrize("model", ["gpt-5", "gpt-4o-mini", "o3-mini", "openai/gpt-6-astra", "ft:o4-mini-2025:org", "chatgpt-4o-latest"])
def test_openai_models_get_the_limit_under_its_newer_name(model: str) -> None:
    body = chat.render_request(Request(model="alias", messages=[], max_output=9), model)
    assert body["max_completion_tokens"] == 9
    assert "max_tokens" not in body


@pytest.mark.parametrize("model", ["openai/gpt-oss-120b", "mistral-small-latest", "meta-llama/Llama-3.1-8B", "deepseek-chat", "qwen3-gpt"])
def test_everybody_else_gets_it_under_the_name_that_all_know(model: str) -> None:
    body = chat.render_request(Request(model="alias", messages=[], max_output=9), model)
    assert body["max_tokens"] == 9
    assert "max_completion_tokens" not in body


def test_a_stream_always_asks_for_usage() -> None:
    body = written(stream=True, include_usage=False)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert not {"stream", "stream_options"} & set(written())


def test_usage_is_for_the_client_only_if_it_asked() -> None:
    assert read(stream=True, stream_options={"include_usage": True}).include_usage is True
    assert read(stream=True).include_usage is False
    assert read(stream=True, stream_options={"include_usage": False}).include_usage is False


def test_unknown_fields_are_kept_by_their_path_and_never_refused() -> None:
    request = read(
        {"role": "user", "content": "a", "mood": 1},
        {"role": "user", "content": "b", "mood": 2},
        store=True,
        modalities=["text"],
        audio=None,
        stream_options={"include_obfuscation": False},
        chat_template_kwargs={"enable_thinking": False},
    )
    assert request.others == {
        "messages[].mood": 2,
        "store": True,
        "stream_options.include_obfuscation": False,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    assert read(modalities=["text", "audio"]).others == {"modalities": ["text", "audio"]}


def test_roles_are_kept() -> None:
    messages = [{"role": role, "content": role, "name": "n"} for role in ("system", "developer", "user", "assistant")]
    request = read(*messages)
    assert [message.role for message in request.messages] == ["system", "developer", "user", "assistant"]
    assert chat.render_request(request, "m")["messages"] == messages


def test_parts_are_read() -> None:
    request = read(
        user(
            {"type": "text", "text": "see", "cache_control": {"type": "ephemeral"}},
            {"type": "image_url", "image_url": {"url": "data:image/PNG;charset=x;base64,iVBO", "detail": "low"}},
            {"type": "image_url", "image_url": "https://h/p.png"},
            {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
            {"type": "file", "file": {"file_data": "JVBE"}},
            {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64," + base64.b64encode(b"hey").decode()}},
            {"type": "file", "file": {"file_id": "file-1"}},
            {"type": "video_url", "video_url": {"url": "https://h/v.mp4"}},
        )
    )
    place = "messages[0].content"
    assert request.messages[0].parts == [
        Text("see", cache={"type": "ephemeral"}),
        Image(f"{place}[1].image_url.url", data="iVBO", media_type="image/png", detail="low"),
        Image(f"{place}[2].image_url.url", url="https://h/p.png"),
        Audio(f"{place}[3].input_audio", "UklG", "wav"),
        File(f"{place}[4].file.file_data", data="JVBE", media_type="application/pdf", name="a.pdf"),
        File(f"{place}[5].file.file_data", data="JVBE", media_type="application/pdf"),
        File(f"{place}[6].file.file_data", media_type="text/plain", text="hey", name="a.txt"),
        File(f"{place}[7].file.file_id", file_id="file-1"),
        Foreign(f"{place}[8].type", "video_url"),
    ]


def test_parts_are_written() -> None:
    [message] = sent(
        Message(
            "user",
            [
                Text("see"),
                Image("p", data="iVBO", media_type="image/png", detail="low"),
                Image("p", url="https://h/p.png"),
                Audio("p", "UklG", "wav"),
                File("p", data="JVBE", media_type="application/pdf"),
                File("p", text="hey", name="a.txt", context="a note"),
            ],
        )
    )
    assert message["content"] == [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://h/p.png"}},
        {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
        {"type": "file", "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
        {"type": "text", "text": "a.txt\na note\nhey"},
    ]


def test_text_alone_is_a_string() -> None:
    assert sent(Message("system", [Text("a"), Text("b")]), Message("user", [])) == [
        {"role": "system", "content": "a\nb"},
        {"role": "user", "content": ""},
    ]


def test_a_turn_with_tools_is_read() -> None:
    request = read(
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"a": 1}'},
                    "cache_control": {"type": "ephemeral"},
                },
                {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "x = 1"}},
                {"id": "c3", "type": "function", "function": {"name": "h", "arguments": "null"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "two"}]},
        {"role": "tool", "tool_call_id": "c3", "content": ""},
        {"role": "user", "content": "go on"},
    )
    assert [message.role for message in request.messages] == ["assistant", "tool", "user"]
    assert request.messages[0].parts == [
        ToolCall("c1", "f", '{"a": 1}', cache={"type": "ephemeral"}),
        ToolCall("c2", "g", "x = 1", custom=True),
        ToolCall("c3", "h", "{}"),
    ]
    assert request.messages[1].parts == [
        ToolResult("c1", [Text("one")]),
        ToolResult("c2", [Text("two")], custom=True),
        ToolResult("c3", []),
    ]


def test_a_turn_with_tools_is_written() -> None:
    assert sent(
        Message("assistant", [Text("let "), Text("me see"), ToolCall("c1", "f", '{"a": 1}'), ToolCall("c2", "g", "x", custom=True)]),
        Message("tool", [ToolResult("c1", [Text("one")]), ToolResult("c2", [Text("bad")], is_error=True, custom=True)]),
    ) == [
        {
            "role": "assistant",
            "content": "let me see",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
                {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "x"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "Error: bad"},
    ]


def test_an_error_is_said_once() -> None:
    [message] = sent(Message("tool", [ToolResult("c", [Text("Error: no such file")], is_error=True)]))
    assert message["content"] == "Error: no such file"


def test_pictures_of_tools_follow_all_their_messages() -> None:
    picture = Image("p", data="iVBO", media_type="image/png")
    messages = sent(
        Message("tool", [ToolResult("c1", [Text("a chart"), picture]), ToolResult("c2", [picture])]),
        Message("tool", [ToolResult("c3", [Text("three")])]),
        Message("user", [Text("and?")]),
    )
    shown = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
    assert [message["role"] for message in messages] == ["tool", "tool", "tool", "user"]
    assert messages[0]["content"] == "a chart"
    assert messages[1]["content"] != ""
    assert messages[3]["content"] == [
        {"type": "text", "text": "What the tool call c1 returned:"},
        shown,
        {"type": "text", "text": "What the tool call c2 returned:"},
        shown,
        {"type": "text", "text": "and?"},
    ]


@pytest.mark.parametrize("after", [[], [Message("assistant", [Text("ok")])]])
def test_pictures_of_tools_get_a_message_of_their_own_where_no_user_speaks(after: list[Message]) -> None:
    messages = sent(Message("tool", [ToolResult("c1", [Image("p", url="https://h/p")])]), *after)
    assert [message["role"] for message in messages] == ["tool", "user", *(message.role for message in after)]


def test_old_functions_are_read() -> None:
    request = read(
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "2"},
        functions=[{"name": "f", "parameters": {"type": "object"}}],
        function_call={"name": "f"},
    )
    assert request.tools == [Tool("functions[0]", "f", parameters={"type": "object"})]
    assert request.tool_choice == ToolChoice("named", ["f"], path="function_call")
    assert (request.old_functions, request.parallel_tool_calls) == (True, False)
    ids = [part.id if isinstance(part, ToolCall) else part.call_id for message in request.messages for part in message.parts]  # type: ignore[union-attr]
    assert ids[0] == ids[1] != ids[2] == ids[3]
    assert read(function_call="none").tool_choice == ToolChoice("none", path="function_call")
    assert read(functions=[{"name": "f", "new": 1}]).others == {"functions[].new": 1}
    both = read(functions=[{"name": "f"}], tools=[{"type": "function", "function": {"name": "g"}}], parallel_tool_calls=True)
    assert (both.old_functions, both.parallel_tool_calls) == (False, True)


def test_tools_of_every_kind() -> None:
    tools = [
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
        },
        {"type": "function", "function": {"name": "bare"}},
        {"type": "custom", "custom": {"name": "c", "description": "d"}},
        {
            "type": "custom",
            "custom": {"name": "g", "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /x/"}}},
        },
    ]
    request = read(tools=tools)
    assert [tool.custom for tool in request.tools] == [False, False, True, True]
    assert request.tools[3].grammar == {"syntax": "lark", "definition": "start: /x/"}
    assert chat.render_request(request, "m")["tools"] == tools
    [hosted] = read(tools=[{"type": "web_search"}]).tools
    assert (hosted.path, hosted.hosted) == ("tools[0]", "web_search")


@pytest.mark.parametrize(
    "choice",
    [
        "auto",
        "none",
        "required",
        {"type": "function", "function": {"name": "f"}},
        {"type": "custom", "custom": {"name": "c"}},
        {
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "required",
                "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "c"}}],
            },
        },
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}},
    ],
)
def test_choices_of_tools(choice: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "c"}}]
    assert chat.render_request(read(tools=tools, tool_choice=choice), "m")["tool_choice"] == choice


def test_what_is_refused_without_tools_is_left_out_without_them() -> None:
    body = written(tool_choice=ToolChoice("auto"), parallel_tool_calls=True)
    assert not {"tool_choice", "parallel_tool_calls"} & set(body)


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "n", "description": "d", "schema": {"type": "object"}, "strict": True}},
    ],
)
def test_formats_of_the_answer(form: dict[str, Any]) -> None:
    assert chat.render_request(read(response_format=form), "m")["response_format"] == form


def test_a_schema_without_a_name_gets_one() -> None:
    body = written(output_format=OutputFormat({"type": "object"}))
    assert body["response_format"] == {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}
    assert read(response_format={"type": "text"}).output_format is None


def test_log_probabilities_are_asked_for_where_only_their_number_is_said() -> None:
    assert written(top_logprobs=2)["logprobs"] is True
    assert "logprobs" not in written(top_logprobs=0)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": [user()]}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{}]}, "messages[0].role"),
        ({"messages": [{"role": "robot"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [5]}]}, "messages[0].content[0]"),
        ({"messages": [user({})]}, "messages[0].content[0].type"),
        ({"messages": [user({"type": "text", "text": 1})]}, "messages[0].content[0].text"),
        (
            {"messages": [user({"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}})]},
            "messages[0].content[1].image_url.url",
        ),
        ({"messages": [user({"type": "image_url", "image_url": {"url": "data:image/png,x"}})]}, "messages[0].content[0].image_url.url"),
        ({"messages": [user({"type": "input_audio"})]}, "messages[0].content[0].input_audio"),
        ({"messages": [user({"type": "file", "file": {}})]}, "messages[0].content[0].file.file_data"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].name"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"type": "function"}]}]}, "messages[0].tool_calls[0].id"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "[1]"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": "9"}, "max_completion_tokens"),
        ({"stop": ["a", 1]}, "stop[1]"),
        ({"n": 0}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "custom", "custom": {"name": "c", "format": {"type": "xml"}}}]}, "tools[0].custom.format.type"),
        ({"functions": [{}]}, "functions[0].name"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "some"}}}, "tool_choice.allowed_tools.mode"),
        ({"function_call": "any"}, "function_call"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"logit_bias": []}, "logit_bias"),
    ],
)
def test_what_is_malformed_is_named(body: dict[str, Any], param: str) -> None:
    assert refusal(**body).param == param


def test_reasoning_of_earlier_turns_is_read_in_every_spelling() -> None:
    details = [{"type": "reasoning.text", "text": "hm", "index": 0}]
    for fields in ({"reasoning_content": "hm"}, {"reasoning": "hm"}, {"reasoning_details": details}):
        [message] = read({"role": "assistant", "content": "a", **fields}).messages
        assert message.parts == [Reasoning("hm", origin="openai-chat"), Text("a")]
    [message] = read(
        {"role": "assistant", "content": "a", "reasoning_content": "hm", "reasoning": "hm", "reasoning_details": details}
    ).messages
    assert message.parts == [Reasoning("hm", origin="openai-chat"), Text("a")]


def test_what_another_dialect_signed_comes_back_from_a_client() -> None:
    envelope = signatures.wrap("anthropic", "sig==")
    hidden = signatures.wrap("anthropic", "cipher", redacted=True)
    details = [
        {"type": "reasoning.text", "text": "hm", "signature": envelope, "index": 0},
        {"type": "reasoning.encrypted", "data": hidden, "index": 1},
    ]
    [message] = read({"role": "assistant", "content": "a", "reasoning_content": "hm", "reasoning_details": details}).messages
    assert message.parts[:2] == [
        Reasoning("hm", signature="sig==", origin="anthropic"),
        Reasoning("", signature="cipher", origin="anthropic", redacted=True),
    ]


def test_reasoning_goes_back_to_a_provider() -> None:
    details = '[{"type":"reasoning.encrypted","data":"abc"}]'
    [message] = sent(
        Message(
            "assistant",
            [
                Reasoning("one", signature='[{"data":"theirs"}]', origin="anthropic"),
                Reasoning("two", signature=details, origin="openai-chat"),
                Text("a"),
            ],
        )
    )
    assert message["reasoning_content"] == "onetwo"
    assert message["reasoning_details"] == [{"type": "reasoning.encrypted", "data": "abc"}]
    [message] = sent(Message("assistant", [Reasoning("", signature="not ours", origin="openai-chat"), Text("a")]))
    assert set(message) == {"role", "content"}


def test_a_refusal_of_an_earlier_turn() -> None:
    spoken = {"role": "assistant", "content": None, "refusal": "no"}
    request = read(spoken)
    assert request.messages[0].parts == [Refusal("no")]
    assert chat.render_request(request, "m")["messages"] == [spoken]
    assert read({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}).messages == request.messages


def test_audio_of_an_earlier_turn_has_no_meaning_elsewhere() -> None:
    [message] = read({"role": "assistant", "audio": {"id": "a"}}).messages
    assert message.parts == [Foreign("messages[0].audio", "audio")]


names = st.text("abcdefghij_", min_size=1, max_size=8)
words = st.text(max_size=20)


@st.composite
def turns(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The messages of a conversation as this codec writes them."""
    messages: list[dict[str, Any]] = [{"role": draw(st.sampled_from(["system", "developer"])), "content": draw(words.filter(str.strip))}]
    for turn in range(draw(st.integers(0, 3))):
        messages.append(
            draw(
                st.one_of(
                    st.builds(lambda text: {"role": "user", "content": text}, words),
                    st.builds(
                        lambda text, url: user({"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}),
                        words.filter(bool),
                        st.sampled_from(["https://h/p.png", "data:image/png;base64,iVBO"]),
                    ),
                )
            )
        )
        count = draw(st.integers(0, 3))
        calls = [
            {
                "id": f"c{turn}_{index}",
                "type": "function",
                "function": {"name": draw(names), "arguments": draw(st.sampled_from(["{}", '{"a": 1}']))},
            }
            for index in range(count)
        ]
        answer: dict[str, Any] = {"role": "assistant", "content": draw(words)}
        if calls:
            answer = {"role": "assistant", "content": answer["content"] or None, "tool_calls": calls}
        if thought := draw(words):
            answer["reasoning_content"] = thought
        messages.append(answer)
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": draw(words)} for call in calls]
    return messages


@given(turns())
def test_a_conversation_is_the_same_after_reading_and_writing(messages: list[dict[str, Any]]) -> None:
    body = {"model": "m", "messages": messages}
    assert chat.render_request(chat.parse_request(body), "m") == body


json_values = st.recursive(
    st.sampled_from([None, True, 0, -1, 2**70, 0.5, float("nan"), "", "x", "auto", "function", "user"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "role", "content", "name"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*(field.says.get(CHAT, "x") for field in FIELDS), "messages", "functions", "stream"]), json_values))
def test_nonsense_is_refused_or_read_and_never_breaks(body: dict[str, Any]) -> None:
    try:
        request = chat.parse_request({**ASK, **body})
    except GatewayError as error:
        assert error.status == 400
        assert error.param
    else:
        chat.render_request(request, "m")
