"""The models that a key may call, as each dialect lists them.

Sources: the OpenAI API reference ("List models"), Anthropic's ("List models", pages by ``after_id`` and ``before_id``), Ollama's
("List local models", "Show model information").
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dwctl.dialects.ollama import listing as ollama
from dwctl.errors import bad_request
from dwctl.routing import ModelEntry

_PAGE = 20
_LONGEST_PAGE = 1000


def openai_model(model: ModelEntry) -> dict[str, Any]:
    return {"id": model.alias, "object": "model", "created": model.created, "owned_by": ""}


def openai_list(models: Sequence[ModelEntry], query: Mapping[str, str]) -> dict[str, Any]:
    """``group``: ids of groups, of which one must have the model. Every model is available for realtime, so that
    ``available_for_realtime=false`` asks for none; ``include_reasoning_capabilities`` adds nothing, since they are not known.
    Raises GatewayError 400."""
    _flag(query, "include_reasoning_capabilities")
    if _flag(query, "available_for_realtime") is False:
        models = ()
    if (groups := query.get("group")) is not None:
        try:
            wanted = {str(uuid.UUID(part.strip())) for part in groups.split(",")}
        except ValueError:
            raise bad_request("'group' must be a list of group ids, separated by commas.", code="invalid_group", param="group") from None
        models = [model for model in models if not wanted.isdisjoint(model.groups)]
    return {"object": "list", "data": [openai_model(model) for model in models]}


def anthropic_model(model: ModelEntry) -> dict[str, Any]:
    created = datetime.fromtimestamp(model.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": "model",
        "id": model.alias,
        "display_name": model.display_name or model.alias,
        "created_at": created,
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": None,
        "max_input_tokens": None,
        "max_tokens": model.max_output_tokens,
        "capabilities": None,
    }


def anthropic_list(models: Sequence[ModelEntry], query: Mapping[str, str]) -> dict[str, Any]:
    """One page. ``limit`` 1 to 1000 (20); ``after_id`` or ``before_id`` a model at the edge. Raises GatewayError 400."""
    given = query.get("limit", str(_PAGE))
    if not (given.isascii() and given.isdigit() and 1 <= int(given[:5]) <= _LONGEST_PAGE):
        raise bad_request(f"limit: must be a number from 1 to {_LONGEST_PAGE}.", param="limit")
    limit = int(given)
    if (before := query.get("before_id")) is not None:
        page = [model for model in models if model.alias < before]
        chosen = page[-limit:]
    else:
        after = query.get("after_id")
        page = [model for model in models if after is None or model.alias > after]
        chosen = page[:limit]
    return {
        "data": [anthropic_model(model) for model in chosen],
        "has_more": len(page) > len(chosen),
        "first_id": chosen[0].alias if chosen else None,
        "last_id": chosen[-1].alias if chosen else None,
    }


def _flag(query: Mapping[str, str], name: str) -> bool | None:
    given = query.get(name)
    if given not in (None, "true", "false"):
        raise bad_request(f"'{name}' must be true or false.", code="invalid_query_parameter", param=name)
    return None if given is None else given == "true"


def ollama_list(models: Sequence[ModelEntry]) -> dict[str, Any]:
    return ollama.tags([_ollama(model) for model in models])


def ollama_model(model: ModelEntry) -> dict[str, Any]:
    return ollama.show(_ollama(model))


def ollama_version() -> dict[str, str]:
    return ollama.version()


def _ollama(model: ModelEntry) -> ollama.Listed:
    return ollama.Listed(model.alias, model.created, model.kind == "EMBEDDINGS", model.capabilities)
