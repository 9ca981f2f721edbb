"""The forms about endpoints: how a provider is reached, with presets for the ones that are asked for most, and prices per million."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from dwctl import catalog
from dwctl.dialects import conventions
from dwctl.dialects.names import DEFAULT, DialectName
from dwctl.operations.catalog_views import EndpointView
from dwctl.operations.endpoint_setup import LOCAL_SERVERS
from dwctl.operations.endpoints import EndpointCreate, EndpointUpdate
from dwctl.web.forms import wrong

DIALECTS: Mapping[DialectName, tuple[str, str]] = {
    "openai-chat": ("OpenAI Chat Completions", "most providers and servers"),
    "openai-responses": ("OpenAI Responses", "OpenAI, and servers that have its newer API"),
    "anthropic": ("Anthropic Messages", "Anthropic, and whoever offers Claude as it does"),
    "ollama": ("Ollama", "Ollama's own API, which also says what a model is able to do"),
}
"""What a provider may speak, in words, and who does."""
SPEAKS = [(name, f"{words}: {hint}") for name, (words, hint) in DIALECTS.items()]


class Preset(msgspec.Struct, frozen=True):
    """A provider to begin with. ``header`` and ``prefix`` say how its key is sent where that is not as its dialect has it."""

    key: str
    label: str
    url: str
    dialect: DialectName | None = "openai-chat"
    header: str = ""
    prefix: str = ""


_LOCAL = tuple(
    Preset(key, label, *LOCAL_SERVERS[label])
    for key, label in (("ollama", "Ollama"), ("vllm", "vLLM"), ("llama-cpp", "llama.cpp"), ("lm-studio", "LM Studio"))
)
PRESETS = (
    Preset("openai", "OpenAI", "https://api.openai.com/v1"),
    Preset("anthropic", "Anthropic", "https://api.anthropic.com", "anthropic"),
    Preset("gemini", "Google Gemini", "https://generativelanguage.googleapis.com/v1beta/openai"),
    Preset("mistral", "Mistral", "https://api.mistral.ai/v1"),
    Preset("openrouter", "OpenRouter", "https://openrouter.ai/api/v1"),
    Preset("azure", "Azure OpenAI", "https://YOUR-RESOURCE.openai.azure.com/openai/v1", header="api-key"),
    *_LOCAL,
)
BLANK = Preset("other", "Another", "", None)
BY_KEY = {preset.key: preset for preset in PRESETS}


class ConnectionForm(msgspec.Struct, kw_only=True):
    """How a provider is reached."""

    name: str
    url: str
    dialect: str | None = None
    """None: what the address is known for."""
    api_key: str | None = None
    remove_key: bool = False
    description: str | None = None
    auth_header_name: str | None = None
    """None: as the dialect has it."""
    auth_header_prefix: str | None = None
    forward_headers: str | None = None
    max_concurrency: int | None = None
    connect_timeout: float | None = None
    first_byte_timeout: float | None = None
    idle_timeout: float | None = None
    total_timeout: float | None = None
    revision: int = 0

    @property
    def speaks(self) -> str:
        return self.dialect or conventions.guess_dialect(self.url) or DEFAULT

    @property
    def prefix(self) -> str | None:
        """What goes before the key: a word is followed by a blank, which nobody sees in a field; None: as the dialect has it."""
        word = (self.auth_header_prefix or "").strip()
        return f"{word} " if word else "" if self.auth_header_name else None

    def creation(self) -> EndpointCreate:
        """A new endpoint without models."""
        return EndpointCreate(
            name=self.name,
            url=self.url,
            dialect=self.speaks,
            description=self.description,
            api_key=self.api_key,
            auth_header_name=self.auth_header_name,
            auth_header_prefix=self.prefix,
            sync=False,
            forward_headers=split_words(self.forward_headers),
            max_concurrency=self.max_concurrency,
            connect_timeout=self.connect_timeout,
            first_byte_timeout=self.first_byte_timeout,
            idle_timeout=self.idle_timeout,
            total_timeout=self.total_timeout,
        )

    def change(self, stored: EndpointView) -> EndpointUpdate:
        """The change of a stored endpoint. Which models it has is not touched. Raises FormError."""
        if self.api_key and self.remove_key:
            raise wrong("remove_key", "Either write a new key above, or remove the one that is stored.")
        key = None if self.remove_key else self.api_key or msgspec.UNSET
        dialect: Any = self.speaks
        name, usual = conventions.key_header(dialect)
        prefix = usual if self.prefix is None else self.prefix
        return EndpointUpdate(
            name=self.name,
            url=self.url,
            dialect=dialect,
            description=self.description or "",
            api_key=key,
            auth_header_name=self.auth_header_name or name,
            auth_header_prefix=stored.auth_header_prefix if prefix.strip() == stored.auth_header_prefix.strip() else prefix,
            alias_mapping={},
            forward_headers=split_words(self.forward_headers),
            max_concurrency=self.max_concurrency,
            connect_timeout=self.connect_timeout,
            first_byte_timeout=self.first_byte_timeout,
            idle_timeout=self.idle_timeout,
            total_timeout=self.total_timeout,
        )


def chosen_header(stored: EndpointView) -> tuple[str, str]:
    """The header and the word that somebody has chosen for the key; empty where they are as the dialect has them."""
    if (stored.auth_header_name, stored.auth_header_prefix) == conventions.key_header(stored.dialect):
        return "", ""
    return stored.auth_header_name, stored.auth_header_prefix.strip()


class PriceFields(msgspec.Struct, kw_only=True):
    """Prices as people write them: credits per million tokens, and per request."""

    input_price: str | None = None
    output_price: str | None = None
    cache_read_price: str | None = None
    cache_write_5m_price: str | None = None
    cache_write_1h_price: str | None = None
    request_price: str | None = None

    def terms(self, purpose: str) -> catalog.TariffTerms:
        """The exact price. Raises GatewayError 400 that names the field."""

        def million(name: str) -> int | None:
            text = getattr(self, name)
            return catalog.price_per_million(text.strip(), name) if text else None

        return catalog.TariffTerms(
            name=purpose,
            input_pico=million("input_price") or 0,
            output_pico=million("output_price") or 0,
            cache_read_pico=million("cache_read_price"),
            cache_write_5m_pico=million("cache_write_5m_price"),
            cache_write_1h_pico=million("cache_write_1h_price"),
            per_request_pico=catalog.price_per_unit(self.request_price.strip(), "request_price") if self.request_price else 0,
            api_key_purpose=purpose,
        )


def split_words(text: str | None) -> list[str]:
    """Words between commas and line ends."""
    return [word for part in (text or "").replace(",", "\n").splitlines() if (word := part.strip())]


def per_million(pico: int | None) -> str:
    """A stored price as ``PriceFields`` takes it."""
    if pico is None:
        return ""
    return format(Decimal(pico).scaleb(-6).normalize(), "f")
