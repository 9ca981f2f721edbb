"""Third stage: which providers, in which order."""

from typing import TYPE_CHECKING

from dwctl.clock import monotonic
from dwctl.dialects import raw_request, surfaces
from dwctl.errors import bad_request

if TYPE_CHECKING:
    from dwctl.gateway.exchange import Exchange


def decide(exchange: "Exchange") -> None:
    """Order the candidates. Raises GatewayError 400 for a path or query that no provider may be sent."""
    assert exchange.model is not None
    exchange.candidates = exchange.model.candidates
    try:
        if exchange.query:
            raw_request.check_query(exchange.query)
        if not exchange.surface.exact:
            surfaces.check_path(exchange.path)
        for candidate in exchange.candidates:
            candidate.endpoint.url(exchange.path, exchange.query)
    except ValueError as error:
        raise bad_request(f"The path cannot be passed on: {error}.", code="invalid_path") from None
    exchange.decided_at = monotonic()
