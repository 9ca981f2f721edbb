"""Rates never above what was granted, never starving; counts that come back to zero."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.routing.limits import Limits

rates = st.floats(0.001, 200)
bursts = st.integers(1, 20)


@given(rates, bursts, st.lists(st.floats(0, 5, allow_nan=False), min_size=1, max_size=120))
def test_never_above_the_rate_in_any_window(rate: float, burst: int, waits: list[float]) -> None:
    limits = Limits()
    now = 100.0
    passed: list[float] = []
    for wait in waits:
        now += wait
        if limits.check("k", rate, burst, now) is None:
            limits.take("k", rate, burst, now)
            passed.append(now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + rate * (passed[last] - passed[first]) + 1e-3


@given(st.lists(st.tuples(st.floats(0, 5, allow_nan=False), rates, bursts), min_size=2, max_size=30))
def test_rates_that_change_never_let_more_pass_than_those_in_force_and_make_nobody_wait_longer(
    steps: list[tuple[float, float, int]],
) -> None:
    limits = Limits()
    now = 100.0
    passed, fallen, grown, in_force, size = 0, 0.0, 0, 0.0, 0
    windows: list[tuple[float, int]] = []
    """Of each that ends now: what its beginning takes from what may have passed, and what had passed before it."""
    for wait, rate, burst in steps:
        now += wait
        # A change is known from the next request on; a burst that grows lets so many more pass.
        fallen += in_force * wait
        grown += max(0, burst - size) if windows else 0
        in_force, size = rate, burst
        before = passed
        while (refused := limits.check("k", rate, burst, now)) is None:
            assert 0 <= limits.take("k", rate, burst, now).remaining < burst
            passed += 1
        assert 0 < refused.retry_after <= 1 / rate + 1e-6
        assert refused.reset_after <= burst / rate + 1e-6
        windows.append((fallen + grown - burst, before))
        for beginning, earlier in windows:
            assert passed - earlier <= fallen + grown - beginning + 1e-3


@given(rates, bursts, rates, bursts)
def test_a_full_burst_passes_and_then_the_promised_moment_does(rate: float, burst: int, later_rate: float, later_burst: int) -> None:
    limits = Limits()
    for left in range(burst, 0, -1):
        assert limits.check("k", rate, burst, 10.0) is None
        assert limits.take("k", rate, burst, 10.0).remaining == left - 1
    refused = limits.check("k", rate, burst, 10.0)
    assert refused is not None
    assert refused.retry_after > 0
    promised = 10.0 + refused.retry_after + 1e-6
    assert limits.check("k", rate, burst, promised) is None
    refused = limits.check("k", later_rate, later_burst, promised)
    if refused is not None:
        assert limits.check("k", later_rate, later_burst, promised + refused.retry_after + 1e-6) is None


@pytest.mark.parametrize(
    ("before", "after", "remaining"), [((0.001, 1), (100, 100), 99), ((100, 100), (1, 100), 0), ((5, 10), (5, 4), 0), ((5, 4), (5, 10), 6)]
)
def test_a_changed_rate_neither_refills_nor_drains(before: tuple[float, int], after: tuple[float, int], remaining: int) -> None:
    limits = Limits()
    while limits.check("k", *before, 0.0) is None:
        limits.take("k", *before, 0.0)
    if remaining:
        assert limits.check("k", *after, 0.0) is None
        assert limits.take("k", *after, 0.0).remaining == remaining - 1
    else:
        refused = limits.check("k", *after, 0.0)
        assert refused is not None
        assert refused.retry_after == pytest.approx(1 / after[0])


def test_a_check_takes_nothing() -> None:
    limits = Limits()
    for _ in range(10):
        assert limits.check("k", 1.0, 1, 0.0) is None


def test_idle_scopes_are_forgotten() -> None:
    limits = Limits()
    for number in range(20_000):
        limits.take(f"k{number}", 100.0, None, float(number))
    assert len(limits._levels) < 10_000


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
