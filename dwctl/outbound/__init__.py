"""The one HTTP client of the appliance: everything that leaves for a provider goes through here. And the mail.

In: a method, a prebuilt URL, headers and bytes. Out: a status, headers and a stream of bytes as they arrive. The interface is
narrow on purpose, so that the client behind it can be measured and replaced. It keeps one connection pool an endpoint,
follows no redirect, keeps no cookie, decompresses nothing, and adds no header of its own beyond what HTTP needs, `Via` among it.
"""

from dwctl.outbound.addresses import check_url, join
from dwctl.outbound.client import Outbound, connect_bound
from dwctl.outbound.connection import OutboundError, OutboundResponse
from dwctl.outbound.headers import VIA, check_key_header, is_of_proxies
from dwctl.outbound.mail import Mail, MailError

__all__ = [
    "VIA",
    "Mail",
    "MailError",
    "Outbound",
    "OutboundError",
    "OutboundResponse",
    "check_key_header",
    "check_url",
    "connect_bound",
    "is_of_proxies",
    "join",
]
