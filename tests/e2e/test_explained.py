"""From a request to its explanation: a real server, a real provider, and what the admin API tells about the call."""

import http.client
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.appliance import KEY, PRICE, USER, Appliance, model, running, setup, until

PLATFORM = "sk-platform-" + "p" * 30
VIEWER = "viewer@example.com"


def _document(simulator_url: str) -> dict[str, Any]:
    document = setup(simulator_url, [model("chat", "sim-chat?tokens=7&input=1000&cached=400", prices=[PRICE], bodies="full")])
    document["users"] = [*document["users"], {"email": VIEWER, "roles": ["RequestViewer", "PlatformManager"]}]
    document["keys"] = [*document["keys"], {"user": VIEWER, "name": "admin", "secret": PLATFORM, "purpose": "platform"}]
    return document


def _ask(appliance: Appliance, method: str, path: str, secret: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", appliance.port, timeout=20)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    answer = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    connection.close()
    return answer


def _explained(appliance: Appliance, request_id: str) -> dict[str, Any]:
    """The request's explanation, as soon as it and its bodies are recorded."""

    def recorded() -> dict[str, Any] | None:
        status, _, body = _ask(appliance, "GET", f"/admin/api/v1/requests/{request_id}", PLATFORM)
        detail: dict[str, Any] = json.loads(body)
        return detail if status == 200 and "bodies" in detail else None

    found: dict[str, Any] = until(recorded, 10, f"request {request_id} is recorded")
    return found


def test_a_call_can_be_explained_and_adds_up(tmp_path: Path) -> None:
    with running(tmp_path, _document) as (appliance, _):
        sent = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}
        costs = []
        for stream in (False, True):
            status, headers, body = _ask(appliance, "POST", "/ai/v1/chat/completions", KEY, sent | {"stream": stream})
            assert status == 200, body
            detail = _explained(appliance, headers["x-request-id"])
            assert (detail["outcome"], detail["status_code"], detail["stream"], detail["model"]) == ("complete", 200, stream, "chat")
            assert (detail["prompt_tokens"], detail["completion_tokens"], detail["cache_read_input_tokens"]) == (1000, 7, 400)
            assert detail["response_type"] == ("chat_completion_stream" if stream else "chat_completion")
            assert detail["user_email"] == USER
            cost = detail["cost"]
            assert sum(Decimal(line["amount"]) for line in cost["lines"]) == Decimal(cost["exact"])
            assert all(line["quantity"] * Decimal(line["unit_price"]) == Decimal(line["amount"]) for line in cost["lines"])
            # 1000 input tokens at 2.50 and 7 output tokens at 10 credits a million.
            assert cost["charged"] == "0.00257"
            assert Decimal(cost["held"]) > 0
            costs.append(Decimal(cost["charged"]))
            [attempt] = detail["attempts"]
            assert (attempt["endpoint"], attempt["status"], attempt["error"]) == ("sim", 200, None)
            timings = detail["timings"]
            assert 0 < timings["first_byte_ms"] <= timings["total_ms"]
            assert json.loads(detail["bodies"]["request"])["messages"] == sent["messages"]
            # Of a stream the provider's bytes are kept, with the usage event that this client did not ask for.
            kept = detail["bodies"]["response"]
            assert kept == body.decode() if not stream else kept.startswith(body.decode().removesuffix("data: [DONE]\n\n"))
        usage = json.loads(_ask(appliance, "GET", "/admin/api/v1/requests/aggregate-by-user?model=chat", PLATFORM)[2])
        assert (usage["total_requests"], usage["total_tokens"]) == (2, 2014)
        assert Decimal(str(usage["total_cost"])) == sum(costs)
        account = usage["users"][0]["user_id"]
        listed = json.loads(_ask(appliance, "GET", f"/admin/api/v1/transactions?user_id={account}", PLATFORM)[2])
        assert listed["page_start_balance"] == str(100 - sum(costs))
        assert [row["transaction_type"] for row in listed["data"]] == ["usage", "usage", "admin_grant"]


def test_a_refused_call_can_be_found_and_says_why(tmp_path: Path) -> None:
    def poor(simulator_url: str) -> dict[str, Any]:
        return {**_document(simulator_url), "grants": []}

    with running(tmp_path, poor) as (appliance, simulator):
        status, _, body = _ask(appliance, "POST", "/ai/v1/chat/completions", KEY, {"model": "chat", "messages": []})
        assert (status, json.loads(body)["error"]["code"]) == (402, "insufficient_balance")

        def found() -> Any:
            answer = _ask(appliance, "GET", "/admin/api/v1/requests?status_code=402", PLATFORM)
            return json.loads(answer[2])["entries"]

        [entry] = until(found, 10, "the refusal is recorded")
        assert (entry["outcome"], entry["error_code"], entry["user_email"], entry["total_cost"]) == (
            "refused",
            "insufficient_balance",
            USER,
            None,
        )
        assert simulator.served() == {}
