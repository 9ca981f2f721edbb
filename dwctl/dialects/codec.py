"""What a dialect is: plain functions and two state machines, the same for each, so that any client meets any provider.

A codec is a module. Its client side reads requests and writes answers; its provider side writes requests and reads answers.
"""

from typing import Any, NamedTuple, Protocol

from dwctl.dialects.answers import Answering, Counted, Event, Response
from dwctl.dialects.canonical import Request
from dwctl.dialects.names import DialectName
from dwctl.errors import GatewayError


class StreamParser(Protocol):
    """Reads a provider's stream. Fed any cuts of the same bytes, it gives the same events."""

    def split(self, chunk: bytes) -> list[bytes]:
        """The protocol's own units (events, lines) that are whole now, byte for byte. Raises MalformedAnswer."""

    def take(self, unit: bytes) -> list[Event]:
        """What one unit means. Raises MalformedAnswer for one that is not of the dialect, with the usage that it reports all the same."""

    def rest(self) -> bytes:
        """The unit that has begun and not ended."""

    def close(self) -> None:
        """The provider has ended the message. Raises MalformedAnswer for what was wrong before, and might have been followed by usage."""


class StreamRenderer(Protocol):
    """Writes a client's stream. Whatever the order of the events, what it writes is a valid stream of its protocol."""

    def render(self, event: Event) -> bytes:
        """The bytes that may go out on this event, maybe none; never called with `Failed` or `Ended`."""

    def end(self) -> bytes:
        """All that was held back, and the end of a whole answer. Raises MalformedAnswer for a tool call that is not whole."""

    def fail(self, error: GatewayError) -> bytes:
        """The end of an answer that failed, after whatever was written."""


class ProviderError(NamedTuple):
    """A provider's error in its own words. ``status`` is the HTTP status that it stands for, where its dialect has words for that."""

    message: str
    type: str | None = None
    code: str | None = None
    param: str | None = None
    status: int | None = None

    @property
    def words(self) -> str:
        """What it complains of, in one line for the record."""
        return ": ".join(word for word in (self.code or self.type, self.message) if word)

    def told_by(self, error: GatewayError) -> GatewayError:
        """``error``, of which the client is told in these words."""
        error.told = GatewayError(
            error.status,
            self.type or error.type,
            self.code or "upstream_error",
            self.message or error.message,
            param=self.param,
            retry_after=error.retry_after,
        )
        return error


class Codec(Protocol):
    """One dialect (a module is one)."""

    @property
    def DIALECT(self) -> DialectName: ...

    @property
    def PATH(self) -> str:
        """Where a provider takes such requests, below its base URL."""

    @property
    def STREAM_TYPE(self) -> str:
        """The media type of its streams."""

    @property
    def PING(self) -> bytes:
        """What keeps an idle stream open."""

    def parse_request(self, body: dict[str, Any]) -> Request:
        """Raises GatewayError 400 that names the field."""

    def render_request(self, request: Request, model: str) -> dict[str, Any]:
        """The body for a provider that calls the model ``model``. Raises GatewayError 400 for what cannot be said."""

    def parse_response(self, body: dict[str, Any]) -> Response:
        """Raises MalformedAnswer."""

    def render_response(self, response: Response, request: Request, answering: Answering) -> dict[str, Any]:
        """Raises MalformedAnswer for an answer that cannot be said (a tool call that is not whole)."""

    def parse_stream(self) -> StreamParser: ...

    def render_stream(self, request: Request, answering: Answering) -> StreamRenderer: ...

    def render_error(self, error: GatewayError, request_id: str) -> bytes:
        """The JSON body of an error."""

    def stream_error(self, error: GatewayError, request_id: str) -> bytes:
        """The error event alone, which may follow whatever of a provider's own stream was passed on, and what must follow it."""

    def read_error(self, body: dict[str, Any]) -> ProviderError | None:
        """The error that a JSON body is; None if it is none."""

    def read_usage(self, body: dict[str, Any]) -> Counted | None:
        """The usage that a provider's JSON body reports, also if it is an error or no answer; None if it reports none."""
