"""The protocol of a Responses stream, checked event by event, as strictly as its strictest client."""

import json
from typing import Any, get_args

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import ValidationError

_EVENTS = {get_args(event.model_fields["type"].annotation)[0]: event for event in get_args(get_args(ResponseStreamEvent)[0])}
_RESPONSE_FIELDS = {
    "id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id", "instructions",
    "output", "error", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p", "presence_penalty",
    "frequency_penalty", "top_logprobs", "temperature", "reasoning", "user", "usage", "max_output_tokens", "max_tool_calls", "store",
    "background", "service_tier", "metadata", "safety_identifier", "prompt_cache_key",
}  # fmt: skip
"""Those that Open Responses requires."""

_TERMINAL = ("response.completed", "response.incomplete", "response.failed")
_PART_EVENTS = {
    "output_text": ("response.output_text", "text", "content"),
    "refusal": ("response.refusal", "refusal", "content"),
    "reasoning_text": ("response.reasoning_text", "text", "content"),
    "summary_text": ("response.reasoning_summary_text", "text", "summary"),
}
_CALLS = {
    "function_call": ("response.function_call_arguments", "arguments"),
    "custom_tool_call": ("response.custom_tool_call_input", "input"),
}


def check_response(response: dict[str, Any]) -> None:
    """A response object: every field there, and of the type that OpenAI's SDK says, without conversion."""
    assert response.keys() >= _RESPONSE_FIELDS, _RESPONSE_FIELDS - response.keys()
    Response.model_validate_json(json.dumps(response), strict=True)
    assert response["object"] == "response"
    assert response["id"].startswith("resp_")
    for name in ("top_p", "temperature", "presence_penalty", "frequency_penalty", "top_logprobs", "service_tier", "metadata"):
        assert response[name] is not None, name
    assert {"effort", "summary"} <= response["reasoning"].keys()
    if response["usage"] is not None:
        details = response["usage"]["input_tokens_details"], response["usage"]["output_tokens_details"]
        assert details[0].keys() >= {"cached_tokens", "cache_write_tokens"}
        assert details[1].keys() >= {"reasoning_tokens"}
        assert response["usage"]["total_tokens"] == response["usage"]["input_tokens"] + response["usage"]["output_tokens"]
    assert (response["incomplete_details"] is not None) == (response["status"] == "incomplete")
    assert (response["error"] is not None) == (response["status"] == "failed")
    assert (response["completed_at"] is not None) == (response["status"] == "completed")
    for item in response["output"]:
        if "encrypted_content" in item:
            assert isinstance(item["encrypted_content"], str)


class Machine:
    """Feed it the bytes of a stream, in any cuts, and tell it when the stream ended."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._rest = b""
        self._done = False
        self._error: dict[str, Any] | None = None
        self._item: dict[str, Any] | None = None
        self._part: dict[str, Any] | None = None
        self._parts: list[dict[str, Any]] = []
        self._text = ""
        self._part_done = False
        self._arguments: str | None = None
        self._output: list[dict[str, Any]] = []
        self._id: str | None = None
        self._ids: set[str] = set()

    @property
    def response(self) -> dict[str, Any]:
        """The response object of the last event that has one."""
        return next(event["response"] for event in reversed(self.events) if "response" in event)

    def feed(self, data: bytes) -> None:
        self._rest += data
        while b"\n\n" in self._rest:
            block, self._rest = self._rest.split(b"\n\n", 1)
            self._block(block.decode())

    def end(self) -> None:
        assert self._rest == b"", self._rest
        assert self._done, "no [DONE]"

    def _block(self, block: str) -> None:
        assert not self._done, f"after [DONE]: {block}"
        if block.startswith(":"):
            return
        if block == "data: [DONE]":
            assert self.events, "[DONE] and nothing else"
            assert self.events[-1]["type"] in _TERMINAL, self.events[-1]["type"]
            self._done = True
            return
        name, data = block.split("\n")
        assert name.startswith("event: "), name
        assert data.startswith("data: "), data
        event = json.loads(data.removeprefix("data: "))
        assert event["type"] == name.removeprefix("event: ")
        assert event["sequence_number"] == len(self.events)
        try:
            _EVENTS[event["type"]].model_validate_json(data.removeprefix("data: "), strict=True)
        except ValidationError as error:
            raise AssertionError(f"{event['type']}: {error}") from error
        self.events.append(event)
        self._step(event)

    def _step(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        position = len(self.events) - 1
        if position < 2:
            assert kind == ("response.created", "response.in_progress")[position]
            self._check(event["response"], "in_progress", [])
            assert event["response"]["usage"] is None
            return
        assert self.events[-2]["type"] not in _TERMINAL, f"{kind} after the end"
        if self._error is not None:
            assert kind == "response.failed", f"{kind} after an error"
        match kind:
            case "error":
                self._error = event
                assert event["error"]["message"] == event["message"]
            case "response.failed":
                assert self._error is not None
                self._check(event["response"], "failed", self._output)
                assert event["response"]["error"]["message"] == self._error["message"]
            case "response.completed" | "response.incomplete":
                assert self._item is None, "an item is open"
                self._check(event["response"], kind.removeprefix("response."), self._output)
            case "response.output_item.added":
                self._add_item(event)
            case "response.output_item.done":
                self._end_item(event)
            case "response.content_part.added" | "response.reasoning_summary_part.added":
                self._add_part(event)
            case "response.content_part.done" | "response.reasoning_summary_part.done":
                self._end_part(event)
            case "response.output_text.annotation.added":
                self._at_part(event)
                assert event["annotation_index"] == len(self._part["annotations"])
                self._part["annotations"].append(event["annotation"])
            case _:
                if self._item["type"] in _CALLS:
                    self._grow_call(event)
                else:
                    self._grow_part(event)

    def _check(self, response: dict[str, Any], status: str, output: list[dict[str, Any]]) -> None:
        check_response(response)
        assert self._id in (None, response["id"]), "another id"
        self._id = response["id"]
        assert response["status"] == status
        assert response["output"] == output

    def _add_item(self, event: dict[str, Any]) -> None:
        assert self._item is None, "two items are open"
        item = event["item"]
        assert event["output_index"] == len(self._output)
        assert item["id"] not in self._ids
        self._ids.add(item["id"])
        assert item["status"] == "in_progress"
        assert item["id"].startswith(
            {"message": "msg_", "reasoning": "rs_", "function_call": "fc_", "custom_tool_call": "ctc_"}[item["type"]]
        )
        self._item = item
        self._parts = []
        if item["type"] in _CALLS:
            assert item[_CALLS[item["type"]][1]] == ""
            assert item["call_id"]
            assert item["name"]
            self._arguments = ""
            self._part_done = False
        elif item["type"] == "message":
            assert item["content"] == []
        else:
            assert item["summary"] == []

    def _end_item(self, event: dict[str, Any]) -> None:
        assert self._item is not None
        item = event["item"]
        assert event["output_index"] == len(self._output)
        assert item["status"] in ("completed", "incomplete")
        assert all(item[name] == self._item[name] for name in ("id", "type"))
        assert self._part is None, "a part is open"
        if item["type"] in _CALLS:
            assert self._part_done, "arguments without an end"
            assert item[_CALLS[item["type"]][1]] == self._arguments
            assert (item["call_id"], item["name"]) == (self._item["call_id"], self._item["name"])
            if item["type"] == "function_call" and item["status"] == "completed":
                assert isinstance(json.loads(item["arguments"]), dict)
        elif item["type"] == "message":
            assert item["content"] == self._parts
            assert self._parts, "a message without content"
        else:
            assert [*item["summary"], *item.get("content", [])] == self._parts
        self._output.append(item)
        self._item = None

    def _at(self, event: dict[str, Any]) -> None:
        assert self._item is not None, f"{event['type']} without an item"
        assert event["item_id"] == self._item["id"]
        assert event["output_index"] == len(self._output)

    def _at_part(self, event: dict[str, Any]) -> None:
        self._at(event)
        assert self._part is not None, f"{event['type']} without a part"
        index = "summary_index" if self._part["type"] == "summary_text" else "content_index"
        kept_in = _PART_EVENTS[self._part["type"]][2]
        assert event[index] == len([part for part in self._parts if _PART_EVENTS[part["type"]][2] == kept_in])

    def _add_part(self, event: dict[str, Any]) -> None:
        assert self._part is None, "two parts are open"
        part = event["part"]
        assert self._item["type"] == ("message" if part["type"] in ("output_text", "refusal") else "reasoning")
        assert ("summary" in event["type"]) == (part["type"] == "summary_text")
        assert part[_PART_EVENTS[part["type"]][1]] == ""
        self._part = part
        self._text = ""
        self._part_done = False
        self._at_part(event)

    def _grow_part(self, event: dict[str, Any]) -> None:
        self._at_part(event)
        events, field, _ = _PART_EVENTS[self._part["type"]]
        assert not self._part_done
        if event["type"] == events + ".delta":
            assert event["delta"] != ""
            self._text += event["delta"]
        else:
            assert event["type"] == events + ".done"
            assert event[field] == self._text
            self._part_done = True
        if events == "response.output_text" and event["type"].endswith(".delta"):
            self._part["logprobs"] += event["logprobs"]

    def _end_part(self, event: dict[str, Any]) -> None:
        self._at_part(event)
        assert self._part_done, "a part without its text"
        assert event["part"] == {**self._part, _PART_EVENTS[self._part["type"]][1]: self._text}
        self._parts.append(event["part"])
        self._part = None

    def _grow_call(self, event: dict[str, Any]) -> None:
        self._at(event)
        events, field = _CALLS[self._item["type"]]
        assert not self._part_done
        if event["type"] == events + ".delta":
            self._arguments += event["delta"]
        else:
            assert event["type"] == events + ".done", event["type"]
            assert event[field] == self._arguments
            if field == "arguments":
                assert event["name"] == self._item["name"]
            self._part_done = True
