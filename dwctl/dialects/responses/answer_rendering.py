"""An answer, written for a client: whole, or as a stream of events (API reference: responses, streaming)."""

from typing import Any

from dwctl.dialects import sse
from dwctl.dialects.answers import Answering, Ended, Event, Response, events_of
from dwctl.dialects.canonical import Request
from dwctl.dialects.json_text import encode
from dwctl.dialects.openai_errors import DONE
from dwctl.dialects.responses.errors import error_event, failure
from dwctl.dialects.responses.output import Output
from dwctl.dialects.responses.resource import Item
from dwctl.errors import GatewayError


def render_response(response: Response, request: Request, answering: Answering) -> dict[str, Any]:
    """Raises MalformedAnswer for a tool call that is not whole."""
    output = Output(request, answering)
    for event in events_of(response):
        if not isinstance(event, Ended):
            output.add(event)
    output.end()
    return output.response()


class Renderer:
    """A stream: created, in progress, the items, and how it ended. ``[DONE]``, which Open Responses wants, is the last line.

    What an event tells is numbered as it goes out: of one that raises, `fail` sends what it told before.
    """

    def __init__(self, request: Request, answering: Answering) -> None:
        self._output = Output(request, answering)
        self._sequence = 0
        self._begun = False
        self._over = False

    def render(self, event: Event) -> bytes:
        if self._over:
            return b""
        self._begin()
        self._output.add(event)
        return self._told()

    def end(self) -> bytes:
        if self._over:
            return b""
        self._begin()
        self._output.end()
        self._over = True
        response = self._output.response()
        self._output.told.append({"type": "response." + response["status"], "response": response})
        return self._told() + DONE

    def fail(self, error: GatewayError) -> bytes:
        if self._over:
            return b""
        self._begin()
        self._over = True
        failed = {"type": "response.failed", "response": self._output.response("failed", failure(error))}
        self._output.told += [error_event(error), failed]
        return self._told() + DONE

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            response = self._output.response("in_progress")
            self._output.told += [{"type": kind, "response": response} for kind in ("response.created", "response.in_progress")]

    def _told(self) -> bytes:
        told, self._output.told = self._output.told, []
        return b"".join(map(self._event, told))

    def _event(self, event: Item) -> bytes:
        numbered = {"type": event["type"], "sequence_number": self._sequence, **event}
        self._sequence += 1
        return sse.encode(encode(numbered), event["type"])
