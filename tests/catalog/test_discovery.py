"""Asking real servers for their models: the simulator, and providers that do it wrong in every way we know of."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dwctl import simulator
from dwctl.catalog import Credentials, DiscoveryError, ProviderModel, describe, discover
from dwctl.catalog.discovery import DESCRIBED_AT_ONCE, MAX_BYTES, parse_models
from dwctl.dialects import conventions
from dwctl.dialects.names import DialectName
from dwctl.outbound import Outbound
from dwctl.sealing import Secret
from tests.scripted import Scripted, reply, scripted

CANARY = "sk-provider-canary"
WITH_KEY = Credentials(Secret(CANARY))


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    client = Outbound()
    yield client
    await client.close()


@pytest.fixture
async def provider() -> AsyncIterator[Scripted]:
    async with scripted() as running:
        yield running


async def test_the_simulator_lists_its_models(outbound: Outbound) -> None:
    running = await simulator.start(api_key="right")
    try:
        models = await discover(outbound, running.url, Credentials(Secret("right")))
        assert {"sim-chat", "sim-embed"} <= {model.id for model in models}
        assert all(model.object == "model" and model.created > 0 for model in models)
        # A trailing slash is no other address.
        assert await discover(outbound, running.url + "/", Credentials(Secret("right"))) == models
    finally:
        await running.close()


@pytest.mark.parametrize(
    ("credentials", "header"),
    [
        (WITH_KEY, f"Authorization: Bearer {CANARY}"),
        (Credentials(Secret(CANARY), "api-key", ""), f"api-key: {CANARY}"),
    ],
)
async def test_the_credential_is_sent_as_configured(outbound: Outbound, provider: Scripted, credentials: Credentials, header: str) -> None:
    provider.models("a")
    assert [model.id for model in await discover(outbound, provider.url, credentials)] == ["a"]
    head = provider.requests[0].split("\r\n")
    assert head[0] == "GET /v1/models HTTP/1.1"
    assert header in head


async def test_without_a_credential_nothing_is_sent(outbound: Outbound, provider: Scripted) -> None:
    provider.models("a")
    await discover(outbound, provider.url, Credentials())
    assert "authorization" not in provider.requests[0].lower()


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (reply(b"no", "401 Unauthorized"), "status", "refused the credential (HTTP 401)"),
        (reply(CANARY.encode(), "403 Forbidden"), "status", "refused the credential (HTTP 403)"),
        (reply(b"", "404 Not Found"), "status", "usually ends in /v1"),
        (reply(b"", "307 Temporary Redirect", "location: http://127.0.0.1:1/"), "status", "redirects"),
        (reply(b"", "429 Too Many Requests"), "status", "limiting"),
        (reply(b"", "503 Service Unavailable"), "status", "HTTP 503"),
        (reply(b"<html>" + CANARY.encode()), "bad_answer", "not JSON"),
        (reply(b'{"data": [\xff]}'), "bad_answer", "not JSON"),
        (reply(b""), "bad_answer", "not JSON"),
        (reply(b'["a"]'), "bad_answer", '"data" array'),
        (reply(b'{"models": []}'), "bad_answer", '"data" array'),
        (reply(b" " * (MAX_BYTES + 1)), "bad_answer", "larger than"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "unreachable", "ended before"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "bad_answer", "not valid HTTP"),
        (b"", "unreachable", "closed the connection"),
    ],
)
async def test_what_goes_wrong_is_told_without_credential_or_provider_text(
    outbound: Outbound, provider: Scripted, answer: bytes, kind: str, words: str
) -> None:
    provider.answer = answer
    with pytest.raises(DiscoveryError) as caught:
        await discover(outbound, provider.url, WITH_KEY)
    assert caught.value.kind == kind
    assert words in caught.value.message
    assert CANARY not in caught.value.message


async def test_a_silent_provider_is_given_up(outbound: Outbound, provider: Scripted) -> None:
    provider.answer = None
    with pytest.raises(DiscoveryError) as caught:
        await discover(outbound, provider.url, WITH_KEY, deadline=0.2)
    assert (caught.value.kind, caught.value.message) == ("timeout", "The provider did not answer GET /v1/models within 0.2 seconds")


async def test_nobody_there(outbound: Outbound, provider: Scripted) -> None:
    url = "http://127.0.0.1:1/v1"
    with pytest.raises(DiscoveryError) as caught:
        await discover(outbound, url, WITH_KEY)
    assert caught.value.kind == "unreachable"
    assert "cannot connect" in caught.value.message.lower()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://169.254.169.254/latest", "http://user:pw@h/v1", "http://"])
async def test_an_address_that_may_not_be_called(outbound: Outbound, url: str) -> None:
    with pytest.raises(DiscoveryError) as caught:
        await discover(outbound, url, WITH_KEY)
    assert caught.value.kind == "url"


def test_entries_are_taken_as_far_as_they_are_usable() -> None:
    body = b"""{"data": [{"id": "a", "created": 5, "owned_by": "x"}, {"id": "a"}, {"id": 7}, {"id": ""}, {"id": " b"}, {"id": "c\\u0000"},
        "d", null, {"id": "e", "created": true, "owned_by": null}]}"""
    models = parse_models(body, owned_by="them")
    assert [(model.id, model.created, model.owned_by) for model in models] == [("a", 5, "x"), ("e", 0, "them")]


def answer(document: Any) -> bytes:
    return reply(json.dumps(document).encode())


@pytest.mark.parametrize("end", ["", "/", "/v1"])
async def test_anthropics_pages_are_read_to_the_last(outbound: Outbound, provider: Scripted, end: str) -> None:
    provider.answers = {
        "GET /v1/models?limit=1000": answer({"data": [{"id": "a"}, {"id": "b"}], "has_more": True, "last_id": "b&limit=2"}),
        "GET /v1/models?limit=1000&after_id=b%26limit%3D2": answer({"data": [{"id": "b"}, {"id": "c"}], "has_more": False, "last_id": "c"}),
    }
    models = await discover(outbound, provider.root + end, Credentials(Secret(CANARY), "x-api-key", ""), "anthropic")
    assert [(model.id, model.owned_by) for model in models] == [(name, "anthropic") for name in "abc"]
    for request in provider.requests:
        assert f"x-api-key: {CANARY}" in request
        assert "anthropic-version: 2023-06-01" in request
        assert "authorization" not in request.lower()


@pytest.mark.parametrize("last", ["a", 7, None])
async def test_pages_that_lead_nowhere_are_left(outbound: Outbound, provider: Scripted, last: Any) -> None:
    provider.answer = answer({"data": [{"id": "a"}], "has_more": True, "last_id": last})
    assert [model.id for model in await discover(outbound, provider.root, WITH_KEY, "anthropic")] == ["a"]
    assert len(provider.requests) <= 2


def shown(name: str) -> str:
    return f'POST /api/show {{"model":"{name}"}}'


@pytest.mark.parametrize("end", ["", "/", "/v1", "/api", "/api/"])
async def test_ollama_says_what_its_models_are_able_to_do(outbound: Outbound, provider: Scripted, end: str) -> None:
    url = provider.root + end
    names = ["llama3.2:latest", "nomic", "embedder", "old", "gone", "odd"]
    provider.answers = {
        "GET /api/tags": answer({"models": [{"name": name, "model": name, "size": 1} for name in names]}),
        shown("llama3.2:latest"): answer({"capabilities": ["completion", "vision", "tools", "thinking", "insert"], "license": "..."}),
        shown("nomic"): answer({"capabilities": ["embedding"]}),
        shown("embedder"): answer({"capabilities": ["completion"]}),
        shown("old"): answer({"modelfile": "..."}),
        shown("gone"): reply(b"{}", "404 Not Found"),
        shown("odd"): reply(b"<html>"),
    }
    listed = await discover(outbound, url, Credentials(), "ollama")
    assert [model.id for model in listed] == names
    described = await describe(outbound, url, Credentials(), "ollama", listed)
    assert [(model.id, model.likely_type, model.capabilities or []) for model in described] == [
        ("llama3.2:latest", "CHAT", ["vision", "tools", "reasoning"]),
        ("nomic", "EMBEDDINGS", []),
        ("embedder", "CHAT", []),
        ("old", "CHAT", []),
        ("gone", "CHAT", []),
        ("odd", "CHAT", []),
    ]


async def test_a_server_that_says_nothing_of_its_models_is_not_waited_for(outbound: Outbound, provider: Scripted) -> None:
    provider.answer = None
    models = [ProviderModel(f"m{number}") for number in range(3 * DESCRIBED_AT_ONCE)]
    assert await describe(outbound, provider.root, Credentials(), "ollama", models, deadline=0.3) == models
    assert len(provider.requests) == DESCRIBED_AT_ONCE


async def test_others_are_not_asked_about_single_models(outbound: Outbound, provider: Scripted) -> None:
    models = [ProviderModel("a")]
    assert await describe(outbound, provider.url, Credentials(), "openai-chat", models) == models
    assert provider.requests == []


@pytest.mark.parametrize(
    ("dialect", "base"),
    [
        ("openai-responses", "the base URL usually ends in /v1"),
        ("anthropic", "the base URL is what comes before /v1/messages"),
        ("ollama", "the base URL is what comes before /api/chat, usually http://HOST:11434"),
    ],
)
async def test_what_goes_wrong_leads_to_the_dialects_base_url(
    outbound: Outbound, provider: Scripted, dialect: DialectName, base: str
) -> None:
    array = "models" if dialect == "ollama" else "data"
    for wrong, message in (
        (reply(b"", "404 Not Found"), "The provider has no model list at this URL (HTTP 404)"),
        (reply(b"\n<!doctype html>"), "The provider answered with a web page, not JSON"),
        (reply(b"Ollama is running"), "The provider's model list is not JSON"),
        (reply(b'{"object": "list"}'), f'The provider\'s model list has no "{array}" array'),
    ):
        provider.answer = wrong
        with pytest.raises(DiscoveryError) as caught:
            await discover(outbound, provider.root, WITH_KEY, dialect)
        assert caught.value.message == f"{message}: {base}"


async def test_an_address_that_is_known_for_another_dialect_is_told(
    outbound: Outbound, provider: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conventions, "_OLLAMA_PORT", int(provider.root.rsplit(":", 1)[1]))
    provider.answer = reply(b"", "404 Not Found")
    with pytest.raises(DiscoveryError, match=r"usually ends in /v1\. This address usually speaks Ollama's API$"):
        await discover(outbound, provider.root, Credentials())
    with pytest.raises(DiscoveryError, match=r"usually http://HOST:11434$"):
        await discover(outbound, provider.root, Credentials(), "ollama")
