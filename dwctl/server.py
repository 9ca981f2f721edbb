"""The composition root: builds every part once, ties them together, serves, and takes them down in order.

Start: lock the data directory, open the database, take the node's name, fold the journal's tail into the balances, load keys and
catalog, listen. Stop (SIGTERM, SIGINT or SIGHUP): not ready, listener closed, answers end and are taken within
``shutdown.drain_timeout``, records reach the database, everything closed.
"""

import asyncio
import fcntl
import gc
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog
import uvloop
from sanic import Sanic
from sanic.application.state import ApplicationServerInfo
from sanic.constants import HTTP_METHODS
from sanic.exceptions import RequestCancelled, SanicException
from sanic.handlers import ErrorHandler
from sanic.http.constants import HTTP
from sanic.request import Request
from sanic.response import HTTPResponse
from sanic.server import AsyncioServer

from dwctl import api, descriptors, doorway, ids, standard_streams, web
from dwctl.accounts.principals import Keyring
from dwctl.api import health, inference
from dwctl.clock import MICROSECONDS, monotonic, now_us
from dwctl.config import Config, secret_key, tls_context
from dwctl.demo import Demo
from dwctl.errors import ConfigurationError, GatewayError, internal_error
from dwctl.gateway import Gateway, InsideCall, measure
from dwctl.ledger import Ledger
from dwctl.operations.first_start import ensure_administrator
from dwctl.operations.services import Services
from dwctl.outbound import Outbound
from dwctl.routing import load_snapshot
from dwctl.store import BodyStore, Changes, Store, StoreUnavailable, StoreUnusable, open_sealer
from dwctl.store.changes import ChangeRow
from dwctl.telemetry import logging as dwctl_logging
from dwctl.telemetry.alarms import alarm

T = TypeVar("T")

log = structlog.get_logger(__name__)

DATABASE_WAIT_SECONDS = 30.0
EXIT_DATABASE = 3
_RETENTION_PERIOD_SECONDS = 3600
_RECORD_SECONDS = 5
"""For the last records to reach the database. While that is away they wait in the journal, where they are safe."""
_FLUSH_SECONDS = 5
_NEVER_SECONDS = 365 * 86_400
"""A connection's own protocol says how long a client may take to end it."""
_SAME_SIGNAL_SECONDS = 0.5


def run(config: Config, *, origins: Mapping[str, str] | None = None, demo: bool = False, copy: bool = True) -> int:
    """Serve until told to stop; ``origins`` says where the configuration's values came from.

    Returns the exit status: 0, or 3 when the database does not answer. Raises ConfigurationError.
    """
    dwctl_logging.configure(config.log.level, config.log.format, sys.stderr)
    descriptors.allow_all()
    try:
        uvloop.run(_serve(config, origins or {}, demo, copy))
    except StoreUnavailable as error:
        trouble = "cannot be used" if isinstance(error, StoreUnusable) else "does not answer"
        print(f"dwctl: the database {trouble}: {error}", file=sys.stderr)
        return EXIT_DATABASE
    return 0


class Errors(ErrorHandler):
    """What Sanic itself refuses (unknown path, method, bad framing), in the caller's dialect."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._logs_requests = config.log.requests
        self._proxies = doorway.TrustedProxies(config.trusted_proxies)

    def default(self, request: Request, exception: Exception) -> HTTPResponse:
        if isinstance(exception, GatewayError):
            error = exception
        elif isinstance(exception, RequestCancelled):
            return HTTPResponse(status=499)  # the client has left; nobody reads this
        elif isinstance(exception, SanicException):
            status = exception.status_code or 500
            error = _REFUSALS.get(status) or GatewayError(
                status, "invalid_request_error", "bad_request", "The request cannot be understood."
            )
            headers = {"allow": _allowed(request)} if status == 405 else dict(getattr(exception, "headers", None) or {})
            if headers:
                error = GatewayError(error.status, error.type, error.code, error.message, headers=headers)
        else:
            log.error("request_failed", exc_info=exception)
            error = internal_error()
        is_unread = request is not None and request.method == "NONE"  # no one knows what it was to be
        path = request.path if request is not None and not is_unread else ""
        doorway.count_unrouted(request.method if request is not None else "", error.status)
        if is_unread or inference.serves(path):
            refused: HTTPResponse = request.app.ctx.refuse_inference(request, error)
            return refused
        if self._logs_requests and path:
            log.info("request", method=request.method, path=path, status=error.status, client_ip=self._proxies.peer(request).ip)
        if request is not None and web.wants_page(request):
            page: HTTPResponse = request.app.ctx.refusal_page(request, error)  # Sanic awaits what can be awaited
            return page
        return doorway.respond_error(error)


def _allowed(request: Request) -> str:
    """The methods that the path takes, for ``Allow``; Sanic itself knows them only of paths without parameters."""
    found = []
    for method in HTTP_METHODS:
        with suppress(SanicException):
            request.app.router.get(request.path, method, None)
            found.append(method)
    return ", ".join(found)


_REFUSALS = {
    404: GatewayError(
        404, "invalid_request_error", "not_found", "Nothing is served at this path. The API is under /ai/v1 and /admin/api/v1."
    ),
    405: GatewayError(405, "invalid_request_error", "method_not_allowed", "This path does not take this method."),
    408: GatewayError(408, "invalid_request_error", "request_timeout", "The request did not arrive in time."),
    413: GatewayError(413, "invalid_request_error", "payload_too_large", "The request is too large."),
}


class DataDirectory:
    """``data_dir`` for this process alone, and the node's id in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(f"data_dir {path}: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise ConfigurationError(f"data_dir {path} is in use by another dwctl; stop it, or give this one another --data-dir") from None
        node = path / "node_id"
        if not node.exists():
            temporary = node.with_suffix(".new")
            temporary.write_text(ids.new_text())
            temporary.rename(node)
        self.node = node.read_text().strip()

    def close(self) -> None:
        os.close(self._lock)


def _listen(config: Config) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.setblocking(False)
        return listener
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this is no host name"
        raise ConfigurationError(f"cannot listen on {config.host} port {config.port}: {reason}") from None


async def build_services(
    config: Config, store: Store, changes: Changes, *, node: str, origins: Mapping[str, str]
) -> tuple[Services, Gateway]:
    """Every part behind the surfaces, loaded from the database, and following by ``changes`` what other nodes change there.

    Raises ConfigurationError for a wrong secret key, and StoreUnavailable.
    """
    sealer = await open_sealer(store, config.data_dir, secret_key(config))
    outbound = Outbound()
    ledger = Ledger(
        store,
        config.data_dir,
        node,
        sync=config.journal.sync,
        max_bytes=config.journal.max_bytes,
        segment_bytes=config.journal.segment_bytes,
        anonymous_per_second=config.records.anonymous_per_second,
        holds=config.billing.holds,
    )
    # Taken before anything is loaded: what changes while we load is applied again afterwards.
    since = await changes.head()
    await ledger.start()
    keyring = Keyring(config.auth.rate_limits)
    bodies = BodyStore(store)
    await keyring.load(store)
    gateway = Gateway(config, await load_snapshot(since, sealer, config), keyring, ledger, outbound, bodies, node)
    services = Services(
        config=config,
        store=store,
        changes=changes,
        sealer=sealer,
        outbound=outbound,
        ledger=ledger,
        bodies=bodies,
        keyring=keyring,
        snapshot=lambda: gateway.snapshot,
        events=gateway.events,
        in_flight=gateway.in_flight,
        call=partial(InsideCall, gateway),
        origins=origins,
    )
    changes.start(lambda rows: _follow(services, gateway, rows), since)
    keyring.start(store)
    return services, gateway


async def close_services(services: Services, seconds: float) -> None:
    """Take down what ``build_services`` has built, with so much time for records to reach the database."""
    await services.ledger.close(seconds)
    await services.changes.close()
    await services.keyring.close()
    await services.bodies.close()
    await services.outbound.close()
    services.mail.close()


def build_app(config: Config, services: Services, gateway: Gateway, state: health.State) -> Sanic:
    """The Sanic application with every route. Raises ConfigurationError for a route without a policy."""
    Sanic._app_registry.clear()
    app = Sanic("dwctl", request_class=doorway.LeanRequest, error_handler=Errors(config), configure_logging=False)
    app.config.update(
        ACCESS_LOG=False,
        MOTD=False,
        REQUEST_TIMEOUT=config.timeouts.request_read,
        RESPONSE_TIMEOUT=float("inf"),
        KEEP_ALIVE_TIMEOUT=120,
        CLIENT_WRITE_TIMEOUT=config.timeouts.client_write,
        REQUEST_MAX_SIZE=doorway.MOST_DROPPED,
        REQUEST_MAX_HEADER_SIZE=16_384,
        FALLBACK_ERROR_FORMAT="json",
        AUTO_EXTEND=False,
    )
    proxies = doorway.TrustedProxies(config.trusted_proxies)
    inference.register(app, gateway, proxies)
    health.register(app, services, state, proxies)
    api.register(app, services)
    app.ctx.refusal_page = web.register(app, services)
    doorway.verify(app)
    return app


async def _follow(services: Services, gateway: Gateway, rows: Sequence[ChangeRow]) -> None:
    """Bring this node to what others have changed."""
    areas = {row.area for row in rows}
    if areas & {"key", "user"}:
        await services.keyring.apply(services.store, rows)
    if areas & {"user", "session"}:
        services.access.ring()
    if "catalog" in areas:
        gateway.snapshot = await load_snapshot(rows[-1].seq, services.sealer, services.config)
    for account in {row.entity_id for row in rows if row.area == "balance" and row.entity_id}:
        await services.ledger.reload_balance(account)


async def _retain(services: Services, config: Config) -> None:
    while True:
        try:
            await services.bodies.purge(now_us() - int(config.bodies.retention * MICROSECONDS))
            await services.changes.prune()
        except Exception as error:
            alarm("retention", "postponed", "warning", reason=str(error))
        await asyncio.sleep(_RETENTION_PERIOD_SECONDS)


async def _serve(config: Config, origins: Mapping[str, str], demo: bool, copy: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    told: float | None = None

    def on_signal() -> None:
        # A signal to the process group also comes by way of the one-file program's bootloader: two of one moment are one.
        nonlocal told
        if told is None:
            told = loop.time()
            stop.set()
        elif loop.time() - told > _SAME_SIGNAL_SECONDS:
            os._exit(1)

    for number in _ending_signals():
        loop.add_signal_handler(number, on_signal)
    directory = DataDirectory(config.data_dir)
    try:
        await _serve_in(directory, config, origins, demo, copy, stop)
    except _Stopped:
        log.info("stopped")
    finally:
        directory.close()


def _ending_signals() -> list[signal.Signals]:
    """Also the one of a terminal that goes, unless whoever started the program wants it to stay (nohup)."""
    ending = [signal.SIGTERM, signal.SIGINT]
    return ending if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [*ending, signal.SIGHUP]


class _Stopped(Exception):
    """Told to stop before serving."""


async def _unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns or raises; raises _Stopped, and cancels it, if the program is told to stop meanwhile."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        return working.result()
    working.cancel()
    await asyncio.wait((working,))
    raise _Stopped


async def _serve_in(
    directory: DataDirectory, config: Config, origins: Mapping[str, str], demo: bool, copy: bool, stop: asyncio.Event
) -> None:
    tls = tls_context(config)
    listener = _listen(config)
    database = config.database
    opening = Store.open(database.url, config.data_dir, direct_url=database.direct_url, wait=DATABASE_WAIT_SECONDS, copy=copy)
    store = await _unless_stopped(stop, opening)
    changes = Changes(store)
    await _unless_stopped(stop, changes.claim(directory.node, DATABASE_WAIT_SECONDS))
    services, gateway = await build_services(config, store, changes, node=directory.node, origins=origins)
    state = health.State()
    password = await ensure_administrator(services)
    app = build_app(config, services, gateway, state)
    measure.watch(gateway)
    asyncio_options: dict[str, Any] = {"start_serving": False}
    if tls is not None:
        asyncio_options["ssl_shutdown_timeout"] = _NEVER_SECONDS
    server = await app.create_server(
        sock=listener, ssl=tls, protocol=doorway.PatientProtocol, backlog=4096, asyncio_server_kwargs=asyncio_options
    )
    assert server is not None
    # With one server of one HTTP version Sanic leaves out its empty alt-svc header.
    app.state.server_info.append(ApplicationServerInfo(settings={"version": HTTP.VERSION_1, "port": listener.getsockname()[1]}))
    await server.startup()
    await server.before_start()
    gateway.start()
    host, port = listener.getsockname()[:2]
    url = f"{'https' if tls else 'http'}://{'localhost' if host in ('0.0.0.0', '::') else f'[{host}]' if ':' in host else host}:{port}"
    demonstration = await Demo.start(services, config) if demo else None
    background = [asyncio.create_task(_retain(services, config)), asyncio.create_task(descriptors.watch())]
    await server.start_serving()
    await server.after_start()
    state.ready = True
    gc.collect()
    gc.freeze()
    _announce(config, url, password, demonstration)
    _warn_of_plain_http(config)
    await stop.wait()
    log.info("stopping", drain_seconds=config.shutdown.drain_timeout, live=len(gateway.live))
    state.ready = False
    app.config.KEEP_ALIVE = False
    server.close()
    stopped_at = monotonic()
    _close_idle(server)
    await gateway.drain(config.shutdown.drain_timeout)
    await _answered(server, stopped_at + config.shutdown.drain_timeout + _FLUSH_SECONDS - monotonic())
    for task in background:
        task.cancel()
    if demonstration is not None:
        await demonstration.close()
    await close_services(services, _RECORD_SECONDS)
    await store.close()
    log.info("stopped")


async def _answered(server: AsyncioServer, seconds: float) -> None:
    """Let answers of every kind end, while what they are made from is there; whoever has not taken them by then loses the connection."""
    try:
        async with asyncio.timeout(seconds):
            while any(connection.answering for connection in server.connections):  # Sanic tells nobody when a connection has ended
                await asyncio.sleep(0.02)
                _close_idle(server)
    except TimeoutError:
        pass
    for connection in list(server.connections):
        connection.abort()


def _close_idle(server: AsyncioServer) -> None:
    for connection in list(server.connections):
        connection.close_if_idle()


def _announce(config: Config, url: str, password: str | None, demonstration: Demo | None) -> None:
    """Tell the person at the terminal where things are. Secrets go there alone, never to the log, and before everything else."""
    lines = [f"dwctl is serving\n  UI        {url}/\n  API       {url}/ai/v1\n  Admin     {url}/admin/api/v1"]
    if password is not None:
        lines.insert(0, f"Sign in as {config.admin_email} with the password {password} (shown once; change it after the first sign-in)")
    if demonstration is not None:
        lines.append(demonstration.announcement(url))
    try:
        standard_streams.say("\n".join(lines))
    except OSError as error:
        remedy = "dwctl admin reset-password gives a new one" if password is not None else None
        log.error("not_announced", reason=error.strerror, url=url, lost="first password" if password is not None else None, remedy=remedy)


def _warn_of_plain_http(config: Config) -> None:
    if config.tls.certificate is None and config.host not in ("127.0.0.1", "::1", "localhost") and not config.trusted_proxies:
        log.warning(
            "listening_without_tls",
            host=config.host,
            remedy="set tls.certificate and tls.key, or put a proxy in front and name it in trusted_proxies",
        )
