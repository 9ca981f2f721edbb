"""An answer's output items as they grow, and the events that tell of them.

One item is open at a time. While a tool call is open, what is not its arguments waits behind it: arguments of parallel calls may
interleave, and an item cannot be opened twice. The wait is over when the call's arguments are whole, or with the answer.
"""

import json
from collections import deque
from typing import Any

from dwctl.dialects.answers import (
    Answering,
    Counted,
    Event,
    Finish,
    Finished,
    MalformedAnswer,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Started,
    TextDelta,
    ToolDelta,
    ToolStart,
    arguments_object,
)
from dwctl.dialects.canonical import Request
from dwctl.dialects.custom_tools import Unwrapper
from dwctl.dialects.responses.namespaces import parted
from dwctl.dialects.responses.resource import Item, annotation_object, logprob_objects, resource
from dwctl.dialects.signatures import wrap
from dwctl.dialects.usage import Usage

_PARTS = {
    "output_text": ("output_text", "text", "content", "content_part", "content_index"),
    "refusal": ("refusal", "refusal", "content", "content_part", "content_index"),
    "reasoning_text": ("reasoning_text", "text", "content", "content_part", "content_index"),
    "summary_text": ("reasoning_summary_text", "text", "summary", "reasoning_summary_part", "summary_index"),
}
"""Of each kind of part: the name of its events, its field, where the item keeps it, the name of the part's events, and of its index."""

_CUT: frozenset[Finish | None] = frozenset({"length", "context_overflow"})


class _Call:
    def __init__(self, start: ToolStart) -> None:
        self.start = start
        self.fragments: list[str] = []
        self.told = False
        """The arguments have begun to be told; what comes is told at once."""
        self.closed = False
        self._whole: bool | None = None

    def grow(self, fragment: str) -> None:
        self.fragments.append(fragment)
        self._whole = None

    @property
    def text(self) -> str:
        return "".join(self.fragments)

    @property
    def whole(self) -> bool:
        """Whether the arguments are an object, so that nothing but blanks can follow. Of any text one cannot know."""
        if self._whole is None:
            self._whole = not self.start.custom and _is_object(self.text)
        return self._whole


def _is_object(text: str) -> bool:
    if not text.rstrip().endswith("}"):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


class Output:
    """``told`` are the events since it was last emptied, without their sequence numbers; ``items`` those that are done."""

    def __init__(self, request: Request, answering: Answering) -> None:
        self.told: list[Item] = []
        self.items: list[Item] = []
        self._request = request
        self._answering = answering
        self._unwrapper = Unwrapper(request)
        self._parted = parted(request)
        self._logprobs = bool(request.logprobs or request.top_logprobs)
        self._item: Item | None = None
        self._part: Item | None = None
        self._texts: list[str] = []
        self._call: _Call | None = None
        self._calls: dict[int, _Call] = {}
        self._behind: deque[Event] = deque()
        self._finish: Finish | None = None
        self._refused = False
        self._usage: Usage | None = None
        self._service_tier: str | None = None

    def add(self, event: Event) -> None:
        """Raises MalformedAnswer for arguments that belong to no open call."""
        if getattr(event, "choice", 0) != 0:
            return
        for turned in self._unwrapper.turn(event):
            self._add(turned)

    def end(self) -> None:
        """All that waited, and the end of the last item. Raises MalformedAnswer for a tool call that is not whole."""
        for event in self._unwrapper.rest():
            self._add(event)
        while self._behind:
            self._close_call()
            self._begin(self._behind.popleft())
        self._close_call()
        self._close("completed" if self._reason() is None else "incomplete")

    def response(self, status: str | None = None, error: Item | None = None) -> Item:
        """The response object as it is now; without a ``status``, as it is when the answer has ended."""
        reason = None
        if status is None:
            reason = self._reason()
            status = "completed" if reason is None else "incomplete"
        return resource(
            self._request,
            self._answering,
            status,
            [*self.items],
            usage=None if status == "in_progress" else self._usage,
            reason=reason,
            error=error,
            service_tier=self._service_tier,
        )

    def _reason(self) -> str | None:
        """Why the answer is not complete. A model that says that it refuses has completed its answer."""
        if self._finish in _CUT:
            return "max_output_tokens"
        return "content_filter" if self._finish == "refusal" and not self._refused else None

    def _add(self, event: Event) -> None:
        match event:
            case Started():
                self._usage = event.usage or self._usage
                self._service_tier = event.service_tier or self._service_tier
            case Counted():
                self._usage = event.usage
            case Finished():
                self._finish = event.finish
            case ToolDelta():
                self._grow(event)
            case ToolStart() if event.index in self._calls:
                pass
            case _:
                if isinstance(event, ToolStart):
                    self._calls[event.index] = _Call(event)
                self._behind.append(event)
                while self._behind and (self._call is None or self._call.whole):
                    self._close_call()
                    self._begin(self._behind.popleft())

    def _begin(self, event: Event) -> None:
        match event:
            case TextDelta():
                self._add_text(event)
            case RefusalDelta() if event.text:
                self._refused = True
                self._open_message("refusal")
                self._tell_delta(event.text)
            case ReasoningDelta() if event.text:
                self._add_thought(event)
            case ReasoningEnd():
                self._end_thought(event)
            case ToolStart():
                self._close()
                self._open_call(self._calls[event.index])

    # Messages and thoughts

    def _add_text(self, event: TextDelta) -> None:
        annotations = [said for said in map(annotation_object, event.annotations or []) if said is not None]
        if not event.text and not annotations:
            return
        self._open_message("output_text")
        assert self._part is not None
        if event.text:
            logprobs = logprob_objects(event.logprobs) if self._logprobs else []
            self._part["logprobs"] += logprobs
            self._tell_delta(event.text, logprobs=logprobs)
        for annotation in annotations:
            self._tell(
                "output_text.annotation.added",
                **self._place(),
                content_index=self._index(),
                annotation_index=len(self._part["annotations"]),
                annotation=annotation,
            )
            self._part["annotations"].append(annotation)

    def _add_thought(self, event: ReasoningDelta) -> None:
        kind = "summary_text" if event.summary else "reasoning_text"
        if self._item is None or self._item["type"] != "reasoning" or (self._part is not None and self._part["type"] != kind):
            self._close()
            self._open_thought(raw=not event.summary)
        self._open_part(kind)
        self._tell_delta(event.text)

    def _open_thought(self, *, raw: bool) -> None:
        self._open("rs", {"type": "reasoning", "summary": [], **({"content": []} if raw else {})})

    def _end_thought(self, end: ReasoningEnd, status: str = "completed") -> None:
        if self._item is None or self._item["type"] != "reasoning":
            if end.signature is None or not self._request.encrypted_reasoning:
                return
            self._close()
            self._open_thought(raw=False)
        assert self._item is not None
        if self._request.encrypted_reasoning:
            self._item["encrypted_content"] = wrap(
                end.origin,
                end.signature,
                id=end.id,
                redacted=end.redacted,
                summary=self._part is not None and self._part["type"] == "summary_text",
                thought="".join(self._texts),
            )
        self._close_item(status)

    def _open_message(self, kind: str) -> None:
        if self._item is None or self._item["type"] != "message":
            self._close()
            self._open("msg", {"type": "message", "role": "assistant", "content": []})
        self._open_part(kind)

    # Tool calls

    def _open_call(self, call: _Call) -> None:
        custom = call.start.custom
        named = self._parted.get(call.start.name, {"name": call.start.name})
        item: Item = {"type": "custom_tool_call" if custom else "function_call", "call_id": call.start.id, **named}
        self._call = call
        self._open("ctc" if custom else "fc", {**item, "input" if custom else "arguments": ""})
        if call.fragments:
            self._tell_arguments(call, call.text)

    def _grow(self, event: ToolDelta) -> None:
        call = self._calls.get(event.index)
        if call is None:
            raise MalformedAnswer("arguments of a tool call that has not begun")
        if call.closed:
            if event.fragment.strip():
                raise MalformedAnswer("arguments of a tool call that has ended")
            return
        call.grow(event.fragment)
        if call is self._call:
            self._tell_arguments(call, event.fragment)

    def _tell_arguments(self, call: _Call, fragment: str) -> None:
        if not call.told and not call.start.custom:
            fragment = call.text
            if not fragment.lstrip().startswith("{"):
                return  # nothing, or "null", which will be told as an empty object
        call.told = True
        if fragment:
            self._tell("custom_tool_call_input.delta" if call.start.custom else _ARGUMENTS + ".delta", **self._place(), delta=fragment)

    def _close_call(self) -> None:
        call = self._call
        if call is None:
            return
        assert self._item is not None
        text = call.text
        cut = False
        if call.start.custom:
            self._item["input"] = text
            self._tell("custom_tool_call_input.done", **self._place(), input=text)
        else:
            cut = not arguments_object(text, "length" if self._finish in _CUT else self._finish) and self._finish in _CUT
            if not text.strip() or text.strip() == "null":
                text = "{}"
            if not call.told:
                self._tell(_ARGUMENTS + ".delta", **self._place(), delta=text)
            self._item["arguments"] = text
            self._tell(_ARGUMENTS + ".done", **self._place(), name=self._item["name"], arguments=text)
        self._call = None
        call.closed = True
        self._close_item("incomplete" if cut else "completed")

    # Items and parts

    def _open(self, prefix: str, item: Item) -> None:
        item_id = f"{prefix}_{self._answering.digits}{len(self.items):04x}"
        self._item = {"id": item_id, **item, "status": "in_progress"}
        self._tell("output_item.added", output_index=len(self.items), item=_copy(self._item))

    def _close(self, status: str = "completed") -> None:
        """Ends the open item, if it is a message or a thought."""
        if self._item is None:
            return
        if self._item["type"] == "reasoning":
            self._end_thought(ReasoningEnd(), status)
        else:
            self._close_item(status)

    def _close_item(self, status: str) -> None:
        assert self._item is not None
        self._close_part()
        self._item["status"] = status
        self._tell("output_item.done", output_index=len(self.items), item=self._item)
        self.items.append(self._item)
        self._item = None

    def _open_part(self, kind: str) -> None:
        if self._part is not None and self._part["type"] == kind:
            return
        self._close_part()
        _, field, _, part_events, index = _PARTS[kind]
        self._part = {"type": kind, field: ""}
        if kind == "output_text":
            self._part |= {"annotations": [], "logprobs": []}
        self._tell(part_events + ".added", **self._place(), **{index: self._index()}, part=_copy(self._part))

    def _close_part(self) -> None:
        part = self._part
        if part is None:
            return
        assert self._item is not None
        events, field, kept_in, part_events, index = _PARTS[part["type"]]
        part[field] = "".join(self._texts)
        place = {**self._place(), index: self._index()}
        logprobs = {"logprobs": part["logprobs"]} if part["type"] == "output_text" else {}
        self._tell(events + ".done", **place, **{field: part[field]}, **logprobs)
        self._tell(part_events + ".done", **place, part=part)
        self._item[kept_in].append(part)
        self._part = None
        self._texts = []

    def _tell_delta(self, text: str, **fields: Any) -> None:
        assert self._part is not None
        events, _, _, _, index = _PARTS[self._part["type"]]
        self._texts.append(text)
        self._tell(events + ".delta", **self._place(), **{index: self._index()}, delta=text, **fields)

    def _place(self) -> Item:
        assert self._item is not None
        return {"item_id": self._item["id"], "output_index": len(self.items)}

    def _index(self) -> int:
        """Where in its item the open part is."""
        assert self._item is not None
        assert self._part is not None
        return len(self._item[_PARTS[self._part["type"]][2]])

    def _tell(self, event: str, **fields: Any) -> None:
        self.told.append({"type": "response." + event, **fields})


_ARGUMENTS = "function_call_arguments"


def _copy(value: Item) -> Item:
    return {name: [*inner] if isinstance(inner, list) else inner for name, inner in value.items()}
