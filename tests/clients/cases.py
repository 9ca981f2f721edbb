"""What the scripts in this folder share; each is run by itself, with the packages of ``requirements.lock``.

``SCRIPT URL KEY PROVIDER`` asks the models of one provider dialect for a text, with a tool to call, and for an answer that fits a
type, by each API that the library speaks, streamed and not. It prints one JSON object: ``API KIND MODE`` -> what the library made of
the answers as ``said``, the tool's ``calls``, and ``tokens`` in and out; or ``{"error": traceback}``.
"""

import asyncio
import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from pydantic import BaseModel

URL, KEY, PROVIDER = sys.argv[1:4]
ASK = "What is it like outside?"
RESULT = "Rain all day"
_ALIASES = {"text": "plain", "tool": "agent", "structured": "plain"}


class Weather(BaseModel):
    """The weather of a place."""

    city: str
    degrees: int


calls: list[list[Any]] = []
"""What the tool was called with, in the case that runs."""


def weather(city: str, days: int) -> str:
    """Tell the weather."""
    calls.append([city, days])
    return RESULT


def told(said: Any, tokens: tuple[int, int]) -> dict[str, Any]:
    return {"said": said.model_dump() if isinstance(said, BaseModel) else said, "calls": list(calls), "tokens": tokens}


def run(apis: Iterable[str], ask: Callable[[str, str, str, bool], Awaitable[dict[str, Any]]]) -> None:
    """Run ``ask(api, kind, model, streamed)`` for every case, one after the other."""

    async def every() -> dict[str, Any]:
        answers: dict[str, Any] = {}
        for api in apis:
            for kind, alias in _ALIASES.items():
                for mode in ("whole", "streamed"):
                    calls.clear()
                    try:
                        answer = await ask(api, kind, f"{alias}.{PROVIDER}", mode == "streamed")
                    except Exception:
                        answer = {"error": traceback.format_exc()}
                    answers[f"{api} {kind} {mode}"] = answer
        return answers

    print(json.dumps(asyncio.run(every())))
