"""First stage: who calls, and with what. The key is checked from the headers before any byte of the body is read, and again when all of
it is there: a client may take a minute to send it.
"""

from typing import TYPE_CHECKING, get_args

from dwctl.catalog import Purpose
from dwctl.clock import monotonic, now_us
from dwctl.dialects import multipart, openai_errors, raw_request
from dwctl.errors import GatewayError, bad_request, forbidden, unauthenticated
from dwctl.gateway import tags
from dwctl.gateway.aside import aside
from dwctl.gateway.deadlines import NO_LIMIT, overstayed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dwctl.accounts.principals import Keyring, Principal
    from dwctl.gateway.exchange import Exchange

INFERENCE = frozenset(get_args(Purpose))
"""Purposes of keys that call models."""


def bearer(headers: "Mapping[str, str]") -> str | None:
    """The secret that a request carries: ``Authorization: Bearer`` (any case of the scheme) or ``x-api-key``."""
    authorization = headers.get("authorization")
    if authorization is not None and authorization[:7].lower() == "bearer ":
        return authorization[7:].strip() or None
    return headers.get("x-api-key") or None


def authenticate(keyring: "Keyring", secret: str | None) -> "Principal":
    """The principal of an inference key. Raises GatewayError 401 or 403; an unknown caller learns nothing else."""
    if secret is None:
        raise unauthenticated()
    principal = keyring.find(secret)
    if principal is None:
        raise forbidden("Forbidden: this API key is not known here. Create one on the API keys page, or ask your administrator.")
    return principal


def check_key(principal: "Principal", now_us: int) -> None:
    """Refuse a known key that must not be used for inference now. Raises GatewayError 403."""
    if principal.expires_us is not None and now_us >= principal.expires_us:
        raise forbidden("This API key has expired. Create a new one, or ask your administrator.", code="api_key_expired")
    if principal.purpose not in INFERENCE:
        raise forbidden(f"API keys with purpose '{principal.purpose}' cannot be used for inference requests.", code="wrong_key_purpose")


async def receive(exchange: "Exchange") -> None:
    """Check the key and the tags, read the body and find the model. Raises GatewayError."""
    if exchange.gateway.closed:
        raise overstayed("shutdown")
    headers = exchange.headers
    principal = exchange.principal
    secret = None
    if principal is None:
        secret = bearer(headers)
        if secret is not None:
            exchange.access_source = "unknown_api_key"
        principal = exchange.principal = authenticate(exchange.gateway.keyring, secret)
        exchange.access_source = "api_key"
        if principal.purpose == "playground":
            exchange.origin = "frontend"
    else:
        exchange.access_source = "session"
        exchange.origin = "frontend"
    check_key(principal, exchange.started_us)
    if tags.HEADER in headers:
        exchange.tags = tags.parse(headers.getall(tags.HEADER))
    content_type = headers.get("content-type", "")
    is_form = False
    if content_type != "application/json":
        is_form = _check_content_type(exchange, content_type)
    exchange.body = await exchange.read_body(exchange.gateway.config.limits.requests.max_body_size)
    exchange.phase_limit = NO_LIMIT  # from here on it is not the client who takes long
    override = headers.get("model-override")
    if override is not None and not (override.isascii() or _is_text(override)):
        raise bad_request("The Model-Override header is not valid text.", param="model")
    try:
        if is_form:
            exchange.form = await aside(exchange, multipart.parse, exchange.body, content_type)
            named = exchange.form.text("model")
            exchange.alias = override or named
            if not exchange.alias:
                raise openai_errors.no_model()
        else:
            exchange.request = await aside(exchange, raw_request.parse, exchange.body, override, exchange.surface.dialect)
            exchange.alias = exchange.request.model
    except GatewayError:
        _check_content_encoding(headers)
        raise
    if secret is not None:
        _check_again(exchange, principal, secret)
    exchange.received_at = monotonic()


def _check_again(exchange: "Exchange", principal: "Principal", secret: str) -> None:
    """Refuse a key that ended while its request came, and go on as what it stands for by now. Raises GatewayError 403."""
    keyring = exchange.gateway.keyring
    assert principal.key_id is not None
    if keyring.principal_of_key(principal.key_id) is not principal:
        principal = exchange.principal = authenticate(keyring, secret)
    elif principal.expires_us is None:
        return
    check_key(principal, now_us())


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_content_type(exchange: "Exchange", content_type: str) -> bool:
    """Whether the body is a multipart form. Raises GatewayError 415 for what is neither that nor JSON."""
    if exchange.surface.dialect == "ollama":
        return False  # Ollama takes every body for JSON, and its documentation's curl lines name no type
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "multipart/form-data" and exchange.operation == "other":
        return True
    if media_type and media_type != "application/json" and not media_type.endswith("+json"):
        wanted = "application/json" if exchange.operation != "other" else "application/json or multipart/form-data"
        raise GatewayError(
            415, "invalid_request_error", "unsupported_media_type", f"Send the request with Content-Type: {wanted}.", param="content-type"
        )
    return False


def _check_content_encoding(headers: "Mapping[str, str]") -> None:
    """Say of a body that cannot be read that it is compressed, if it is. Raises GatewayError 415."""
    if headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise GatewayError(
            415,
            "invalid_request_error",
            "unsupported_media_type",
            "Send the request without Content-Encoding: bodies are not decompressed here.",
            param="content-encoding",
            headers={"accept-encoding": "identity"},
        )
