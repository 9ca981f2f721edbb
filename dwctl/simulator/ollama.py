"""Ollama's API: chat, generate, embed, the list of models, errors.

Source: Ollama's API documentation and ``api/types.go``, as of November 2026, and the SDK's own types (ollama 0.6). A stream
is JSON lines, and the default. Arguments of a call are an object and never in pieces. Where the server is strict, it is
Go's JSON decoder that is: a text that is no string, images that are no base64.
"""

import base64
import binascii
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from dwctl.simulator.answers import EMBEDDING_DIMENSIONS, vector
from dwctl.simulator.behaviour import DEFAULT_TOKENS, LISTED, Behaviour
from dwctl.simulator.connection import Request
from dwctl.simulator.script import Asked, Tool, counted, words, written
from dwctl.simulator.served import Usage
from dwctl.simulator.wire import JSON, Refused, Unstreamed, decoded, encode

LINES = b"application/x-ndjson"
VERSION = b'{"version":"0.13.5"}'
TEXTS = ("model", "prompt", "suffix", "system", "template")


class Ollama:
    """The dialect."""

    end = None

    def authorization(self, request: Request) -> bytes | None:
        return request.header(b"authorization")

    def no_key(self, given: bytes | None) -> Refused:
        return Refused(401, "unauthorized")

    def failure(self, status: int) -> Refused:
        words = {401: "unauthorized", 429: "too many requests", 503: "server busy, please try again.  maximum pending requests exceeded"}
        return Refused(status, words.get(status, f"the simulated provider answers {status}"))

    def error(self, refused: Refused) -> bytes:
        return encode({"error": refused.message})

    def headers(self, status: int) -> bytes:
        return b""

    def event(self, payload: bytes) -> bytes:
        return payload + b"\n"


DIALECT = Ollama()


class Spoken:
    """One answer to POST /api/chat or /api/generate."""

    content_type = LINES
    choices = 1

    def __init__(self, model: str, chat: bool, asked: Asked, behaviour: Behaviour, told: bool) -> None:
        self._model, self._chat, self._asked = model, chat, asked
        self._script = written(asked, behaviour)
        self.usage = counted(asked, behaviour, [self._script])
        self.reported = told

    def _line(self, said: dict[str, Any], done: bool) -> bytes:
        line: dict[str, Any] = {"model": self._model, "created_at": _now()}
        if self._chat:
            line["message"] = {"role": "assistant", "content": "", **said}
        else:
            if "content" in said:
                said = {"response": said.pop("content"), **said}
            line |= {"response": "", **said}
        line["done"] = done
        if not done:
            return encode(line)
        line["done_reason"] = "length" if self._script.stop == "length" else "stop"
        if not self._chat:
            line["context"] = [1, 2, 3]
        line |= {"total_duration": 4_883_583_458, "load_duration": 1_334_875}
        if self.reported:
            line |= {"prompt_eval_count": self.usage.prompt, "prompt_eval_duration": 342_546_000}
            line |= {"eval_count": self.usage.completion, "eval_duration": 4_535_599_000}
        return encode(line)

    def _call(self, index: int) -> dict[str, Any]:
        call = self._script.calls[index]
        return {"id": f"call_{call.id}", "function": {"index": index, "name": call.name, "arguments": _object(call.arguments)}}

    def whole(self) -> tuple[bytes, bytes]:
        script = self._script
        said: dict[str, Any] = {"content": script.said}
        if script.thinking:
            said["thinking"] = script.thought
        if script.calls:
            said["tool_calls"] = [self._call(index) for index in range(len(script.calls))]
        return JSON, self._line(said, True)

    def lead(self) -> list[bytes]:
        return []

    def body(self) -> Iterator[list[bytes]]:
        script = self._script
        for _ in range(script.hidden):
            yield []
        for piece in script.thinking:
            yield [self._line({"thinking": piece}, False)]
        for piece in script.text:
            yield [self._line({"content": piece}, False)]
        for index in range(len(script.calls)):
            yield [self._line({"tool_calls": [self._call(index)]}, False)]

    def tail(self) -> list[bytes]:
        return [self._line({}, True)]

    def broken(self, failed: bool) -> list[bytes]:
        return [DIALECT.error(Refused(500, "an error was encountered while running the model: unexpected EOF"))]


def _now() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e9):09d}Z"


def _object(arguments: str) -> Any:
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return {}


class Loaded(Unstreamed):
    """The answer to a request that asks nothing. It comes whole, also to who wants a stream."""

    content_type = JSON
    usage = Usage(0, 0)
    reported = False

    def __init__(self, model: str, chat: bool, unload: bool) -> None:
        said: dict[str, Any] = {"message": {"role": "assistant", "content": ""}} if chat else {"response": ""}
        self._body = {"model": model, "created_at": _now(), **said, "done": True, "done_reason": "unload" if unload else "load"}

    def whole(self) -> tuple[bytes, bytes]:
        return JSON, encode(self._body)


class Embedded(Unstreamed):
    """The answer to POST /api/embed."""

    content_type = JSON

    def __init__(self, model: str, inputs: list[str], dimensions: int | None, behaviour: Behaviour, told: bool) -> None:
        self._model, self._vectors = model, [vector(text, dimensions or EMBEDDING_DIMENSIONS) for text in inputs]
        self.usage = Usage((words(inputs) or 1) if behaviour.input is None else behaviour.input, 0)
        self.reported = told

    def whole(self) -> tuple[bytes, bytes]:
        body = {"model": self._model, "embeddings": self._vectors, "total_duration": 14_143_917, "load_duration": 1_019_500}
        return JSON, encode(body | ({"prompt_eval_count": self.usage.prompt} if self.reported else {}))


class Asking:
    """A request to /api/chat, /api/generate or /api/embed."""

    def __init__(self, request: Request, path: str) -> None:
        """Raises `Refused` for what Ollama refuses."""
        try:
            body = decoded(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(400, f"invalid character in request: {error}" if request.body else "missing request body") from None
        if not isinstance(body, dict):
            raise _cannot(body, "value", "api.ChatRequest")
        self._path, self._body = path, body
        for name in TEXTS:
            _text(body, name, name)
        self.model: str = body.get("model") or ""
        if not self.model:
            raise Refused(400, "model is required")
        options = body.get("options")
        if not isinstance(options, dict | None):
            raise _cannot(options, "options", "map[string]interface {}")
        for name in ("num_predict", "num_ctx", "top_k", "seed"):
            if options and name in options and type(options[name]) not in (int, float):
                raise Refused(400, f'option "{name}" must be of type integer')
        stops = (options or {}).get("stop") or []
        if not isinstance(stops, list) or any(type(stop) is not str for stop in stops):
            raise Refused(400, 'option "stop" must be of type array')
        limit = (options or {}).get("num_predict")
        stream = body.get("stream")
        if not isinstance(stream, bool | None):
            raise _cannot(stream, "stream", "bool")
        self.generates = path != "/api/embed"
        self.stream = self.generates and stream is not False
        if not self.generates:
            given = body.get("input", "")
            self._inputs = given if isinstance(given, list) else [given]
            if any(type(text) is not str for text in self._inputs):
                raise Refused(400, "invalid input type")
            return
        think = body.get("think")
        if not isinstance(think, bool | None) and think not in ("low", "medium", "high", "max"):
            raise Refused(400, f'invalid think value: "{think}" (must be "high", "medium", "low", "max", true, or false)')
        messages = _messages(body) if path == "/api/chat" else []
        _images(body, "images")
        self._loads = not (messages if path == "/api/chat" else body.get("prompt"))
        self.stream = self.stream and not self._loads
        last = messages[-1] if messages else {}
        self._asked = Asked(
            prompt=words(messages) + words(body.get("prompt")) + words(body.get("system")),
            last=last.get("content") or body.get("prompt") or "",
            entries=len(messages),
            limit=int(limit) if limit and limit > 0 else None,  # 0 and less mean: no limit
            tools=_tools(body) if path == "/api/chat" else [],
            answered=last.get("role") == "tool",
            stops=stops,
            schema=_schema(body.get("format")),
            thinks=think is not False,
        )

    def check(self, behaviour: Behaviour) -> None:
        """Nothing that only a model refuses."""

    def tokens(self, behaviour: Behaviour) -> int:
        if not self.generates or self._loads:
            return 0
        return behaviour.tokens if self._asked.limit is None else min(behaviour.tokens, self._asked.limit)

    def answer(self, behaviour: Behaviour, told: bool) -> Spoken | Embedded | Loaded:
        if not self.generates:
            return Embedded(self.model, self._inputs, self._body.get("dimensions"), behaviour, told)
        if self._loads:
            return Loaded(self.model, self._path == "/api/chat", self._body.get("keep_alive") == 0)
        return Spoken(self.model, self._path == "/api/chat", self._asked, behaviour, told)


def _kind(value: Any) -> str:
    kinds = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def _cannot(value: Any, field: str, wanted: str) -> Refused:
    return Refused(400, f"json: cannot unmarshal {_kind(value)} into Go struct field {field} of type {wanted}")


def _text(holder: dict[str, Any], name: str, field: str) -> None:
    if not isinstance(holder.get(name), str | None):
        raise _cannot(holder[name], field, "string")


def _images(holder: dict[str, Any], field: str) -> None:
    images = holder.get("images") or []
    if not isinstance(images, list):
        raise _cannot(images, field, "[]api.ImageData")
    for image in images:
        if type(image) is not str:
            raise _cannot(image, field, "api.ImageData")
        try:
            base64.b64decode(image, validate=True)
        except (binascii.Error, ValueError):
            raise Refused(400, "illegal base64 data at input byte 0") from None


def _messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    messages = body.get("messages") or []
    if not isinstance(messages, list):
        raise _cannot(messages, "ChatRequest.messages", "[]api.Message")
    for message in messages:
        if not isinstance(message, dict):
            raise _cannot(message, "ChatRequest.messages", "api.Message")
        for name in ("role", "content", "thinking", "tool_name", "tool_call_id"):
            _text(message, name, f"ChatRequest.messages.{name}")
        if message.get("role") not in ("system", "user", "assistant", "tool"):
            raise Refused(400, f"invalid role: {message.get('role')}; must be one of [system user assistant tool]")
        _images(message, "ChatRequest.messages.images")
        for call in message.get("tool_calls") or []:
            function = call.get("function") if isinstance(call, dict) else None
            if not isinstance(function, dict) or type(function.get("name")) is not str:
                raise _cannot(call, "ChatRequest.messages.tool_calls", "api.ToolCall")
            if not isinstance(function.get("arguments"), dict):
                field = "ChatRequest.messages.tool_calls.function.arguments"
                raise _cannot(function.get("arguments"), field, "api.ToolCallFunctionArguments")
    return messages


def _tools(body: dict[str, Any]) -> list[Tool]:
    tools = body.get("tools") or []
    if not isinstance(tools, list):
        raise _cannot(tools, "ChatRequest.tools", "api.Tools")
    found = []
    for tool in tools:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or type(function.get("name")) is not str:
            raise _cannot(tool, "ChatRequest.tools.function", "api.ToolFunction")
        found.append(Tool(function["name"], function.get("parameters")))
    return found


def _schema(given: Any) -> Any:
    if given in (None, ""):
        return None
    if given == "json":
        return {}
    if not isinstance(given, dict):
        raise Refused(400, f'invalid format: {encode(given).decode()}; expected "json" or a valid JSON Schema object')
    return given


def _details() -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "simulated",
        "families": ["simulated"],
        "parameter_size": "0B",
        "quantization_level": "Q4_0",
    }


def tags_body() -> bytes:
    """The body of GET /api/tags."""
    models = [
        {"name": name, "model": name, "modified_at": "2026-01-01T00:00:00Z", "size": 1, "digest": "0" * 64, "details": _details()}
        for name in LISTED
    ]
    return encode({"models": models})


def show_body(request: Request) -> bytes:
    """The body of POST /api/show. Raises `Refused`."""
    try:
        body = decoded(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(400, str(error)) from None
    name = body.get("model") or body.get("name") if isinstance(body, dict) else None
    if not name:
        raise Refused(400, "model is required")
    if name not in LISTED:
        raise Refused(404, f"model '{name}' not found")
    can = ["embedding"] if name == "sim-embed" else ["completion", "tools", "thinking"]
    return encode(
        {
            "modelfile": f"FROM {name}\n",
            "parameters": f"num_predict {DEFAULT_TOKENS}",
            "template": "{{ .Prompt }}",
            "details": _details(),
            "model_info": {"general.architecture": "simulated", "general.parameter_count": 0, "simulated.context_length": 32_768},
            "capabilities": can,
            "modified_at": "2026-01-01T00:00:00Z",
        }
    )
