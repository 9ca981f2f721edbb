"""A provider's answer, whatever its shape: who says it, what of it may be shown, what is learned of it, and what a client is told when it
cannot be used.
"""

from typing import TYPE_CHECKING

import msgspec

from dwctl.dialects import chat, openai_errors
from dwctl.dialects.answers import Counted
from dwctl.dialects.codec import Codec, ProviderError
from dwctl.errors import GatewayError
from dwctl.gateway.translate import Translation
from dwctl.telemetry.redaction import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dwctl.gateway.exchange import Exchange

EVENTS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no"}
"""Headers of a stream of events."""
_SHOWN = ("content-type", "cache-control", "content-disposition")
"""Response headers of a provider that a client may see."""
_OVERLOADED = 529
_TRY_AGAIN = (429, 503, _OVERLOADED)
_KEPT = 300
"""Characters of what a provider said that are kept for the record."""


def is_plain(exchange: "Exchange") -> bool:
    """Whether the answer is passed on as OpenAI's is, looked at by as little as is needed: chat to chat, and all that is not text."""
    return exchange.translation is None and (exchange.surface.codec is chat or exchange.operation not in ("chat", "embeddings"))


def provider_of(exchange: "Exchange") -> Codec:
    return exchange.translation.provider if exchange.translation is not None else exchange.surface.codec


def translation_of(exchange: "Exchange") -> Translation | None:
    return exchange.translation if isinstance(exchange.translation, Translation) else None


def headers_of(exchange: "Exchange", upstream_headers: "Mapping[str, str]") -> dict[str, str]:
    headers = exchange.own_headers()
    for name in _SHOWN:
        if (value := upstream_headers.get(name)) is not None:
            headers[name] = value
    return headers


def learn(exchange: "Exchange", counted: Counted | None) -> None:
    """Remember the usage that an answer reports. First of all, so that it counts also where the rest cannot be used."""
    if counted is not None:
        exchange.usage, exchange.raw_usage = counted.usage, counted.raw


def not_understood(exchange: "Exchange", answer: bytes, wrong: str | None = None) -> GatewayError:
    """What a client is told of an answer that is not of its provider's dialect; the record says what came back."""
    if wrong is not None:
        exchange.explanation.append(f"the provider's answer cannot be used: {wrong}")
    came_back(exchange, concealed(exchange, answer))
    return GatewayError(
        502, "internal_error", "upstream_malformed", "The model's provider sent an answer that cannot be understood. Please try again."
    )


def embedded(exchange: "Exchange", answer: bytes, said: ProviderError) -> GatewayError:
    """What a client is told of an error that came with a status of success: 502, or that it may try again; nothing of our account."""
    exchange.answer = concealed(exchange, answer)
    came_back(exchange, exchange.answer)
    if openai_errors.is_of_our_account(said.status):
        return openai_errors.of_status(said.status)
    message = concealed(exchange, said.message.encode("utf-8", "replace")).decode("utf-8", "replace")
    status = said.status if said.status in _TRY_AGAIN else 502
    return _for_client(exchange, GatewayError(status, "api_error", said.code or "upstream_error", message))


def concealed(exchange: "Exchange", error: bytes) -> bytes:
    """A provider's error without the credential that it was sent, which some repeat in their complaint about it."""
    assert exchange.candidate is not None
    credential = exchange.candidate.endpoint.credential
    secret = credential.reveal().encode() if credential is not None else b""
    return error.replace(secret, HIDDEN.encode()) if secret else error


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
    return _for_client(exchange, error)


def _for_client(exchange: "Exchange", error: GatewayError) -> GatewayError:
    """The error with a status that the client's dialect knows: 529 (overloaded) is Anthropic's alone."""
    if error.status == _OVERLOADED and exchange.surface.dialect != "anthropic":
        error.status = 503
    return error


def came_back(exchange: "Exchange", answer: bytes) -> None:
    """Keep the beginning of an answer that was not what it should be, for whoever looks at the record."""
    text = answer[: 4 * _KEPT].decode("utf-8", "replace")
    exchange.explanation.append(f"the provider answered: {text[:_KEPT]}" if text.strip() else "the provider answered with nothing")
