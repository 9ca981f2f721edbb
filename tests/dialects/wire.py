"""One answer, a text and two calls of tools, word for word as a provider of each dialect sends it, whole and streamed."""

import json
from typing import Any

from dwctl.dialects.names import DialectName

TEXT = "Grüße 🙂 an alle"
CALLS = [("weather", {"city": "Köln"}), ("clock", {"city": "Łódź"})]
TOKENS = (10, 5)


def sse(data: Any, event: str = "") -> bytes:
    """One server-sent event."""
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def line(data: Any) -> bytes:
    """One line of newline-delimited JSON."""
    return json.dumps(data, ensure_ascii=False).encode() + b"\n"


def whole(provider: DialectName) -> bytes:
    """The answer of one who was asked for no stream; without the calls."""
    return json.dumps(_WHOLE[provider], ensure_ascii=False).encode()


def stream(provider: DialectName, *, calls: bool = False, pieces: tuple[str, ...] = ("Grüße ", "🙂 an", " alle")) -> list[bytes]:
    """The events or lines, one each."""
    return _STREAMS[provider](pieces, calls)


_CHAT_USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
_MESSAGE_USAGE = {"input_tokens": 10, "output_tokens": 5}
_RESPONSE_USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 15,
}
_CHAT_HEAD = {"id": "chatcmpl-theirs", "created": 1700000000, "model": "theirs"}
_MESSAGE: dict[str, Any] = {"id": "msg_theirs", "type": "message", "role": "assistant", "model": "theirs"}
_LINE = {"model": "theirs", "created_at": "2026-01-01T00:00:00Z"}
_LAST_LINE = {"done": True, "done_reason": "stop", "prompt_eval_count": 10, "eval_count": 5}


def _response(output: list[Any], status: str = "completed") -> dict[str, Any]:
    return {
        "id": "resp_theirs",
        "object": "response",
        "created_at": 1700000000,
        "model": "theirs",
        "status": status,
        "output": output,
        "error": None,
        "incomplete_details": None,
        "usage": _RESPONSE_USAGE if status == "completed" else None,
    }


def _item(text: str, status: str = "completed") -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}] if status == "completed" else []
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": content}


_WHOLE: dict[str, Any] = {
    "openai-chat": {
        **_CHAT_HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
        "usage": _CHAT_USAGE,
    },
    "openai-responses": _response([_item(TEXT)]),
    "anthropic": {
        **_MESSAGE,
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": _MESSAGE_USAGE,
    },
    "ollama": {**_LINE, "message": {"role": "assistant", "content": TEXT}, **_LAST_LINE},
}


def _chat(pieces: tuple[str, ...], calls: bool) -> list[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        return sse({**_CHAT_HEAD, "object": "chat.completion.chunk", "choices": choices})

    units = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": piece}) for piece in pieces)]
    for index, (name, arguments) in enumerate(CALLS if calls else []):
        call = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        units.append(chunk({"tool_calls": [call]}))
        units += [chunk({"tool_calls": [{"index": index, "function": {"arguments": half}}]}) for half in _halves(arguments)]
    units.append(chunk({}, "tool_calls" if calls else "stop"))
    return [*units, sse({**_CHAT_HEAD, "object": "chat.completion.chunk", "choices": [], "usage": _CHAT_USAGE}), b"data: [DONE]\n\n"]


def _responses(pieces: tuple[str, ...], calls: bool) -> list[bytes]:
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response([], "in_progress")},
        {"type": "response.in_progress", "response": _response([], "in_progress")},
    ]
    part = {"output_index": 0, "item_id": "msg_1", "content_index": 0}
    text = "".join(pieces)
    events += [
        {"type": "response.output_item.added", "output_index": 0, "item": _item("", "in_progress")},
        {"type": "response.content_part.added", **part, "part": {"type": "output_text", "text": "", "annotations": []}},
        *({"type": "response.output_text.delta", **part, "delta": piece} for piece in pieces),
        {"type": "response.output_text.done", **part, "text": text},
        {"type": "response.content_part.done", **part, "part": {"type": "output_text", "text": text, "annotations": []}},
        {"type": "response.output_item.done", "output_index": 0, "item": _item(text)},
    ]
    output: list[Any] = [_item(text)]
    for index, (name, arguments) in enumerate(CALLS if calls else [], 1):
        place = {"output_index": index, "item_id": f"fc_{index}"}
        item = {"type": "function_call", "id": f"fc_{index}", "call_id": f"call_{index - 1}", "name": name}
        said = json.dumps(arguments, ensure_ascii=False)
        output.append({**item, "arguments": said, "status": "completed"})
        events += [
            {"type": "response.output_item.added", "output_index": index, "item": {**item, "arguments": "", "status": "in_progress"}},
            *({"type": "response.function_call_arguments.delta", **place, "delta": half} for half in _halves(arguments)),
            {"type": "response.function_call_arguments.done", **place, "arguments": said},
            {"type": "response.output_item.done", "output_index": index, "item": output[-1]},
        ]
    events.append({"type": "response.completed", "response": _response(output)})
    return [sse({**event, "sequence_number": number}, event["type"]) for number, event in enumerate(events)]


def _messages(pieces: tuple[str, ...], calls: bool) -> list[bytes]:
    start = {**_MESSAGE, "content": [], "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 10, "output_tokens": 1}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}} for piece in pieces),
        {"type": "content_block_stop", "index": 0},
    ]
    for index, (name, arguments) in enumerate(CALLS if calls else [], 1):
        block = {"type": "tool_use", "id": f"call_{index - 1}", "name": name, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": half} for half in _halves(arguments)]
        events += [
            {"type": "content_block_start", "index": index, "content_block": block},
            *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": index},
        ]
    stop = {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}
    events += [{"type": "message_delta", "delta": stop, "usage": {"output_tokens": 5}}, {"type": "message_stop"}]
    return [sse(event, event["type"]) for event in events]


def _lines(pieces: tuple[str, ...], calls: bool) -> list[bytes]:
    lines = [line({**_LINE, "message": {"role": "assistant", "content": piece}, "done": False}) for piece in pieces]
    for index, (name, arguments) in enumerate(CALLS if calls else []):
        call = {"id": f"call_{index}", "function": {"name": name, "arguments": arguments}}
        lines.append(line({**_LINE, "message": {"role": "assistant", "content": "", "tool_calls": [call]}, "done": False}))
    return [*lines, line({**_LINE, "message": {"role": "assistant", "content": ""}, **_LAST_LINE})]


def _halves(arguments: dict[str, str]) -> tuple[str, str]:
    said = json.dumps(arguments, ensure_ascii=False)
    return said[:7], said[7:]


_STREAMS = {"openai-chat": _chat, "openai-responses": _responses, "anthropic": _messages, "ollama": _lines}
