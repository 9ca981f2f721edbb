"""What an answer says, apart from its wire format: computed from the request alone, and the same in every dialect.

- The text is `count` words of `WORDS`; where it begins is a checksum of the last text of the request.
- Thinking is as many words, from `THINKING` further on.
- A call's arguments, and an answer that has to fit a JSON schema, are `fitting`: every property is there, a string is
  the last text of the request (its first 200 characters; with `` 2``, `` 3`` after it in the second, third call), a number
  is the number of the call, a choice is the first (second, third).
- A request's stop sequence ends the text where it occurs.
"""

import zlib
from typing import Any, NamedTuple

import msgspec

from dwctl.simulator.behaviour import Behaviour
from dwctl.simulator.served import Usage

_PLAIN = "The quick brown fox jumps over the lazy dog while seven wise wizards quietly brew a potion"
_AWKWARD = 'of “quoted” words, naïve café 東京 Привет 🙂 and \\ back\\slash "double" tab\there line\nbreak </done> end.'
WORDS = tuple(f"{_PLAIN} {_AWKWARD}".split(" "))
"""What an answer is made of; one word is one token. Some need escapes in JSON or several bytes in UTF-8."""
THINKING = 11
"""How many words after the beginning of the text the thinking begins."""
REFUSAL = "I'm sorry, but I can't help with that."
PIECE = 4
"""Characters of each piece of arguments, and of each token of a structured answer."""
LONGEST = 200
"""Characters of the request's last text that arguments repeat."""


class Tool(NamedTuple):
    name: str
    parameters: Any


class Call(NamedTuple):
    """A call of a tool. ``id`` is the same for the same request, and another one later in the conversation."""

    id: str
    name: str
    arguments: str


class Asked(msgspec.Struct):
    """What a request says, apart from its wire format."""

    prompt: int
    """Words of all its texts."""
    last: str
    """Its last text."""
    entries: int = 1
    """Messages or items."""
    limit: int | None = None
    """Completion tokens at most."""
    tools: list[Tool] = []
    choice: str | None = None
    """Which tool to call: ``none``, ``any``, ``=name``, or None to leave it to the model."""
    parallel: bool = True
    answered: bool = False
    """Whether the last entry is a tool's result."""
    stops: list[str] = []
    schema: Any = None
    """The JSON schema that the answer must fit; ``{}`` for any object."""
    thinks: bool = True
    """False when the request forbids it."""


class Script(NamedTuple):
    """One choice of an answer. ``stop``: stop, length, sequence, calls or refusal."""

    hidden: int
    thinking: list[str]
    text: list[str]
    calls: list[Call]
    stop: str
    sequence: str | None = None

    @property
    def thought(self) -> str:
        return "".join(self.thinking)

    @property
    def said(self) -> str:
        return "".join(self.text)


def token(start: int, index: int) -> str:
    """The text of one token: a word, and a space before it unless it is the first."""
    word = WORDS[(start + index) % len(WORDS)]
    return " " + word if index else word


def seed(last: str) -> int:
    """Where in `WORDS` the answer to a last text begins."""
    return zlib.crc32(last.encode("utf-8", "surrogatepass"))


def words(value: Any) -> int:
    """Words in all texts of a JSON value: of a string its own, of a list or content part the sum; an integer is one."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, list):
        return sum(words(item) for item in value)
    if isinstance(value, dict):
        return words(value.get("text")) + words(value.get("content")) + words(value.get("output"))
    return 1 if isinstance(value, int) else 0


def last_text(value: Any) -> str:
    """The last text of a message's content; empty without one."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return last_text(next((value[key] for key in ("text", "content", "output") if value.get(key)), ""))
    if isinstance(value, list):
        return next((found for item in reversed(value) if (found := last_text(item))), "")
    return ""


def fitting(schema: Any, text: str, number: int = 1) -> Any:
    """A value that fits a simple JSON schema: `number` tells the value of one call from that of another."""
    return _fitting(schema, text if number == 1 else f"{text} {number}", number, schema)


def _fitting(schema: Any, text: str, number: int, root: Any) -> Any:
    if not isinstance(schema, dict):
        return text
    if isinstance(reference := schema.get("$ref"), str):
        found = root
        for part in reference.removeprefix("#").strip("/").split("/"):
            found = found.get(part, {}) if isinstance(found, dict) and part else found
        return _fitting(found, text, number, root) if found is not schema else None
    if "const" in schema:
        return schema["const"]
    if choices := schema.get("enum"):
        return choices[(number - 1) % len(choices)]
    for several in ("anyOf", "oneOf", "allOf"):
        if schema.get(several):
            return _fitting(schema[several][0], text, number, root)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        properties = schema.get("properties")
        if isinstance(properties, dict):
            return {name: _fitting(inner, text, number, root) for name, inner in properties.items()}
        return {"text": text}
    if kind == "array":
        return [_fitting(schema.get("items", {"type": "string"}), text, number, root)] * max(1, schema.get("minItems", 1))
    if kind in ("integer", "number"):
        return max(number, schema.get("minimum", number))
    if kind == "boolean":
        return number % 2 == 1
    return None if kind == "null" else text[: schema.get("maxLength", len(text))]


def calls(asked: Asked, behaviour: Behaviour) -> list[Call]:
    """The calls that the answer makes in place of text."""
    wanted = behaviour.calls or (1 if behaviour.base == "sim-tool" or asked.choice not in (None, "none") else 0)
    if not wanted or asked.choice == "none" or asked.answered:
        return []
    tools = asked.tools or [Tool("none", None)]
    if asked.choice is not None and asked.choice.startswith("="):
        tools = [tool for tool in tools if tool.name == asked.choice[1:]] or tools
    text = asked.last[:LONGEST]
    made = []
    for number in range(1, (wanted if asked.parallel else 1) + 1):
        tool = tools[(number - 1) % len(tools)]
        schema = tool.parameters if isinstance(tool.parameters, dict) else {"type": "object"}
        arguments = msgspec.json.encode(fitting({"type": "object", **schema}, text, number)).decode()
        if behaviour.unfinished and number == wanted:
            arguments = arguments[: len(arguments) // 2]
        made.append(Call(f"{asked.entries}_{number}", tool.name, arguments))
    return made


def pieces(text: str, size: int = PIECE) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def written(asked: Asked, behaviour: Behaviour, choice: int = 0) -> Script:
    """What one choice says."""
    limit = behaviour.tokens if asked.limit is None else asked.limit
    each = min(limit, behaviour.tokens)
    start = seed(asked.last) + choice
    hidden = min(behaviour.reasoning, each)
    shown = min(behaviour.thinking, each - hidden) if asked.thinks else 0
    thinking = [token(start + THINKING, index) for index in range(shown)]
    rest = limit - hidden - shown
    made = calls(asked, behaviour)
    if made:
        return Script(hidden, thinking, [token(start, index) for index in range(behaviour.preface)], made, "calls")
    if behaviour.refusal:
        first, *others = REFUSAL.split(" ")
        return Script(hidden, thinking, [first, *(" " + word for word in others)], [], "refusal")
    if asked.schema is not None:
        said = pieces(msgspec.json.encode(fitting({"type": "object", **asked.schema}, asked.last[:LONGEST])).decode())
        if asked.limit is not None and len(said) > rest:
            return Script(hidden, thinking, said[: max(rest, 0)], [], "length")
        return Script(hidden, thinking, said, [], "stop")
    said = [token(start, index) for index in range(each - hidden - shown)]
    if asked.stops:
        whole = "".join(said)
        found = min(((whole.find(stop), stop) for stop in asked.stops if stop and stop in whole), default=None)
        if found is not None:
            return Script(hidden, thinking, _until(said, found[0]), [], "sequence", found[1])
    return Script(hidden, thinking, said, [], "length" if limit < behaviour.tokens else "stop")


def _until(said: list[str], end: int) -> list[str]:
    kept, length = [], 0
    for piece in said:
        if length + len(piece) >= end:
            kept.append(piece[: end - length])
            break
        kept.append(piece)
        length += len(piece)
    return [piece for piece in kept if piece]


def counted(asked: Asked, behaviour: Behaviour, scripts: list[Script]) -> Usage:
    """The usage of an answer: calls count as many tokens as the model's text would, every other text its own."""
    prompt = (asked.prompt or 1) if behaviour.input is None else behaviour.input
    each = behaviour.tokens if asked.limit is None else min(asked.limit, behaviour.tokens)
    completion = sum(each if script.calls else script.hidden + len(script.thinking) + len(script.text) for script in scripts)
    cached = min(behaviour.cached, prompt)
    written = min(behaviour.cache_write, prompt - cached)
    long_written = min(behaviour.cache_write_1h, prompt - cached - written)
    return Usage(prompt, completion, cached, sum(script.hidden + len(script.thinking) for script in scripts), written, long_written)


def text(start: int, count: int) -> str:
    """``count`` words of `WORDS` from ``start`` on, joined by spaces."""
    return "".join(token(start, index) for index in range(count))
