"""Ollama's answers: the parts that a whole answer and the lines of a stream have in common."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from dwctl.dialects import custom_tools
from dwctl.dialects.answers import LOADS, Answering, Choice, Finish, Response, arguments_object
from dwctl.dialects.canonical import Reasoning, Refusal, Text, ToolCall
from dwctl.dialects.json_text import objects
from dwctl.dialects.ollama import usage

Say = Callable[[str, str, list[dict[str, Any]]], dict[str, Any]]
"""Where an endpoint writes content, thinking and tool calls."""
Hear = Callable[[dict[str, Any]], dict[str, Any] | None]
"""Where it is read: ``content``, ``thinking`` and ``tool_calls``; None if there is nothing of an answer."""


def message(content: str, thinking: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content, **beside(thinking, calls)}}


def message_of(data: dict[str, Any]) -> dict[str, Any] | None:
    found = data.get("message")
    return found if isinstance(found, dict) else None


def beside(thinking: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """What stands beside the content, where there is any."""
    return {**({"thinking": thinking} if thinking else {}), **({"tool_calls": calls} if calls else {})}


def head(answering: Answering) -> dict[str, Any]:
    return {"model": answering.model, "created_at": time(answering.created)}


def time(seconds: int) -> str:
    """Seconds since the epoch as RFC 3339 has it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def tool_call(call: ToolCall, index: int, finish: Finish | None) -> dict[str, Any]:
    """Raises MalformedAnswer for arguments that are not a JSON object, unless the answer was cut."""
    arguments = custom_tools.wrapped_arguments(call.arguments) if call.custom else arguments_object(call.arguments, finish)
    return {"id": call.id, "function": {"index": index, "name": call.name, "arguments": arguments}}


def ending(finish: Finish | None) -> dict[str, Any]:
    reason = "length" if finish in ("length", "context_overflow") else finish if finish in LOADS else "stop"
    return {"done": True, "done_reason": reason}


def logprobs_of(logprobs: Any) -> list[Any]:
    """Ollama's logprobs from chat's."""
    found = logprobs.get("content") if isinstance(logprobs, dict) else None
    return found if isinstance(found, list) else []


def chat_logprobs(logprobs: Any) -> dict[str, Any] | None:
    """Chat's logprobs, whose fields are all there, from Ollama's."""
    if not isinstance(logprobs, list) or not logprobs:
        return None
    return {
        "content": [
            {"bytes": None, **one, "top_logprobs": [{"bytes": None, **other} for other in objects(one, "top_logprobs")]}
            for one in logprobs
            if isinstance(one, dict)
        ]
    }


def rendered(response: Response, answering: Answering, say: Say) -> dict[str, Any]:
    """A whole answer; of several choices the first. Raises MalformedAnswer for a tool call that is not whole."""
    choice = response.choices[0] if response.choices else Choice([])
    content = "".join(part.text for part in choice.parts if isinstance(part, Text | Refusal))
    thinking = "".join(part.text for part in choice.parts if isinstance(part, Reasoning))
    asked = (part for part in choice.parts if isinstance(part, ToolCall))
    calls = [tool_call(call, index, choice.finish) for index, call in enumerate(asked)]
    logprobs = logprobs_of(choice.logprobs)
    return {
        **head(answering),
        **say(content, thinking, calls),
        **ending(choice.finish),
        **({"logprobs": logprobs} if logprobs else {}),
        **usage.written(response.usage),
    }
