"""What clients of Anthropic's dialect send, and what is read from it."""

from typing import Any

import pytest

from dwctl.dialects import anthropic
from dwctl.dialects.canonical import (
    File,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from dwctl.dialects.fields import FIELDS, settle
from dwctl.dialects.signatures import wrap
from dwctl.errors import GatewayError

MARK = {"type": "ephemeral", "ttl": "1h"}


def asked(content: Any = "Hi", role: str = "user", **fields: Any) -> Request:
    return anthropic.parse_request({"model": "m", "max_tokens": 4096, "messages": [{"role": role, "content": content}], **fields})


def refusal(content: Any = "Hi", role: str = "user", **fields: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        asked(content, role, **fields)
    assert caught.value.status == 400
    return caught.value


def test_every_block_of_a_user() -> None:
    request = asked(
        [
            {"type": "tool_result", "tool_use_id": "t1", "content": "22 °C", "cache_control": MARK},
            {"type": "text", "text": "See", "cache_control": MARK},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
            {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}},
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
            {
                "type": "document",
                "title": "T",
                "context": "C",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
            },
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
            {"type": "document", "source": {"type": "url", "url": "https://a.example/b.pdf"}},
            {"type": "document", "source": {"type": "file", "file_id": "file_2"}},
            {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}},
            {"type": "search_result", "title": "R", "source": "https://r.example/", "content": [{"type": "text", "text": "found"}]},
            {"type": "container_upload", "file_id": "file_3"},
            {"type": "tool_result", "tool_use_id": "t2", "is_error": True, "content": [
                {"type": "text", "text": "no"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
            ]},
        ]
    )  # fmt: skip
    at = "messages.0.content"
    assert request.messages == [
        Message("tool", [
            ToolResult("t1", [Text("22 °C")], cache=MARK),
            ToolResult("t2", [Text("no"), Image(f"{at}.12.content.1.source.data", data="iVBO", media_type="image/png")], is_error=True),
        ]),
        Message("user", [
            Text("See", MARK),
            Image(f"{at}.2.source.data", data="iVBO", media_type="image/png"),
            Image(f"{at}.3.source.url", url="https://a.example/b.png"),
            Image(f"{at}.4.source.file_id", file_id="file_1"),
            File(f"{at}.5.source.data", data="JVBERi0=", media_type="application/pdf", name="T", context="C"),
            File(f"{at}.6.source.data", text="words", media_type="text/plain"),
            File(f"{at}.7.source.url", url="https://a.example/b.pdf"),
            File(f"{at}.8.source.file_id", file_id="file_2"),
            File(f"{at}.9.source.content", text="a\n\nb", media_type="text/plain"),
            Text("R\nhttps://r.example/\nfound"),
            Foreign(f"{at}.11", "container_upload"),
        ]),
    ]  # fmt: skip


def test_every_block_of_an_assistant() -> None:
    sealed = wrap("openai-responses", "ciphertext", id="rs_1", summary=True)
    request = asked(
        [
            {"type": "thinking", "thinking": "a", "signature": "EqQB=="},
            {"type": "thinking", "thinking": "b", "signature": sealed},
            {"type": "redacted_thinking", "data": "blob"},
            {"type": "text", "text": "I call."},
            {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Köln"}, "cache_control": MARK},
            {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
        ],
        role="assistant",
    )
    assert request.messages[0].parts == [
        Reasoning("a", signature="EqQB==", origin="anthropic"),
        Reasoning("b", True, "ciphertext", "openai-responses", "rs_1"),
        Reasoning(signature="blob", origin="anthropic", redacted=True),
        Text("I call."),
        ToolCall("t1", "weather", '{"city":"Köln"}', cache=MARK),
        Foreign("messages.0.content.5", "server_tool_use"),
    ]


def test_system_prompts_before_and_within_the_conversation() -> None:
    body = {
        "model": "m",
        "max_tokens": 1,
        "system": [{"type": "text", "text": "a", "cache_control": MARK}, {"type": "text", "text": "b"}],
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "system", "content": "c"},
            {"role": "system", "content": [{"type": "text", "text": "d"}]},
        ],
    }
    assert anthropic.parse_request(body).messages == [
        Message("system", [Text("a", MARK), Text("b")]),
        Message("user", [Text("Hi")]),
        Message("system", [Text("c")]),
        Message("system", [Text("d")]),
    ]
    assert asked(system="s").messages[0] == Message("system", [Text("s")])


def test_every_field_that_the_table_names_is_read() -> None:
    request = asked(
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        stop_sequences=["###"],
        stream=True,
        tools=[{"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": True, "cache_control": MARK}],
        tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        thinking={"type": "enabled", "budget_tokens": 2048, "display": "omitted"},
        output_config={"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        metadata={"user_id": "u"},
        service_tier="standard_only",
    )
    assert request.tools == [Tool("tools.0", "f", "d", {"type": "object"}, True, cache=MARK)]
    assert request.tool_choice == ToolChoice("named", ["f"])
    assert request.output_format == OutputFormat({"type": "object"})
    assert request.stream
    expected = {
        "max_output": 4096, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "stop": ["###"], "parallel_tool_calls": False, "effort": "high",
        "thinking": "enabled", "thinking_budget": 2048, "reasoning_summary": "omitted", "user": "u", "service_tier": "default",
    }  # fmt: skip
    assert {name: getattr(request, name) for name in expected} == expected
    assert {field.name for field in FIELDS if "anthropic" in field.says} == {*expected, "tools", "tool_choice", "output_format"}
    assert request.others == {}


@pytest.mark.parametrize(("choice", "read"), [("auto", ToolChoice("auto")), ("any", ToolChoice("required")), ("none", ToolChoice("none"))])
def test_tool_choices(choice: str, read: ToolChoice) -> None:
    request = asked(tool_choice={"type": choice})
    assert (request.tool_choice, request.parallel_tool_calls) == (read, None)


def test_tools_that_the_provider_runs_are_refused_by_name() -> None:
    request = asked(tools=[{"type": "web_search_20250305", "name": "web_search"}])
    with pytest.raises(GatewayError) as caught:
        settle(request, "anthropic", "openai-chat")
    assert caught.value.param == "tools.0.type"
    assert "web_search_20250305" in caught.value.message


def test_what_claude_code_sends_is_read() -> None:
    request = asked(
        [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}],
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        thinking={"type": "adaptive"},
        output_config={"effort": "medium", "task_budget": {"type": "tokens", "total": 1}},
        metadata={"user_id": '{"device_id":"x"}'},
        tools=[{"name": name, "input_schema": {"type": "object"}, "eager_input_streaming": True} for name in ("a", "b")],
        betas=["x"],
    )
    assert set(request.others) == {"context_management", "output_config.task_budget", "tools.eager_input_streaming", "betas"}
    assert (request.thinking, request.effort, request.encrypted_reasoning) == ("adaptive", "medium", True)
    _, notes = settle(request, "anthropic", "openai-chat")
    assert len(notes) == 4


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1023}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"stop_sequences": "###"}, "stop_sequences"),
        ({"stop_sequences": [1]}, "stop_sequences.0"),
        ({"tools": [{"input_schema": {}}]}, "tools.0.name"),
        ({"tools": [{"name": "f", "input_schema": []}]}, "tools.0.input_schema"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"system": [{"type": "image"}]}, "system.0.type"),
        ({"system": 1}, "system"),
        ({"output_config": {"effort": "much"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "grammar"}}}, "output_config.format.type"),
        ({"messages": {}}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"model": None}, "model"),
        ({"content": [{"text": "x"}]}, "messages.0.content.0.type"),
        ({"content": [{"type": "text"}]}, "messages.0.content.0.text"),
        ({"content": ["x"]}, "messages.0.content.0"),
        ({"content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png"}}]}, "messages.0.content.0.source.data"),
        ({"content": [{"type": "tool_use", "id": "t", "name": "f", "input": "x"}]}, "messages.0.content.0.input"),
        ({"content": [{"type": "tool_result", "content": "x"}]}, "messages.0.content.0.tool_use_id"),
        ({"content": [{"type": "text", "text": "x", "cache_control": 1}]}, "messages.0.content.0.cache_control"),
    ],
)
def test_a_malformed_field_is_named(fields: dict[str, Any], param: str) -> None:
    assert refusal(**fields).param == param


def test_the_roles_and_the_bound_that_there_must_be() -> None:
    error = refusal(role="tool")
    assert (error.message, error.param) == ("messages.0.role: unsupported message role: tool", "messages.0.role")
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    with pytest.raises(GatewayError) as caught:
        anthropic.parse_request(body)
    assert caught.value.param == "max_tokens"
    assert anthropic.parse_count_request(body).messages == [Message("user", [Text("Hi")])]
