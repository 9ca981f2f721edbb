"""What Ollama's clients ask of a server beside answers: its models and its release (docs.ollama.com: API reference).

What only a server knows that has the model's file is empty, which is what Ollama itself says of models that run elsewhere.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from dwctl.dialects.ollama.response import time

VERSION = "0.35.1"
"""The release of Ollama whose API is spoken here. Clients refuse one that is too old for them."""
_ARCHITECTURE = "dwctl"
_WORDS = {"tools": "tools", "vision": "vision", "thinking": "thinking", "reasoning": "thinking"}


class Listed(NamedTuple):
    """One model as the gateway knows it. ``modified`` seconds since the epoch; ``context`` tokens, if known.

    ``capabilities``: what the catalog says that it can do beside its kind, in words of any make.
    """

    alias: str
    modified: int
    embeds: bool = False
    capabilities: tuple[str, ...] = ()
    context: int | None = None


def tags(models: Iterable[Listed]) -> dict[str, Any]:
    """The body of ``GET /api/tags``."""
    return {
        "models": [
            {
                "name": model.alias,
                "model": model.alias,
                "modified_at": time(model.modified),
                "size": 0,
                "digest": hashlib.sha256(model.alias.encode()).hexdigest(),
                "details": _details(),
            }
            for model in models
        ]
    }


def show(model: Listed) -> dict[str, Any]:
    """The body of ``POST /api/show``. Clients find the context length by the architecture's name."""
    info: dict[str, Any] = {"general.architecture": _ARCHITECTURE, "general.basename": model.alias}
    if model.context is not None:
        info[f"{_ARCHITECTURE}.context_length"] = model.context
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(),
        "model_info": info,
        "capabilities": _capabilities(model),
        "modified_at": time(model.modified),
    }


def version() -> dict[str, str]:
    """The body of ``GET /api/version``."""
    return {"version": VERSION}


def _capabilities(model: Listed) -> list[str]:
    if model.embeds:
        return ["embedding"]
    known = (_WORDS.get(word.lower()) for word in model.capabilities)
    return ["completion", *sorted({word for word in known if word})]


def _details() -> dict[str, Any]:
    return {"parent_model": "", "format": "", "family": "", "families": [], "parameter_size": "", "quantization_level": ""}
