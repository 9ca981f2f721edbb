"""The parts of the running program that operations and handlers work with, built once by the composition root."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dwctl.accounts.attempts import AttemptLimit
from dwctl.accounts.passwords import Passwords
from dwctl.accounts.principals import Keyring
from dwctl.telemetry.bell import Bell

if TYPE_CHECKING:
    import asyncio

    from dwctl.accounts.principals import Principal
    from dwctl.config import Config
    from dwctl.gateway import InsideCall
    from dwctl.ledger import Begin, Ledger
    from dwctl.operations.calls import Run
    from dwctl.outbound import Mail, Outbound
    from dwctl.routing.snapshot import Snapshot
    from dwctl.sealing import Sealer
    from dwctl.store import BodyStore, Changes, Store
    from dwctl.telemetry.events import Hub


@dataclass
class Services:
    """Everything an operation may need. ``snapshot()`` is the catalog that the gateway serves at this moment, ``events`` tells of its
    requests (``Begin`` and ``Record``), ``in_flight()`` is what it is at, ``call(principal, path, body, client_ip)`` calls a model."""

    config: "Config"
    store: "Store"
    changes: "Changes"
    sealer: "Sealer"
    outbound: "Outbound"
    ledger: "Ledger"
    bodies: "BodyStore"
    keyring: Keyring
    snapshot: "Callable[[], Snapshot]"
    events: "Hub"
    in_flight: "Callable[[], Sequence[Begin]]"
    call: "Callable[[Principal, str, bytes, str | None], InsideCall]"
    origins: Mapping[str, str]
    """Where each value of the configuration came from, by its dotted path; those that are not named are defaults."""

    def degraded(self) -> list[str]:
        """What is not well, for /readyz and people."""
        return [*self.ledger.degraded(), *self.changes.degraded()]

    @cached_property
    def passwords(self) -> Passwords:
        return Passwords(self.config.auth.native.password)

    @cached_property
    def runs(self) -> "dict[str, Run]":
        """What the playground is at, by the run's id."""
        return {}

    @cached_property
    def listening(self) -> Counter[str]:
        """How many feeds each user follows at this moment."""
        return Counter()

    @cached_property
    def access(self) -> Bell:
        """Rings when somebody may have lost what they had: a session has ended, an account has changed."""
        return Bell()

    @cached_property
    def mail(self) -> "Mail":
        from dwctl.outbound import Mail

        return Mail(self.config.email, self.config.data_dir)

    @cached_property
    def tasks(self) -> "set[asyncio.Task[None]]":
        """What goes on after its answer was given; kept here, so that it is not collected as garbage."""
        return set()

    @cached_property
    def attempts_by_address(self) -> AttemptLimit:
        """Sign-in attempts from one client address: 30 at once, then one every 4 s."""
        return AttemptLimit(30, 4.0)

    @cached_property
    def attempts_by_account(self) -> AttemptLimit:
        """Sign-in attempts at one account, from wherever: 10 at once, then one every 10 s."""
        return AttemptLimit(10, 10.0)
