"""OpenAI's ``/embeddings`` (API reference: "Create embeddings")."""

import base64
import struct
from typing import Any

from dwctl.dialects.answers import MalformedAnswer
from dwctl.dialects.embeddings import EmbedRequest, EmbedResponse
from dwctl.dialects.embeddings.reading import matched, others, vector
from dwctl.dialects.openai_usage import read_usage
from dwctl.dialects.reading import optional_integer, optional_string, required, wrong_type, wrong_value

PATH = "/embeddings"
TAKES_TOKENS = True

_KNOWN = frozenset({"model", "input", "dimensions", "encoding_format"})


def parse_request(body: dict[str, Any]) -> EmbedRequest:
    encoding = optional_string(body, "encoding_format", "encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise wrong_value("encoding_format", "'float' or 'base64'")
    return EmbedRequest(
        model=optional_string(body, "model", "model") or "",
        inputs=_inputs(required(body, "input", "input")),
        dimensions=optional_integer(body, "dimensions", "dimensions", least=1),
        base64=encoding == "base64",
        others=others(body, _KNOWN),
    )


def _inputs(value: Any) -> list[str | list[int]]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise wrong_type("input", "a string or an array", value)
    if not value:
        raise wrong_value("input", "at least one text")
    if _are_tokens(value):
        return [value]
    for index, item in enumerate(value):
        if not isinstance(item, str) and not _are_tokens(item):
            raise wrong_type(f"input[{index}]", "a string or an array of token ids", item)
    return value


def _are_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def render_request(request: EmbedRequest, model: str) -> dict[str, Any]:
    """Numbers are asked for, which every server can write; how the client wants them is between it and us."""
    body = {"model": model, "input": request.inputs, "encoding_format": "float"}
    return body if request.dimensions is None else {**body, "dimensions": request.dimensions}


def parse_response(body: dict[str, Any]) -> EmbedResponse:
    data = body.get("data")
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise MalformedAnswer("an answer without embeddings")
    if all(type(item.get("index")) is int for item in data):
        data = sorted(data, key=lambda item: item["index"])
    model, counted = body.get("model"), read_usage(body)
    return EmbedResponse(
        vectors=[_vector(item.get("embedding")) for item in data],
        model=model if isinstance(model, str) else None,
        usage=counted.usage if counted is not None else None,
    )


def _vector(value: Any) -> list[float]:
    if not isinstance(value, str):
        return vector(value)
    try:
        floats = base64.b64decode(value, validate=True)
        return list(struct.unpack(f"<{len(floats) // 4}f", floats))
    except (ValueError, struct.error):
        raise MalformedAnswer("an embedding that is not base64 of 32-bit floats") from None


def render_response(response: EmbedResponse, request: EmbedRequest) -> dict[str, Any]:
    tokens = response.usage.input if response.usage is not None else 0
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _packed(found) if request.base64 else found}
            for index, found in enumerate(matched(response, request))
        ],
        "model": request.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _packed(found: list[float]) -> str:
    try:
        return base64.b64encode(struct.pack(f"<{len(found)}f", *found)).decode()
    except OverflowError:
        raise MalformedAnswer("an embedding with numbers that are no 32-bit floats") from None
