"""Fifth stage: pass the answer on, and learn from it on the way.

Four shapes of answer: an error, a stream of events, a JSON body, and bytes of any other kind. The bytes that complete an answer are
released only after the exchange is settled.
"""

import contextlib
import json
from typing import TYPE_CHECKING, Any

import msgspec

from dwctl.clock import monotonic
from dwctl.dialects import chat, openai_errors, openai_stream
from dwctl.dialects.answers import LOADS, Counted, Ended, Event, Failed, MalformedAnswer, Response, events_of, response_of
from dwctl.dialects.chat.response import text_or_none
from dwctl.dialects.codec import Codec, ProviderError
from dwctl.dialects.json_text import encode, objects
from dwctl.dialects.openai_usage import read
from dwctl.dialects.streams import TranslatedStream, WatchedStream, decode_object
from dwctl.errors import GatewayError
from dwctl.gateway.aside import aside
from dwctl.gateway.dispatch import provider_fault
from dwctl.gateway.translate import EmbedTranslation, Translation, answering, came_back, for_client, provider_error
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
_TRY_AGAIN = (429, 503, 529)
_STREAMS = ("text/event-stream", "application/x-ndjson")


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
        elif content_type.startswith(_STREAMS) and exchange.operation != "embeddings":
            await (_events(exchange, upstream) if _streams(exchange) else _collected(exchange, upstream))
        elif "json" in content_type:
            await _whole(exchange, upstream)
        elif request is not None and exchange.operation != "other":
            first = await upstream.read_chunk()
            if not (request.stream and first.startswith(_EVENT_STARTS)):
                raise _not_understood(exchange, first)
            await _events(exchange, upstream, first)
        else:
            await _bytes(exchange, upstream)
    except OutboundError as error:
        raise provider_fault(error) from None


def _is_plain(exchange: "Exchange") -> bool:
    """Whether the answer is passed on as OpenAI's is, looked at by as little as is needed: chat to chat, and all that is not text."""
    return exchange.translation is None and (exchange.surface.codec is chat or exchange.operation not in ("chat", "embeddings"))


def _streams(exchange: "Exchange") -> bool:
    """Whether a stream is passed on as one: not if it must be translated for a client that asked for none."""
    return exchange.translation is None or (exchange.request is not None and exchange.request.stream)


def _provider(exchange: "Exchange") -> Codec:
    return exchange.translation.provider if exchange.translation is not None else exchange.surface.codec


def _translation(exchange: "Exchange") -> Translation | None:
    return exchange.translation if isinstance(exchange.translation, Translation) else None


def _headers(exchange: "Exchange", upstream_headers: "Mapping[str, str]") -> dict[str, str]:
    headers = exchange.own_headers()
    for name in _SHOWN:
        if (value := upstream_headers.get(name)) is not None:
            headers[name] = value
    return headers


def _not_understood(exchange: "Exchange", answer: bytes, wrong: str | None = None) -> GatewayError:
    """What a client is told of an answer that is not of its provider's dialect; the record says what came back."""
    if wrong is not None:
        exchange.explanation.append(f"the provider's answer cannot be used: {wrong}")
    came_back(exchange, concealed(exchange, answer))
    return GatewayError(
        502, "internal_error", "upstream_malformed", "The model's provider sent an answer that cannot be understood. Please try again."
    )


def _embedded(exchange: "Exchange", answer: bytes, said: ProviderError) -> GatewayError:
    """What a client is told of an error that came with a status of success: 502, or that it may try again; nothing of our account."""
    exchange.answer = concealed(exchange, answer)
    came_back(exchange, exchange.answer)
    if openai_errors.is_of_our_account(said.status):
        return openai_errors.of_status(said.status)
    message = concealed(exchange, said.message.encode("utf-8", "replace")).decode("utf-8", "replace")
    status = said.status if said.status in _TRY_AGAIN else 502
    return for_client(exchange, GatewayError(status, "api_error", said.code or "upstream_error", message))


def concealed(exchange: "Exchange", error: bytes) -> bytes:
    """A provider's error without the credential that it was sent, which some repeat in their complaint about it."""
    assert exchange.candidate is not None
    credential = exchange.candidate.endpoint.credential
    secret = credential.reveal().encode() if credential is not None else b""
    return error.replace(secret, HIDDEN.encode()) if secret else error


async def _error(exchange: "Exchange", upstream: "OutboundResponse", content_type: str) -> None:
    answer = concealed(exchange, await upstream.read(_MAX_ERROR, exchange.heard))
    if "json" in content_type:
        with contextlib.suppress(MalformedAnswer):
            _learn(exchange, _provider(exchange).read_usage(decode_object(answer)))
    retry_after = upstream.headers.get("retry-after")
    if exchange.translation is not None:
        raise provider_error(exchange, upstream.status, content_type, answer, retry_after)
    shown = openai_errors.shown_to_client(upstream.status, content_type, answer, retry_after)
    if isinstance(shown, GatewayError):
        came_back(exchange, answer)
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


def _stream(exchange: "Exchange") -> openai_stream.CompletionStream | WatchedStream | TranslatedStream:
    """How the stream that now begins is to be passed on."""
    translation, request = _translation(exchange), exchange.request
    if translation is not None:
        renderer = translation.client.render_stream(translation.request, translation.answering)
        return TranslatedStream(translation.provider.parse_stream(), renderer, translation.client.PING, translation.request.n or 1)
    if not _is_plain(exchange):
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
    content_type = exchange.surface.codec.STREAM_TYPE
    exchange.sink.head(200, {**exchange.own_headers(), **_EVENTS, "content-type": content_type})
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
        raise _not_understood(exchange, chunk, fault.args[1]) from None
    if not stream.complete and exchange.operation != "other" and stream.error is None:
        if released:
            await exchange.write(released)
        if not stream.output_seen:
            came_back(exchange, concealed(exchange, beginning))
        raise GatewayError(
            502,
            "internal_error",
            "upstream_disconnected",
            "The model's provider ended the stream before the answer was complete. Please try again.",
        )
    exchange.outcome = "complete"
    if stream.error_status is not None:
        error = stream.error
        if isinstance(error, GatewayError) and exchange.translation is not None and not (stream.output_seen or exchange.sink.started):
            raise _embedded(exchange, beginning, ProviderError(error.message, code=error.code, status=error.status))
        came_back(exchange, concealed(exchange, (stream.said or "").encode("utf-8", "replace")))
        released = concealed(exchange, released)
        exchange.outcome = "failed"
        exchange.status = stream.error_status
        exchange.error = GatewayError(exchange.status, "upstream_error", "upstream_error", "The provider sent an error inside the stream.")
    await exchange.complete(released)


async def _whole(exchange: "Exchange", upstream: "OutboundResponse") -> None:
    if _is_plain(exchange):
        await _json(exchange, upstream)
    elif exchange.operation == "embeddings":
        await _embeddings(exchange, upstream)
    else:
        await _answer(exchange, upstream)


async def _embeddings(exchange: "Exchange", upstream: "OutboundResponse") -> None:
    """Embeddings that are read as their dialect has them, and given to the client in its own."""
    answer = await upstream.read(_MAX_JSON, exchange.heard)
    translation = exchange.translation
    embedder = translation.embedder if isinstance(translation, EmbedTranslation) else exchange.surface.embeds
    assert embedder is not None
    provider = _provider(exchange)
    try:
        body = decode_object(answer)
        _learn(exchange, provider.read_usage(body))
        if (said := provider.read_error(body)) is not None:
            raise _embedded(exchange, answer, said)
        response = embedder.parse_response(body)
        exchange.response_model = response.model
        headers = _headers(exchange, upstream.headers)
        if isinstance(translation, EmbedTranslation):
            answer = encode(translation.client.render_response(response, translation.request))
    except MalformedAnswer as fault:
        raise _not_understood(exchange, answer, str(fault)) from None
    exchange.answer = answer
    exchange.outcome = "complete"
    exchange.sink.head(upstream.status, headers)
    await exchange.complete(answer)


async def _collected(exchange: "Exchange", upstream: "OutboundResponse") -> None:
    """A stream that the client did not ask for, as the one answer that it wanted."""
    parser = _provider(exchange).parse_stream()
    answer = await upstream.read(_MAX_JSON, exchange.heard)
    events: list[Event] = []
    try:
        for unit in (*parser.split(answer), parser.rest()):
            for event in parser.take(unit):
                events.append(event)
                if isinstance(event, Counted):
                    _learn(exchange, event)
        if (failed := next((event for event in events if isinstance(event, Failed)), None)) is not None:
            error = failed.error
            raise _embedded(exchange, answer, ProviderError(error.message, code=error.code, status=error.status))
        if not any(isinstance(event, Ended) for event in events):
            raise MalformedAnswer("a stream without an end")
        response = response_of(events)
    except MalformedAnswer as fault:
        raise _not_understood(exchange, answer, str(fault)) from None
    await _understood(exchange, upstream, answer, response)


async def _answer(exchange: "Exchange", upstream: "OutboundResponse") -> None:
    """A JSON answer that is read as its dialect has it, and given to the client in its own."""
    answer = await upstream.read(_MAX_JSON, exchange.heard)
    provider = _provider(exchange)
    try:
        body = decode_object(answer)
        _learn(exchange, provider.read_usage(body))
        if (said := provider.read_error(body)) is not None:
            raise _embedded(exchange, answer, said)
        response = provider.parse_response(body)
    except MalformedAnswer as fault:
        raise _not_understood(exchange, answer, str(fault)) from None
    await _understood(exchange, upstream, answer, response)


async def _understood(exchange: "Exchange", upstream: "OutboundResponse", answer: bytes, response: Response) -> None:
    translation, request, codec = _translation(exchange), exchange.request, exchange.surface.codec
    exchange.response, exchange.response_model = response, response.model
    exchange.usage, exchange.raw_usage = response.usage, response.raw_usage
    if response.choices:
        exchange.finish_reason = response.choices[-1].finish
    headers = exchange.own_headers()
    try:
        if request is not None and request.stream and (translation is not None or exchange.finish_reason not in LOADS):
            if translation is None:
                exchange.canonical = exchange.canonical or await aside(exchange, lambda: codec.parse_request(decode_object(exchange.body)))
            wanted = translation.request if translation is not None else exchange.canonical
            assert wanted is not None
            renderer = codec.render_stream(wanted, answering(exchange))
            whole = b"".join(renderer.render(event) for event in events_of(response) if not isinstance(event, Ended)) + renderer.end()
            headers = {**headers, **_EVENTS, "content-type": codec.STREAM_TYPE}
        elif translation is not None:
            whole = encode(codec.render_response(response, translation.request, translation.answering))
            headers["content-type"] = "application/json"
        else:
            whole, headers = answer, _headers(exchange, upstream.headers)
    except MalformedAnswer as fault:
        raise _not_understood(exchange, answer, str(fault)) from None
    exchange.answer = whole
    exchange.outcome = "complete"
    exchange.sink.head(upstream.status, headers)
    await exchange.complete(whole)


async def _json(exchange: "Exchange", upstream: "OutboundResponse") -> None:
    answer = await upstream.read(_MAX_JSON, exchange.heard)
    try:
        decoded = _ANSWER.decode(answer)
    except msgspec.ValidationError:
        decoded = _decode(answer)
        if exchange.operation != "other" and not answer.lstrip().startswith(b"{"):
            raise _not_understood(exchange, answer) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        # Half of a surrogate pair is JSON to everybody but the strict decoder.
        decoded = _decode(answer)
        if decoded.choices is None and decoded.error is None and decoded.usage is openai_stream.NO_USAGE:
            raise _not_understood(exchange, answer) from None
    exchange.answer = answer
    exchange.response_model = decoded.model
    _learn_usage(exchange, decoded.usage)
    if decoded.choices:
        exchange.finish_reason = decoded.choices[-1].finish_reason
    failure = openai_errors.error_object(decoded.error)
    if exchange.operation != "other":
        if failure is not None:
            said = chat.read_error({"error": failure})
            assert said is not None  # `failure` is one
            raise _embedded(exchange, answer, said)
        if exchange.operation in ("chat", "text_completion") and decoded.choices is None:
            raise _not_understood(exchange, answer, "an answer without choices")
    if failure is None:
        exchange.outcome = "complete"
    else:
        exchange.outcome = "failed"
        exchange.error = GatewayError(
            502, "upstream_error", "upstream_error", "The provider's answer is an error, though its status is not."
        )
    headers = _headers(exchange, upstream.headers)
    request = exchange.request
    if request is not None and request.stream and exchange.operation in ("chat", "text_completion"):
        exchange.sink.head(200, {**headers, **_EVENTS})
        try:
            whole = openai_stream.as_stream(json.loads(answer.decode("utf-8", "replace")), include_usage=request.wants_usage)
        except (ValueError, RecursionError):
            raise _not_understood(exchange, answer) from None
        await exchange.complete(whole)
        return
    exchange.sink.head(upstream.status, headers)
    await exchange.complete(answer)


def _learn(exchange: "Exchange", counted: Counted | None) -> None:
    """Remember the usage that an answer reports. First of all, so that it counts also where the rest cannot be used."""
    if counted is not None:
        exchange.usage, exchange.raw_usage = counted.usage, counted.raw


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
    model, usage, choices = decoded.get("model"), decoded.get("usage"), decoded.get("choices")
    return _Answer(
        model=model if isinstance(model, str) else None,
        usage=msgspec.Raw(encode(usage)) if isinstance(usage, dict) else openai_stream.NO_USAGE,
        error=decoded.get("error"),
        choices=[_Choice(text_or_none(choice.get("finish_reason"))) for choice in objects(decoded, "choices")]
        if isinstance(choices, list)
        else None,
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
