"""What becomes of each field and each kind of content between dialects: translated, dropped with a note, or refused by its name."""

import itertools
from typing import Any

import msgspec
import pytest

from dwctl.dialects.canonical import Audio, File, Foreign, Image, Message, Part, Request, Text, Tool, ToolResult
from dwctl.dialects.fields import CONTENT, FIELDS, OTHERS, Field, settle
from dwctl.dialects.names import DIALECTS, DialectName
from dwctl.errors import GatewayError

PAIRS = [(client, provider) for client, provider in itertools.product(DIALECTS, DIALECTS) if client != provider]
FATES = [(field, client, provider) for field in FIELDS for client, provider in PAIRS if client in field.says]


def request(*parts: Part, **fields: Any) -> Request:
    return Request(model="m", messages=[Message("user", list(parts))], **fields)


def something(field: Field) -> Any:
    """A value that wishes for something."""
    return [Tool("tools[0]", "f")] if field.name == "tools" else 20 if field.name == "max_output" else 2


def refusal(asked: Request, client: DialectName, provider: DialectName) -> GatewayError:
    with pytest.raises(GatewayError) as raised:
        settle(asked, client, provider)
    assert raised.value.status == 400
    assert raised.value.code == "unsupported_parameter"
    assert raised.value.param is not None
    assert raised.value.param in raised.value.message
    return raised.value


@pytest.mark.parametrize(("field", "client", "provider"), FATES, ids=lambda value: value.name if isinstance(value, Field) else value)
def test_every_field_meets_its_fate(field: Field, client: DialectName, provider: DialectName) -> None:
    asked = request(**{field.name: something(field)})
    match field.fate(provider):
        case "refused":
            assert refusal(asked, client, provider).param == field.says[client]
        case "dropped":
            settled, [note] = settle(asked, client, provider)
            assert getattr(settled, field.name) is None
            assert f"'{field.says[client]}' was dropped" in note
            assert getattr(asked, field.name) is not None, "the request is kept for other providers"
        case "translated":
            assert settle(asked, client, provider) == (asked, [])


@pytest.mark.parametrize(("client", "provider"), PAIRS)
def test_a_limit_on_the_output_is_one_to_its_provider(client: DialectName, provider: DialectName) -> None:
    """To Ollama 0 is none, and OpenAI refuses what is too low."""
    least = {"openai-chat": 1, "openai-responses": 16, "anthropic": 0, "ollama": 1}[provider]
    for limit in (0, 1, 15, 16, 17):
        settled, notes = settle(request(max_output=limit), client, provider)
        assert settled.max_output == max(limit, least)
        assert len(notes) == (limit < least)


def test_every_field_of_a_request_is_in_the_table_or_for_us() -> None:
    ours = {"model", "messages", "stream", "include_usage", "old_functions", "others", "echo", "notes"}
    assert {field.name for field in msgspec.structs.fields(Request)} == ours | {field.name for field in FIELDS}


@pytest.mark.parametrize(
    ("field", "nothing"),
    [("n", 1), ("logprobs", False), ("top_logprobs", 0), ("logit_bias", {}), ("stop", [])],
)
def test_a_wish_for_nothing_is_not_refused(field: str, nothing: Any) -> None:
    for client, provider in PAIRS:
        settle(request(**{field: nothing}), client, provider)


def test_a_field_that_was_not_said_is_not_spoken_of() -> None:
    for client, provider in PAIRS:
        asked = request(Text("hi"))
        assert settle(asked, client, provider) == (asked, [])


@pytest.mark.parametrize(("client", "path"), [(client, path) for client, known in OTHERS.items() for path in known])
def test_what_one_dialect_alone_has(client: DialectName, path: str) -> None:
    fate, reason = OTHERS[client][path]
    for provider in DIALECTS:
        if provider == client:
            continue
        asked = request(others={path: {"x": 1}})
        if fate == "refused":
            error = refusal(asked, client, provider)
            assert error.param == path
            assert reason in error.message
            settle(request(others={path: False}), client, provider)
        else:
            assert settle(asked, client, provider)[1] == [f"'{path}' was dropped: {reason}"]


def test_an_empty_value_says_nothing() -> None:
    """Some clients write all the fields they know."""
    for client, provider in PAIRS:
        for path in (*OTHERS[client], "mood"):
            for nothing in (None, "", [], {}):
                asked = request(others={path: nothing})
                assert settle(asked, client, provider) == (asked, [])


def test_what_nobody_knows_is_dropped_with_a_note() -> None:
    for client, provider in PAIRS:
        assert settle(request(others={"mood": "good"}), client, provider)[1] == ["'mood' was dropped: it is not known here"]


def test_a_tool_that_its_provider_would_run_is_refused() -> None:
    error = refusal(request(tools=[Tool("tools[3]", "", hosted="web_search")]), "openai-responses", "anthropic")
    assert error.param == "tools[3].type"
    assert "web_search" in error.message


KINDS: list[tuple[str, Part]] = [
    ("text", Text("hi")),
    ("image (base64)", Image("here", data="iVBO", media_type="image/png")),
    ("image (URL)", Image("here", url="https://h/p.png")),
    ("image (file id)", Image("here", file_id="file-1")),
    ("audio", Audio("here", "UklG", "wav")),
    ("document (text)", File("here", text="hi")),
    ("document (base64)", File("here", data="JVBE", media_type="application/pdf")),
    ("document (URL)", File("here", url="https://h/a.pdf")),
    ("document (file id)", File("here", file_id="file-1")),
    ("anything else", Foreign("here", "video_url")),
]


UNTAKEN = ("audio", "document (base64)")
"""What is refused since a provider does not take it at all."""


@pytest.mark.parametrize("provider", DIALECTS)
@pytest.mark.parametrize(("kind", "part"), KINDS)
def test_every_kind_of_content_meets_its_fate(kind: str, part: Part, provider: DialectName) -> None:
    client = next(dialect for dialect in DIALECTS if dialect != provider)
    asked = [request(part)]
    if isinstance(part, Text | Image | File):
        asked.append(request(ToolResult("c", [part])))
    for one in asked:
        if CONTENT[kind].fate(provider) == "refused":
            error = refusal(one, client, provider)
            assert error.param == "here"
            assert error.message.startswith("'here' cannot be used with this model: its provider takes no") or kind not in UNTAKEN
        else:
            assert settle(one, client, provider) == (one, [])
