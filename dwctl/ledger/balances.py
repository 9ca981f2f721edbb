"""Balances and holds in memory: what decides whether a priced request may be sent to a provider.

Plain synchronous code on the event loop, so that looking and taking are one step and a budget cannot be overspent by
requests that race each other. Amounts are nano-credits.

An account's balance is what the database has (*committed*) less the charges that are written to the journal and not yet in
the database (*pending*). A hold lives as long as its exchange and is released by it, never by a timer.
"""

from collections.abc import Iterable, Mapping

from dwctl.errors import GatewayError
from dwctl.ledger.metrics import BALANCE_CROSSINGS
from dwctl.money import format_amount

RETRY_AFTER_S = 1.0
"""How soon a caller whose own requests hold the money should try again."""


class Hold:
    """An amount set aside for one exchange. ``amount`` is in nano-credits."""

    __slots__ = ("_account", "_balances", "amount")

    def __init__(self, balances: "Balances", account: str, amount: int) -> None:
        self._balances: Balances | None = balances
        self._account = account
        self.amount = amount

    def release(self) -> None:
        """Give the amount back; further calls do nothing."""
        balances = self._balances
        if balances is not None:
            self._balances = None
            balances._release(self._account, self.amount)


class Balances:
    """Balances and holds of every account; an account that was never credited has a balance of zero.

    ``holds`` is False for ``billing.holds: off``: then a request is admitted while the balance is positive.
    """

    def __init__(self, *, holds: bool = True) -> None:
        self._holds = holds
        self._committed: dict[str, int] = {}
        self._pending: dict[str, int] = {}
        self._held: dict[str, int] = {}

    def balance(self, account: str) -> int:
        """Nano-credits after everything that was charged so far; may be negative."""
        return self._committed.get(account, 0) - self._pending.get(account, 0)

    def committed(self, account: str) -> int:
        """Nano-credits that the database has, as far as is known."""
        return self._committed.get(account, 0)

    def held(self, account: str) -> int:
        """Nano-credits set aside for requests in flight."""
        return self._held.get(account, 0)

    def available(self, account: str) -> int:
        """Nano-credits that a new request may hold."""
        return self.balance(account) - self._held.get(account, 0)

    def total_held(self) -> int:
        """Nano-credits set aside over all accounts."""
        return sum(self._held.values())

    def take(self, account: str, amount_nano: int) -> Hold:
        """Set ``amount_nano`` aside for a priced request.

        Raises GatewayError 402 ``insufficient_balance`` if the balance is not positive or smaller than the amount, and 429
        ``balance_reserved`` if it would do, but for the account's own requests in flight.
        """
        balance = self._committed.get(account, 0) - self._pending.get(account, 0)
        if balance <= 0:
            raise _insufficient(balance, amount_nano)
        if not self._holds:
            return Hold(self, account, 0)
        held = self._held.get(account, 0)
        if amount_nano > balance - held:
            raise _insufficient(balance, amount_nano) if amount_nano > balance else _reserved(balance, amount_nano, held)
        self._held[account] = held + amount_nano
        return Hold(self, account, amount_nano)

    def _release(self, account: str, amount: int) -> None:
        left = self._held.get(account, 0) - amount
        if left > 0:
            self._held[account] = left
        else:
            self._held.pop(account, None)

    def load(self, committed: Mapping[str, int]) -> None:
        """Take over the database's balances at start."""
        self._committed = dict(committed)

    def add_pending(self, account: str, amount_nano: int) -> None:
        """A charge is in the journal and not yet in the database."""
        self._pending[account] = self._pending.get(account, 0) + amount_nano

    def settle(self, recorded: Iterable[tuple[str, int]], committed: Mapping[str, int]) -> None:
        """Charges (account, nano-credits) have left the journal for the database, which now has these balances (less what is pending
        still)."""
        for account, amount in recorded:
            left = self._pending.get(account, 0) - amount
            if left:
                self._pending[account] = left
            else:
                self._pending.pop(account, None)
        for account, balance in committed.items():
            self.set_committed(account, balance)

    def set_committed(self, account: str, balance_nano: int) -> None:
        """The database's balance of one account has been read anew."""
        before = self._committed.get(account, 0)
        self._committed[account] = balance_nano
        if before > 0 >= balance_nano:
            BALANCE_CROSSINGS.labels("down").inc()
        elif before <= 0 < balance_nano:
            BALANCE_CROSSINGS.labels("up").inc()


def _insufficient(balance: int, hold: int) -> GatewayError:
    has, needs = format_amount(balance), format_amount(hold)
    return GatewayError(
        402,
        "insufficient_quota",
        "insufficient_balance",
        f"Account balance too low. Please add credits to continue. The balance is {has} credits; this request may cost up to {needs}.",
        fields={"balance": has, "hold": needs},
    )


def _reserved(balance: int, hold: int, held: int) -> GatewayError:
    has, needs, reserved = format_amount(balance), format_amount(hold), format_amount(held)
    return GatewayError(
        429,
        "rate_limit_error",
        "balance_reserved",
        f"The account's balance of {has} credits is reserved to {reserved} by its own requests in flight; this request may cost "
        f"up to {needs}. Try again when one of them has ended.",
        retry_after=RETRY_AFTER_S,
        fields={"balance": has, "hold": needs, "reserved": reserved},
    )
