"""Anthropic's usage object, whose ``input_tokens`` are those that were neither read from nor written to a cache."""

from typing import Any

from dwctl.dialects.answers import Counted
from dwctl.dialects.json_text import encode
from dwctl.dialects.usage import Usage, count

_TIERS = {"default": "standard", "priority": "priority", "batch": "batch"}
"""The service tiers, from OpenAI's words to Anthropic's."""


def read(usage: Any) -> Usage | None:
    """None if it is not an object that counts input or output, or has a count that is none."""
    if not isinstance(usage, dict) or ("input_tokens" not in usage and "output_tokens" not in usage):
        return None
    uncached, output = count(usage.get("input_tokens", 0)), count(usage.get("output_tokens", 0))
    cached, written = (count(usage.get(name) or 0) for name in ("cache_read_input_tokens", "cache_creation_input_tokens"))
    if uncached is None or output is None or cached is None or written is None:
        return None
    by_ttl, details = usage.get("cache_creation"), usage.get("output_tokens_details")
    long, short = (_part(by_ttl, f"ephemeral_{lifetime}_input_tokens") for lifetime in ("1h", "5m"))
    written = max(written, short + long)
    return Usage(
        uncached_input=uncached,
        cache_read=cached,
        cache_write_5m=written - long,
        cache_write_1h=long,
        output=output,
        reasoning=min(_part(details, "thinking_tokens"), output),
    )


def _part(details: Any, name: str) -> int:
    """A count of the details; 0 if it is not there or cannot be read."""
    return (count(details.get(name)) or 0) if isinstance(details, dict) else 0


_INPUT = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def grown(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What a stream has counted by now. What is not repeated stands; some servers repeat their counts as zeros.

    Input that is counted anew takes the place of the former: a server may know only at the end how much of it was cached.
    """
    usage = dict(before)
    anew = "input_tokens" in now and any(count(now.get(name)) for name in _INPUT)
    for name, said in now.items():
        old = before.get(name)
        choose = _latest if anew and (name in _INPUT or name == "cache_creation") else _larger
        if isinstance(old, dict) and isinstance(said, dict):
            usage[name] = old | {inner: choose(old.get(inner), value) for inner, value in said.items()}
        else:
            usage[name] = choose(old, said)
    return usage


def _latest(before: Any, now: Any) -> Any:
    return before if now is None else now


def _larger(before: Any, now: Any) -> Any:
    return max(before, now) if count(before) is not None and count(now) is not None else _latest(before, now)


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
