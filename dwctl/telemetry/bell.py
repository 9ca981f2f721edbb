"""A bell: rung when something has changed that others should look at anew; it does not say what."""

import asyncio


class Bell:
    """Everything runs on the loop's thread."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def ring(self) -> None:
        """Let everybody know who listens."""
        self._next.set()
        self._next = asyncio.Event()

    def next(self) -> asyncio.Event:
        """Is set when it rings the next time after this call. Who takes it before looking misses nothing."""
        return self._next
