"""Embeddings between clients and providers of OpenAI's and of Ollama's API."""

import base64
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from dwctl.dialects.answers import MalformedAnswer
from dwctl.dialects.embeddings import EmbedCodec, EmbedResponse, ollama, ollama_prompt, openai, settle
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError

CODECS: list[EmbedCodec] = [openai, ollama, ollama_prompt]
OPENAI_ANSWER = {
    "object": "list",
    "data": [
        {"object": "embedding", "index": 1, "embedding": [0.25, 1]},
        {"object": "embedding", "index": 0, "embedding": base64.b64encode(struct.pack("<2f", -1, 0.5)).decode()},
    ],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 5, "total_tokens": 5},
}
OLLAMA_ANSWER = {
    "model": "nomic",
    "embeddings": [[-1, 0.5], [0.25, 1]],
    "total_duration": 14143917,
    "load_duration": 1019500,
    "prompt_eval_count": 5,
}


def test_openai_client_ollama_provider() -> None:
    request = openai.parse_request({"model": "alias", "input": ["a", "b"], "dimensions": 2, "encoding_format": "float", "user": "me"})
    assert settle(request, ollama) == ["'user' was dropped: the model's provider has nothing like it"]
    assert ollama.render_request(request, "nomic") == {"model": "nomic", "input": ["a", "b"], "dimensions": 2}
    answer = openai.render_response(ollama.parse_response(OLLAMA_ANSWER), request)
    assert answer == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [-1, 0.5]},
            {"object": "embedding", "index": 1, "embedding": [0.25, 1]},
        ],
        "model": "alias",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
    CreateEmbeddingResponse.model_validate(answer, strict=True)


def test_ollama_client_openai_provider() -> None:
    request = ollama.parse_request(
        {"model": "alias", "input": ["a", "b"], "truncate": False, "keep_alive": "5m", "options": {"num_ctx": 1}, "dimensions": 2}
    )
    assert settle(request, openai) == [
        "'truncate' was dropped: the provider decides what fits",
        "'keep_alive' was dropped: the provider decides which models are loaded",
        "'options' was dropped: it is not known here",
    ]
    asked = openai.render_request(request, "small")
    assert asked == {"model": "small", "input": ["a", "b"], "dimensions": 2, "encoding_format": "float"}
    response = openai.parse_response(OPENAI_ANSWER)
    assert (response.model, response.usage) == ("text-embedding-3-small", Usage(5))
    assert ollama.render_response(response, request) == {"model": "alias", "embeddings": [[-1, 0.5], [0.25, 1]], "prompt_eval_count": 5}


def test_a_client_that_wants_base64_gets_it_from_any_provider() -> None:
    request = openai.parse_request({"model": "alias", "input": ["a", "b"], "encoding_format": "base64"})
    assert openai.render_request(request, "m")["encoding_format"] == "float"
    answer = openai.render_response(ollama.parse_response(OLLAMA_ANSWER), request)
    CreateEmbeddingResponse.model_validate({**answer, "data": []}, strict=True)
    assert [struct.unpack("<2f", base64.b64decode(item["embedding"])) for item in answer["data"]] == [(-1, 0.5), (0.25, 1)]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=8))
def test_numbers_survive_base64(vector: list[float]) -> None:
    request = openai.parse_request({"model": "m", "input": "a", "encoding_format": "base64"})
    assert openai.parse_response(openai.render_response(EmbedResponse(vectors=[vector]), request)).vectors == [vector]


@pytest.mark.parametrize(
    ("value", "inputs"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1, 2], [3]], [[1, 2], [3]]), (["a", [3]], ["a", [3]])],
)
def test_openai_inputs(value: Any, inputs: list[Any]) -> None:
    request = openai.parse_request({"model": "m", "input": value})
    assert request.inputs == inputs
    assert openai.render_request(request, "m")["input"] == inputs
    if inputs != ["a"] and inputs != ["a", "b"]:
        with pytest.raises(GatewayError) as refusal:
            settle(request, ollama)
        assert (refusal.value.status, refusal.value.param) == (400, "input")


@pytest.mark.parametrize(
    ("codec", "body", "param"),
    [
        (openai, {}, "input"),
        (openai, {"input": []}, "input"),
        (openai, {"input": 5}, "input"),
        (openai, {"input": ["a", 5]}, "input[1]"),
        (openai, {"input": ["a", True]}, "input[1]"),
        (openai, {"input": [[1], [True]]}, "input[1]"),
        (openai, {"input": "a", "encoding_format": "hex"}, "encoding_format"),
        (openai, {"input": "a", "dimensions": 0}, "dimensions"),
        (ollama, {}, "input"),
        (ollama, {"input": []}, "input"),
        (ollama, {"input": ["a", [1]]}, "input[1]"),
        (ollama, {"input": "a", "dimensions": "2"}, "dimensions"),
        (ollama_prompt, {"input": "a"}, "prompt"),
    ],
)
def test_a_malformed_field_is_named(codec: EmbedCodec, body: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as refusal:
        codec.parse_request({"model": "m", **body})
    assert (refusal.value.status, refusal.value.param) == (400, param)


@pytest.mark.parametrize(
    ("codec", "body"),
    [
        (openai, {"embeddings": [[1]]}),
        (openai, {"data": [{"embedding": "AAA="}]}),
        (openai, {"data": [{"embedding": "?"}]}),
        (openai, {"data": [{"embedding": [True]}]}),
        (openai, {"data": ["a"]}),
        (ollama, {"data": []}),
        (ollama, {"embeddings": [1]}),
        (ollama, {"embeddings": [["a"]]}),
        (ollama_prompt, {"embeddings": [[1]]}),
    ],
)
def test_an_answer_that_is_not_of_the_dialect(codec: EmbedCodec, body: dict[str, Any]) -> None:
    with pytest.raises(MalformedAnswer):
        codec.parse_response(body)


@pytest.mark.parametrize("codec", CODECS)
def test_each_input_has_its_vector(codec: EmbedCodec) -> None:
    body = {"model": "m", "input": "a", "prompt": "a"}
    with pytest.raises(MalformedAnswer):
        codec.render_response(EmbedResponse(vectors=[[1], [2]]), codec.parse_request(body))


def test_the_older_endpoint() -> None:
    request = ollama_prompt.parse_request({"model": "alias", "prompt": "a", "keep_alive": 0})
    assert ollama_prompt.render_request(request, "m") == {"model": "m", "prompt": "a"}
    assert openai.render_request(request, "m")["input"] == ["a"]
    assert ollama_prompt.render_response(ollama_prompt.parse_response({"embedding": [0.5]}), request) == {"embedding": [0.5]}
    for body in ({"input": ["a", "b"]}, {"input": "a", "dimensions": 2}):
        with pytest.raises(GatewayError):
            ollama_prompt.render_request(openai.parse_request({"model": "m", **body}), "m")


def test_a_number_that_no_32_bits_hold() -> None:
    request = openai.parse_request({"model": "m", "input": "a", "encoding_format": "base64"})
    with pytest.raises(MalformedAnswer):
        openai.render_response(EmbedResponse(vectors=[[1e300]]), request)
