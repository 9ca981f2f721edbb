"""One model of an answer, whole or as a stream of events, between the provider's dialect and the client's.

A stream is: `Started`, then parts as they grow, for each choice `Finished`, `Counted`, `Ended`; `Failed` may come
at any time and is the last. Growing parts of one choice follow each other, except that arguments of parallel tool calls may
interleave; renderers whose protocol forbids that hold back.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from dwctl.dialects.canonical import Part, Reasoning, Refusal, Text, ToolCall
from dwctl.dialects.names import DialectName
from dwctl.dialects.usage import Usage
from dwctl.errors import GatewayError

Finish = Literal["stop", "length", "tool_calls", "refusal", "stop_sequence", "pause", "context_overflow", "load", "unload"]
LOADS: tuple[Finish, ...] = ("load", "unload")
"""Ollama's alone: the model was loaded or unloaded, and asked nothing."""


class MalformedAnswer(Exception):
    """The provider's answer is not what its dialect says. ``args[0]`` says what is wrong, in words for the record."""

    counted: "Counted | None" = None
    """The usage that a unit of a stream reports all the same."""


class Choice(msgspec.Struct):
    """One of the answers. ``stop_sequence``: which one ended it; ``logprobs`` in chat's shape (``{"content": [...]}``)."""

    parts: list[Part]
    finish: Finish | None = None
    stop_sequence: str | None = None
    logprobs: Any = None


class Response(msgspec.Struct):
    """A whole answer. ``raw_usage`` is the provider's own usage, in JSON."""

    id: str | None
    model: str | None
    choices: list[Choice]
    usage: Usage | None = None
    raw_usage: bytes | None = None
    service_tier: str | None = None


class Started(msgspec.Struct):
    """The answer has begun. ``usage``: what is known of it beforehand (input tokens); ``raw_usage``: the provider's own, in JSON."""

    id: str | None = None
    model: str | None = None
    usage: Usage | None = None
    service_tier: str | None = None
    raw_usage: bytes | None = None


class TextDelta(msgspec.Struct):
    text: str
    choice: int = 0
    logprobs: Any = None
    annotations: list[Any] | None = None


class ReasoningDelta(msgspec.Struct):
    text: str
    choice: int = 0
    summary: bool = False


class ReasoningEnd(msgspec.Struct):
    """The thought is over; its signature, and whether nothing but that is there (`Reasoning`)."""

    choice: int = 0
    signature: str | None = None
    origin: DialectName | None = None
    id: str | None = None
    redacted: bool = False


class RefusalDelta(msgspec.Struct):
    text: str
    choice: int = 0


class ToolStart(msgspec.Struct):
    """A call begins; ``index`` counts the calls of a choice from 0."""

    index: int
    id: str
    name: str
    choice: int = 0
    custom: bool = False


class ToolDelta(msgspec.Struct):
    """More of the arguments' text of call ``index``."""

    index: int
    fragment: str
    choice: int = 0


class Finished(msgspec.Struct):
    finish: Finish
    choice: int = 0
    stop_sequence: str | None = None


class Counted(msgspec.Struct):
    """The usage so far; the last one counts. ``raw`` is the provider's own, in JSON."""

    usage: Usage
    raw: bytes


class Failed(msgspec.Struct):
    """The provider said that it failed. ``error`` is ours, with what its client may be told, ``said`` its words for the record."""

    error: GatewayError
    said: str


class Ended(msgspec.Struct):
    """The dialect's terminal event was there."""


Event = Started | TextDelta | ReasoningDelta | ReasoningEnd | RefusalDelta | ToolStart | ToolDelta | Finished | Counted | Failed | Ended


class Answering(msgspec.Struct):
    """What a renderer must know that the provider does not: ``id`` of the request, a UUID as its headers have it; ``model`` as the
    client named it, ``created`` in seconds since the epoch, ``input_estimate`` in tokens, for what is said of the input before the
    provider has counted it."""

    id: str
    model: str
    created: int
    input_estimate: int = 0

    @property
    def digits(self) -> str:
        """The 32 hexadecimal digits of ``id``, from which all ids of the answer are made."""
        return self.id.replace("-", "")


def events_of(response: Response) -> Iterator[Event]:
    """A whole answer as the stream that would have brought it."""
    yield Started(response.id, response.model, service_tier=response.service_tier)
    for index, choice in enumerate(response.choices):
        calls = 0
        logprobs = choice.logprobs
        for part in choice.parts:
            match part:
                case Text():
                    yield TextDelta(part.text, index, logprobs, part.annotations)
                    logprobs = None
                case Refusal():
                    yield RefusalDelta(part.text, index)
                case Reasoning():
                    if part.text:
                        yield ReasoningDelta(part.text, index, part.summary)
                    yield ReasoningEnd(index, part.signature, part.origin, part.id, part.redacted)
                case ToolCall():
                    yield ToolStart(calls, part.id, part.name, index, part.custom)
                    yield ToolDelta(calls, part.arguments, index)
                    calls += 1
        if choice.finish is not None:
            yield Finished(choice.finish, index, choice.stop_sequence)
    if response.usage is not None:
        yield Counted(response.usage, response.raw_usage or b"null")
    yield Ended()


def response_of(events: Iterable[Event]) -> Response:
    """The whole answer that a stream brought; the other way round of `events_of`. Raises the `Failed` event's error."""
    response = Response(None, None, [])
    calls: dict[tuple[int, int], ToolCall] = {}

    def parts(index: int) -> list[Part]:
        while len(response.choices) <= index:
            response.choices.append(Choice([]))
        return response.choices[index].parts

    for event in events:
        match event:
            case Started():
                response.id, response.model, response.service_tier = event.id, event.model, event.service_tier
            case TextDelta():
                grown = parts(event.choice)
                if grown and isinstance(last := grown[-1], Text):
                    last.text += event.text
                    if event.annotations:
                        last.annotations = last.annotations or []
                        last.annotations.extend(event.annotations)
                else:
                    grown.append(Text(event.text, annotations=event.annotations and [*event.annotations]))
                _add_logprobs(response.choices[event.choice], event.logprobs)
            case RefusalDelta():
                grown = parts(event.choice)
                if grown and isinstance(last := grown[-1], Refusal):
                    last.text += event.text
                else:
                    grown.append(Refusal(event.text))
            case ReasoningDelta():
                _open_reasoning(parts(event.choice), event.summary).text += event.text
            case ReasoningEnd():
                thought = _open_reasoning(parts(event.choice), None)
                thought.signature, thought.origin = event.signature, event.origin or "openai-chat"
                thought.id, thought.redacted = event.id, event.redacted
            case ToolStart():
                call = calls[event.choice, event.index] = ToolCall(event.id, event.name, "", event.custom)
                parts(event.choice).append(call)
            case ToolDelta():
                calls[event.choice, event.index].arguments += event.fragment
            case Finished():
                parts(event.choice)
                choice = response.choices[event.choice]
                choice.finish, choice.stop_sequence = event.finish, event.stop_sequence
            case Counted():
                response.usage, response.raw_usage = event.usage, event.raw
            case Failed():
                raise event.error
            case Ended():
                break
    return response


def text_of(response: Response) -> str:
    """All that the model wrote, for counting its tokens."""
    texts = []
    for choice in response.choices:
        for part in choice.parts:
            match part:
                case Text() | Reasoning() | Refusal():
                    texts.append(part.text)
                case ToolCall():
                    texts.append(part.name + part.arguments)
    return "".join(texts)


def _open_reasoning(parts: list[Part], summary: bool | None) -> Reasoning:
    """The thought that is being thought; a new one after one that has ended (has an ``origin``)."""
    if parts and isinstance(last := parts[-1], Reasoning) and last.origin is None and summary in (None, last.summary):
        return last
    thought = Reasoning(summary=bool(summary))
    parts.append(thought)
    return thought


def _add_logprobs(choice: Choice, logprobs: Any) -> None:
    if isinstance(logprobs, dict):
        if choice.logprobs is None:
            choice.logprobs = {}
        for name, values in logprobs.items():
            if isinstance(values, list):
                choice.logprobs.setdefault(name, []).extend(values)  # a list of our own, which may grow long


def arguments_object(arguments: str, finish: Finish | None) -> dict[str, Any]:
    """The arguments of a call as an object; ``{}`` for none, and where the answer was cut by its length.

    Raises MalformedAnswer for a call that is not finished, or whose arguments are no object.
    """
    if not arguments.strip() or arguments.strip() == "null":
        return {}
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value
    if finish == "length":
        return {}
    raise MalformedAnswer("a tool call whose arguments are not a JSON object")
