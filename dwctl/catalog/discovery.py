"""Asking a provider which models it has: ``GET {url}/models``.

Sources: the OpenAI API reference ("List models"), which most servers follow; OpenRouter's, which leaves fields out; and
Anthropic's ("List Models", own authentication headers, pages of at most 1000). Only ``id`` is relied upon. What goes
wrong is told in our own words: neither the credential nor the provider's text is ever part of a message.
"""

import asyncio
from typing import Any

import msgspec
from yarl import URL

from dwctl import ids
from dwctl.outbound import Outbound, OutboundError, check_url
from dwctl.sealing import Secret

DEADLINE = 30.0
"""Seconds for the whole exchange."""
MAX_BYTES = 8 * 1024 * 1024
MAX_MODELS = 10_000
MAX_NAME = 255
ANTHROPIC_HOST = "api.anthropic.com"
ANTHROPIC_VERSION = "2023-06-01"
_KINDS = {
    "connect": "unreachable",
    "connect_timeout": "timeout",
    "denied": "denied",
    "too_large": "bad_answer",
    "protocol": "bad_answer",
}


class ProviderModel(msgspec.Struct, frozen=True):
    """One entry of a provider's list, in OpenAI's shape."""

    id: str
    created: int = 0
    owned_by: str = ""
    object: str = "model"


class Credentials(msgspec.Struct, frozen=True):
    """How a provider is to be authenticated with: ``{header_name}: {prefix}{secret}``, or not at all."""

    secret: Secret | None = None
    header_name: str = "Authorization"
    prefix: str = "Bearer "


class DiscoveryError(Exception):
    """The list could not be had. ``kind``: url | denied | unreachable | tls | timeout | status | bad_answer; of ``status`` which one."""

    def __init__(self, kind: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = status


async def discover(
    outbound: Outbound, url: str, credentials: Credentials, *, connect_timeout: float = 10.0, deadline: float = DEADLINE
) -> list[ProviderModel]:
    """The models that the provider at base ``url`` lists, in its order, each name once. Raises DiscoveryError.

    Times in seconds. A connection pool of its own is used and closed again.
    """
    try:
        check_url(url)
    except ValueError as error:
        raise DiscoveryError("url", str(error)) from error
    base = URL(url)
    target, headers = _request(base, credentials)
    pool = f"discovery-{ids.new_text()}"
    try:
        async with asyncio.timeout(deadline):
            response = await outbound.send(pool=pool, method="GET", url=target, headers=headers, body=None, connect_timeout=connect_timeout)
            try:
                if response.status != 200:
                    raise DiscoveryError("status", _status_message(response.status), response.status)
                body = await response.read(MAX_BYTES)
            finally:
                response.close()
    except TimeoutError as error:
        raise DiscoveryError("timeout", f"The provider did not answer GET {target.path} within {deadline:g} seconds") from error
    except OutboundError as error:
        kind = "tls" if error.kind == "connect" and error.message.startswith("TLS") else _KINDS.get(error.kind, "unreachable")
        raise DiscoveryError(kind, _sentence(error.message)) from error
    finally:
        await outbound.drop(pool)
    return parse_models(body, owned_by="anthropic" if base.host == ANTHROPIC_HOST else "")


def parse_models(body: bytes, *, owned_by: str = "") -> list[ProviderModel]:
    """The entries of a model list in OpenAI's shape (``{"data": [{"id": ...}]}``). Raises DiscoveryError.

    Entries without a usable id are left out; ``owned_by`` is used where the provider does not say.
    """
    try:
        document: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DiscoveryError("bad_answer", "The provider's model list is not JSON: is the URL that of its API?") from error
    entries = document.get("data") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise DiscoveryError("bad_answer", 'The provider\'s model list has no "data" array: is the URL that of its API?')
    models: dict[str, ProviderModel] = {}
    for entry in entries[:MAX_MODELS]:
        name = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not _usable(name) or name in models:
            continue
        created = entry.get("created")
        owner = entry.get("owned_by")
        models[name] = ProviderModel(
            id=name,
            created=created if type(created) is int else 0,
            owned_by=owner if isinstance(owner, str) else owned_by,
        )
    return list(models.values())


def _usable(name: str) -> bool:
    return name.strip() == name and 0 < len(name) <= MAX_NAME and name.isprintable()


def _request(base: URL, credentials: Credentials) -> tuple[URL, dict[str, str]]:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    secret = credentials.secret.reveal() if credentials.secret is not None else None
    path = base.raw_path.rstrip("/")
    if base.host == ANTHROPIC_HOST:
        headers["anthropic-version"] = ANTHROPIC_VERSION
        if secret is not None:
            headers["x-api-key"] = secret
        path = path or "/v1"
        return base.origin().with_path(f"{path}/models", encoded=True).with_query(limit="1000"), headers
    if secret is not None:
        headers[credentials.header_name] = f"{credentials.prefix}{secret}"
    return base.origin().with_path(f"{path}/models", encoded=True), headers


def _status_message(status: int) -> str:
    if status in (401, 403):
        return f"The provider refused the credential (HTTP {status})"
    if status == 404:
        return "The provider has no model list at this URL (HTTP 404): the base URL usually ends in /v1"
    if 300 <= status < 400:
        return f"The provider redirects (HTTP {status}): give the URL that it redirects to"
    if status == 429:
        return "The provider is limiting requests (HTTP 429): try again in a while"
    return f"The provider answered with HTTP {status}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
