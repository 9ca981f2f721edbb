"""Fifth stage: pass the answer on, and learn from it on the way.

Four shapes of answer: an error, a stream of events, a JSON body, and bytes of any other kind. The bytes that complete an answer are
released only after the exchange is settled.
"""

import contextlib
from typing import TYPE_CHECKING

from dwctl.clock import monotonic
from dwctl.dialects import openai_errors, openai_stream
from dwctl.dialects.answers import Failed, MalformedAnswer
from dwctl.dialects.streams import TranslatedStream, WatchedStream, decode_object
from dwctl.errors import GatewayError
from dwctl.gateway.dispatch import provider_fault
from dwctl.gateway.provider_answer import (
    came_back,
    concealed,
    failed,
    headers_of,
    is_plain,
    learn,
    not_understood,
    provider_error,
    provider_of,
    stream_headers,
    translation_of,
    with_status,
)
from dwctl.gateway.relay_whole import relay_collected, relay_json
from dwctl.outbound import OutboundError

if TYPE_CHECKING:
    from dwctl.gateway.exchange import Exchange
    from dwctl.outbound import OutboundResponse

_MAX_ERROR = 1024 * 1024
_EVENT_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")
"""How a stream of events begins that does not say that it is one."""
_STREAMS = ("text/event-stream", "application/x-ndjson")


async def relay(exchange: "Exchange") -> None:
    """Pass the provider's answer on to its end. Raises GatewayError."""
    upstream, request = exchange.upstream, exchange.request
    assert upstream is not None
    exchange.status = upstream.status
    content_type = upstream.headers.get("content-type", "").lower()
    if upstream.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise GatewayError(
            502, "internal_error", "upstream_protocol_error", "The model's provider sent a compressed answer, which it was asked not to do."
        )
    try:
        if not 200 <= upstream.status < 300:
            await _error(exchange, upstream, content_type)
        elif content_type.startswith(_STREAMS) and exchange.operation != "embeddings":
            await (_events(exchange, upstream) if _streams(exchange) else relay_collected(exchange, upstream))
        elif "json" in content_type:
            await relay_json(exchange, upstream)
        elif request is not None and exchange.operation != "other":
            first = await upstream.read_chunk()
            if not (request.stream and first.startswith(_EVENT_STARTS)):
                raise not_understood(exchange, first)
            await _events(exchange, upstream, first)
        else:
            await _bytes(exchange, upstream)
    except OutboundError as error:
        raise provider_fault(error) from None


def _streams(exchange: "Exchange") -> bool:
    """Whether a stream is passed on as one: not if it must be translated for a client that asked for none."""
    return exchange.translation is None or (exchange.request is not None and exchange.request.stream)


async def _error(exchange: "Exchange", upstream: "OutboundResponse", content_type: str) -> None:
    answer = concealed(exchange, await upstream.read(_MAX_ERROR, exchange.heard))
    said = None
    if "json" in content_type:
        with contextlib.suppress(MalformedAnswer):
            provider, body = provider_of(exchange), decode_object(answer)
            learn(exchange, provider.read_usage(body))
            said = provider.read_error(body)
    came_back(exchange, answer, said.words if said is not None else "")
    retry_after = upstream.headers.get("retry-after")
    if exchange.translation is not None:
        raise provider_error(exchange, upstream.status, content_type, answer, said, retry_after)
    shown = openai_errors.shown_to_client(upstream.status, content_type, answer, retry_after)
    if isinstance(shown, GatewayError):
        raise shown
    exchange.outcome = "failed"
    exchange.error = with_status(upstream.status)
    headers = headers_of(exchange, upstream.headers)
    if retry_after is not None:
        headers["retry-after"] = retry_after
    exchange.sink.head(upstream.status, headers)
    await exchange.complete(shown)


def _stream(exchange: "Exchange") -> openai_stream.CompletionStream | WatchedStream | TranslatedStream:
    """How the stream that now begins is to be passed on."""
    translation, request = translation_of(exchange), exchange.request
    if translation is not None:
        renderer = translation.client.render_stream(translation.request, translation.answering)
        return TranslatedStream(translation.provider.parse_stream(), renderer, translation.client.PING, translation.request.n or 1)
    if not is_plain(exchange):
        codec = exchange.surface.codec
        return WatchedStream(codec.parse_stream(), codec.PING, lambda error: codec.stream_error(error, exchange.id))
    assert exchange.principal is not None
    assert exchange.model is not None
    keeps_usage = (
        request is None
        or exchange.operation == "other"
        or not request.stream
        or request.wants_usage
        or exchange.principal.always_stream_usage
        or exchange.model.always_stream_usage
    )
    choices = request.choices if request is not None else 1
    return openai_stream.CompletionStream(keep_usage=keeps_usage, choices=choices, lenient=exchange.operation == "other")


async def _events(exchange: "Exchange", upstream: "OutboundResponse", first: bytes = b"") -> None:
    stream = exchange.stream = _stream(exchange)
    exchange.sink.head(200, stream_headers(exchange))
    chunk = beginning = b""
    try:
        while chunk := first or await upstream.read_chunk():
            first = b""
            beginning = beginning or chunk
            exchange.phase_since = monotonic()
            released = stream.feed(chunk)
            if stream.done:
                break
            if released:
                await exchange.write(released if stream.error is None else concealed(exchange, released))
        else:
            released = stream.finish()
    except openai_stream.MalformedStream as fault:
        if fault.args[0]:
            await exchange.write(fault.args[0])
        raise not_understood(exchange, chunk, fault.args[1]) from None
    if not stream.complete and exchange.operation != "other" and stream.error is None:
        if released:
            await exchange.write(released)
        if not stream.output_seen:
            came_back(exchange, beginning)
        raise GatewayError(
            502,
            "internal_error",
            "upstream_disconnected",
            "The model's provider ended the stream before the answer was complete. Please try again.",
        )
    exchange.outcome = "complete"
    if stream.error_status is not None:
        error, said = stream.error, stream.said or ""
        if isinstance(error, GatewayError) and exchange.translation is not None and not (stream.output_seen or exchange.sink.started):
            raise failed(exchange, beginning, Failed(error, said))
        came_back(exchange, beginning, said)
        released = concealed(exchange, released)
        exchange.outcome = "failed"
        exchange.status = stream.error_status
        exchange.error = GatewayError(exchange.status, "upstream_error", "upstream_error", "The provider sent an error inside the stream.")
    await exchange.complete(released)


async def _bytes(exchange: "Exchange", upstream: "OutboundResponse") -> None:
    """Any other body, as it comes, one chunk held back until the end is certain."""
    headers = headers_of(exchange, upstream.headers)
    if (length := upstream.headers.get("content-length")) is not None:
        headers["content-length"] = length
    exchange.sink.head(upstream.status, headers)
    held = await upstream.read_chunk()
    while chunk := await upstream.read_chunk():
        if held:
            await exchange.write(held)
        held = chunk
    exchange.outcome = "complete"
    await exchange.complete(held)
