"""What the inference routes take and give, for the OpenAPI document.

The bodies are those of OpenAI's and Anthropic's API references, so that only what dwctl itself reads is described; further fields are
allowed everywhere. The routes themselves are in ``inference``; a test holds the two together.
"""

from typing import Any

import msgspec

ROOT = "/ai/v1"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path under ``ROOT``. ``request`` and ``response`` are JSON Schemas of bodies; None if there is none."""

    method: str
    path: str
    summary: str
    description: str
    request: dict[str, Any] | None = None
    response: dict[str, Any] | None = None
    streams: bool = False
    """Answers ``stream: true`` with server-sent events."""
    parameters: tuple[dict[str, Any], ...] = ()


def _body(required: tuple[str, ...], **properties: dict[str, Any]) -> dict[str, Any]:
    model = {"type": "string", "description": "Alias of a model, as listed under /ai/v1/models."}
    return {"type": "object", "required": ["model", *required], "properties": {"model": model, **properties}, "additionalProperties": True}


_STREAM = {"type": "boolean", "default": False, "description": "Answer with server-sent events, ended by `data: [DONE]`."}
_STREAM_OPTIONS = {"type": "object", "properties": {"include_usage": {"type": "boolean"}}, "additionalProperties": True}
_MAX_TOKENS = {"type": "integer", "minimum": 1, "description": "Bounds the answer, and what is set aside for it."}
_ANY_OBJECT = {"type": "object", "additionalProperties": True}
_MODEL = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {
        "id": {"type": "string", "description": "The alias."},
        "object": {"const": "model"},
        "created": {"type": "integer", "description": "Unix seconds."},
        "owned_by": {"type": "string"},
    },
}
_USAGE = {
    "type": "object",
    "properties": {name: {"type": "integer"} for name in ("prompt_tokens", "completion_tokens", "total_tokens")},
    "additionalProperties": True,
}
_ANSWER = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "model": {"type": "string"}, "usage": _USAGE},
    "additionalProperties": True,
}

TAGS: dict[str, Any] = {
    "name": "x-dwctl-tags",
    "in": "header",
    "schema": {"type": "string"},
    "example": "checkout, team=search",
    "description": (
        "Words to find the request by, separated by commas: at most 16, each of 1 to 64 letters, digits and `. _ : = / -`. The provider is"
        " not sent them."
    ),
}
"""The parameter that every call of a model takes."""

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/chat/completions",
        summary="Chat completion",
        description="The conversation is sent to the provider of `model`; the answer is passed on as it comes, and charged by its usage.",
        request=_body(
            ("messages",),
            messages={"type": "array", "items": _ANY_OBJECT},
            stream=_STREAM,
            stream_options=_STREAM_OPTIONS,
            max_tokens=_MAX_TOKENS,
            max_completion_tokens=_MAX_TOKENS,
            n={"type": "integer", "minimum": 1},
        ),
        response=_ANSWER,
        streams=True,
    ),
    Operation(
        method="POST",
        path="/responses",
        summary="Response",
        description="OpenAI's newer form of a chat completion. Responses are not kept: send the conversation in `input`.",
        request=_body(("input",), input={}, stream=_STREAM, max_output_tokens=_MAX_TOKENS),
        response=_ANY_OBJECT,
        streams=True,
    ),
    Operation(
        method="POST",
        path="/messages",
        summary="Message",
        description="Anthropic's form of a chat completion; errors are Anthropic's, too. The key may be sent as `x-api-key`.",
        request=_body(("messages", "max_tokens"), messages={"type": "array", "items": _ANY_OBJECT}, stream=_STREAM, max_tokens=_MAX_TOKENS),
        response=_ANY_OBJECT,
        streams=True,
    ),
    Operation(
        method="POST",
        path="/messages/count_tokens",
        summary="Count tokens",
        description="Input tokens of a message, free of charge: by a provider of Anthropic's dialect, else by the model's tokenizer.",
        request=_body(("messages",), messages={"type": "array", "items": _ANY_OBJECT}),
        response={"type": "object", "required": ["input_tokens"], "properties": {"input_tokens": {"type": "integer"}}},
    ),
    Operation(
        method="POST",
        path="/completions",
        summary="Text completion",
        description="The older form of a completion: a prompt instead of messages.",
        request=_body((), prompt={}, stream=_STREAM, stream_options=_STREAM_OPTIONS, max_tokens=_MAX_TOKENS),
        response=_ANSWER,
        streams=True,
    ),
    Operation(
        method="POST",
        path="/embeddings",
        summary="Embeddings",
        description="Vectors for one or several texts.",
        request=_body(("input",), input={}, encoding_format={"enum": ["float", "base64"]}),
        response=_ANSWER,
    ),
    Operation(
        method="POST",
        path="/{path}",
        summary="Any other path of a provider",
        description=(
            "Passed to the endpoint of `model` at the same path: images, audio (multipart with a field `model`), rerank. A model whose"
            " prices cover nothing on such a path is refused with 400 `unpriced_path`."
        ),
        request=_body(()),
        response={},
        parameters=({"name": "path", "in": "path", "required": True, "schema": {"type": "string"}},),
    ),
    Operation(
        method="GET",
        path="/models",
        summary="List models",
        description="Models that the key may call, by alias.",
        response={
            "type": "object",
            "required": ["object", "data"],
            "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": _MODEL}},
        },
        parameters=({"name": "group", "in": "query", "schema": {"type": "string"}, "description": "Ids of groups, separated by commas."},),
    ),
    Operation(
        method="GET",
        path="/models/{model_id}",
        summary="Get a model",
        description="One model; 404 also when the key may not call it.",
        response=_MODEL,
        parameters=({"name": "model_id", "in": "path", "required": True, "schema": {"type": "string"}},),
    ),
    *(
        Operation(
            method=method,
            path="/responses/{response_id}",
            summary=summary,
            description="404 `response_not_found`, always: responses are not kept.",
            parameters=({"name": "response_id", "in": "path", "required": True, "schema": {"type": "string"}},),
        )
        for method, summary in (("GET", "Get a response"), ("DELETE", "Delete a response"))
    ),
)

ERRORS: dict[str, str] = {
    "400": "The request cannot be understood or answered: not JSON, no `model`, wrong tags, a path that the model has no price for.",
    "401": "No API key, or one that has expired.",
    "402": "`insufficient_balance`: the account cannot pay for what the request may cost; `balance` and `hold` say how much.",
    "403": "The key is unknown or of another purpose, or its owner may not call this model.",
    "404": "`model_not_found`, `response_not_found`.",
    "413": "`payload_too_large`.",
    "429": "`rate_limit`, `concurrency_limit_exceeded` or `balance_reserved`, with `Retry-After`.",
    "502": "The provider could not be reached or broke off.",
    "503": "`recording_unavailable`: the request could not be recorded, so it was not sent.",
    "504": "The provider did not answer in time.",
}
"""Status -> what it means, for calls of models."""
