"""Asking real servers for their models: the simulator, and providers that do it wrong in every way we know of."""

from collections.abc import AsyncIterator

import pytest
from yarl import URL

from dwctl import simulator
from dwctl.catalog import Credentials, DiscoveryError, discover
from dwctl.catalog.discovery import MAX_BYTES, _request, parse_models
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


def test_anthropic_is_asked_in_its_own_way() -> None:
    for url in ("https://api.anthropic.com", "https://api.anthropic.com/v1"):
        target, headers = _request(URL(url), WITH_KEY)
        assert str(target) == "https://api.anthropic.com/v1/models?limit=1000"
        assert headers["x-api-key"] == CANARY
        assert headers["anthropic-version"] == "2023-06-01"
        assert "Authorization" not in headers
