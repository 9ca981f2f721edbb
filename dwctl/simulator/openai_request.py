"""A request to one of OpenAI's paths but Responses, and the answer that the path gives."""

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from dwctl.simulator import answers, chat
from dwctl.simulator.answers import Events, Query
from dwctl.simulator.behaviour import Behaviour
from dwctl.simulator.connection import Request
from dwctl.simulator.script import text
from dwctl.simulator.served import Usage
from dwctl.simulator.wire import JSON, SSE, Answer, Refused, Unstreamed

MAX_CHOICES = 128
MODEL_PART = re.compile(rb'name="model"(?:\r\n[^\r\n]+)*\r\n\r\n([^\r\n]*)\r\n')
FORMAT_PART = re.compile(rb'name="response_format"(?:\r\n[^\r\n]+)*\r\n\r\n([^\r\n]*)\r\n')
TEXTS = ("/chat/completions", "/completions")
CHAT = {
    "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "messages",
    "metadata", "modalities", "model", "moderation", "n", "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key",
    "prompt_cache_options", "prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier",
    "stop", "store", "stream", "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
    "web_search_options",
}  # fmt: skip
MESSAGE = {"role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal", "audio", "annotations"}


class OnlyModel(msgspec.Struct):
    """All that a path without a wire format of its own needs to know."""

    model: str


class Text:
    """An ordinary text of a chat or a completion."""

    content_type = SSE

    def __init__(self, query: Query, behaviour: Behaviour, chat: bool, told: bool) -> None:
        self._query, self._behaviour, self._chat = query, behaviour, chat
        self.choices = answers.choices(query)
        self.usage = answers.usage_of(query, behaviour)
        self.reported = told and (not query.stream or query.include_usage())

    def whole(self) -> tuple[bytes, bytes]:
        return JSON, answers.text_body(self._query, self._behaviour, self._chat, self.usage if self.reported else None)

    def lead(self) -> list[bytes]:
        self._events = Events(self._query, self._behaviour, self._chat, self.usage if self.reported else None)
        return self._events.lead()

    def body(self) -> Iterator[list[bytes]]:
        return self._events.body()

    def tail(self) -> list[bytes]:
        return self._events.tail()

    def broken(self, failed: bool) -> list[bytes]:
        return chat.broken()


class Body(Unstreamed):
    """An answer that is no text, and never a stream."""

    def __init__(self, content_type: bytes, body: bytes, usage: Usage, reported: bool) -> None:
        self.content_type, self._body, self.usage, self.reported = content_type, body, usage, reported

    def whole(self) -> tuple[bytes, bytes]:
        return self.content_type, self._body


class Asking:
    """A request to any path of OpenAI's but /responses."""

    def __init__(self, request: Request, path: str) -> None:
        """Raises `Refused` for what OpenAI refuses."""
        self._request, self._path = request, path
        self._query = query = _query(request, path)
        self.model = query.model
        self.generates = path in TEXTS
        self.stream = bool(query.stream) and self.generates
        if path == "/chat/completions":
            chat.check_messages(query)

    def check(self, behaviour: Behaviour) -> None:
        """Raises `Refused` for numbers out of range, and for unknown members where the model is strict."""
        if not 1 <= answers.choices(self._query) <= MAX_CHOICES or answers.completion_tokens(self._query, behaviour) < 1:
            raise Refused(400, "n and max_tokens must be at least 1", code="invalid_value")
        self._asked = None
        if self._path == "/chat/completions" and not chat.ordinary(self._query, behaviour):
            self._asked = chat.asked(self._query)
        if behaviour.strict and self._path == "/chat/completions":
            body: dict[str, Any] = msgspec.json.decode(self._request.body)
            for name in body:
                if name not in CHAT:
                    raise Refused(400, f"Unrecognized request argument supplied: {name}")
            for index, message in enumerate(body["messages"]):
                for name in message:
                    if name not in MESSAGE:
                        at = f"messages[{index}].{name}"
                        raise Refused(400, f"Unknown parameter: '{at}'.", code="unknown_parameter", param=at)

    def tokens(self, behaviour: Behaviour) -> int:
        return answers.completion_tokens(self._query, behaviour)

    def answer(self, behaviour: Behaviour, told: bool) -> Answer:
        query, path = self._query, self._path
        if self._asked is not None:
            return chat.Chat(query, self._asked, behaviour, told)
        if path in TEXTS:
            return Text(query, behaviour, path == "/chat/completions", told)
        return self._other(behaviour, told)

    def _other(self, behaviour: Behaviour, told: bool) -> Answer:
        query, path = self._query, self._path
        if path == "/embeddings":
            return Body(JSON, *answers.embeddings_body(query, behaviour), told)
        if path == "/rerank":
            return Body(JSON, *answers.rerank_body(query, behaviour), True)
        if path.startswith("/images/"):
            return Body(JSON, *answers.image_body(query, behaviour), True)
        if path == "/audio/speech":
            return Body(b"audio/mpeg", answers.SPEECH, Usage(0, 0), False)
        if path.startswith("/audio/"):
            return self._transcript(behaviour)
        request = self._request
        seen = {
            "object": "echo",
            "model": query.model,
            "path": request.path,
            "content_type": (request.header(b"content-type") or b"").decode("latin-1"),
            "bytes": len(request.body),
            "sha256": hashlib.sha256(request.body).hexdigest(),
        }
        return Body(JSON, msgspec.json.encode(seen), Usage(0, 0), False)

    def _transcript(self, behaviour: Behaviour) -> Answer:
        usage = answers.usage_of(self._query, behaviour)
        heard = text(0, behaviour.tokens)
        wanted = FORMAT_PART.search(self._request.body)
        if wanted is not None and wanted[1] == b"text":
            return Body(b"text/plain; charset=utf-8", heard.encode() + b"\n", usage, False)
        total = usage.prompt + usage.completion
        counted = {"type": "tokens", "input_tokens": usage.prompt, "output_tokens": usage.completion, "total_tokens": total}
        return Body(JSON, msgspec.json.encode({"text": heard, "usage": counted}), usage, True)


def echo(request: Request) -> bytes:
    """A member ``echo`` that says what arrived, begun by a comma."""
    return b',"echo":' + msgspec.json.encode(
        {
            "method": request.method,
            "target": request.target.decode("latin-1"),
            "version": request.version,
            "headers": [[key.decode("latin-1"), value.decode("latin-1")] for key, value in request.headers],
            "bytes": len(request.body),
            "sha256": hashlib.sha256(request.body).hexdigest(),
            "body_base64": base64.b64encode(request.body[:65_536]).decode(),
        }
    )


def _query(request: Request, path: str) -> Query:
    content_type = (request.header(b"content-type") or b"").split(b";")[0].strip().lower()
    if content_type == b"multipart/form-data":
        found = MODEL_PART.search(request.body)
        if found is None:
            raise Refused(400, "you must provide a model parameter")
        return Query(found[1].decode("utf-8", "replace"))
    known = path in (*TEXTS, "/embeddings", "/rerank") or path.startswith("/images/")
    if not known and content_type != JSON:
        return Query("sim-echo")
    try:
        return answers.decode_query(request.body) if known else Query(msgspec.json.decode(request.body, type=OnlyModel).model)
    except msgspec.ValidationError as error:
        raise Refused(400, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        message = (
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly.)"
        )
        raise Refused(400, message) from None
