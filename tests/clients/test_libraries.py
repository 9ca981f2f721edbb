"""Libraries that people bring, run as they are against the server, before a provider of every dialect."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from dwctl.dialects.names import DIALECTS
from tests.appliance import KEY
from tests.clients.running import PYTHON, run
from tests.e2e.sdks import Sdks, said
from tests.pasted import PACKAGES

HERE = Path(__file__).parent
ASK = "What is it like outside?"
RESULT = "Rain all day"
SAID: dict[str, Any] = {
    "text": {"said": said(ASK), "calls": [], "tokens": [7, 16]},
    "tool": {"said": said(RESULT, 12), "calls": [[ASK, 1]], "tokens": [17, 32]},
    "structured": {"said": {"city": ASK, "degrees": 1}, "calls": [], "tokens": [7, 12]},
}
"""What every library has to make of the simulator's answers."""
APIS = {
    "openai_agents.py": ("chat", "responses"),
    "langchain.py": ("chat", "responses"),
    "pydantic_ai_agent.py": ("chat", "responses", "messages"),
    "ai_sdk.mjs": ("responses", "chat", "compatible", "messages"),
}
REFUSED = {
    ("openai-chat", "openai-responses"): {"test_stop_sequence"},
    **{
        (api, "ollama"): {
            "test_bind_runnables_as_tools",
            "test_structured_few_shot_examples",
            "test_structured_output_pydantic_2_v1",
            "test_tool_calling_with_no_arguments",
            "test_tool_choice",
            "test_unicode_tool_call_integration",
        }
        for api in ("openai-chat", "openai-responses")
    },
}
"""Of LangChain's tests those that ask for what a provider does not have, by API and provider: Responses has no stop sequences, and Ollama
cannot be made to call a tool. The gateway refuses that and says so."""

pytestmark = pytest.mark.long
everywhere = pytest.mark.parametrize("provider", DIALECTS)


@everywhere
@pytest.mark.parametrize("script", APIS)
def test_a_library(programs: Sdks, tmp_path: Path, script: str, provider: str) -> None:
    if script.endswith(".mjs"):  # which looks for its packages from where it is
        (tmp_path / "node_modules").symlink_to(PACKAGES)
        program = ["node", shutil.copy(HERE / script, tmp_path)]
    else:
        program = [PYTHON, HERE / script]
    told = json.loads(run([*program, programs.appliance.url, KEY, provider], tmp_path))
    modes = ("whole", "streamed")
    assert told == {f"{api} {kind} {mode}": what for api in APIS[script] for kind, what in SAID.items() for mode in modes}


@everywhere
@pytest.mark.parametrize("api", ["openai-chat", "openai-responses"])
def test_langchains_own_tests(programs: Sdks, tmp_path: Path, api: str, provider: str) -> None:
    """But those that need a model that thinks."""
    thinking = "test_tool_calling[ or test_tool_calling_async or test_agent_loop or test_json_mode"
    options = ["--noconftest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", HERE, "-k", f"not ({thinking})"]
    loop = ["-o", "asyncio_mode=auto", "-o", "asyncio_default_test_loop_scope=session"]
    command = [PYTHON, "-m", "pytest", "-q", *options, *loop, HERE / "langchain_standard.py"]
    told = run(command, tmp_path, ends=(0, 1), URL=programs.appliance.url, KEY=KEY, API=api, PROVIDER=provider)
    assert set(re.findall(r"^FAILED .*::(\w+)", told, re.MULTILINE)) == REFUSED.get((api, provider), set()), told
    [passed] = re.findall(r"(\d+) passed", told)
    assert int(passed) > 30


def test_the_account(programs: Sdks) -> None:
    programs.check_account()
