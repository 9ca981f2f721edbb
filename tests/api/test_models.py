"""Models over REST: who sees what, PATCH with null, prices as a full set, groups."""

import asyncio
from typing import Any

import pytest

from dwctl import clock
from dwctl.accounts import NIL
from dwctl.money import PICO
from tests.administration import Administration

NOBODY = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
async def endpoint(server: Administration) -> str:
    """The id of an endpoint without models."""
    created = await server.admin("POST", "/endpoints", json={"name": "e", "url": "http://127.0.0.1:9/v1", "sync": False})
    endpoint_id: str = created.body["id"]
    return endpoint_id


async def _create(server: Administration, endpoint: str, name: str, **fields: Any) -> dict[str, Any]:
    answer = await server.admin("POST", "/models", json={"type": "standard", "model_name": name, "hosted_on": endpoint, **fields})
    assert answer.status == 200, answer
    model: dict[str, Any] = answer.body
    return model


async def _group(server: Administration, name: str) -> str:
    group_id: str = (await server.admin("POST", "/groups", json={"name": name})).body["id"]
    return group_id


def _aliases(answer: Any) -> list[str]:
    assert answer.status == 200, answer
    return [model["alias"] for model in answer.body["data"]]


async def test_create_get_change_delete(server: Administration, endpoint: str) -> None:
    model = await _create(
        server,
        endpoint,
        "text-embedding-x",
        alias="  embedder ",
        description="d",
        capabilities=["b", "a", "a"],
        requests_per_second=0.5,
        capacity=3,
        metadata={"provider": "Acme"},
        tariffs=[{"name": "list", "input_price_per_token": "0.0000025", "api_key_purpose": "realtime"}],
        groups=[NIL],
    )
    assert (model["alias"], model["model_name"], model["model_type"]) == ("embedder", "text-embedding-x", "EMBEDDINGS")
    assert (model["capabilities"], model["requests_per_second"], model["capacity"], model["burst_size"]) == (["a", "b"], 0.5, 3, None)
    assert [group["name"] for group in model["groups"]] == ["Everyone"]
    [tariff] = model["tariffs"]
    assert (tariff["input_price_per_token"], tariff["output_price_per_token"], tariff["is_active"]) == ("0.0000025", "0", True)
    served = server.services.snapshot().models["embedder"]
    assert (served.capacity, served.groups, served.prices[0].input_pico) == (3, frozenset({NIL}), 2_500_000)
    path = f"/models/{model['id']}"
    got = await server.admin("GET", path)
    assert "tariffs" not in got.body
    assert got.headers["ETag"] == '"1"'
    changed = await server.admin("PATCH", path, json={"alias": "renamed", "burst_size": 9}, headers={"If-Match": got.headers["ETag"]})
    assert (changed.status, changed.body["alias"], changed.body["burst_size"], changed.body["revision"]) == (200, "renamed", 9, 2)
    assert (await server.admin("PATCH", path, json={}, headers={"If-Match": '"1"'})).status == 412
    assert "renamed" in server.services.snapshot().models
    assert "embedder" not in server.services.snapshot().models
    deleted = await server.admin("DELETE", path)
    assert (deleted.status, deleted.body) == (200, model["id"])
    assert (await server.admin("GET", path)).status == 404
    assert (await server.admin("DELETE", path)).status == 404
    gone = await server.admin("GET", f"{path}?deleted=true&include=pricing")
    assert (gone.status, gone.body["deleted"], gone.body["tariffs"]) == (200, True, [])
    assert "renamed" not in server.services.snapshot().models
    await _create(server, endpoint, "renamed")


async def test_null_clears_limits_and_leaves_the_rest(server: Administration, endpoint: str) -> None:
    model = await _create(
        server,
        endpoint,
        "m",
        display_name="kept",
        description="kept",
        model_type="RERANKER",
        capabilities=["vision"],
        requests_per_second=2,
        burst_size=4,
        capacity=5,
        batch_capacity=6,
        throughput=7,
        max_output_tokens=8,
        tokenizer="cl100k_base",
        bodies="full",
    )
    path = f"/models/{model['id']}"
    cleared = ["requests_per_second", "burst_size", "capacity", "batch_capacity", "throughput", "max_output_tokens", "tokenizer", "bodies"]
    kept = ["display_name", "description", "model_type", "capabilities", "alias", "model_name", "metadata"]
    unchanged = (await server.admin("PATCH", path, json={})).body
    assert {name: unchanged[name] for name in [*cleared, *kept]} == {name: model[name] for name in [*cleared, *kept]}
    nulled = await server.admin("PATCH", path, json=dict.fromkeys([*cleared, *kept, "tariffs"]))
    assert nulled.status == 200, nulled
    assert {name: nulled.body[name] for name in cleared} == dict.fromkeys(cleared)
    assert {name: nulled.body[name] for name in kept} == {name: model[name] for name in kept}


async def test_prices_are_a_full_set(server: Administration, endpoint: str) -> None:
    model = await _create(
        server,
        endpoint,
        "m",
        tariffs=[
            {"name": "r", "input_price_per_token": "0.000001", "output_price_per_token": 0.000002, "api_key_purpose": "realtime"},
            {"name": "b", "input_price_per_token": "0.0000005", "api_key_purpose": "batch"},
        ],
    )
    path = f"/models/{model['id']}"
    before = {tariff["name"]: tariff for tariff in model["tariffs"]}
    assert before["r"]["output_price_per_token"] == "0.000002"
    wished = [
        {"name": "r", "input_price_per_token": "1e-6", "output_price_per_token": "0.0000020", "api_key_purpose": "realtime"},
        {"name": "p", "per_request_price": "0.25", "cache_read_price_per_token": "0", "api_key_purpose": "playground"},
    ]
    after = {tariff["name"]: tariff for tariff in (await server.admin("PATCH", path, json={"tariffs": wished})).body["tariffs"]}
    assert set(after) == {"r", "p"}
    assert after["r"]["id"] == before["r"]["id"]
    assert (after["p"]["per_request_price"], after["p"]["cache_read_price_per_token"]) == ("0.25", "0")
    assert after["p"]["cache_write_5m_price_per_token"] is None
    rows = await server.services.store.fetch("SELECT name, valid_until FROM model_tariffs ORDER BY name")
    assert [(row["name"], row["valid_until"] is None) for row in rows] == [("b", False), ("p", True), ("r", True)]
    assert len(await server.audit("tariffs.set")) == 2
    again = await server.admin("PATCH", path, json={"tariffs": wished})
    assert {tariff["id"] for tariff in again.body["tariffs"]} == {tariff["id"] for tariff in after.values()}
    assert len(await server.audit("tariffs.set")) == 2
    assert (await server.admin("PATCH", path, json={"tariffs": []})).body["tariffs"] == []
    assert server.services.snapshot().models["m"].prices == ()


async def test_a_closed_price_is_not_charged_after_the_clock_has_stepped_back(
    server: Administration, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def price(credits: str) -> dict[str, Any]:
        return {"name": "x", "per_request_price": credits, "api_key_purpose": "realtime"}

    def charged() -> list[int]:
        return [price.per_request_pico for price in server.services.snapshot().models["m"].prices]

    path = f"/models/{(await _create(server, endpoint, 'm', tariffs=[price('1')]))['id']}"
    right = clock.now_us
    with monkeypatch.context() as wrong:
        wrong.setattr(clock, "now_us", lambda: right() + 7_200 * clock.MICROSECONDS)
        assert (await server.admin("PATCH", path, json={"tariffs": [price("5")]})).status == 200
        assert charged() == [5 * PICO]
    await server.admin("PATCH", path, json={"description": "loaded again"})
    assert charged() == [5 * PICO]
    assert (await server.admin("PATCH", path, json={"tariffs": []})).body["tariffs"] == []
    assert charged() == []


async def test_a_change_that_changes_nothing_is_told_to_nobody(server: Administration, endpoint: str) -> None:
    model = await _create(server, endpoint, "m", description="d")
    changes = "SELECT count(*) AS told FROM change_log"
    [before] = await server.services.store.fetch(changes)
    for path, sent in ((f"/models/{model['id']}", {}), (f"/models/{model['id']}", {"description": "d"}), (f"/endpoints/{endpoint}", {})):
        same = await server.admin("PATCH", path, json=sent)
        assert (same.status, same.body["revision"]) == (200, 1), same
    assert await server.services.store.fetch(changes) == [before]


async def test_a_price_begins_when_it_is_set_and_at_no_other_time(server: Administration, endpoint: str) -> None:
    price = {"name": "x", "input_price_per_token": "0.000001", "api_key_purpose": "realtime"}
    model = await _create(server, endpoint, "m", tariffs=[price])
    path, [shown] = f"/models/{model['id']}", model["tariffs"]
    # A client that sends what it was shown, in whatever spelling of the time, changes nothing.
    for times in ({}, {"valid_from": shown["valid_from"].replace("Z", "+00:00")}, {"valid_from": None}):
        same = await server.admin("PATCH", path, json={"tariffs": [shown | times]})
        assert (same.status, same.body["tariffs"], same.body["revision"]) == (200, [shown], 1), same
    late = {"valid_from": "2099-12-31T00:00:00Z"}
    for sent, field in (
        ([price | late], "tariffs[0].valid_from"),
        ([shown | {"valid_until": "2020-01-01T00:00:00Z"}], "tariffs[0].valid_until"),
        ([shown | {"valid_until": "nope"}], "tariffs[0].valid_until"),
        ([shown | {"input_price_per_token": "0.000002"}], "tariffs[0].valid_from"),
        ([shown, price | late], "tariffs[1].valid_from"),
    ):
        refused = await server.admin("PATCH", path, json={"alias": "other", "tariffs": sent})
        assert (refused.status, refused.param, refused.body["error"]["code"]) == (400, field, "not_supported"), refused
        assert "a price begins when it is set" in refused.message
    answer = await server.admin("POST", "/models", json={"model_name": "n", "hosted_on": endpoint, "tariffs": [price | late]})
    assert (answer.status, answer.param) == (400, "tariffs[0].valid_from")
    listed = await server.admin("GET", "/models?include=pricing")
    assert [(found["alias"], found["tariffs"]) for found in listed.body["data"]] == [("m", [shown])]


NOTHING_ASKED: dict[str, Any] = {
    "sanitize_responses": False,
    "trusted": False,
    "open_responses_adapter": True,
    "traffic_routing_rules": [],
    "allowed_batch_completion_windows": [],
    "reasoning_translation_overrides": None,
    "provider_pricing": None,
    "fallback_with_replacement": False,
    "backoff_enabled": False,
    "backoff_initial_ms": 100,
    "backoff_max_ms": 5000,
    "backoff_factor": 2,
    "backoff_jitter": "full",
    "backoff_max_total_ms": None,
}
"""What a client of the control layer's sends of settings that it leaves as they are by default."""
UNSUPPORTED: dict[str, Any] = {
    "sanitize_responses": True,
    "trusted": True,
    "open_responses_adapter": False,
    "traffic_routing_rules": [{"api_key_purpose": "realtime", "action": "deny"}],
    "allowed_batch_completion_windows": ["24h"],
    "reasoning_translation_overrides": {"responses": {"mode": "disabled"}},
    "provider_pricing": {"mode": "per_token", "input_price_per_token": "0.000001"},
    "fallback_with_replacement": True,
    "backoff_enabled": True,
    "backoff_initial_ms": 1,
    "backoff_max_ms": 1000,
    "backoff_factor": 3,
    "backoff_jitter": "none",
    "backoff_max_total_ms": 10000,
}


async def test_settings_that_are_not_supported_are_refused_unless_they_ask_for_nothing(server: Administration, endpoint: str) -> None:
    model = await _create(server, endpoint, "m", **NOTHING_ASKED)
    path = f"/models/{model['id']}"
    for harmless in (NOTHING_ASKED, dict.fromkeys(NOTHING_ASKED)):
        same = await server.admin("PATCH", path, json=harmless)
        assert (same.status, same.body["revision"]) == (200, 1), same
    assert set(UNSUPPORTED) == set(NOTHING_ASKED)
    for name, value in UNSUPPORTED.items():
        changed = await server.admin("PATCH", path, json={"alias": "other", name: value})
        created = await server.admin("POST", "/models", json={"model_name": "n", "hosted_on": endpoint, name: value})
        for answer in (changed, created):
            assert (answer.status, answer.param, answer.body["error"]["code"]) == (400, name, "not_supported"), answer
    assert _aliases(await server.admin("GET", "/models")) == ["m"]


async def test_prices_count_as_a_change_of_the_model(server: Administration, endpoint: str) -> None:
    created = await server.admin("POST", "/models", json={"model_name": "m", "hosted_on": endpoint})
    path, seen = f"/models/{created.body['id']}", {"If-Match": created.headers["ETag"]}
    first = await server.admin("PATCH", path, json={"tariffs": [{"input_price_per_token": "1e-6"}]}, headers=seen)
    assert (first.status, first.body["revision"]) == (200, 2)
    lost = await server.admin("PATCH", path, json={"tariffs": [{"input_price_per_token": "2e-6"}]}, headers=seen)
    assert lost.status == 412
    same = await server.admin("PATCH", path, json={"tariffs": [{"input_price_per_token": "1e-6"}]})
    assert (same.status, same.body["revision"]) == (200, 2)


async def test_prices_set_at_once_never_add_up(server: Administration, endpoint: str) -> None:
    created = await server.admin("POST", "/models", json={"model_name": "m", "hosted_on": endpoint})
    prices = [{"tariffs": [{"input_price_per_token": f"{number}e-6", "api_key_purpose": "realtime"}]} for number in range(1, 9)]
    answers = await asyncio.gather(*(server.admin("PATCH", f"/models/{created.body['id']}", json=body) for body in prices))
    assert {answer.status for answer in answers} <= {200, 412}
    assert len(await server.services.store.fetch("SELECT id FROM model_tariffs WHERE valid_until IS NULL")) == 1


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"alias": " "}, "alias"),
    ({"model_name": ""}, "model_name"),
    ({"model_name": "x" * 256}, "model_name"),
    ({"hosted_on": NOBODY}, "hosted_on"),
    ({"type": "composite"}, "type"),
    ({"display_name": "x" * 256}, "display_name"),
    ({"display_name": "two\nlines"}, "display_name"),
    ({"requests_per_second": 0}, "requests_per_second"),
    ({"requests_per_second": 5e-324}, "requests_per_second"),
    ({"requests_per_second": 1e10}, "requests_per_second"),
    ({"throughput": -1}, "throughput"),
    ({"capacity": 0}, "capacity"),
    ({"burst_size": 2**40}, "burst_size"),
    ({"tokenizer": "guess"}, "tokenizer"),
    ({"metadata": {"note": "x" * 17_000}}, "metadata"),
    ({"metadata": {"extra": {str(number): 1 for number in range(51)}}}, "metadata.extra"),
    ({"metadata": {"extra": []}}, "metadata.extra"),
    ({"metadata": {"provider": 7}}, "metadata.provider"),
    ({"metadata": {"display_category": 7}}, "metadata.display_category"),
    ({"metadata": {"intelligence_index": "high"}}, "metadata.intelligence_index"),
    ({"metadata": {"context_window": "x"}}, "metadata.context_window"),
    ({"metadata": {"released_at": 5}}, "metadata.released_at"),
    ({"metadata": {"released_at": "soon"}}, "metadata.released_at"),
    ({"metadata": {"quantization": 8}}, "metadata.quantization"),
    ({"metadata": {"attribution": {}}}, "metadata.attribution"),
    ({"tariffs": [{"input_price_per_token": "0.0000000000001"}]}, "tariffs[0].input_price_per_token"),
    ({"tariffs": [{}, {"api_key_purpose": "batch", "per_request_price": "-1"}]}, "tariffs[1].per_request_price"),
    ({"tariffs": [{"cache_write_1h_price_per_token": "NaN"}]}, "tariffs[0].cache_write_1h_price_per_token"),
    ({"tariffs": [{"output_price_per_token": "1e999999999"}]}, "tariffs[0].output_price_per_token"),
    ({"tariffs": [{"name": "x" * 256}]}, "tariffs[0].name"),
    ({"tariffs": [{"completion_window": "x" * 17}]}, "tariffs[0].completion_window"),
    ({"tariffs": [{"name": "a"}, {"name": "b"}]}, "tariffs[1].api_key_purpose"),
]


async def test_what_cannot_be_is_refused_by_field(server: Administration, endpoint: str) -> None:
    for changes, param in REFUSED:
        answer = await server.admin("POST", "/models", json={"model_name": "m", "hosted_on": endpoint} | changes)
        assert (answer.status, answer.param) == (400, param), answer
    assert _aliases(await server.admin("GET", "/models")) == []


async def test_wrong_types_and_unknown_groups(server: Administration, endpoint: str) -> None:
    base = {"model_name": "m", "hosted_on": endpoint}
    assert (await server.admin("POST", "/models", json=base | {"model_type": "IMAGE"})).status == 422
    assert (await server.admin("POST", "/models", json=base | {"tariffs": [{"input_price_per_token": "free"}]})).status == 422
    assert (await server.admin("POST", "/models", json={"hosted_on": endpoint})).status == 422
    assert (await server.admin("POST", "/models", json=base | {"groups": [NOBODY]})).status == 404
    assert _aliases(await server.admin("GET", "/models")) == []


async def test_aliases_are_unique_among_the_living(server: Administration, endpoint: str) -> None:
    first = await _create(server, endpoint, "a")
    second = await _create(server, endpoint, "b")
    taken = await server.admin("POST", "/models", json={"model_name": "other", "alias": "a", "hosted_on": endpoint})
    assert (taken.status, taken.body["resource"]) == (409, "deployment")
    assert (await server.admin("PATCH", f"/models/{second['id']}", json={"alias": "a"})).status == 409
    await server.admin("DELETE", f"/models/{first['id']}")
    assert (await server.admin("PATCH", f"/models/{second['id']}", json={"alias": "a"})).body["alias"] == "a"


async def test_people_see_the_models_of_their_groups_and_no_sensitive_field(server: Administration, endpoint: str) -> None:
    crew = await _group(server, "crew")
    open_model = await _create(server, endpoint, "open", groups=[NIL], capacity=1, tariffs=[{"api_key_purpose": "realtime"}])
    crew_model = await _create(server, endpoint, "crew-only", groups=[crew])
    hidden = await _create(server, endpoint, "hidden")
    person = await server.person()
    secret = await server.key_of(person)

    async def ask(path: str) -> Any:
        return await server.ask("GET", f"/admin/api/v1{path}", secret=secret)

    assert _aliases(await ask("/models")) == ["open"]
    assert (await ask(f"/models/{crew_model['id']}")).status == 404
    assert (await ask(f"/models/{hidden['id']}")).status == 404
    await server.admin("POST", f"/groups/{crew}/users/{person}")
    assert _aliases(await ask("/models?sort=alias&sort_direction=asc")) == ["crew-only", "open"]
    assert _aliases(await ask("/models?deleted=true")) == _aliases(await ask("/models"))
    everything = "groups,metrics,status,pricing,endpoints"
    seen = (await ask(f"/models/{open_model['id']}?include={everything}")).body
    for name in ("capacity", "requests_per_second", "burst_size", "batch_capacity", "throughput", "created_by", "groups", "metrics"):
        assert name not in seen, name
    assert not {"endpoint", "bodies", "tokenizer"} & seen.keys()
    assert [tariff["input_price_per_token"] for tariff in seen["tariffs"]] == ["0"]
    assert (seen["cache_pricing"], seen["status"]["active"]) == ({"enabled": False}, False)
    shown = (await server.admin("GET", f"/models/{open_model['id']}?include={everything}")).body
    assert (shown["capacity"], shown["endpoint"]["name"], shown["groups"][0]["id"]) == (1, "e", NIL)
    assert len(shown["metrics"]["time_series"]) == 24
    assert shown["metrics"]["total_requests"] == 0
    # A manager sees all, or what the manager may call.
    assert _aliases(await server.admin("GET", "/models?sort=alias&sort_direction=asc")) == ["crew-only", "hidden", "open"]
    assert _aliases(await server.admin("GET", "/models?accessible=true")) == ["open"]


async def test_list_filters_sorts_and_pages(server: Administration, endpoint: str) -> None:
    other = (await server.admin("POST", "/endpoints", json={"name": "o", "url": "http://127.0.0.1:9", "sync": False})).body["id"]
    crew = await _group(server, "crew")
    await _create(server, endpoint, "Alpha", metadata={"provider": "Acme", "context_window": 8}, capabilities=["vision"], groups=[crew])
    await _create(
        server,
        endpoint,
        "beta",
        description="the ALPHA rival",
        metadata={"provider": "Best", "context_window": 32, "released_at": "2026-01-01"},
    )
    await _create(server, other, "gamma-embed", tariffs=[{"input_price_per_token": "0.001", "api_key_purpose": "realtime"}])

    async def listed(query: str) -> list[str]:
        return _aliases(await server.admin("GET", f"/models?{query}"))

    assert await listed("") == ["gamma-embed", "beta", "Alpha"]
    assert await listed("sort=created_at&sort_direction=asc") == ["Alpha", "beta", "gamma-embed"]
    assert await listed("sort=alias") == ["gamma-embed", "beta", "Alpha"]
    assert await listed("sort=context_window") == ["beta", "Alpha", "gamma-embed"]
    assert await listed("sort=provider&sort_direction=asc") == ["Alpha", "beta", "gamma-embed"]
    assert await listed("sort=released_at") == ["beta", "Alpha", "gamma-embed"]
    assert await listed("sort=price_from") == ["gamma-embed", "Alpha", "beta"]
    assert await listed("search=alpha") == ["beta", "Alpha"]
    assert await listed("provider=acme") == ["Alpha"]
    assert await listed("capability=vision") == ["Alpha"]
    assert await listed("model_type=embeddings") == ["gamma-embed"]
    assert await listed(f"endpoint={other}") == ["gamma-embed"]
    assert await listed(f"group={crew},{NIL}") == ["Alpha"]
    assert await listed("is_composite=true") == []
    assert await listed("is_composite=false&limit=1&skip=1") == ["beta"]
    page = (await server.admin("GET", "/models?limit=2&include=facets")).body
    assert (page["total_count"], page["skip"], page["limit"], len(page["data"])) == (3, 0, 2, 2)
    assert page["facets"] == {"providers": ["Acme", "Best"], "capabilities": ["vision"], "model_types": ["CHAT", "EMBEDDINGS"]}
    kinds = ("model_type=image", f"model_type={'x' * 17}")
    for wrong in (*kinds, "group=x", "endpoint=x", "include=everything", "sort=size", "sort_direction=up", "skip=-1", "limit=many"):
        assert (await server.admin("GET", f"/models?{wrong}")).status == 400, wrong


async def test_access_is_given_and_taken_by_group(server: Administration, endpoint: str) -> None:
    crew = await _group(server, "crew")
    model = await _create(server, endpoint, "m")
    path = f"/groups/{crew}/models/{model['id']}"
    assert (await server.admin("DELETE", path)).status == 404
    assert (await server.admin("POST", path)).status == 204
    assert (await server.admin("POST", path)).status == 204
    assert server.services.snapshot().models["m"].groups == frozenset({crew})
    assert (await server.admin("GET", f"/groups/{crew}/models")).body == [model["id"]]
    assert (await server.admin("GET", f"/models/{model['id']}/groups")).body == [crew]
    assert len(await server.audit("models.groups")) == 1
    assert (await server.admin("POST", f"/groups/{NIL}/models/{model['id']}")).status == 204
    assert server.services.snapshot().models["m"].groups == frozenset({crew, NIL})
    assert (await server.admin("DELETE", path)).status == 204
    assert server.services.snapshot().models["m"].groups == frozenset({NIL})
    assert (await server.admin("GET", f"/groups/{crew}/models")).body == []
    for missing in (f"/groups/{NOBODY}/models/{model['id']}", f"/groups/{crew}/models/{NOBODY}"):
        assert (await server.admin("POST", missing)).status == 404
        assert (await server.admin("DELETE", missing)).status == 404
    assert (await server.admin("GET", f"/models/{NOBODY}/groups")).status == 404
    secret = await server.key_of(await server.person())
    for method in ("POST", "DELETE"):
        assert (await server.ask(method, f"/admin/api/v1{path}", secret=secret)).status == 403


async def test_inactive_models_are_out_of_sight(server: Administration, endpoint: str) -> None:
    model = await _create(server, endpoint, "m", groups=[NIL])
    await server.services.store.write(lambda tx: tx.execute("UPDATE deployed_models SET status = 'inactive' WHERE id = ?", (model["id"],)))
    assert _aliases(await server.admin("GET", "/models")) == []
    assert _aliases(await server.admin("GET", "/models?inactive=true")) == ["m"]
    assert (await server.admin("GET", f"/models/{model['id']}")).body["inactive"] is True
    secret = await server.key_of(await server.person())
    assert (await server.ask("GET", f"/admin/api/v1/models/{model['id']}", secret=secret)).status == 404
    assert _aliases(await server.ask("GET", "/admin/api/v1/models?inactive=true", secret=secret)) == []


async def test_what_a_key_lists_for_realtime(server: Administration, endpoint: str) -> None:
    await _create(server, endpoint, "m", groups=[NIL])
    secret = await server.key_of(await server.person(), "realtime")

    async def listed(query: str) -> list[str]:
        answer = await server.ask("GET", f"/ai/v1/models?{query}", secret=secret)
        assert answer.status == 200, answer
        return [model["id"] for model in answer.body["data"]]

    assert await listed("available_for_realtime=true&include_reasoning_capabilities=false") == ["m"]
    assert await listed("available_for_realtime=false&include_reasoning_capabilities=true") == []
    for name in ("available_for_realtime", "include_reasoning_capabilities"):
        wrong = await server.ask("GET", f"/ai/v1/models?{name}=maybe", secret=secret)
        assert (wrong.status, wrong.body["error"]["code"], wrong.param) == (400, "invalid_query_parameter", name)
