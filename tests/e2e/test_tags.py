"""Tags that callers give their requests: through every SDK and dialect, onto the record, and never to a provider."""

import contextlib
import json
import sqlite3
from typing import Any

import openai
import pytest

from dwctl.dialects.names import DIALECTS
from tests.appliance import KEY, until
from tests.e2e.sdks import Sdks
from tests.e2e.speaking import SPEAKERS

pytestmark = pytest.mark.xdist_group("sdks")
everywhere = pytest.mark.parametrize("provider", DIALECTS)

HEADER = "x-dwctl-tags"
MESSAGES: list[Any] = [{"role": "user", "content": "What is it like outside?"}]


def recorded(sdks: Sdks, request_id: str) -> dict[str, Any]:
    """The row of a request, with the tags by which it is found."""

    def look() -> dict[str, Any] | None:
        with contextlib.closing(sqlite3.connect(f"file:{sdks.appliance.data_dir}/dwctl.db?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            row = database.execute("SELECT * FROM requests WHERE id = ?", (request_id,)).fetchone()
            found = database.execute("SELECT tag FROM request_tags JOIN requests USING (seq) WHERE id = ?", (request_id,)).fetchall()
        return None if row is None else {**row, "tags": json.loads(row["tags"] or "[]"), "found_by": {tag for (tag,) in found}}

    found: dict[str, Any] = until(look, 5, f"the row of {request_id}")
    assert found["found_by"] == set(found["tags"])
    return found


def check(sdks: Sdks, tags: list[str]) -> None:
    """The request that the provider was sent last has these tags, and the provider knows nothing of them."""
    sent = sdks.simulator.requests()[-1]
    assert not [name for name, _ in sent["headers"] if name.startswith("x-dwctl")]
    assert HEADER not in json.dumps(sent)
    assert recorded(sdks, sent["id"])["tags"] == tags


@everywhere
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_tags_of_the_openai_sdk(sdks: Sdks, provider: str, stream: bool) -> None:
    client, model = sdks.openai(), f"plain.{provider}"
    headers = {HEADER: "team=search, beta,beta"}
    if stream:
        list(client.chat.completions.create(model=model, messages=MESSAGES, stream=True, extra_headers=headers))
    else:
        client.chat.completions.create(model=model, messages=MESSAGES, extra_headers=headers)
    check(sdks, ["team=search", "beta"])
    client.responses.create(model=model, input="hello", extra_headers={HEADER: "a/b:c"})
    check(sdks, ["a/b:c"])
    client.chat.completions.create(model=model, messages=MESSAGES, extra_headers={HEADER: ""})
    check(sdks, [])


@everywhere
def test_tags_of_the_other_sdks_and_of_embeddings(sdks: Sdks, provider: str) -> None:
    sdks.anthropic().messages.create(
        model=f"plain.{provider}", max_tokens=50, messages=[{"role": "user", "content": "hello"}], extra_headers={HEADER: "checkout"}
    )
    check(sdks, ["checkout"])
    ollama = sdks.ollama()
    ollama._client.headers[HEADER] = "edge"
    ollama.chat(f"plain.{provider}", [{"role": "user", "content": "hello"}])
    check(sdks, ["edge"])
    if provider in ("openai-chat", "ollama"):
        sdks.openai().embeddings.create(model=f"embed.{provider}", input="hello", extra_headers={HEADER: "index"})
        check(sdks, ["index"])


def test_tags_of_paths_that_are_passed_on_and_of_a_header_in_two_lines(sdks: Sdks) -> None:
    http = sdks.http()
    headers = [("authorization", f"Bearer {KEY}"), (HEADER, "one, two"), (HEADER, "three,one")]
    answer = http.post("/ai/v1/rerank", headers=headers, json={"model": "plain.openai-chat", "query": "x", "documents": ["y"]})
    check(sdks, ["one", "two", "three"])
    assert recorded(sdks, answer.headers["x-request-id"])["path"] == "/rerank"
    sdks.answers.clear()  # of a path that no SDK has a type for


@pytest.mark.parametrize("client", DIALECTS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("tags", "said"),
    [(b"two words", "tag 1 is not"), (b"a, caf\xe9", "tag 2 is not"), (b",".join(b"%d" % n for n in range(17)), "at most 16")],
)
def test_wrong_tags_are_refused_in_the_callers_dialect(sdks: Sdks, client: str, stream: bool, tags: bytes, said: str) -> None:
    speaker = SPEAKERS[client]
    before = len(sdks.simulator.served())
    body = speaker.request("plain.openai-chat", "text", stream)
    answer = sdks.http().post(speaker.path, headers=[(b"authorization", f"Bearer {KEY}".encode()), (HEADER.encode(), tags)], json=body)
    assert answer.status_code == 400
    message = speaker.refusal(answer.json())
    assert message.startswith("x-dwctl-tags: ")
    assert said in message
    assert len(sdks.simulator.served()) == before, "the provider was asked"
    row = recorded(sdks, answer.headers["x-request-id"])
    assert (row["outcome"], row["error_code"], row["charge_nano"], row["tags"]) == ("refused", "invalid_tags", None, [])


def test_what_is_refused_later_has_its_tags_and_strangers_are_not_told_of_theirs(sdks: Sdks) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        sdks.openai().chat.completions.create(model="nothing", messages=MESSAGES, extra_headers={HEADER: "lost"})
    assert recorded(sdks, caught.value.response.headers["x-request-id"])["tags"] == ["lost"]
    with pytest.raises(openai.PermissionDeniedError):
        sdks.openai(key="sk-wrong").chat.completions.create(model="plain.ollama", messages=MESSAGES, extra_headers={HEADER: "two words"})
