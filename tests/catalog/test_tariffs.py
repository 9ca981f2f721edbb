"""Prices: read exactly or refused with the field's name; the wished-for set against the one in force."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.catalog import InForce, TariffTerms, plan_tariffs, price_per_million, price_per_unit
from dwctl.errors import GatewayError

SCOPES = st.tuples(st.sampled_from([None, "realtime", "batch", "playground"]), st.sampled_from([None, "24h"]))
TERMS = st.builds(
    lambda scope, price: TariffTerms(name="n", input_pico=price, api_key_purpose=scope[0], completion_window=scope[1]),
    SCOPES,
    st.integers(0, 3),
)
WISHED = st.lists(TERMS, max_size=6, unique_by=lambda terms: (terms.api_key_purpose, terms.completion_window))


@given(in_force=st.lists(TERMS, max_size=6), wished=WISHED)
def test_the_wished_set_is_in_force_afterwards_and_nothing_else(in_force: list[TariffTerms], wished: list[TariffTerms]) -> None:
    rows = [InForce(str(index), terms) for index, terms in enumerate(in_force)]
    change = plan_tariffs(rows, wished)
    assert set(change.keep) | set(change.close) == {row.id for row in rows}
    assert not set(change.keep) & set(change.close)
    after = [row.terms for row in rows if row.id in change.keep] + list(change.insert)
    assert sorted(map(repr, after)) == sorted(map(repr, wished))
    settled = [InForce(str(index), terms) for index, terms in enumerate(after)]
    assert plan_tariffs(settled, wished).empty


def test_an_unchanged_price_keeps_its_row_and_a_changed_one_gets_a_new_row() -> None:
    realtime = TariffTerms(name="realtime", input_pico=5, api_key_purpose="realtime")
    batch = TariffTerms(name="batch", input_pico=3, api_key_purpose="batch")
    cheaper = TariffTerms(name="batch", input_pico=2, api_key_purpose="batch")
    change = plan_tariffs([InForce("r", realtime), InForce("b", batch)], [realtime, cheaper])
    assert (change.keep, change.close, change.insert) == (("r",), ("b",), (cheaper,))


def test_two_prices_for_one_purpose_are_refused_by_name() -> None:
    price = TariffTerms(name="x", api_key_purpose="realtime")
    with pytest.raises(GatewayError) as caught:
        plan_tariffs((), [price, TariffTerms(name="y", input_pico=1, api_key_purpose="realtime")], field="prices")
    assert caught.value.status == 400
    assert caught.value.param == "prices[1].api_key_purpose"


@given(pico=st.integers(0, 10**15))
def test_every_whole_number_of_pico_is_read_exactly(pico: int) -> None:
    assert price_per_unit(str(Decimal(pico).scaleb(-12)), "p") == pico
    assert price_per_million(f"{Decimal(pico).scaleb(-6):f}", "p") == pico


@pytest.mark.parametrize("text", ["0.0000000000001", "-1", "NaN", "1e99999", "", "1,5", "0x10", "1" * 40, "Infinity"])
def test_a_price_that_cannot_be_held_is_a_400_that_names_the_field(text: str) -> None:
    for reader in (price_per_unit, price_per_million):
        with pytest.raises(GatewayError) as caught:
            reader(text, "tariffs[0].input_price_per_token")
        assert caught.value.status == 400
        assert caught.value.param == "tariffs[0].input_price_per_token"
        assert "tariffs[0].input_price_per_token" in caught.value.message


def test_a_million_tokens_at_two_and_a_half() -> None:
    assert price_per_million("2.50", "p") == 2_500_000
    with pytest.raises(GatewayError, match="finer than one pico-credit"):
        price_per_million("0.0000001", "p")
