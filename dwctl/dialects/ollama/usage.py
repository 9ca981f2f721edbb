"""Ollama's token counts, which stand beside the answer itself (docs.ollama.com: "Usage")."""

from typing import Any

from dwctl.dialects.answers import Counted
from dwctl.dialects.json_text import encode
from dwctl.dialects.openai_usage import normalise
from dwctl.dialects.usage import Usage

_COUNTS = ("prompt_eval_count", "prompt_eval_cached_count", "eval_count")


def read_usage(body: dict[str, Any]) -> Counted | None:
    """The usage of a final line or a whole answer; None if it counts neither input nor output. A count of zero may be left out."""
    said = {name: body[name] for name in _COUNTS if body.get(name) is not None}
    if not said:
        return None
    usage = normalise(
        {
            "prompt_tokens": said.get("prompt_eval_count"),
            "prompt_tokens_details": {"cached_tokens": said.get("prompt_eval_cached_count")},
            "completion_tokens": said.get("eval_count"),
        }
    )
    return Counted(usage, encode(said))


def written(usage: Usage | None) -> dict[str, int]:
    if usage is None:
        return {}
    return {
        "prompt_eval_count": usage.input,
        "prompt_eval_cached_count": usage.cache_read,
        "eval_count": usage.output,
    }
