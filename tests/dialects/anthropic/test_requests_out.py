"""What a provider of Anthropic's dialect is sent, by the rules of the real one."""

from typing import Any

import pytest

from dwctl.dialects import anthropic
from dwctl.dialects.canonical import (
    File,
    Image,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Request,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from dwctl.errors import GatewayError

MARK = {"type": "ephemeral"}
USER = Message("user", [Text("Hi")])
HELLO = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
TOOL = Tool("tools[0].function", "f", "d", {"type": "object", "properties": {}})


def sent(*messages: Message, model: str = "claude-opus-4-6", **fields: Any) -> dict[str, Any]:
    return anthropic.render_request(Request(model="ours", messages=list(messages) or [USER], **fields), model)


def said(role: Role, *parts: Part) -> Message:
    return Message(role, list(parts))


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def call(id: str, name: str = "f", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": arguments}


def result(id: str, words: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": [text(words)]}


def test_the_least() -> None:
    assert sent() == {"model": "claude-opus-4-6", "max_tokens": anthropic.DEFAULT_MAX_TOKENS, "messages": [HELLO]}


def test_who_says_nothing_is_told() -> None:
    for nothing in (said("user", Text(" ")), said("assistant", Reasoning("hm", origin="openai-chat"))):
        with pytest.raises(GatewayError) as refusal:
            sent(nothing)
        assert (refusal.value.status, refusal.value.param) == (400, "messages")


def test_system_prompts_from_anywhere_come_first() -> None:
    body = sent(said("system", Text("a", MARK)), USER, said("developer", Text("b"), Text(" ")), said("assistant", Text("x")))
    assert body["system"] == [{"type": "text", "text": "a", "cache_control": MARK}, text("b")]
    assert [message["role"] for message in body["messages"]] == ["user", "assistant"]


def test_a_system_prompt_alone_is_the_question() -> None:
    body = sent(said("system", Text("a")))
    assert "system" not in body
    assert body["messages"] == [{"role": "user", "content": [text("a")]}]


def test_turns_alternate_and_results_come_first() -> None:
    body = sent(
        USER,
        said("assistant", Text("I look.")),
        said("assistant", ToolCall("a", "f", '{"x":1}'), ToolCall("b", "f", "")),
        said("user", Text("Quick!")),
        said("tool", ToolResult("a", [Text("1")])),
        said("tool", ToolResult("b", [Text(""), Image("p", data="iVBO", media_type="image/png")], is_error=True)),
        said("user", Text("And?")),
        tools=[TOOL],
    )
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
    failed = {"type": "tool_result", "tool_use_id": "b", "content": [picture], "is_error": True}
    assert body["messages"] == [
        HELLO,
        {"role": "assistant", "content": [text("I look."), call("a", x=1), call("b")]},
        {"role": "user", "content": [result("a", "1"), failed, text("Quick!"), text("And?")]},
    ]


def test_no_text_is_empty_and_the_last_ends_without_white_space() -> None:
    body = sent(USER, said("assistant", Text(" \n")), said("user", Text("")), said("assistant", Text("So: \n")))
    assert body["messages"] == [HELLO, {"role": "assistant", "content": [text("So:")]}]


def test_a_conversation_that_the_assistant_begins() -> None:
    roles = [message["role"] for message in sent(said("assistant", Text("Welcome.")), USER)["messages"]]
    assert roles == ["user", "assistant", "user"]


def test_ids_of_calls_are_made_fit_and_unique() -> None:
    names = ("functions.f:0", "functions.f:1")
    calls, results = [ToolCall(name, "f", "{}") for name in names], [ToolResult(name, [Text("1")]) for name in names]
    messages = sent(USER, *[said("assistant", *calls), said("tool", *results)] * 2, tools=[TOOL])["messages"]
    assert [[block.get("id") or block["tool_use_id"] for block in message["content"]] for message in messages[1:]] == [
        ["functions_f_0", "functions_f_1"],
        ["functions_f_0", "functions_f_1"],
        ["functions_f_0_2", "functions_f_1_2"],
        ["functions_f_0_2", "functions_f_1_2"],
    ]


def test_only_thoughts_that_anthropic_signed_go_back_and_only_where_they_may() -> None:
    ours = Reasoning("a", signature="EqQB", origin="anthropic")
    theirs = Reasoning("b", signature="cipher", origin="openai-responses")
    redacted = Reasoning(signature="blob", origin="anthropic", redacted=True)
    body = sent(USER, said("assistant", ours, theirs, redacted, Refusal("No."), ours))
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "a", "signature": "EqQB"},
        {"type": "redacted_thinking", "data": "blob"},
        text("No."),
    ]
    late = sent(USER, said("assistant", Text("x"), ours, Text("y")))
    assert late["messages"][1]["content"] == [text("x"), text("y")]
    assert sent(USER, said("assistant", ours), USER)["messages"] == [HELLO, HELLO]


def test_media_and_documents() -> None:
    body = sent(
        said(
            "user",
            Image("p", url="https://a.example/b.png", cache=MARK),
            File("p", data="JVBERi0=", name="a.pdf", context="c"),
            File("p", data="SGk=", media_type="text/markdown"),
            File("p", text="words"),
            File("p", url="https://a.example/b.pdf"),
        )
    )
    assert body["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}, "cache_control": MARK},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
            "title": "a.pdf",
            "context": "c",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hi"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
        {"type": "document", "source": {"type": "url", "url": "https://a.example/b.pdf"}},
    ]
    with pytest.raises(GatewayError) as caught:
        sent(said("user", File("messages[0].content[0].file", data="UEs=", media_type="application/zip")))
    assert caught.value.param == "messages[0].content[0].file"


@pytest.mark.parametrize(
    ("choice", "parallel", "rendered"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("auto"), None, {"type": "auto"}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice("named", ["f"]), None, {"type": "tool", "name": "f"}),
        (ToolChoice("allowed", ["f"]), None, {"type": "auto"}),
        (ToolChoice("allowed", ["f"], must=True), None, {"type": "any"}),
    ],
)
def test_tool_choices(choice: ToolChoice | None, parallel: bool | None, rendered: dict[str, Any] | None) -> None:
    other = Tool("p", "g")
    body = sent(tools=[TOOL, other], tool_choice=choice, parallel_tool_calls=parallel)
    assert body.get("tool_choice") == rendered
    assert [tool["name"] for tool in body["tools"]] == (["f"] if choice and choice.mode == "allowed" else ["f", "g"])


def test_tools() -> None:
    strict = Tool("p", "s", None, {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}, strict=True)
    custom = Tool("p", "patch", "Edit.", custom=True, grammar={"syntax": "lark", "definition": "start: /x/"}, cache=MARK)
    tools = sent(tools=[Tool("p", "f", parameters={"properties": {}}), strict, custom])["tools"]
    assert tools[0] == {"name": "f", "input_schema": {"type": "object", "properties": {}}}
    assert tools[1] == {
        "name": "s",
        "input_schema": {
            "type": "object",
            "properties": {"n": {"type": "integer", "description": "{minimum: 1}"}},
            "additionalProperties": False,
        },
        "strict": True,
    }
    assert tools[2]["input_schema"]["required"] == ["input"]
    assert "start: /x/" in tools[2]["description"]
    assert tools[2]["cache_control"] == MARK


def test_calls_of_custom_tools_and_calls_that_were_no_object() -> None:
    body = sent(
        USER, said("assistant", ToolCall("a", "patch", "any text", custom=True), ToolCall("b", "f", "oops"), ToolCall("c", "f", "null"))
    )
    assert [block["input"] for block in body["messages"][1]["content"]] == [{"input": "any text"}, {"arguments": "oops"}, {}]


def test_a_conversation_with_calls_names_their_tools_though_none_may_be_called() -> None:
    body = sent(USER, said("assistant", ToolCall("a", "f", "{}")), said("tool", ToolResult("a", [Text("1")])))
    assert [tool["name"] for tool in body["tools"]] == ["f"]
    assert body["tool_choice"] == {"type": "none"}


ADAPTIVE = {"type": "adaptive", "display": "summarized"}
CURRENT, FORMER, OLD = "claude-opus-5", "claude-sonnet-4-6", "claude-haiku-4-5-20251001"


@pytest.mark.parametrize(
    ("model", "fields", "thinking", "effort"),
    [
        (CURRENT, {}, None, None),
        (CURRENT, {"effort": "high"}, ADAPTIVE, "high"),
        (CURRENT, {"effort": "minimal"}, ADAPTIVE, "low"),
        (CURRENT, {"effort": "xhigh"}, ADAPTIVE, "xhigh"),
        (FORMER, {"effort": "xhigh"}, ADAPTIVE, "high"),
        (CURRENT, {"effort": "none"}, {"type": "disabled"}, None),
        ("claude-fable-5-2", {"effort": "none"}, None, "low"),
        (CURRENT, {"thinking": "enabled", "thinking_budget": 2048}, ADAPTIVE, "low"),
        (CURRENT, {"thinking": "enabled", "thinking_budget": 9000}, ADAPTIVE, "high"),
        (CURRENT, {"thinking": "adaptive", "reasoning_summary": "omitted"}, {"type": "adaptive", "display": "omitted"}, None),
        (CURRENT, {"effort": "low", "tool_choice": ToolChoice("required")}, None, "low"),
        ("a-name-of-their-own", {"effort": "low"}, ADAPTIVE, "low"),
        (OLD, {"effort": "medium"}, {"type": "enabled", "budget_tokens": 8192}, None),
        (OLD, {"effort": "medium", "max_output": 4096}, {"type": "enabled", "budget_tokens": 2048}, None),
        (OLD, {"effort": "medium", "max_output": 1024}, None, None),
        (OLD, {"thinking": "enabled", "thinking_budget": 3000, "max_output": 4096}, {"type": "enabled", "budget_tokens": 3000}, None),
        (OLD, {"effort": "low", "tool_choice": ToolChoice("named", ["f"])}, None, None),
    ],
)
def test_effort_and_thinking_as_the_model_wants_them(
    model: str, fields: dict[str, Any], thinking: dict[str, Any] | None, effort: str | None
) -> None:
    body = sent(model=model, tools=[TOOL], **fields)
    assert body.get("thinking") == thinking
    assert body.get("output_config") == ({"effort": effort} if effort else None)


def test_an_old_model_does_not_think_on_with_results_of_calls_that_it_did_not_sign() -> None:
    turn = [said("assistant", ToolCall("a", "f", "{}")), said("tool", ToolResult("a", [Text("1")]))]
    assert "thinking" not in sent(USER, *turn, model=OLD, tools=[TOOL], effort="high")
    turn[0].parts.insert(0, Reasoning("a", signature="EqQB", origin="anthropic"))
    assert "thinking" in sent(USER, *turn, model=OLD, tools=[TOOL], effort="high")


@pytest.mark.parametrize(
    ("model", "fields", "sampling"),
    [
        (FORMER, {"temperature": 1.6, "top_k": 3}, {"temperature": 1, "top_k": 3}),
        (FORMER, {"temperature": 0.3, "top_p": 0.9}, {"temperature": 0.3}),
        (FORMER, {"top_p": 0.9}, {"top_p": 0.9}),
        (FORMER, {"temperature": 0.3, "effort": "low"}, {}),
        (FORMER, {"temperature": 0.3, "effort": "none"}, {"temperature": 0.3}),
        (CURRENT, {"temperature": 0.3, "top_k": 3}, {}),
        ("claude-opus-4-7", {"temperature": 0.3}, {}),
        (OLD, {"temperature": 0.3}, {"temperature": 0.3}),
    ],
)
def test_sampling_where_the_model_takes_it(model: str, fields: dict[str, Any], sampling: dict[str, Any]) -> None:
    body = sent(model=model, **fields)
    assert {name: body[name] for name in ("temperature", "top_p", "top_k") if name in body} == sampling


def test_a_schema_is_closed_and_what_cannot_be_said_in_it_is_described() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "description": "A person.",
        "properties": {"age": {"type": "integer", "minimum": 0}, "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}}},
        "$defs": {"tag": {"oneOf": [{"type": "string", "pattern": "x"}, {"type": "object", "properties": {}}]}},
        "minProperties": 1,
    }
    form = sent(output_format=OutputFormat(schema, "person"), effort="low")["output_config"]
    assert form == {
        "effort": "low",
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "description": "A person.\n\n{minProperties: 1}",
                "properties": {
                    "age": {"type": "integer", "description": "{minimum: 0}"},
                    "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
                },
                "$defs": {
                    "tag": {
                        "anyOf": [
                            {"type": "string", "description": "{pattern: x}"},
                            {"type": "object", "properties": {}, "additionalProperties": False},
                        ]
                    }
                },
                "additionalProperties": False,
            },
        },
    }
    assert "output_config" not in sent(output_format=OutputFormat())


def test_the_other_fields() -> None:
    body = sent(max_output=7, stream=True, stop=["###"], user="u", service_tier="default")
    expected = {"max_tokens": 7, "stream": True, "stop_sequences": ["###"], "metadata": {"user_id": "u"}, "service_tier": "standard_only"}
    assert {name: body[name] for name in expected} == expected
    assert "service_tier" not in sent(service_tier="flex")
    with pytest.raises(GatewayError):
        sent(stop=["\n"])
