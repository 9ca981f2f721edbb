"""Price arithmetic: which price applies to a request, what it costs, and how much to hold for it beforehand.

Everything here is plain integer arithmetic over plain data. Prices are pico-credits (10^-12) per token or per request;
sums are formed exactly in pico-credits and rounded half-even to nano-credits (10^-9) exactly once. docs/billing.md says the
same for users, with worked examples.
"""

from collections.abc import Sequence

import msgspec

from dwctl.dialects.usage import Usage
from dwctl.ledger.records import Charge
from dwctl.money import nano_ceiling, nano_from_pico

REALTIME = "realtime"


class Price(msgspec.Struct, frozen=True):
    """One tariff of one model, in pico-credits."""

    tariff_id: str
    purpose: str | None
    """Purpose of the API keys it applies to; a price without a purpose is never applied by itself."""
    input_pico: int = 0
    output_pico: int = 0
    cache_read_pico: int | None = None
    cache_write_5m_pico: int | None = None
    cache_write_1h_pico: int | None = None
    """None: such a token costs the input price."""
    per_request_pico: int = 0

    @property
    def is_free(self) -> bool:
        """No usage whatever costs anything."""
        return not (
            self.input_pico
            or self.output_pico
            or self.cache_read_pico
            or self.cache_write_5m_pico
            or self.cache_write_1h_pico
            or self.per_request_pico
        )


def select(prices: Sequence[Price], purpose: str) -> Price | None:
    """The price, of those in force, of a request with a key of ``purpose``; None: the request is not billed.

    One for the key's own purpose wins over one for realtime, and among equals the first. When they were set does not matter: the
    clock may have been wrong then, or be wrong now.
    """
    for wanted in (purpose, REALTIME) if purpose != REALTIME else (REALTIME,):
        for price in prices:
            if price.purpose == wanted:
                return price
    return None


def _cost_pico(price: Price, usage: Usage) -> int:
    plain = price.input_pico
    read, write_5m, write_1h = price.cache_read_pico, price.cache_write_5m_pico, price.cache_write_1h_pico
    return (
        usage.uncached_input * plain
        + usage.cache_read * (plain if read is None else read)
        + usage.cache_write_5m * (plain if write_5m is None else write_5m)
        + usage.cache_write_1h * (plain if write_1h is None else write_1h)
        + usage.output * price.output_pico
        + price.per_request_pico
    )


def cost(price: Price, usage: Usage) -> int:
    """Nano-credits that ``usage`` costs: the exact sum, rounded half-even once. Reasoning tokens are output tokens."""
    return nano_from_pico(_cost_pico(price, usage))


def charge(price: Price, usage: Usage) -> Charge:
    """The charge for ``usage``, with the price version that it was made by."""
    return Charge(cost(price, usage), price.tariff_id, price.input_pico, price.output_pico)


def dearest_input(price: Price) -> int:
    """Pico-credits of an input token of the dearest class."""
    return max(price.input_pico, price.cache_read_pico or 0, price.cache_write_5m_pico or 0, price.cache_write_1h_pico or 0)


def hold(price: Price, input_bound: int, output_bound: int) -> int:
    """Nano-credits that are enough for any usage of at most ``input_bound`` input and ``output_bound`` output tokens.

    Every input token is taken at the dearest class of input, since the classes are only known afterwards.
    """
    return nano_ceiling(input_bound * dearest_input(price) + output_bound * price.output_pico + price.per_request_pico)
