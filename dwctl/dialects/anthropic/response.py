"""A whole answer: Anthropic's message, read and written (API reference: create a message)."""

import json
from typing import Any

from dwctl.dialects.answers import Answering, Choice, MalformedAnswer, Response, arguments_object
from dwctl.dialects.anthropic import blocks, usage
from dwctl.dialects.canonical import Part, Reasoning, Refusal, Request, Text, ToolCall
from dwctl.dialects.custom_tools import wrapped_arguments
from dwctl.dialects.json_text import encode


def parse_response(body: dict[str, Any]) -> Response:
    """Raises MalformedAnswer."""
    content = body.get("content")
    if body.get("type") != "message" or not isinstance(content, list):
        raise MalformedAnswer("an answer that is no message with content")
    parts = [part for block in content if (part := _part(block)) is not None]
    reason = body.get("stop_reason")
    if reason == "refusal" and (words := blocks.explanation(body.get("stop_details"))):
        parts.append(Refusal(words))
    sequence = body.get("stop_sequence")
    finish = blocks.STOPS.get(reason, "stop") if isinstance(reason, str) else None
    counted = body.get("usage")
    return Response(
        _string(body.get("id")),
        _string(body.get("model")),
        [Choice(parts, finish, _string(sequence))],
        usage.read(counted),
        None if counted is None else encode(counted),
        usage.tier_of(counted),
    )


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _part(block: Any) -> Part | None:
    """None for a block that is none of ours, as those of tools that the provider runs."""
    if not isinstance(block, dict):
        raise MalformedAnswer("a content block that is not an object")
    match block.get("type"):
        case "text":
            text = _text(block, "text")
            return Text(text, annotations=blocks.annotations_of(block.get("citations"), len(text)) or None)
        case "thinking":
            return Reasoning(_text(block, "thinking"), signature=_string(block.get("signature")) or None, origin="anthropic")
        case "redacted_thinking":
            return Reasoning(signature=_text(block, "data"), origin="anthropic", redacted=True)
        case "tool_use":
            if not isinstance(block.get("input"), dict):
                raise MalformedAnswer("a tool call whose input is not an object")
            arguments = json.dumps(block["input"], ensure_ascii=False, separators=(",", ":"))
            return ToolCall(_text(block, "id"), _text(block, "name"), arguments)
    return None


def _text(block: dict[str, Any], name: str) -> str:
    value = block.get(name)
    if not isinstance(value, str):
        raise MalformedAnswer(f"a content block of type {block['type']} without its {name}")
    return value


def message(answering: Answering, content: list[Any], end: dict[str, Any], counted: dict[str, Any]) -> dict[str, Any]:
    """A message, whole or as it begins."""
    return {
        "id": f"msg_{answering.digits}",
        "type": "message",
        "role": "assistant",
        "model": answering.model,
        "content": content,
        **end,
        "usage": counted,
    }


def render_response(response: Response, request: Request, answering: Answering) -> dict[str, Any]:
    """Raises MalformedAnswer for a tool call that is not whole."""
    choice = response.choices[0] if response.choices else Choice([])
    content = [block for part in choice.parts if (block := _block(part, choice, request)) is not None]
    reason = blocks.stop_reason(
        choice.finish,
        called=any(isinstance(part, ToolCall) for part in choice.parts),
        refused=any(isinstance(part, Refusal) for part in choice.parts),
    )
    end = blocks.ending(reason, choice.stop_sequence)
    return message(answering, content, end, usage.rendered(response.usage, response.service_tier))


def _block(part: Part, choice: Choice, request: Request) -> dict[str, Any] | None:
    match part:
        case Text() if part.text:
            citations = blocks.citations_of(part.annotations)
            return {"type": "text", "text": part.text, **({"citations": citations} if citations else {})}
        case Refusal() if part.text:
            return {"type": "text", "text": part.text}
        case Reasoning() if part.text or part.signature:
            signed = blocks.signature(part.origin, part.signature, part.id, part.redacted, part.summary)
            if part.redacted:
                return {"type": "redacted_thinking", "data": signed}
            shown = "" if request.reasoning_summary == "omitted" else part.text
            return {"type": "thinking", "thinking": shown, "signature": signed}
        case ToolCall():
            arguments = wrapped_arguments(part.arguments) if part.custom else arguments_object(part.arguments, choice.finish)
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments}
    return None
