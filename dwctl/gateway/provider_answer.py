"""A provider's answer, whatever its shape: who says it, what of it may be shown, what is learned of it, and what a client is told when it
cannot be used.
"""

from typing import TYPE_CHECKING

from dwctl.dialects import chat, openai_errors
from dwctl.dialects.answers import Counted, Failed
from dwctl.dialects.codec import Codec, ProviderError
from dwctl.errors import GatewayError
from dwctl.gateway.translate import Translation
from dwctl.ledger.cleaning import MAX_SENTENCE
from dwctl.telemetry.redaction import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dwctl.gateway.exchange import Exchange

_SHOWN = ("content-type", "content-disposition")
"""Response headers of a provider that a client may see."""
_OVERLOADED = 529
_TRY_AGAIN = (429, 503, _OVERLOADED)


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


def stream_headers(exchange: "Exchange") -> dict[str, str]:
    stream_type = exchange.surface.codec.STREAM_TYPE
    return {**exchange.own_headers(), "content-type": stream_type, "x-accel-buffering": "no"}


def learn(exchange: "Exchange", counted: Counted | None) -> None:
    """Remember the usage that an answer reports. First of all, so that it counts also where the rest cannot be used."""
    if counted is not None:
        exchange.usage, exchange.raw_usage = counted.usage, counted.raw


def not_understood(exchange: "Exchange", answer: bytes, wrong: str | None = None) -> GatewayError:
    """What a client is told of an answer that is not of its provider's dialect; the record says what came back."""
    if wrong is not None:
        exchange.explanation.append(f"the provider's answer cannot be used: {wrong}")
    came_back(exchange, answer)
    return GatewayError(
        502, "internal_error", "upstream_malformed", "The model's provider sent an answer that cannot be understood. Please try again."
    )


def embedded(exchange: "Exchange", answer: bytes, said: ProviderError) -> GatewayError:
    """What a client is told of an error that came with a status of success; nothing of our account."""
    if openai_errors.is_of_our_account(said.status):
        error = openai_errors.of_status(said.status)
    else:
        error = said.told_by(under_success(said.status or 502))
    return failed(exchange, answer, Failed(error, said.words))


def failed(exchange: "Exchange", answer: bytes, failure: Failed) -> GatewayError:
    """The same of an error that is read already: 502, or that the client may try again."""
    exchange.answer = concealed(exchange, answer)
    came_back(exchange, answer, failure.said)
    error = failure.error
    if error.status not in _TRY_AGAIN:
        error.status = 502
    if error.told is not None:
        error.told.type = "api_error"  # the provider's word is for another status
    return _for_client(exchange, error)


def provider_error(
    exchange: "Exchange", status: int, content_type: str, answer: bytes, said: ProviderError | None, retry_after: str | None
) -> GatewayError:
    """What the client is told of an error that a provider answered in its own dialect, which was read as ``said``."""
    shown = openai_errors.shown_to_client(status, content_type, answer, retry_after)
    if isinstance(shown, GatewayError):
        return shown
    if said is None:
        return openai_errors.shown_to_client(status, "", b"", retry_after)  # type: ignore[return-value]  # no body, no bytes
    return _for_client(exchange, said.told_by(with_status(status, openai_errors.seconds(retry_after))))


def with_status(status: int, retry_after: float | None = None) -> GatewayError:
    """What is recorded of a provider's error that its client is told in the provider's words."""
    kind = "invalid_request_error" if status < 500 and status != 429 else "rate_limit_error" if status == 429 else "api_error"
    return GatewayError(status, kind, "upstream_error", f"The provider answered with status {status}.", retry_after=retry_after)


def under_success(status: int) -> GatewayError:
    """The same of an error that has the place of an answer."""
    return GatewayError(status, "api_error", "upstream_error", "The provider's answer is an error, under a status of success.")


def _for_client(exchange: "Exchange", error: GatewayError) -> GatewayError:
    """The error without our credential, and with a status that the client's dialect knows: 529 (overloaded) is Anthropic's alone."""
    if error.status == _OVERLOADED and exchange.surface.dialect != "anthropic":
        error.status = 503
    if (told := error.told) is not None:
        told.status = error.status
        for name in ("type", "code", "message", "param"):
            if word := getattr(told, name):
                setattr(told, name, concealed(exchange, word.encode("utf-8", "replace")).decode("utf-8", "replace"))
    return error


def concealed(exchange: "Exchange", said: bytes) -> bytes:
    """What a provider said, without the credential that it was sent, which some repeat in their complaint about it."""
    assert exchange.candidate is not None
    credential = exchange.candidate.endpoint.credential
    secret = credential.reveal().encode() if credential is not None else b""
    if not secret:
        return said
    hidden = HIDDEN.encode()
    return said.replace(secret, hidden).replace(secret.replace(b"/", b"\\/"), hidden)  # as some write JSON


def came_back(exchange: "Exchange", answer: bytes, complaint: str = "") -> None:
    """Let the record say what the provider complained of, or how an answer begins that was not what it should be.

    Of a request whose texts are not kept it says only how much there was.
    """
    limit = min(exchange.kept_bytes, MAX_SENTENCE)
    if not (complaint or answer.strip()):
        exchange.explanation.append("the provider answered with nothing")
    elif not limit:
        exchange.explanation.append(f"the provider answered with {len(answer)} bytes, which are not kept")
    else:
        text = concealed(exchange, complaint.encode("utf-8", "replace") or answer)[: 4 * limit].decode("utf-8", "replace")[:limit]
        exchange.explanation.append(f"the provider {'complained' if complaint else 'answered'}: {text}")
