"""A provider's stream, read event by event (API reference: responses, streaming).

Events of one item are told apart by its place in the output. A server that leaves out deltas is understood by what the item, or
the response at the end, says whole; events that are not known here tell of tools that the provider runs itself.
"""

from typing import Any

from dwctl.dialects import openai_errors
from dwctl.dialects.answers import (
    Counted,
    Ended,
    Event,
    Failed,
    Finished,
    MalformedAnswer,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Started,
    TextDelta,
    ToolDelta,
    ToolStart,
)
from dwctl.dialects.canonical import Part, Reasoning, Refusal, Text, ToolCall
from dwctl.dialects.json_text import objects
from dwctl.dialects.openai_usage import read_usage
from dwctl.dialects.responses.answer_reading import annotation, call_of, finish_of, logprobs_of, parts_of, text
from dwctl.dialects.responses.errors import provider_error
from dwctl.dialects.streams import SseParser

Item = dict[str, Any]
Place = int | str | None


class Parser(SseParser):
    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._calls: dict[Place, int] = {}
        self._grown: set[Place] = set()
        """Items of which deltas were there."""
        self._done: set[Place] = set()
        self._parts: list[Part] = []
        """Of the items that are done."""

    def on(self, data: Item) -> list[Event]:
        kind = data.get("type")
        if not isinstance(kind, str):
            if (error := openai_errors.error_object(data.get("error"))) is not None:
                return [*_counted(data), _failed(error)]
            raise MalformedAnswer("an event without a type")
        place = _place(data)
        match kind.removeprefix("response."):
            case "created" | "in_progress" | "queued":
                return self._start(data)
            case "output_item.added":
                return self._add(place, _object(data, "item"))
            case "output_item.done":
                return self._end_item(place, _object(data, "item"))
            case "output_text.delta":
                logprobs = objects(data, "logprobs")
                return self._grow(place, TextDelta(_delta(data), logprobs={"content": logprobs} if logprobs else None))
            case "output_text.annotation.added" if isinstance(said := data.get("annotation"), dict):
                return [TextDelta("", annotations=[annotation(said)])]
            case "refusal.delta":
                return self._grow(place, RefusalDelta(_delta(data)))
            case "reasoning_text.delta" | "reasoning.delta":
                return self._grow(place, ReasoningDelta(_delta(data)))
            case "reasoning_summary_text.delta" | "reasoning_summary.delta":
                return self._grow(place, ReasoningDelta(_delta(data), summary=True))
            case "reasoning_summary_part.added" if place in self._grown:
                return [ReasoningDelta("\n\n", summary=True)]
            case "function_call_arguments.delta" | "custom_tool_call_input.delta":
                return self._grow_call(place, _delta(data))
            case "function_call_arguments.done" | "custom_tool_call_input.done" if place not in self._grown:
                return self._grow_call(place, text(data, "arguments") or text(data, "input") or "")
            case "completed" | "incomplete":
                return self._end(_object(data, "response"))
            case "failed":
                return self._fail(_object(data, "response"))
            case "cancelled":
                raise MalformedAnswer("an answer that was cancelled")
            case "error":
                return [*_counted(data), _failed(openai_errors.error_object(data.get("error")) or data)]
        return []

    def on_done(self) -> list[Event]:
        """The terminal event, if there was one, has come before."""
        return []

    def usage_of(self, data: Item) -> Counted | None:
        response = data.get("response")
        return read_usage(response if isinstance(response, dict) else data)

    def _start(self, data: Item) -> list[Event]:
        if self._started:
            return []
        self._started = True
        response = _object(data, "response")
        return [Started(text(response, "id"), text(response, "model"), service_tier=text(response, "service_tier"))]

    def _add(self, place: Place, item: Item) -> list[Event]:
        if item.get("type") not in ("function_call", "custom_tool_call") or place in self._calls:
            return []
        self._calls[place] = len(self._calls)
        return [ToolStart(self._calls[place], *call_of(item), custom=item["type"] == "custom_tool_call")]

    def _grow(self, place: Place, event: Event) -> list[Event]:
        self._grown.add(place)
        return [event]

    def _grow_call(self, place: Place, fragment: str) -> list[Event]:
        if place not in self._calls:
            raise MalformedAnswer("arguments of a tool call that has not begun")
        return self._grow(place, ToolDelta(self._calls[place], fragment)) if fragment else []

    def _end_item(self, place: Place, item: Item) -> list[Event]:
        if place in self._done:
            return []
        self._done.add(place)
        parts = parts_of(item)
        self._parts += parts
        events: list[Event] = []
        for part in parts:
            match part:
                case ToolCall():
                    events += self._add(place, item)
                    if place not in self._grown and part.arguments:
                        events += self._grow_call(place, part.arguments)
                case Reasoning():
                    if place not in self._grown and part.text:
                        events.append(ReasoningDelta(part.text, summary=part.summary))
                    events.append(ReasoningEnd(0, part.signature, part.origin, part.id, part.redacted))
                case Text() if place not in self._grown:
                    logprobs = logprobs_of(item)
                    events.append(TextDelta(part.text, 0, {"content": logprobs} if logprobs else None, part.annotations))
                case Refusal() if place not in self._grown:
                    events.append(RefusalDelta(part.text))
        return events

    def _end(self, response: Item) -> list[Event]:
        events: list[Event] = []
        if not self._started:
            events += self._start({"response": response})
        for place, item in enumerate(objects(response, "output")):
            if not self._done or place not in self._done:
                events += self._end_item(place, item)
        events.append(Finished(finish_of(response, self._parts)))
        return [*events, *_counted(response), Ended()]

    def _fail(self, response: Item) -> list[Event]:
        return [*_counted(response), _failed(openai_errors.error_object(response.get("error")) or {})]


def _place(data: Item) -> Place:
    place = data.get("output_index")
    return place if isinstance(place, int) else text(data, "item_id")


def _object(data: Item, name: str) -> Item:
    found = data.get(name)
    if not isinstance(found, dict):
        raise MalformedAnswer(f"an event without its {name}")
    return found


def _delta(data: Item) -> str:
    delta = data.get("delta")
    if not isinstance(delta, str):
        raise MalformedAnswer("a delta that is not text")
    return delta


def _counted(response: Item) -> list[Event]:
    counted = read_usage(response)
    return [] if counted is None else [counted]


def _failed(said: Item) -> Failed:
    """What the client may be told follows from the status that the error stands for; the provider's words are for the record."""
    error = provider_error(said)
    return Failed(openai_errors.of_status(error.status or 500), error.words)
