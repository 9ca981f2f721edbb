"""How much a model is to think, in the words that all dialects can be translated to and from."""

from dwctl.dialects.canonical import Request

WORDS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

_LOW_BUDGET = 2048
_MEDIUM_BUDGET = 8192


def of_budget(tokens: int) -> str:
    """The effort that a budget of so many tokens amounts to."""
    return "low" if tokens <= _LOW_BUDGET else "medium" if tokens <= _MEDIUM_BUDGET else "high"


def effort_of(request: Request) -> str | None:
    """The effort that the request names, or that its ``thinking`` and its budget in tokens amount to; None for the model's own choice."""
    if request.effort is not None:
        return request.effort
    if request.thinking == "disabled":
        return "none"
    if request.thinking_budget is not None:
        return of_budget(request.thinking_budget)
    return "medium" if request.thinking == "enabled" else None
