"""Requests that the real provider refuses are refused, in its words; and those that look like them are not."""

import json
from typing import Any

import aiohttp
import anthropic
import ollama
import openai
import pytest

from dwctl.simulator import Simulator
from tests.simulator.asking import PATHS, SCHEMA, post, question

USER = {"role": "user", "content": "hi"}
CHAT_CALL = {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
TOOL_USE = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "ok"}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "ok"}
SAID = {"type": "text", "text": "hm"}
TEXTUAL = {"name": "f", "arguments": "{}"}
THOUGHT = {"type": "thinking", "thinking": "", "signature": "AAAA"}

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("chat", {"messages": [{"role": "robot", "content": "hi"}]}, "robot"),
    ("chat", {"messages": []}, "empty array"),
    ("chat", {"messages": None}, "'messages'"),
    ("chat", {"messages": [{"role": "user", "content": None}]}, "expected a string, got null"),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]}, "'input_text'"),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:"}]}]}, "image_url"),
    ("chat", {"messages": [USER, {"role": "tool", "content": "ok", "tool_call_id": "c1"}]}, "preceeding message with 'tool_calls'"),
    ("chat", {"messages": [USER, CHAT_CALL, {"role": "tool", "content": "ok"}]}, "tool_call_id"),
    ("chat", {"messages": [USER, CHAT_CALL, USER]}, "did not have response messages: c1"),
    ("chat", {"messages": [USER, CHAT_CALL]}, "did not have response messages: c1"),
    ("chat", {"tools": [{"type": "function", "name": "f"}]}, "tools[0].function"),
    ("chat", {"tool_choice": "auto"}, "only allowed when 'tools'"),
    ("chat", {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": {"type": "function", "name": "f"}}, "tool_choice"),
    ("chat", {"response_format": {"type": "json_schema", "schema": {}}}, "response_format.json_schema"),
    ("chat", {"top_logprobs": 3, "logprobs": False, "stop": "x"}, "logprobs"),
    ("chat", {"model": "sim-chat?strict=1", "top_k": 5}, "Unrecognized request argument supplied: top_k"),
    ("responses", {"messages": [USER]}, "Unknown parameter: 'messages'"),
    ("responses", {"max_tokens": 100}, "Unknown parameter: 'max_tokens'"),
    ("responses", {"input": None}, "Missing required parameter: 'input'"),
    ("responses", {"max_output_tokens": 5}, "Expected a value >= 16"),
    ("responses", {"input": [{"role": "tool", "content": "ok"}]}, "Invalid value: 'tool'"),
    ("responses", {"input": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, "Invalid value: 'text'"),
    ("responses", {"input": [{"role": "assistant", "content": [{"type": "input_text", "text": "hi"}]}]}, "'output_text'"),
    ("responses", {"input": [{"role": "user", "content": "hi", "name": "bob"}]}, "input[0].name"),
    ("responses", {"input": [USER, CALL]}, "No tool output found for function call c1"),
    ("responses", {"input": [USER, OUTPUT]}, "No tool call found for function call output with call_id c1"),
    ("responses", {"input": [{**CALL, "arguments": {}}, OUTPUT]}, "expected a string, but got an object"),
    ("responses", {"input": [{**CALL, "id": "call_9"}, OUTPUT]}, "begins with 'fc'"),
    ("responses", {"input": [USER, {"type": "reasoning", "id": "rs_1", "summary": []}, USER]}, "required following item"),
    ("responses", {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name"),
    ("responses", {"stream_options": {"include_usage": True}}, "stream_options.include_usage"),
    ("responses", {"text": {"format": {"type": "json_schema", "json_schema": {}}}}, "text.format.name"),
    ("responses", {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}}}, "additionalProperties"),
    ("responses", {"previous_response_id": "resp_1"}, "not found"),
    ("anthropic", {"max_tokens": None}, "max_tokens"),
    ("anthropic", {"n": 1}, "n: Extra inputs are not permitted"),
    ("anthropic", {"context_management": {}}, "context_management: Extra inputs are not permitted"),
    ("anthropic", {"messages": [{"role": "tool", "content": "ok"}]}, "messages.0.role"),
    ("anthropic", {"messages": [{"role": "user", "content": ""}]}, "non-empty content"),
    ("anthropic", {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "text content blocks must be non-empty"),
    ("anthropic", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "Input tag 'image_url'"),
    ("anthropic", {"messages": [{**USER, "name": "bob"}]}, "messages.0.name: Extra inputs are not permitted"),
    ("anthropic", {"messages": [USER, {"role": "assistant", "content": "so "}]}, "trailing whitespace"),
    ("anthropic", {"messages": [USER, TOOL_USE, USER]}, "without `tool_result` blocks immediately after: t1"),
    ("anthropic", {"messages": [USER, TOOL_USE]}, "without `tool_result` blocks immediately after: t1"),
    ("anthropic", {"messages": [USER, {"role": "user", "content": [RESULT]}]}, "unexpected `tool_use_id`"),
    ("anthropic", {"messages": [USER, TOOL_USE, {"role": "user", "content": [SAID, RESULT]}]}, "immediately after"),
    ("anthropic", {"messages": [USER, TOOL_USE, {"role": "user", "content": [RESULT, RESULT]}]}, "single result"),
    ("anthropic", {"messages": [USER, {"role": "assistant", "content": [THOUGHT]}]}, "Invalid `signature` in `thinking` block"),
    ("anthropic", {"tools": [{"name": "f", "parameters": {}}]}, "input_schema: Field required"),
    ("anthropic", {"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}, "should match pattern"),
    ("anthropic", {"tool_choice": {"type": "auto"}}, "while providing tools"),
    ("anthropic", {"tool_choice": "auto"}, "tool_choice"),
    ("anthropic", {"thinking": {"type": "enabled", "budget_tokens": 100}}, "greater than or equal to 1024"),
    ("anthropic", {"thinking": {"type": "enabled", "budget_tokens": 9000}}, "`max_tokens` must be greater"),
    ("anthropic", {"temperature": 1.5}, "range: 0..1"),
    ("anthropic", {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}, "'additionalProperties' must be"),
    ("anthropic", {"metadata": {"team": "x"}}, "metadata.team"),
    ("ollama", {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, "cannot unmarshal array"),
    ("ollama", {"messages": [{"role": "developer", "content": "hi"}]}, "invalid role"),
    ("ollama", {"messages": [{"role": "assistant", "tool_calls": [{"function": TEXTUAL}]}]}, "cannot unmarshal string"),
    ("ollama", {"messages": [{**USER, "images": ["data:image/png;base64,AAAA"]}]}, "illegal base64 data"),
    ("ollama", {"format": "json_object"}, "invalid format"),
    ("ollama", {"options": {"num_predict": "ten"}}, "must be of type integer"),
    ("ollama", {"think": "very"}, "invalid think value"),
]  # fmt: skip

TAKEN: list[tuple[str, dict[str, Any]]] = [
    ("chat", {"messages": [USER, CHAT_CALL, {"role": "tool", "content": [{"type": "text", "text": "ok"}], "tool_call_id": "c1"}]}),
    ("chat", {"top_k": 5, "messages": [{"role": "developer", "content": "hi"}, USER, {"role": "assistant", "content": "so "}]}),
    ("responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}, CALL, OUTPUT]}),
    ("responses", {"input": [{"role": "assistant", "content": "so"}, USER], "client_metadata": {}}),
    ("anthropic", {"messages": [USER, TOOL_USE, {"role": "user", "content": [RESULT, {"type": "text", "text": "hm"}]}]}),
    ("anthropic", {"messages": [USER, TOOL_USE, {"role": "user", "content": [RESULT]}, USER, {"role": "system", "content": "be brief"}]}),
    ("anthropic", {"messages": [{"role": "assistant", "content": "hello"}, USER], "temperature": 0.5, "max_tokens": 0}),
    ("ollama", {"messages": [{"role": "tool", "content": "ok", "tool_name": "f"}], "unheard_of": 1, "think": "high"}),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "change", "words"), REFUSED, ids=lambda value: str(value)[:50])
async def test_what_the_provider_refuses(provider: Simulator, dialect: str, change: dict[str, Any], words: str) -> None:
    status, _, data = await post(provider, PATHS[dialect], {**question(dialect, "sim-chat"), **change})
    body = json.loads(data)
    error = body["error"]
    assert (status, words in (error if dialect == "ollama" else error["message"])) == (400, True), body
    if dialect == "anthropic":
        assert (body["type"], error["type"]) == ("error", "invalid_request_error")
    elif dialect != "ollama":
        assert error["type"] == "invalid_request_error"
    assert provider.served.asked == 0


@pytest.mark.parametrize(("dialect", "change"), TAKEN, ids=lambda value: str(value)[:50])
async def test_what_the_provider_takes(provider: Simulator, dialect: str, change: dict[str, Any]) -> None:
    status, _, data = await post(provider, PATHS[dialect], {**question(dialect, "sim-chat"), **change})
    assert status == 200, data


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"temperature": 1}, "temperature: Extra inputs are not permitted"),
        ({"messages": [USER, {"role": "assistant", "content": [{"type": "document", "source": {"type": "url", "url": "x"}}]}]}, "document"),
    ],
)
async def test_what_anthropics_newest_version_no_longer_takes(provider: Simulator, change: dict[str, Any], words: str) -> None:
    body = {**question("anthropic", "sim-chat"), **change}
    assert (await post(provider, "/v1/messages", body))[0] == 200
    status, _, data = await post(provider, "/v1/messages", body, {"anthropic-version": "2026-10-21"})
    assert (status, words in data.decode()) == (400, True)


async def test_anthropic_wants_a_version_and_takes_either_key(provider: Simulator) -> None:
    body = question("anthropic", "sim-chat")
    async with aiohttp.ClientSession() as session:
        async with session.post(provider.url + "/messages", json=body, headers={"x-api-key": "sk-test"}) as answer:
            assert (answer.status, "anthropic-version: header is required" in await answer.text()) == (400, True)
        headers = {"x-api-key": "sk-test", "anthropic-version": "2023-06-01"}
        async with session.post(provider.url + "/messages", json=body, headers=headers) as answer:
            assert answer.status == 200
        async with session.post(provider.url + "/messages", json=body, headers={**headers, "x-api-key": "no"}) as answer:
            assert (answer.status, (await answer.json())["error"]["type"]) == (401, "authentication_error")


# what is given away comes back as it was -----------------------------------------------------------------------------------------------


@pytest.fixture
async def claude(provider: Simulator) -> Any:
    async with anthropic.AsyncAnthropic(base_url=provider.url.removesuffix("/v1"), api_key="sk-test", max_retries=0) as client:
        yield client


@pytest.fixture
async def client(provider: Simulator) -> Any:
    async with openai.AsyncOpenAI(base_url=provider.url, api_key="sk-test", max_retries=0, timeout=10) as opened:
        yield opened


@pytest.mark.parametrize("model", ["sim-tool?thinking=4", "sim-tool?thinking=4&redacted=1"])
async def test_anthropics_thinking_comes_back_unaltered(claude: anthropic.AsyncAnthropic, model: str) -> None:
    tools: Any = [{"name": "weather", "input_schema": SCHEMA}]
    messages: Any = [{"role": "user", "content": "What is the weather?"}]
    async with claude.messages.stream(model=model, max_tokens=4000, messages=messages, tools=tools) as stream:
        answer = await stream.get_final_message()
    use = answer.content[-1]
    assert use.type == "tool_use"
    assert use.input == {"city": "What is the weather?", "days": 1}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}]}
    thinking = {"type": "adaptive"}
    again: Any = {"model": model, "max_tokens": 4000, "tools": tools, "thinking": thinking}
    final = await claude.messages.create(messages=[*messages, answer.to_param(), result], **again)
    assert (final.stop_reason, final.content[-1].type) == ("end_turn", "text")
    blocks: Any = [block.model_dump(exclude_none=True) for block in answer.content]
    altered = [{**blocks[0], **({"thinking": "other"} if blocks[0]["type"] == "thinking" else {"data": "AAAA"})}, *blocks[1:]]
    for content in (altered, [*blocks[1:], blocks[0]]):
        with pytest.raises(anthropic.BadRequestError):
            await claude.messages.create(messages=[*messages, {"role": "assistant", "content": content}, result], **again)


async def test_encrypted_reasoning_comes_back_unaltered(client: openai.AsyncOpenAI) -> None:
    tools: Any = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]
    settings: Any = {
        "model": "sim-tool?thinking=4",
        "tools": tools,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"summary": "auto"},
    }
    async with client.responses.stream(input="What is the weather?", **settings) as stream:
        async for _ in stream:
            pass
        answer = await stream.get_final_response()
    assert [item.type for item in answer.output] == ["reasoning", "function_call"]
    items: Any = [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in answer.output]
    output = {"type": "function_call_output", "call_id": items[1]["call_id"], "output": "sunny"}
    asked: Any = [{"role": "user", "content": "What is the weather?"}, *items, output]
    assert (await client.responses.create(input=asked, **settings)).output_text
    asked[1] = {**items[0], "encrypted_content": items[0]["encrypted_content"][:-8] + "AAAAAAAA"}
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(input=asked, **settings)
    assert caught.value.code == "invalid_encrypted_content"


async def test_the_sdks_read_lists_and_counts_and_embeddings(provider: Simulator, claude: anthropic.AsyncAnthropic) -> None:
    page = await claude.models.list(limit=4)
    assert (page.has_more, page.first_id, page.last_id) == (True, "sim-chat", "sim-image")
    assert len([model.id async for model in page]) == 6
    assert (await claude.models.retrieve("sim-chat")).display_name == "sim-chat"
    counted = await claude.messages.count_tokens(model="sim-chat", system="a b", messages=[{"role": "user", "content": "c d e"}])
    assert counted.input_tokens == 5
    with pytest.raises(anthropic.OverloadedError if hasattr(anthropic, "OverloadedError") else anthropic.InternalServerError):
        await claude.messages.create(model="sim-529", max_tokens=5, messages=[{"role": "user", "content": "hi"}])
    local = ollama.AsyncClient(host=provider.url.removesuffix("/v1"), headers={"authorization": "Bearer sk-test"})
    assert [model.model for model in (await local.list()).models][:2] == ["sim-chat", "sim-embed"]
    assert "tools" in ((await local.show("sim-chat")).capabilities or [])
    embedded = await local.embed(model="sim-embed", input=["a b", "c"])
    assert (len(embedded.embeddings), embedded.prompt_eval_count) == (2, 3)
    generated = await local.generate(model="sim-chat?thinking=3", prompt="hello", think=False)
    assert (generated.thinking, generated.eval_count, generated.done_reason) == (None, 16, "stop")
    with pytest.raises(ollama.ResponseError) as caught:
        await local.chat(model="none", messages=[{"role": "user", "content": "hi"}])
    assert (caught.value.status_code, caught.value.error) == (404, "model 'none' not found")


async def test_a_failed_response_says_so(client: openai.AsyncOpenAI) -> None:
    failed = await client.responses.create(model="sim-failed", input="hi")
    assert (failed.status, failed.error and failed.error.code) == ("failed", "server_error")
    stream = await client.responses.create(model="sim-failed", input="hi", stream=True)
    assert [event.type async for event in stream][-1] == "response.failed"


# a chat's own ---------------------------------------------------------------------------------------------------------------------------


async def test_interleaved_calls_logprobs_and_vllms_stop_reason(client: openai.AsyncOpenAI) -> None:
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
    messages: Any = [USER]
    stream = await client.chat.completions.create(model="sim-chat?calls=2&interleaved=1", messages=messages, tools=tools, stream=True)
    chunks = [chunk async for chunk in stream]
    order = [call.index for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
    assert order[:6] == [0, 1, 0, 1, 0, 1]
    answer = await client.chat.completions.create(
        model="sim-chat", messages=messages, n=2, logprobs=True, top_logprobs=2, service_tier="auto"
    )
    logprobs = answer.choices[1].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert "".join(entry.token for entry in logprobs.content) == answer.choices[1].message.content
    assert [len(entry.top_logprobs) for entry in logprobs.content] == [2] * 16
    assert answer.service_tier == "default"
    content = answer.choices[0].message.content or ""
    stopped = await client.chat.completions.create(model="sim-chat?vllm=1", messages=messages, stop=content.split(" ")[3])
    assert (stopped.choices[0].model_extra or {})["stop_reason"] == content.split(" ")[3]


@pytest.mark.parametrize("spelling", ["reasoning_content", "reasoning", "both", "reasoning_details"])
async def test_the_spellings_of_a_chats_thinking(client: openai.AsyncOpenAI, spelling: str) -> None:
    answer = await client.chat.completions.create(
        model=f"sim-chat?thinking=3&reasoning_as={spelling}", messages=[{"role": "user", "content": "hi"}]
    )
    found = answer.choices[0].message.model_extra or {}
    assert set(found) == ({"reasoning_content", "reasoning"} if spelling == "both" else {spelling})
    if spelling == "reasoning_details":
        assert found[spelling][0]["type"] == "reasoning.text"


@pytest.mark.parametrize(
    ("path", "field", "depth"),
    [
        *(("/v1/completions", "prompt", 900), ("/v1/embeddings", "input", 900), ("/v1/rerank", "documents", 900)),
        *(("/v1/completions", "prompt", 5000), ("/v1/chat/completions", "messages", 5000), ("/v1/responses", "input", 5000)),
        *(("/v1/messages", "messages", 5000), ("/api/chat", "messages", 5000)),
    ],
)
async def test_what_is_nested_too_deeply_is_refused(provider: Simulator, path: str, field: str, depth: int) -> None:
    body = b'{"model":"sim-chat","max_tokens":5,"query":"x","%s":%s"x"%s}' % (field.encode(), b"[" * depth, b"]" * depth)
    status, _, answer = await post(provider, path, body)
    assert status == 400, answer
