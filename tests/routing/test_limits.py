"""Rates never above what was granted, never starving; counts that come back to zero."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.routing.limits import Limits

gaps = st.lists(st.floats(0, 5, allow_nan=False), min_size=1, max_size=120)


@given(st.floats(0.05, 200), st.integers(1, 20), gaps)
def test_never_above_the_rate_in_any_window(rate: float, burst: int, waits: list[float]) -> None:
    limits = Limits()
    now = 100.0
    passed: list[float] = []
    for wait in waits:
        now += wait
        if limits.check("k", rate, burst, now).allowed:
            limits.take("k", rate, now)
            passed.append(now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + rate * (passed[last] - passed[first]) + 1e-3


@given(st.floats(0.05, 200), st.integers(1, 20))
def test_a_full_burst_passes_and_then_the_promised_moment_does(rate: float, burst: int) -> None:
    limits = Limits()
    for left in range(burst, 0, -1):
        state = limits.check("k", rate, burst, 10.0)
        assert state.allowed
        assert state.remaining == left - 1
        limits.take("k", rate, 10.0)
    refused = limits.check("k", rate, burst, 10.0)
    assert not refused.allowed
    assert refused.retry_after > 0
    assert limits.check("k", rate, burst, 10.0 + refused.retry_after + 1e-6).allowed


def test_a_changed_rate_does_not_refill() -> None:
    limits = Limits()
    for _ in range(2):
        assert limits.check("k", 0.5, 2, 0.0).allowed
        limits.take("k", 0.5, 0.0)
    assert not limits.check("k", 0.5, 2, 0.0).allowed
    assert not limits.check("k", 0.6, 2, 0.0).allowed


def test_a_check_takes_nothing() -> None:
    limits = Limits()
    for _ in range(10):
        assert limits.check("k", 1.0, 1, 0.0).allowed


def test_idle_scopes_are_forgotten() -> None:
    limits = Limits()
    for number in range(20_000):
        limits.take(f"k{number}", 100.0, float(number))
    assert len(limits._arrivals) < 10_000


def test_slots() -> None:
    limits = Limits()
    first = limits.enter("m", 1)
    assert first is not None
    assert limits.enter("m", 1) is None
    first.release()
    first.release()
    assert limits.total_active() == 0
    assert limits.enter("m", 1) is not None


@pytest.mark.parametrize("count", [1, 5])
def test_unlimited_scopes_are_counted(count: int) -> None:
    limits = Limits()
    slots = [limits.enter("m", None) for _ in range(count)]
    assert limits.active("m") == count
    for slot in slots:
        assert slot is not None
        slot.release()
    assert limits.active("m") == 0
