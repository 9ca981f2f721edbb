"""A provider's whole answer, read into the one model (API reference: responses, the response object)."""

from typing import Any

from dwctl.dialects.answers import Choice, Finish, MalformedAnswer, Response
from dwctl.dialects.canonical import Part, Reasoning, Refusal, Text, ToolCall
from dwctl.dialects.fields import RESPONSES
from dwctl.dialects.json_text import objects
from dwctl.dialects.openai_usage import read_usage

Item = dict[str, Any]


def parse_response(body: dict[str, Any]) -> Response:
    """Raises MalformedAnswer."""
    output = body.get("output")
    if not isinstance(output, list):
        raise MalformedAnswer("an answer without output")
    status = body.get("status")
    if status not in ("completed", "incomplete", None):
        raise MalformedAnswer("an answer that has not ended")
    parts: list[Part] = []
    logprobs: list[Any] = []
    for item in output:
        if isinstance(item, dict):
            parts += parts_of(item)
            logprobs += logprobs_of(item)
    counted = read_usage(body)
    usage, raw = (None, None) if counted is None else (counted.usage, counted.raw)
    finish = finish_of(body, parts)
    choice = Choice(parts, finish, logprobs={"content": logprobs} if logprobs else None)
    return Response(text(body, "id"), text(body, "model"), [choice], usage, raw, text(body, "service_tier"))


def parts_of(item: Item) -> list[Part]:
    """What an output item says; nothing for the work of tools that the provider ran itself."""
    match item.get("type"):
        case "message":
            return [part for said in objects(item, "content") if (part := _said(said)) is not None]
        case "reasoning":
            return [reasoning_of(item)]
        case "function_call" | "custom_tool_call" as kind:
            custom = kind == "custom_tool_call"
            return [ToolCall(*call_of(item), text(item, "input" if custom else "arguments") or "", custom)]
    return []


def _said(part: Item) -> Part | None:
    match part.get("type"):
        case "output_text":
            annotations = [annotation(said) for said in objects(part, "annotations")]
            return Text(text(part, "text") or "", annotations=annotations or None)
        case "refusal":
            return Refusal(text(part, "refusal") or "")
    return None


def call_of(item: Item) -> tuple[str, str]:
    """The id and the name of a call. Raises MalformedAnswer."""
    call_id, name = text(item, "call_id") or text(item, "id"), text(item, "name")
    if not call_id or not name:
        raise MalformedAnswer("a tool call without an id or a name")
    return call_id, name


def reasoning_of(item: Item) -> Reasoning:
    raw = [text(part, "text") or "" for part in objects(item, "content")]
    summary = [text(part, "text") or "" for part in objects(item, "summary")]
    signature = text(item, "encrypted_content")
    thought = "\n\n".join(raw or summary)
    return Reasoning(thought, not raw, signature, RESPONSES, text(item, "id"), redacted=not thought and signature is not None)


def annotation(said: Item) -> Item:
    """A citation as chat has it, nested."""
    if said.get("type") != "url_citation" or "url_citation" in said:
        return said
    return {"type": "url_citation", "url_citation": {name: value for name, value in said.items() if name != "type"}}


def logprobs_of(item: Item) -> list[Item]:
    return [token for part in objects(item, "content") for token in objects(part, "logprobs")]


def finish_of(body: Item, parts: list[Part]) -> Finish:
    """Why the answer ended; ``parts`` are what it says."""
    if body.get("status") == "incomplete":
        details = body.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        return "refusal" if reason == "content_filter" else "length"
    if any(isinstance(part, ToolCall) for part in parts):
        return "tool_calls"
    return "refusal" if any(isinstance(part, Refusal) for part in parts) else "stop"


def text(value: Item, name: str) -> str | None:
    found = value.get(name)
    return found if isinstance(found, str) else None
