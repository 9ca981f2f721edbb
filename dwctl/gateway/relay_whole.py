"""Answers that are read to their end before the client is given anything of them: JSON bodies, and streams that it did not ask for."""

import json
from typing import TYPE_CHECKING, Any

import msgspec

from dwctl.dialects import chat, openai_stream
from dwctl.dialects.answers import (
    LOADS,
    Counted,
    Ended,
    Event,
    Failed,
    Finished,
    MalformedAnswer,
    Response,
    Started,
    events_of,
    response_of,
)
from dwctl.dialects.chat.response import text_or_none
from dwctl.dialects.codec import Codec
from dwctl.dialects.json_text import encode, objects
from dwctl.dialects.openai_usage import read
from dwctl.dialects.streams import decode_object
from dwctl.dialects.usage import Usage
from dwctl.gateway.aside import aside
from dwctl.gateway.provider_answer import (
    came_back,
    concealed,
    embedded,
    failed,
    headers_of,
    is_plain,
    learn,
    not_understood,
    provider_of,
    stream_headers,
    translation_of,
    under_success,
)
from dwctl.gateway.translate import EmbedTranslation, answering

if TYPE_CHECKING:
    from dwctl.gateway.exchange import Exchange
    from dwctl.outbound import OutboundResponse

_MAX_JSON = 64 * 1024 * 1024


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    model: str | None = None
    usage: msgspec.Raw = openai_stream.NO_USAGE
    error: Any = None
    choices: list[_Choice] | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


async def relay_json(exchange: "Exchange", upstream: "OutboundResponse") -> None:
    """Pass a JSON body on, looked at by as little as is needed, or read and given to the client as its dialect has it."""
    if is_plain(exchange):
        await _json(exchange, upstream)
    elif exchange.operation == "embeddings":
        await _embeddings(exchange, upstream)
    else:
        await _answer(exchange, upstream)


def _said_by(provider: Codec, exchange: "Exchange", answer: bytes) -> dict[str, Any]:
    """The provider's answer, decoded, and its usage learned. Raises MalformedAnswer; GatewayError for an error that it is."""
    body = decode_object(answer)
    learn(exchange, provider.read_usage(body))
    if (said := provider.read_error(body)) is not None:
        raise embedded(exchange, answer, said)
    return body


async def _embeddings(exchange: "Exchange", upstream: "OutboundResponse") -> None:
    """Embeddings that are read as their dialect has them, and given to the client in its own."""
    answer = await upstream.read(_MAX_JSON, exchange.heard)
    translation = exchange.translation
    embedder = translation.embedder if isinstance(translation, EmbedTranslation) else exchange.surface.embeds
    assert embedder is not None
    try:
        response = embedder.parse_response(_said_by(provider_of(exchange), exchange, answer))
        exchange.response_model = response.model
        headers = headers_of(exchange, upstream.headers)
        if isinstance(translation, EmbedTranslation):
            answer = encode(translation.client.render_response(response, translation.request))
    except MalformedAnswer as fault:
        raise not_understood(exchange, answer, str(fault)) from None
    exchange.answer = answer
    exchange.outcome = "complete"
    exchange.sink.head(upstream.status, headers)
    await exchange.complete(answer)


async def relay_collected(exchange: "Exchange", upstream: "OutboundResponse") -> None:
    """A stream that the client did not ask for, as the one answer that it wanted."""
    parser, request = provider_of(exchange).parse_stream(), exchange.request
    answer = await upstream.read(_MAX_JSON, exchange.heard)
    events: list[Event] = []
    try:
        for unit in (*parser.split(answer), parser.rest()):
            for event in parser.take(unit):
                events.append(event)
                match event:
                    case Counted():
                        learn(exchange, event)
                    case Started(usage=Usage() as beforehand):
                        exchange.beforehand, exchange.raw_usage = beforehand, event.raw_usage
        if (failure := next((event for event in events if isinstance(event, Failed)), None)) is not None:
            raise failed(exchange, answer, failure)
        parser.close()
        finished = {event.choice for event in events if isinstance(event, Finished)}
        if not any(isinstance(event, Ended) for event in events) and len(finished) < (request.choices if request is not None else 1):
            raise MalformedAnswer("a stream without an end")
        response = response_of(events)
    except MalformedAnswer as fault:
        learn(exchange, fault.counted)
        raise not_understood(exchange, answer, str(fault)) from None
    await _understood(exchange, upstream, answer, response)


async def _answer(exchange: "Exchange", upstream: "OutboundResponse") -> None:
    """A JSON answer that is read as its dialect has it, and given to the client in its own."""
    answer = await upstream.read(_MAX_JSON, exchange.heard)
    provider = provider_of(exchange)
    try:
        response = provider.parse_response(_said_by(provider, exchange, answer))
    except MalformedAnswer as fault:
        raise not_understood(exchange, answer, str(fault)) from None
    await _understood(exchange, upstream, answer, response)


async def _understood(exchange: "Exchange", upstream: "OutboundResponse", answer: bytes, response: Response) -> None:
    translation, request, codec = translation_of(exchange), exchange.request, exchange.surface.codec
    exchange.response, exchange.response_model = response, response.model
    exchange.usage, exchange.raw_usage = response.usage, response.raw_usage or exchange.raw_usage
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
            headers = stream_headers(exchange)
        elif translation is not None:
            whole = encode(codec.render_response(response, translation.request, translation.answering))
            headers["content-type"] = "application/json"
        else:
            whole, headers = answer, headers_of(exchange, upstream.headers)
    except MalformedAnswer as fault:
        raise not_understood(exchange, answer, str(fault)) from None
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
            raise not_understood(exchange, answer) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        # Half of a surrogate pair is JSON to everybody but the strict decoder.
        decoded = _decode(answer)
        if decoded.choices is None and decoded.error is None and decoded.usage is openai_stream.NO_USAGE:
            raise not_understood(exchange, answer) from None
    exchange.answer = answer
    exchange.response_model = decoded.model
    _learn_usage(exchange, decoded.usage)
    if decoded.choices:
        exchange.finish_reason = decoded.choices[-1].finish_reason
    said = chat.read_error({"error": decoded.error}) if decoded.error is not None else None
    if said is None:
        if exchange.operation in ("chat", "text_completion") and decoded.choices is None:
            raise not_understood(exchange, answer, "an answer without choices")
        exchange.outcome = "complete"
    elif exchange.operation != "other":
        raise embedded(exchange, answer, said)
    else:
        came_back(exchange, answer, said.words)
        exchange.answer = answer = concealed(exchange, answer)
        exchange.outcome = "failed"
        exchange.error = under_success(502)
    headers = headers_of(exchange, upstream.headers)
    request = exchange.request
    if request is not None and request.stream and exchange.operation in ("chat", "text_completion"):
        exchange.sink.head(200, stream_headers(exchange))
        try:
            whole = openai_stream.as_stream(json.loads(answer.decode("utf-8", "replace")), include_usage=request.wants_usage)
        except (ValueError, RecursionError):
            raise not_understood(exchange, answer) from None
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
    model, usage, choices = decoded.get("model"), decoded.get("usage"), decoded.get("choices")
    return _Answer(
        model=model if isinstance(model, str) else None,
        usage=msgspec.Raw(encode(usage)) if isinstance(usage, dict) else openai_stream.NO_USAGE,
        error=decoded.get("error"),
        choices=[_Choice(text_or_none(choice.get("finish_reason"))) for choice in objects(decoded, "choices")]
        if isinstance(choices, list)
        else None,
    )
