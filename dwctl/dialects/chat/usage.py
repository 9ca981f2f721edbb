"""Token usage in the dialect's words: ``prompt_tokens`` with all that was read from or written to a cache."""

from typing import Any

from dwctl.dialects.usage import Usage


def render_usage(usage: Usage) -> dict[str, Any]:
    written = usage.cache_write_5m + usage.cache_write_1h
    rendered: dict[str, Any] = {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": written, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    if usage.cache_write_1h:
        # OpenAI has one class of writes only; a client that knows more of them must find Anthropic's two.
        rendered["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        }
    return rendered
