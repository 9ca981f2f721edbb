"""The limit of sign-in attempts: never above its rate, and forgetting the right ones."""

from hypothesis import given
from hypothesis import strategies as st

from dwctl.accounts.attempts import AttemptLimit


def test_a_burst_then_one_an_interval() -> None:
    limit = AttemptLimit(3, 10.0)
    assert [limit.take("a", 0.0) for _ in range(3)] == [None] * 3
    assert limit.take("a", 0.0) == 10.0
    assert limit.take("b", 0.0) is None
    assert limit.take("a", 9.0) == 1.0
    assert limit.take("a", 10.0) is None
    assert limit.take("a", 10.0) == 10.0
    assert [limit.take("a", 1000.0) for _ in range(4)] == [None, None, None, 10.0]


def test_forgiving_takes_one_attempt_back() -> None:
    limit = AttemptLimit(1, 10.0)
    assert limit.take("a", 0.0) is None
    limit.forgive("a")
    assert limit.take("a", 0.0) is None
    assert limit.take("a", 0.0) == 10.0
    limit.forgive("nobody")


def test_memory_is_bounded_and_the_busy_are_remembered() -> None:
    limit = AttemptLimit(1, 10.0, names=10)
    for number in range(100):
        limit.take(f"name {number}", 0.0)
    assert limit.take("name 95", 0.0) is not None
    assert limit.take("name 5", 0.0) is None


@given(st.lists(st.floats(0, 5), max_size=200))
def test_never_above_the_rate(gaps: list[float]) -> None:
    limit, now, granted = AttemptLimit(4, 2.0), 0.0, []
    for gap in gaps:
        now += gap
        if limit.take("a", now) is None:
            granted.append(now)
    for start in range(len(granted)):
        for end in range(start, len(granted)):
            assert end - start + 1 <= 4 + (granted[end] - granted[start]) / 2.0 + 1e-6
