"""Holds: no overspend, no phantom block, each refusal with its reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dwctl.errors import GatewayError
from dwctl.ledger.balances import Balances, Hold

A = "account"


def with_balance(nano: int, *, holds: bool = True) -> Balances:
    balances = Balances(holds=holds)
    balances.load({A: nano})
    return balances


def refusal(balances: Balances, amount: int) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        balances.take(A, amount)
    return caught.value


@given(st.integers(1, 60), st.integers(1, 10**12))
def test_a_balance_for_k_requests_admits_exactly_k_of_a_race(k: int, price: int) -> None:
    balances = with_balance(k * price)
    held = []
    for _ in range(100):
        try:
            held.append(balances.take(A, price))
        except GatewayError as error:
            assert (error.status, error.code) == (429, "balance_reserved")
    assert len(held) == k
    assert balances.available(A) == 0


def test_no_credit_is_402_with_balance_and_hold() -> None:
    error = refusal(with_balance(0), 1_500_000_000)
    assert (error.status, error.code, error.fields) == (402, "insufficient_balance", {"balance": "0", "hold": "1.5"})
    assert error.message.startswith("Account balance too low. Please add credits to continue.")
    assert refusal(Balances(), 1).status == 402


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("balance", [0, -1])
def test_a_priced_request_needs_a_positive_balance_in_any_mode(balance: int, holds: bool) -> None:
    assert refusal(with_balance(balance, holds=holds), 0).status == 402


def test_more_than_the_balance_is_402_even_while_something_is_held() -> None:
    balances = with_balance(100)
    balances.take(A, 60)
    assert refusal(balances, 101).code == "insufficient_balance"
    error = refusal(balances, 41)
    assert (error.status, error.code) == (429, "balance_reserved")
    assert error.retry_after
    assert error.fields == {"balance": "0.0000001", "hold": "0.000000041", "reserved": "0.00000006"}


def test_a_released_hold_is_available_again_and_released_once() -> None:
    balances = with_balance(100)
    first, second = balances.take(A, 60), balances.take(A, 40)
    first.release()
    first.release()
    assert balances.held(A) == 40
    second.release()
    assert balances.held(A) == 0 == balances.total_held()
    assert balances.available(A) == 100


def test_without_holds_a_positive_balance_admits_everything() -> None:
    balances = with_balance(1, holds=False)
    taken = [balances.take(A, 10**9) for _ in range(5)]
    assert balances.held(A) == 0
    for hold in taken:
        hold.release()
    balances.add_pending(A, 1)
    assert refusal(balances, 0).status == 402


def test_a_pending_charge_counts_until_the_database_has_it() -> None:
    balances = with_balance(100)
    balances.add_pending(A, 30)
    assert balances.balance(A) == 70
    balances.settle([(A, 30)], {A: 70})
    assert balances.balance(A) == 70
    balances.add_pending(A, 20)
    balances.set_committed(A, 170)
    assert balances.balance(A) == 150


class HoldsMachine(RuleBasedStateMachine):
    """Whatever the order of takes, ends, commits and grants: holds never exceed what was there when they were taken."""

    def __init__(self) -> None:
        super().__init__()
        self.balances = Balances()
        self.database = 0
        self.journal: list[int] = []
        self.holds: list[tuple[Hold, int]] = []

    @rule(amount=st.integers(1, 1_000))
    def grant(self, amount: int) -> None:
        self.database += amount
        self.balances.set_committed(A, self.database)

    @rule(amount=st.integers(0, 300))
    def take(self, amount: int) -> None:
        balance, held = self.database - sum(self.journal), sum(amount for _, amount in self.holds)
        fits = balance > 0 and amount <= balance - held
        try:
            self.holds.append((self.balances.take(A, amount), amount))
            assert fits
        except GatewayError as error:
            assert not fits
            assert error.status == (429 if 0 < balance >= amount else 402)

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if self.holds:
            hold, amount = self.holds.pop(data.draw(st.integers(0, len(self.holds) - 1)))
            cost = data.draw(st.integers(0, amount))
            self.balances.add_pending(A, cost)
            self.journal.append(cost)
            hold.release()

    @rule(count=st.integers(1, 5))
    def commit(self, count: int) -> None:
        done, self.journal = self.journal[:count], self.journal[count:]
        self.database -= sum(done)
        self.balances.settle([(A, cost) for cost in done], {A: self.database})

    @invariant()
    def agrees(self) -> None:
        assert self.balances.balance(A) == self.database - sum(self.journal) >= 0
        assert self.balances.held(A) == sum(amount for _, amount in self.holds)
        assert self.balances.available(A) >= 0


TestHolds = HoldsMachine.TestCase
