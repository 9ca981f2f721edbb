"""The inference surface, ``/ai/v1`` (also ``/v1``), and Ollama's under ``/ai/api`` (also ``/api``): a thin edge between Sanic and the
gateway.

These are plain Sanic handlers with streamed bodies, outside the doorway's wrapper: every model call passes here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from urllib.parse import unquote

import msgspec
from sanic import Sanic
from sanic.exceptions import BadRequest, PayloadTooLarge
from sanic.request import Request
from sanic.response import HTTPResponse

from dwctl import ids
from dwctl.api import listing
from dwctl.api.sanic_sink import SanicSink
from dwctl.clock import now_us
from dwctl.dialects import anthropic, surfaces
from dwctl.dialects.codec import Codec
from dwctl.doorway import InferenceKey, Public, TrustedProxies, add_route, declare
from dwctl.errors import GatewayError, bad_request, not_found
from dwctl.gateway import Exchange, Gateway
from dwctl.gateway.admit import accessible
from dwctl.gateway.receive import authenticate, bearer, check_key
from dwctl.ledger.records import Record
from dwctl.routing import ModelEntry

ROOTS = ("/ai/v1", "/v1")
OLLAMA_ROOTS = ("/ai", "")
_NEVER_PAUSED_BYTES = 32 * 1024
"""A body up to this size does not fill Sanic's buffer (64 kB, head included)."""
_DRAIN_SECONDS = 10
_DRAIN_BYTES = 64 * 1024 * 1024


def _too_large(limit: int) -> GatewayError:
    return GatewayError(
        413, "invalid_request_error", "payload_too_large", f"Request body too large: the maximum allowed size is {limit} bytes."
    )


def _body_reader(request: Request) -> Callable[[int], Awaitable[bytes]]:
    async def read(limit: int) -> bytes:
        stream: Any = request.stream
        if stream is None or not stream.request_body:
            return b""
        if limit and stream.request_bytes > limit:
            raise _too_large(limit)
        chunks: list[bytes] = []
        size = 0
        try:
            while stream.request_body:
                chunk = await stream.read()
                if chunk:
                    chunks.append(chunk)
                    size += len(chunk)
                    if limit and size > limit:
                        raise _too_large(limit)
        except BadRequest:
            raise bad_request("The request body is not framed as HTTP asks for.") from None
        transport: Any = request.transport
        if size > _NEVER_PAUSED_BYTES and transport is not None and not transport.is_closing():
            # Sanic pauses a connection that has much to be read, and only one that is read tells that the client has left.
            transport.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    return read


async def _drain(request: Request) -> None:
    """Take what the client is still sending, within bounds, so that it gets to read the refusal."""
    stream: Any = request.stream
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            size = 0
            while stream.request_body and size < _DRAIN_BYTES:
                size += len(await stream.read() or b"")
    except (TimeoutError, BadRequest, PayloadTooLarge):
        pass
    if stream.request_body:
        stream.protocol.close()


def register(app: Sanic, gateway: Gateway, proxies: TrustedProxies) -> None:
    """Add the inference routes to ``app``."""
    trusts = bool(gateway.config.trusted_proxies)

    def client_ip(request: Request) -> str | None:
        if trusts:
            return proxies.peer(request).ip
        return request.conn_info.client_ip if request.conn_info is not None else None

    def record_refusal(request: Request, path: str, error: GatewayError, access_source: str) -> None:
        gateway.ledger.note_anonymous(
            Record(
                id=ids.new_text(),
                started_us=now_us(),
                node=gateway.node,
                method=request.method,
                path=path,
                access_source=access_source,
                status=error.status,
                outcome="refused",
                error_code=error.code,
                error_message=error.message,
                client_ip=client_ip(request),
                user_agent=request.headers.get("user-agent"),
            )
        )

    app.ctx.record_refusal = lambda request, error: record_refusal(request, "*", error, "unauthenticated")

    def handler_of(root: str) -> Callable[..., Coroutine[Any, Any, None]]:
        prefix = len(root)

        async def call_model(request: Request, **_: str) -> None:
            url = request._parsed_url
            exchange = Exchange(
                gateway,
                SanicSink(request),
                _body_reader(request),
                path=url.path[prefix:].decode("latin-1"),
                query=url.query.decode("latin-1") if url.query else "",
                headers=request.headers,
                client_ip=client_ip(request),
            )
            await exchange.run()
            if request.stream is not None and request.stream.request_body:
                await _drain(request)

        call_model.is_stream = True  # type: ignore[attr-defined]
        return call_model

    def refused(request: Request, path: str, error: GatewayError) -> HTTPResponse:
        secret = bearer(request.headers)
        known = "unauthenticated" if secret is None else "unknown_api_key" if gateway.keyring.find(secret) is None else "api_key"
        record_refusal(request, path, error, known)
        return render_error(request, error)

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

    def answers(
        path: str, answer: Callable[[Request, list[ModelEntry]], dict[str, Any]]
    ) -> Callable[..., Coroutine[Any, Any, HTTPResponse]]:
        """A handler of a question about the models that the caller may see."""

        async def handle(request: Request, **_: str) -> HTTPResponse:
            try:
                body = answer(request, visible(request))
            except GatewayError as error:
                return refused(request, path, error)
            return HTTPResponse(msgspec.json.encode(body), 200, _id_headers(request), "application/json")

        return declare(handle, InferenceKey())

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

    async def ollama_version(request: Request) -> HTTPResponse:
        return HTTPResponse(msgspec.json.encode(listing.ollama_version()), 200, _id_headers(request), "application/json")

    async def is_here(_: Request) -> HTTPResponse:
        return HTTPResponse(status=200)

    def add(handler: Any, method: str, path: str) -> None:
        name = f"inference_{method}_{path}".translate(str.maketrans("/<>:", "____"))
        add_route(app, handler, path, [method], name)

    for root in ROOTS:
        handler = declare(handler_of(root), InferenceKey())
        for path in surfaces.PATHS:
            add(handler, "POST", root + path)
        add(handler, "POST", root + "/<path:path>")
        add(answers("/models", list_models), "GET", root + "/models")
        add(answers("/models", get_model), "GET", root + "/models/<model_id:path>")
        for method in ("GET", "DELETE"):
            add(answers("/responses", get_response), method, root + "/responses/<response_id:path>")
    for root in OLLAMA_ROOTS:
        handler = declare(handler_of(root), InferenceKey())
        for path in surfaces.OLLAMA_PATHS:
            add(handler, "POST", root + path)
        add(answers("/api/tags", list_ollama), "GET", root + "/api/tags")
        add(answers("/api/show", show_ollama), "POST", root + "/api/show")
        add(declare(ollama_version, Public()), "GET", root + "/api/version")
    # Some clients ask whether their base URL is there before they say anything.
    for root in ("/ai", *ROOTS):
        add(declare(is_here, Public()), "HEAD", root)


def serves(path: str) -> bool:
    """Whether a path is of the inference surface."""
    return path.startswith(("/ai/", "/v1/", "/api/"))


def render_error(request: Request, error: GatewayError) -> HTTPResponse:
    """An error in the words of the dialect that the path belongs to."""
    headers = {**_id_headers(request), **error.headers}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, -int(-error.retry_after // 1)))
    body = _codec(request).render_error(error, headers["x-request-id"])
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


def _id_headers(request: Request) -> dict[str, str]:
    id_ = ids.new_text()
    return {"x-request-id": id_, "request-id": f"req_{id_}"} if _codec(request) is anthropic else {"x-request-id": id_}


def _named(models: list[ModelEntry], name: str) -> ModelEntry:
    for model in models:
        if model.alias == name:
            return model
    raise not_found(f"The model `{name[:128]}` does not exist or you do not have access to it.", code="model_not_found", param="model")
