"""A request, written for a provider that speaks Responses. Nothing is stored there: every request holds its whole conversation."""

import hashlib
import mimetypes
from collections.abc import Iterable
from typing import Any

from dwctl.dialects.canonical import File, Foreign, Image, Message, Reasoning, Refusal, Request, Text, Tool, ToolCall, ToolResult
from dwctl.dialects.efforts import effort_of
from dwctl.dialects.fields import NO_EQUIVALENT, RESPONSES
from dwctl.dialects.reading import refused
from dwctl.dialects.responses.client_request import ENCRYPTED_REASONING, LOGPROBS
from dwctl.dialects.responses.resource import SERVICE_TIERS

_LONGEST_CALL_ID = 64
Item = dict[str, Any]


def render_request(request: Request, model: str) -> dict[str, Any]:
    """Raises GatewayError 400 for content that cannot be said."""
    instructions, messages = _instructions(request.messages)
    body: dict[str, Any] = {"model": model, "input": [item for message in messages for item in _items(message)], "store": False}
    if request.stream:
        body["stream"] = True
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        body["tool_choice"] = _tool_choice(request)
        body["parallel_tool_calls"] = request.parallel_tool_calls
    body |= {
        "instructions": instructions,
        "max_output_tokens": request.max_output,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_logprobs": request.top_logprobs,
        "reasoning": _reasoning(request),
        "text": _text(request),
        "user": request.user,
        "metadata": request.metadata,
        "service_tier": request.service_tier if request.service_tier in SERVICE_TIERS else None,
        "prompt_cache_key": request.prompt_cache_key,
        "prompt_cache_retention": request.prompt_cache_retention,
        "safety_identifier": request.safety_identifier,
    }
    body["include"] = _include(request, body)
    return {name: value for name, value in body.items() if value is not None}


def _instructions(messages: list[Message]) -> tuple[str | None, list[Message]]:
    """The system prompt that a conversation begins with, and the rest; a conversation of nothing else stays what it is."""
    count = 0
    while count < len(messages) and messages[count].role == "system" and all(isinstance(part, Text) for part in messages[count].parts):
        count += 1
    if count in (0, len(messages)):
        return None, messages
    texts = [part.text for message in messages[:count] for part in message.parts if isinstance(part, Text)]
    return "\n\n".join(texts), messages[count:]


def _items(message: Message) -> Iterable[Item]:
    match message.role:
        case "assistant":
            items = [_said(part) for part in message.parts]
            while items and (items[-1] is None or items[-1]["type"] == "reasoning"):
                items.pop()  # a thought needs what it led to after it
            return [item for item in items if item is not None]
        case "tool":
            return [_result(part) for part in message.parts if isinstance(part, ToolResult)]
        case role:
            content = [_content(part) for part in message.parts]
            return [{"type": "message", "role": role, "content": content}] if content else []


def _said(part: Any) -> Item | None:
    """What the assistant said, thought or called; None for a thought that this provider did not have."""
    match part:
        case Text() | Refusal():
            # As parts of their own they would need the id of an answer that the provider keeps.
            return {"type": "message", "role": "assistant", "content": part.text}
        case ToolCall(custom=True):
            return {"type": "custom_tool_call", "call_id": _call_id(part.id), "name": part.name, "input": part.arguments}
        case ToolCall():
            return {"type": "function_call", "call_id": _call_id(part.id), "name": part.name, "arguments": part.arguments or "{}"}
        case Reasoning():
            if part.origin != RESPONSES or part.signature is None:
                return None
            summary = [{"type": "summary_text", "text": part.text}] if part.text and part.summary else []
            item = {"type": "reasoning", "summary": summary, "encrypted_content": part.signature}
            return item if part.id is None else {"id": part.id, **item}
        case _:
            raise refused(part.path, NO_EQUIVALENT)


def _result(result: ToolResult) -> Item:
    content = [_content(part) for part in result.parts]
    if result.is_error:
        if content and content[0]["type"] == "input_text":
            content[0]["text"] = "Error: " + content[0]["text"]
        else:
            content.insert(0, {"type": "input_text", "text": "Error: "})
    output: Any = content
    if not content:
        output = ""
    elif len(content) == 1 and content[0]["type"] == "input_text":
        output = content[0]["text"]
    kind = "custom_tool_call_output" if result.custom else "function_call_output"
    return {"type": kind, "call_id": _call_id(result.call_id), "output": output}


def _content(part: Any) -> Item:
    match part:
        case Text() | Refusal():
            return {"type": "input_text", "text": part.text}
        case Image(data=str()):
            return _picture(part, f"data:{part.media_type or 'image/png'};base64,{part.data}")
        case Image(url=str(url)):
            return _picture(part, url)
        case File(text=str(text)):
            return _document(part, text)
        case File(data=str()):
            media_type = part.media_type or "application/pdf"
            name = part.name or f"document{mimetypes.guess_extension(media_type) or ''}"
            return {"type": "input_file", "filename": name, "file_data": f"data:{media_type};base64,{part.data}"}
        case File(url=str()):
            return {"type": "input_file", "file_url": part.url}
        case Image() | File() | Foreign():
            raise refused(part.path, NO_EQUIVALENT)
        case _:
            raise refused(getattr(part, "path", "messages"), NO_EQUIVALENT)


def _picture(part: Image, url: str) -> Item:
    return {"type": "input_image", "image_url": url, "detail": part.detail or "auto"}


def _document(part: File, text: str) -> Item:
    return {"type": "input_text", "text": "\n".join(said for said in (part.name, part.context, text) if said)}


def _call_id(call_id: str) -> str:
    """The same id wherever it stands, no longer than the API takes."""
    if len(call_id) <= _LONGEST_CALL_ID:
        return call_id
    return "call_" + hashlib.sha256(call_id.encode()).hexdigest()[:32]


def _tool(tool: Tool) -> Item:
    said: Item = {"type": "custom" if tool.custom else "function", "name": tool.name}
    if tool.description is not None:
        said["description"] = tool.description
    if tool.custom:
        if tool.grammar is not None:
            said["format"] = {"type": "grammar", **tool.grammar.get("grammar", tool.grammar)}
        return said
    # Unsaid, "strict" is true in this dialect alone, and rewrites the schema.
    return {**said, "parameters": tool.parameters or {"type": "object", "properties": {}}, "strict": tool.strict or False}


def _tool_choice(request: Request) -> Any:
    choice = request.tool_choice
    if choice is None:
        return None
    custom = {tool.name for tool in request.tools if tool.custom}
    tools = [{"type": "custom" if name in custom else "function", "name": name} for name in choice.names]
    match choice.mode:
        case "named":
            return tools[0]
        case "allowed":
            return {"type": "allowed_tools", "mode": "required" if choice.must else "auto", "tools": tools}
        case mode:
            return mode


def _reasoning(request: Request) -> Item | None:
    """Clients that turn thinking on expect to see it; here that takes a wish of its own."""
    summary = request.reasoning_summary or ("auto" if request.thinking == "enabled" else None)
    said = {"effort": effort_of(request), "summary": None if summary == "omitted" else summary}
    return {name: value for name, value in said.items() if value is not None} or None


def _text(request: Request) -> Item | None:
    text: Item = {}
    if (wanted := request.output_format) is not None:
        if wanted.schema is None:
            text["format"] = {"type": "json_object"}
        else:
            text["format"] = {"type": "json_schema", "name": wanted.name or "answer", "schema": wanted.schema}
            text["format"] |= {
                name: value for name, value in (("description", wanted.description), ("strict", wanted.strict)) if value is not None
            }
    if request.verbosity is not None:
        text["verbosity"] = request.verbosity
    return text or None


def _include(request: Request, body: dict[str, Any]) -> list[str] | None:
    """A model that does not think refuses to be asked for encrypted reasoning; so it is asked for where thinking is spoken of."""
    thinks = body["reasoning"] is not None and body["reasoning"].get("effort") != "none"
    thought = any(item["type"] == "reasoning" for item in body["input"])
    wishes = [ENCRYPTED_REASONING] if thinks or thought or request.encrypted_reasoning else []
    if request.logprobs or request.top_logprobs:
        wishes.append(LOGPROBS)
    return wishes or None
