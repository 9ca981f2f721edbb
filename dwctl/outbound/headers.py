"""Headers by which proxies speak: what dwctl says as one, and what no endpoint may have said in its name.

An endpoint can lie anywhere, also at an address where a proxy's word is believed: at dwctl's own, or another node's.
"""

from dwctl.config.schema import ProxyHeader

VIA = "1.1 dwctl"
"""What every request says that leaves for a provider (RFC 9110 section 7.6.3)."""
_OF_PROXIES = frozenset({"forwarded", "via", "x-real-ip"})
_USUAL = ProxyHeader().names


def is_of_proxies(name: str, sign_in: ProxyHeader) -> bool:
    """Whether a header is one by which a proxy says whose request it passes on; ``sign_in`` has the names of those that sign people in."""
    lowered = name.lower()
    return lowered in _OF_PROXIES or lowered in _USUAL or lowered in sign_in.names or lowered.startswith("x-forwarded-")


def check_key_header(name: str, sign_in: ProxyHeader) -> None:
    """Accept the header that a provider's key is sent in, or raise ValueError with what is wrong about it."""
    if is_of_proxies(name, sign_in):
        raise ValueError(f"auth_header_name must not be {name}, by which proxies speak: name the header that the provider reads")
