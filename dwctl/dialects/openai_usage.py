"""OpenAI's usage object, normalised (API reference: chat completions, completions, embeddings, images)."""

from collections.abc import Mapping
from typing import Any

import msgspec

from dwctl.dialects.answers import Counted
from dwctl.dialects.json_text import encode
from dwctl.dialects.usage import Usage

MAX_TOKENS = 2**40
"""A provider that reports more is wrong; the bound keeps every sum inside 64 bits."""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Plain(msgspec.Struct):
    """The usage object as OpenAI documents it for chat, completions and embeddings."""

    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: Any = None


_PLAIN = msgspec.json.Decoder(_Plain)
_ANY = msgspec.json.Decoder()
_NOTHING = _Details()


_COUNTS = ("prompt_tokens", "input_tokens", "completion_tokens", "output_tokens")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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


def read(raw: bytes) -> Usage | None:
    """`normalise` of a usage object in JSON text; None if it is not an object, or counts neither input nor output."""
    try:
        plain = _PLAIN.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            decoded = _ANY.decode(raw.decode("utf-8", "replace"))
        except (msgspec.DecodeError, RecursionError):
            return None
        return normalise(decoded) if isinstance(decoded, dict) and any(_is_number(decoded.get(name)) for name in _COUNTS) else None
    prompt, completion = plain.prompt_tokens, plain.completion_tokens
    inner, outer = plain.prompt_tokens_details or _NOTHING, plain.completion_tokens_details or _NOTHING
    cached, written, reasoning = inner.cached_tokens or 0, inner.cache_write_tokens or 0, outer.reasoning_tokens or 0
    if (
        min(cached, written, reasoning, completion) < 0
        or cached + written > prompt
        or reasoning > completion
        or max(prompt, completion) > MAX_TOKENS
        or plain.cache_creation_input_tokens
        or plain.cache_creation
    ):
        return normalise(_ANY.decode(raw))
    return Usage(prompt - cached - written, cached, written, 0, completion, reasoning)


def read_usage(body: Mapping[str, Any]) -> Counted | None:
    """The usage that a JSON body reports, whatever else it says; None if it counts nothing."""
    if not isinstance(usage := body.get("usage"), dict):
        return None
    raw = encode(usage)
    counted = read(raw)
    return None if counted is None else Counted(counted, raw)


def normalise(usage: Mapping[str, Any]) -> Usage:
    """Disjoint classes that add up to the provider's totals.

    ``prompt_tokens`` includes what was read from or written to a cache; a part that is larger than the whole is cut to it.
    Gateways to Anthropic's models keep its ``cache_creation_input_tokens`` and, by lifetime, ``cache_creation`` beside OpenAI's names.
    """
    prompt = _count(usage.get("prompt_tokens", usage.get("input_tokens")))
    completion = _count(usage.get("completion_tokens", usage.get("output_tokens")))
    prompt_details = _details(usage, "prompt_tokens_details", "input_tokens_details")
    completion_details = _details(usage, "completion_tokens_details", "output_tokens_details")
    read = min(_count(prompt_details.get("cached_tokens")), prompt)
    written = min(_count(prompt_details.get("cache_write_tokens")) or _count(usage.get("cache_creation_input_tokens")), prompt - read)
    long_lived = min(_count(_details(usage, "cache_creation").get("ephemeral_1h_input_tokens")), written)
    return Usage(
        uncached_input=prompt - read - written,
        cache_read=read,
        cache_write_5m=written - long_lived,
        cache_write_1h=long_lived,
        output=completion,
        reasoning=min(_count(completion_details.get("reasoning_tokens")), completion),
    )
