"""The code that pages offer runs as it is shown: copied, executed, answered by a real server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dwctl.operations.snippets import KEY_VARIABLE, KINDS, Kind, snippets
from tests.appliance import KEY, Appliance, model, running, setup
from tests.pasted import execute

ODD = 'it\'s "odd" & $HOME \\ 模型'


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    models = [model(ODD, "sim-chat"), model("embed", "sim-embed")]
    with running(tmp_path_factory.mktemp("snippets"), lambda url: setup(url, models)) as (server, _):
        yield server


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shown", [True, False], ids=["secret shown", "key from the environment"])
@pytest.mark.parametrize("title", ["curl", "Python", "Anthropic", pytest.param("JavaScript", marks=pytest.mark.long)])
def test_code_runs_as_shown(appliance: Appliance, tmp_path: Path, kind: Kind, shown: bool, title: str) -> None:
    alias = "embed" if kind == "embeddings" else ODD
    secret = KEY if shown else None
    offered = {found.title: found for found in snippets(f"{appliance.url}/ai/v1/", alias, kind, secret=secret)}
    assert ("Anthropic" in offered) == (kind != "embeddings")  # which it does not have
    if (snippet := offered.get(title)) is None:
        return
    variables = {} if shown else {KEY_VARIABLE: KEY}
    answered = execute(snippet.language, snippet.code, tmp_path, **variables)
    assert answered.strip()
    if title == "curl":
        assert {"chat": '"content"', "stream": "data: [DONE]", "embeddings": '"embedding"'}[kind] in answered


@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_is_written_out_only_where_it_is_given(kind: Kind) -> None:
    for snippet in snippets("http://localhost:3001/ai/v1", "m", kind):
        assert "sk-" not in snippet.code
        assert KEY_VARIABLE in snippet.code
    for snippet in snippets("http://localhost:3001/ai/v1", "m", kind, secret="sk-secret"):
        assert "sk-secret" in snippet.code
        assert KEY_VARIABLE not in snippet.code
