"""Which dialect a client speaks on which path, and which codec a provider is spoken to with."""

from typing import NamedTuple
from urllib.parse import unquote

from dwctl.dialects import anthropic, chat, ollama, responses
from dwctl.dialects.codec import Codec
from dwctl.dialects.embeddings import EmbedCodec, ollama_prompt
from dwctl.dialects.embeddings import ollama as ollama_embeddings
from dwctl.dialects.embeddings import openai as openai_embeddings
from dwctl.dialects.names import DialectName
from dwctl.dialects.ollama import generate


class Surface(NamedTuple):
    """One path of the inference API. ``operation``: what GenAI conventions call it; ``other`` for all that is not priced by tokens.

    ``codec`` reads its requests for text, and writes its errors; ``embeds`` reads those for embeddings. ``exact``: the path is one of
    these, spelt as it is documented.
    """

    dialect: DialectName
    operation: str
    codec: Codec
    embeds: EmbedCodec | None = None
    exact: bool = True


_SURFACES: dict[str, Surface] = {
    "/chat/completions": Surface("openai-chat", "chat", chat),
    "/completions": Surface("openai-chat", "text_completion", chat),
    "/embeddings": Surface("openai-chat", "embeddings", chat, openai_embeddings),
    "/responses": Surface("openai-responses", "chat", responses),
    "/messages": Surface("anthropic", "chat", anthropic),
    "/messages/count_tokens": Surface("anthropic", "count_tokens", anthropic),
    "/api/chat": Surface("ollama", "chat", ollama),
    "/api/generate": Surface("ollama", "chat", generate),
    "/api/embed": Surface("ollama", "embeddings", ollama, ollama_embeddings),
    "/api/embeddings": Surface("ollama", "embeddings", ollama, ollama_prompt),
}
_LONGEST_FIRST = sorted(_SURFACES, key=len, reverse=True)
_OTHER = Surface("openai-chat", "other", chat, exact=False)
_BEFORE = frozenset({"", "/v1", "/fim", "/v1/fim", "/beta", "/openai/v1", "/v1beta/openai"})
"""What may stand before the end that a surface is known by: a version once more, or what Mistral, DeepSeek, Azure and Google have."""
_NAMING = frozenset({"engines", "deployments", "models", "model"})
"""The segment of a path after one of these is a model's name to some servers."""

PATHS = tuple(path for path in _SURFACES if not path.startswith("/api/"))
"""Below the OpenAI-like roots."""
OLLAMA_PATHS = tuple(path for path in _SURFACES if path.startswith("/api/"))

PROVIDERS: dict[DialectName, Codec] = {
    "openai-chat": chat,
    "openai-responses": responses,
    "anthropic": anthropic,
    "ollama": ollama,
}
EMBEDDERS: dict[DialectName, EmbedCodec] = {
    "openai-chat": openai_embeddings,
    "openai-responses": openai_embeddings,
    "ollama": ollama_embeddings,
}


def surface_of(path: str) -> Surface:
    """What a path asks of a model, and in which dialect.

    Any spelling that a provider may take for one of the paths counts as it, so that none is cheaper than the plain one.
    """
    surface = _SURFACES.get(path)
    if surface is None:
        plain = _plain(path)
        end = _end(plain)
        surface = _SURFACES[end]._replace(exact=False) if end is not None else _OTHER
        if surface.operation == "count_tokens":  # costs nothing, so that only the path itself can be meant
            surface = surface._replace(operation="other")
    return surface


def check_path(path: str) -> None:
    """Raises ValueError for a path by which a server may go to another model than the one that the request names."""
    plain = _plain(path)
    end = _end(plain)
    if end is not None and plain.removesuffix(end) not in _BEFORE:
        raise ValueError(f"nothing may stand before {end}")
    segments = plain.split("/")
    if any(segment in _NAMING for segment in segments[:-1]):
        raise ValueError("it names a model; that is for the body, or the header Model-Override")


def _end(plain: str) -> str | None:
    return next((known for known in _LONGEST_FIRST if plain.endswith(known)), None)


def _plain(path: str) -> str:
    return unquote(path).rstrip("/").casefold()


def native(surface: Surface, provider: DialectName) -> bool:
    """Whether a provider takes the client's own path and body. OpenAI's other paths are the same beside chat and Responses."""
    if surface.dialect == provider:
        return True
    return provider == "openai-responses" and surface.dialect == "openai-chat" and surface.operation != "chat"
