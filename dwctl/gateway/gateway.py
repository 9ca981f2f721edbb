"""What all exchanges of a process share."""

import asyncio
from typing import TYPE_CHECKING

from dwctl.accounts.principals import Keyring
from dwctl.config import Config
from dwctl.gateway.deadlines import Deadlines
from dwctl.gateway.dispatch import beginning
from dwctl.ledger import Begin, Ledger
from dwctl.outbound import Outbound
from dwctl.routing import Limits, Snapshot
from dwctl.store.bodies import BodyStore
from dwctl.telemetry.events import Hub

if TYPE_CHECKING:
    from dwctl.gateway.exchange import Exchange

_LAST_WORDS_SECONDS = 5
"""For the error of an exchange that is ended to reach its client."""


class Gateway:
    """The parts that an exchange leans on. ``snapshot`` is replaced whole; an exchange keeps the model that it was admitted to."""

    def __init__(
        self, config: Config, snapshot: Snapshot, keyring: Keyring, ledger: Ledger, outbound: Outbound, bodies: BodyStore, node: str
    ) -> None:
        self.config = config
        self.snapshot = snapshot
        self.keyring = keyring
        self.ledger = ledger
        self.outbound = outbound
        self.bodies = bodies
        self.node = node
        self.logs_requests = config.log.requests
        self.waits_for_sync = config.journal.sync == "always"
        self.limits = Limits()
        self.deadlines = Deadlines()
        self.events = Hub()
        """``Begin`` when a provider is asked, ``Record`` when an exchange with a known key has ended."""
        self.live: set[Exchange] = set()
        self._all_ended = asyncio.Event()
        self.closed = False
        """No more requests are taken: records would have nowhere to go."""

    def enter(self, exchange: "Exchange") -> None:
        self.live.add(exchange)

    def leave(self, exchange: "Exchange") -> None:
        self.live.discard(exchange)
        if not self.live:
            self._all_ended.set()

    def in_flight(self) -> list[Begin]:
        """Exchanges whose provider was asked and that have not ended, the oldest first."""
        going = [exchange for exchange in self.live if exchange.begun and not exchange.settled]
        return [beginning(exchange) for exchange in sorted(going, key=lambda exchange: exchange.id)]

    def start(self) -> None:
        """Begin to watch deadlines."""
        self.deadlines.start(self.live)

    async def drain(self, seconds: float) -> None:
        """Let exchanges end by themselves for some time, then end the rest: with an error in their dialect,
        or in the middle of what is recorded as complete and not yet taken."""
        await self._ended_within(seconds)
        for exchange in list(self.live):
            exchange.expire("shutdown")
        await self._ended_within(_LAST_WORDS_SECONDS)
        for exchange in list(self.live):
            exchange.expire("shutdown")
        self.closed = True
        self.deadlines.stop()

    async def _ended_within(self, seconds: float) -> None:
        self._all_ended.clear()
        if self.live:
            try:
                await asyncio.wait_for(self._all_ended.wait(), seconds)
            except TimeoutError:
                pass
