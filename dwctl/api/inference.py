"""The inference surface, ``/ai/v1`` (also ``/v1``), and Ollama's under ``/ai/api`` (also ``/api``): a thin edge between Sanic and the
gateway.

These are plain Sanic handlers with streamed bodies, outside the doorway's wrapper: every model call passes here.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from urllib.parse import unquote

import msgspec
from sanic import Sanic
from sanic.request import Request
from sanic.response import HTTPResponse

from dwctl import ids
from dwctl.api import listing
from dwctl.api.sanic_sink import SanicSink
from dwctl.clock import MICROSECONDS, monotonic, now_us
from dwctl.dialects import anthropic, surfaces
from dwctl.dialects.codec import Codec
from dwctl.doorway import (
    CrossOrigin,
    InferenceKey,
    Policy,
    Public,
    RouteMetrics,
    TrustedProxies,
    add_preflights,
    add_route,
    declare,
    read_body,
    streamed,
    take_body,
    template_of,
)
from dwctl.errors import GatewayError, bad_request, not_found
from dwctl.gateway import Exchange, Gateway
from dwctl.gateway.admit import accessible
from dwctl.gateway.receive import authenticate, bearer, check_key
from dwctl.gateway.settle import keep, log_request
from dwctl.ledger.records import Record
from dwctl.routing import ModelEntry

Handler = Callable[..., Coroutine[Any, Any, HTTPResponse | None]]

ROOTS = ("/ai/v1", "/v1")
OLLAMA_ROOTS = ("/ai", "")
_UNREADABLE = "(unreadable)"
"""In the place of a path, where the head of a request is not HTTP or did not come to its end."""


def register(app: Sanic, gateway: Gateway, proxies: TrustedProxies) -> None:
    """Add the inference routes to ``app``."""
    trusts = bool(gateway.config.trusted_proxies)

    def client_ip(request: Request) -> str | None:
        if trusts:
            return proxies.peer(request).ip
        return request.conn_info.client_ip if request.conn_info is not None else None

    cross_origin = CrossOrigin(gateway.config.auth.security.cors)

    def shared_sink(request: Request) -> SanicSink:
        return SanicSink(request, "".join(f"{name}: {value}\r\n" for name, value in cross_origin.headers(request).items()))

    open_sink: Callable[[Request], SanicSink] = shared_sink if cross_origin.enabled else SanicSink

    def calls(root: str) -> Callable[[RouteMetrics], Handler]:
        """Handlers of paths that call models."""
        prefix = len(root)

        def make(metrics: RouteMetrics) -> Handler:
            async def call_model(request: Request, **_: str) -> None:
                url = request._parsed_url
                exchange = Exchange(
                    gateway,
                    open_sink(request),
                    partial(read_body, request),
                    path=url.path[prefix:].decode("latin-1"),
                    query=url.query.decode("latin-1") if url.query else "",
                    headers=request.headers,
                    client_ip=client_ip(request),
                )
                metrics.begun()
                try:
                    await exchange.run()
                finally:
                    metrics.ended(exchange.status, monotonic() - exchange.started_at)

            return streamed(call_model)

        return make

    def record_of(request: Request, status: int, started_at: float | None = None) -> Record:
        """A request that calls no model. ``started_at`` in monotonic seconds, where it is known."""
        seconds = monotonic() - started_at if started_at is not None else 0
        is_read = request.method != "NONE"  # so Sanic calls what has no readable head
        return Record(
            id=ids.new_text(),
            started_us=now_us(),
            node=gateway.node,
            method=request.method if is_read else "",
            path=_below_root(request.path) if is_read else _UNREADABLE,
            access_source="unauthenticated",
            status=status,
            duration_us=int(seconds * MICROSECONDS),
            client_ip=client_ip(request),
            user_agent=request.headers.get("user-agent"),
        )

    def refuse(request: Request, error: GatewayError, started_at: float | None = None) -> HTTPResponse:
        """Refuse what is no call of a model, and keep it as one that is refused, under the id that the client is given."""
        record = record_of(request, error.status, started_at)
        record.outcome, record.error_code, record.error_message = "refused", error.code, error.message
        secret = bearer(request.headers)
        if secret is not None:
            record.access_source = "unknown_api_key"
            principal = gateway.keyring.find(secret)
            if principal is not None:
                record.access_source = "api_key"
                record.account_id, record.holder_id = principal.account_id, principal.holder_id
                record.key_id, record.purpose = principal.key_id, principal.purpose
        keep(gateway, record)
        return cross_origin.mark(request, _render_error(request, error, record.id))

    app.ctx.refuse_inference = refuse

    def answers(answer: Callable[[Request, list[ModelEntry]], Any], *, public: bool = False) -> Callable[[RouteMetrics], Handler]:
        """Handlers of what is answered without a model: with JSON, or with nothing to those who only ask whether it is there. ``answer``
        gets the models that the caller may see; if ``public``, anybody may ask, and sees none."""

        def make(metrics: RouteMetrics) -> Handler:
            async def handle(request: Request, **_: str) -> HTTPResponse:
                with metrics.measured() as measured:
                    try:
                        models = [] if public else visible(request)
                        await take_body(request, public=public, seconds=gateway.config.timeouts.request_read)
                        if request.body and not public:
                            models = visible(request)
                        body = answer(request, models)
                    except GatewayError as error:
                        measured.status = error.status
                        return refuse(request, error, measured.started_at)
                    measured.status = 200
                    id_ = ids.new_text()
                    if gateway.logs_requests:
                        record = record_of(request, 200, measured.started_at)
                        record.id = id_
                        log_request(record)
                raw, content_type = (b"", "text/plain") if body is None else (msgspec.json.encode(body), "application/json")
                return cross_origin.mark(request, HTTPResponse(raw, 200, _own_headers(request, id_), content_type))

            return streamed(handle)

        return make

    def visible(request: Request) -> list[ModelEntry]:
        try:
            principal = authenticate(gateway.keyring, bearer(request.headers))
        except GatewayError as error:
            if error.status == 403:
                raise GatewayError(401, "authentication_error", "invalid_api_key", "This API key is not known here.") from None
            raise GatewayError(
                401, "authentication_error", "missing_authorization", "Please supply an API key: Authorization: Bearer sk-..."
            ) from None
        check_key(principal, now_us())
        return [model for model in gateway.snapshot.listing if accessible(principal, model)]

    def list_models(request: Request, models: list[ModelEntry]) -> dict[str, Any]:
        query = {name: values[0] for name, values in request.args.items()}
        return listing.anthropic_list(models, query) if _is_anthropic(request) else listing.openai_list(models, query)

    def get_model(request: Request, models: list[ModelEntry]) -> dict[str, Any]:
        model = _named(models, unquote(request.match_info["model_id"]))  # clients encode the slash of a name
        return listing.anthropic_model(model) if _is_anthropic(request) else listing.openai_model(model)

    def get_response(request: Request, models: list[ModelEntry]) -> dict[str, Any]:
        name = unquote(request.match_info["response_id"])[:128]
        raise not_found(
            f"There is no response '{name}': responses are not kept here. Send the conversation in 'input'.",
            code="response_not_found",
            param="response_id",
        )

    def list_ollama(request: Request, models: list[ModelEntry]) -> dict[str, Any]:
        return listing.ollama_list(models)

    def show_ollama(request: Request, models: list[ModelEntry]) -> dict[str, Any]:
        try:
            asked = msgspec.json.decode(request.body)
            name = asked.get("model") or asked["name"]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError, KeyError):
            raise bad_request("Send a JSON object whose 'model' is the model's name.", param="model") from None
        return listing.ollama_model(_named(models, str(name)))

    paths: list[str] = []

    def add(make: Callable[[RouteMetrics], Handler], method: str, path: str, policy: Policy = InferenceKey()) -> None:  # noqa: B008
        name = f"inference_{method}_{path}".translate(str.maketrans("/<>:", "____"))
        add_route(app, declare(make(RouteMetrics(method, template_of(path))), policy), path, [method], name)
        paths.append(path)

    for root in ROOTS:
        for path in (*surfaces.PATHS, "/<path:path>"):
            add(calls(root), "POST", root + path)
        add(answers(list_models), "GET", root + "/models")
        add(answers(get_model), "GET", root + "/models/<model_id:path>")
        for method in ("GET", "DELETE"):
            add(answers(get_response), method, root + "/responses/<response_id:path>")
    for root in OLLAMA_ROOTS:
        for path in surfaces.OLLAMA_PATHS:
            add(calls(root), "POST", root + path)
        add(answers(list_ollama), "GET", root + "/api/tags")
        add(answers(show_ollama), "POST", root + "/api/show")
        add(answers(lambda *_: listing.ollama_version(), public=True), "GET", root + "/api/version", Public())
    # Some clients ask whether their base URL is there before they say anything.
    for root in ("/ai", *ROOTS):
        add(answers(lambda *_: None, public=True), "HEAD", root, Public())
    if cross_origin.enabled:
        add_preflights(app, cross_origin.preflight_of_call, paths)


def serves(path: str) -> bool:
    """Whether a path is of the inference surface."""
    return path.startswith(("/ai/", "/v1/", "/api/"))


def _below_root(path: str) -> str:
    """A path as records have it: ``/models``, wherever the API's root is."""
    for root in (*ROOTS, "/ai"):
        if path.startswith(root + "/"):
            return path[len(root) :]
    return path


def _render_error(request: Request, error: GatewayError, id_: str) -> HTTPResponse:
    """An error in the words of the dialect that the path belongs to."""
    headers = {**_own_headers(request, id_), **error.headers}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, -int(-error.retry_after // 1)))
    body = _codec(request).render_error(error, id_)
    return HTTPResponse(body, error.status, headers, "application/json")


def _codec(request: Request) -> Codec:
    if _is_anthropic(request):
        return anthropic
    path = request.path
    if path.startswith(("/api/", "/ai/api/")):
        return surfaces.PROVIDERS["ollama"]
    return surfaces.surface_of(path).codec


def _is_anthropic(request: Request) -> bool:
    """Whether a question that several dialects ask at one path comes from a client of Anthropic's."""
    return "anthropic-version" in request.headers


def _own_headers(request: Request, id_: str) -> dict[str, str]:
    """The headers that every answer has."""
    headers = {"x-content-type-options": "nosniff", "cache-control": "no-store", "x-request-id": id_}
    if _codec(request) is anthropic:
        headers["request-id"] = f"req_{id_}"
    return headers


def _named(models: list[ModelEntry], name: str) -> ModelEntry:
    for model in models:
        if model.alias == name:
            return model
    raise not_found(f"The model `{name[:128]}` does not exist or you do not have access to it.", code="model_not_found", param="model")
