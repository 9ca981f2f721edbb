"""The doorway: HTTP for administration, without pages.

In: a Sanic request. Out: a handler's call with a ``Context`` (who asks, from where, body and query decoded), and its answer
as JSON. Routes are declared with ``route`` into plain lists and put into an application by ``install``; ``verify`` refuses an
application with a route that has no policy. Handlers that are added to Sanic directly state theirs with ``declare``.
"""

from dwctl.doorway.answers import SECURITY_HEADERS, Answer, respond, respond_error
from dwctl.doorway.context import Context, Page, PageQuery, parse_uuid
from dwctl.doorway.decode import decode_body, decode_query
from dwctl.doorway.identity import ProxySignIn, session_cookie_name
from dwctl.doorway.install import install, route_table, verify
from dwctl.doorway.peers import Peer, TrustedProxies
from dwctl.doorway.policies import Authenticated, InferenceKey, MetricsReader, Needs, Policy, Public, declare, policy_of
from dwctl.doorway.routes import Route, route

__all__ = [
    "SECURITY_HEADERS",
    "Answer",
    "Authenticated",
    "Context",
    "InferenceKey",
    "MetricsReader",
    "Needs",
    "Page",
    "PageQuery",
    "Peer",
    "Policy",
    "ProxySignIn",
    "Public",
    "Route",
    "TrustedProxies",
    "declare",
    "decode_body",
    "decode_query",
    "install",
    "parse_uuid",
    "policy_of",
    "respond",
    "respond_error",
    "route",
    "route_table",
    "session_cookie_name",
    "verify",
]
