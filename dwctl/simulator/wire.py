"""What the dialects have in common on the wire: how an error is shown, how an event is framed, what an answer has to offer.

A dialect's module reads a request strictly (`Refused` is the 400 of the real provider), and gives a `Question`; its
`Question.answer` gives an `Answer`, which `exchange` delivers whole or as a stream, in order or broken.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from dwctl.simulator.behaviour import Behaviour
from dwctl.simulator.connection import Request
from dwctl.simulator.served import Usage

JSON = b"application/json"
SSE = b"text/event-stream; charset=utf-8"


class Refused(Exception):
    """The request is answered with an error. ``kind``, ``code`` and ``param`` are for the dialects that have them."""

    def __init__(self, status: int, message: str, kind: str | None = None, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.code, self.param = status, message, kind, code, param


class Dialect(Protocol):
    """One provider's wire format, apart from what it says."""

    @property
    def end(self) -> bytes | None:
        """The payload that ends a stream after its last event, if there is one."""

    def authorization(self, request: Request) -> bytes | None:
        """The credential as a bearer header, from wherever the dialect takes it."""

    def no_key(self, given: bytes | None) -> Refused:
        """What is said to a request without a key (None) or with a wrong one."""

    def failure(self, status: int) -> Refused:
        """What a provider says that answers with this status."""

    def error(self, refused: Refused) -> bytes:
        """The body of an error."""

    def headers(self, status: int) -> bytes:
        """Headers that the provider adds to an answer."""

    def event(self, payload: bytes) -> bytes:
        """One payload of a stream as it stands on the wire."""


class Answer(Protocol):
    """One answer. The payloads of a stream are `lead`, then those of `body` one position after the other, then `tail`."""

    @property
    def usage(self) -> Usage: ...

    @property
    def reported(self) -> bool:
        """Whether the answer states its usage when it is delivered in full."""

    @property
    def choices(self) -> int:
        """Tokens that a position of the body stands for."""

    @property
    def content_type(self) -> bytes:
        """Of a stream."""

    def whole(self) -> tuple[bytes, bytes]:
        """Content type and body of the answer in one piece."""

    def lead(self) -> list[bytes]: ...

    def body(self) -> Iterator[list[bytes]]: ...

    def tail(self) -> list[bytes]: ...

    def broken(self, failed: bool) -> list[bytes]:
        """The payloads that end a stream with an error; ``failed``: as the answer's state, where the dialect has that."""


class Unstreamed:
    """Base of answers that are never a stream."""

    choices = 0

    def lead(self) -> list[bytes]:
        return []

    def body(self) -> Iterator[list[bytes]]:
        return iter(())

    def tail(self) -> list[bytes]:
        return []

    def broken(self, failed: bool) -> list[bytes]:
        return []


class Question(Protocol):
    """A request that was read and found good."""

    @property
    def model(self) -> str: ...

    @property
    def stream(self) -> bool:
        """Whether the answer is wanted as a stream."""

    @property
    def generates(self) -> bool:
        """Whether the answer is made token by token, at a rate."""

    def check(self, behaviour: Behaviour) -> None:
        """Raises `Refused` for what only the model can refuse."""

    def tokens(self, behaviour: Behaviour) -> int:
        """Completion tokens of one choice."""

    def answer(self, behaviour: Behaviour, told: bool) -> Answer:
        """The answer of the model; ``told``: whether it states its usage where the request wants it."""


def decoded(body: bytes) -> Any:
    """A request's JSON; raises msgspec.DecodeError or UnicodeDecodeError."""
    return msgspec.json.decode(body)


def named_event(payload: bytes) -> bytes:
    """A server-sent event with the name that its payload begins with."""
    name = payload[9 : payload.index(b'"', 9)]
    return b"event: " + name + b"\ndata: " + payload + b"\n\n"


encode = msgspec.json.encode
