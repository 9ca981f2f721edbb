"""The spellings of reasoning: ``reasoning_content``, ``reasoning``, and ``reasoning_details`` (a list, which may carry signatures).

A provider that sends details with a signature or a ciphertext wants them back as they were: they are the signature of the
thought, as JSON text. A client gets the text as ``reasoning_content``, and details with an envelope (`signatures`) where
there is something that only the provider can say again.
"""

import json
from collections.abc import Iterable
from typing import Any

from dwctl.dialects import signatures
from dwctl.dialects.canonical import Reasoning

_TEXTS = {"reasoning.text": "text", "reasoning.summary": "summary"}
_GROWING = ("text", "summary", "data")


def text_of(message: dict[str, Any]) -> str:
    """What a message or a delta says of its reasoning; the same thought in several spellings counts once."""
    for name in ("reasoning_content", "reasoning"):
        if isinstance(value := message.get(name), str) and value:
            return value
    return "".join(_text(detail) for detail in details_of(message))


def details_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    details = message.get("reasoning_details")
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _text(detail: dict[str, Any]) -> str:
    value = detail.get(_TEXTS.get(str(detail.get("type")), "text"))
    return value if isinstance(value, str) else ""


class Details:
    """The details of one thought, put together from the pieces of a stream."""

    def __init__(self) -> None:
        self._items: list[dict[str, Any]] = []

    def add(self, pieces: Iterable[dict[str, Any]]) -> None:
        for piece in pieces:
            place = (piece.get("type"), piece.get("index"))
            last = self._items[-1] if self._items else None
            if last is None or (last.get("type"), last.get("index")) != place:
                self._items.append(dict(piece))
                continue
            for name, value in piece.items():
                if name in _GROWING and isinstance(value, str) and isinstance(last.get(name), str):
                    last[name] += value
                elif value is not None:
                    last[name] = value

    def signature(self) -> str | None:
        """JSON text of all of them, if the provider needs them back."""
        if any(item.get("signature") or item.get("data") for item in self._items):
            return json.dumps(self._items, ensure_ascii=False, separators=(",", ":"))
        return None

    def summary(self) -> bool:
        return any(item.get("type") == "reasoning.summary" for item in self._items)


def thoughts_of(message: dict[str, Any]) -> list[Reasoning]:
    """The thoughts of a whole message: of a client's history, where envelopes are opened, or of a provider's answer."""
    sealed, plain = [], Details()
    for detail in details_of(message):
        carried = detail.get("data") if detail.get("type") == "reasoning.encrypted" else detail.get("signature")
        if isinstance(carried, str) and signatures.is_wrapped(carried):
            sealed.append(signatures.unwrap(_text(detail), carried, "openai-chat"))
        else:
            plain.add([detail])
    if sealed:
        return sealed
    text, signature = text_of(message), plain.signature()
    if not text and signature is None:
        return []
    return [Reasoning(text, plain.summary(), signature, "openai-chat", redacted=not text)]


def given_back(thoughts: list[Reasoning]) -> dict[str, Any]:
    """The fields of an assistant's message for a provider: DeepSeek and Kimi want what the model thought before it called a tool."""
    fields: dict[str, Any] = {}
    if text := "".join(thought.text for thought in thoughts):
        fields["reasoning_content"] = text
    details: list[Any] = []
    for thought in thoughts:
        if thought.origin == "openai-chat" and thought.signature is not None:
            details += _items(thought.signature)
    if details:
        fields["reasoning_details"] = details
    return fields


def _items(signature: str) -> list[Any]:
    try:
        items = json.loads(signature)
    except (ValueError, RecursionError):
        return []
    return items if isinstance(items, list) else []


def shown(thoughts: list[Reasoning]) -> dict[str, Any]:
    """The fields of an answer's message for a client."""
    fields: dict[str, Any] = {}
    if text := "".join(thought.text for thought in thoughts):
        fields["reasoning_content"] = text
    if details := [detail for index, thought in enumerate(thoughts) if (detail := shown_detail(thought, index)) is not None]:
        fields["reasoning_details"] = details
    return fields


def shown_detail(thought: Reasoning, index: int) -> dict[str, Any] | None:
    """The detail that a client has to bring back with a thought, the text whole; None if there is nothing to bring back."""
    if thought.signature is None and thought.id is None and not thought.redacted:
        return None
    envelope = signatures.wrap(thought.origin, thought.signature, id=thought.id, redacted=thought.redacted, summary=thought.summary)
    detail: dict[str, Any] = {"index": index, "id": thought.id, "format": "dwctl-v1"}
    if not thought.text:
        return {"type": "reasoning.encrypted", "data": envelope, **detail}
    if thought.summary:
        return {"type": "reasoning.summary", "summary": thought.text, "signature": envelope, **detail}
    return {"type": "reasoning.text", "text": thought.text, "signature": envelope, **detail}
