"""Answers as they came over the wire, held against the SDKs' own types in strict mode: the SDKs themselves let nearly anything pass."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import pydantic
from anthropic.types import ErrorResponse, Message, MessageTokensCount, ModelInfo, RawMessageStreamEvent
from ollama import ChatResponse, EmbedResponse, GenerateResponse, ListResponse, ShowResponse
from openai.types import CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.shared import ErrorObject


class _OpenAIPage(pydantic.BaseModel):
    data: list[Model]


class _AnthropicPage(pydantic.BaseModel):
    data: list[ModelInfo]
    has_more: bool
    first_id: str | None
    last_id: str | None


class _OpenAIError(pydantic.BaseModel):
    error: ErrorObject


class _OllamaError(pydantic.BaseModel, extra="forbid"):
    error: str


class _OllamaVersion(pydantic.BaseModel):
    version: str


WHOLE: dict[str, Any] = {
    "/chat/completions": ChatCompletion,
    "/responses": Response,
    "/embeddings": CreateEmbeddingResponse,
    "/messages": Message,
    "/messages/count_tokens": MessageTokensCount,
    "/api/chat": ChatResponse,
    "/api/generate": GenerateResponse,
    "/api/embed": EmbedResponse,
    "/api/tags": ListResponse,
    "/api/show": ShowResponse,
    "/api/version": _OllamaVersion,
}
STREAMED: dict[str, Any] = {
    "/chat/completions": ChatCompletionChunk,
    "/responses": ResponseStreamEvent,
    "/messages": RawMessageStreamEvent,
    "/api/chat": ChatResponse,
    "/api/generate": GenerateResponse,
}


@dataclass
class Answer:
    """One answer. ``path`` is below the API's root; ``anthropic``: the client is one of Anthropic's."""

    path: str
    status: int
    content_type: str
    anthropic: bool
    body: bytearray

    def check(self) -> None:
        """Raises pydantic.ValidationError or AssertionError for what its SDK has no type for."""
        if self.content_type.startswith("text/event-stream"):
            self._check_events()
        elif self.content_type == "application/x-ndjson":
            for line in self.body.decode().splitlines():
                _valid(_OllamaError if "error" in json.loads(line) else STREAMED[self.path], line)
        else:
            assert self.content_type == "application/json", self
            _valid(self._whole(), self.body.decode())

    def _whole(self) -> Any:
        if self.status >= 400:
            return ErrorResponse if self.anthropic else _OllamaError if self.path.startswith("/api/") else _OpenAIError
        if self.path.startswith("/models"):
            one, page = (ModelInfo, _AnthropicPage) if self.anthropic else (Model, _OpenAIPage)
            return page if self.path == "/models" else one
        return WHOLE[self.path]

    def _check_events(self) -> None:
        for block in self.body.decode().split("\n\n")[:-1]:
            event, data = "", ""
            for line in block.splitlines():
                name, _, value = line.partition(": ")
                event, data = (value if name == "event" else event), (value if name == "data" else data)
            if not data or data == "[DONE]":
                continue
            kind = json.loads(data).get("type")
            if self.path != "/chat/completions":
                assert event == kind, block
            if self.path == "/messages" and kind in ("error", "ping"):
                _valid(ErrorResponse if kind == "error" else _Ping, data)
            elif self.path == "/chat/completions" and "error" in json.loads(data):
                _valid(_OpenAIError, data)
            else:
                _valid(STREAMED[self.path], data)
        assert self.body.endswith(b"\n\n"), self.body[-200:]


class _Ping(pydantic.BaseModel, extra="forbid"):
    type: str


def _valid(kind: Any, text: str) -> None:
    if kind is CreateEmbeddingResponse:
        # The SDK's type is what it makes of base64.
        decoded = json.loads(text)
        for entry in decoded["data"]:
            if isinstance(entry["embedding"], str):
                entry["embedding"] = []
        text = json.dumps(decoded)
    _adapter(kind).validate_json(text, strict=True)


@cache
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind)
