"""Which addresses may be called, and how a provider's URL is joined with a client's path.

Hosts come from configuration only: a client's path can extend the path of the endpoint, never leave it. Link-local
addresses (RFC 3927, RFC 4291) and fd00:ec2::/32 are refused, since cloud metadata services live there; loopback and private
networks are allowed, since that is where local model servers are.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from yarl import URL

_DENIED = [
    ipaddress.ip_network(text)
    for text in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "0.0.0.0/8", "224.0.0.0/4", "ff00::/8", "240.0.0.0/4")
]
_TRANSLATED = [ipaddress.ip_network(text) for text in ("64:ff9b::/96", "::/96")]
"""IPv6 networks whose last 32 bits are an IPv4 address: NAT64 (RFC 6052), and IPv4-compatible addresses (RFC 4291)."""
_UNSAFE_PATH = re.compile(r"//|\\|%2f|%5c|%00|[\x00-\x20\x7f]|(?:^|/)(?:\.|%2e){1,2}(?:/|$)|^/?[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def is_denied(address: str) -> bool:
    """Whether an IP address in text form must never be called."""
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if int(ip) > 1 and any(ip.version == network.version and ip in network for network in _TRANSLATED):
        ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return any(ip.version == network.version and ip in network for network in _DENIED)


def check_url(url: str) -> None:
    """Accept the base URL of an endpoint or raise ValueError with what is wrong about it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("the URL must start with http:// or https://")
    if not parts.hostname or port == 0:
        raise ValueError("the URL names no host")
    if parts.username or parts.password:
        raise ValueError("the URL must not hold credentials; give them as the endpoint's API key")
    if parts.query or parts.fragment:
        raise ValueError("the URL must have no query and no fragment")
    if not url.isprintable() or " " in url:
        raise ValueError("the URL must not hold blanks or control characters")
    try:
        # As the client will call it: digits and dots that look like others in Unicode have become plain ones.
        host = (URL(url).raw_host or "").rstrip(".")
        host.encode("idna")
        URL(url).host  # noqa: B018 - decodes, and fails for a name that cannot be
    except ValueError:
        raise ValueError("the URL's host is not a name or an address") from None
    try:
        denied = is_denied(host)
    except ValueError:
        denied = False
    if denied:
        raise ValueError("link-local, multicast and reserved addresses are not allowed")


def join(base: URL, path: str, query: str = "") -> URL:
    """The provider's URL for a request path (``/v1/chat/completions``).

    The path is appended to the base; where it begins with the base's own path (whole segments), that part is not said
    twice: ``https://h/v1`` + ``/v1/x`` is ``https://h/v1/x``. Raises ValueError for a path that could climb out.
    """
    if not path.startswith("/") or _UNSAFE_PATH.search(path):
        raise ValueError("the path holds an empty, dotted or encoded segment, or a scheme")
    prefix = base.raw_path.rstrip("/")
    if prefix and (path == prefix or path.startswith(prefix + "/")):
        path = path[len(prefix) :]
    return URL(f"{base.origin()}{prefix}{path}{'?' + query if query else ''}", encoded=True)
