"""One call of a model, from the first byte to its record.

In: an HTTP request's head, a way to read its body, and a ``Sink`` for the answer. Out: the answer, written to the sink, and exactly
one record in the ledger. The gateway knows no web framework: HTTP handlers bring a sink each. The stages are a function each, in a
file of its name; ``exchange`` reads as the story.
"""

from dwctl.gateway.exchange import Exchange
from dwctl.gateway.gateway import Gateway
from dwctl.gateway.inside import InsideCall
from dwctl.gateway.sink import Sink

__all__ = ["Exchange", "Gateway", "InsideCall", "Sink"]
