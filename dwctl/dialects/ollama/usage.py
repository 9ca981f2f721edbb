"""Ollama's token counts, which stand beside the answer itself (docs.ollama.com: "Usage")."""

from typing import Any

from dwctl.dialects.answers import Counted
from dwctl.dialects.json_text import encode
from dwctl.dialects.openai_usage import normalise
from dwctl.dialects.usage import Usage

_NAMES = {"prompt_eval_count": "prompt_tokens", "prompt_eval_cached_count": "cached_tokens", "eval_count": "completion_tokens"}
"""In the words that `normalise` knows."""


def read_usage(body: dict[str, Any]) -> Counted | None:
    """The usage of a final line or a whole answer; None if it does not say what was used. A count of zero may be left out."""
    said = {name: body[name] for name in _NAMES if name in body}
    usage = normalise({_NAMES[name]: value for name, value in said.items()})
    return None if usage is None else Counted(usage, encode(said))


def written(usage: Usage | None) -> dict[str, int]:
    if usage is None:
        return {}
    return {
        "prompt_eval_count": usage.input,
        "prompt_eval_cached_count": usage.cache_read,
        "eval_count": usage.output,
    }
