"""Models for the tests that call some, beside those that every test of the pages finds; and what the server says of a request."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.appliance import KEY, PRICE, model, until
from tests.browser.conftest import Site, Watched, email_of

MEMBER = email_of("StandardUser")


@pytest.fixture(scope="module")
def talking(site: Site) -> Site:
    """The site with models that answer in many ways, and credit for the member."""
    models = [
        model("free", "sim-chat"),
        model("priced", "sim-chat?tokens=40&rate=400", prices=[PRICE]),
        model("slow", "sim-chat?tokens=400&rate=20", prices=[PRICE]),
        model("outage", "sim-503"),
        model("torn", "sim-error-event"),
        model("vectors", "sim-embed", prices=[PRICE], model_type="EMBEDDINGS"),
    ]
    grants = [{"user": MEMBER, "amount": "50", "source_id": "talking"}]
    site.appliance.apply({"models": models, "grants": grants})
    until(lambda: "vectors" in _aliases(site), 10, "the server has the models")
    return site


def _aliases(site: Site) -> set[str]:
    request = urllib.request.Request(f"{site.url}/ai/v1/models", headers={"authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request) as answer:
        return {entry["id"] for entry in json.loads(answer.read())["data"]}


def call(site: Site, secret: str, alias: str = "free") -> tuple[int, dict[str, Any], str]:
    """A chat with a key: status, body, request id."""
    body = json.dumps({"model": alias, "messages": [{"role": "user", "content": "hello"}]}).encode()
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{site.url}/ai/v1/chat/completions", body, headers)) as answer:
            return answer.status, json.loads(answer.read()), answer.headers["x-request-id"]
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read()), error.headers["x-request-id"]


def recorded(admin: Watched, request_id: str) -> dict[str, Any]:
    """What the log says of a request, once it is there. ``admin`` is signed in as the administrator."""

    def look() -> dict[str, Any] | None:
        answer = admin.page.request.get(f"{admin.url}/admin/api/v1/requests/{request_id}")
        return dict(answer.json()) if answer.status == 200 else None

    found: dict[str, Any] = until(look, 10, f"request {request_id} in the log")
    return found
