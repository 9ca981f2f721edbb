"""The baseline: a forwarder of Sanic and aiohttp that does nothing but forward, with every setting that makes it quick.

It parses the body, sets the upstream's model name, sends, and passes the answer back. No keys, no limits, no records, no
deadlines. What dwctl costs above it is the price of everything that dwctl does.

usage: python -m tests.bench.forwarder PORT ROUTES   where ROUTES is JSON: {model: [upstream URL, upstream model], ...}
"""

import gc
import json
import sys

import msgspec
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from sanic import HTTPResponse, Request, Sanic
from yarl import URL

SKIPPED = ("user-agent", "accept", "accept-encoding", "content-type")


def application(routes: dict[str, tuple[str, str]]) -> Sanic:
    """The forwarder as a Sanic application."""
    app = Sanic("forwarder", configure_logging=False)
    app.config.ACCESS_LOG = False
    app.config.RESPONSE_TIMEOUT = 3600
    targets = {model: (URL(url), name) for model, (url, name) in routes.items()}
    decode, encode = msgspec.json.decode, msgspec.json.encode

    @app.before_server_start
    async def open_session(app: Sanic) -> None:
        app.ctx.session = ClientSession(
            connector=TCPConnector(limit=0),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=SKIPPED,
            timeout=ClientTimeout(total=None, connect=None, sock_read=None, sock_connect=None),
        )

    @app.after_server_start
    async def freeze(_: Sanic) -> None:
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 50)

    @app.before_server_stop
    async def close_session(app: Sanic) -> None:
        await app.ctx.session.close()

    @app.get("/healthz")
    async def healthz(_: Request) -> HTTPResponse:
        return HTTPResponse(b"{}", 200, content_type="application/json")

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> HTTPResponse | None:
        body = decode(request.body)
        url, body["model"] = targets[body["model"]]
        headers = {"content-type": "application/json", "authorization": "Bearer sk-upstream"}
        async with app.ctx.session.post(url, data=encode(body), headers=headers) as upstream:
            content_type = upstream.headers["content-type"]
            if not content_type.startswith("text/event-stream"):
                answer = await upstream.read()
                decode(answer)
                return HTTPResponse(answer, upstream.status, content_type=content_type)
            response = await request.respond(status=upstream.status, content_type=content_type)
            async for piece in upstream.content.iter_any():
                await response.send(piece)
            await response.eof()
            return None

    return app


if __name__ == "__main__":
    application(json.loads(sys.argv[2])).run("127.0.0.1", int(sys.argv[1]), single_process=True, access_log=False, motd=False)
