"""Is it alive, can it take requests, and how does it do: ``/healthz``, ``/readyz`` and ``/internal/metrics``."""

import hmac
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network

import msgspec
import structlog
from sanic import Sanic
from sanic.request import Request
from sanic.response import HTTPResponse

from dwctl.doorway import SECURITY_HEADERS, MetricsReader, Public, TrustedProxies, add_route, declare, passed_on, respond_error
from dwctl.errors import forbidden
from dwctl.operations.services import Services
from dwctl.telemetry import metrics

log = structlog.get_logger(__name__)


@dataclass
class State:
    """``ready`` is false while starting and while draining."""

    ready: bool = False


def register(app: Sanic, services: Services, state: State, proxies: TrustedProxies) -> None:
    """Add the routes that watchers of the server ask."""
    config = services.config
    networks = [ip_network(text, strict=False) for text in config.metrics.allow]

    async def healthz(_: Request) -> HTTPResponse:
        return HTTPResponse("OK", 200, SECURITY_HEADERS, "text/plain; charset=utf-8")

    async def readyz(_: Request) -> HTTPResponse:
        reasons = services.degraded()
        if not state.ready or not services.ledger.can_admit():
            return _json({"status": "unavailable", "reasons": reasons if state.ready else ["not_serving"]}, 503)
        return _json({"status": "degraded" if reasons else "ok", "reasons": reasons}, 200)

    async def read_metrics(request: Request) -> HTTPResponse:
        if not _may_read(request):
            return respond_error(
                forbidden(
                    "Metrics are for this machine, the networks in metrics.allow, or a caller with metrics.token.", code="metrics_denied"
                )
            )
        return HTTPResponse(metrics.render(), 200, SECURITY_HEADERS, metrics.CONTENT_TYPE)

    def _may_read(request: Request) -> bool:
        token = config.metrics.token
        given = request.headers.get("authorization", "")
        if token is not None and given.lower().startswith("bearer ") and _same(given[7:], token):
            return True
        peer = proxies.peer(request)
        try:
            address = ip_address(peer.ip)
        except ValueError:
            return False
        near = address.is_loopback or any(address.version == network.version and address in network for network in networks)
        if near and not peer.trusted and passed_on(request):
            # The address is the proxy's, and who is behind it nobody knows.
            _warn(peer.ip)
            return False
        return near

    @lru_cache(maxsize=64)
    def _warn(proxy: str) -> None:
        log.warning("metrics_refused_behind_proxy", proxy=proxy, remedy="name the proxy in trusted_proxies")

    for path in ("/healthz", "/health"):
        add_route(app, declare(healthz, Public()), path, ["GET", "HEAD"], path.strip("/"))
    add_route(app, declare(readyz, Public()), "/readyz", ["GET", "HEAD"], "readyz")
    if config.enable_metrics:
        add_route(app, declare(read_metrics, MetricsReader()), "/internal/metrics", ["GET"], "metrics")


def _same(given: str, token: str) -> bool:
    """Whether a caller has the token, without telling by time. What a caller sends need not be text."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def _json(body: object, status: int) -> HTTPResponse:
    return HTTPResponse(msgspec.json.encode(body), status, SECURITY_HEADERS, "application/json")
