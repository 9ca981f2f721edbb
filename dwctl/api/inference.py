"""The inference surface, ``/ai/v1`` (also ``/v1``): a thin edge between Sanic and the gateway.

These are plain Sanic handlers with streamed bodies, outside the doorway's wrapper: every model call passes here.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from urllib.parse import unquote

import msgspec
from sanic import Sanic
from sanic.exceptions import BadRequest, PayloadTooLarge
from sanic.request import Request
from sanic.response import HTTPResponse

from dwctl import ids
from dwctl.api.sanic_sink import SanicSink
from dwctl.clock import now_us
from dwctl.dialects import openai_errors
from dwctl.doorway import InferenceKey, TrustedProxies, declare
from dwctl.errors import GatewayError, bad_request, not_found
from dwctl.gateway import Exchange, Gateway
from dwctl.gateway.admit import accessible
from dwctl.gateway.receive import authenticate, bearer, check_key
from dwctl.ledger.records import Record
from dwctl.routing import ModelEntry

ROOTS = ("/ai/v1", "/v1")
MODEL_PATHS = ("/chat/completions", "/completions", "/embeddings")
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
    if stream.request_body and request.transport is not None:
        request.transport.close()


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
        return render_error(error)

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

    async def list_models(request: Request) -> HTTPResponse:
        try:
            models = visible(request)
            if (groups := request.args.get("group")) is not None:
                wanted = _groups(groups)
                models = [model for model in models if not wanted.isdisjoint(model.groups)]
        except GatewayError as error:
            return refused(request, "/models", error)
        body = {"object": "list", "data": [_listed(model) for model in models]}
        return HTTPResponse(msgspec.json.encode(body), 200, {"x-request-id": ids.new_text()}, "application/json")

    async def get_model(request: Request, model_id: str) -> HTTPResponse:
        model_id = unquote(model_id)  # clients encode the slash of a name
        try:
            for model in visible(request):
                if model.alias == model_id:
                    return HTTPResponse(msgspec.json.encode(_listed(model)), 200, {"x-request-id": ids.new_text()}, "application/json")
            raise not_found(
                f"The model `{model_id[:128]}` does not exist or you do not have access to it.", code="model_not_found", param="model"
            )
        except GatewayError as error:
            return refused(request, "/models", error)

    for root in ROOTS:
        handler = handler_of(root)
        name = root.strip("/").replace("/", "_")
        for path in MODEL_PATHS:
            app.add_route(
                declare(handler, InferenceKey()), root + path, methods=["POST"], name=f"{name}_{path.strip('/').replace('/', '_')}"
            )
        app.add_route(declare(handler, InferenceKey()), root + "/<path:path>", methods=["POST"], name=f"{name}_other")
        app.add_route(declare(list_models, InferenceKey()), root + "/models", methods=["GET"], name=f"{name}_models")
        app.add_route(declare(get_model, InferenceKey()), root + "/models/<model_id:path>", methods=["GET"], name=f"{name}_model")


def render_error(error: GatewayError) -> HTTPResponse:
    """An error as an OpenAI client expects it."""
    headers = {"x-request-id": ids.new_text(), **error.headers}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, -int(-error.retry_after // 1)))
    return HTTPResponse(openai_errors.body(error), error.status, headers, "application/json")


def _listed(model: ModelEntry) -> dict[str, object]:
    return {"id": model.alias, "object": "model", "created": model.created, "owned_by": ""}


def _groups(text: str) -> set[str]:
    try:
        return {str(uuid.UUID(part.strip())) for part in text.split(",")}
    except ValueError:
        raise bad_request("'group' must be a list of group ids, separated by commas.", code="invalid_group", param="group") from None
