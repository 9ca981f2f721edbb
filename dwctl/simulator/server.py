"""Starting and stopping the simulator, in the running event loop or as the program itself."""

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import uvloop

from dwctl import descriptors
from dwctl.simulator.connection import Connection
from dwctl.simulator.provider import Provider
from dwctl.simulator.served import Served

BACKLOG = 4096


class Simulator:
    """A running simulator."""

    def __init__(self, server: asyncio.Server, url: str, served: Served, connections: set[Connection]) -> None:
        self._server, self._connections = server, connections
        self.url = url
        """The base URL that a client or an endpoint is given, ending in /v1."""
        self.served = served
        """The account of what was served."""

    async def close(self) -> None:
        """Stop listening, break off what is in flight (it counts as aborted), close the ledger file."""
        self._server.close()
        open_connections = list(self._connections)
        for connection in open_connections:
            connection.transport.abort()
        await asyncio.gather(*(connection.lost for connection in open_connections))
        await self._server.wait_closed()
        self.served.finish()


async def start(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    api_key: str | None = None,
    ledger: Path | None = None,
    latency: float = 0.0,
    token_rate: float = 0.0,
) -> Simulator:
    """Serve in the running loop until `Simulator.close`; port 0 takes a free one.

    ``api_key``: the bearer key that inference requests must bring. ``ledger``: a file that gets a JSON line for each
    request served. ``latency`` (milliseconds) and ``token_rate`` (tokens per second, 0 for no limit) hold for models
    whose name does not say otherwise. Raises OSError if the address or the ledger cannot be had.
    """
    served = Served(ledger)
    connections: set[Connection] = set()
    provider = Provider(served, api_key, latency, token_rate)
    try:
        server = await asyncio.get_running_loop().create_server(
            partial(Connection, provider, served, connections), host, port, backlog=BACKLOG, reuse_address=True
        )
    except BaseException as error:
        served.finish()
        if isinstance(error, UnicodeError):
            raise OSError(f"cannot listen on {host}: this is no host name") from None
        raise
    bound = server.sockets[0]
    name = f"[{host}]" if bound.family == socket.AF_INET6 else host
    return Simulator(server, f"http://{name}:{bound.getsockname()[1]}/v1", served, connections)


def run(
    host: str,
    port: int,
    *,
    api_key: str | None = None,
    ledger: Path | None = None,
    latency: float = 0.0,
    token_rate: float = 0.0,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve until SIGTERM or SIGINT; blocks. Parameters as `start`; ``announce`` is given the line that says where."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        simulator = await start(host, port, api_key=api_key, ledger=ledger, latency=latency, token_rate=token_rate)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 50)
        announce(f"simulator listening on {simulator.url}")
        sys.stdout.flush()
        await stop.wait()
        await simulator.close()

    descriptors.allow_all()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
