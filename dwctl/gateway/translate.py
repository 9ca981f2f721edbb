"""Between a client and a provider that speak different dialects: the request on its way out, and what is answered in its place.

The client's body is read once into the canonical form; each provider gets it in its own words. What could not be said is noted in
the exchange's explanation, or refused with an error that names the client's field.
"""

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from dwctl import tokens
from dwctl.clock import MICROSECONDS
from dwctl.dialects import anthropic, counting, embeddings, fields, ollama, openai_errors, surfaces
from dwctl.dialects.answers import Answering, Choice, Response
from dwctl.dialects.canonical import Request
from dwctl.dialects.codec import Codec
from dwctl.dialects.embeddings import EmbedCodec, EmbedRequest
from dwctl.errors import bad_request
from dwctl.gateway.admit import check_rates, take_rates
from dwctl.gateway.aside import aside

if TYPE_CHECKING:
    from dwctl.gateway.exchange import Exchange
    from dwctl.routing import Candidate

_BYTES_PER_TOKEN = 4


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
    asked = exchange.canonical
    if (limit := _limit(exchange, provider, asked.max_output)) != asked.max_output:
        asked = msgspec.structs.replace(asked, max_output=limit)
    request, notes = fields.settle(asked, surface.dialect, provider.DIALECT)
    if exchange.principal.always_stream_usage or exchange.model.always_stream_usage:
        request = msgspec.structs.replace(request, include_usage=True)
    body = msgspec.json.encode(provider.render_request(request, candidate.model_name))
    exchange.translation = Translation(surface.codec, provider, request, answering(exchange))
    _explain(exchange, provider, notes)
    return provider.PATH, body


def _limit(exchange: "Exchange", provider: Codec, said: int | None) -> int | None:
    """The bound on the output that is sent: the client's, but no more than strict holds hold; the model's own where there must be one."""
    assert exchange.model is not None
    if (strict := exchange.strict_max_tokens) is not None:
        return strict if said is None else min(said, strict)
    return exchange.model.max_output_tokens if said is None and provider.DIALECT == anthropic.DIALECT else said


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
    return Answering(exchange.id, exchange.alias or "", exchange.started_us // MICROSECONDS, estimate)


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


async def answered_here(exchange: "Exchange") -> bool:
    """Answer what needs no model, for a provider of another dialect; whether it was that. Raises GatewayError 400, 429."""
    surface, done = exchange.surface, None
    if exchange.operation == "count_tokens":
        answer = anthropic.render_count(await _counted(exchange))
        why = "counted here, since the model's provider does not count tokens"
    elif surface.dialect == "ollama" and surface.operation == "chat" and surface.exact:
        exchange.canonical = request = await aside(exchange, lambda: surface.codec.parse_request(_decoded(exchange)))
        if (done := ollama.loads(request)) is None:
            return False
        answer = surface.codec.render_response(Response(None, None, [Choice([], done)]), request, answering(exchange))
        why = "answered here, since it is for the model's provider to say what is loaded"
    else:
        return False
    check_rates(exchange)
    take_rates(exchange)
    exchange.status, exchange.outcome, exchange.finish_reason = 200, "complete", done
    exchange.explanation.append(why)
    exchange.sink.head(200, {"content-type": "application/json", **exchange.own_headers()})
    await exchange.complete(msgspec.json.encode(answer))
    return True


async def _counted(exchange: "Exchange") -> int:
    """How many input tokens a request has, which is one that the provider could be sent."""
    assert exchange.model is not None

    def read() -> tuple[str, int]:
        asked = anthropic.parse_count_request(_decoded(exchange))
        request, _ = fields.settle(asked, "anthropic", exchange.candidates[0].endpoint.dialect)
        return counting.text_and_media(request)

    text, media = await aside(exchange, read)
    return media + await tokens.count_in_thread(text, exchange.model.tokenizer)
