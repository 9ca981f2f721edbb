"""Between a client and a provider that speak different dialects: the request on its way out, and what is answered in its place.

The client's body is read once into the canonical form; each provider gets it in its own words. What could not be said is noted in
the exchange's explanation, or refused with an error that names the client's field.
"""

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from dwctl import tokens
from dwctl.clock import MICROSECONDS
from dwctl.dialects import anthropic, embeddings, fields, openai_errors, raw_request, surfaces
from dwctl.dialects.answers import Answering
from dwctl.dialects.canonical import Request
from dwctl.dialects.codec import Codec
from dwctl.dialects.embeddings import EmbedCodec, EmbedRequest
from dwctl.errors import GatewayError, bad_request
from dwctl.gateway.aside import aside

if TYPE_CHECKING:
    from dwctl.gateway.exchange import Exchange
    from dwctl.routing import Candidate

_BYTES_PER_TOKEN = 4
_OVERLOADED = 529
_SHOWN = 300
"""Characters of what a provider said that are kept for the record."""


class EmbedTranslation(NamedTuple):
    """How one provider's embeddings become the client's. ``provider`` reads its errors."""

    client: EmbedCodec
    embedder: EmbedCodec
    provider: Codec
    request: EmbedRequest


class Translation(NamedTuple):
    """How one provider's answer becomes the client's."""

    client: Codec
    provider: Codec
    request: Request
    answering: Answering


def translated(exchange: "Exchange", candidate: "Candidate") -> tuple[str, bytes]:
    """Path and body for a provider of another dialect; sets ``exchange.translation``.

    Raises GatewayError 400 for what the provider cannot be told.
    """
    surface, dialect = exchange.surface, candidate.endpoint.dialect
    if surface.exact and exchange.request is not None:
        if surface.operation == "chat":
            return _text(exchange, candidate)
        if surface.embeds is not None and dialect in surfaces.EMBEDDERS:
            return _embedding(exchange, candidate, surface.embeds)
    raise bad_request(
        f"{exchange.path} cannot be used with the model '{exchange.alias}': its provider has nothing like it.", code="unsupported_path"
    )


def _text(exchange: "Exchange", candidate: "Candidate") -> tuple[str, bytes]:
    assert exchange.principal is not None
    assert exchange.model is not None
    surface, provider = exchange.surface, surfaces.PROVIDERS[candidate.endpoint.dialect]
    if exchange.canonical is None:
        exchange.canonical = surface.codec.parse_request(_decoded(exchange))
    request, notes = fields.settle(exchange.canonical, surface.dialect, provider.DIALECT)
    if exchange.strict_max_tokens is not None and request.max_output is None:
        request = msgspec.structs.replace(request, max_output=exchange.strict_max_tokens)
    if exchange.principal.always_stream_usage or exchange.model.always_stream_usage:
        request = msgspec.structs.replace(request, include_usage=True)
    body = msgspec.json.encode(provider.render_request(request, candidate.model_name))
    exchange.translation = Translation(surface.codec, provider, request, answering(exchange))
    _explain(exchange, provider, notes)
    return provider.PATH, body


def _embedding(exchange: "Exchange", candidate: "Candidate", client: EmbedCodec) -> tuple[str, bytes]:
    dialect = candidate.endpoint.dialect
    embedder, provider = surfaces.EMBEDDERS[dialect], surfaces.PROVIDERS[dialect]
    request = client.parse_request(_decoded(exchange))
    notes = embeddings.settle(request, embedder)
    body = msgspec.json.encode(embedder.render_request(request, candidate.model_name))
    exchange.translation = EmbedTranslation(client, embedder, provider, request)
    _explain(exchange, provider, notes)
    return embedder.PATH, body


def _explain(exchange: "Exchange", provider: Codec, notes: list[str]) -> None:
    exchange.explanation.append(f"translated from {exchange.surface.dialect} to {provider.DIALECT}")
    exchange.explanation.extend(notes)


def answering(exchange: "Exchange") -> Answering:
    """What the exchange's answer is called, where the provider's names for it are not passed on."""
    estimate = len(exchange.body) // _BYTES_PER_TOKEN
    return Answering(exchange.id.replace("-", ""), exchange.alias or "", exchange.started_us // MICROSECONDS, estimate)


def _decoded(exchange: "Exchange") -> dict[str, Any]:
    try:
        body = msgspec.json.decode(exchange.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            body = json.loads(exchange.body.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise openai_errors.not_json() from None
    except RecursionError:
        raise openai_errors.not_json() from None
    assert isinstance(body, dict)  # `receive` has read it as one
    body["model"] = exchange.alias
    return body


async def count_tokens(exchange: "Exchange") -> None:
    """Answer how many input tokens a request has, for a provider that cannot be asked. Raises GatewayError."""
    assert exchange.model is not None
    assert exchange.request is not None
    await aside(exchange, lambda: anthropic.parse_count_request(_decoded(exchange)))
    text, media = await aside(exchange, raw_request.input_text, exchange.request)
    counted = await tokens.count_in_thread(text, exchange.model.tokenizer)
    exchange.status, exchange.outcome = 200, "complete"
    exchange.explanation.append("counted here, since the model's provider does not count tokens")
    exchange.sink.head(200, {"content-type": "application/json", **exchange.own_headers()})
    total = counted + media * raw_request.TOKENS_PER_MEDIA_PART
    await exchange.complete(msgspec.json.encode(anthropic.render_count(total)))


def provider_error(exchange: "Exchange", status: int, content_type: str, answer: bytes, retry_after: str | None) -> GatewayError:
    """What the client is told of an error that a provider answered in its own dialect."""
    assert exchange.translation is not None
    came_back(exchange, answer)
    shown = openai_errors.shown_to_client(status, content_type, answer, retry_after)
    if isinstance(shown, GatewayError):
        return shown
    try:
        decoded = msgspec.json.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = None
    said = exchange.translation.provider.read_error(decoded) if isinstance(decoded, dict) else None
    if said is None:
        return openai_errors.shown_to_client(status, "", b"", retry_after)  # type: ignore[return-value]  # no body, no bytes
    retry = float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 8 else None
    kind = "invalid_request_error" if status < 500 and status != 429 else "rate_limit_error" if status == 429 else "api_error"
    error = GatewayError(status, said.type or kind, said.code or "upstream_error", said.message, param=said.param, retry_after=retry)
    return for_client(exchange, error)


def for_client(exchange: "Exchange", error: GatewayError) -> GatewayError:
    """The error with a status that the client's dialect knows: 529 (overloaded) is Anthropic's alone."""
    if error.status == _OVERLOADED and exchange.surface.dialect != "anthropic":
        error.status = 503
    return error


def came_back(exchange: "Exchange", answer: bytes) -> None:
    """Keep the beginning of an answer that was not what it should be, for whoever looks at the record."""
    text = answer[: 4 * _SHOWN].decode("utf-8", "replace")
    exchange.explanation.append(f"the provider answered: {text[:_SHOWN]}" if text.strip() else "the provider answered with nothing")
