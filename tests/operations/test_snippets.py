"""The code that pages offer runs as it is shown: copied, executed, answered by a real server."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dwctl.operations.snippets import KEY_VARIABLE, KINDS, Kind, snippets
from tests.appliance import KEY, Appliance, environment, model, running, setup

ODD = 'it\'s "odd" & $HOME \\ 模型'


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    models = [model(ODD, "sim-chat"), model("embed", "sim-embed")]
    with running(tmp_path_factory.mktemp("snippets"), lambda url: setup(url, models)) as (server, _):
        yield server


def execute(language: str, code: str, directory: Path, **variables: str) -> str:
    file = directory / ("snippet.sh" if language == "bash" else "snippet.py")
    file.write_text(code)
    command = ["bash", str(file)] if language == "bash" else [sys.executable, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**variables), timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shown", [True, False], ids=["secret shown", "key from the environment"])
def test_curl_and_python_run_as_shown(appliance: Appliance, tmp_path: Path, kind: Kind, shown: bool) -> None:
    alias = "embed" if kind == "embeddings" else ODD
    curl, python, _ = snippets(f"{appliance.url}/ai/v1/", alias, kind, secret=KEY if shown else None)
    variables = {} if shown else {KEY_VARIABLE: KEY}
    answered = execute(curl.language, curl.code, tmp_path, **variables)
    assert {"chat": '"content"', "stream": "data: [DONE]", "embeddings": '"embedding"'}[kind] in answered
    assert execute(python.language, python.code, tmp_path, **variables).strip()


@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_is_written_out_only_where_it_is_given(kind: Kind) -> None:
    for snippet in snippets("http://localhost:3001/ai/v1", "m", kind):
        assert "sk-" not in snippet.code
        assert KEY_VARIABLE in snippet.code
    for snippet in snippets("http://localhost:3001/ai/v1", "m", kind, secret="sk-secret"):
        assert "sk-secret" in snippet.code
        assert KEY_VARIABLE not in snippet.code
