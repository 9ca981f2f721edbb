"""Bodies of chat as people read them: requests, answers, streams, and what is only nearly one of these."""

import json
from typing import Any

import pytest

from dwctl.operations.conversation import answered, asked

CHAT = "/chat/completions"


def sse(*chunks: dict[str, Any]) -> str:
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def delta(index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": fields}]}


def test_a_request_with_parts_calls_and_results() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bonn"}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is\nthis?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "12 °C"},
    ]
    said = asked(json.dumps({"model": "m", "messages": messages}), CHAT)
    assert [(turn.role, turn.text, turn.answers) for turn in said] == [
        ("system", "Be brief.", ""),
        ("user", "What is\nthis?\n[image]", ""),
        ("assistant", "", ""),
        ("tool", "12 °C", "c1"),
    ]
    assert [(call.name, call.arguments) for call in said[2].calls] == [("weather", '{\n  "city": "Bonn"\n}')]


def test_an_answer_with_reasoning() -> None:
    message = {"role": "assistant", "reasoning_content": "Hm.", "content": "Yes."}
    [turn] = answered(json.dumps({"choices": [{"index": 0, "message": message}]}), CHAT)
    assert (turn.role, turn.thought, turn.text) == ("assistant", "Hm.", "Yes.")


def test_a_stream_is_put_together_by_choice_and_call() -> None:
    def piece(index: int, **function: str) -> dict[str, Any]:
        return delta(tool_calls=[{"index": index, "function": function}])

    body = sse(
        delta(role="assistant", content=""),
        delta(content="Hel"),
        delta(1, content="other"),
        delta(content="lo"),
        piece(0, name="one", arguments='{"a"'),
        piece(0, arguments=":1}"),
        piece(1, name="two", arguments="{"),
        {"choices": [], "usage": {"prompt_tokens": 1}},
    )
    first, second = answered(": ping\n\n" + body, CHAT)
    assert (first.text, second.text) == ("Hello", "other")
    assert [(call.name, call.arguments) for call in first.calls] == [("one", '{\n  "a": 1\n}'), ("two", "{")]
    # Broken off in the middle of an event: what was whole is read.
    assert [turn.text for turn in answered(sse(delta(content="Hel")) + 'data: {"choi', CHAT)] == ["Hel"]


def test_of_a_request_that_breaks_off_the_whole_messages_are_read() -> None:
    messages = [{"role": "user", "content": f'say "messages": [{number}]'} for number in range(3)]
    body = json.dumps({"model": "m", "messages": messages, "stream": True})
    for cut in (len(body) - 2, body.index("[2]")):
        said = [turn.text for turn in asked(body[:cut], CHAT)]
        assert said == [message["content"] for message in messages][: 3 if cut > body.index("[2]") else 2]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no JSON",
        '{"input": ["a", "b"]}',
        '{"messages": [{"role": "user", "con',
        '{"messages": "none"}',
        "[" * 100_000,
        "base64:AAAA",
        '{"choices": [null, 3, {"message": null}]}',
        'data: {"choices": 3}\n\n',
        "\ud800",
    ],
)
def test_what_is_no_conversation_has_no_turns(body: str) -> None:
    assert asked(body, CHAT) == []
    assert answered(body, CHAT) == []


QUESTIONS = {
    "/messages": {
        "system": "Be brief.",
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "What is it?"}, {"type": "image", "source": {"type": "url", "url": "https://a.b"}}],
            },
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Bonn"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "12 °C"}]},
        ],
    },
    "/responses": {
        "instructions": "Be brief.",
        "input": [
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": "https://a.b"}],
            },
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city":"Bonn"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "12 °C"},
        ],
    },
    "/api/chat": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is it?", "images": ["iVBORw0KGgo="]},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "c1", "function": {"name": "weather", "arguments": {"city": "Bonn"}}}],
            },
            {"role": "tool", "content": "12 °C", "tool_call_id": "c1"},
        ],
    },
}


@pytest.mark.parametrize("path", QUESTIONS)
def test_requests_of_every_dialect_are_read(path: str) -> None:
    said = asked(json.dumps({"model": "m", **QUESTIONS[path]}), path)
    question = "[image]\nWhat is it?" if path == "/api/chat" else "What is it?\n[image]"
    assert [(turn.role, turn.text, turn.answers) for turn in said] == [
        ("system", "Be brief.", ""),
        ("user", question, ""),
        ("assistant", "", ""),
        ("tool", "12 °C", "c1"),
    ]
    assert [(call.name, call.arguments) for call in said[2].calls] == [("weather", '{\n  "city": "Bonn"\n}')]


def test_answers_of_other_dialects_are_read() -> None:
    message = {"type": "message", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "text", "text": "Yes."}]}
    [turn] = answered(json.dumps({"role": "assistant", "stop_reason": "end_turn", **message}), "/ai/v1/messages")
    assert (turn.thought, turn.text) == ("Hm.", "Yes.")
    lines = [{"message": {"role": "assistant", "content": word}, "done": False} for word in ("Ye", "s.")]
    [turn] = answered("".join(json.dumps(line) + "\n" for line in lines) + '{"mess', "/api/chat")
    assert turn.text == "Yes."
