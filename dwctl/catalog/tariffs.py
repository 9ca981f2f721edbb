"""Prices of a model: reading them exactly, and going from the ones in force to the ones wished for.

A price is never changed in place. The wished-for set is complete: what is in force and wished for stays, what is in
force and not wished for is closed, the rest is inserted; so the id of a row is the version of a price.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from dwctl import money
from dwctl.errors import bad_request

Purpose = Literal["realtime", "batch", "playground"]
"""What an API key that calls models is for, which may have a price of its own."""
TOKENS_PER_MILLION = 1_000_000


class TariffTerms(msgspec.Struct, frozen=True):
    """What a tariff says, apart from its id and validity. Prices in pico-credits per token, or per request."""

    name: str
    input_pico: int = 0
    output_pico: int = 0
    cache_read_pico: int | None = None
    cache_write_5m_pico: int | None = None
    cache_write_1h_pico: int | None = None
    per_request_pico: int = 0
    api_key_purpose: str | None = None
    completion_window: str | None = None


class InForce(msgspec.Struct, frozen=True):
    """A tariff row that is not closed."""

    id: str
    terms: TariffTerms


class TariffChange(msgspec.Struct, frozen=True):
    keep: tuple[str, ...]
    close: tuple[str, ...]
    insert: tuple[TariffTerms, ...]

    @property
    def empty(self) -> bool:
        return not self.close and not self.insert


def plan_tariffs(in_force: Sequence[InForce], wished: Sequence[TariffTerms], *, field: str = "tariffs") -> TariffChange:
    """From the rows in force to the full wished-for set.

    Raises GatewayError 400 naming ``field`` when two wished-for tariffs are for the same purpose and window: which one
    would be charged could not be told.
    """
    seen: dict[tuple[str | None, str | None], int] = {}
    for index, terms in enumerate(wished):
        scope = (terms.api_key_purpose, terms.completion_window)
        if scope in seen:
            raise bad_request(
                f"{field}[{index}] is for the same purpose and completion window as {field}[{seen[scope]}]: keep one of them",
                param=f"{field}[{index}].api_key_purpose",
            )
        seen[scope] = index
    open_terms = list(wished)
    keep: list[str] = []
    close: list[str] = []
    for row in in_force:
        if row.terms in open_terms:
            open_terms.remove(row.terms)
            keep.append(row.id)
        else:
            close.append(row.id)
    return TariffChange(keep=tuple(keep), close=tuple(close), insert=tuple(open_terms))


def price_per_unit(text: str, field: str) -> int:
    """Pico-credits of a price in credits per token or per request.

    Raises GatewayError 400 naming ``field`` when it is not a number, negative, or not a whole number of pico-credits.
    """
    try:
        pico = money.parse_price(text)
    except ValueError as error:
        raise bad_request(f"{field}: {error}", param=field) from error
    return _not_negative(pico, field)


def price_per_million(text: str, field: str) -> int:
    """Pico-credits per token of a price in credits per million tokens. Raises GatewayError 400 as ``price_per_unit``."""
    try:
        nano = money.parse_amount(text)
    except ValueError as error:
        raise bad_request(f"{field}: {error}", param=field) from error
    pico, rest = divmod(nano * money.PICO_PER_NANO, TOKENS_PER_MILLION)
    if rest:
        raise bad_request(f"{field}: {text} credits per million tokens is finer than one pico-credit (10^-12) per token", param=field)
    return _not_negative(pico, field)


def _not_negative(pico: int, field: str) -> int:
    if pico < 0:
        raise bad_request(f"{field}: a price is zero or more", param=field)
    return pico
