"""Requests of a great many parts, which a client may send in 10 MB, are read in time that grows as they do.

Were it to grow with the square, each of these would keep the gateway for minutes.
"""

from typing import Any

import pytest

from dwctl.dialects import fields, surfaces
from dwctl.dialects.canonical import ToolCall, ToolResult
from dwctl.dialects.names import DIALECTS

MANY = 40_000


def _chat(ids: list[str]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "x"}]
    for id_ in ids:
        call = {"id": id_, "type": "function", "function": {"name": "f", "arguments": "{}"}}
        messages += [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": id_, "content": "r"}]
    return messages


CALLS = [{"type": "function_call", "call_id": f"c{number}", "name": "f", "arguments": "{}"} for number in range(MANY)]
RESULTS = [{"type": "function_call_output", "call_id": f"c{number}", "output": "r"} for number in range(MANY)]
OLLAMA = [{"function": {"name": f"f{number}", "arguments": {}}} for number in range(MANY)]
TOOLS = [{"type": "function", "function": {"name": f"f{number}"}} for number in range(MANY)]
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": TOOLS}}
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "calls of one id": ("/chat/completions", {"messages": _chat(["c"] * MANY)}),
    "tools that are allowed": (
        "/chat/completions",
        {"messages": [{"role": "user", "content": "x"}], "tools": TOOLS, "tool_choice": ALLOWED},
    ),
    "calls, then their results": ("/responses", {"input": [*CALLS, *RESULTS]}),
    "thoughts": ("/responses", {"input": [*[{"type": "reasoning", "summary": []}] * MANY, {"role": "user", "content": "x"}]}),
    "results by name": (
        "/api/chat",
        {
            "messages": [
                {"role": "assistant", "content": "", "tool_calls": OLLAMA},
                *({"role": "tool", "content": "r", "tool_name": f"f{number}"} for number in reversed(range(MANY))),
            ]
        },
    ),
    "calls of one id in Ollama's words": (
        "/api/chat",
        {
            "messages": [
                {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {}}}] * MANY}
            ]
        },
    ),
}


@pytest.mark.parametrize("body", BODIES)
def test_large_requests(body: str) -> None:
    path, said = BODIES[body]
    surface = surfaces.surface_of(path)
    request = surface.codec.parse_request({"model": "m", **said})
    for provider in DIALECTS:
        if provider != surface.dialect:
            settled, _ = fields.settle(request, surface.dialect, provider)
            surfaces.PROVIDERS[provider].render_request(settled, "claude-sonnet-4-6")


def test_results_find_their_calls_in_any_order() -> None:
    request = surfaces.PROVIDERS["ollama"].parse_request({"model": "m", **BODIES["results by name"][1]})
    calls = {part.id: part.name for message in request.messages for part in message.parts if isinstance(part, ToolCall)}
    answered = [calls[part.call_id] for message in request.messages for part in message.parts if isinstance(part, ToolResult)]
    assert answered == [f"f{number}" for number in reversed(range(MANY))]


def test_calls_of_one_id_are_told_apart() -> None:
    request = surfaces.PROVIDERS["ollama"].parse_request({"model": "m", **BODIES["calls of one id in Ollama's words"][1]})
    ids = {part.id for message in request.messages for part in message.parts if isinstance(part, ToolCall)}
    assert len(ids) == MANY
    assert max(map(len, ids)) < 10
