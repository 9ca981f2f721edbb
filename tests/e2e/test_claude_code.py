"""What Claude Code sends, as it was recorded: a question whether anybody is there, then everything at once."""

import http.client
import json
from typing import Any

import httpx
import pytest

from dwctl.dialects.names import DIALECTS
from tests.appliance import KEY
from tests.e2e.sdks import Sdks, said

LAST = "Write a test."
BETAS = "claude-code-20250219,context-management-2025-06-27,interleaved-thinking-2025-05-14"


def request(model: str, stream: bool) -> dict[str, Any]:
    """A request of 70 kB and more, with all that the API's reference does not have, or has as a beta."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "An absolute path. " * 20, "minLength": 1},
            "lines": {"type": "array", "items": {"type": "integer", "exclusiveMinimum": 0}, "maxItems": 9},
            "mode": {"type": "string", "enum": ["read", "write"], "default": "read"},
        },
        "required": ["path"],
        "additionalProperties": False,
    }
    tools = [{"name": f"Tool{number}", "description": "What it does, at length. " * 100, "input_schema": schema} for number in range(24)]
    cache = {"type": "ephemeral", "ttl": "1h"}
    return {
        "model": model,
        "max_tokens": 32_000,
        "stream": stream,
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1"},
            {"type": "text", "text": "You are a coding agent.", "cache_control": cache},
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "<system-reminder>The date.</system-reminder>"}]},
            {"role": "system", "content": [{"type": "text", "text": "The user has opened a file."}]},
            {"role": "user", "content": [{"type": "text", "text": LAST, "cache_control": cache}]},
        ],
        "tools": tools,
        "metadata": {"user_id": json.dumps({"device_id": "d" * 64, "session_id": "s"})},
        "thinking": {"type": "adaptive", "display": "summarized"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
    }


@pytest.mark.parametrize("path", ["/", "/ai", "/ai/"])
def test_is_anybody_there(sdks: Sdks, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", sdks.appliance.port, timeout=5)
    connection.request("HEAD", path, headers={"user-agent": "Bun/1.3", "accept": "*/*"})
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    connection.close()


@pytest.mark.parametrize("provider", DIALECTS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("root", ["", "/ai"])
def test_everything_at_once(sdks: Sdks, provider: str, stream: bool, root: str) -> None:
    body = json.dumps(request(f"plain.{provider}", stream)).encode()
    assert len(body) > 70_000
    headers = {
        "x-api-key": KEY,
        "anthropic-version": "2023-06-01",
        "anthropic-beta": BETAS,
        "content-type": "application/json",
        "user-agent": "claude-cli/2.1.0 (external, cli)",
        "x-stainless-lang": "js",
        "x-app": "cli",
    }
    with sdks.http() as client:
        answer = client.post(f"{root}/v1/messages?beta=true", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert said(LAST) in "".join(_texts(answer, stream))
    sent = json.dumps(sdks.asked()[-1])
    assert all(f"Tool{number}" in sent for number in range(24))
    assert "The user has opened a file." in sent


def _texts(answer: httpx.Response, stream: bool) -> list[str]:
    if not stream:
        return [block["text"] for block in answer.json()["content"] if block["type"] == "text"]
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    return [event["delta"]["text"] for event in events if event.get("delta", {}).get("type") == "text_delta"]


@pytest.mark.parametrize("provider", DIALECTS)
def test_the_betas_of_the_sdk(sdks: Sdks, provider: str) -> None:
    client = sdks.anthropic()
    asked = request(f"tool.{provider}", False)
    answer: Any = client.beta.messages.create(**asked, betas=BETAS.split(","))
    assert (answer.stop_reason, answer.content[-1].input["path"]) == ("tool_use", LAST)
    assert isinstance(
        client.messages.count_tokens(model=asked["model"], messages=asked["messages"], tools=asked["tools"]).input_tokens, int
    )


def test_the_account(sdks: Sdks) -> None:
    sdks.check_account()
