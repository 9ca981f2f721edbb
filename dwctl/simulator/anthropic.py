"""Anthropic's Messages: the answer in one piece, the event stream, models, errors.

Source: the API reference of November 2026 and the SDK's own types (anthropic 2.14). ``input_tokens`` leaves out what was
read from or written to a cache; ``output_tokens`` counts thinking too.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any
from urllib.parse import parse_qs

import msgspec

from dwctl.simulator.behaviour import LISTED, Behaviour
from dwctl.simulator.connection import Request
from dwctl.simulator.script import Asked, Script, counted, pieces, written
from dwctl.simulator.served import Usage
from dwctl.simulator.signing import seal, signature
from dwctl.simulator.wire import JSON, SSE, Refused, Unstreamed, encode, named_event

_numbers = count(1)
KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    405: "invalid_request_error", 413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 504: "timeout_error",
    529: "overloaded_error",
}  # fmt: skip
STOPS = {"stop": "end_turn", "length": "max_tokens", "sequence": "stop_sequence", "calls": "tool_use", "refusal": "refusal"}


class Anthropic:
    """The dialect."""

    end = None

    def authorization(self, request: Request) -> bytes | None:
        key = request.header(b"x-api-key")
        return request.header(b"authorization") if key is None else b"Bearer " + key

    def no_key(self, given: bytes | None) -> Refused:
        return Refused(401, "x-api-key header is required" if given is None else "invalid x-api-key")

    def failure(self, status: int) -> Refused:
        words = {
            401: "invalid x-api-key",
            429: "This request would exceed your account's rate limit. Please try again later.",
            500: "Internal server error",
            529: "Overloaded",
        }
        return Refused(status, words.get(status, f"The simulated provider answers {status}."))

    def error(self, refused: Refused) -> bytes:
        kind = refused.kind or KINDS.get(refused.status, "api_error" if refused.status >= 500 else "invalid_request_error")
        return encode({"type": "error", "error": {"type": kind, "message": refused.message}, "request_id": f"req_{next(_numbers):024d}"})

    def headers(self, status: int) -> bytes:
        found = b"request-id: req_%024d\r\nanthropic-organization-id: org-simulated\r\n" % next(_numbers)
        if status == 429:
            found += b"anthropic-ratelimit-requests-limit: 60\r\nanthropic-ratelimit-requests-remaining: 0\r\n"
        return found

    def event(self, payload: bytes) -> bytes:
        return named_event(payload)


DIALECT = Anthropic()


class Messages:
    """One answer to POST /messages."""

    content_type = SSE
    choices = 1

    def __init__(self, model: str, tier: str, omitted: bool, asked: Asked, behaviour: Behaviour, told: bool) -> None:
        """``omitted``: the request wants thinking without its text, its signature only."""
        self._model, self._tier, self._omitted, self._redacted = model, tier, omitted, bool(behaviour.redacted)
        self._script = written(asked, behaviour)
        self.usage = counted(asked, behaviour, [self._script])
        self.reported = told
        self._id = f"msg_{next(_numbers):024d}"
        self._carry: list[bytes] = []

    def _blocks(self) -> Iterator[dict[str, Any]]:
        script = self._script
        if script.thinking and self._redacted:
            yield {"type": "redacted_thinking", "data": seal(script.thought)}
        elif script.thinking:
            yield {
                "type": "thinking",
                "thinking": "" if self._omitted else script.thought,
                "signature": signature(script.thought, self._omitted),
            }
        if script.text:
            yield {"type": "text", "text": script.said}
        for call in script.calls:
            yield {"type": "tool_use", "id": f"toolu_{call.id}", "name": call.name, "input": _object(call.arguments)}

    def _message(self, content: list[Any], stop: str | None, output: int) -> dict[str, Any]:
        message: dict[str, Any] = {
            "model": self._model,
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "content": content,
            "stop_reason": stop,
            "stop_sequence": self._script.sequence if stop else None,
            "stop_details": _details(self._script) if stop else None,
        }
        if self.reported:
            short, long = self.usage.cache_write, self.usage.cache_write_1h
            message["usage"] = {
                **_input(self.usage),
                "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
                "output_tokens": output,
                "service_tier": self._tier,
                "inference_geo": "not_available",
            }
            if stop and self.usage.reasoning:
                message["usage"]["output_tokens_details"] = {"thinking_tokens": self.usage.reasoning}
        return message

    def whole(self) -> tuple[bytes, bytes]:
        return JSON, encode(self._message(list(self._blocks()), STOPS[self._script.stop], self.usage.completion))

    def lead(self) -> list[bytes]:
        return [encode({"type": "message_start", "message": self._message([], None, min(1, self.usage.completion))})]

    def body(self) -> Iterator[list[bytes]]:
        for _ in range(self._script.hidden):
            yield []
        self._carry = []
        for index, (start, deltas) in enumerate(self._streamed()):
            self._carry.append(encode({"type": "content_block_start", "index": index, "content_block": start}))
            if index == 0:
                self._carry.append(b'{"type":"ping"}')
            for delta in deltas:
                carried, self._carry = self._carry, []
                yield [*carried, encode({"type": "content_block_delta", "index": index, "delta": delta})]
            self._carry.append(encode({"type": "content_block_stop", "index": index}))

    def _streamed(self) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Each block as it starts, and its deltas."""
        script = self._script
        for block in self._blocks():
            if block["type"] == "redacted_thinking":
                yield block, []
            elif block["type"] == "thinking":
                thought = [] if self._omitted else [{"type": "thinking_delta", "thinking": piece} for piece in script.thinking]
                thought.append({"type": "signature_delta", "signature": block["signature"]})
                yield {"type": "thinking", "thinking": "", "signature": ""}, thought
            elif block["type"] == "text":
                yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in script.text]
            else:
                arguments = next(call.arguments for call in script.calls if block["id"] == f"toolu_{call.id}")
                yield (
                    {**block, "input": {}},
                    [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces(arguments)]],
                )

    def tail(self) -> list[bytes]:
        event: dict[str, Any] = {
            "type": "message_delta",
            "delta": {
                "stop_reason": STOPS[self._script.stop],
                "stop_sequence": self._script.sequence,
                "stop_details": _details(self._script),
            },
        }
        if self.reported:
            event["usage"] = {**_input(self.usage), "output_tokens": self.usage.completion}
            if self.usage.reasoning:
                event["usage"]["output_tokens_details"] = {"thinking_tokens": self.usage.reasoning}
        return [*self._carry, encode(event), b'{"type":"message_stop"}']

    def broken(self, failed: bool) -> list[bytes]:
        return [DIALECT.error(DIALECT.failure(529))]


def _object(arguments: str) -> Any:
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return {}  # a call whose arguments ended half way has none in an answer of one piece


def _input(usage: Usage) -> dict[str, int]:
    created = usage.cache_write + usage.cache_write_1h
    return {
        "input_tokens": usage.prompt - usage.cached - created,
        "cache_creation_input_tokens": created,
        "cache_read_input_tokens": usage.cached,
    }


def _details(script: Script) -> dict[str, Any] | None:
    if script.stop != "refusal":
        return None
    return {"type": "refusal", "category": "general_harms", "explanation": "The simulated model refuses."}


class Counted(Unstreamed):
    """The answer to POST /messages/count_tokens: what the prompt would count, at no charge."""

    content_type = JSON
    reported = False
    usage = Usage(0, 0)

    def __init__(self, asked: Asked, behaviour: Behaviour) -> None:
        self._tokens = counted(asked, behaviour, []).prompt

    def whole(self) -> tuple[bytes, bytes]:
        return JSON, encode({"input_tokens": self._tokens})


def model_object(name: str) -> dict[str, Any]:
    """One model, as GET /models/{id} shows it."""
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
        "capabilities": None,
    }


def models_body(query: str) -> bytes:
    """The body of GET /models: a page of ``limit`` (20) models after ``after_id`` or before ``before_id``. Raises `Refused`."""
    given = {key: values[0] for key, values in parse_qs(query).items()}
    names = list(LISTED)
    limit = given.get("limit", "20")
    if not limit.isdigit() or not 1 <= int(limit) <= 1000:
        raise Refused(400, "limit: Input should be between 1 and 1000")
    for key in ("after_id", "before_id"):
        if key in given and given[key] not in names:
            raise Refused(400, f"{key}: Invalid model ID")
    if "after_id" in given:
        names = names[names.index(given["after_id"]) + 1 :]
        page = names[: int(limit)]
    elif "before_id" in given:
        names = names[: names.index(given["before_id"])]
        page = names[-int(limit) :]
    else:
        page = names[: int(limit)]
    return encode(
        {
            "data": [model_object(name) for name in page],
            "has_more": len(page) < len(names),
            "first_id": page[0] if page else None,
            "last_id": page[-1] if page else None,
        }
    )
