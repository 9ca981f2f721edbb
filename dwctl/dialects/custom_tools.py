"""Custom tools (whose input is any text) at providers that know functions only.

Such a provider is told of a function with one argument, ``input``; its calls are turned back before the client sees them. A parser
does not know the request, so it is the client's renderer that turns back, with the names of the request's custom tools.
"""

import json
import re
from typing import Any

import msgspec

from dwctl.dialects.answers import Choice, Event, Finished, Response, ToolDelta, ToolStart
from dwctl.dialects.canonical import Part, Request, Tool, ToolCall

INPUT = "input"
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {INPUT: {"type": "string"}},
    "required": [INPUT],
    "additionalProperties": False,
}

_BEGIN = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_CHARACTERS = re.compile(
    r'(?:[^"\\]'
    r"|\\[^u]"
    r"|\\u(?![dD][89abAB])[0-9a-fA-F]{4}"
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\u[0-9a-fA-F]{4}|(?=\\[^u])|(?=[^\\])))*"
)
"""What of a JSON string can be decoded already: no escape, and no surrogate pair, is cut in two."""
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def wrapped(tool: Tool) -> Tool:
    """A custom tool as the function that stands for it; any other tool as it is."""
    if not tool.custom:
        return tool
    description = tool.description or ""
    if tool.grammar:
        grammar = tool.grammar.get("grammar", tool.grammar)
        rule = f"The input must match this {grammar.get('syntax', '')} grammar:\n{grammar.get('definition', '')}"
        description = f"{description}\n\n{rule}" if description else rule
    return Tool(tool.path, tool.name, description or None, PARAMETERS, cache=tool.cache)


def wrapped_arguments(text: str) -> dict[str, Any]:
    """The arguments of such a function for a call of the tool with ``text``."""
    return {INPUT: text}


def unwrapped_arguments(arguments: str) -> str:
    """The tool's text from the function's arguments; what does not look like them is taken for the text."""
    call = _Call()
    return call.grow(arguments) + call.rest()


def unwrapped(response: Response, request: Request) -> Response:
    """The answer with its calls of custom tools turned back."""
    names = _names(request)
    if not names:
        return response

    def turned(part: Part) -> Part:
        if isinstance(part, ToolCall) and part.name in names and not part.custom:
            return ToolCall(part.id, part.name, unwrapped_arguments(part.arguments), custom=True)
        return part

    def choice(one: Choice) -> Choice:
        return msgspec.structs.replace(one, parts=[turned(part) for part in one.parts])

    return msgspec.structs.replace(response, choices=[choice(one) for one in response.choices])


class Unwrapper:
    """Turns back the calls of a stream, as they grow."""

    def __init__(self, request: Request) -> None:
        self._names = _names(request)
        self._calls: dict[tuple[int, int], _Call] = {}

    def turn(self, event: Event) -> list[Event]:
        """The events that stand for this one."""
        match event:
            case ToolStart() if event.name in self._names and not event.custom:
                self._calls[event.choice, event.index] = _Call()
                return [msgspec.structs.replace(event, custom=True)]
            case ToolDelta() if (call := self._calls.get((event.choice, event.index))) is not None:
                text = call.grow(event.fragment)
                return [msgspec.structs.replace(event, fragment=text)] if text else []
            case Finished():
                return [*self.rest(event.choice), event]
        return [event]

    def rest(self, choice: int | None = None) -> list[Event]:
        """What was held back, of one choice or of all of them; for the end of a stream."""
        ended = [place for place in self._calls if choice in (None, place[0])]
        held = [(place, self._calls.pop(place).rest()) for place in ended]
        return [ToolDelta(index, text, of) for (of, index), text in held if text]


class _Call:
    """The arguments of one call: decoded on the way if they begin as they should, else at the end."""

    def __init__(self) -> None:
        self._held = ""
        self._inside: bool | None = None
        """Within the text; None before it, False after it."""

    def grow(self, fragment: str) -> str:
        if self._inside is False:
            return ""
        self._held += fragment
        if self._inside is None:
            begin = _BEGIN.match(self._held)
            if begin is None:
                return ""
            self._inside = True
            self._held = self._held[begin.end() :]
        whole = _CHARACTERS.match(self._held)
        end = whole.end() if whole is not None else 0
        ready, self._held = self._held[:end], self._held[end:]
        if self._held.startswith('"'):
            self._inside, self._held = False, ""
        return _decoded(ready)

    def rest(self) -> str:
        if self._inside is not None or not self._held.strip():
            return ""
        try:
            value = json.loads(self._held)
        except (ValueError, RecursionError):
            return self._held
        return value[INPUT] if isinstance(value, dict) and isinstance(value.get(INPUT), str) else self._held


def _decoded(characters: str) -> str:
    """The text of a JSON string's inside; an escape that JSON does not have stands for itself, as models mean it."""
    if "\\" not in characters:
        return characters
    text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else _ESCAPES.get(found[2], found[0]), characters)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _names(request: Request) -> frozenset[str]:
    return frozenset(tool.name for tool in request.tools if tool.custom)
