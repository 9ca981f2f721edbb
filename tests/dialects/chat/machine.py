"""The protocol of chat completion streams, as strictly as the strictest client could take it."""

import json
from typing import Any

from openai.types.chat import ChatCompletionChunk

SPOKEN = {"role", "content", "refusal", "annotations", "tool_calls", "reasoning_content", "reasoning_details"}


class Call:
    def __init__(self, id: str, name: str, kind: str) -> None:
        self.id = id
        self.name = name
        self.kind = kind
        self.arguments = ""


class Choice:
    """What a client that puts a choice together has of it."""

    def __init__(self) -> None:
        self.content: str | None = None
        self.refusal: str | None = None
        self.reasoning = ""
        self.details: list[dict[str, Any]] = []
        self.annotations: list[Any] = []
        self.calls: list[Call] = []
        self.logprobs: list[Any] = []
        self.finish: str | None = None
        self.stop_reason: str | None = None


class Machine:
    """Fed the bytes of one stream, in any cuts; asserts that it is one. ``wants_usage``: the client asked for the usage chunk."""

    def __init__(self, *, wants_usage: bool = False) -> None:
        self._wants_usage = wants_usage
        self._rest = b""
        self._head: tuple[Any, ...] | None = None
        self.choices: dict[int, Choice] = {}
        self.usage: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.done = False

    def feed(self, data: bytes) -> None:
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            if not event.startswith(b":"):
                self._event(event.decode())

    def end(self) -> None:
        """The HTTP message is over."""
        assert self._rest == b""
        assert self.done, "no [DONE]"
        if self.error is not None:
            assert all(choice.finish is None for choice in self.choices.values()), "a failed answer claims to be whole"
            return
        assert self.choices, "no choice"
        for choice in self.choices.values():
            assert choice.finish is not None, "a choice without a reason to finish"
            assert choice.calls or choice.finish != "tool_calls", "a call was promised"
            for call in choice.calls:
                if call.kind == "function" and choice.finish != "length":
                    assert isinstance(json.loads(call.arguments), dict), "arguments that are not an object"

    def _event(self, event: str) -> None:
        assert not self.done, "an event after [DONE]"
        assert event.startswith("data: ")
        assert "\n" not in event
        assert "\r" not in event
        data = event.removeprefix("data: ")
        if data == "[DONE]":
            self.done = True
            return
        chunk = json.loads(data)
        assert self.error is None, "an event after the error"
        if "error" in chunk:
            self.error = chunk["error"]
            assert set(chunk) == {"error"}
            assert isinstance(self.error, dict)
            assert {"message", "type", "param", "code"} <= set(self.error)
            assert self.error["message"]
            return
        self._chunk(chunk)

    def _chunk(self, chunk: dict[str, Any]) -> None:
        ChatCompletionChunk.model_validate(_typed(chunk), strict=True)
        head = (chunk["id"], chunk["object"], chunk["created"], chunk["model"])
        assert self._head in (None, head), "the head changes"
        self._head = head
        assert chunk["id"].startswith("chatcmpl-")
        assert self.usage is None, "a chunk after the usage"
        assert ("usage" in chunk) == self._wants_usage
        if not chunk["choices"]:
            self.usage = chunk["usage"]
            assert self.usage is not None, "a chunk without choices and usage"
            assert all(choice.finish is not None for choice in self.choices.values()), "usage before the end"
            return
        assert chunk.get("usage") is None
        assert len(chunk["choices"]) == 1
        self._choice(chunk["choices"][0])

    def _choice(self, piece: dict[str, Any]) -> None:
        assert {"index", "delta", "logprobs", "finish_reason"} <= set(piece)
        delta = piece["delta"]
        assert set(delta) <= SPOKEN
        choice = self.choices.get(piece["index"])
        if choice is None:
            assert delta["role"] == "assistant", "the role comes first"
            choice = self.choices[piece["index"]] = Choice()
        else:
            assert "role" not in delta, "the role comes once"
        assert choice.finish is None, "more of a choice that has finished"
        if delta.get("content") is not None:
            choice.content = (choice.content or "") + delta["content"]
        if delta.get("refusal") is not None:
            choice.refusal = (choice.refusal or "") + delta["refusal"]
        choice.reasoning += delta.get("reasoning_content", "")
        choice.details += delta.get("reasoning_details", [])
        choice.annotations += delta.get("annotations", [])
        choice.logprobs += (piece["logprobs"] or {}).get("content") or []
        for call in delta.get("tool_calls", []):
            self._call(choice, call)
        choice.finish = piece["finish_reason"]
        choice.stop_reason = piece.get("stop_reason")
        if choice.finish is not None:
            assert delta == {}

    def _call(self, choice: Choice, piece: dict[str, Any]) -> None:
        if piece["index"] == len(choice.calls):
            assert piece["id"]
            assert piece["type"] in ("function", "custom")
            call = Call(piece["id"], piece[piece["type"]]["name"], piece["type"])
            assert call.name
            assert call.id not in {other.id for other in choice.calls}
            choice.calls.append(call)
        else:
            call = choice.calls[piece["index"]]
            assert not {"id", "type"} & set(piece)
            assert "name" not in piece[call.kind]
        call.arguments += piece[call.kind]["arguments" if call.kind == "function" else "input"]


def _typed(chunk: dict[str, Any]) -> dict[str, Any]:
    """The chunk as the SDK's types have it, which do not know of custom tools in streams."""
    text = json.dumps(chunk)
    return json.loads(text.replace('"type": "custom"', '"type": "function"')) if '"type": "custom"' in text else chunk
