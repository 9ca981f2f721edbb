"""Ollama's own SDK for Python, on a socket, with what is written for its users."""

import msgspec
import ollama as sdk
import pytest

from dwctl.dialects import embeddings, ollama
from dwctl.dialects.answers import Answering, Choice, Response, events_of
from dwctl.dialects.canonical import Reasoning, Request, Text, ToolCall
from dwctl.dialects.embeddings import ollama as embed
from dwctl.dialects.ollama import generate, listing
from dwctl.dialects.usage import Usage
from dwctl.errors import not_found, unavailable
from tests.scripted import Scripted, reply, scripted

ANSWERING = Answering("0" * 32, "alias", 1_790_000_000)
REQUEST = Request(model="alias", messages=[])
ANSWER = Response(
    None, None, [Choice([Reasoning("Hm."), Text("Hi."), ToolCall("c", "f", '{"a": 1}')], "tool_calls")], Usage(3, output=4), b"{}"
)
STREAM = "content-type: application/x-ndjson"


def client(provider: Scripted) -> sdk.AsyncClient:
    return sdk.AsyncClient(host=provider.url.removesuffix("/v1"))


def streamed(codec: object = ollama) -> bytes:
    renderer = codec.render_stream(REQUEST, ANSWERING)  # type: ignore[attr-defined]
    return b"".join(renderer.render(event) for event in list(events_of(ANSWER))[:-1]) + renderer.end()


async def test_chat() -> None:
    async with scripted() as provider:
        provider.answer = reply(msgspec.json.encode(ollama.render_response(ANSWER, REQUEST, ANSWERING)))
        answer = await client(provider).chat("alias", [{"role": "user", "content": "hi"}])
        assert (answer.message.content, answer.message.thinking, answer.done_reason) == ("Hi.", "Hm.", "stop")
        assert (answer.prompt_eval_count, answer.eval_count) == (3, 4)
        assert answer.message.tool_calls is not None
        assert answer.message.tool_calls[0].function.arguments == {"a": 1}


async def test_a_streamed_chat() -> None:
    async with scripted() as provider:
        provider.answer = reply(streamed(), "200 OK", STREAM)
        parts = [part async for part in await client(provider).chat("alias", [], stream=True)]
        assert "".join(part.message.content or "" for part in parts) == "Hi."
        assert [call.function.name for part in parts for call in part.message.tool_calls or []] == ["f"]
        assert [part.done for part in parts] == [False, False, False, True]


async def test_a_generated_answer() -> None:
    async with scripted() as provider:
        provider.answer = reply(streamed(generate), "200 OK", STREAM)
        parts = [part async for part in await client(provider).generate("alias", "hi", stream=True)]
        assert ("".join(part.response or "" for part in parts), parts[0].thinking, parts[-1].eval_count) == ("Hi.", "Hm.", 4)


async def test_errors() -> None:
    async with scripted() as provider:
        provider.answer = reply(ollama.render_error(not_found("No such model."), "id"), "404 Not Found")
        with pytest.raises(sdk.ResponseError, match=r"^No such model. \(status code: 404\)$"):
            await client(provider).chat("alias", [])
        renderer = ollama.render_stream(REQUEST, ANSWERING)
        said = renderer.render(next(event for event in events_of(ANSWER) if hasattr(event, "text")))
        provider.answer = reply(said + renderer.fail(unavailable("gone", "The provider is gone.")), "200 OK", STREAM)
        parts = await client(provider).chat("alias", [], stream=True)
        assert (await anext(parts)).message.thinking == "Hm."
        with pytest.raises(sdk.ResponseError, match=r"^The provider is gone\."):
            await anext(parts)


async def test_an_empty_line_would_break_the_client() -> None:
    """Why there is no ping."""
    async with scripted() as provider:
        provider.answer = reply(b"\n" + streamed(), "200 OK", STREAM)
        with pytest.raises(ValueError, match="Expecting value"):
            await anext(await client(provider).chat("alias", [], stream=True))


async def test_embeddings() -> None:
    async with scripted() as provider:
        request = embed.parse_request({"model": "alias", "input": ["a", "b"]})
        response = embeddings.EmbedResponse(vectors=[[1, 0.5], [0, -1]], usage=Usage(7))
        provider.answer = reply(msgspec.json.encode(embed.render_response(response, request)))
        answer = await client(provider).embed("alias", ["a", "b"])
        assert answer.embeddings == [[1, 0.5], [0, -1]]
        assert answer.prompt_eval_count == 7


MODELS = [
    listing.Listed("gpt-large", 1_790_000_000, capabilities=("Reasoning", "tools", "fast"), context=128_000),
    listing.Listed("embedder", 1_790_000_001, embeds=True),
]


async def test_the_models_are_listed() -> None:
    async with scripted() as provider:
        provider.answer = reply(msgspec.json.encode(listing.tags(MODELS)))
        large, small = (await client(provider).list()).models
        assert (large.model, large.size, large.modified_at and large.modified_at.timestamp()) == ("gpt-large", 0, 1_790_000_000)
        assert large.digest is not None
        assert len(large.digest) == 64
        assert large.digest != small.digest
        assert large.digest == listing.tags([MODELS[0]._replace(modified=1)])["models"][0]["digest"]
        sdk.ListResponse.model_validate_json(msgspec.json.encode(listing.tags(MODELS)), strict=True)


async def test_a_model_is_shown() -> None:
    async with scripted() as provider:
        provider.answer = reply(msgspec.json.encode(listing.show(MODELS[0])))
        shown = await client(provider).show("gpt-large")
        assert shown.capabilities == ["completion", "thinking", "tools"]
        assert shown.modelinfo is not None
        architecture = shown.modelinfo["general.architecture"]
        assert shown.modelinfo[f"{architecture}.context_length"] == 128_000
        sdk.ShowResponse.model_validate_json(msgspec.json.encode(listing.show(MODELS[1])), strict=True)
        embedder = listing.show(MODELS[1])
        assert embedder["capabilities"] == ["embedding"]
        assert embedder["model_info"] == {"general.architecture": architecture, "general.basename": "embedder"}


def test_the_release_is_one_that_clients_can_compare() -> None:
    assert [int(part) for part in listing.version()["version"].split(".")] > [0, 6, 4]
