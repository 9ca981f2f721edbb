"""Coding agents, run as people run them, before a provider of every dialect: they use a tool and come to an end."""

import json
from pathlib import Path
from typing import Any

import pytest

from dwctl.dialects.names import DIALECTS
from tests.appliance import KEY
from tests.clients.running import run
from tests.e2e.sdks import Sdks, said
from tests.pasted import PACKAGES

pytestmark = pytest.mark.long
everywhere = pytest.mark.parametrize("provider", DIALECTS)


def events(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


def claude(programs: Sdks, directory: Path, model: str, prompt: str, *options: str) -> list[dict[str, Any]]:
    """The events of one run."""
    command = ["node", PACKAGES / "@anthropic-ai" / "claude-code" / "cli-wrapper.cjs", "--print", prompt, "--model", model]
    printed = run(
        [*command, "--output-format", "stream-json", "--verbose", *options],
        directory,
        ANTHROPIC_BASE_URL=programs.appliance.url,
        ANTHROPIC_API_KEY=KEY,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
    )
    told = events(printed)
    assert (told[-1]["type"], told[-1]["subtype"], told[-1]["is_error"]) == ("result", "success", False)
    return told


@everywhere
def test_claude_code_with_all_its_tools(programs: Sdks, tmp_path: Path, provider: str) -> None:
    told = claude(programs, tmp_path, f"plain.{provider}", "Write a test.")
    assert len(told[0]["tools"]) > 15
    assert len(told[-1]["result"].split(" ")) == told[-1]["usage"]["output_tokens"] == 16


@everywhere
def test_claude_code_uses_a_tool(programs: Sdks, tmp_path: Path, provider: str) -> None:
    """The model has the one tool write a file."""
    options = ("--tools", "Write", "--permission-mode", "acceptEdits")
    told = claude(programs, tmp_path, f"agent.{provider}", str(tmp_path / "made.txt"), *options)
    blocks = [block for event in told if event["type"] in ("assistant", "user") for block in event["message"]["content"]]
    [call] = [block for block in blocks if block["type"] == "tool_use"]
    [result] = [block for block in blocks if block["type"] == "tool_result"]
    assert not result.get("is_error")
    assert (tmp_path / call["input"]["file_path"]).read_text() == call["input"]["content"]
    assert told[-1]["num_turns"] == 2
    assert told[-1]["result"] == said(result["content"], 12)
    assert told[-1]["usage"]["output_tokens"] == 32


@everywhere
def test_codex(programs: Sdks, tmp_path: Path, provider: str) -> None:
    """The model has the prompt run as a command. Of the tools, those that OpenAI runs itself are left out."""
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / "config.toml").write_text(f"""
model = "agent.{provider}"
model_provider = "gateway"
web_search = "disabled"
[model_providers.gateway]
name = "gateway"
base_url = "{programs.appliance.url}/v1"
wire_api = "responses"
env_key = "GATEWAY_KEY"
request_max_retries = 0
stream_max_retries = 0
""")
    command = ["node", PACKAGES / "@openai" / "codex" / "bin" / "codex.js", "exec", "--skip-git-repo-check", "--json"]
    printed = run([*command, "--sandbox", "danger-full-access", "echo made > made.txt"], tmp_path, GATEWAY_KEY=KEY)
    assert (tmp_path / "made.txt").read_text() == "made\n"
    told = events(printed)
    [ran] = [event["item"] for event in told if event["type"] == "item.completed" and event["item"]["type"] == "command_execution"]
    assert (ran["status"], ran["exit_code"]) == ("completed", 0)
    [answer] = [event["item"]["text"] for event in told if event["type"] == "item.completed" and event["item"]["type"] == "agent_message"]
    assert len(answer.split(" ")) == 12
    assert told[-1]["type"] == "turn.completed"
    usage = told[-1]["usage"]
    assert (usage["output_tokens"], usage["reasoning_output_tokens"]) == (32, 0 if provider == "ollama" else 8)


def test_the_account(programs: Sdks) -> None:
    programs.check_account()
