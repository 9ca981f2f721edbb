"""A server with known traffic for the pages about requests: names that want to be markup or formulas, failures, two accounts."""

import http.client
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.appliance import KEY, PRICE, USER, Appliance, Simulator, model, running, setup
from tests.browser.conftest import give_password

OTHER = "other@example.com"
OTHER_KEY = "sk-test-" + "o" * 35
EVIL = "<img src=x onerror=alert(1)>"
"""An alias."""
FORMULA = '=HYPERLINK("x"), 🎉'
"""A key's name."""
PROMPT = '<script>alert(1)</script><div hx-get="/nowhere" hx-trigger="load">hello</div> javascript:alert(1)'

QUICK = {"auth": {"native": {"password": {"argon2_memory_kib": 8, "argon2_iterations": 1}}}, "bodies": {"mode": "full"}}


def document(url: str) -> dict[str, Any]:
    models = [
        model("chat", "sim-chat?cached=3&input=11", prices=[{**PRICE, "input_per_million": "0.333333"}]),
        model("small", "sim-chat?tokens=5", prices=[PRICE]),
        model("free", "sim-chat"),
        model("failing", "sim-500", prices=[PRICE]),
        model("slow", "sim-chat?latency=1500", prices=[PRICE]),
        model(EVIL, "sim-chat", prices=[PRICE]),
    ]
    described = setup(url, models)
    described["users"].append({"email": OTHER})
    described["keys"].append({"user": OTHER, "name": FORMULA, "secret": OTHER_KEY})
    described["grants"].append({"user": OTHER, "amount": "100", "source_id": "other-credit"})
    return described


def call(appliance: Appliance, alias: str = "chat", key: str = KEY, *, stream: bool = False, tags: str = "") -> str:
    """One request; its id."""
    body = {"model": alias, "stream": stream, "messages": [{"role": "user", "content": PROMPT}]}
    headers = {"authorization": f"Bearer {key}", "user-agent": "test <b>", "x-dwctl-tags": tags}
    connection = http.client.HTTPConnection("127.0.0.1", appliance.port, timeout=30)
    connection.request("POST", "/ai/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return str(answer.headers["x-request-id"])


def together(appliance: Appliance, aliases: list[str]) -> list[threading.Thread]:
    """Requests at once."""
    threads = [threading.Thread(target=call, args=(appliance, alias)) for alias in aliases]
    for thread in threads:
        thread.start()
    return threads


def rows(appliance: Appliance, sql: str) -> list[tuple[Any, ...]]:
    """What the database holds."""
    with closing(sqlite3.connect(f"file:{appliance.data_dir / 'dwctl.db'}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


@contextmanager
def busy(directory: Path) -> Iterator[tuple[Appliance, Simulator]]:
    """The server after 130 requests; ``USER`` can sign in."""
    with running(directory, document, settings=QUICK) as (appliance, simulator):
        give_password(appliance, USER)
        for number in range(130):
            alias = ("chat", "small", "chat", "failing", "free", "no-such-model", EVIL)[number % 7]
            call(appliance, alias, OTHER_KEY if number % 5 == 0 else KEY, stream=number % 2 == 0)
        yield appliance, simulator
