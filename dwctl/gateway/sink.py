"""Where an exchange writes its answer."""

from typing import Protocol


class Sink(Protocol):
    """The client's side of an exchange. A client that is gone makes ``send`` raise ``asyncio.CancelledError``; that is ``ClientStalled``
    if it took nothing for ``timeouts.client_write``."""

    started: bool
    """Whether any byte of the answer was handed to the client."""

    def head(self, status: int, headers: dict[str, str]) -> None:
        """Status and headers of the answer; sent with its first bytes."""

    async def send(self, data: bytes, *, last: bool) -> None:
        """Hand bytes to the client, and return when it has taken as many as do not fit on the way; ``last`` ends the message properly."""

    def offer(self, data: bytes) -> None:
        """Hand over bytes that may as well be left out, if the client takes any now."""

    def abort(self) -> None:
        """Break the connection, so that the client sees an answer that did not end."""
