"""Requests of Ollama's clients, and requests for providers that speak as Ollama does."""

import base64
from typing import Any

import ollama as sdk
import pytest
from ollama._types import ChatRequest, GenerateRequest

from dwctl.dialects import fields, ollama
from dwctl.dialects.canonical import (
    File,
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
from dwctl.dialects.ollama import generate
from dwctl.errors import GatewayError

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n0123").decode()
JPEG = base64.b64encode(b"\xff\xd8\xff\xe0 0123456").decode()
WEBP = base64.b64encode(b"RIFF\0\0\0\0WEBPVP8 ").decode()
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLIENT = {
    "model": "llama",
    "messages": [
        {"role": "System", "content": "Be brief."},
        {"role": "user", "content": "What is this?", "images": [PNG, JPEG, WEBP]},
        {
            "role": "assistant",
            "content": "Let me see.",
            "thinking": "Hm.",
            "tool_calls": [
                {"function": {"name": "weather", "arguments": {"city": "Rome"}}},
                {"function": {"name": "weather", "arguments": {"city": "Oslo"}}},
                {"id": "theirs", "function": {"index": 2, "name": "time", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "noon", "tool_name": "time"},
        {"role": "tool", "content": "warm"},
        {"role": "tool", "content": "cold", "tool_name": "weather"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Rome"}}}]},
        {"role": "tool", "content": "warm still"},
    ],
    "tools": [{"type": "function", "function": {"name": "weather", "description": "Now.", "parameters": WEATHER}}],
    "options": {
        "num_predict": 64,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.05,
        "presence_penalty": 1,
        "frequency_penalty": 1.5,
        "seed": 7,
        "stop": ["\n", "END"],
        "num_ctx": 8192,
    },
    "think": "high",
    "format": WEATHER,
    "logprobs": True,
    "top_logprobs": 3,
    "keep_alive": "5m",
}


def read(body: dict[str, Any]) -> Request:
    return ollama.parse_request({"messages": [{"role": "user", "content": "hi"}], **body})


def test_both_endpoints_are_codecs() -> None:
    chat: Codec = ollama
    prompt: Codec = generate
    members = [name for name in vars(Codec) if not name.startswith("_")]
    assert len(members) > 10
    for name in members:
        assert hasattr(chat, name)
        assert hasattr(prompt, name)
    assert (chat.DIALECT, chat.PATH, prompt.DIALECT, prompt.PATH) == ("ollama", "/api/chat", "ollama", "/api/generate")


def test_a_client_s_request_is_read_whole() -> None:
    request = ollama.parse_request(CLIENT)
    assert request.stream
    assert [message.role for message in request.messages] == ["system", "user", "assistant", "tool", "tool", "tool", "assistant", "tool"]
    assert request.messages[1].parts == [
        Image("messages[1].images[0]", PNG, "image/png"),
        Image("messages[1].images[1]", JPEG, "image/jpeg"),
        Image("messages[1].images[2]", WEBP, "image/webp"),
        Text("What is this?"),
    ]
    assert request.messages[2].parts[:2] == [Reasoning("Hm.", origin="ollama"), Text("Let me see.")]
    assert request.tools == [Tool("tools[0]", "weather", "Now.", WEATHER)]
    assert (request.max_output, request.temperature, request.top_p, request.top_k, request.min_p) == (64, 0.5, 0.9, 40, 0.05)
    assert (request.presence_penalty, request.frequency_penalty, request.seed, request.stop) == (1, 1.5, 7, ["\n", "END"])
    assert (request.effort, request.thinking, request.output_format) == ("high", "enabled", OutputFormat(schema=WEATHER))
    assert (request.logprobs, request.top_logprobs) == (True, 3)
    assert request.others == {"options.num_ctx": 8192, "keep_alive": "5m"}


def test_results_find_their_calls_by_id_by_name_and_by_order() -> None:
    request = ollama.parse_request(CLIENT)
    calls = [part for message in request.messages for part in message.parts if isinstance(part, ToolCall)]
    rome, oslo, time, again = calls
    assert [call.arguments for call in calls] == ['{"city":"Rome"}', '{"city":"Oslo"}', "{}", '{"city":"Rome"}']
    assert len({call.id for call in calls}) == 4
    assert time.id == "theirs"
    results = [(part.call_id, part.parts) for message in request.messages for part in message.parts if isinstance(part, ToolResult)]
    assert results == [(time.id, [Text("noon")]), (rome.id, [Text("warm")]), (oslo.id, [Text("cold")]), (again.id, [Text("warm still")])]


def test_an_id_that_comes_again_is_another_call() -> None:
    turn = [
        {"role": "assistant", "content": "", "tool_calls": [{"id": "call_0", "function": {"name": "f", "arguments": {}}}]},
        {"role": "tool", "content": "done", "tool_call_id": "call_0"},
    ]
    request = ollama.parse_request({"model": "m", "messages": [*turn, *turn]})
    first, one, second, other = (message.parts[0] for message in request.messages)
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert first.id != second.id
    assert isinstance(one, ToolResult)
    assert isinstance(other, ToolResult)
    assert (one.call_id, other.call_id) == (first.id, second.id)


def test_the_first_of_two_calls_is_found_by_id_though_the_name_fits_another() -> None:
    request = ollama.parse_request(
        {
            "model": "m",
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "a", "function": {"name": "f"}}, {"id": "b", "function": {"name": "g"}}],
                },
                {"role": "tool", "content": "1", "tool_call_id": "a", "tool_name": "g"},
                {"role": "tool", "content": "2"},
                {"role": "tool", "content": "nobody asked"},
            ],
        }
    )
    assert [part.call_id for message in request.messages[1:] for part in message.parts if isinstance(part, ToolResult)] == [
        "a",
        "b",
        "call_3",
    ]


def test_older_clients_say_the_tool_s_name_in_another_field() -> None:
    calls = [{"function": {"name": name, "arguments": {}}} for name in ("f", "g")]
    request = ollama.parse_request(
        {"model": "m", "messages": [{"role": "assistant", "tool_calls": calls}, {"role": "tool", "content": "2", "name": "g"}]}
    )
    (result,) = request.messages[1].parts
    assert isinstance(result, ToolResult)
    assert result.call_id == "call_0_1"
    assert request.others == {}


def test_a_call_that_was_never_answered_takes_no_later_result() -> None:
    ask = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    result = {"role": "tool", "content": "done"}
    request = ollama.parse_request({"model": "m", "messages": [ask, {"role": "user", "content": "And?"}, ask, result]})
    (answer,) = request.messages[3].parts
    assert isinstance(answer, ToolResult)
    assert answer.call_id == "call_2_0"


@pytest.mark.parametrize(
    ("said", "thinking", "effort"),
    [(True, "enabled", None), (False, "disabled", None), ("low", "enabled", "low"), ("max", "enabled", "max"), (None, None, None)],
)
def test_think(said: object, thinking: str | None, effort: str | None) -> None:
    request = read({"model": "m", "think": said})
    assert (request.thinking, request.effort) == (thinking, effort)
    assert ollama.render_request(request, "m").get("think") == said


@pytest.mark.parametrize(
    ("options", "limit"), [({}, None), ({"num_predict": -1}, None), ({"num_predict": -2}, None), ({"num_predict": 5.0}, 5)]
)
def test_no_limit_on_the_output_is_said_in_many_ways(options: dict[str, Any], limit: int | None) -> None:
    assert read({"model": "m", "options": options}).max_output == limit


@pytest.mark.parametrize(("said", "streams"), [({}, True), ({"stream": None}, True), ({"stream": True}, True), ({"stream": False}, False)])
def test_answers_are_streamed_unless_the_client_says_no(said: dict[str, Any], streams: bool) -> None:
    request = read({"model": "m", **said})
    assert request.stream is streams
    assert ollama.render_request(request, "m")["stream"] is streams


def test_what_says_nothing_is_nothing() -> None:
    """Ollama's own client writes every field."""
    empty = {"suffix": "", "template": "", "context": [], "options": None, "format": "", "raw": False, "images": None}
    request = generate.parse_request({"model": "m", "prompt": "hi", "system": "", **empty})
    assert fields.settle(request, "ollama", "openai-chat") == (request, [])
    assert read({"model": "m", "format": "", "top_logprobs": 0, "logprobs": False}).logprobs is None


def test_unknown_fields_are_kept_by_their_path() -> None:
    request = ollama.parse_request(
        {
            "model": "m",
            "new": 1,
            "messages": [{"role": "user", "content": "hi", "name": "Ann"}],
            "tools": [{"type": "function", "function": {"name": "f", "strict": True}}],
        }
    )
    assert request.others == {"new": 1, "messages[0].name": "Ann", "tools[0].function.strict": True}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "images": ["data:image/png;base64,AAAA"]}]}, "messages[0].images[0]"),
        ({"messages": [{"role": "user", "images": [PNG, 5]}]}, "messages[0].images[1]"),
        ({"messages": [{"role": "user", "images": PNG}]}, "messages[0].images"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0].function"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"options": []}, "options"),
        ({"options": {"temperature": "hot"}}, "options.temperature"),
        ({"options": {"stop": [1]}}, "options.stop[0]"),
        ({"options": {"num_predict": 1.5}}, "options.num_predict"),
        ({"think": "hard"}, "think"),
        ({"think": 1}, "think"),
        ({"format": "xml"}, "format"),
        ({"format": 5}, "format"),
        ({"stream": "no"}, "stream"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
    ],
)
def test_a_malformed_field_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as refusal:
        read({"model": "m", **body})
    assert (refusal.value.status, refusal.value.param) == (400, param)


@pytest.mark.parametrize(
    ("kept", "done"),
    [
        (None, "load"),
        ("", "load"),
        ("10m", "load"),
        (-1, "load"),
        (0.5, "load"),
        (0, "unload"),
        (0.0, "unload"),
        ("0", "unload"),
        ("0s", "unload"),
        ("0h0m", "unload"),
    ],
)
def test_who_asks_nothing_has_a_model_loaded(kept: Any, done: str) -> None:
    nothing: list[dict[str, Any]] = [{}, {"messages": None}, {"messages": []}]
    assert {ollama.loads(ollama.parse_request({"model": "m", "keep_alive": kept, **fields})) for fields in nothing} == {done}
    nothing = [{}, {"prompt": ""}, {"prompt": None, "system": "Brief.", "images": []}]
    assert {ollama.loads(generate.parse_request({"model": "m", "keep_alive": kept, **fields})) for fields in nothing} == {done}
    assert ollama.loads(generate.parse_request({"model": "m", "keep_alive": kept, "images": [PNG]})) is None
    assert ollama.loads(generate.parse_request({"model": "m", "keep_alive": kept, "prompt": "Hi"})) is None


def test_who_says_nothing_is_told() -> None:
    for parse, said in (
        (ollama.parse_request, {"messages": [{"role": "user", "content": ""}]}),
        (ollama.parse_request, {"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "\n"}]}),
        (generate.parse_request, {"prompt": " "}),
    ):
        with pytest.raises(GatewayError) as refusal:
            parse({"model": "m", **said})
        assert refusal.value.param == next(iter(said))


def test_what_is_read_is_written_again() -> None:
    body = ollama.render_request(ollama.parse_request(CLIENT), "theirs")
    ChatRequest.model_validate(body, strict=True)
    assert body["model"] == "theirs"
    for name in ("tools", "think", "format", "logprobs", "top_logprobs"):
        assert body[name] == CLIENT[name], name
    assert body["options"] == {name: value for name, value in CLIENT["options"].items() if name != "num_ctx"}  # type: ignore[attr-defined]
    again = ollama.parse_request(body)
    assert again.messages == ollama.parse_request(CLIENT).messages


def test_a_provider_gets_what_clients_of_other_dialects_say() -> None:
    request = Request(
        model="alias",
        messages=[
            Message("developer", [Text("One."), Text("Two.")]),
            Message("user", [Text("See:"), File("p", text="a,b", name="t.csv", context="A table."), Image("p", PNG, "image/png")]),
            Message(
                "assistant",
                [
                    Reasoning("First.", signature="s", origin="anthropic"),
                    Reasoning(redacted=True, signature="r", origin="anthropic"),
                    Text("I "),
                    Text("look."),
                    ToolCall("c1", "look", '{"deep":1e2}'),
                    ToolCall("c2", "write", "any text", custom=True),
                    ToolCall("c3", "broken", "[1"),
                ],
            ),
            Message("tool", [ToolResult("c1", [Text("seen"), Image("p", JPEG, "image/jpeg")])]),
            Message("tool", [ToolResult("c2", [Text("disk full")], is_error=True), ToolResult("gone", [])]),
            Message("assistant", [Refusal("No.")]),
        ],
        tools=[Tool("t", "look"), Tool("t", "write", "Writes.", custom=True)],
    )
    body = ollama.render_request(request, "llama")
    ChatRequest.model_validate(body, strict=True)
    assert body["messages"] == [
        {"role": "system", "content": "One.\n\nTwo."},
        {"role": "user", "content": "See:\n\nt.csv\nA table.\na,b", "images": [PNG]},
        {
            "role": "assistant",
            "content": "I look.",
            "thinking": "First.",
            "tool_calls": [
                {"id": "c1", "function": {"index": 0, "name": "look", "arguments": {"deep": 100.0}}},
                {"id": "c2", "function": {"index": 1, "name": "write", "arguments": {"input": "any text"}}},
                {"id": "c3", "function": {"index": 2, "name": "broken", "arguments": {"input": "[1"}}},
            ],
        },
        {"role": "tool", "content": "seen", "tool_call_id": "c1", "tool_name": "look"},
        {"role": "tool", "content": "Error: disk full", "tool_call_id": "c2", "tool_name": "write"},
        {"role": "tool", "content": "", "tool_call_id": "gone"},
        {"role": "user", "content": "", "images": [JPEG]},
        {"role": "assistant", "content": "No."},
    ]
    look, write = body["tools"]
    assert look == {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    assert write["function"]["parameters"]["required"] == ["input"]
    assert body.keys() == {"model", "messages", "stream", "tools"}


def test_pictures_of_the_last_tool_result_are_not_lost() -> None:
    request = Request(model="m", messages=[Message("tool", [ToolResult("c", [Image("p", PNG, "image/png")])])])
    assert ollama.render_request(request, "m")["messages"][-1] == {"role": "user", "content": "", "images": [PNG]}


@pytest.mark.parametrize(
    ("wish", "think"),
    [
        ({"effort": "none"}, False),
        ({"effort": "minimal"}, "low"),
        ({"effort": "medium"}, "medium"),
        ({"effort": "xhigh"}, "high"),
        ({"effort": "max"}, "max"),
        ({"thinking": "disabled", "effort": "high"}, False),
        ({"thinking": "enabled"}, True),
        ({"thinking": "enabled", "thinking_budget": 2048}, "low"),
        ({"thinking": "enabled", "thinking_budget": 8192}, "medium"),
        ({"thinking": "enabled", "thinking_budget": 8193}, "high"),
        ({"thinking": "enabled", "thinking_budget": 1024, "effort": "high"}, "high"),
        ({"thinking": "adaptive"}, None),
        ({"thinking": "adaptive", "effort": "low"}, "low"),
        ({}, None),
    ],
)
def test_how_much_a_provider_is_to_think(wish: dict[str, Any], think: bool | str | None) -> None:
    assert ollama.render_request(Request(model="m", messages=[], **wish), "m").get("think") == think


@pytest.mark.parametrize(
    ("choice", "offered"),
    [
        (None, ["f", "g"]),
        (ToolChoice("auto"), ["f", "g"]),
        (ToolChoice("none"), []),
        (ToolChoice("allowed", ["g"]), ["g"]),
        (ToolChoice("required"), None),
        (ToolChoice("named", ["f"]), None),
        (ToolChoice("allowed", ["g"], must=True), None),
    ],
)
def test_no_call_can_be_demanded(choice: ToolChoice | None, offered: list[str] | None) -> None:
    request = Request(model="m", messages=[], tools=[Tool("t", "f"), Tool("t", "g")], tool_choice=choice)
    if offered is None:
        with pytest.raises(GatewayError) as refusal:
            ollama.render_request(request, "m")
        assert refusal.value.param == "tool_choice"
    else:
        assert [tool["function"]["name"] for tool in ollama.render_request(request, "m").get("tools", [])] == offered


def test_any_json_object() -> None:
    request = read({"model": "m", "format": "json"})
    assert request.output_format == OutputFormat()
    assert ollama.render_request(request, "m")["format"] == "json"


@pytest.mark.parametrize("field", [field.name for field in fields.FIELDS if fields.OLLAMA in field.says])
def test_every_field_that_the_table_names_is_read(field: str) -> None:
    request = ollama.parse_request({**CLIENT, "think": True}) if field == "thinking" else ollama.parse_request(CLIENT)
    assert getattr(request, field)


VALUES: dict[str, Any] = {
    "max_output": 5,
    "stop": ["x"],
    "tools": [Tool("t", "f")],
    "tool_choice": ToolChoice("none"),
    "effort": "low",
    "thinking": "enabled",
    "thinking_budget": 5000,
    "output_format": OutputFormat(),
    "logprobs": True,
    "top_logprobs": 2,
}


@pytest.mark.parametrize("field", [field.name for field in fields.FIELDS if field.fate("ollama") == "translated"])
def test_every_field_that_the_table_calls_translated_is_written(field: str) -> None:
    if field == "encrypted_reasoning":  # the gateway's own envelope
        return
    base: dict[str, Any] = {"model": "m", "messages": []}
    if field == "tool_choice":
        base["tools"] = VALUES["tools"]
    plain = ollama.render_request(Request(**base), "m")
    assert ollama.render_request(Request(**base, **{field: VALUES.get(field, 0.5)}), "m") != plain


def test_generate_reads_a_prompt() -> None:
    request = generate.parse_request(
        {
            "model": "m",
            "prompt": "What?",
            "system": "Brief.",
            "images": [PNG],
            "think": True,
            "options": {"seed": 1},
            "suffix": "end",
        }
    )
    assert request.messages == [Message("system", [Text("Brief.")]), Message("user", [Image("images[0]", PNG, "image/png"), Text("What?")])]
    assert (request.stream, request.thinking, request.seed) == (True, "enabled", 1)
    body = generate.render_request(request, "theirs")
    assert body == {
        "model": "theirs",
        "prompt": "What?",
        "system": "Brief.",
        "images": [PNG],
        "think": True,
        "options": {"seed": 1},
        "stream": True,
    }
    GenerateRequest.model_validate({**body, "images": None}, strict=True)
    with pytest.raises(GatewayError) as refusal:
        fields.settle(request, "ollama", "anthropic")
    assert refusal.value.param == "suffix"


@pytest.mark.parametrize(("field", "value"), [("raw", True), ("template", "{{ .Prompt }}"), ("suffix", "x"), ("context", [1, 2])])
def test_generate_s_own_ways_with_the_prompt_are_refused_elsewhere(field: str, value: object) -> None:
    request = generate.parse_request({"model": "m", "prompt": "hi", field: value})
    with pytest.raises(GatewayError) as refusal:
        fields.settle(request, "ollama", "openai-chat")
    assert refusal.value.param == field


def test_generate_without_a_prompt_says_nothing_to_the_model() -> None:
    assert generate.parse_request({"model": "m"}).messages == []
    with pytest.raises(GatewayError) as refusal:
        generate.parse_request({"model": "m", "images": ["?"]})
    assert refusal.value.param == "images[0]"


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (Request(model="m", messages=[Message("user", [Text("a")]), Message("user", [Text("b")])]), "messages"),
        (Request(model="m", messages=[Message("assistant", [Text("a")])]), "messages"),
        (Request(model="m", messages=[], tools=[Tool("t", "f")]), "tools"),
    ],
)
def test_generate_cannot_ask_a_conversation(request_: Request, param: str) -> None:
    with pytest.raises(GatewayError) as refusal:
        generate.render_request(request_, "m")
    assert refusal.value.param == param


def test_the_sdk_s_own_requests_are_read() -> None:
    def weather(city: str) -> str:
        """How it is.

        Args:
          city: Where.
        """
        return city

    tool = sdk._utils.convert_function_to_tool(weather)
    body = ChatRequest(
        model="m",
        messages=[
            sdk.Message(role="user", content="hi", images=[sdk.Image(value=PNG)]),
            sdk.Message(role="tool", content="x", tool_name="f"),
        ],
        tools=[tool],
        options=sdk.Options(temperature=0.1, num_predict=3),
        think="low",
        format="json",
    ).model_dump(exclude_none=True)
    request = ollama.parse_request(body)
    assert request.tools[0].name == "weather"
    assert request.tools[0].parameters is not None
    assert (request.max_output, request.temperature, request.others) == (3, 0.1, {})
    assert isinstance(request.messages[0].parts[0], Image)
