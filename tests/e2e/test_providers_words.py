"""What providers say of their own accord (codes, complaints, nonsense): who is told it, where it is kept, and where it must not be."""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dwctl.dialects.names import DIALECTS, DialectName
from tests.appliance import KEY, USER, Appliance, running, setup
from tests.dialects import wire
from tests.e2e.speaking import SPEAKERS
from tests.e2e.test_edges import Provider
from tests.e2e.test_gateway import row_of
from tests.e2e.test_translated import EVERY_PAIR, served_by, stream_type

CREDENTIAL = "credential/of-the-provider"
WORD = "a-word-of-the-provider"
"""Stands in whatever the provider says."""
QUIET = "sk-quiet-" + "q" * 30
PRIVATE = "sk-private-" + "p" * 30
PLATFORM = "sk-platform-" + "p" * 30
PRIVATE_USER = "private@example.com"
JSON = "content-type: application/json"

Said = tuple[bytes, str, str]
"""Body, status line and content type of an answer."""


@dataclass
class Stage:
    appliance: Appliance
    provider: Provider

    async def ask(self, client: DialectName, provider: DialectName, said: Said, stream: bool = False, key: str = KEY) -> tuple[bytes, str]:
        """What the client is answered where the provider has ``said`` that, and the request's id."""
        self.provider.says(*said)
        body = SPEAKERS[client].request(provider, "text", stream)
        async with (
            aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}, timeout=aiohttp.ClientTimeout(15)) as http,
            http.post(self.appliance.url + SPEAKERS[client].path, json=body) as answer,
        ):
            return await answer.read(), answer.headers["x-request-id"]

    async def row(self, request_id: str) -> dict[str, Any]:
        return await row_of(self, request_id)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    provider = Provider()

    def document(url: str) -> dict[str, Any]:
        made = setup(url, [served_by(dialect, dialect, prices=[]) for dialect in DIALECTS])
        made["endpoints"] = [{"name": each, "url": provider.url, "api_key": CREDENTIAL, "dialect": each} for each in DIALECTS]
        made["users"].append({"email": PRIVATE_USER})
        made["keys"] += [
            {"user": USER, "name": "quiet", "secret": QUIET, "bodies": "none"},
            {"user": PRIVATE_USER, "name": "private", "secret": PRIVATE, "bodies": "full"},
            {"user": PRIVATE_USER, "name": "platform", "secret": PLATFORM, "purpose": "platform"},
        ]
        return made

    settings = {"log": {"level": "debug", "requests": True}}
    with running(tmp_path_factory.mktemp("words"), document, settings=settings) as (appliance, _):
        yield Stage(appliance, provider)
    provider.close()


def error_of(provider: DialectName, words: str) -> dict[str, Any]:
    """An error that consists of these words, wherever its dialect has room for some."""
    if provider == "ollama":
        return {"error": words}
    if provider == "anthropic":
        return {"type": "error", "error": {"type": words, "message": words}}
    return {"error": {"message": words, "type": words, "code": words, "param": words}}


def streamed_error(provider: DialectName, words: str) -> Said:
    error = error_of(provider, words)
    if provider == "ollama":
        return wire.line(error), "200 OK", stream_type(provider)
    if provider == "openai-responses":
        error = {"type": "error", "sequence_number": 0, **error["error"]} | {"type": "error"}
    return wire.sse(error, "" if provider == "openai-chat" else "error"), "200 OK", stream_type(provider)


def errors(provider: DialectName, words: str) -> list[tuple[Said, bool]]:
    """The ways to say that something went wrong, each with whether a stream was asked for."""
    body = json.dumps(error_of(provider, words)).encode()
    return [
        ((body, "400 Bad Request", JSON), False),
        ((body.replace(b"/", b"\\/"), "500 Internal Server Error", JSON), True),
        ((json.dumps({**json.loads(wire.whole(provider)), **error_of(provider, words)}).encode(), "200 OK", JSON), False),
        (streamed_error(provider, words), True),
        (streamed_error(provider, words), False),
    ]


@EVERY_PAIR
async def test_a_providers_code_is_for_its_client_alone(stage: Stage, client: DialectName, provider: DialectName) -> None:
    """It makes no label, no line of the log and no code of a record; and a credential in it is not even the client's."""
    answers = [await stage.ask(client, provider, *each) for each in errors(provider, f"{WORD} {CREDENTIAL}")]
    shown, rows = [body for body, _ in answers], [await stage.row(request_id) for _, request_id in answers]
    assert WORD.encode() in shown[0]
    assert {(row["outcome"], row["error_code"]) for row in rows} == {("failed", "upstream_error")}
    assert all(WORD in row["explanation"] and WORD not in row["error_message"] for row in rows), rows
    found = [body for body in shown if CREDENTIAL.encode() in body.replace(b"\\/", b"/")] + [
        row for row in rows if CREDENTIAL in str(row).replace("\\", "")
    ]
    assert not found
    _, metrics = await asyncio.to_thread(stage.appliance.get_json, "/internal/metrics")
    log = await asyncio.to_thread(stage.appliance.log.read_text)
    assert rows[-1]["id"] in log
    assert not [word for word in (WORD, CREDENTIAL) if word in metrics or word in log]
    assert not [path for path in files(stage.appliance.data_dir) if CREDENTIAL.encode() in path.read_bytes()]


def files(directory: Path) -> list[Path]:
    """The database, what is not yet in it, and the journal."""
    found = [path for path in directory.rglob("*") if path.is_file() and ("dwctl.db" in path.name or "journal" in path.parts)]
    assert len(found) > 2
    return found


async def test_of_paths_that_are_passed_on_the_same_is_kept_and_hidden(stage: Stage) -> None:
    stage.provider.says(json.dumps(error_of("openai-chat", f"{WORD} {CREDENTIAL}")).encode())
    async with (
        aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as http,
        http.post(f"{stage.appliance.url}/ai/v1/images/generations", json={"model": "openai-chat", "prompt": "a"}) as answer,
    ):
        body = await answer.text()
    assert (WORD in body, CREDENTIAL in body) == (True, False)
    row = await stage.row(answer.headers["x-request-id"])
    assert (row["outcome"], row["error_code"], WORD in row["explanation"]) == ("failed", "upstream_error", True)
    assert CREDENTIAL not in str(row)


async def test_a_client_is_told_its_providers_code(stage: Stage) -> None:
    """A program may go by it."""
    for said, stream in errors("openai-chat", "context_length_exceeded")[:3]:
        for client, provider in (("openai-chat", "openai-chat"), ("openai-responses", "openai-chat")):
            body, _ = await stage.ask(client, provider, said, stream)  # type: ignore[arg-type]
            assert json.loads(body)["error"]["code"] == "context_length_exceeded"


def unusable(provider: DialectName) -> list[tuple[Said, bool]]:
    """What is no answer, or breaks off before it says anything."""
    broken = b'{"text": "' + WORD.encode()
    event = broken + b"\n" if provider == "ollama" else b"data: " + broken + b"\n\n"
    return [
        ((broken, "200 OK", JSON), False),
        ((f"<html>{WORD}</html>".encode(), "200 OK", "content-type: text/html"), False),
        ((f"<html>{WORD}</html>".encode(), "502 Bad Gateway", "content-type: text/html"), True),
        ((event, "200 OK", stream_type(provider)), True),
    ]


@EVERY_PAIR
async def test_where_no_texts_are_kept_a_record_has_none_of_the_providers(stage: Stage, client: DialectName, provider: DialectName) -> None:
    """Whether the key, or its owner's mark, says so; where they are kept, the record says what the provider said."""
    async with (
        aiohttp.ClientSession(headers={"authorization": f"Bearer {PLATFORM}"}) as http,
        http.patch(f"{stage.appliance.url}/admin/api/v1/users/current", json={"zero_data_retention": True}) as changed,
    ):
        assert changed.status == 200
    asked = [
        (said, key, (await stage.ask(client, provider, said, stream, key))[1])
        for said, stream in errors(provider, WORD) + unusable(provider)
        for key in (KEY, QUIET, PRIVATE)
    ]
    for said, key, request_id in asked:
        row = await stage.row(request_id)
        assert row["outcome"] == "failed"
        if key == KEY:
            assert WORD in row["explanation"], said
        else:
            assert WORD not in str(row), said
            assert re.search(r'"the provider answered with \d+ bytes, which are not kept"', row["explanation"]), row
