"""What the inference routes take and give, for the OpenAPI document.

The bodies are those of OpenAI's, Anthropic's and Ollama's API references, so that only what dwctl itself reads is described; further
fields are allowed everywhere. The routes themselves are in ``inference``; a test holds the two together.
"""

from typing import Any

import msgspec

ROOT = "/ai"
_JSON = "application/json"
_EVENTS = "text/event-stream"
_LINES = "application/x-ndjson"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path under ``ROOT``. ``request`` and ``response`` are JSON Schemas of bodies; None if there is none."""

    method: str
    path: str
    summary: str
    description: str
    calls: bool = False
    """A model is called: the request takes tags, is recorded, and may cost something."""
    takes: tuple[str, ...] = (_JSON,)
    """Media types of the request."""
    request: dict[str, Any] | None = None
    response: dict[str, Any] | None = None
    streams: str | None = None
    """Media type of a streamed answer; None: the answer is never streamed."""
    parameters: tuple[dict[str, Any], ...] = ()
    errors: tuple[str, ...] = ("OpenAIError",)
    """Names in ``ERROR_SCHEMAS`` of the shapes that its errors have."""
    needs_key: bool = True


def _body(required: tuple[str, ...], **properties: dict[str, Any]) -> dict[str, Any]:
    model = {"type": "string", "description": "Alias of a model, as listed under /ai/v1/models."}
    return {"type": "object", "required": ["model", *required], "properties": {"model": model, **properties}, "additionalProperties": True}


_STREAM = {"type": "boolean", "default": False, "description": "Answer with server-sent events."}
_STREAM_OF_LINES = {"type": "boolean", "default": True, "description": "Answer with lines of JSON, of which the last has `done: true`."}
_STREAM_OPTIONS = {"type": "object", "properties": {"include_usage": {"type": "boolean"}}, "additionalProperties": True}
_MAX_TOKENS = {"type": "integer", "minimum": 1, "description": "Bounds the answer, and what is set aside for it."}
_ANY_OBJECT = {"type": "object", "additionalProperties": True}
_TEXT = {"type": "string"}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    """An object that has these fields, and may have others."""
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": True}


def _list_of(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _parameter(name: str, place: str, description: str, **schema: Any) -> dict[str, Any]:
    schema = schema or _TEXT
    return {"name": name, "in": place, "required": place == "path", "schema": schema, "description": description}


_ALIAS = {"type": "string", "description": "The alias."}
_MODEL = _object(id=_ALIAS, object={"const": "model"}, created={"type": "integer", "description": "Unix seconds."}, owned_by=_TEXT)
_ANTHROPIC_MODEL = _object(
    type={"const": "model"}, id=_ALIAS, display_name=_TEXT, created_at=_TEXT, max_tokens={"type": ["integer", "null"]}
)
_EDGE = {"type": ["string", "null"], "description": "What `after_id` or `before_id` takes for the page beside this one."}
_ANTHROPIC_LIST = _object(data=_list_of(_ANTHROPIC_MODEL), has_more={"type": "boolean"}, first_id=_EDGE, last_id=_EDGE)
_OLLAMA_MODEL = _object(name=_ALIAS, model=_ALIAS, modified_at=_TEXT, size={"type": "integer"}, digest=_TEXT, details=_ANY_OBJECT)
_OLLAMA_ANSWER = _object(model=_TEXT, created_at=_TEXT, done={"type": "boolean"})
_BY_HEADER = _parameter("anthropic-version", "header", "With it, the answer and its errors have Anthropic's shape, else OpenAI's.")
_BOTH = ("OpenAIError", "AnthropicError")
_OPTIONS = {
    "type": "object",
    "properties": {"num_predict": {"type": "integer", "description": "Bounds the answer, and what is set aside for it."}},
    "additionalProperties": True,
}
_VECTOR = _list_of({"type": "number"})
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

OF_CALLS: tuple[dict[str, Any], ...] = (
    {
        **_parameter(
            "x-dwctl-tags",
            "header",
            "Words to find the request by, separated by commas: at most 16, each of 1 to 64 letters, digits and `. _ : = / -`. The provider"
            " is not sent them.",
        ),
        "example": "checkout, team=search",
    },
    _parameter("model-override", "header", "Alias of the model to call, whatever `model` in the body says."),
)
"""The parameters that every call of a model takes."""

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/v1/chat/completions",
        summary="Chat completion",
        description="The conversation is sent to the provider of `model`; the answer is passed on as it comes, and charged by its usage.",
        calls=True,
        request=_body(
            ("messages",),
            messages=_list_of(_ANY_OBJECT),
            stream=_STREAM,
            stream_options=_STREAM_OPTIONS,
            max_tokens=_MAX_TOKENS,
            max_completion_tokens=_MAX_TOKENS,
            n={"type": "integer", "minimum": 1},
        ),
        response=_ANSWER,
        streams=_EVENTS,
    ),
    Operation(
        method="POST",
        path="/v1/responses",
        summary="Response",
        description="OpenAI's newer form of a chat completion. Responses are not kept: send the conversation in `input`.",
        calls=True,
        request=_body(("input",), input={}, stream=_STREAM, max_output_tokens=_MAX_TOKENS),
        response=_ANY_OBJECT,
        streams=_EVENTS,
    ),
    Operation(
        method="POST",
        path="/v1/messages",
        summary="Message",
        description="Anthropic's form of a chat completion; errors are Anthropic's, too.",
        calls=True,
        request=_body(("messages", "max_tokens"), messages=_list_of(_ANY_OBJECT), stream=_STREAM, max_tokens=_MAX_TOKENS),
        response=_ANY_OBJECT,
        streams=_EVENTS,
        errors=("AnthropicError",),
    ),
    Operation(
        method="POST",
        path="/v1/messages/count_tokens",
        summary="Count tokens",
        description="Input tokens of a message, free of charge: by a provider of Anthropic's dialect, else by the model's tokenizer.",
        calls=True,
        request=_body(("messages",), messages=_list_of(_ANY_OBJECT)),
        response=_object(input_tokens={"type": "integer"}),
        errors=("AnthropicError",),
    ),
    Operation(
        method="POST",
        path="/v1/completions",
        summary="Text completion",
        description="The older form of a completion: a prompt instead of messages.",
        calls=True,
        request=_body((), prompt={}, stream=_STREAM, stream_options=_STREAM_OPTIONS, max_tokens=_MAX_TOKENS),
        response=_ANSWER,
        streams=_EVENTS,
    ),
    Operation(
        method="POST",
        path="/v1/embeddings",
        summary="Embeddings",
        description="Vectors for one or several texts.",
        calls=True,
        request=_body(("input",), input={}, encoding_format={"enum": ["float", "base64"]}),
        response=_ANSWER,
    ),
    Operation(
        method="POST",
        path="/v1/{path}",
        summary="Any other path of a provider",
        description=(
            "Passed to the endpoint of `model` at the same path: images, audio (multipart with a field `model`), rerank. A model whose"
            " prices cover nothing on such a path is refused with 400 `unpriced_path`; a path that itself names a model (`/engines/...`),"
            " or has something before one of the paths above, with 400 `invalid_path`."
        ),
        calls=True,
        takes=(_JSON, "multipart/form-data"),
        request=_body(()),
        response={},
        parameters=(_parameter("path", "path", "As the provider's API has it, without a slash in front."),),
    ),
    Operation(
        method="GET",
        path="/v1/models",
        summary="List models",
        description="Models that the key may call, by alias; for Anthropic's clients in pages.",
        response={"anyOf": [_object(object={"const": "list"}, data=_list_of(_MODEL)), _ANTHROPIC_LIST]},
        parameters=(
            _BY_HEADER,
            _parameter("group", "query", "OpenAI's list: ids of groups, separated by commas, of which one must have the model."),
            _parameter("available_for_realtime", "query", "OpenAI's list: every model is, so that `false` asks for none.", type="boolean"),
            _parameter("include_reasoning_capabilities", "query", "OpenAI's list: adds nothing, they are not known.", type="boolean"),
            _parameter("limit", "query", "Anthropic's list: length of the page.", type="integer", minimum=1, maximum=1000, default=20),
            _parameter("after_id", "query", "Anthropic's list: the page begins after this model."),
            _parameter("before_id", "query", "Anthropic's list: the page ends before this model."),
        ),
        errors=_BOTH,
    ),
    Operation(
        method="GET",
        path="/v1/models/{model_id}",
        summary="Get a model",
        description="One model; 404 also when the key may not call it.",
        response={"anyOf": [_MODEL, _ANTHROPIC_MODEL]},
        parameters=(_parameter("model_id", "path", "The alias."), _BY_HEADER),
        errors=_BOTH,
    ),
    *(
        Operation(
            method=method,
            path="/v1/responses/{response_id}",
            summary=summary,
            description="404 `response_not_found`, always: responses are not kept.",
            parameters=(_parameter("response_id", "path", "Any."),),
        )
        for method, summary in (("GET", "Get a response"), ("DELETE", "Delete a response"))
    ),
    Operation(
        method="POST",
        path="/api/chat",
        summary="Chat (Ollama)",
        description="Ollama's form of a chat completion. Without messages it loads a model, which costs nothing here.",
        calls=True,
        request=_body((), messages=_list_of(_ANY_OBJECT), stream=_STREAM_OF_LINES, options=_OPTIONS),
        response=_OLLAMA_ANSWER,
        streams=_LINES,
        errors=("OllamaError",),
    ),
    Operation(
        method="POST",
        path="/api/generate",
        summary="Generate (Ollama)",
        description="One prompt, one answer, without messages. Without a prompt it loads a model, which costs nothing here.",
        calls=True,
        request=_body((), prompt=_TEXT, system=_TEXT, stream=_STREAM_OF_LINES, options=_OPTIONS),
        response=_OLLAMA_ANSWER,
        streams=_LINES,
        errors=("OllamaError",),
    ),
    Operation(
        method="POST",
        path="/api/embed",
        summary="Embeddings (Ollama)",
        description="Vectors for one or several texts.",
        calls=True,
        request=_body(("input",), input={}),
        response=_object(model=_TEXT, embeddings=_list_of(_VECTOR)),
        errors=("OllamaError",),
    ),
    Operation(
        method="POST",
        path="/api/embeddings",
        summary="Embedding (Ollama)",
        description="The older form, for one prompt.",
        calls=True,
        request=_body((), prompt=_TEXT),
        response=_object(embedding=_VECTOR),
        errors=("OllamaError",),
    ),
    Operation(
        method="GET",
        path="/api/tags",
        summary="List models (Ollama)",
        description="Models that the key may call, by alias. What only a server with the model's file knows is empty.",
        response=_object(models=_list_of(_OLLAMA_MODEL)),
        errors=("OllamaError",),
    ),
    Operation(
        method="POST",
        path="/api/show",
        summary="Get a model (Ollama)",
        description="One model; 404 also when the key may not call it.",
        request=_body(()),
        response=_object(details=_ANY_OBJECT, model_info=_ANY_OBJECT, capabilities=_list_of(_TEXT), modified_at=_TEXT),
        errors=("OllamaError",),
    ),
    Operation(
        method="GET",
        path="/api/version",
        summary="Version (Ollama)",
        description="The release of Ollama whose API is spoken here.",
        response=_object(version=_TEXT),
        errors=("OllamaError",),
        needs_key=False,
    ),
)

ERROR_SCHEMAS: dict[str, dict[str, Any]] = {
    "OpenAIError": _object(
        error={
            "type": "object",
            "required": ["message"],
            "properties": {
                "message": _TEXT,
                "type": {"type": ["string", "null"]},
                "code": {"type": ["string", "integer", "null"]},
                "param": {"type": ["string", "null"], "description": "The field at fault."},
            },
            "additionalProperties": True,
        }
    ),
    "AnthropicError": _object(type={"const": "error"}, error=_object(type=_TEXT, message=_TEXT)),
    "OllamaError": _object(error=_TEXT),
}
"""Errors by dialect. What a provider said of the request itself is passed on as it came, and may have more or fewer fields."""

ERRORS: dict[str, str] = {
    "400": "The request cannot be understood or answered: not JSON, no `model`, wrong tags, a path that the model has no price for.",
    "401": "No API key.",
    "402": "`insufficient_balance`: the account cannot pay for what the request may cost; `balance` and `hold` say how much.",
    "403": "The key is unknown, expired or of another purpose, or its owner may not call this model.",
    "404": "`model_not_found`, `response_not_found`.",
    "408": "`request_timeout`: the body did not arrive in time.",
    "413": "`payload_too_large`.",
    "415": "`unsupported_media_type`: the body is not JSON, or it is compressed.",
    "429": "`rate_limit`, `concurrency_limit_exceeded` or `balance_reserved`, with `Retry-After`.",
    "502": "The provider could not be reached or broke off.",
    "503": "`recording_unavailable`: the request could not be recorded, so it was not sent.",
    "504": "The provider did not answer in time.",
}
"""Status -> what it means, for calls of models. Any other is the provider's own."""
