"""The simulated provider: a server for demos, tests and load that speaks four dialects, with faults on demand.

In: a host, a port and how the models behave by default. Out: an HTTP server whose answers and usage are computed from
the request alone (`answers`), whose models' names choose latency, length and faults (`behaviour`), and which keeps an
account of what it served by request id (`served`) that a ledger can be compared with.

It speaks OpenAI's chat and Responses, Anthropic's Messages and Ollama's API: what an answer says is the same in each
(`script`), and a request that the real provider would refuse is refused. It writes the wire formats from its own literal
templates and shares no code with the gateway that it is used to test.
"""

from dwctl.simulator.served import Entry, Served, read_ledger
from dwctl.simulator.server import Simulator, run, start

__all__ = ["Entry", "Served", "Simulator", "read_ledger", "run", "start"]
