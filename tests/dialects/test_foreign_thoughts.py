"""What a provider of the client's own dialect is spared: thoughts that others have signed."""

import json
from typing import Any

import pytest

from dwctl.dialects.foreign_thoughts import without
from dwctl.dialects.names import DialectName
from dwctl.dialects.raw_request import outgoing, parse
from dwctl.dialects.signatures import wrap

ENVELOPE = wrap("openai-responses", "their ciphertext", id="rs_1")
THEIRS = {"type": "thinking", "thinking": "Hm.", "signature": ENVELOPE}
OWN = {"type": "thinking", "thinking": "Hm.", "signature": "own"}
CALL = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "Rain"}]}]}


def cleaned(dialect: DialectName, **fields: Any) -> tuple[dict[str, Any], int]:
    request, left_out = without(parse(json.dumps({"model": "a", **fields}).encode(), None, dialect))
    return json.loads(outgoing(request, b'"a"', ask_usage=False)), left_out


def test_blocks_go_and_messages_that_hold_nothing_else() -> None:
    messages = [
        {"role": "user", "content": "Look outside"},
        {"role": "assistant", "content": [OWN, THEIRS, {"type": "text", "text": "Rain"}]},
        {"role": "assistant", "content": [{"type": "redacted_thinking", "data": ENVELOPE}]},
        {"role": "user", "content": [{"type": "text", "text": "And now?"}]},
    ]
    sent, left_out = cleaned("anthropic", messages=messages)
    assert left_out == 2
    assert sent["messages"] == [
        messages[0],
        {"role": "assistant", "content": [OWN, {"type": "text", "text": "Rain"}]},
        messages[3],
    ]


def test_items_go() -> None:
    items: list[Any] = [
        {"role": "user", "content": "Look outside"},
        {"type": "reasoning", "summary": [], "encrypted_content": ENVELOPE},
        {"type": "reasoning", "summary": [], "encrypted_content": "own"},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
    ]
    sent, left_out = cleaned("openai-responses", input=items)
    assert (sent["input"], left_out) == ([items[0], *items[2:]], 1)


@pytest.mark.parametrize(
    ("thoughts", "thinking", "kept"),
    [
        ([THEIRS], {"type": "enabled", "budget_tokens": 1024}, False),
        ([OWN, THEIRS], {"type": "enabled", "budget_tokens": 1024}, True),
        ([THEIRS], {"type": "adaptive"}, True),
    ],
)
def test_thinking_with_a_budget_needs_the_thought_of_its_loop(thoughts: list[Any], thinking: dict[str, Any], kept: bool) -> None:
    messages = [{"role": "user", "content": "Look outside"}, {"role": "assistant", "content": [*thoughts, CALL]}, RESULT]
    sent, left_out = cleaned("anthropic", messages=messages, thinking=thinking)
    assert (left_out, sent.get("thinking")) == (1, thinking if kept else None)


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":[{"role":"user","content":"\\u00e9 1.10 dwctl."}],"model":"a","temperature":0.700}',
        b'{"messages":[{"role":"user","content":"the word \\"dwctl.\\" by itself"}],"model":"a"}',
        b'{"messages":["dwctl.", 1.10, null],"model":"a"}',
        b'{"messages":"dwctl.","model":"a"}',
        b'{"messages":[{"content":[{"signature":"dwctl."}]},1e999],"model":"a"}',
        b'{"messages":[{"content":[{"signature":"dwctl."}]},"\xff"],"model":"a"}',
    ],
)
def test_everything_else_is_as_it_came(body: bytes) -> None:
    request = parse(body, None, "anthropic")
    assert without(request) == (request, 0)


def test_chats_carry_nothing_that_is_refused() -> None:
    message = {"role": "assistant", "content": "Rain", "reasoning_details": [{"type": "reasoning.encrypted", "data": ENVELOPE}]}
    assert cleaned("openai-chat", messages=[message])[1] == 0
