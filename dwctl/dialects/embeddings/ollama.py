"""Ollama's ``/api/embed`` (docs.ollama.com: API reference, "Generate embeddings")."""

from typing import Any

from dwctl.dialects.answers import MalformedAnswer
from dwctl.dialects.embeddings import EmbedRequest, EmbedResponse
from dwctl.dialects.embeddings.reading import matched, others, vector
from dwctl.dialects.ollama.usage import read_usage
from dwctl.dialects.reading import a_string, an_array, optional_integer, optional_string, required, wrong_value

PATH = "/api/embed"
TAKES_TOKENS = False

_KNOWN = frozenset({"model", "input", "dimensions"})


def parse_request(body: dict[str, Any]) -> EmbedRequest:
    value = required(body, "input", "input")
    texts = [value] if isinstance(value, str) else an_array(value, "input")
    if not texts:
        raise wrong_value("input", "at least one text")
    return EmbedRequest(
        model=optional_string(body, "model", "model") or "",
        inputs=[a_string(text, f"input[{index}]") for index, text in enumerate(texts)],
        dimensions=optional_integer(body, "dimensions", "dimensions", least=0) or None,
        others=others(body, _KNOWN),
    )


def render_request(request: EmbedRequest, model: str) -> dict[str, Any]:
    body = {"model": model, "input": request.inputs}
    return body if request.dimensions is None else {**body, "dimensions": request.dimensions}


def parse_response(body: dict[str, Any]) -> EmbedResponse:
    found = body.get("embeddings")
    if not isinstance(found, list):
        raise MalformedAnswer("an answer without embeddings")
    model, counted = body.get("model"), read_usage(body)
    return EmbedResponse(
        vectors=[vector(item) for item in found],
        model=model if isinstance(model, str) else None,
        usage=counted.usage if counted is not None else None,
    )


def render_response(response: EmbedResponse, request: EmbedRequest) -> dict[str, Any]:
    counted = {} if response.usage is None else {"prompt_eval_count": response.usage.input}
    return {"model": request.model, "embeddings": matched(response, request), **counted}
