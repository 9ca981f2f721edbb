"""Large bodies: a few megabytes of tiny parts take seconds to read, in which nobody else would be served."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from dwctl.threads import in_thread

if TYPE_CHECKING:
    from dwctl.gateway.exchange import Exchange

_P = ParamSpec("_P")
_T = TypeVar("_T")

_LARGE = 256 * 1024
"""Bytes; up to here a body of the worst kind takes a tenth of a second."""


def is_large(exchange: "Exchange") -> bool:
    """Whether reading the exchange's body may take long."""
    return len(exchange.body) > _LARGE


async def aside(exchange: "Exchange", function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What ``function`` makes of the exchange's body; in a thread if that is large. Raises what the function raises."""
    if len(exchange.body) <= _LARGE:
        return function(*args, **kwargs)
    return await in_thread(function, *args, **kwargs)
