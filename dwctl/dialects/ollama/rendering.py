"""What a provider that speaks Ollama's API is asked (docs.ollama.com: API reference, "Generate a chat message")."""

from collections.abc import Sequence
from typing import Any

from dwctl.dialects import custom_tools
from dwctl.dialects.answers import MalformedAnswer, arguments_object
from dwctl.dialects.canonical import File, Image, Message, Part, Reasoning, Refusal, Request, Text, Tool, ToolCall, ToolResult
from dwctl.dialects.efforts import effort_of
from dwctl.dialects.reading import refused

_EFFORTS = {"minimal": "low", "xhigh": "high"}


def render_request(request: Request, model: str) -> dict[str, Any]:
    """The body for ``/api/chat``. Raises GatewayError 400 for a tool choice that demands a call."""
    body = {"model": model, "messages": messages(request.messages), **settings(request)}
    if tools := _offered(request):
        body["tools"] = [_tool(tool) for tool in tools]
    return body


def settings(request: Request) -> dict[str, Any]:
    """All of the body but what the model is told. ``stream`` is always said, since Ollama streams unless told not to."""
    options = {
        "num_predict": request.max_output,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "min_p": request.min_p,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "seed": request.seed,
        "stop": request.stop,
    }
    output = request.output_format
    body = {
        "options": {name: value for name, value in options.items() if value is not None} or None,
        "think": _think(request),
        "format": None if output is None else "json" if output.schema is None else output.schema,
        "logprobs": request.logprobs,
        "top_logprobs": request.top_logprobs,
    }
    return {"stream": request.stream, **{name: value for name, value in body.items() if value is not None}}


def _think(request: Request) -> bool | str | None:
    """To a model that can think Ollama says so by itself; to ask one that cannot is an error. So ``adaptive`` asks for nothing."""
    if request.thinking == "enabled" and request.effort is None and request.thinking_budget is None:
        return True
    effort = "none" if request.thinking == "disabled" else effort_of(request)
    return False if effort == "none" else None if effort is None else _EFFORTS.get(effort, effort)


def _offered(request: Request) -> list[Tool]:
    choice = request.tool_choice
    if choice is None or choice.mode == "auto":
        return request.tools
    if choice.mode in ("required", "named") or choice.must:
        raise refused(choice.path, "its provider cannot be made to call a tool")
    names = frozenset(choice.names)
    return [tool for tool in request.tools if tool.name in names]


def _tool(tool: Tool) -> dict[str, Any]:
    plain = custom_tools.wrapped(tool)
    function: dict[str, Any] = {"name": plain.name, "parameters": {"type": "object", "properties": {}, **(plain.parameters or {})}}
    if plain.description is not None:
        function["description"] = plain.description
    return {"type": "function", "function": function}


def messages(conversation: list[Message]) -> list[dict[str, Any]]:
    """Ollama's messages. Pictures in tool results follow those in a message of the user."""
    names = {part.id: part.name for message in conversation for part in message.parts if isinstance(part, ToolCall)}
    rendered: list[dict[str, Any]] = []
    shown: list[str] = []
    for message in conversation:
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        for result in results:
            rendered.append(_result(result, names))
            shown += pictures(result.parts)
        if results and len(results) == len(message.parts):
            continue
        if shown:
            rendered.append({"role": "user", "content": "", "images": shown})
            shown = []
        rendered.append(_message(message))
    if shown:
        rendered.append({"role": "user", "content": "", "images": shown})
    return rendered


def _message(message: Message) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "system" if message.role == "developer" else message.role, "content": text(message)}
    if thoughts := "\n\n".join(part.text for part in message.parts if isinstance(part, Reasoning) and part.text):
        said["thinking"] = thoughts
    if images := pictures(message.parts):
        said["images"] = images
    if calls := [part for part in message.parts if isinstance(part, ToolCall)]:
        said["tool_calls"] = [
            {"id": call.id, "function": {"index": index, "name": call.name, "arguments": _arguments(call)}}
            for index, call in enumerate(calls)
        ]
    return said


def text(message: Message) -> str:
    """All that a message says. Parts of an answer are one text, those of a prompt are paragraphs."""
    return ("" if message.role == "assistant" else "\n\n").join(_texts(message.parts))


def _texts(parts: Sequence[Part]) -> list[str]:
    texts = []
    for part in parts:
        match part:
            case Text() | Refusal():
                texts.append(part.text)
            case File():
                texts.append("\n".join(line for line in (part.name, part.context, part.text) if line))
    return texts


def pictures(parts: Sequence[Part]) -> list[str]:
    return [part.data for part in parts if isinstance(part, Image) and part.data is not None]


def _result(result: ToolResult, names: dict[str, str]) -> dict[str, Any]:
    content = ("Error: " if result.is_error else "") + "\n\n".join(_texts(result.parts))
    said = {"role": "tool", "content": content, "tool_call_id": result.call_id}
    return {**said, "tool_name": names[result.call_id]} if result.call_id in names else said


def _arguments(call: ToolCall) -> dict[str, Any]:
    """Ollama takes objects only; what a model once wrote instead is kept as the input of a custom tool is."""
    if not call.custom:
        try:
            return arguments_object(call.arguments, None)
        except MalformedAnswer:
            pass  # is kept below
    return custom_tools.wrapped_arguments(call.arguments)
