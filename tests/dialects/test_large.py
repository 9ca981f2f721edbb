"""Requests of a great many parts, which a client may send in 10 MB, are read in time that grows as they do.

Were it to grow with the square, each of these would keep the gateway for minutes.
"""

from collections.abc import Callable
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


def _in_ollamas_words(calls: list[dict[str, Any]], *results: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "assistant", "content": "", "tool_calls": calls}, *results]}


def _allowed() -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": f"f{number}"}} for number in range(MANY)]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": tools}}
    return {"messages": [{"role": "user", "content": "x"}], "tools": tools, "tool_choice": choice}


def _results_after_calls() -> dict[str, Any]:
    calls = [{"type": "function_call", "call_id": f"c{number}", "name": "f", "arguments": "{}"} for number in range(MANY)]
    results = [{"type": "function_call_output", "call_id": f"c{number}", "output": "r"} for number in range(MANY)]
    return {"input": [*calls, *results]}


def _results_by_name() -> dict[str, Any]:
    calls = [{"function": {"name": f"f{number}", "arguments": {}}} for number in range(MANY)]
    return _in_ollamas_words(calls, *({"role": "tool", "content": "r", "tool_name": f"f{number}"} for number in reversed(range(MANY))))


def _calls_of_one_id() -> dict[str, Any]:
    return _in_ollamas_words([{"id": "c", "function": {"name": "f", "arguments": {}}}] * MANY)


BODIES: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "calls of one id": ("/chat/completions", lambda: {"messages": _chat(["c"] * MANY)}),
    "tools that are allowed": ("/chat/completions", _allowed),
    "calls, then their results": ("/responses", _results_after_calls),
    "thoughts": ("/responses", lambda: {"input": [*[{"type": "reasoning", "summary": []}] * MANY, {"role": "user", "content": "x"}]}),
    "results by name": ("/api/chat", _results_by_name),
    "calls of one id in Ollama's words": ("/api/chat", _calls_of_one_id),
}
"""Made when they are asked for: they are too large to be kept."""


@pytest.mark.parametrize("body", BODIES)
def test_large_requests(body: str) -> None:
    path, make = BODIES[body]
    surface = surfaces.surface_of(path)
    request = surface.codec.parse_request({"model": "m", **make()})
    for provider in DIALECTS:
        if provider != surface.dialect:
            settled, _ = fields.settle(request, surface.dialect, provider)
            surfaces.PROVIDERS[provider].render_request(settled, "claude-sonnet-4-6")


def test_results_find_their_calls_in_any_order() -> None:
    request = surfaces.PROVIDERS["ollama"].parse_request({"model": "m", **_results_by_name()})
    calls = {part.id: part.name for message in request.messages for part in message.parts if isinstance(part, ToolCall)}
    answered = [calls[part.call_id] for message in request.messages for part in message.parts if isinstance(part, ToolResult)]
    assert answered == [f"f{number}" for number in reversed(range(MANY))]


def test_calls_of_one_id_are_told_apart() -> None:
    request = surfaces.PROVIDERS["ollama"].parse_request({"model": "m", **_calls_of_one_id()})
    ids = {part.id for message in request.messages for part in message.parts if isinstance(part, ToolCall)}
    assert len(ids) == MANY
    assert max(map(len, ids)) < 10
