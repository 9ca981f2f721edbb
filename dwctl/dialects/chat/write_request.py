"""Requests to providers, in the words that most servers of the dialect understand."""

from typing import Any

from dwctl.dialects.canonical import Audio, File, Image, Message, Part, Reasoning, Refusal, Request, Text, Tool, ToolCall, ToolResult
from dwctl.dialects.chat.reasoning import given_back
from dwctl.dialects.efforts import effort_of
from dwctl.dialects.raw_request import limit_name

_SAME = (
    "parallel_tool_calls",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "n",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "verbosity",
    "user",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
)
"""Fields that are called alike here and in `Request`."""


def render_request(request: Request, model: str) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "messages": _messages(request.messages)}
    if request.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}  # who pays is known by it, whether the client asked or not
    if request.max_output is not None:
        body[limit_name(model)] = request.max_output
    for name in _SAME:
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.top_logprobs and request.logprobs is None:
        body["logprobs"] = True
    if (effort := effort_of(request)) is not None:
        body["reasoning_effort"] = effort
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    _put_tool_choice(body, request)
    if (wanted := request.output_format) is not None:
        body["response_format"] = {"type": "json_object"}
        if wanted.schema is not None:
            schema = {"name": wanted.name or "answer", "description": wanted.description, "schema": wanted.schema, "strict": wanted.strict}
            body["response_format"] = {"type": "json_schema", "json_schema": _said(schema)}
    return body


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _tool(tool: Tool) -> dict[str, Any]:
    if not tool.custom:
        function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
        return {"type": "function", "function": _said(function)}
    custom: dict[str, Any] = _said({"name": tool.name, "description": tool.description})
    if tool.grammar is not None:
        custom["format"] = {"type": "grammar", "grammar": tool.grammar}
    return {"type": "custom", "custom": custom}


def _put_tool_choice(body: dict[str, Any], request: Request) -> None:
    choice = request.tool_choice
    if not request.tools:
        body.pop("parallel_tool_calls", None)  # both are refused where there is no tool
        if choice is None or choice.mode in ("auto", "none"):
            return
    if choice is None:
        return
    custom = {tool.name for tool in request.tools if tool.custom}

    def named(name: str) -> dict[str, Any]:
        kind = "custom" if name in custom else "function"
        return {"type": kind, kind: {"name": name}}

    if choice.mode == "named":
        body["tool_choice"] = named(choice.names[0])
    elif choice.mode == "allowed":
        allowed = {"mode": "required" if choice.must else "auto", "tools": [named(name) for name in choice.names]}
        body["tool_choice"] = {"type": "allowed_tools", "allowed_tools": allowed}
    else:
        body["tool_choice"] = choice.mode


def _messages(messages: list[Message]) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    attached: list[Part] = []
    """Pictures and documents of tools, whose messages hold text only; they follow when all the tools have answered."""
    for message in messages:
        if message.role == "tool":
            for part in message.parts:
                if isinstance(part, ToolResult):
                    written.append(_tool_message(part, attached))
            continue
        parts = message.parts
        if attached and message.role == "user":
            parts, attached = attached + parts, []
        elif attached:
            written.append({"role": "user", "content": _content(attached)})
            attached = []
        fields = _assistant(parts) if message.role == "assistant" else {"content": _content(parts)}
        written.append({"role": message.role, **fields, **({"name": message.name} if message.name is not None else {})})
    if attached:
        written.append({"role": "user", "content": _content(attached)})
    return written


def _tool_message(result: ToolResult, attached: list[Part]) -> dict[str, Any]:
    texts = [text for part in result.parts if (text := _readable(part)) is not None]
    rest = [part for part in result.parts if _readable(part) is None]
    if rest:
        attached += [Text(f"What the tool call {result.call_id} returned:"), *rest]
        texts = texts or ["It follows in the next message of the user."]
    text = "\n".join(texts)
    if result.is_error and not text.startswith("Error: "):
        text = f"Error: {text}"
    return {"role": "tool", "tool_call_id": result.call_id, "content": text}


def _assistant(parts: list[Part]) -> dict[str, Any]:
    """The blocks of an answer are one text, cut where a thought or a citation began; nothing goes between them."""
    text = "".join(part.text for part in parts if isinstance(part, Text))
    refusal = "".join(part.text for part in parts if isinstance(part, Refusal))
    calls = [_call(part) for part in parts if isinstance(part, ToolCall)]
    fields: dict[str, Any] = {"content": text or (None if calls or refusal else "")}
    if refusal:
        fields["refusal"] = refusal
    if calls:
        fields["tool_calls"] = calls
    return fields | given_back([part for part in parts if isinstance(part, Reasoning)])


def _call(call: ToolCall) -> dict[str, Any]:
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _content(parts: list[Part]) -> str | list[dict[str, Any]]:
    """A string where it can be one: not every server takes a list, the less so of a system."""
    texts = [text for part in parts if (text := _readable(part)) is not None]
    if len(texts) == len(parts):
        return "\n".join(texts)
    return [_part(part) for part in parts]


def _readable(part: Part) -> str | None:
    """What can be said as text."""
    match part:
        case Text() | Refusal():
            return part.text
        case File() if part.text is not None:
            return "\n".join(line for line in (part.name, part.context, part.text) if line)
    return None


def _part(part: Part) -> dict[str, Any]:
    match part:
        case Image():
            url = part.url if part.url is not None else f"data:{part.media_type};base64,{part.data}"
            return {"type": "image_url", "image_url": _said({"url": url, "detail": part.detail})}
        case Audio():
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
        case File() if part.text is None:
            name = part.name or ("document.pdf" if part.media_type == "application/pdf" else "document")
            return {"type": "file", "file": {"filename": name, "file_data": f"data:{part.media_type};base64,{part.data}"}}
    return {"type": "text", "text": _readable(part) or ""}
