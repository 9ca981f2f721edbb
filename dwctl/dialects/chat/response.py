"""Whole answers: of providers, read, and to clients, written."""

import json
import re
from typing import Any

from dwctl.dialects import openai_usage
from dwctl.dialects.answers import Answering, Choice, Finish, MalformedAnswer, Response, arguments_object
from dwctl.dialects.canonical import Part, Reasoning, Refusal, Request, Text, ToolCall
from dwctl.dialects.chat.reasoning import shown, thoughts_of
from dwctl.dialects.chat.usage import render_usage
from dwctl.dialects.custom_tools import unwrapped
from dwctl.dialects.json_text import encode

_READ: dict[str, Finish] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "content_filter": "refusal",
}
_BROKEN = {"error", "abort", "insufficient_system_resource"}
_WRITTEN: dict[Finish, str] = {"length": "length", "context_overflow": "length", "refusal": "content_filter"}
_TIERS = {"auto", "default", "flex", "scale", "priority", "fast"}


class BrokenOff(MalformedAnswer):
    """The provider says that it could not end its answer."""


def parse_response(body: dict[str, Any]) -> Response:
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise MalformedAnswer("an answer without choices")
    response_id = text_or_none(body.get("id"))
    response = Response(
        response_id,
        text_or_none(body.get("model")),
        [_choice(choice, place, response_id) for place, choice in enumerate(_in_order(choices))],
        service_tier=text_or_none(body.get("service_tier")),
    )
    if isinstance(usage := body.get("usage"), dict):
        raw = encode(usage)
        response.usage, response.raw_usage = openai_usage.read(raw), raw
    return response


def _in_order(choices: list[Any]) -> list[dict[str, Any]]:
    if not all(isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices):
        raise MalformedAnswer("a choice without a message")
    if all(isinstance(choice.get("index"), int) for choice in choices):
        return sorted(choices, key=lambda choice: int(choice["index"]))
    return choices


def _choice(choice: dict[str, Any], place: int, response_id: str | None) -> Choice:
    message = choice["message"]
    parts: list[Part] = [*thoughts_of(message)]
    thought, text = spoken(message.get("content"))
    if thought and not parts:
        parts.append(Reasoning(thought, origin="openai-chat"))
    annotations = message.get("annotations")
    annotations = annotations if isinstance(annotations, list) and annotations else None
    if text or annotations:
        parts.append(Text(text, annotations=annotations))
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        parts.append(Refusal(refusal))
    calls = message.get("tool_calls")
    calls = calls if isinstance(calls, list) else []
    if isinstance(old := message.get("function_call"), dict):
        calls = [*calls, {"function": old}]
    for number, call in enumerate(calls):
        parts.append(_call(call, made_id(response_id, place, number)))
    finish, stop_sequence = read_finish(choice, called=bool(calls), refused=bool(refusal))
    logprobs = choice.get("logprobs")
    return Choice(parts, finish, stop_sequence, logprobs if isinstance(logprobs, dict) else None)


def _call(call: Any, spare_id: str) -> ToolCall:
    if not isinstance(call, dict):
        raise MalformedAnswer("a tool call that is not an object")
    called = called_of(call)
    if called is None or not isinstance(name := called.get("name"), str) or not name:
        raise MalformedAnswer("a tool call without a name")
    call_id = text_or_none(call.get("id")) or spare_id
    if "custom" in call:
        return ToolCall(call_id, name, text_or_none(called.get("input")) or "", custom=True)
    return ToolCall(call_id, name, fragment_of(called.get("arguments")))


def text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def called_of(call: dict[str, Any]) -> dict[str, Any] | None:
    """The part of a call, or of a piece of one, that says what is called, with what."""
    called = call.get("custom", call.get("function"))
    return called if isinstance(called, dict) else None


def fragment_of(arguments: Any) -> str:
    """Arguments as text; some servers send the object itself."""
    return arguments if isinstance(arguments, str) else "" if arguments is None else json.dumps(arguments, ensure_ascii=False)


def made_id(response_id: str | None, choice: int, number: int) -> str:
    """The id of a call to which the provider gave none; another one in each answer."""
    return re.sub(r"[^a-zA-Z0-9_-]", "-", f"call_{response_id or ''}_{choice}_{number}")


def spoken(content: Any) -> tuple[str, str]:
    """The thought and the text that ``content`` holds: a string, or a list of parts (Mistral, whose thoughts are parts, too)."""
    if isinstance(content, str):
        return "", content
    thoughts, texts = [], []
    for part in content if isinstance(content, list) else []:
        if isinstance(part, dict):
            thoughts.append("".join(spoken(part.get("thinking"))) if "thinking" in part else "")
            texts.append(text if isinstance(text := part.get("text"), str) else "")
    return "".join(thoughts), "".join(texts)


def read_finish(choice: dict[str, Any], *, called: bool, refused: bool) -> tuple[Finish | None, str | None]:
    """Why the answer ended, and the stop sequence that ended it, which vLLM calls ``stop_reason`` and SGLang ``matched_stop``."""
    reason = choice.get("finish_reason")
    if not isinstance(reason, str):
        return None, None
    if reason in _BROKEN:
        raise BrokenOff(f"an answer that ended with '{reason}'")
    finish = _READ.get(reason, "stop")
    if finish != "stop":
        return finish, None
    if called:
        return "tool_calls", None  # so it ends where the call was demanded, and with many servers whenever there is one
    if refused:
        return "refusal", None
    for name in ("stop_reason", "matched_stop"):
        if (word := text_or_none(choice.get(name))) is not None and word not in _READ:
            return "stop_sequence", word
    return "stop", None


def written_finish(finish: Finish | None, *, called: bool, refused: bool, old_functions: bool) -> str:
    if finish in (None, "stop", "tool_calls"):
        return "stop" if not called else "function_call" if old_functions else "tool_calls"
    if finish == "refusal" and refused:
        return "stop"  # so it is where the model says its refusal; the other is for what a filter took away
    return _WRITTEN.get(finish, "stop")


def known_tier(tier: str | None) -> str | None:
    return tier if tier in _TIERS else None


def render_response(response: Response, request: Request, answering: Answering) -> dict[str, Any]:
    choices = unwrapped(response, request).choices or [Choice([])]
    answer: dict[str, Any] = {
        "id": f"chatcmpl-{answering.digits}",
        "object": "chat.completion",
        "created": answering.created,
        "model": answering.model,
        "choices": [_written_choice(choice, index, request.old_functions) for index, choice in enumerate(choices)],
    }
    if response.usage is not None:
        answer["usage"] = render_usage(response.usage)
    if (tier := known_tier(response.service_tier)) is not None:
        answer["service_tier"] = tier
    return answer


def _written_choice(choice: Choice, index: int, old_functions: bool) -> dict[str, Any]:
    texts = [part for part in choice.parts if isinstance(part, Text)]
    refusal = "".join(part.text for part in choice.parts if isinstance(part, Refusal))
    asked = [part for part in choice.parts if isinstance(part, ToolCall)]
    calls = [_written_call(part, choice.finish) for part in (asked[:1] if old_functions else asked)]
    text = "".join(part.text for part in texts)
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls or refusal else ""), "refusal": refusal or None}
    message |= shown([part for part in choice.parts if isinstance(part, Reasoning)])
    if annotations := [annotation for part in texts for annotation in part.annotations or []]:
        message["annotations"] = annotations
    if calls and old_functions:
        message["function_call"] = calls[0]["function"]
    elif calls:
        message["tool_calls"] = calls
    written = {
        "index": index,
        "message": message,
        "logprobs": choice.logprobs,
        "finish_reason": written_finish(choice.finish, called=bool(calls), refused=bool(refusal), old_functions=old_functions),
    }
    if choice.stop_sequence is not None:
        written["stop_reason"] = choice.stop_sequence
    return written


def _written_call(call: ToolCall, finish: Finish | None) -> dict[str, Any]:
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    whole = arguments_object(call.arguments, finish)
    arguments = call.arguments if whole or call.arguments.strip() not in ("", "null") else "{}"
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
