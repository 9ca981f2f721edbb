"""All deadlines of all exchanges, on one timer.

An exchange says which phase it is in and since when; a sweep several times a second finds those that have overstayed. That costs
two assignments a phase instead of a timer, and a deadline is met to within the sweep's period.
"""

import asyncio
from typing import TYPE_CHECKING

from dwctl.clock import monotonic
from dwctl.errors import GatewayError, body_overdue, unavailable

if TYPE_CHECKING:
    from dwctl.gateway.exchange import Exchange

NO_LIMIT = float("inf")
"""Of a phase; also while bytes are handed over, since the sink alone knows whether its client takes any."""
_PERIOD = 0.1


class Deadlines:
    """The sweep over live exchanges."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def start(self, live: "set[Exchange]") -> None:
        loop = asyncio.get_running_loop()

        def sweep() -> None:
            now = monotonic()
            for exchange in list(live):
                exchange.check_deadlines(now)
            self._timer = loop.call_later(_PERIOD, sweep)

        self._timer = loop.call_later(_PERIOD, sweep)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _timeout(code: str, message: str) -> GatewayError:
    return GatewayError(504, "internal_error", code, message)


def disconnected() -> GatewayError:
    """The end of an exchange whose client has left; only the record tells of it."""
    return GatewayError(499, "invalid_request_error", "client_disconnected", "The client left before the answer was complete.")


def overstayed(phase: str) -> GatewayError:
    """The error of a phase that took too long."""
    match phase:
        case "request_read":
            return body_overdue()
        case "connect_timeout":
            return _timeout("upstream_connect_timeout", "The model's provider did not accept a connection in time. Please try again.")
        case "first_byte":
            return _timeout("upstream_first_byte_timeout", "The upstream service took too long to respond. Please try again.")
        case "idle":
            return _timeout("upstream_idle_timeout", "The upstream service stopped in the middle of its answer. Please try again.")
        case "total":
            return _timeout("upstream_total_timeout", "The upstream service took too long to finish its answer.")
        case "shutdown":
            return unavailable("server_shutting_down", "The gateway is being restarted. Please try again.")
    return GatewayError(499, "invalid_request_error", "client_write_timeout", "The client stopped reading the answer.")
