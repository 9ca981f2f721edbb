"""The request log over REST: finding, explaining, summing up; and who may."""

from typing import Any

import pytest

from dwctl import clock, ids
from dwctl.dialects.usage import Usage
from dwctl.ledger import Attempt, Charge, Record
from tests.administration import Administration

NOBODY = "11111111-1111-4111-8111-111111111111"


async def _record(server: Administration, account: str, **fields: Any) -> Record:
    """A request that has ended, in the database."""
    values: dict[str, Any] = {
        "id": ids.new_text(),
        "started_us": clock.now_us(),
        "path": "/chat/completions",
        "operation": "chat",
        "alias": "chat",
        "account_id": account,
        "holder_id": account,
        "key_id": ids.new_text(),
        "purpose": "realtime",
        "endpoint_name": "sim",
        "status": 200,
        "duration_us": 1_500_000,
    }
    record = Record(**values | fields)
    server.services.ledger.end(record, None)
    await server.services.ledger.recorded()
    return record


@pytest.fixture
async def viewer(server: Administration) -> str:
    """The secret of a RequestViewer."""
    return await server.key_of(await server.person("RequestViewer"))


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?status_code=999999999999", 400),
        ("?status_code_max=99999999999999999999", 400),
        ("?min_duration_ms=9223372036854775807", 400),
        ("?min_duration_ms=-1", 400),
        ("?uri_pattern=%5C", 200),
        ("?uri_pattern=!", 200),
        ("?timestamp_after=0001-01-01T00:00:00Z", 200),
        ("?timestamp_after=0001-01-01T00:00:00%2B14:00", 400),
    ],
)
async def test_numbers_and_times_out_of_bounds(server: Administration, viewer: str, query: str, status: int) -> None:
    assert (await server.ask("GET", f"/admin/api/v1/requests{query}", secret=viewer)).status == status


async def test_sums_at_the_ends_of_time(server: Administration) -> None:
    last = "start_date=9999-12-31T00:00:00Z&end_date=9999-12-31T23:59:59Z"
    assert (await server.admin("GET", "/requests/aggregate?timestamp_before=0001-01-01T00:00:00Z")).status == 200
    assert (await server.admin("GET", f"/requests/aggregate-by-user?model=m&{last}")).status == 400
    assert (await server.admin("GET", f"/requests/aggregate-by-user?model=m&{last.split('&')[1]}")).status == 200


async def test_the_list_filters_and_pages(server: Administration, viewer: str) -> None:
    account, other = await server.person(), await server.person()
    start = clock.now_us() - 10_000_000
    ok = await _record(server, account, started_us=start, usage=Usage(10, 2, 1, 1, 5, 3))
    slow = await _record(server, account, started_us=start + 1_000_000, duration_us=9_000_000, stream=True, first_byte_us=250_000)
    embed = await _record(
        server, other, started_us=start + 2_000_000, operation="embeddings", path="/embeddings", alias="embed", tags=("beta", "team=search")
    )
    refused = await _record(
        server, other, started_us=start + 3_000_000, status=402, outcome="refused", error_code="insufficient_balance", duration_us=900
    )

    async def entries(query: str = "") -> list[dict[str, Any]]:
        answer = await server.ask("GET", f"/admin/api/v1/requests?{query}", secret=viewer)
        assert answer.status == 200, answer
        found: list[dict[str, Any]] = answer.body["entries"]
        return found

    async def found(query: str) -> list[str]:
        return [entry["id"] for entry in await entries(query)]

    everything = await entries()
    assert [entry["id"] for entry in everything] == [refused.id, embed.id, slow.id, ok.id]
    first = everything[-1]
    assert (first["timestamp"], first["model"], first["uri"], first["method"]) == (
        clock.to_rfc3339(start),
        "chat",
        "/chat/completions",
        "POST",
    )
    assert (first["prompt_tokens"], first["completion_tokens"], first["total_tokens"], first["reasoning_tokens"]) == (14, 5, 19, 3)
    assert (first["cache_read_input_tokens"], first["cache_creation_input_tokens"]) == (2, 2)
    assert (first["duration_ms"], first["status_code"], first["response_type"], first["total_cost"]) == (1500, 200, "chat_completion", None)
    assert first["user_email"].endswith("@example.com")
    assert (everything[2]["response_type"], everything[2]["duration_to_first_byte_ms"]) == ("chat_completion_stream", 250)
    assert (everything[1]["response_type"], everything[0]["error_code"]) == ("embedding", "insufficient_balance")
    assert await found("order_desc=false") == [ok.id, slow.id, embed.id, refused.id]
    assert await found("limit=2&skip=1") == [embed.id, slow.id]
    assert await found(f"limit=2&after={embed.id}") == [slow.id, ok.id]
    assert await found(f"order_desc=false&after={embed.id}") == [refused.id]
    assert await found("status_code=402") == [refused.id]
    assert await found("status_code_min=400&status_code_max=499") == [refused.id]
    assert await found("min_duration_ms=1500&max_duration_ms=9000&order_desc=false") == [ok.id, slow.id, embed.id]
    assert await found("uri_pattern=%25embed%25") == [embed.id]
    assert await found("model=embed") == [embed.id]
    assert await found("tag=team%3Dsearch") == await found("tag=beta&model=embed") == [embed.id]
    assert await found("tag=beta&model=chat") == await found("tag=bet") == []
    assert [entry["tags"] for entry in everything] == [[], ["beta", "team=search"], [], []]
    detail = await server.ask("GET", f"/admin/api/v1/requests/{embed.id}", secret=viewer)
    assert detail.body["tags"] == ["beta", "team=search"]
    assert await found("method=get") == []
    assert await found(f"user_id={account}") == [slow.id, ok.id]
    assert await found(f"api_key_id={ok.key_id}") == [ok.id]
    assert await found("outcome=refused&error_code=insufficient_balance") == [refused.id]
    assert await found(f"timestamp_after={clock.to_rfc3339(start + 2_000_000)}") == [refused.id, embed.id]
    assert await found(f"timestamp_before={clock.to_rfc3339(start + 1_000_000)}") == [ok.id]
    assert await found(f"fusillade_batch_id={NOBODY}") == []
    for wrong in ("timestamp_after=now", "user_id=me", "after=first", "status_code=ok"):
        assert (await server.ask("GET", f"/admin/api/v1/requests?{wrong}", secret=viewer)).status == 400, wrong


async def test_a_request_is_explained_to_the_nano(server: Administration, viewer: str) -> None:
    account = await server.person()
    await server.admin("POST", "/transactions", json={"user_id": account, "transaction_type": "admin_grant", "amount": "1"})
    endpoint = (await server.admin("POST", "/endpoints", json={"name": "e", "url": "http://127.0.0.1:9", "sync": False})).body["id"]
    price = {
        "name": "list",
        "input_price_per_token": "0.0000025",
        "output_price_per_token": "0.00001",
        "cache_read_price_per_token": "0.000000000001",
        "api_key_purpose": "realtime",
    }
    model = (await server.admin("POST", "/models", json={"model_name": "chat", "hosted_on": endpoint, "tariffs": [price]})).body
    tariff = model["tariffs"][0]["id"]
    record = await _record(
        server,
        account,
        usage=Usage(uncached_input=100, cache_read=1500, cache_write_5m=10, output=20, reasoning=4),
        raw_usage='{"prompt_tokens":1610}',
        charge=Charge(475_002, tariff, 2_500_000, 10_000_000),
        hold_nano=5_000_000,
        stream=True,
        receive_us=100,
        admit_us=200,
        decide_us=300,
        dispatch_us=400_000,
        first_byte_us=500_000,
        duration_us=1_500_000,
        attempts=[Attempt("sim", "sim-chat", 600, 1_400_000, 200, None)],
        explanation=["Admitted: a hold of 0.005 fits.", "Priced by the provider's usage."],
        client_ip="192.0.2.7",
        user_agent="test",
    )
    server.services.bodies.put(record.id, record.started_us, b'{"model":"chat"}', b"\xff", True)
    await server.services.bodies.flush()
    # Prices that change afterwards change nothing about what was.
    await server.admin("PATCH", f"/models/{model['id']}", json={"tariffs": []})
    detail = (await server.ask("GET", f"/admin/api/v1/requests/{record.id}", secret=viewer)).body
    assert detail["timings"] == {
        "receive_ms": 0.1,
        "admit_ms": 0.2,
        "decide_ms": 0.3,
        "dispatch_ms": 400.0,
        "first_byte_ms": 500.0,
        "streaming_ms": 1000.0,
        "total_ms": 1500.0,
        "output_tokens_per_second": 19.0,
    }
    assert detail["attempts"] == [
        {"endpoint": "sim", "model": "sim-chat", "started_ms": 0.6, "duration_ms": 1400.0, "status": 200, "error": None}
    ]
    assert detail["explanation"] == record.explanation
    assert detail["raw_usage"] == {"prompt_tokens": 1610}
    assert detail["cost"] == {
        "tariff_id": tariff,
        "tariff_name": "list",
        "lines": [
            {"of": "input tokens", "quantity": 100, "unit_price": "0.0000025", "amount": "0.00025"},
            {"of": "input tokens read from the cache", "quantity": 1500, "unit_price": "0.000000000001", "amount": "0.0000000015"},
            {"of": "input tokens written to the cache for 5 minutes", "quantity": 10, "unit_price": "0.0000025", "amount": "0.000025"},
            {"of": "output tokens", "quantity": 20, "unit_price": "0.00001", "amount": "0.0002"},
        ],
        "exact": "0.0004750015",
        "charged": "0.000475002",
        "held": "0.005",
    }
    assert detail["total_cost"] == "0.000475002"
    assert detail["bodies"] == {"request": '{"model":"chat"}', "response": "base64:/w==", "truncated": True}
    assert (detail["client_ip"], detail["user_agent"]) == ("192.0.2.7", "test")
    # The charge is a transaction of the account's, which names the request.
    [usage] = (await server.admin("GET", f"/transactions?user_id={account}&transaction_types=usage")).body["data"]
    assert (usage["request_id"], usage["amount"], usage["source_id"]) == (record.id, "0.000475002", record.id)


@pytest.mark.parametrize(
    ("changed", "speed"),
    [
        ({}, 1900.0),
        ({"first_byte_us": 1_499_999}, None),
        ({"outcome": "failed", "status": 500}, None),
        ({"outcome": "interrupted"}, 1900.0),
        ({"usage": Usage(output=1)}, None),
        ({"stream": False}, None),
    ],
)
async def test_no_speed_is_told_where_none_could_be_measured(
    server: Administration, viewer: str, changed: dict[str, Any], speed: float | None
) -> None:
    fields: dict[str, Any] = {"stream": True, "usage": Usage(output=20), "first_byte_us": 1_490_000, "duration_us": 1_500_000}
    record = await _record(server, await server.person(), **fields | changed)
    detail = (await server.ask("GET", f"/admin/api/v1/requests/{record.id}", secret=viewer)).body
    assert detail["timings"]["output_tokens_per_second"] == speed


async def test_a_request_without_charge_and_bodies(server: Administration, viewer: str) -> None:
    record = await _record(server, await server.person(), outcome="failed", status=502)
    detail = (await server.ask("GET", f"/admin/api/v1/requests/{record.id}", secret=viewer)).body
    assert (detail["cost"], detail["attempts"], detail["explanation"], detail["raw_usage"]) == (None, [], [], None)
    assert "bodies" not in detail
    assert (await server.ask("GET", f"/admin/api/v1/requests/{NOBODY}", secret=viewer)).status == 404
    assert (await server.ask("GET", "/admin/api/v1/requests/nonsense", secret=viewer)).status == 400


async def test_who_may_read_what(server: Administration, viewer: str) -> None:
    manager = await server.key_of(await server.person("PlatformManager"))
    person = await server.key_of(await server.person())
    record = await _record(server, await server.person())
    paths = {
        "/requests": (403, 200, 403),
        f"/requests/{record.id}": (403, 200, 403),
        "/requests/aggregate": (200, 200, 403),
        "/requests/aggregate-by-user?model=chat": (200, 200, 403),
    }
    for path, (for_manager, for_viewer, for_person) in paths.items():
        for secret, status in ((manager, for_manager), (viewer, for_viewer), (person, for_person)):
            assert (await server.ask("GET", f"/admin/api/v1{path}", secret=secret)).status == status, path
    assert (await server.ask("GET", "/admin/api/v1/users", secret=viewer)).status == 403


async def test_sums_over_the_log(server: Administration) -> None:
    account = await server.person()
    now = clock.now_us()
    for index in range(100):
        await _record(
            server,
            account,
            started_us=now - 5_000_000,
            duration_us=(index + 1) * 1000,
            status=200 if index < 90 else 500,
            alias="chat" if index % 2 else "embed",
            usage=Usage(uncached_input=2, output=1),
        )
    whole = (await server.admin("GET", "/requests/aggregate")).body
    assert (whole["total_requests"], "model" in whole) == (100, False)
    assert whole["status_codes"] == [
        {"status": "200", "count": 90, "percentage": 90.0},
        {"status": "500", "count": 10, "percentage": 10.0},
    ]
    assert whole["models"] == [
        {"model": "chat", "count": 50, "percentage": 50.0, "avg_latency_ms": 51.0},
        {"model": "embed", "count": 50, "percentage": 50.0, "avg_latency_ms": 50.0},
    ]
    series = whole["time_series"]
    assert {point["duration_minutes"] for point in series} == {60}
    assert len(series) in (24, 25)
    [point] = [point for point in series if point["requests"]]
    assert (point["requests"], point["input_tokens"], point["output_tokens"]) == (100, 200, 100)
    assert (point["avg_latency_ms"], point["p95_latency_ms"], point["p99_latency_ms"]) == (50.5, 95.0, 99.0)
    empty = next(point for point in series if not point["requests"])
    assert (empty["avg_latency_ms"], empty["p95_latency_ms"]) == (None, None)
    one = (await server.admin("GET", "/requests/aggregate?model=chat")).body
    assert (one["model"], one["total_requests"], "models" in one) == ("chat", 50, False)
    past = f"timestamp_after={clock.to_rfc3339(now - 7_200_000_000)}&timestamp_before={clock.to_rfc3339(now - 3_600_000_000)}"
    earlier = (await server.admin("GET", f"/requests/aggregate?{past}")).body
    assert (earlier["total_requests"], earlier["status_codes"], earlier["models"]) == (0, [], [])
    assert {point["duration_minutes"] for point in earlier["time_series"]} == {1}
    for wrong in ("timestamp_after=x", "timestamp_after=2020-01-01T00:00:00Z", "timestamp_after=2999-01-01T00:00:00Z"):
        assert (await server.admin("GET", f"/requests/aggregate?{wrong}")).status == 400, wrong


async def test_who_used_a_model(server: Administration) -> None:
    first, second = await server.person(), await server.person()
    tariff = ids.new_text()
    for account, amount in ((first, 1), (first, 10**15), (second, 5)):
        await _record(server, account, usage=Usage(uncached_input=3, cache_read=1, output=2), charge=Charge(amount, tariff, 1, 1))
    await _record(server, first, alias="other")
    answer = (await server.admin("GET", "/requests/aggregate-by-user?model=chat")).body
    assert (answer["model"], answer["total_requests"], answer["total_tokens"]) == ("chat", 3, 18)
    rows = [
        (row["user_id"], row["request_count"], row["input_tokens"], row["output_tokens"], row["total_tokens"]) for row in answer["users"]
    ]
    assert rows == [(first, 2, 8, 4, 12), (second, 1, 4, 2, 6)]
    assert [row["total_cost"] for row in answer["users"]] == [1000000.000000001, 0.000000005]
    assert answer["users"][0]["user_email"].endswith("@example.com")
    assert (await server.admin("GET", "/requests/aggregate-by-user")).status == 400


async def test_usage_of_an_account(server: Administration) -> None:
    account = await server.person()
    secret = await server.key_of(account)
    await _record(
        server, account, usage=Usage(uncached_input=3, cache_read=1, output=2), charge=Charge(1_500_000_000, ids.new_text(), 1, 1)
    )
    await _record(server, account, alias="free", usage=Usage(uncached_input=5, output=6))
    await _record(server, await server.person(), usage=Usage(uncached_input=100))

    async def ask(query: str, who: str = secret) -> Any:
        return await server.ask("GET", f"/admin/api/v1/usage?{query}", secret=who)

    mine = (await ask("")).body
    assert mine == {
        "total_input_tokens": 9,
        "total_output_tokens": 8,
        "total_request_count": 2,
        "total_batch_count": 0,
        "avg_requests_per_batch": 0.0,
        "total_cost": "1.5",
        "estimated_realtime_cost": "1.5",
        "by_model": [
            {"model": "chat", "input_tokens": 4, "output_tokens": 2, "cost": "1.5", "request_count": 1},
            {"model": "free", "input_tokens": 5, "output_tokens": 6, "cost": "0", "request_count": 1},
        ],
    }
    assert (await ask("start_date=2020-01-01&refresh=true")).body == mine
    assert (await ask("end_date=2020-01-01")).body["total_request_count"] == 0
    assert (await ask(f"user_id={account}")).body == mine
    assert (await server.admin("GET", f"/usage?user_id={account}")).body == mine
    assert (await ask(f"user_id={account}", await server.key_of(await server.person()))).status == 403
    for wrong in ("user_id=me", "start_date=once"):
        assert (await ask(wrong)).status == 400
