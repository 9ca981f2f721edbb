"""What the table of fields calls translated arrives: a request written in a provider's dialect reads as what was meant."""

from typing import Any

import msgspec
import pytest

from dwctl.dialects import fields, surfaces
from dwctl.dialects.canonical import (
    Audio,
    File,
    Image,
    Message,
    OutputFormat,
    Part,
    Refusal,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from dwctl.dialects.names import DIALECTS, DialectName
from dwctl.errors import GatewayError

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
TOOL = Tool("tools[0]", "weather", "The weather.", SCHEMA)
VALUES: dict[str, Any] = {
    "max_output": 4321,
    "temperature": 0.25,
    "top_p": 0.75,
    "top_k": 17,
    "min_p": 0.05,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.25,
    "seed": 42,
    "stop": ["###", "END"],
    "logprobs": True,
    "top_logprobs": 3,
    "tool_choice": ToolChoice("auto"),
    "parallel_tool_calls": False,
    "effort": "low",
    "output_format": OutputFormat(SCHEMA, "answer", None, True),
    "verbosity": "low",
    "user": "user-1",
    "metadata": {"team": "blue"},
    "service_tier": "auto",
    "prompt_cache_key": "key-1",
    "prompt_cache_retention": "24h",
    "safety_identifier": "safe-1",
    "reasoning_summary": "auto",
    "encrypted_reasoning": True,
}
NEEDS: dict[str, dict[str, Any]] = {"top_logprobs": {"logprobs": True}, "reasoning_summary": {"effort": "low"}}
"""What a field means something with only."""
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = "JVBERi0xLjQKJSVFT0YK"


def request(*parts: Part, **values: Any) -> Request:
    tools = [TOOL] if {"tool_choice", "parallel_tool_calls"} & set(values) else []
    return Request(model="m", messages=[Message("user", [Text("Hello"), *parts])], tools=tools, **values)


def sent(wanted: Request, client: DialectName, provider: DialectName) -> Request:
    """The request as a provider of that dialect understands what it is sent."""
    settled, _ = fields.settle(wanted, client, provider)
    codec = surfaces.PROVIDERS[provider]
    body = msgspec.json.decode(msgspec.json.encode(codec.render_request(settled, "claude-sonnet-4-6")))
    return codec.parse_request(body)


def clients(provider: DialectName) -> list[DialectName]:
    return [dialect for dialect in DIALECTS if dialect != provider]


TRANSLATED = [
    (field.name, client, provider)
    for field in fields.FIELDS
    for provider in DIALECTS
    for client in clients(provider)
    if field.name in VALUES and client in field.says and provider in field.says and field.fate(provider) == "translated"
]


@pytest.mark.parametrize(("name", "client", "provider"), TRANSLATED)
def test_a_translated_field_arrives(name: str, client: DialectName, provider: DialectName) -> None:
    arrived = getattr(sent(request(**{**NEEDS.get(name, {}), name: VALUES[name]}), client, provider), name)
    expected = VALUES[name]
    if name == "output_format":
        arrived, expected = arrived.schema, expected.schema
    if name == "reasoning_summary" and provider == "anthropic":
        return  # thoughts are shown summarised, whatever the length of the summary
    if name == "tool_choice" and provider != "openai-chat" and arrived is None:
        return  # nothing is said where the model is free to choose anyway
    assert arrived == expected


def test_what_a_model_does_not_take_is_left_out_with_a_note() -> None:
    settled, notes = fields.settle(request(temperature=0.5, top_p=0.5, top_k=5), "openai-chat", "anthropic")
    body = surfaces.PROVIDERS["anthropic"].render_request(settled, "claude-opus-4-7")
    assert not {"temperature", "top_p", "top_k"} & set(body)
    assert [note for note in notes if "claude-opus-4-7" in note and "temperature" in note]


@pytest.mark.parametrize(
    ("field", "client", "provider"),
    [
        (field, client, provider)
        for field in fields.FIELDS
        for provider in DIALECTS
        for client in clients(provider)
        if field.name in {**VALUES, "n": 2, "logit_bias": {}} and client in field.says and field.fate(provider) != "translated"
    ],
)
def test_what_is_not_translated_is_noted_or_refused(field: fields.Field, client: DialectName, provider: DialectName) -> None:
    wanted = request(**{field.name: {**VALUES, "n": 2, "logit_bias": {"1": 1}}[field.name]})
    if field.fate(provider) == "refused":
        with pytest.raises(GatewayError) as refusal:
            fields.settle(wanted, client, provider)
        assert (refusal.value.status, refusal.value.param) == (400, field.says[client])
    else:
        settled, notes = fields.settle(wanted, client, provider)
        assert getattr(settled, field.name) is None
        assert any(f"'{field.says[client]}'" in note for note in notes)


CONTENT: dict[str, Part] = {
    "image (base64)": Image("p", data=PIXEL, media_type="image/png"),
    "image (URL)": Image("p", url="https://example.com/a.png"),
    "audio": Audio("p", "AAAA", "wav"),
    "document (base64)": File("p", data=PDF, media_type="application/pdf", name="a.pdf"),
    "document (URL)": File("p", url="https://example.com/a.pdf"),
    "document (text)": File("p", text="Some text.", name="a.txt"),
    "image (file id)": Image("p", file_id="file-1"),
    "document (file id)": File("p", file_id="file-1"),
}


def _essence(part: Part) -> Any:
    match part:
        case Image() | File():
            return part.data or part.url or part.text
        case Audio():
            return part.data, part.format
    return part


@pytest.mark.parametrize(("kind", "provider"), [(kind, provider) for kind in CONTENT for provider in DIALECTS])
def test_content_arrives_or_is_refused_by_name(kind: str, provider: DialectName) -> None:
    client = clients(provider)[0]
    wanted = request(CONTENT[kind])
    if fields.CONTENT[kind].fate(provider) == "refused":
        with pytest.raises(GatewayError) as refusal:
            sent(wanted, client, provider)
        assert (refusal.value.status, refusal.value.param) == (400, "p")
        return
    arrived = [part for message in sent(wanted, client, provider).messages for part in message.parts]
    texts = " ".join(part.text for part in arrived if isinstance(part, Text))
    assert _essence(CONTENT[kind]) in [_essence(part) for part in arrived] or (kind == "document (text)" and "Some text." in texts)


@pytest.mark.parametrize("provider", DIALECTS)
def test_a_conversation_with_parallel_tools_arrives(provider: DialectName) -> None:
    calls = [ToolCall("call_a", "weather", '{"city":"Paris"}'), ToolCall("call_b", "weather", '{"city":"Rome"}')]
    results: list[Part] = [ToolResult("call_a", [Text("sunny")]), ToolResult("call_b", [Text("rain")], is_error=True)]
    wanted = Request(
        model="m",
        messages=[
            Message("system", [Text("Be brief.")]),
            Message("user", [Text("Weather?")]),
            Message("assistant", [Text("I look."), *calls]),
            Message("tool", results),
            Message("user", [Text("And now?")]),
            Message("assistant", [Refusal("I cannot.")]),
            Message("user", [Text("Why?")]),
        ],
        tools=[TOOL],
    )
    arrived = sent(wanted, clients(provider)[0], provider)
    parts = [part for message in arrived.messages for part in message.parts]
    found = [part for part in parts if isinstance(part, ToolCall)]
    assert [(call.name, msgspec.json.decode(call.arguments)) for call in found] == [
        ("weather", {"city": "Paris"}),
        ("weather", {"city": "Rome"}),
    ]
    answered = [part for part in parts if isinstance(part, ToolResult)]
    assert [part.call_id for part in answered] == [call.id for call in found]
    texts = ["".join(inner.text for inner in part.parts if isinstance(inner, Text)) for part in answered]
    assert texts == ["sunny", "rain" if provider == "anthropic" else "Error: rain"]
    assert answered[1].is_error == (provider == "anthropic")
    said = " ".join(part.text for part in parts if isinstance(part, Text | Refusal))
    assert all(text in said for text in ("Be brief.", "Weather?", "I look.", "And now?", "I cannot.", "Why?"))
    assert [tool.name for tool in arrived.tools] == ["weather"]
    assert arrived.tools[0].parameters is not None
    assert arrived.tools[0].parameters["properties"] == SCHEMA["properties"]
