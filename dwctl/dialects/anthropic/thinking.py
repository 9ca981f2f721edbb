"""How much a model is to think, and how it is to choose its words, in the form that its generation takes.

Up to Claude 4.5 thinking has a budget of tokens; from 4.6 on it is adaptive and an effort guides it, and 4.7 and later ones
refuse budgets and sampling parameters (API reference: thinking, effort; migration guide).
"""

import re
from typing import Any

from dwctl.dialects.anthropic.request import MIN_BUDGET
from dwctl.dialects.canonical import Request
from dwctl.dialects.efforts import effort_of

_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d+)(?:[-.](\d{1,2}))?(?!\d)")
_NEWEST = (99, 0)
"""A name without a version is taken for a current model's."""
_ADAPTIVE = (4, 6)
_NO_SAMPLING = (4, 7)
_ALWAYS_THINKING = ("fable", "mythos")

_BUDGETS = {"low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768, "max": 32_768}
"""Tokens; for low and medium what budgets, read as efforts, are bounded by."""


def thinking_fields(request: Request, model: str, body: dict[str, Any]) -> dict[str, Any]:
    """``thinking``, ``output_config`` and the sampling parameters, for a ``body`` that has the rest."""
    version = _version(model)
    word = effort_of(request)
    effort = "low" if word == "minimal" else word
    wanted = effort is not None or request.thinking == "adaptive"
    # A tool that must be called comes first: the API takes no thinking with it.
    forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
    fields: dict[str, Any] = {}
    if request.thinking == "disabled" or effort == "none":
        if not any(family in model for family in _ALWAYS_THINKING):
            fields["thinking"] = {"type": "disabled"}
        elif version >= _ADAPTIVE:
            fields["output_config"] = {"effort": "low"}
    elif wanted and version < _ADAPTIVE:
        budget = _budget(request, effort, body["max_tokens"])
        if budget is not None and not forced and not _unsigned_loop(body["messages"]):
            fields["thinking"] = {"type": "enabled", "budget_tokens": budget}
            if request.reasoning_summary == "omitted":
                fields["thinking"]["display"] = "omitted"
    elif wanted:
        if not forced:
            fields["thinking"] = {"type": "adaptive", "display": "omitted" if request.reasoning_summary == "omitted" else "summarized"}
        if effort is not None:
            fields["output_config"] = {"effort": "high" if effort == "xhigh" and version == _ADAPTIVE else effort}
    thinks = fields.get("thinking", {}).get("type") in ("enabled", "adaptive")
    if not thinks and version < _NO_SAMPLING:
        return fields | _sampling(request)
    given = [name for name in ("temperature", "top_p", "top_k") if getattr(request, name) is not None]
    if given:
        request.notes.append(f"{' and '.join(given)} left out: {model} takes none{' while it thinks' if thinks else ''}")
    return fields


def _version(model: str) -> tuple[int, int]:
    found = _VERSION.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else _NEWEST


def _budget(request: Request, effort: str | None, max_tokens: int) -> int | None:
    """Tokens to think with, which leave room for an answer; None if there is no room for thoughts."""
    if request.thinking_budget is not None:
        budget = min(request.thinking_budget, max_tokens - 1)
    else:
        budget = min(_BUDGETS[effort or "high"], max_tokens // 2)
    return budget if budget >= MIN_BUDGET else None


def _unsigned_loop(messages: list[dict[str, Any]]) -> bool:
    """Whether results of calls go back to a turn without its thought, which thinking with a budget does not take."""
    if len(messages) < 2 or messages[-1]["role"] != "user" or messages[-1]["content"][0]["type"] != "tool_result":
        return False
    return messages[-2]["content"][0]["type"] not in ("thinking", "redacted_thinking")


def _sampling(request: Request) -> dict[str, Any]:
    """Models since 4.1 take ``temperature`` or ``top_p``, and not both."""
    fields: dict[str, Any] = {}
    if request.temperature is not None:
        fields["temperature"] = min(max(request.temperature, 0), 1)
        if request.top_p is not None:
            request.notes.append("top_p left out: the model's provider takes temperature or top_p, and not both")
    elif request.top_p is not None:
        fields["top_p"] = request.top_p
    if request.top_k is not None:
        fields["top_k"] = request.top_k
    return fields
