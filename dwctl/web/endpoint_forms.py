"""The forms about endpoints: how a provider is reached, with presets for the ones that are asked for most, and prices per million."""

from decimal import Decimal

import msgspec

from dwctl import catalog
from dwctl.operations.catalog_views import EndpointView
from dwctl.operations.endpoint_setup import LOCAL_SERVERS
from dwctl.operations.endpoints import EndpointCreate, EndpointUpdate
from dwctl.web.forms import wrong


class Preset(msgspec.Struct, frozen=True):
    """A provider to begin with. ``header`` and ``prefix`` say how its key is sent."""

    key: str
    label: str
    url: str
    header: str = "Authorization"
    prefix: str = "Bearer"


_LOCAL = tuple(
    Preset(key, label, LOCAL_SERVERS[label])
    for key, label in (("ollama", "Ollama"), ("vllm", "vLLM"), ("llama-cpp", "llama.cpp"), ("lm-studio", "LM Studio"))
)
PRESETS = (
    Preset("openai", "OpenAI", "https://api.openai.com/v1"),
    Preset("anthropic", "Anthropic", "https://api.anthropic.com/v1"),
    Preset("gemini", "Google Gemini", "https://generativelanguage.googleapis.com/v1beta/openai"),
    Preset("mistral", "Mistral", "https://api.mistral.ai/v1"),
    Preset("openrouter", "OpenRouter", "https://openrouter.ai/api/v1"),
    Preset("azure", "Azure OpenAI", "https://YOUR-RESOURCE.openai.azure.com/openai/v1", "api-key", ""),
    *_LOCAL,
)
BLANK = Preset("other", "Another", "")
BY_KEY = {preset.key: preset for preset in PRESETS}


class ConnectionForm(msgspec.Struct, kw_only=True):
    """How a provider is reached."""

    name: str
    url: str
    api_key: str | None = None
    remove_key: bool = False
    description: str | None = None
    auth_header_name: str = "Authorization"
    auth_header_prefix: str | None = None
    forward_headers: str | None = None
    max_concurrency: int | None = None
    connect_timeout: float | None = None
    first_byte_timeout: float | None = None
    idle_timeout: float | None = None
    total_timeout: float | None = None
    revision: int = 0

    @property
    def prefix(self) -> str:
        """What goes before the key: a word is followed by a blank, which nobody sees in a field."""
        word = (self.auth_header_prefix or "").strip()
        return f"{word} " if word else ""

    def creation(self) -> EndpointCreate:
        """A new endpoint without models."""
        return EndpointCreate(
            name=self.name,
            url=self.url,
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
        same_prefix = (self.auth_header_prefix or "").strip() == stored.auth_header_prefix.strip()
        return EndpointUpdate(
            name=self.name,
            url=self.url,
            description=self.description or "",
            api_key=key,
            auth_header_name=self.auth_header_name,
            auth_header_prefix=stored.auth_header_prefix if same_prefix else self.prefix,
            alias_mapping={},
            forward_headers=split_words(self.forward_headers),
            max_concurrency=self.max_concurrency,
            connect_timeout=self.connect_timeout,
            first_byte_timeout=self.first_byte_timeout,
            idle_timeout=self.idle_timeout,
            total_timeout=self.total_timeout,
        )


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
