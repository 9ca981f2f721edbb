"""Exact money: integers only.

Amounts are nano-credits (10^-9 credit). Prices are pico-credits (10^-12 credit) per token or per request, so that
``2.50`` credits per million tokens is 2,500,000 pico per token. Text in and out is plain decimal notation. A sum is
formed in pico and rounded half-even to nano exactly once.
"""

import re
from decimal import Decimal, InvalidOperation

NANO = 10**9
PICO = 10**12
PICO_PER_NANO = PICO // NANO
MAX_STORED = 2**63 - 1

_PLAIN_DECIMAL = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)


def _scaled(text: str, scale: int, unit: str) -> int:
    if not _PLAIN_DECIMAL.fullmatch(text) or len(text) > 64:
        raise ValueError(f"{text[:64]!r} is not a decimal number")
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is not a decimal number") from error
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    number = int("".join(map(str, digits)) or "0")
    power = exponent + len(str(scale)) - 1
    if power >= 0:
        scaled = number * int(10**power)
    else:
        scaled, rest = divmod(number, 10**-power)
        if rest:
            raise ValueError(f"{text} is finer than one {unit}")
    if scaled > MAX_STORED:
        raise ValueError(f"{text} is too large")
    return -scaled if sign else scaled


def parse_amount(text: str) -> int:
    """Nano-credits of a decimal number of credits. Raises ValueError if it is not one, or finer than a nano-credit."""
    return _scaled(text, NANO, "nano-credit (10^-9)")


def parse_price(text: str) -> int:
    """Pico-credits of a decimal number of credits (per token, or per request). Raises ValueError."""
    return _scaled(text, PICO, "pico-credit (10^-12)")


def _plain(value: int, scale: int) -> str:
    whole, part = divmod(abs(value), scale)
    digits = str(part).rjust(len(str(scale)) - 1, "0").rstrip("0")
    text = f"{whole}.{digits}" if digits else str(whole)
    return f"-{text}" if value < 0 else text


def format_amount(nano: int) -> str:
    """Credits in plain decimal notation: ``1500000000`` -> ``"1.5"``."""
    return _plain(nano, NANO)


def format_price(pico: int) -> str:
    """Credits in plain decimal notation: ``2500000`` -> ``"0.0000025"``."""
    return _plain(pico, PICO)


def nano_from_pico(pico: int) -> int:
    """Round a non-negative sum of pico-credits half-even to nano-credits."""
    nano, rest = divmod(pico, PICO_PER_NANO)
    half = PICO_PER_NANO // 2
    if rest > half or (rest == half and nano & 1):
        nano += 1
    return nano


def nano_ceiling(pico: int) -> int:
    """The smallest number of nano-credits that is not below ``pico``: what a hold needs."""
    return -(-pico // PICO_PER_NANO)
