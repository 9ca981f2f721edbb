"""Ollama's older ``/api/embeddings``, for one prompt at a time and without any counts (Ollama's API types: ``EmbeddingRequest``)."""

from typing import Any

from dwctl.dialects.answers import MalformedAnswer
from dwctl.dialects.embeddings import EmbedRequest, EmbedResponse
from dwctl.dialects.embeddings.reading import matched, others, vector
from dwctl.dialects.reading import optional_string, refused, string

PATH = "/api/embeddings"
TAKES_TOKENS = False

_KNOWN = frozenset({"model", "prompt"})


def parse_request(body: dict[str, Any]) -> EmbedRequest:
    return EmbedRequest(
        model=optional_string(body, "model", "model") or "",
        inputs=[string(body, "prompt", "prompt")],
        others=others(body, _KNOWN),
    )


def render_request(request: EmbedRequest, model: str) -> dict[str, Any]:
    if len(request.inputs) != 1:
        raise refused("input", "its provider takes one text at a time")
    if request.dimensions is not None:
        raise refused("dimensions", "its provider does not shorten embeddings")
    return {"model": model, "prompt": request.inputs[0]}


def parse_response(body: dict[str, Any]) -> EmbedResponse:
    if "embedding" not in body:
        raise MalformedAnswer("an answer without an embedding")
    return EmbedResponse(vectors=[vector(body["embedding"])])


def render_response(response: EmbedResponse, request: EmbedRequest) -> dict[str, Any]:
    return {"embedding": matched(response, request)[0]}
