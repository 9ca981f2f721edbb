"""What the tests of the SDKs share: models of the simulator behind every provider dialect, clients, and the account of it all.

What a client is given is kept as bytes, and held against the SDK's types when its test is over (`strict`).
"""

import base64
import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import anthropic
import httpx
import httpx2
import ollama
import openai
import pydantic

from dwctl.dialects.names import DIALECTS
from dwctl.simulator.answers import IMAGE
from dwctl.simulator.script import THINKING, seed, text
from tests.appliance import KEY, Appliance, Simulator, model, setup, until
from tests.e2e.strict import Answer

MODELS = {
    "plain": "sim-chat",
    "long": "sim-chat?tokens=40",
    "tool": "sim-tool",
    "tools": "sim-chat?calls=2&preface=3&interleaved=1",
    "thinks": "sim-chat?thinking=5",
    "agent": "sim-chat?thinking=4&calls=1",
    "sealed": "sim-chat?thinking=4&redacted=1&calls=1",
    "refuses": "sim-chat?refusal=1",
    "classes": "sim-chat?input=100&cached=30&cache_write=20&cache_write_1h=10&reasoning=3",
    "limited": "sim-429?retry_after=7",
    "broken": "sim-500",
    "busy": "sim-503?retry_after=3",
    "locked": "sim-401",
    "failing": "sim-error-event",
    "failed": "sim-failed",
    "cut": "sim-cut",
    "embed": "sim-embed",
}
"""By alias; each is there once for each provider dialect, ``plain.anthropic``."""

PRICE = {
    "input_per_million": "3.012345",
    "output_per_million": "15.034567",
    "cache_read_per_million": "0.301234",
    "cache_write_5m_per_million": "3.755432",
    "cache_write_1h_per_million": "6.023456",
    "per_request": "0.001",
}
"""Credits; the price of a request is seldom a whole number of nano-credits."""

PNG = base64.b64encode(IMAGE).decode()
TOOLS = {
    "get_weather": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
    "get_time": {
        "type": "object",
        "properties": {"zone": {"type": "string"}},
        "required": ["zone"],
        "additionalProperties": False,
    },
}


class Weather(pydantic.BaseModel):
    """What a structured answer has to fit."""

    model_config = pydantic.ConfigDict(extra="forbid")

    city: str
    degrees: int
    windy: bool


def document(url: str) -> dict[str, Any]:
    """An apply document: the simulator as four endpoints, and every model behind each of them."""
    models = [
        model(f"{alias}.{dialect}", name, prices=[PRICE], model_type="EMBEDDINGS" if alias == "embed" else "CHAT") | {"endpoint": dialect}
        for dialect in DIALECTS
        for alias, name in MODELS.items()
    ]
    models.append(model("private", "sim-chat") | {"groups": [], "endpoint": "openai-chat"})
    return setup(url, models) | {
        "endpoints": [{"name": dialect, "url": url, "dialect": dialect, "api_key": "provider-key"} for dialect in DIALECTS]
    }


def said(last: str, tokens: int = 16) -> str:
    """What the simulator answers to a request whose last text this is."""
    return text(seed(last), tokens)


def thought(last: str, tokens: int = 5) -> str:
    """What it thinks before that."""
    return text(seed(last) + THINKING, tokens)


class _Tapped(httpx.SyncByteStream, httpx2.SyncByteStream):
    """A response's body that is kept while it is read."""

    def __init__(self, stream: Any, kept: bytearray) -> None:
        self._stream, self._kept = stream, kept

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._kept += chunk
            yield chunk

    def close(self) -> None:
        self._stream.close()


@dataclass
class Sdks:
    """The server, its provider, and the answers that the clients of one test have been given."""

    appliance: Appliance
    simulator: Simulator
    answers: list[Answer] = field(default_factory=list)

    def openai(self, root: str = "/v1", key: str = KEY) -> openai.OpenAI:
        http = httpx2.Client(event_hooks={"response": [self._tap]}, timeout=20)
        return openai.OpenAI(base_url=self.appliance.url + root, api_key=key, max_retries=0, http_client=http)

    def anthropic(self, root: str = "", **options: Any) -> anthropic.Anthropic:
        http = httpx2.Client(event_hooks={"response": [self._tap]}, timeout=20)
        options = {"api_key": KEY} | options
        return anthropic.Anthropic(base_url=self.appliance.url + root, max_retries=0, http_client=http, **options)

    def ollama(self, root: str = "", key: str = KEY) -> ollama.Client:
        headers = {"authorization": f"Bearer {key}"}
        return ollama.Client(self.appliance.url + root, headers=headers, event_hooks={"response": [self._tap]}, timeout=20)

    def http(self) -> httpx.Client:
        """A client that is nobody's SDK."""
        return httpx.Client(base_url=self.appliance.url, event_hooks={"response": [self._tap]}, timeout=20)

    def _tap(self, response: Any) -> None:
        path = response.url.path.removeprefix("/ai").removeprefix("/v1")
        kind = response.headers.get("content-type", "").partition(";")[0]
        answer = Answer(path, response.status_code, kind, "anthropic-version" in response.request.headers, bytearray())
        self.answers.append(answer)
        response.stream = _Tapped(response.stream, answer.body)

    def asked(self) -> list[dict[str, Any]]:
        """The bodies of the last requests that reached the provider, oldest first."""
        return [json.loads(request["body"]) for request in self.simulator.requests()]

    def thoughts_asked(self) -> int:
        """How many signed or sealed thoughts the last request handed to the provider."""
        sent = json.dumps(self.asked()[-1])
        return sum(sent.count(mark) for mark in ('"signature": "', '"type": "redacted_thinking"', '"encrypted_content": "'))

    def check_answers(self) -> None:
        """Hold every answer of this test against the SDKs' types."""
        for answer in self.answers:
            answer.check()
        self.answers.clear()

    def check_account(self) -> None:
        """Nothing is under way; what the provider served is recorded once each, with its usage, and priced to the nano-credit."""
        until(lambda: not self.appliance.in_flight(), 5, "nothing is under way")
        served = self.simulator.served()
        rows = until(lambda: self._rows(set(served)), 5, "every request is recorded")
        assert served, "no provider was asked"
        for row in rows:
            entry = served.get(row["id"])
            asks_nothing = row["operation"] == "count_tokens" or row["finish_reason"] in ("load", "unload")
            if entry is None or asks_nothing:
                # Refused here or there, or its tokens were counted, or its model was loaded.
                assert row["status"] in range(400, 500) or asks_nothing, row
                assert row["charge_nano"] is None, row
                continue
            assert (entry["times"], entry["outcome"] == "complete") == (1, row["outcome"] == "complete"), (row, entry)
            counted = {name: row[name] for name in _CLASSES}
            assert row["charge_nano"] in (None, price_of(counted)), (row, entry)
            if row["outcome"] == "complete":
                assert row["charge_nano"] is not None, (row, entry)
                assert counted == usage_of(entry), (row, entry)
                assert (row["reasoning"], row["estimated"]) == (0 if "/api/" in entry["path"] else entry["reasoning_tokens"], 0), (
                    row,
                    entry,
                )

    def _rows(self, wanted: set[str]) -> list[dict[str, Any]] | None:
        with contextlib.closing(sqlite3.connect(f"file:{self.appliance.data_dir}/dwctl.db?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            rows = [dict(row) for row in database.execute("SELECT * FROM requests")]
        return rows if wanted <= {row["id"] for row in rows} else None


_PRICED = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
_CLASSES = ("uncached_input", *_PRICED[1:])


def usage_of(entry: dict[str, Any]) -> dict[str, int]:
    """What a provider's entry of its own account comes to, in the classes that its dialect can tell apart."""
    prompt, output = entry["prompt_tokens"], entry["completion_tokens"]
    read, short, long = entry["cached_tokens"], entry["cache_write_tokens"], entry["cache_write_1h_tokens"]
    if entry["path"].startswith("/api/"):
        read = short = long = 0
    elif entry["path"] != "/messages":
        short, long = short + long, 0
    return dict(zip(_CLASSES, (prompt - read - short - long, read, short, long, output), strict=True))


def price_of(usage: dict[str, int]) -> int:
    """Nano-credits by `PRICE`."""
    total = sum(usage[name] * Decimal(PRICE[f"{priced}_per_million"]) * 1000 for name, priced in zip(_CLASSES, _PRICED, strict=True))
    return int((total + Decimal(PRICE["per_request"]) * 10**9).quantize(Decimal(1), ROUND_HALF_EVEN))
