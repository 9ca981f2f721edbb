"""Pictures of every page in both themes, for the documentation: a company's day of traffic, shown by the real server.

usage: python -m tests.browser.screenshots [DIRECTORY]     (docs/screenshots; Chromium and the simulated provider are needed)
"""

import asyncio
import http.client
import json
import random
import re
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from dwctl import clock, ids
from dwctl.dialects.usage import Usage
from dwctl.ledger import Attempt, Charge, Record
from dwctl.ledger.rows import apply
from dwctl.store import Store
from tests.appliance import KEY, ROOT, Appliance, Simulator, until
from tests.browser.conftest import FLAGS, Site, Watched, chromium, theme
from tests.browser.test_every_page import VALUES, pages

PEOPLE = ("ann@acme.example", "ben@acme.example", "ci@acme.example")
MODELS = {
    "fast-chat": ("sim-chat", "openai-eu", "0.60", "2.40", 55),
    "smart": ("sim-chat", "anthropic", "3.00", "15", 25),
    "embed": ("sim-embed", "vllm-a", "0.02", "0", 20),
}
"""Alias -> the provider's name, endpoint, prices, and its share of the traffic."""
STRANGERS = ("/login", "/forgot", "/reset")
"""Pages for people who are not signed in."""
ROWS = 3_000
HOURS = 40


def document(url: str) -> dict[str, Any]:
    """The company: three providers, three models, three people in two groups."""
    return {
        "endpoints": [{"name": endpoint, "url": url, "api_key": "provider-key"} for _, endpoint, *_ in MODELS.values()],
        "groups": [{"name": "Research", "description": "Everything that is new"}],
        "users": [{"email": email, "display_name": email.split("@")[0].title(), "groups": ["Research"]} for email in PEOPLE],
        "models": [
            {
                "alias": alias,
                "endpoint": endpoint,
                "model_name": name,
                "model_type": "EMBEDDINGS" if alias == "embed" else "CHAT",
                "groups": ["Research"] if alias == "smart" else ["Everyone"],
                "prices": [{"input_per_million": read, "output_per_million": written}],
            }
            for alias, (name, endpoint, read, written, _) in MODELS.items()
        ],
        "keys": [
            {"user": email, "name": name, "secret": f"{KEY[:-1]}{number}"}
            for number, (email, name) in enumerate(zip(PEOPLE, ("notebook", "prod-worker", "nightly"), strict=True))
        ],
        "grants": [{"user": email, "amount": "250", "source_id": f"start-{email}", "description": "First credit"} for email in PEOPLE],
    }


def traffic(models: list[Any], keys: list[Any]) -> Iterator[Record]:
    """Two days' requests that ended well, mostly; more by day than by night."""
    chance = random.Random(7)
    by_alias = {model["alias"]: model for model in models}
    start = clock.now_us() - HOURS * clock.HOUR
    for number in range(ROWS):
        at = start + number * HOURS * clock.HOUR // ROWS
        if chance.random() > (1.0 if 7 <= at // clock.HOUR % 24 < 19 else 0.35):
            continue
        alias = chance.choices(list(MODELS), weights=[share for *_, share in MODELS.values()])[0]
        _, endpoint, price_in, price_out, _ = MODELS[alias]
        key = chance.choice(keys)
        luck = chance.random()
        status, outcome, code = (200, "complete", None)
        if luck < 0.015:
            status, outcome, code = 502, "failed", "upstream_reset"
        elif luck < 0.03:
            status, outcome, code = 429, "refused", "rate_limit"
        usage = Usage(
            uncached_input=chance.randrange(80, 2400),
            cache_read=chance.choice((0, 0, 1024)),
            output=0 if alias == "embed" else chance.randrange(20, 900),
        )
        read, written = int(float(price_in) * 1_000_000), int(float(price_out) * 1_000_000)
        amount = ((usage.uncached_input + usage.cache_read) * read + usage.output * written) // 1000
        first = chance.randrange(180, 900) * 1000
        yield Record(
            id=ids.new_text(),
            started_us=at,
            path="/embeddings" if alias == "embed" else "/chat/completions",
            operation="embeddings" if alias == "embed" else "chat",
            model_id=str(by_alias[alias]["id"]),
            alias=alias,
            upstream_model=str(by_alias[alias]["model_name"]),
            endpoint_name=endpoint,
            account_id=str(key["user_id"]),
            holder_id=str(key["user_id"]),
            key_id=str(key["id"]),
            purpose="realtime",
            status=status,
            outcome=outcome,
            error_code=code,
            stream=alias != "embed",
            usage=usage if outcome == "complete" else None,
            charge=Charge(amount, str(by_alias[alias]["tariff"]), read, written) if outcome == "complete" else None,
            attempts=[Attempt(endpoint, alias, 900, first, status, None)] if outcome != "refused" else [],
            duration_us=first + chance.randrange(200, 5200) * 1000,
            first_byte_us=first if outcome == "complete" else None,
            client_ip="192.0.2.17",
            user_agent="OpenAI/Python 2.9.0",
        )


async def fill(data_dir: Path) -> None:
    """Put the traffic of the last days into the database of a server that does not run."""
    store = await Store.open(None, data_dir)
    models = await store.fetch(
        "SELECT m.id, m.alias, m.model_name, t.id AS tariff FROM deployed_models m JOIN model_tariffs t ON t.model_id = m.id"
    )
    keys = await store.fetch("SELECT id, user_id FROM api_keys WHERE name IN ('notebook', 'prod-worker', 'nightly')")
    records = list(traffic(models, keys))
    for first in range(0, len(records), 500):
        group = records[first : first + 500]
        await store.write(lambda tx, group=group: apply(tx, group, clock.now_us()))  # type: ignore[misc]
    await store.close()


def ask(appliance: Appliance) -> None:
    """A few real requests, so that there are bodies and whole traces."""
    for number, (alias, text) in enumerate((("fast-chat", "Sum up our meeting in three points."), ("smart", "Why is the sky blue?")) * 4):
        connection = http.client.HTTPConnection("127.0.0.1", appliance.port, timeout=20)
        body = {"model": alias, "messages": [{"role": "user", "content": text}], "stream": number % 2 == 1}
        headers = {"authorization": f"Bearer {KEY[:-1]}{number % 3}", "content-type": "application/json"}
        connection.request("POST", "/ai/v1/chat/completions", json.dumps(body), headers)
        connection.getresponse().read()
        connection.close()


def shown(appliance: Appliance) -> dict[str, Any]:
    """What the pages with a parameter in their path show."""

    def one(sql: str) -> Any:
        with closing(sqlite3.connect(appliance.data_dir / "dwctl.db")) as database:
            found = str(database.execute(sql).fetchone()[0])
        return lambda _: found

    return VALUES | {
        "endpoint_id": one("SELECT id FROM inference_endpoints WHERE name = 'anthropic'"),
        "model_id": one("SELECT id FROM deployed_models WHERE alias = 'smart'"),
        "user_id": one("SELECT id FROM users WHERE email = 'ann@acme.example'"),
        "group_id": one("SELECT id FROM groups WHERE name = 'Research'"),
        "key_id": one("SELECT id FROM api_keys WHERE name = 'prod-worker'"),
        "request_id": one("SELECT id FROM requests WHERE alias = 'smart' AND stream ORDER BY seq DESC LIMIT 1"),
    }


def main(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dwctl-pictures-") as folder:
        pace = ("--latency", "180", "--token-rate", "150")
        simulator = Simulator(Path(folder), (sys.executable, str(ROOT / "app.py")), "--api-key", "provider-key", *pace)
        appliance = Appliance(Path(folder))
        try:
            appliance.apply(document(simulator.url))
            asyncio.run(fill(appliance.data_dir))
            appliance.start()
            ask(appliance)
            until(lambda: not appliance.in_flight(), 20, "the requests have ended")
            values = shown(appliance)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
                for name in ("light", "dark"):
                    signed_in = False
                    context = browser.new_context(viewport={"width": 1280, "height": 800})
                    window = Watched(context.new_page(), appliance.url)
                    seen = pages(Site(appliance, simulator), values)
                    with theme(window, name):
                        for path in sorted(seen, key=lambda path: path not in STRANGERS):
                            if path not in STRANGERS and not signed_in:
                                window.sign_in()
                                signed_in = True
                            window.open(path)
                            title = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "one", path)
                            title = re.sub(r"\W+", "-", title).strip("-") or "home"
                            window.page.screenshot(path=str(target / f"{title}-{name}.png"))
                    context.close()
                browser.close()
        finally:
            appliance.close()
            simulator.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "screenshots")
