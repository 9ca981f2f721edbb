"""A connection of the server itself."""

import asyncio
import socket

from sanic import Request, Sanic
from sanic.response import HTTPResponse, text

from dwctl.doorway import PatientProtocol
from tests.waiting import until


async def test_a_request_that_has_come_is_answered_although_the_server_is_about_to_stop() -> None:
    """Its bytes are there, and Sanic's task has yet to take its turn: to look at, the connection is idle."""
    app = Sanic("stopping", configure_logging=False)
    app.config.TOUCHUP = False  # Sanic rewrites its own methods when it starts, which works once a process

    @app.get("/")
    async def answer(_: Request) -> HTTPResponse:
        return text("here it is")

    listener = socket.create_server(("127.0.0.1", 0))
    server = await app.create_server(sock=listener, protocol=PatientProtocol, return_asyncio_server=True)
    assert server is not None
    await server.startup()
    await server.before_start()
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    await until(lambda: server.connections)
    [connection] = server.connections
    await asyncio.sleep(0)  # its task waits for the first byte
    app.config.KEEP_ALIVE = False
    connection.data_received(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
    assert connection.answering
    assert not connection.close_if_idle()
    assert (await reader.read()).endswith(b"here it is")
    writer.close()
    server.close()
    await server.wait_closed()
