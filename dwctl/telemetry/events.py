"""The in-process event hub: what happens now, for whoever is watching, and at no cost while nobody is.

A publisher looks at ``listening`` first. Events get ascending ids and stay in a ring for a while, so that a subscriber that lost its
connection goes on where it was; the hub keeps listening for ``LINGER_SECONDS`` after the last one has left. A subscriber that is slow
loses its oldest events and is told how many.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from types import TracebackType

import msgspec

RING = 2_000
"""Events that can be taken up again."""
QUEUE = 500
"""Events that wait for one subscriber."""
LINGER_SECONDS = 60.0


class Event(msgspec.Struct, frozen=True):
    """``id`` is for Last-Event-ID: opaque, valid for this process. ``payload`` is what was published."""

    id: str
    payload: object


class Missed(msgspec.Struct, frozen=True):
    """Events were lost before the next one: how many, or None if nobody knows (the program was started anew, or it is long ago)."""

    count: int | None


class Hub:
    """Hands what is published to all subscribers. Everything runs on the loop's thread."""

    def __init__(self) -> None:
        self.listening = False
        """Whether it makes sense to publish."""
        self._run = secrets.token_hex(4)
        self._number = 0
        self._ring: deque[tuple[int, object]] = deque(maxlen=RING)
        self._subscriptions: set[Subscription] = set()
        self._silence: asyncio.TimerHandle | None = None

    def publish(self, payload: object) -> None:
        """Tell everybody. The payload must not be changed afterwards."""
        self._number += 1
        self._ring.append((self._number, payload))
        for subscription in self._subscriptions:
            subscription._offer(self._number, payload)

    def subscribe(self, wanted: Callable[[object], bool], last_id: str | None = None) -> "Subscription":
        """Follow the events for which ``wanted`` is true, from now on or after ``last_id``; to be used as a context manager."""
        return Subscription(self, wanted, last_id)

    def event_id(self, number: int) -> str:
        return f"{self._run}-{number}"

    def _since(self, last_id: str) -> tuple[int | None, list[tuple[int, object]]]:
        """Events after an id, and how many of those before them are gone."""
        run, _, text = last_id.partition("-")
        if run != self._run or not (text.isascii() and text.isdigit()) or int(text) > self._number:
            return None, []
        number = int(text)
        kept = [entry for entry in self._ring if entry[0] > number]
        # What was not published while nobody listened has no number either; then the ring was emptied.
        return (0 if len(kept) == self._number - number else None), kept

    def _enter(self, subscription: "Subscription") -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        self._subscriptions.add(subscription)
        self.listening = True

    def _leave(self, subscription: "Subscription") -> None:
        self._subscriptions.discard(subscription)
        if not self._subscriptions and self.listening and self._silence is None:
            self._silence = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._be_silent)

    def _be_silent(self) -> None:
        """Nobody has come back: nothing is published any more, and ids from before lead nowhere."""
        self._silence = None
        self.listening = False
        self._ring.clear()
        self._run = secrets.token_hex(4)


class Subscription:
    """One subscriber's queue."""

    def __init__(self, hub: Hub, wanted: Callable[[object], bool], last_id: str | None) -> None:
        self._hub = hub
        self._wanted = wanted
        self._last_id = last_id
        self._queue: deque[tuple[int, object]] = deque()
        self._dropped: int | None = 0
        self._arrived = asyncio.Event()

    def __enter__(self) -> "Subscription":
        if self._last_id is not None:
            self._dropped, kept = self._hub._since(self._last_id)
            for number, payload in kept:
                self._offer(number, payload)
            if self._dropped is None:
                self._arrived.set()
        self._hub._enter(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._hub._leave(self)

    def _offer(self, number: int, payload: object) -> None:
        if not self._wanted(payload):
            return
        if len(self._queue) == QUEUE:
            self._queue.popleft()
            if self._dropped is not None:
                self._dropped += 1
        self._queue.append((number, payload))
        self._arrived.set()

    async def next(self, timeout: float) -> Event | Missed | None:
        """The next event, or what was missed before it; None if there is none within ``timeout`` seconds."""
        if not self._arrived.is_set():
            try:
                async with asyncio.timeout(timeout):
                    await self._arrived.wait()
            except TimeoutError:
                return None
        if self._dropped != 0:
            dropped, self._dropped = self._dropped, 0
            if not self._queue:
                self._arrived.clear()
            return Missed(dropped)
        number, payload = self._queue.popleft()
        if not self._queue:
            self._arrived.clear()
        return Event(self._hub.event_id(number), payload)
