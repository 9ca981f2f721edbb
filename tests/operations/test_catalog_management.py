"""Setting endpoints up and managing models, on either database: what follows a provider, what is shared, priced and counted."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dwctl import catalog, clock, ids
from dwctl.accounts import NIL, SYSTEM, Actor
from dwctl.errors import GatewayError
from dwctl.ledger import Record
from dwctl.operations import endpoint_setup, model_management
from dwctl.operations.endpoints import EndpointCreate, create_endpoint, update_endpoint
from dwctl.store import Tx
from dwctl.store.tables import DeployedModel, Endpoint
from tests.administration import Administration, configuration, serving
from tests.scripted import Scripted, reply, scripted

TERMS = catalog.TariffTerms(name="realtime", input_pico=1_000_000, output_pico=2_000_000, api_key_purpose="realtime")


@pytest.fixture
async def server(database_url: str, data_dir: Path) -> AsyncIterator[Administration]:
    async with serving(database_url, configuration(data_dir, database_url)) as running:
        yield running


@pytest.fixture
async def provider() -> AsyncIterator[Scripted]:
    async with scripted() as running:
        running.models("alpha", "beta")
        yield running


async def endpoint(server: Administration, url: str, name: str = "Their Server", **fields: Any) -> str:
    return await create_endpoint(server.services, SYSTEM, EndpointCreate(name=name, url=url, sync=False, **fields))


async def test_nothing_is_done_that_nobody_said(server: Administration, provider: Scripted) -> None:
    services = server.services
    one = await endpoint(server, provider.url)
    found = await endpoint_setup.compare(services, SYSTEM, one)
    assert [(model.name, model.alias, model.taken_by) for model in found.offered] == [("alpha", "alpha", None), ("beta", "beta", None)]
    assert await endpoint_setup.held_models(services, SYSTEM, one) == []
    assert await endpoint_setup.follow(services, SYSTEM, one, take={"alpha": "alpha", "beta": "b"}) == 2
    # The alias that is taken elsewhere is told, and another is put forward.
    other = await endpoint(server, provider.url, "Second")
    offered = (await endpoint_setup.compare(services, SYSTEM, other)).offered
    assert [(model.alias, model.taken_by) for model in offered] == [("alpha-second", "Their Server"), ("beta", None)]
    provider.models("alpha", "gamma")
    found = await endpoint_setup.compare(services, SYSTEM, one)
    assert [model.name for model in found.gone] == ["beta"]
    assert [model.name for model in found.offered] == ["gamma"]
    assert await endpoint_setup.follow(services, SYSTEM, one, take={}, retire=[found.gone[0].id]) == 1
    provider.models("alpha", "beta")
    found = await endpoint_setup.compare(services, SYSTEM, one)
    assert [model.name for model in found.back] == ["beta"]
    # Of another endpoint nothing is retired by mistake.
    assert await endpoint_setup.follow(services, SYSTEM, other, take={}, retire=[found.kept[0].id]) == 0


async def test_what_was_chosen_is_within_the_filter(server: Administration, provider: Scripted) -> None:
    one = await endpoint(server, provider.url, model_filter=["alpha"])
    await endpoint_setup.follow(server.services, SYSTEM, one, take={"alpha": "alpha", "beta": "beta"})
    assert (await Endpoint.get(id=one)).model_filter == ["alpha", "beta"]


async def test_every_wrong_alias_is_named_and_nothing_is_taken_in(server: Administration, provider: Scripted) -> None:
    services = server.services
    one = await endpoint(server, provider.url)
    await endpoint_setup.follow(services, SYSTEM, one, take={"alpha": "alpha"})
    with pytest.raises(GatewayError) as refused:
        await endpoint_setup.follow(services, SYSTEM, one, take={"a": "alpha", "b": " ", "c": "same", "d": "same", "e": "free"})
    assert refused.value.status == 409
    told = {entry["model_name"]: entry["message"] for entry in refused.value.fields["conflicts"]}
    assert told == {
        "a": "'alpha' is the alias of alpha on Their Server. Choose another.",
        "b": "The alias must not be empty.",
        "d": "'same' is also chosen for c. Choose another.",
    }
    assert [model.alias for model in await endpoint_setup.held_models(services, SYSTEM, one)] == ["alpha"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply(b"{}", "401 Unauthorized"), "credential"),
        (reply(b"{}", "403 Forbidden"), "credential"),
        (reply(b"{}", "404 Not Found"), "no_list"),
        (reply(b"{}", "500 Oops"), "status"),
        (reply(b"<html>"), "bad_answer"),
        (None, "timeout"),
    ],
)
async def test_a_failure_has_a_kind(server: Administration, provider: Scripted, answer: bytes | None, kind: str) -> None:
    one = await endpoint(server, provider.url, first_byte_timeout=0.2 if answer is None else None)
    provider.answer = answer
    failure = (await endpoint_setup.compare(server.services, SYSTEM, one)).probe.failure
    assert failure is not None
    assert failure.kind == kind


async def test_an_address_that_became_forbidden_is_told_as_such(server: Administration, provider: Scripted) -> None:
    one = await endpoint(server, provider.url)
    row = await Endpoint.get(id=one)

    async def write(tx: Tx) -> None:
        await update_endpoint(tx, SYSTEM, row, {"url": "http://169.254.169.254/v1"})

    await server.services.store.write(write)
    failure = (await endpoint_setup.compare(server.services, SYSTEM, one)).probe.failure
    assert failure is not None
    assert failure.kind == "address"


async def test_local_servers_are_found(server: Administration, provider: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        endpoint_setup, "LOCAL_SERVERS", {"Nothing": ("http://127.0.0.1:9/v1", "openai-chat"), "vLLM": (provider.url, "openai-chat")}
    )
    assert await endpoint_setup.local_servers(server.services, SYSTEM) == [("vLLM", provider.url, 2)]
    # Ollama is known by its own list.
    monkeypatch.setattr(endpoint_setup, "LOCAL_SERVERS", {"Ollama": (provider.root, "ollama")})
    assert await endpoint_setup.local_servers(server.services, SYSTEM) == []
    provider.answers = {"GET /api/tags": reply(b'{"models": [{"name": "a"}]}')}
    assert await endpoint_setup.local_servers(server.services, SYSTEM) == [("Ollama", provider.root, 1)]


async def test_what_ollama_says_of_a_model_is_kept_with_it(server: Administration, provider: Scripted) -> None:
    services = server.services
    one = await endpoint(server, provider.root, dialect="ollama")
    provider.answers = {
        "GET /api/tags": reply(b'{"models": [{"name": "seer"}, {"name": "vectors"}]}'),
        'POST /api/show {"model":"seer"}': reply(b'{"capabilities": ["completion", "vision", "thinking"]}'),
        'POST /api/show {"model":"vectors"}': reply(b'{"capabilities": ["embedding"]}'),
    }
    found = await endpoint_setup.compare(services, SYSTEM, one)
    assert [(model.name, model.model_type) for model in found.offered] == [("seer", "CHAT"), ("vectors", "EMBEDDINGS")]
    assert await endpoint_setup.follow(services, SYSTEM, one, take={"seer": "seer", "vectors": "v", "by-hand-embed": "by-hand"}) == 3
    rows = {row.alias: (row.model_type, row.capabilities) for row in await DeployedModel.filter(endpoint_id=one)}
    assert rows == {"seer": ("CHAT", ["reasoning", "vision"]), "v": ("EMBEDDINGS", []), "by-hand": ("EMBEDDINGS", [])}


async def test_only_what_nobody_had_is_shared_and_priced(server: Administration, provider: Scripted) -> None:
    services = server.services
    one = await endpoint(server, provider.url)
    await endpoint_setup.follow(services, SYSTEM, one, take={"alpha": "alpha"})
    assert await endpoint_setup.share_models(services, SYSTEM, one, [NIL]) == 1
    await endpoint_setup.follow(services, SYSTEM, one, take={"beta": "beta"})
    assert [model.name for model in await endpoint_setup.unshared_models(services, SYSTEM, one)] == ["beta"]
    assert await endpoint_setup.share_models(services, SYSTEM, one, [NIL], [TERMS]) == 1
    held, total = await model_management.managed_models(services, SYSTEM, skip=0, limit=10)
    assert total == 2
    assert [(model.alias, model.groups, model.price) for model in held] == [("alpha", 1, None), ("beta", 1, TERMS)]
    found, total = await model_management.managed_models(services, SYSTEM, search="ALPH", lacking="price", skip=0, limit=10)
    assert ([model.alias for model in found], total) == (["alpha"], 1)
    assert (await model_management.managed_models(services, SYSTEM, lacking="groups", skip=0, limit=10))[1] == 0
    assert (await model_management.managed_models(services, SYSTEM, lacking="provider", skip=0, limit=10))[1] == 0


async def test_requests_are_counted_by_endpoint_and_model(server: Administration, provider: Scripted) -> None:
    services = server.services
    one = await endpoint(server, provider.url)
    await endpoint(server, provider.url, "Unused")
    await endpoint_setup.follow(services, SYSTEM, one, take={"alpha": "alpha", "beta": "beta"})
    [alpha, beta] = await endpoint_setup.held_models(services, SYSTEM, one)
    account, now = await server.person(), clock.now_us()
    for model, status, at in ((alpha, 200, now), (alpha, 502, now), (beta, 200, now), (alpha, 200, now - 30 * clock.HOUR)):
        outcome = {"outcome": "failed"} if status >= 500 else {}
        record = Record(
            id=ids.new_text(),
            started_us=at,
            path="/chat/completions",
            operation="chat",
            alias=model.alias,
            model_id=model.id,
            account_id=account,
            holder_id=account,
            endpoint_name="Their Server",
            status=status,
            duration_us=1,
            **outcome,
        )
        services.ledger.end(record, None)
    await services.ledger.recorded()
    summaries, total = await endpoint_setup.endpoint_summaries(services, SYSTEM, skip=0, limit=10)
    assert total == 2
    assert [(one.endpoint.name, one.models, one.requests, one.errors) for one in summaries] == [
        ("Their Server", 2, 3, 1),
        ("Unused", 0, 0, 0),
    ]
    held = await endpoint_setup.held_models(services, SYSTEM, one)
    assert [(model.alias, model.requests, model.errors) for model in held] == [("alpha", 2, 1), ("beta", 1, 0)]
    managed, _ = await model_management.managed_models(services, SYSTEM, skip=0, limit=10)
    assert [(model.alias, model.requests, model.errors) for model in managed] == [("alpha", 2, 1), ("beta", 1, 0)]


async def test_a_price_is_a_version_and_two_at_once_are_told(server: Administration, provider: Scripted) -> None:
    services = server.services
    one = await endpoint(server, provider.url)
    await endpoint_setup.follow(services, SYSTEM, one, take={"alpha": "alpha"})
    [model] = await endpoint_setup.held_models(services, SYSTEM, one)
    dearer = catalog.TariffTerms(name="realtime", input_pico=3_000_000, api_key_purpose="realtime")
    free = catalog.TariffTerms(name="playground", api_key_purpose="playground")
    assert await model_management.set_price(services, SYSTEM, model.id, "realtime", TERMS, revision=1)
    assert not await model_management.set_price(services, SYSTEM, model.id, "realtime", TERMS)
    assert await model_management.set_price(services, SYSTEM, model.id, "playground", free)
    assert await model_management.set_price(services, SYSTEM, model.id, "realtime", dearer)
    with pytest.raises(GatewayError) as stale:
        await model_management.set_price(services, SYSTEM, model.id, "realtime", TERMS, revision=1)
    assert stale.value.status == 412
    versions = await model_management.price_versions(SYSTEM, model.id)
    assert [version.terms for version in versions] == [dearer, free, TERMS]
    assert [version.valid_until is None for version in versions] == [True, True, False]
    assert versions[2].valid_until == versions[0].valid_from
    assert await model_management.set_price(services, SYSTEM, model.id, "playground", None)
    change = await model_management.last_change(services, SYSTEM, model.id)
    assert change is not None
    assert change.action == "tariffs.set"


async def test_access_is_set_by_what_was_seen(server: Administration, provider: Scripted) -> None:
    services = server.services
    one = await endpoint(server, provider.url)
    await endpoint_setup.follow(services, SYSTEM, one, take={"alpha": "alpha"})
    [model] = await endpoint_setup.held_models(services, SYSTEM, one)
    user_id = await server.person()
    actor = Actor(user_id, "user@example.com", False, frozenset({"StandardUser"}), "session")
    assert await model_management.obstacles(services, actor, model.id) == ["groups"]
    await model_management.set_model_groups(services, SYSTEM, model.id, [NIL], seen=[])
    assert await model_management.obstacles(services, actor, model.id) == []
    with pytest.raises(GatewayError) as stale:
        await model_management.set_model_groups(services, SYSTEM, model.id, [], seen=[])
    assert stale.value.status == 412
    await model_management.set_price(services, SYSTEM, model.id, "realtime", TERMS)
    await endpoint_setup.follow(services, SYSTEM, one, take={}, retire=[model.id])
    assert await model_management.obstacles(services, actor, model.id) == ["provider", "balance"]
    with pytest.raises(GatewayError) as refused:
        await model_management.set_price(services, actor, model.id, "realtime", None)
    assert refused.value.status == 403
