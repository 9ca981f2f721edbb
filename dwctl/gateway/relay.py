"""Fifth stage: pass the answer on, and learn from it on the way.

Four shapes of answer: an error, a stream of events, a JSON body, and bytes of any other kind. The bytes that complete an answer are
released only after the exchange is settled.
"""

import json
from typing import TYPE_CHECKING, Any

import msgspec

from dwctl.clock import monotonic
from dwctl.dialects import openai_errors, openai_stream
from dwctl.dialects.openai_usage import read
from dwctl.errors import GatewayError
from dwctl.gateway.dispatch import provider_fault
from dwctl.outbound import OutboundError
from dwctl.telemetry.redaction import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dwctl.gateway.exchange import Exchange
    from dwctl.outbound import OutboundResponse

_MAX_JSON = 64 * 1024 * 1024
_MAX_ERROR = 1024 * 1024
_SHOWN = ("content-type", "cache-control", "content-disposition")
"""Response headers of a provider that a client may see."""
_EVENTS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no"}


_EVENT_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")
"""How a stream of events begins that does not say that it is one."""


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    model: str | None = None
    usage: msgspec.Raw = openai_stream.NO_USAGE
    error: Any = None
    choices: list[_Choice] | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


async def relay(exchange: "Exchange") -> None:
    """Pass the provider's answer on to its end. Raises GatewayError."""
    upstream, request = exchange.upstream, exchange.request
    assert upstream is not None
    exchange.status = upstream.status
    content_type = upstream.headers.get("content-type", "").lower()
    if upstream.headers.get("content-encoding", "identity") != "identity":
        raise GatewayError(
            502, "internal_error", "upstream_protocol_error", "The model's provider sent a compressed answer, which it was asked not to do."
        )
    try:
        if not 200 <= upstream.status < 300:
            await _error(exchange, upstream, content_type)
        elif content_type.startswith("text/event-stream"):
            await _events(exchange, upstream)
        elif "json" in content_type:
            await _json(exchange, upstream)
        elif request is not None and exchange.operation != "other":
            first = await upstream.read_chunk() if request.stream else b""
            if not first.startswith(_EVENT_STARTS):
                raise _not_understood()
            await _events(exchange, upstream, first)
        else:
            await _bytes(exchange, upstream)
    except OutboundError as error:
        raise provider_fault(error) from None


def _headers(exchange: "Exchange", upstream_headers: "Mapping[str, str]") -> dict[str, str]:
    headers = {"x-request-id": exchange.id, **exchange.limit_headers}
    for name in _SHOWN:
        if (value := upstream_headers.get(name)) is not None:
            headers[name] = value
    return headers


def _not_understood() -> GatewayError:
    return GatewayError(
        502, "internal_error", "upstream_malformed", "The model's provider sent an answer that cannot be understood. Please try again."
    )


def concealed(exchange: "Exchange", error: bytes) -> bytes:
    """A provider's error without the credential that it was sent, which some repeat in their complaint about it."""
    assert exchange.candidate is not None
    credential = exchange.candidate.endpoint.credential
    secret = credential.reveal().encode() if credential is not None else b""
    return error.replace(secret, HIDDEN.encode()) if secret else error


async def _error(exchange: "Exchange", upstream: "OutboundResponse", content_type: str) -> None:
    answer = concealed(exchange, await upstream.read(_MAX_ERROR, exchange.heard))
    if "json" in content_type:
        _learn_usage(exchange, _decode(answer).usage)
    retry_after = upstream.headers.get("retry-after")
    shown = openai_errors.shown_to_client(upstream.status, content_type, answer, retry_after)
    if isinstance(shown, GatewayError):
        raise shown
    exchange.outcome = "failed"
    exchange.error = GatewayError(
        upstream.status, "upstream_error", "upstream_error", f"The provider answered with status {upstream.status}."
    )
    headers = _headers(exchange, upstream.headers)
    if retry_after is not None:
        headers["retry-after"] = retry_after
    exchange.sink.head(upstream.status, headers)
    await exchange.complete(shown)


async def _events(exchange: "Exchange", upstream: "OutboundResponse", first: bytes = b"") -> None:
    principal, model, request = exchange.principal, exchange.model, exchange.request
    assert principal is not None
    assert model is not None
    keeps_usage = (
        request is None
        or exchange.operation == "other"
        or not request.stream
        or request.wants_usage
        or principal.always_stream_usage
        or model.always_stream_usage
    )
    stream = exchange.stream = openai_stream.CompletionStream(
        keep_usage=keeps_usage, choices=request.choices if request is not None else 1, lenient=exchange.operation == "other"
    )
    exchange.sink.head(200, {"x-request-id": exchange.id, **exchange.limit_headers, **_EVENTS})
    try:
        while chunk := first or await upstream.read_chunk():
            first = b""
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
        raise _not_understood() from None
    if not stream.complete and exchange.operation != "other" and stream.error is None:
        if released:
            await exchange.write(released)
        raise GatewayError(
            502,
            "internal_error",
            "upstream_disconnected",
            "The model's provider ended the stream before the answer was complete. Please try again.",
        )
    exchange.outcome = "complete"
    if stream.error is not None:
        released = concealed(exchange, released)
        exchange.outcome = "failed"
        exchange.status = openai_errors.embedded_status(stream.error)
        exchange.error = GatewayError(exchange.status, "upstream_error", "upstream_error", "The provider sent an error inside the stream.")
    await exchange.complete(released)


async def _json(exchange: "Exchange", upstream: "OutboundResponse") -> None:
    answer = await upstream.read(_MAX_JSON, exchange.heard)
    try:
        decoded = _ANSWER.decode(answer)
    except msgspec.ValidationError:
        decoded = _decode(answer)
        if exchange.operation != "other" and not answer.lstrip().startswith(b"{"):
            raise _not_understood() from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        # Half of a surrogate pair is JSON to everybody but the strict decoder.
        decoded = _decode(answer)
        if decoded.choices is None and decoded.error is None and decoded.usage is openai_stream.NO_USAGE:
            raise _not_understood() from None
    exchange.answer = answer
    exchange.response_model = decoded.model
    _learn_usage(exchange, decoded.usage)
    if decoded.choices:
        exchange.finish_reason = decoded.choices[-1].finish_reason
    exchange.outcome = "complete"
    failure = openai_errors.error_object(decoded.error)
    if failure is not None:
        exchange.answer = answer = concealed(exchange, answer)
        exchange.outcome = "failed"
        exchange.status = openai_errors.embedded_status(failure)
        exchange.error = GatewayError(
            exchange.status, "upstream_error", "upstream_error", "The provider sent an error with a status of success."
        )
    headers = _headers(exchange, upstream.headers)
    request = exchange.request
    if request is not None and request.stream and failure is None and exchange.operation in ("chat", "text_completion"):
        exchange.sink.head(200, {**headers, **_EVENTS})
        try:
            whole = openai_stream.as_stream(json.loads(answer.decode("utf-8", "replace")), include_usage=request.wants_usage)
        except (ValueError, RecursionError):
            raise _not_understood() from None
        await exchange.complete(whole)
        return
    exchange.sink.head(upstream.status, headers)
    await exchange.complete(answer)


def _learn_usage(exchange: "Exchange", usage: msgspec.Raw) -> None:
    if (raw := bytes(usage)) != b"null":
        exchange.usage = read(raw)
        exchange.raw_usage = raw


def _decode(answer: bytes) -> _Answer:
    """What can be learned of a body whose shape is not quite known."""
    try:
        decoded = json.loads(answer.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return _Answer()
    if not isinstance(decoded, dict):
        return _Answer()
    model, usage = decoded.get("model"), decoded.get("usage")
    return _Answer(
        model=model if isinstance(model, str) else None,
        usage=msgspec.Raw(msgspec.json.encode(usage)) if isinstance(usage, dict) else openai_stream.NO_USAGE,
        error=decoded.get("error"),
    )


async def _bytes(exchange: "Exchange", upstream: "OutboundResponse") -> None:
    """Any other body, as it comes, one chunk held back until the end is certain."""
    headers = _headers(exchange, upstream.headers)
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
