"""The doorway: HTTP for administration; what its pages look like is ``dwctl.web``'s.

In: a Sanic request. Out: a handler's call with a ``Context`` (who asks, from where, body and query decoded), and its answer
as JSON. Routes are declared with ``route`` into plain lists and put into an application by ``install``; ``verify`` refuses an
application with a route that has no policy. The API and the pages are two ``Surface``s behind the
same door. Handlers that are added with ``add_route`` state theirs with ``declare``.
"""

from dwctl.doorway.answers import SECURITY_HEADERS, Answer, respond_error
from dwctl.doorway.bodies import MOST_DROPPED, LeanRequest, read_body, streamed, take_body
from dwctl.doorway.context import Context, PageQuery, parse_uuid
from dwctl.doorway.cors import CrossOrigin
from dwctl.doorway.decode import decode_body, decode_query
from dwctl.doorway.feeds import Message, feed
from dwctl.doorway.identity import Keys, session_cookie, session_cookie_name
from dwctl.doorway.install import add_preflights, add_route, install, route_table, verify
from dwctl.doorway.measure import RouteMetrics, count_unrouted
from dwctl.doorway.peers import TrustedProxies, passed_on
from dwctl.doorway.policies import Authenticated, InferenceKey, MetricsReader, Needs, Policy, Public, declare, policy_of
from dwctl.doorway.protocol import PatientProtocol
from dwctl.doorway.routes import Route, route, template_of

__all__ = [
    "MOST_DROPPED",
    "SECURITY_HEADERS",
    "Answer",
    "Authenticated",
    "Context",
    "CrossOrigin",
    "InferenceKey",
    "Keys",
    "LeanRequest",
    "Message",
    "MetricsReader",
    "Needs",
    "PageQuery",
    "PatientProtocol",
    "Policy",
    "Public",
    "Route",
    "RouteMetrics",
    "TrustedProxies",
    "add_preflights",
    "add_route",
    "count_unrouted",
    "declare",
    "decode_body",
    "decode_query",
    "feed",
    "install",
    "parse_uuid",
    "passed_on",
    "policy_of",
    "read_body",
    "respond_error",
    "route",
    "route_table",
    "session_cookie",
    "session_cookie_name",
    "streamed",
    "take_body",
    "template_of",
    "verify",
]
