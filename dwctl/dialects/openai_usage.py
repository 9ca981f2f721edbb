"""OpenAI's usage object, normalised (API reference: chat completions, completions, embeddings, images)."""

from collections.abc import Mapping
from typing import Any

from dwctl.dialects.usage import Usage

MAX_TOKENS = 2**40
"""A provider that reports more is wrong; the bound keeps every sum inside 64 bits."""


def _count(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return 0
    return min(value, MAX_TOKENS)


def _details(usage: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        details = usage.get(name)
        if isinstance(details, Mapping):
            return details
    return {}


def normalise(usage: Mapping[str, Any]) -> Usage:
    """Disjoint classes that add up to the provider's totals.

    ``prompt_tokens`` includes what was read from or written to a cache; a part that is larger than the whole is cut to it.
    """
    prompt = _count(usage.get("prompt_tokens", usage.get("input_tokens")))
    completion = _count(usage.get("completion_tokens", usage.get("output_tokens")))
    prompt_details = _details(usage, "prompt_tokens_details", "input_tokens_details")
    completion_details = _details(usage, "completion_tokens_details", "output_tokens_details")
    read = min(_count(prompt_details.get("cached_tokens")), prompt)
    written = min(_count(prompt_details.get("cache_write_tokens")), prompt - read)
    return Usage(
        uncached_input=prompt - read - written,
        cache_read=read,
        cache_write_5m=written,
        output=completion,
        reasoning=min(_count(completion_details.get("reasoning_tokens")), completion),
    )
