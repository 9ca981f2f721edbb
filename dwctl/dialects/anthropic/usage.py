"""Anthropic's usage object, whose ``input_tokens`` are those that were neither read from nor written to a cache."""

from typing import Any

from dwctl.dialects.answers import Counted
from dwctl.dialects.json_text import encode
from dwctl.dialects.openai_usage import MAX_TOKENS
from dwctl.dialects.usage import Usage

_TIERS = {"default": "standard", "priority": "priority", "batch": "batch"}
"""The service tiers, from OpenAI's words to Anthropic's."""


def _count(value: Any) -> int:
    return min(max(value, 0), MAX_TOKENS) if isinstance(value, int) and not isinstance(value, bool) else 0


def read(usage: Any) -> Usage | None:
    """None if it is not an object that counts input or output."""
    if not isinstance(usage, dict) or ("input_tokens" not in usage and "output_tokens" not in usage):
        return None
    by_ttl = usage.get("cache_creation")
    long = _count(by_ttl.get("ephemeral_1h_input_tokens")) if isinstance(by_ttl, dict) else 0
    short = _count(by_ttl.get("ephemeral_5m_input_tokens")) if isinstance(by_ttl, dict) else 0
    written = max(_count(usage.get("cache_creation_input_tokens")), short + long)
    details = usage.get("output_tokens_details")
    output = _count(usage.get("output_tokens"))
    return Usage(
        uncached_input=_count(usage.get("input_tokens")),
        cache_read=_count(usage.get("cache_read_input_tokens")),
        cache_write_5m=written - long,
        cache_write_1h=long,
        output=output,
        reasoning=min(_count(details.get("thinking_tokens")), output) if isinstance(details, dict) else 0,
    )


def read_usage(body: dict[str, Any]) -> Counted | None:
    """The usage that a message or an error reports; None if there is none."""
    counted = read(body.get("usage"))
    return None if counted is None else Counted(counted, encode(body["usage"]))


def counts(usage: Usage | None) -> dict[str, Any]:
    """What a stream's ``message_delta`` says of usage; zeros if nothing is known."""
    usage = usage or Usage()
    return {
        "input_tokens": usage.uncached_input,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {"ephemeral_5m_input_tokens": usage.cache_write_5m, "ephemeral_1h_input_tokens": usage.cache_write_1h},
        "output_tokens": usage.output,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }


def rendered(usage: Usage | None, tier: str | None) -> dict[str, Any]:
    """The usage of a message; ``tier`` in OpenAI's words."""
    return {**counts(usage), "server_tool_use": None, "service_tier": _TIERS.get(tier or "", "standard")}


def tier_of(usage: Any) -> str | None:
    """The service tier that a provider's usage names, in OpenAI's words."""
    tier = usage.get("service_tier") if isinstance(usage, dict) else None
    if not isinstance(tier, str):
        return None
    return next((ours for ours, theirs in _TIERS.items() if theirs == tier), tier)
