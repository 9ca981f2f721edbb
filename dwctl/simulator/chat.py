"""A chat that does more than say a text: thinking, calls, a refusal, a schema, log probabilities, a stop sequence.

Source: OpenAI's API reference and the SDK's own types (openai 3.52); thinking as DeepSeek, vLLM and OpenRouter show it. An
ordinary text takes the shorter way of `answers`.
"""

import time
from collections.abc import Iterator
from typing import Any

from dwctl.simulator.answers import Query, choices, ids, prompt_tokens, usage_json
from dwctl.simulator.behaviour import Behaviour
from dwctl.simulator.openai import BROKEN, OPENAI, closed, empty, invalid, missing, wrong_type
from dwctl.simulator.script import Asked, Script, Tool, counted, last_text, pieces, written
from dwctl.simulator.signing import seal
from dwctl.simulator.wire import JSON, SSE, Refused, encode

STOPS = {"stop": "stop", "length": "length", "sequence": "stop", "calls": "tool_calls", "refusal": "content_filter"}
PARTS = ["text", "image_url", "input_audio", "file", "refusal", "video_url"]
TIERS = ("auto", "default", "flex", "scale", "priority", "fast")


class Chat:
    """One answer to POST /chat/completions."""

    content_type = SSE

    def __init__(self, query: Query, asked: Asked, behaviour: Behaviour, told: bool) -> None:
        self._query, self._behaviour = query, behaviour
        self.choices = choices(query)
        self._scripts = [written(asked, behaviour, index) for index in range(self.choices)]
        self.usage = counted(asked, behaviour, self._scripts)
        self.reported = told and (not query.stream or query.include_usage())
        self._head = {"id": f"chatcmpl-{next(ids)}", "object": "", "created": int(time.time()), "model": query.model}
        tier = query.service_tier
        self._foot = {} if tier is None else {"service_tier": "default" if tier == "auto" else tier}

    def _thinking(self, text: str) -> dict[str, Any]:
        """The members that say a thought, or a part of one."""
        if self._behaviour.redacted:
            return {"reasoning_details": [{"type": "reasoning.encrypted", "data": seal(text), "index": 0, "format": "simulated"}]}
        if self._behaviour.reasoning_as == "reasoning_details":
            return {"reasoning_details": [{"type": "reasoning.text", "text": text, "index": 0, "format": "simulated"}]}
        names = ("reasoning_content", "reasoning") if self._behaviour.reasoning_as == "both" else (self._behaviour.reasoning_as,)
        return dict.fromkeys(names, text)

    def _logprobs(self, script: Script, said: list[str]) -> Any:
        if self._query.logprobs is not True:
            return None
        entries = [_logprob(piece, index, self._query.top_logprobs or 0) for index, piece in enumerate(said)]
        refused = script.stop == "refusal"
        return {"content": None if refused else entries, "refusal": entries if refused else None}

    def _ends(self, script: Script) -> dict[str, Any]:
        finish: dict[str, Any] = {"finish_reason": STOPS[script.stop]}
        return finish | ({"stop_reason": script.sequence} if self._behaviour.vllm else {})

    def whole(self) -> tuple[bytes, bytes]:
        found = []
        for index, script in enumerate(self._scripts):
            refused = script.stop == "refusal"
            message: dict[str, Any] = {
                "role": "assistant",
                "content": None if refused or (script.calls and not script.text) else script.said,
                "refusal": script.said if refused else None,
            }
            if script.thinking:
                message |= self._thinking(script.thought)
            if script.calls:
                message["tool_calls"] = [
                    {"id": f"call_{call.id}", "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                    for call in script.calls
                ]
            choice = {"index": index, "message": message, "logprobs": self._logprobs(script, script.text)}
            found.append(choice | self._ends(script))
        body = encode({**self._head, "object": "chat.completion", "choices": found, **self._foot})
        return JSON, body if not self.reported else body[:-1] + b',"usage":' + usage_json(self.usage) + b"}"

    def _chunk(self, index: int, delta: dict[str, Any], logprobs: Any = None, ends: dict[str, Any] | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, **({"finish_reason": None} if ends is None else ends)}
        usage = {"usage": None} if self.reported else {}
        return encode({**self._head, "object": "chat.completion.chunk", "choices": [choice], **self._foot, **usage})

    def lead(self) -> list[bytes]:
        return [self._chunk(index, {"role": "assistant", "content": "", "refusal": None}) for index in range(self.choices)]

    def body(self) -> Iterator[list[bytes]]:
        streams = [list(self._deltas(index, script)) for index, script in enumerate(self._scripts)]
        for position in range(max(map(len, streams))):
            yield [chunk for stream in streams if position < len(stream) and (chunk := stream[position]) is not None]

    def _deltas(self, index: int, script: Script) -> Iterator[bytes | None]:
        """The chunks of one choice; None for a token that is not shown."""
        yield from (None for _ in range(script.hidden))
        if self._behaviour.redacted and script.thinking:
            yield self._chunk(index, self._thinking(script.thought))
        else:
            for piece in script.thinking:
                yield self._chunk(index, self._thinking(piece))
        member = "refusal" if script.stop == "refusal" else "content"
        for piece in script.text:
            yield self._chunk(index, {member: piece}, self._logprobs(script, [piece]))
        begun = [
            {"index": number, "id": f"call_{call.id}", "type": "function", "function": {"name": call.name, "arguments": ""}}
            for number, call in enumerate(script.calls)
        ]
        rests = [pieces(call.arguments) for call in script.calls]
        if self._behaviour.interleaved:
            yield from (self._chunk(index, {"tool_calls": [call]}) for call in begun)
            for position in range(max(map(len, rests), default=0)):
                for number, rest in enumerate(rests):
                    if position < len(rest):
                        yield self._chunk(index, _arguments(number, rest[position]))
            return
        for number, rest in enumerate(rests):
            yield self._chunk(index, {"tool_calls": [begun[number]]})
            for piece in rest:
                yield self._chunk(index, _arguments(number, piece))

    def tail(self) -> list[bytes]:
        chunks = [self._chunk(index, {}, None, self._ends(script)) for index, script in enumerate(self._scripts)]
        if self.reported:
            last = encode({**self._head, "object": "chat.completion.chunk", "choices": [], **self._foot})
            chunks.append(last[:-1] + b',"usage":' + usage_json(self.usage) + b"}")
        return chunks

    def broken(self, failed: bool) -> list[bytes]:
        return broken()


def broken() -> list[bytes]:
    """The payload of an error in the midst of a stream."""
    return [OPENAI.error(Refused(500, BROKEN, "server_error", "server_error"))]


def _arguments(number: int, piece: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}


def _logprob(piece: str, index: int, top: int) -> dict[str, Any]:
    likely = -0.125 * (index % 8)
    others = [(f"{piece}{rank or ''}", likely - rank) for rank in range(top)]
    return {
        "token": piece,
        "logprob": likely,
        "bytes": list(piece.encode()),
        "top_logprobs": [{"token": text, "logprob": value, "bytes": list(text.encode())} for text, value in others],
    }


# the request -------------------------------------------------------------------------------------------------------------------------


def ordinary(query: Query, behaviour: Behaviour) -> bool:
    """Whether the answer is a text and nothing more."""
    return (
        query.tools is None
        and query.tool_choice is None
        and query.parallel_tool_calls is None
        and query.stop is None
        and query.response_format is None
        and query.service_tier is None
        and not query.logprobs
        and behaviour.ordinary
    )


def asked(query: Query) -> Asked:
    """What the request says. Raises `Refused` for settings that OpenAI refuses."""
    last = query.messages[-1] if query.messages else None
    tools = _tools(query.tools or [])
    stops = [query.stop] if isinstance(query.stop, str) else query.stop or []
    if not isinstance(stops, list) or len(stops) > 4 or any(not isinstance(stop, str) or not stop for stop in stops):
        raise wrong_type("stop", query.stop, "one of a string or an array of at most 4 strings")
    if query.service_tier is not None and query.service_tier not in TIERS:
        raise invalid("service_tier", query.service_tier, list(TIERS))
    if query.top_logprobs is not None and query.logprobs is not True:
        raise Refused(400, "Invalid value for 'top_logprobs': it requires 'logprobs' to be true.", param="top_logprobs")
    return Asked(
        prompt=prompt_tokens(query),
        last=last_text(last.content) if last else "",
        entries=len(query.messages or []),
        limit=query.max_completion_tokens if query.max_completion_tokens is not None else query.max_tokens,
        tools=tools,
        choice=_choice(query, tools),
        parallel=query.parallel_tool_calls is not False,
        answered=last is not None and last.role in ("tool", "function"),
        stops=stops,
        schema=_schema(query.response_format),
        thinks=query.reasoning_effort != "none",
    )


def check_messages(query: Query) -> None:
    """Raises `Refused` for messages that OpenAI refuses."""
    if query.messages is None:
        raise missing("messages")
    if not query.messages:
        raise empty("messages")
    open_calls: list[str] = []
    for index, message in enumerate(query.messages):
        content, at = message.content, f"messages[{index}]"
        if message.role != "tool" and open_calls:
            raise _unanswered(index, open_calls)
        if type(content) is str and message.role != "tool" and message.tool_calls is None:
            continue
        if isinstance(content, list):
            _content(content, f"{at}.content")
        elif content is not None and not isinstance(content, str):
            raise wrong_type(f"{at}.content", content, "one of a string or array of objects")
        elif content is None and message.role != "assistant":
            raise Refused(400, "Invalid value for 'content': expected a string, got null.", param=f"messages.[{index}].content")
        if message.role == "tool":
            if message.tool_call_id is None:
                raise missing(f"{at}.tool_call_id")
            if message.tool_call_id not in open_calls:
                words = "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
                raise Refused(400, words, param=f"messages.[{index}].role")
            open_calls.remove(message.tool_call_id)
        elif message.tool_calls is not None:
            if message.role != "assistant":
                raise Refused(400, f"Unknown parameter: '{at}.tool_calls'.", code="unknown_parameter", param=f"{at}.tool_calls")
            open_calls = _made(message.tool_calls, f"{at}.tool_calls")
    if open_calls:
        raise _unanswered(len(query.messages), open_calls)


def _unanswered(index: int, names: list[str]) -> Refused:
    message = "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
    return Refused(
        400, f"{message}The following tool_call_ids did not have response messages: {', '.join(names)}", param=f"messages.[{index}].role"
    )


def _made(calls: list[Any], at: str) -> list[str]:
    """The ids of an assistant's calls."""
    if not calls:
        raise empty(at)
    found = []
    for number, call in enumerate(calls):
        where = f"{at}[{number}]"
        if not isinstance(call, dict):
            raise wrong_type(where, call, "an object")
        if not isinstance(call.get("id"), str):
            raise missing(f"{where}.id")
        if call.get("type") not in ("function", "custom"):
            raise missing(f"{where}.type") if call.get("type") is None else invalid(f"{where}.type", call["type"], ["function", "custom"])
        function = call.get(call["type"])
        if not isinstance(function, dict):
            raise missing(f"{where}.{call['type']}")
        for name in ("name", "arguments" if call["type"] == "function" else "input"):
            if name not in function:
                raise missing(f"{where}.{call['type']}.{name}")
            if not isinstance(function[name], str):
                raise wrong_type(f"{where}.{call['type']}.{name}", function[name], "a string")
        found.append(call["id"])
    return found


def _content(parts: list[Any], at: str) -> None:
    if not parts:
        raise empty(at)
    for number, part in enumerate(parts):
        where = f"{at}[{number}]"
        if not isinstance(part, dict):
            raise wrong_type(where, part, "an object")
        kind = part.get("type")
        if kind is None:
            raise missing(f"{where}.type")
        if kind not in PARTS:
            raise invalid(f"{where}.type", kind, PARTS[:-1])
        if kind not in part:
            raise missing(f"{where}.{kind}")
        if kind in ("text", "refusal") and not isinstance(part[kind], str):
            raise wrong_type(f"{where}.{kind}", part[kind], "a string")
        if kind == "image_url" and not (isinstance(part[kind], dict) and isinstance(part[kind].get("url"), str)):
            raise wrong_type(f"{where}.image_url", part[kind], "an object")


def _tools(tools: list[Any]) -> list[Tool]:
    found = []
    for index, tool in enumerate(tools):
        at = f"tools[{index}]"
        if not isinstance(tool, dict):
            raise wrong_type(at, tool, "an object")
        if tool.get("type") not in ("function", "custom"):
            raise missing(f"{at}.type") if tool.get("type") is None else invalid(f"{at}.type", tool["type"], ["function", "custom"])
        function = tool.get(tool["type"])
        if not isinstance(function, dict):
            raise missing(f"{at}.{tool['type']}")
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise missing(f"{at}.{tool['type']}.name")
        if function.get("strict") is True:
            closed(function.get("parameters"), f"function '{function['name']}'", f"{at}.function.parameters")
        found.append(Tool(function["name"], function.get("parameters")))
    return found


def _choice(query: Query, tools: list[Tool]) -> str | None:
    choice = query.tool_choice
    if query.parallel_tool_calls is not None and not tools:
        message = "Invalid value for 'parallel_tool_calls': 'parallel_tool_calls' is only allowed when 'tools' are specified."
        raise Refused(400, message, param="parallel_tool_calls")
    if choice is None:
        return None
    if not tools:
        raise Refused(
            400, "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice"
        )
    if isinstance(choice, str):
        if choice not in ("none", "auto", "required"):
            raise invalid("tool_choice", choice, ["none", "auto", "required"])
        return {"none": "none", "auto": None, "required": "any"}[choice]
    if not isinstance(choice, dict):
        raise wrong_type("tool_choice", choice, "one of a string or an object")
    kind = choice.get("type")
    if kind == "allowed_tools":
        return None if (choice.get("allowed_tools") or {}).get("mode") == "auto" else "any"
    if kind not in ("function", "custom"):
        raise invalid("tool_choice.type", kind, ["allowed_tools", "function", "custom"])
    name = (choice.get(kind) or {}).get("name") if isinstance(choice.get(kind), dict | None) else None
    if not name:
        raise missing(f"tool_choice.{kind}.name")
    if all(tool.name != name for tool in tools):
        raise Refused(400, f"Tool choice '{name}' not found in 'tools' parameter.", param="tool_choice")
    return f"={name}"


def _schema(wanted: Any) -> Any:
    if wanted is None:
        return None
    if not isinstance(wanted, dict):
        raise wrong_type("response_format", wanted, "an object")
    kind = wanted.get("type")
    if kind not in ("text", "json_object", "json_schema"):
        raise invalid("response_format.type", kind, ["json_object", "json_schema", "text"])
    if kind != "json_schema":
        return None if kind == "text" else {}
    inner = wanted.get("json_schema")
    if not isinstance(inner, dict):
        raise missing("response_format.json_schema")
    if not inner.get("name"):
        raise missing("response_format.json_schema.name")
    if inner.get("strict"):
        closed(inner.get("schema"), f"response_format '{inner['name']}'", "response_format")
    return inner.get("schema") or {}
