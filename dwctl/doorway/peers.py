"""Who is at the other end of the connection: the client's address, scheme and host, past the proxies that we trust.

``X-Forwarded-For``, ``-Proto`` and ``-Host`` count only when the connection itself comes from a trusted proxy. In a chain the
right-most address that is not a trusted proxy is the client: everything left of it is the client's own word.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import msgspec
from sanic.request import Request

from dwctl.outbound import VIA

_SAID_BY_PROXIES = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "forwarded", "via")


class Peer(msgspec.Struct, frozen=True):
    """The effective other end of a request."""

    ip: str
    scheme: str
    """http | https."""
    host: str
    """As the browser named it, with the port if it is not the scheme's own."""
    trusted: bool
    """The connection comes from a trusted proxy, whose sign-in headers may be read."""


class TrustedProxies:
    """The networks of ``trusted_proxies``. Raises ValueError for what is not a network."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ip_network(network, strict=False) for network in networks)
        self._holds = lru_cache(maxsize=4096)(self._search)

    def __contains__(self, address: str) -> bool:
        return bool(self._networks) and self._holds(address)

    def _search(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address.version == network.version and address in network for network in self._networks)

    def peer(self, request: Request) -> Peer:
        """The effective peer of a request."""
        connection = request.conn_info
        direct = _canonical(connection.client_ip or connection.client or "") if connection else ""
        scheme = "https" if connection and connection.ssl else "http"
        host = request.headers.get("host", "")
        if direct not in self:
            return Peer(direct, scheme, host, False)
        forwarded = _last(request.headers.getall("x-forwarded-proto", []))
        if forwarded in ("http", "https"):
            scheme = forwarded
        host = _last(request.headers.getall("x-forwarded-host", [])) or host
        return Peer(self._client(direct, request.headers.getall("x-forwarded-for", [])), scheme, host, True)

    def _client(self, direct: str, headers: Iterable[str]) -> str:
        client = direct
        for hop in reversed([hop.strip() for header in headers for hop in header.split(",")]):
            address = _address(_without_port(hop))
            if address is None:
                break
            client = str(address)
            if client not in self:
                break
        return client


def passed_on(request: Request) -> bool:
    """Whether a proxy says that the request came by way of it. What comes straight from a client says nothing of the kind."""
    return any(name in request.headers for name in _SAID_BY_PROXIES)


def sent_by_dwctl(request: Request) -> bool:
    """Whether it was sent as dwctl sends to providers, be it by this server itself: what it says is some endpoint's or client's word,
    also where it comes from an address that a proxy has."""
    return any(hop.strip().lower() == VIA for value in request.headers.getall("via", ()) for hop in value.split(","))


def _last(headers: Iterable[str]) -> str:
    values = [value.strip() for header in headers for value in header.split(",")]
    return values[-1].lower() if values else ""


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].split("]", 1)[0]
    return hop.rsplit(":", 1)[0] if hop.count(":") == 1 else hop


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _canonical(text: str) -> str:
    address = _address(text)
    return str(address) if address is not None else text
