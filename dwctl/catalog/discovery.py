"""Asking a provider which models it has, in its own dialect.

Sources: the OpenAI API reference ("List models"), which most servers follow; OpenRouter's, which leaves fields out; Anthropic's
("List Models", pages of at most 1000); Ollama's ("List models", and "Show model details" for what a model is able to do). Only names are
relied upon. What goes wrong is told in our own words: neither the credential nor the provider's text is ever part of a message.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType
from yarl import URL

from dwctl import ids
from dwctl.catalog.model_types import guess_model_type
from dwctl.dialects import conventions
from dwctl.dialects.names import DEFAULT, DialectName
from dwctl.outbound import Outbound, OutboundError, check_url, join
from dwctl.sealing import Secret

DEADLINE = 30.0
"""Seconds for a whole list."""
DESCRIBING_DEADLINE = 5.0
"""Seconds for asking about models one by one."""
DESCRIBED_AT_ONCE = 8
MAX_BYTES = 8 * 1024 * 1024
MAX_MODELS = 10_000
MAX_NAME = 255
_PAGE = 1000
_KINDS = {
    "connect": "unreachable",
    "connect_timeout": "timeout",
    "denied": "denied",
    "too_large": "bad_answer",
    "protocol": "bad_answer",
}
_OPENAI_BASE = "the base URL usually ends in /v1"
_BASES: Mapping[DialectName, str] = {
    "openai-chat": _OPENAI_BASE,
    "openai-responses": _OPENAI_BASE,
    "anthropic": "the base URL is what comes before /v1/messages",
    "ollama": "the base URL is what comes before /api/chat, usually http://HOST:11434",
}
_SPEAKERS: Mapping[DialectName, str] = {"anthropic": "Anthropic's API", "ollama": "Ollama's API"}
_CAPABILITIES = {"vision": "vision", "tools": "tools", "thinking": "reasoning"}
"""Ollama's words, and those that models have here."""


class ProviderModel(msgspec.Struct, frozen=True):
    """One entry of a provider's list, in OpenAI's shape. What the provider does not say is left out."""

    id: str
    created: int = 0
    owned_by: str = ""
    object: str = "model"
    model_type: Literal["CHAT", "EMBEDDINGS"] | UnsetType = UNSET
    capabilities: list[str] | UnsetType = UNSET

    @property
    def likely_type(self) -> str:
        """One of ``MODEL_TYPES``: what the provider says, or else the name suggests."""
        return self.model_type or guess_model_type(self.id)


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


class _Provider:
    """A provider while it is asked, over connections of its own."""

    def __init__(self, outbound: Outbound, base: URL, credentials: Credentials, dialect: DialectName, connect_timeout: float) -> None:
        self.dialect = dialect
        self.asked = ""
        self._base = base
        self._pool = f"discovery-{ids.new_text()}"
        self._outbound = outbound
        self._connect_timeout = connect_timeout
        self._headers = {"Accept": "application/json", "Accept-Encoding": "identity", **conventions.headers_of(dialect)}
        if credentials.secret is not None:
            self._headers[credentials.header_name] = credentials.prefix + credentials.secret.reveal()

    async def ask(self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: bytes | None = None) -> bytes:
        """The body of a 200. Raises DiscoveryError."""
        url = join(self._base, path)
        self.asked = f"{method} {url.path}"
        try:
            response = await self._outbound.send(
                pool=self._pool,
                method=method,
                url=url.with_query(query) if query else url,
                headers=self._headers if body is None else {**self._headers, "Content-Type": "application/json"},
                body=body,
                connect_timeout=self._connect_timeout,
            )
            try:
                if response.status != 200:
                    raise DiscoveryError("status", self._status_message(response.status), response.status)
                return await response.read(MAX_BYTES)
            finally:
                response.close()
        except OutboundError as error:
            kind = "tls" if error.kind == "connect" and error.message.startswith("TLS") else _KINDS.get(error.kind, "unreachable")
            raise DiscoveryError(kind, _sentence(error.message)) from error

    async def close(self) -> None:
        await self._outbound.drop(self._pool)

    def _status_message(self, status: int) -> str:
        if status in (401, 403):
            return f"The provider refused the credential (HTTP {status}){self._likely()}"
        if status == 404:
            return f"The provider has no model list at this URL (HTTP 404): {_BASES[self.dialect]}{self._likely()}"
        if 300 <= status < 400:
            return f"The provider redirects (HTTP {status}): give the URL that it redirects to"
        if status == 429:
            return f"The provider is limiting requests (HTTP {status}): try again in a while"
        return f"The provider answered with HTTP {status}"

    def _likely(self) -> str:
        """What else might be wrong, where the address is known for another dialect."""
        likely = conventions.guess_dialect(str(self._base))
        return "" if likely in (None, self.dialect) else f". This address usually speaks {_SPEAKERS[likely]}"


@contextlib.asynccontextmanager
async def _reach(
    outbound: Outbound, url: str, credentials: Credentials, dialect: DialectName, connect_timeout: float
) -> AsyncIterator[_Provider]:
    try:
        check_url(url)
    except ValueError as error:
        raise DiscoveryError("url", str(error)) from error
    provider = _Provider(outbound, conventions.base_of(url, dialect), credentials, dialect, connect_timeout)
    try:
        yield provider
    finally:
        await provider.close()


async def discover(
    outbound: Outbound,
    url: str,
    credentials: Credentials,
    dialect: DialectName = DEFAULT,
    *,
    connect_timeout: float = 10.0,
    deadline: float = DEADLINE,
) -> list[ProviderModel]:
    """The models that the provider at base ``url`` lists, in its order, each name once. Raises DiscoveryError. Times in seconds."""
    async with _reach(outbound, url, credentials, dialect, connect_timeout) as provider:
        try:
            async with asyncio.timeout(deadline):
                match dialect:
                    case "anthropic":
                        return await _anthropic_list(provider)
                    case "ollama":
                        return parse_models(await provider.ask("GET", "/api/tags"), dialect)
                    case _:
                        return parse_models(await provider.ask("GET", "/models"), dialect)
        except TimeoutError as error:
            raise DiscoveryError("timeout", f"The provider did not answer {provider.asked} within {deadline:g} seconds") from error


async def describe(
    outbound: Outbound,
    url: str,
    credentials: Credentials,
    dialect: DialectName,
    models: Iterable[ProviderModel],
    *,
    connect_timeout: float = 10.0,
    deadline: float = DESCRIBING_DEADLINE,
) -> list[ProviderModel]:
    """The models with their types and capabilities, where the dialect has them asked for one by one.

    A model that the provider says nothing about, or not within ``deadline`` seconds, stays as it is.
    """
    listed = list(models)
    if dialect != "ollama" or not listed:
        return listed
    waiting = iter(list(enumerate(listed)))

    async def work(provider: _Provider) -> None:
        for index, model in waiting:
            with contextlib.suppress(DiscoveryError):
                answer = await provider.ask("POST", "/api/show", body=msgspec.json.encode({"model": model.id}))
                listed[index] = parse_details(model, answer)

    with contextlib.suppress(DiscoveryError, TimeoutError):
        async with _reach(outbound, url, credentials, dialect, connect_timeout) as provider:
            async with asyncio.timeout(deadline), asyncio.TaskGroup() as group:
                for _ in range(min(DESCRIBED_AT_ONCE, len(listed))):
                    group.create_task(work(provider))
    return listed


async def _anthropic_list(provider: _Provider) -> list[ProviderModel]:
    found: dict[str, ProviderModel] = {}
    query = {"limit": str(_PAGE)}
    while True:
        body = await provider.ask("GET", "/models", query=query)
        known = len(found)
        found |= {model.id: model for model in parse_models(body, provider.dialect, owned_by="anthropic") if model.id not in found}
        page = msgspec.json.decode(body)
        last = page.get("last_id")
        if not page.get("has_more") or not isinstance(last, str) or len(found) == known or len(found) >= MAX_MODELS:
            return list(found.values())[:MAX_MODELS]
        query["after_id"] = last


def parse_models(body: bytes, dialect: DialectName = DEFAULT, *, owned_by: str = "") -> list[ProviderModel]:
    """The entries of a model list: OpenAI's and Anthropic's ``{"data": [{"id": ...}]}``, Ollama's ``{"models": [{"name": ...}]}``.

    Entries without a usable name are left out; ``owned_by`` is used where the provider does not say. Raises DiscoveryError.
    """
    array, key = ("models", "name") if dialect == "ollama" else ("data", "id")
    if body.lstrip()[:1] == b"<":
        raise DiscoveryError("bad_answer", f"The provider answered with a web page, not JSON: {_BASES[dialect]}")
    try:
        document: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DiscoveryError("bad_answer", f"The provider's model list is not JSON: {_BASES[dialect]}") from error
    entries = document.get(array) if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise DiscoveryError("bad_answer", f'The provider\'s model list has no "{array}" array: {_BASES[dialect]}')
    models: dict[str, ProviderModel] = {}
    for entry in entries[:MAX_MODELS]:
        name = entry.get(key) if isinstance(entry, dict) else None
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


def parse_details(model: ProviderModel, body: bytes) -> ProviderModel:
    """The model with what Ollama's ``/api/show`` says of it; servers before 0.6.4 name no capabilities."""
    try:
        document: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return model
    words = document.get("capabilities") if isinstance(document, dict) else None
    if not isinstance(words, list):
        return model
    return msgspec.structs.replace(
        model,
        model_type="EMBEDDINGS" if "embedding" in words else "CHAT" if "completion" in words else UNSET,
        capabilities=[ours for theirs, ours in _CAPABILITIES.items() if theirs in words],
    )


def _usable(name: str) -> bool:
    return name.strip() == name and 0 < len(name) <= MAX_NAME and name.isprintable()


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
