"""What clients of the four dialects write and understand, in literal words of their own: none of it is dwctl's."""

import json
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.dialects.anthropic.machine import Machine as AnthropicMachine
from tests.dialects.chat.machine import Machine as ChatMachine
from tests.dialects.ollama.machine import Machine as OllamaMachine
from tests.dialects.responses.machine import Machine as ResponsesMachine
from tests.dialects.responses.machine import check_response

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
TOOLS = ("weather", "clock")
QUESTION = "What is the weather in Paris and what time is it there"


@dataclass
class Said:
    """An answer as a client has it. ``finish``: stop, length, tools or refusal; ``error`` what it failed with."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    finish: str = ""
    tokens: tuple[int, int] = (0, 0)
    error: str | None = None


class Speaker(Protocol):
    """A client of one dialect."""

    path: str

    def request(self, model: str, feature: str, stream: bool) -> dict[str, Any]: ...

    def whole(self, body: dict[str, Any]) -> Said: ...

    def streamed(self, body: bytes) -> Said: ...

    def refusal(self, body: dict[str, Any]) -> str:
        """The message of an error body, which is one of the dialect."""


class Chat:
    path = "/ai/v1/chat/completions"

    def request(self, model: str, feature: str, stream: bool) -> dict[str, Any]:
        content: Any = QUESTION
        if feature == "image":
            url = {"url": f"data:image/png;base64,{PIXEL}"}
            content = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": url}]
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": content}]}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if feature in ("tools", "unfinished"):
            body["tools"] = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in TOOLS]
        if feature == "schema":
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
        if feature == "length":
            body["max_completion_tokens"] = 20
        return body

    def whole(self, body: dict[str, Any]) -> Said:
        assert body["object"] == "chat.completion"
        [choice] = body["choices"]
        message, usage = choice["message"], body["usage"]
        finish = "refusal" if message.get("refusal") else _CHAT_FINISH[choice["finish_reason"]]
        return Said(
            message["content"] or message.get("refusal") or "",
            message.get("reasoning_content", ""),
            [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in message.get("tool_calls", [])],
            finish,
            (usage["prompt_tokens"], usage["completion_tokens"]),
        )

    def streamed(self, body: bytes) -> Said:
        machine = ChatMachine(wants_usage=True)
        machine.feed(body)
        machine.end()
        choice = machine.choices.get(0)
        said = Said(error=machine.error["message"] if machine.error else None)
        if choice is not None:
            said.text, said.reasoning = choice.content or choice.refusal or "", choice.reasoning
            said.calls = [(call.name, _arguments(call.arguments, said)) for call in choice.calls]
            said.finish = "refusal" if choice.refusal else _CHAT_FINISH.get(choice.finish or "", "")
        if machine.usage is not None:
            said.tokens = machine.usage["prompt_tokens"], machine.usage["completion_tokens"]
        return said

    def refusal(self, body: dict[str, Any]) -> str:
        assert {"message", "type", "param", "code"} <= body["error"].keys()
        return str(body["error"]["message"])


_CHAT_FINISH = {"stop": "stop", "length": "length", "tool_calls": "tools", "content_filter": "refusal"}


def _arguments(text: str, said: Said) -> Any:
    return json.loads(text) if said.error is None else text


class Responses:
    path = "/ai/v1/responses"

    def request(self, model: str, feature: str, stream: bool) -> dict[str, Any]:
        body: dict[str, Any] = {"model": model, "input": QUESTION, "stream": stream}
        if feature == "image":
            parts = [{"type": "input_text", "text": QUESTION}, {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}]
            body["input"] = [{"role": "user", "content": parts}]
        if feature in ("tools", "unfinished"):
            body["tools"] = [{"type": "function", "name": name, "parameters": SCHEMA, "strict": True} for name in TOOLS]
        if feature == "schema":
            body["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}}
        if feature == "length":
            body["max_output_tokens"] = 20
        if feature == "reasoning":
            body["reasoning"] = {"effort": "low", "summary": "auto"}
        return body

    def whole(self, body: dict[str, Any]) -> Said:
        check_response(body)
        said = Said(tokens=(body["usage"]["input_tokens"], body["usage"]["output_tokens"]) if body["usage"] else (0, 0))
        refused = False
        for item in body["output"]:
            if item["type"] == "function_call":
                said.calls.append((item["name"], json.loads(item["arguments"]) if item["status"] == "completed" else item["arguments"]))
            for part in [*(item.get("summary") or []), *(item.get("content") or [])]:
                if item["type"] == "reasoning":
                    said.reasoning += part["text"]
                else:
                    refused = refused or part["type"] == "refusal"
                    said.text += part.get("text", "") + part.get("refusal", "")
        reason = (body["incomplete_details"] or {}).get("reason")
        stopped = "tools" if said.calls else "stop"
        said.finish = "refusal" if refused or reason == "content_filter" else "length" if reason else stopped
        if body["status"] == "failed":
            said.error, said.finish = body["error"]["message"], ""
        return said

    def streamed(self, body: bytes) -> Said:
        machine = ResponsesMachine()
        machine.feed(body)
        machine.end()
        return self.whole(machine.response)

    refusal = Chat.refusal


class Anthropic:
    path = "/ai/v1/messages"

    def request(self, model: str, feature: str, stream: bool) -> dict[str, Any]:
        content: Any = QUESTION
        if feature == "image":
            source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
            content = [{"type": "text", "text": QUESTION}, {"type": "image", "source": source}]
        body: dict[str, Any] = {"model": model, "max_tokens": 20 if feature == "length" else 4000, "stream": stream}
        body["messages"] = [{"role": "user", "content": content}]
        if feature in ("tools", "unfinished"):
            body["tools"] = [{"name": name, "input_schema": SCHEMA} for name in TOOLS]
        if feature == "schema":
            body["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
        if feature == "reasoning":
            body["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        return body

    def whole(self, body: dict[str, Any]) -> Said:
        usage = body["usage"]
        said = Said(finish=_ANTHROPIC_FINISH.get(body["stop_reason"] or "", ""))
        said.tokens = (
            usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"],
            usage["output_tokens"],
        )
        for block in body["content"]:
            said.text += block.get("text", "")
            said.reasoning += block.get("thinking", "")
            if block["type"] == "tool_use":
                said.calls.append((block["name"], block["input"]))
        return said

    def streamed(self, body: bytes) -> Said:
        machine = AnthropicMachine()
        machine.feed(body)
        machine.end()
        said = self.whole(machine.message) if machine.message is not None else Said()
        said.error = machine.error["message"] if machine.error else None
        return said

    def refusal(self, body: dict[str, Any]) -> str:
        assert body["type"] == "error"
        assert body["request_id"].startswith("req_")
        assert body["error"]["type"].endswith("_error") or body["error"]["type"] == "request_too_large"
        return str(body["error"]["message"])


_ANTHROPIC_FINISH = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tools", "refusal": "refusal"}


class Ollama:
    path = "/api/chat"

    def request(self, model: str, feature: str, stream: bool) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "user", "content": QUESTION}
        if feature == "image":
            message["images"] = [PIXEL]
        body: dict[str, Any] = {"model": model, "messages": [message]}
        if not stream:
            body["stream"] = False
        if feature in ("tools", "unfinished"):
            body["tools"] = [{"type": "function", "function": {"name": name, "description": "", "parameters": SCHEMA}} for name in TOOLS]
        if feature == "schema":
            body["format"] = SCHEMA
        if feature == "length":
            body["options"] = {"num_predict": 20}
        if feature == "reasoning":
            body["think"] = True
        return body

    def whole(self, body: dict[str, Any]) -> Said:
        machine = OllamaMachine()
        machine.feed(json.dumps(body).encode() + b"\n")
        return self._said(machine)

    def streamed(self, body: bytes) -> Said:
        machine = OllamaMachine()
        machine.feed(body)
        return self._said(machine)

    def _said(self, machine: OllamaMachine) -> Said:
        machine.end()
        said = Said(machine.content, machine.thinking, error=machine.error)
        said.calls = [(call["function"]["name"], call["function"]["arguments"]) for call in machine.calls]
        if machine.last is not None:
            said.finish = "length" if machine.last["done_reason"] == "length" else "tools" if said.calls else "stop"
            said.tokens = machine.last["prompt_eval_count"], machine.last["eval_count"]
        return said

    def refusal(self, body: dict[str, Any]) -> str:
        assert list(body) == ["error"]
        return str(body["error"])


SPEAKERS: dict[str, Speaker] = {"openai-chat": Chat(), "openai-responses": Responses(), "anthropic": Anthropic(), "ollama": Ollama()}
