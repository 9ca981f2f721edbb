"""The canonical request as a body for a provider's /v1/messages, by the rules that Anthropic's own API enforces.

The rules that Anthropic's reference has no place for: turns begin with the user's, and follow each other in turn; results of
tools come first in the turn after the calls; no text is empty or white space alone; ids of calls are letters, digits, ``_`` and
``-``, each once; a turn with thoughts begins with one and ends with none; a tool that must be called and thinking exclude each other.
"""

import json
import re
from typing import Any

from dwctl.dialects.anthropic.schemas import closed
from dwctl.dialects.anthropic.thinking import thinking_fields
from dwctl.dialects.canonical import CacheControl, File, Image, Message, Part, Reasoning, Refusal, Request, Text, Tool, ToolCall, ToolResult
from dwctl.dialects.custom_tools import wrapped, wrapped_arguments
from dwctl.dialects.media import plain_text
from dwctl.dialects.reading import refused, silent

DEFAULT_MAX_TOKENS = 32_000
"""Anthropic demands a bound on the output; this is sent where neither client nor model has one. Every current model can write as much."""

_BEGINNING = "(The conversation begins with the assistant.)"
_NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_THOUGHTS = ("thinking", "redacted_thinking")
_TIERS = {"default": "standard_only", "auto": "auto"}
Block = dict[str, Any]


def render_request(request: Request, model: str) -> dict[str, Any]:
    """The body for a provider that calls the model ``model``. Raises GatewayError 400 for what cannot be said."""
    turns = _Turns()
    for message in request.messages:
        turns.add(message)
    body: dict[str, Any] = {"model": model, "max_tokens": DEFAULT_MAX_TOKENS if request.max_output is None else request.max_output}
    if turns.system and turns.turns:
        body["system"] = turns.system
    body["messages"] = turns.finished()
    if request.stream:
        body["stream"] = True
    if request.stop:
        if not all(stop.strip() for stop in request.stop):
            raise refused("stop", "its provider takes no stop sequence of white space alone")
        body["stop_sequences"] = request.stop
    if request.user is not None:
        body["metadata"] = {"user_id": request.user}
    if request.service_tier in _TIERS:
        body["service_tier"] = _TIERS[request.service_tier]
    elif request.service_tier is not None:
        request.notes.append(f"service_tier '{request.service_tier}' left out: the model's provider has nothing like it")
    body |= _tools(request, turns)
    body |= thinking_fields(request, model, body)
    if request.output_format is not None and request.output_format.schema is not None:
        form = {"type": "json_schema", "schema": closed(request.output_format.schema)}
        body["output_config"] = {**body.get("output_config", {}), "format": form}
    elif request.output_format is not None:
        request.notes.append("the wish for any JSON object left out: the model's provider knows schemas only")
    if turns.unsigned:
        request.notes.append(f"{turns.unsigned} thoughts of earlier turns left out: the model's provider takes only what it has signed")
    return body


class _Turns:
    """The conversation as it grows: system prompts apart, neighbours of one role joined."""

    def __init__(self) -> None:
        self.system: list[Block] = []
        self.turns: list[tuple[str, list[Block]]] = []
        self.called: dict[str, None] = {}
        """The names of the tools that were called, in order."""
        self._ids: dict[str, str] = {}
        """From the client's id of a call to the one that is sent, the last one where it is used again."""
        self._taken: dict[str, int] = {}
        """The ids that were sent, and how far the numbers behind each have come."""
        self.unsigned = 0
        """Thoughts that go to nobody."""

    def add(self, message: Message) -> None:
        match message.role:
            case "system" | "developer":
                self.system += [block for part in message.parts for block in _system(part)]
            case "assistant":
                self._append("assistant", [block for part in message.parts for block in self._said(part)])
            case "user" | "tool":
                self._append("user", [block for part in message.parts for block in self._asked(part)])

    def _append(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        if self.turns and self.turns[-1][0] == role:
            self.turns[-1][1].extend(blocks)
        else:
            self.turns.append((role, blocks))

    def finished(self) -> list[dict[str, Any]]:
        if not (self.turns or self.system):
            raise silent("messages")
        if not self.turns:
            return [{"role": "user", "content": self.system}]
        if self.turns[0][0] == "assistant":
            self.turns.insert(0, ("user", [_text(_BEGINNING)]))
        for role, blocks in self.turns:
            if role == "user":
                blocks.sort(key=lambda block: block["type"] != "tool_result")
            else:
                _order_thoughts(blocks)
        messages: list[dict[str, Any]] = [{"role": role, "content": blocks} for role, blocks in self.turns if blocks]
        last = messages[-1]["content"][-1]
        if messages[-1]["role"] == "assistant" and last["type"] == "text":
            last["text"] = last["text"].rstrip()
        return messages

    def _said(self, part: Part) -> list[Block]:
        match part:
            case Text():
                return _texts(part.text, part.cache)
            case Refusal():
                return _texts(part.text, None)
            case Reasoning():
                thought = _thought(part)
                self.unsigned += not thought
                return thought
            case ToolCall():
                return [self._call(part)]
        return _media(part)

    def _asked(self, part: Part) -> list[Block]:
        match part:
            case Text():
                return _texts(part.text, part.cache)
            case ToolResult():
                return [self._result(part)]
        return _media(part)

    def _call(self, call: ToolCall) -> Block:
        self.called[call.name] = None
        name = wanted = _NOT_IN_AN_ID.sub("_", call.id) or "toolu"
        count = self._taken.get(wanted, 1)
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken[wanted] = count
        self._taken.setdefault(name, 1)
        self._ids[call.id] = name
        return _marked({"type": "tool_use", "id": name, "name": call.name, "input": _input(call)}, call.cache)

    def _result(self, result: ToolResult) -> Block:
        block: Block = {"type": "tool_result", "tool_use_id": self._ids.get(result.call_id) or _NOT_IN_AN_ID.sub("_", result.call_id)}
        content = [shown for part in result.parts for shown in self._asked(part)]
        if content:
            block["content"] = content
        if result.is_error:
            block["is_error"] = True
        return _marked(block, result.cache)


def _marked(block: Block, cache: CacheControl | None) -> Block:
    if cache is not None:
        block["cache_control"] = cache
    return block


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _texts(text: str, cache: CacheControl | None) -> list[Block]:
    return [_marked(_text(text), cache)] if text.strip() else []


def _system(part: Part) -> list[Block]:
    match part:
        case Text():
            return _texts(part.text, part.cache)
        case File() if part.text is not None:
            return _texts(part.text, part.cache)
        case Image() | File():
            raise refused(part.path, "a system prompt is text only")
    return []


def _thought(thought: Reasoning) -> list[Block]:
    """A thought goes back to whoever signed it; to anybody else it is nothing."""
    if thought.origin != "anthropic" or not thought.signature:
        return []
    if thought.redacted:
        return [{"type": "redacted_thinking", "data": thought.signature}]
    return [{"type": "thinking", "thinking": thought.text, "signature": thought.signature}]


def _order_thoughts(blocks: list[Block]) -> None:
    """A turn that does not begin with a thought may have none, and none may be its last block."""
    if blocks[0]["type"] not in _THOUGHTS:
        blocks[:] = [block for block in blocks if block["type"] not in _THOUGHTS]
    while blocks and blocks[-1]["type"] in _THOUGHTS:
        blocks.pop()


def _media(part: Part) -> list[Block]:
    match part:
        case Image():
            return [_marked({"type": "image", "source": _image_source(part)}, part.cache)]
        case File():
            block: Block = {"type": "document", "source": _document_source(part)}
            if part.name:
                block["title"] = part.name
            if part.context:
                block["context"] = part.context
            return [_marked(block, part.cache)]
    return []


def _image_source(image: Image) -> Block:
    if image.data is not None:
        return {"type": "base64", "media_type": image.media_type or "image/png", "data": image.data}
    if image.url is not None:
        return {"type": "url", "url": image.url}
    return {"type": "file", "file_id": image.file_id}


def _document_source(file: File) -> Block:
    if file.text is not None:
        return {"type": "text", "media_type": "text/plain", "data": file.text}
    if file.url is not None:
        return {"type": "url", "url": file.url}
    if file.data is None:
        return {"type": "file", "file_id": file.file_id}
    media_type = file.media_type or ("application/pdf" if file.data.startswith("JVBER") else "text/plain")
    if media_type == "application/pdf":
        return {"type": "base64", "media_type": media_type, "data": file.data}
    if (text := plain_text(media_type, file.data)) is not None:
        return {"type": "text", "media_type": "text/plain", "data": text}
    raise refused(file.path, "its provider takes PDF and plain text documents only")


def _input(call: ToolCall) -> dict[str, Any]:
    if call.custom:
        return wrapped_arguments(call.arguments)
    if not call.arguments.strip():
        return {}
    try:
        value = json.loads(call.arguments)
    except (ValueError, RecursionError):
        value = call.arguments
    if value is None:
        return {}
    # The model sees what it wrote, also where that was no object.
    return value if isinstance(value, dict) else {"arguments": value}


def _tools(request: Request, turns: _Turns) -> dict[str, Any]:
    choice = request.tool_choice
    allowed = frozenset(choice.names) if choice is not None else ()
    tools = [_tool(tool) for tool in request.tools if choice is None or choice.mode != "allowed" or tool.name in allowed]
    if not tools:
        if not turns.called:
            return {}
        # A conversation with calls needs their tools, also where none is to be called any more.
        return {"tools": [_tool(Tool("", name)) for name in turns.called], "tool_choice": {"type": "none"}}
    fields: dict[str, Any] = {"tools": tools}
    chosen: dict[str, Any] | None = None
    if choice is not None:
        match choice.mode:
            case "auto" | "none":
                chosen = {"type": choice.mode}
            case "required":
                chosen = {"type": "any"}
            case "allowed":
                chosen = {"type": "any" if choice.must else "auto"}
            case "named":
                chosen = {"type": "tool", "name": choice.names[0]}
    if request.parallel_tool_calls is False:
        chosen = chosen or {"type": "auto"}
        if chosen["type"] != "none":
            chosen["disable_parallel_tool_use"] = True
    if chosen is not None:
        fields["tool_choice"] = chosen
    return fields


def _tool(tool: Tool) -> Block:
    tool = wrapped(tool)
    schema = tool.parameters or {"type": "object", "properties": {}}
    rendered: Block = {"name": tool.name, "input_schema": schema if schema.get("type") == "object" else {**schema, "type": "object"}}
    if tool.description:
        rendered["description"] = tool.description
    if tool.strict:
        rendered["strict"] = True
        rendered["input_schema"] = closed(rendered["input_schema"])
    return _marked(rendered, tool.cache)
