"""The same question in each dialect, over a plain HTTP client, and what the answers say when they are read strictly.

`Said` is an answer apart from its dialect. Every JSON body and every event is held against the SDKs' own types first.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from anthropic.types import Message, RawMessageStreamEvent
from ollama import ChatResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from dwctl.simulator import Simulator

DIALECTS = ("chat", "responses", "anthropic", "ollama")
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "anthropic": "/v1/messages", "ollama": "/api/chat"}
TEXT = "Say  something nice\nabout café 東京"
PROMPT_TOKENS = 6
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
EVENTS: dict[str, TypeAdapter[Any]] = {
    "chat": TypeAdapter(ChatCompletionChunk),
    "responses": TypeAdapter(ResponseStreamEvent),
    "anthropic": TypeAdapter(RawMessageStreamEvent),
    "ollama": TypeAdapter(ChatResponse),
}
BODIES: dict[str, TypeAdapter[Any]] = {
    "chat": TypeAdapter(ChatCompletion),
    "responses": TypeAdapter(Response),
    "anthropic": TypeAdapter(Message),
    "ollama": TypeAdapter(ChatResponse),
}


@dataclass
class Said:
    """What an answer says."""

    text: str = ""
    thinking: str = ""
    refusal: str = ""
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    """Id, name and arguments of each."""
    stop: str | None = None
    """As the dialect calls it."""
    usage: tuple[int, int] | None = None
    """Prompt and completion tokens, those of a cache among the prompt's."""


def question(dialect: str, model: str, *, stream: bool = False, tools: int = 0, limit: int | None = None, **more: Any) -> dict[str, Any]:
    """A request body: one user message of `PROMPT_TOKENS` words, and tools named ``tool_0`` and so on."""
    body: dict[str, Any] = {"model": model, "stream": stream, **more}
    names = [f"tool_{number}" for number in range(tools)]
    message = {"role": "user", "content": TEXT}
    if dialect == "responses":
        body = {"input": [message], "reasoning": {"summary": "auto"}, **body}
        if limit is not None:
            body["max_output_tokens"] = limit
    elif dialect == "ollama":
        body["messages"] = [message]
        if limit is not None:
            body["options"] = {"num_predict": limit}
    else:
        body["messages"] = body.get("messages", [message])
        if limit is not None or dialect == "anthropic":
            body["max_tokens"] = limit or 4096
    if dialect == "chat" and stream:
        body["stream_options"] = {"include_usage": True}
    if tools and dialect == "anthropic":
        body["tools"] = [{"name": name, "input_schema": SCHEMA} for name in names]
    elif tools and dialect == "responses":
        body["tools"] = [{"type": "function", "name": name, "parameters": SCHEMA, "strict": False} for name in names]
    elif tools:
        body["tools"] = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in names]
    return body


async def post(provider: Simulator, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer."""
    sent = {"authorization": "Bearer sk-test", "content-type": "application/json", "anthropic-version": "2023-06-01", **(headers or {})}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
        async with session.post(provider.url.removesuffix("/v1") + path, data=data, headers=sent) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.read()


async def ask(provider: Simulator, dialect: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Said:
    """What the answer to a request says. It is complete, and fits the SDK's types."""
    status, _, data = await post(provider, PATHS[dialect], body, headers)
    assert status == 200, data
    if body["stream"]:
        return STREAMS[dialect](events(dialect, data))
    BODIES[dialect].validate_json(data)
    return WHOLES[dialect](json.loads(data))


def events(dialect: str, data: bytes) -> list[Any]:
    """The events of a stream, each of which fits the SDK's types; the name of each is its payload's type."""
    if dialect == "ollama":
        found = [json.loads(line) for line in data.splitlines()]
    else:
        found = []
        blocks = data.decode().split("\n\n")
        assert blocks.pop() == ""
        if dialect == "chat":
            assert blocks.pop() == "data: [DONE]"
        for block in blocks:
            *name, payload = block.split("\n")
            found.append(json.loads(payload.removeprefix("data: ")))
            assert name == ([] if dialect == "chat" else [f"event: {found[-1]['type']}"])
    for event in found:
        if event.get("type") != "ping":
            EVENTS[dialect].validate_python(event)
    return found


def _chat(body: dict[str, Any]) -> Said:
    choice = body["choices"][0]
    message = choice["message"]
    calls = [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", [])]
    usage = (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"])
    thinking = message.get("reasoning_content") or ""
    return Said(message["content"] or "", thinking, message["refusal"] or "", calls, choice["finish_reason"], usage)


def _chat_stream(chunks: list[Any]) -> Said:
    said, calls = Said(), dict[int, list[str]]()
    for chunk in chunks:
        if chunk["usage"]:
            said.usage = (chunk["usage"]["prompt_tokens"], chunk["usage"]["completion_tokens"])
        for choice in chunk["choices"]:
            delta = choice["delta"]
            said.text += delta.get("content") or ""
            said.thinking += delta.get("reasoning_content") or ""
            said.refusal += delta.get("refusal") or ""
            said.stop = choice["finish_reason"] or said.stop
            for call in delta.get("tool_calls", []):
                if "id" in call:
                    calls[call["index"]] = [call["id"], call["function"]["name"], ""]
                calls[call["index"]][2] += call["function"]["arguments"]
    said.calls = [(call[0], call[1], call[2]) for call in calls.values()]
    return said


def _responses(body: dict[str, Any]) -> Said:
    said = Said(stop=(body["incomplete_details"] or {}).get("reason", body["status"]))
    said.usage = (body["usage"]["input_tokens"], body["usage"]["output_tokens"])
    for item in body["output"]:
        if item["type"] == "reasoning":
            said.thinking += "".join(part["text"] for part in item["summary"])
        elif item["type"] == "function_call":
            said.calls.append((item["call_id"], item["name"], item["arguments"]))
        else:
            said.text += "".join(part.get("text", "") for part in item["content"])
            said.refusal += "".join(part.get("refusal", "") for part in item["content"])
    return said


def _responses_stream(found: list[Any]) -> Said:
    """Put together from the deltas, and the same as the resource at the end."""
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert [event["type"] for event in found[:2]] == ["response.created", "response.in_progress"]
    said, calls = Said(), dict[str, list[str]]()
    for event in found:
        match event["type"]:
            case "response.output_text.delta":
                said.text += event["delta"]
            case "response.reasoning_summary_text.delta":
                said.thinking += event["delta"]
            case "response.refusal.delta":
                said.refusal += event["delta"]
            case "response.output_item.added" if event["item"]["type"] == "function_call":
                calls[event["item"]["id"]] = [event["item"]["call_id"], event["item"]["name"], ""]
            case "response.function_call_arguments.delta":
                calls[event["item_id"]][2] += event["delta"]
    said.calls = [(call[0], call[1], call[2]) for call in calls.values()]
    last = _responses(found[-1]["response"])
    assert [event["item"] for event in found if event["type"] == "response.output_item.done"] == found[-1]["response"]["output"]
    said.stop, said.usage = last.stop, last.usage
    assert said == last
    return said


def _anthropic(body: dict[str, Any]) -> Said:
    said = Said(stop=body["stop_reason"], usage=_counted(body["usage"]))
    for block in body["content"]:
        if block["type"] == "text":
            said.text += block["text"]
        elif block["type"] == "thinking":
            said.thinking += block["thinking"]
        elif block["type"] == "tool_use":
            said.calls.append((block["id"], block["name"], json.dumps(block["input"], ensure_ascii=False, separators=(",", ":"))))
    return said


def _anthropic_stream(found: list[Any]) -> Said:
    """Blocks one after the other, each started once and stopped once."""
    assert (found[0]["type"], found[-2]["type"], found[-1]["type"]) == ("message_start", "message_delta", "message_stop")
    assert found[0]["message"]["content"] == []
    said, open_block, blocks = Said(), None, 0
    for event in found[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert (open_block, event["index"]) == (None, blocks)
                open_block, blocks = event["index"], blocks + 1
                if event["content_block"]["type"] == "tool_use":
                    assert event["content_block"]["input"] == {}
                    said.calls.append((event["content_block"]["id"], event["content_block"]["name"], ""))
            case "content_block_stop":
                assert open_block == event["index"]
                open_block = None
            case "content_block_delta":
                assert open_block == event["index"]
                delta = event["delta"]
                said.text += delta.get("text", "")
                said.thinking += delta.get("thinking", "")
                if delta["type"] == "input_json_delta":
                    identity, name, arguments = said.calls[-1]
                    said.calls[-1] = (identity, name, arguments + delta["partial_json"])
    assert open_block is None
    said.stop, said.usage = found[-2]["delta"]["stop_reason"], _counted(found[-2]["usage"])
    assert found[0]["message"]["usage"]["input_tokens"] == found[-2]["usage"]["input_tokens"]
    return said


def _counted(usage: dict[str, Any]) -> tuple[int, int]:
    prompt = usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"]
    return prompt, usage["output_tokens"]


def _ollama(body: dict[str, Any]) -> Said:
    return _ollama_stream([body])


def _ollama_stream(lines: list[Any]) -> Said:
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    said = Said(stop=lines[-1]["done_reason"], usage=(lines[-1]["prompt_eval_count"], lines[-1]["eval_count"]))
    for line in lines:
        said.text += line["message"]["content"]
        said.thinking += line["message"].get("thinking", "")
        for call in line["message"].get("tool_calls", []):
            arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False, separators=(",", ":"))
            said.calls.append((call["id"], call["function"]["name"], arguments))
    return said


WHOLES = {"chat": _chat, "responses": _responses, "anthropic": _anthropic, "ollama": _ollama}
STREAMS = {"chat": _chat_stream, "responses": _responses_stream, "anthropic": _anthropic_stream, "ollama": _ollama_stream}
