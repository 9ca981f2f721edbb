"""OpenAI's usage object, normalised (API reference: chat completions, completions, embeddings, images)."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from dwctl.dialects.answers import Counted
from dwctl.dialects.json_text import encode
from dwctl.dialects.usage import MAX_TOKENS, Usage, count


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Plain(msgspec.Struct):
    """The usage object as OpenAI documents it for chat, completions and embeddings, and the fields that give it another meaning."""

    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: Any = None
    total_tokens: Any = None
    prompt_cache_hit_tokens: Any = None
    cached_tokens: Any = None


_PLAIN = msgspec.json.Decoder(_Plain)
_NOTHING = _Details()


_INPUT, _OUTPUT = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")


def _total(usage: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """The count that one of the names has; 0 if none is there, None if it cannot be read."""
    said = [usage[name] for name in names if name in usage]
    return count(next((value for value in said if value is not None), None)) if said else 0


def _part(value: Any) -> int:
    """A count that is within another one, which stands whatever this is."""
    return count(value) or 0


def _details(usage: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        details = usage.get(name)
        if isinstance(details, Mapping):
            return details
    return {}


def read(raw: bytes) -> Usage | None:
    """`normalise` of a usage object in JSON text; None if it is not an object, or does not say what was used."""
    try:
        plain = _PLAIN.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _loose(raw)
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
        or (reasoning and plain.total_tokens != prompt + completion)
        or plain.prompt_cache_hit_tokens
        or plain.cached_tokens
    ):
        return _loose(raw)
    return Usage(prompt - cached - written, cached, written, 0, completion, reasoning)


def _loose(raw: bytes) -> Usage | None:
    """`read`, whatever else the object says: bytes that are no text, numbers beyond all bounds, half of a surrogate pair."""
    try:
        decoded = json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return normalise(decoded) if isinstance(decoded, dict) else None


def read_usage(body: Mapping[str, Any]) -> Counted | None:
    """The usage that a JSON body reports, whatever else it says; None if it counts nothing."""
    if not isinstance(usage := body.get("usage"), dict):
        return None
    raw = encode(usage)
    counted = read(raw)
    return None if counted is None else Counted(counted, raw)


def normalise(usage: Mapping[str, Any]) -> Usage | None:
    """Disjoint classes that add up to the provider's totals. None if it counts neither input nor output, or has a count that is none.

    ``prompt_tokens`` includes what was read from or written to a cache; a part that is larger than the whole is cut to it.
    Gateways to Anthropic's models keep its ``cache_creation_input_tokens`` and, by lifetime, ``cache_creation`` beside OpenAI's names;
    DeepSeek and Moonshot have names of their own for what was read. xAI's ``completion_tokens`` leave the reasoning out: there the
    total says so.
    """
    prompt, completion = _total(usage, _INPUT), _total(usage, _OUTPUT)
    if prompt is None or completion is None or not any(name in usage for name in (*_INPUT, *_OUTPUT)):
        return None
    prompt_details = _details(usage, "prompt_tokens_details", "input_tokens_details")
    completion_details = _details(usage, "completion_tokens_details", "output_tokens_details")
    spellings = (prompt_details.get("cached_tokens"), usage.get("prompt_cache_hit_tokens"), usage.get("cached_tokens"))
    read = min(next((tokens for said in spellings if (tokens := _part(said))), 0), prompt)
    written = min(_part(prompt_details.get("cache_write_tokens")) or _part(usage.get("cache_creation_input_tokens")), prompt - read)
    long_lived = min(_part(_details(usage, "cache_creation").get("ephemeral_1h_input_tokens")), written)
    reasoning = _part(completion_details.get("reasoning_tokens"))
    if reasoning and count(usage.get("total_tokens")) == prompt + completion + reasoning:
        completion += reasoning
    return Usage(
        uncached_input=prompt - read - written,
        cache_read=read,
        cache_write_5m=written - long_lived,
        cache_write_1h=long_lived,
        output=completion,
        reasoning=min(reasoning, completion),
    )
