"""OpenAI's Responses: the response resource and its event stream.

Source: OpenAI's API reference and OpenAPI description of August 2026 and the SDK's own types (openai 3.52). Every member of
the resource is there, null where unset. ``sequence_number`` counts the events of a stream from 0.
"""

import time
from collections.abc import Iterator
from itertools import count
from typing import Any

from dwctl.simulator.behaviour import Behaviour
from dwctl.simulator.openai import BROKEN
from dwctl.simulator.script import Asked, Script, counted, pieces, written
from dwctl.simulator.served import Usage
from dwctl.simulator.signing import seal
from dwctl.simulator.wire import JSON, SSE, encode

_numbers = count(1)
ENCRYPTED = "reasoning.encrypted_content"


class Response:
    """One answer to POST /responses."""

    content_type = SSE
    choices = 1

    def __init__(self, request: dict[str, Any], asked: Asked, behaviour: Behaviour, told: bool) -> None:
        """``request``: the body as it was read, whose settings the resource repeats."""
        self._request, self._failed = request, behaviour.base == "sim-failed"
        self._script = written(asked, behaviour)
        self.usage = counted(asked, behaviour, [self._script])
        self.reported = told
        self._number = next(_numbers)
        self._created = int(time.time())
        wanted = (request.get("reasoning") or {}).get("summary") or (request.get("reasoning") or {}).get("generate_summary")
        self._summarised = bool(wanted) and not behaviour.redacted
        self._encrypted = ENCRYPTED in (request.get("include") or [])
        self._padded = (request.get("stream_options") or {}).get("include_obfuscation") is not False
        self._sequence = -1
        self._carry: list[bytes] = []

    # items -----------------------------------------------------------------------------------------------------------------------

    def _id(self, prefix: str, index: int = 0) -> str:
        return f"{prefix}_{self._number:032x}{index:04x}"

    def _items(self) -> list[dict[str, Any]]:
        script = self._script
        items: list[dict[str, Any]] = []
        if script.thinking:
            items.append(self._reasoning())
        if script.text or not script.calls:
            items.append(self._message([self._part(script.said)], "incomplete" if script.stop == "length" else "completed"))
        items += [self._call(index, call.arguments, "completed") for index, call in enumerate(script.calls)]
        return items

    def _reasoning(self, finished: bool = True) -> dict[str, Any]:
        thought = self._script.thought
        shown = [{"type": "summary_text", "text": thought}] if self._summarised and finished else []
        item: dict[str, Any] = {"id": self._id("rs"), "type": "reasoning", "summary": shown}
        if self._encrypted:
            item["encrypted_content"] = seal(thought)
        return item

    def _message(self, content: list[Any], status: str) -> dict[str, Any]:
        return {"id": self._id("msg"), "type": "message", "status": status, "content": content, "role": "assistant"}

    def _part(self, text: str) -> dict[str, Any]:
        if self._script.stop == "refusal":
            return {"type": "refusal", "refusal": text}
        return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}

    def _call(self, index: int, arguments: str, status: str) -> dict[str, Any]:
        call = self._script.calls[index]
        return {
            "id": self._id("fc", index),
            "type": "function_call",
            "status": status,
            "arguments": arguments,
            "call_id": f"call_{call.id}",
            "name": call.name,
        }

    # the resource ----------------------------------------------------------------------------------------------------------------

    def _resource(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        asked = self._request
        text = asked.get("text") or {}
        reasoning = asked.get("reasoning") or {}
        finished = status in ("completed", "incomplete")
        tier = asked.get("service_tier")
        choice = asked.get("tool_choice")
        return {
            "id": self._id("resp"),
            "object": "response",
            "created_at": self._created,
            "status": status,
            "background": asked.get("background") or False,
            "completed_at": int(time.time()) if status == "completed" else None,
            "conversation": None,
            "error": {"code": "server_error", "message": BROKEN} if status == "failed" else None,
            "frequency_penalty": 0.0,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": asked.get("instructions"),
            "max_output_tokens": asked.get("max_output_tokens"),
            "max_tool_calls": asked.get("max_tool_calls"),
            "metadata": asked.get("metadata") or {},
            "model": asked["model"],
            "output": output,
            "parallel_tool_calls": asked.get("parallel_tool_calls") is not False,
            "presence_penalty": 0.0,
            "previous_response_id": asked.get("previous_response_id"),
            "prompt": None,
            "prompt_cache_key": asked.get("prompt_cache_key"),
            "prompt_cache_retention": asked.get("prompt_cache_retention"),
            "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
            "safety_identifier": asked.get("safety_identifier"),
            "service_tier": "default" if finished and tier in (None, "auto") else tier or "auto",
            "store": asked.get("store") is not False,
            "temperature": _or(asked.get("temperature"), 1.0),
            "text": {"format": text.get("format") or {"type": "text"}, "verbosity": text.get("verbosity") or "medium"},
            "tool_choice": "auto" if choice is None else choice,
            "tools": [_tool(tool) for tool in asked.get("tools") or []],
            "top_logprobs": asked.get("top_logprobs") or 0,
            "top_p": _or(asked.get("top_p"), 1.0),
            "truncation": asked.get("truncation") or "disabled",
            "usage": _usage(self.usage) if finished and self.reported else None,
            "user": asked.get("user"),
        }

    def _status(self) -> str:
        return "incomplete" if self._script.stop == "length" else "completed"

    def whole(self) -> tuple[bytes, bytes]:
        if self._failed:
            return JSON, encode(self._resource("failed", []))
        return JSON, encode(self._resource(self._status(), self._items()))

    # the stream ------------------------------------------------------------------------------------------------------------------

    def _event(self, kind: str, **members: Any) -> bytes:
        self._sequence += 1
        return encode({"type": kind, "sequence_number": self._sequence, **members})

    def lead(self) -> list[bytes]:
        return [
            self._event("response.created", response=self._resource("in_progress", [])),
            self._event("response.in_progress", response=self._resource("in_progress", [])),
        ]

    def _later(self, kind: str, **members: Any) -> None:
        self._carry.append(self._event(kind, **members))

    def _now(self, kind: str, **members: Any) -> list[bytes]:
        carried, self._carry = self._carry, []
        if self._padded:
            members["obfuscation"] = "x" * (16 - len(members["delta"]) % 16)
        return [*carried, self._event(kind, **members)]

    def body(self) -> Iterator[list[bytes]]:
        script, position = self._script, 0
        for _ in range(script.hidden):
            yield []
        if script.thinking:
            yield from self._thinking_events(script)
            position += 1
        if script.text or not script.calls:
            yield from self._text_events(script, position)
            position += 1
        for index in range(len(script.calls)):
            yield from self._call_events(index, position + index)

    def _thinking_events(self, script: Script) -> Iterator[list[bytes]]:
        where: dict[str, Any] = {"item_id": self._id("rs"), "output_index": 0, "summary_index": 0}
        self._later("response.output_item.added", output_index=0, item=self._reasoning(finished=False))
        if self._summarised:
            self._later("response.reasoning_summary_part.added", **where, part={"type": "summary_text", "text": ""})
        for piece in script.thinking:
            yield self._now("response.reasoning_summary_text.delta", **where, delta=piece) if self._summarised else []
        if self._summarised:
            thought = script.thought
            self._later("response.reasoning_summary_text.done", **where, text=thought)
            self._later("response.reasoning_summary_part.done", **where, part={"type": "summary_text", "text": thought})
        self._later("response.output_item.done", output_index=0, item=self._reasoning())

    def _text_events(self, script: Script, output_index: int) -> Iterator[list[bytes]]:
        where: dict[str, Any] = {"item_id": self._id("msg"), "output_index": output_index, "content_index": 0}
        refusal = script.stop == "refusal"
        extra: dict[str, Any] = {} if refusal else {"logprobs": []}
        kind = "response.refusal" if refusal else "response.output_text"
        self._later("response.output_item.added", output_index=output_index, item=self._message([], "in_progress"))
        self._later("response.content_part.added", **where, part=self._part(""))
        for piece in script.text:
            yield self._now(f"{kind}.delta", **where, delta=piece, **extra)
        self._later(f"{kind}.done", **where, **{"refusal" if refusal else "text": script.said}, **extra)
        self._later("response.content_part.done", **where, part=self._part(script.said))
        status = "incomplete" if script.stop == "length" else "completed"
        self._later("response.output_item.done", output_index=output_index, item=self._message([self._part(script.said)], status))

    def _call_events(self, index: int, output_index: int) -> Iterator[list[bytes]]:
        where: dict[str, Any] = {"item_id": self._id("fc", index), "output_index": output_index}
        arguments = self._script.calls[index].arguments
        self._later("response.output_item.added", output_index=output_index, item=self._call(index, "", "in_progress"))
        for piece in pieces(arguments):
            yield self._now("response.function_call_arguments.delta", **where, delta=piece)
        name = self._script.calls[index].name
        self._later("response.function_call_arguments.done", **where, name=name, arguments=arguments)
        self._later("response.output_item.done", output_index=output_index, item=self._call(index, arguments, "completed"))

    def tail(self) -> list[bytes]:
        status = self._status()
        return [*self._carry, self._event(f"response.{status}", response=self._resource(status, self._items()))]

    def broken(self, failed: bool) -> list[bytes]:
        if failed:
            return [self._event("response.failed", response=self._resource("failed", []))]
        return [self._event("error", code="server_error", message=BROKEN, param=None)]


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool["type"] != "function":
        return tool
    return {"description": None, "parameters": None, **tool, "strict": _or(tool.get("strict"), True)}


def _usage(usage: Usage) -> dict[str, Any]:
    written = usage.cache_write + usage.cache_write_1h
    details: dict[str, Any] = {"cached_tokens": usage.cached, "cache_write_tokens": written}
    if written:
        details["cache_write_tokens_details"] = {"ttl_30m_tokens": usage.cache_write, "ttl_12h_tokens": usage.cache_write_1h}
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": details,
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    }
