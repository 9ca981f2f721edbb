"""Price arithmetic against exact fractions."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.dialects.usage import Usage
from dwctl.ledger.prices import Price, charge, cost, hold, select

pico = st.integers(0, 10**12)
count = st.integers(0, 10**7)
prices = st.builds(
    Price,
    tariff_id=st.just("t"),
    purpose=st.just("realtime"),
    input_pico=pico,
    output_pico=pico,
    cache_read_pico=st.none() | pico,
    cache_write_5m_pico=st.none() | pico,
    cache_write_1h_pico=st.none() | pico,
    per_request_pico=pico,
)
usages = st.builds(
    Usage,
    uncached_input=count,
    cache_read=count,
    cache_write_5m=count,
    cache_write_1h=count,
    output=count,
    reasoning=count,
)


def exact(price: Price, usage: Usage) -> Fraction:
    """Nano-credits as a fraction, by the policy in words."""

    def priced(own: int | None) -> Fraction:
        return Fraction(price.input_pico if own is None else own, 1000)

    return (
        usage.uncached_input * priced(None)
        + usage.cache_read * priced(price.cache_read_pico)
        + usage.cache_write_5m * priced(price.cache_write_5m_pico)
        + usage.cache_write_1h * priced(price.cache_write_1h_pico)
        + usage.output * Fraction(price.output_pico, 1000)
        + Fraction(price.per_request_pico, 1000)
    )


@given(prices, usages)
def test_cost_is_the_exact_sum_rounded_half_even_once(price: Price, usage: Usage) -> None:
    assert cost(price, usage) == round(exact(price, usage))  # Fraction rounds half to even


@pytest.mark.parametrize(("pico_sum", "nano"), [(499, 0), (500, 0), (501, 1), (1499, 1), (1500, 2), (2500, 2), (2501, 3), (3500, 4)])
def test_halves_go_to_the_even_neighbour(pico_sum: int, nano: int) -> None:
    assert cost(Price("t", None, per_request_pico=pico_sum), Usage()) == nano


@given(prices, usages, st.sampled_from(["uncached_input", "cache_read", "cache_write_5m", "cache_write_1h", "output"]), count)
def test_more_tokens_never_cost_less(price: Price, usage: Usage, field: str, more: int) -> None:
    from msgspec.structs import replace

    assert cost(price, replace(usage, **{field: getattr(usage, field) + more})) >= cost(price, usage)


@given(prices, usages, count)
def test_reasoning_is_part_of_the_output(price: Price, usage: Usage, reasoning: int) -> None:
    from msgspec.structs import replace

    assert cost(price, replace(usage, reasoning=reasoning)) == cost(price, usage)


@given(prices, usages, count, count)
def test_a_hold_covers_any_usage_within_its_bounds(price: Price, usage: Usage, more_input: int, more_output: int) -> None:
    assert hold(price, usage.input + more_input, usage.output + more_output) >= cost(price, usage)


@given(prices, count, count)
def test_a_hold_is_not_above_the_dearest_usage_by_a_nano(price: Price, input_bound: int, output_bound: int) -> None:
    dearest = max(
        cost(price, Usage(**{field: input_bound}, output=output_bound))
        for field in ("uncached_input", "cache_read", "cache_write_5m", "cache_write_1h")
    )
    assert hold(price, input_bound, output_bound) - dearest <= 1


def test_a_cached_token_without_a_price_of_its_own_costs_the_input_price() -> None:
    price = Price("t", None, input_pico=2_000_000, output_pico=0, cache_write_1h_pico=4_000_000)
    assert cost(price, Usage(uncached_input=1, cache_read=1, cache_write_5m=1)) == 6_000
    assert cost(price, Usage(cache_write_1h=1)) == 4_000


def test_a_free_cache_read_stays_free() -> None:
    assert cost(Price("t", None, input_pico=2_000_000, cache_read_pico=0), Usage(cache_read=10**6)) == 0


def test_a_charge_names_the_price_that_it_was_made_by() -> None:
    made = charge(Price("tariff-7", None, input_pico=2_500_000, output_pico=10_000_000), Usage(uncached_input=1_000, output=500))
    assert (made.amount_nano, made.tariff_id, made.input_pico, made.output_pico) == (7_500_000, "tariff-7", 2_500_000, 10_000_000)


@given(prices)
def test_free_means_that_no_usage_costs_anything(price: Price) -> None:
    dear = Usage(uncached_input=10**9, cache_read=10**9, cache_write_5m=10**9, cache_write_1h=10**9, output=10**9)
    assert price.is_free == (cost(price, dear) == 0 and price.per_request_pico == 0)


def tariff(name: str, purpose: str | None) -> Price:
    return Price(name, purpose, input_pico=1)


@pytest.mark.parametrize(("purpose", "expected"), [("realtime", "new"), ("batch", "batch"), ("playground", "new")])
def test_selection(purpose: str, expected: str) -> None:
    prices = [tariff("nobody", None), tariff("new", "realtime"), tariff("batch", "batch"), tariff("old", "realtime")]
    chosen = select(prices, purpose)
    assert (chosen and chosen.tariff_id) == expected


def test_a_realtime_request_never_gets_a_batch_price() -> None:
    assert select([tariff("batch", "batch")], "realtime") is None
