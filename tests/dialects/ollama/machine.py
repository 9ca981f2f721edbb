"""What a stream of Ollama's may be, checked as strictly as its documentation and its SDK's types allow."""

import json
from datetime import datetime
from typing import Any, Literal

import ollama

_COUNTS = {"prompt_eval_count", "prompt_eval_cached_count", "eval_count"}
_LINE = {"model", "created_at", "done", "logprobs"}
_LAST = {"done_reason", *_COUNTS}
_SPOKEN = {"content", "thinking", "tool_calls"}


class Machine:
    """Fed a stream of ``/api/chat`` or ``/api/generate`` in any pieces, it asserts that each line may be there, and keeps what was said.

    ``error`` is what a failed stream ended with; ``end`` asserts that the stream is over, one way or the other.
    """

    def __init__(self, endpoint: Literal["chat", "generate"] = "chat") -> None:
        self._endpoint = endpoint
        self._rest = b""
        self._model: str | None = None
        self.content = ""
        self.thinking = ""
        self.calls: list[dict[str, Any]] = []
        self.logprobs: list[Any] = []
        self.last: dict[str, Any] | None = None
        self.error: str | None = None

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)

    def end(self) -> None:
        assert not self._rest, "the last line has no end"
        assert self.last is not None or self.error is not None, "the stream has no end"

    def _line(self, data: bytes) -> None:
        assert (self.last, self.error) == (None, None), "a line after the last one"
        line = json.loads(data)
        if "error" in line:
            assert list(line) == ["error"]
            assert isinstance(line["error"], str)
            assert line["error"]
            self.error = line["error"]
            return
        spoken = self._spoken(line)
        self._model = self._model or line["model"]
        assert line["model"] == self._model
        assert datetime.fromisoformat(line["created_at"]).tzinfo is not None
        assert isinstance(spoken["content"], str)
        self.content += spoken["content"]
        self.thinking += _text(spoken, "thinking")
        self._asked(spoken)
        if "logprobs" in line:
            assert line["logprobs"]
            self.logprobs += line["logprobs"]
        if line["done"]:
            assert line["done_reason"] in ("stop", "length", "load", "unload")
            assert all(type(line[name]) is int and line[name] >= 0 for name in _COUNTS & line.keys())
            self.last = line
        else:
            assert line["done"] is False
            assert not line.keys() & _LAST
            assert spoken["content"] or spoken.get("thinking") or spoken.get("tool_calls") or "logprobs" in line, "a line that says nothing"

    def _spoken(self, line: dict[str, Any]) -> dict[str, Any]:
        if self._endpoint == "chat":
            ollama.ChatResponse.model_validate(line, strict=True)
            message: dict[str, Any] = line["message"]
            assert line.keys() <= _LINE | _LAST | {"message"}
            assert message["role"] == "assistant"
            assert message.keys() <= _SPOKEN | {"role"}
            return message
        ollama.GenerateResponse.model_validate(line, strict=True)
        assert line.keys() <= _LINE | _LAST | {"response", "thinking", "tool_calls"}
        return {**line, "content": line["response"]}

    def _asked(self, spoken: dict[str, Any]) -> None:
        if "tool_calls" in spoken:
            assert spoken["tool_calls"]
        for call in spoken.get("tool_calls", []):
            assert call.keys() == {"id", "function"}
            assert call["function"].keys() == {"index", "name", "arguments"}
            assert isinstance(call["function"]["arguments"], dict)
            assert call["function"]["index"] == len(self.calls)
            assert call["id"]
            assert call["id"] not in {other["id"] for other in self.calls}
            self.calls.append(call)


def _text(spoken: dict[str, Any], name: str) -> str:
    if name not in spoken:
        return ""
    assert spoken[name]
    assert isinstance(spoken[name], str)
    return str(spoken[name])
