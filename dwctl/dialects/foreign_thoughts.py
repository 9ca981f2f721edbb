"""Thoughts of other providers in a request that is otherwise passed on as it came.

Where a conversation moves from one model to another, its client brings back what the models before have thought, in the gateway's
envelope (`signatures`). A provider of the client's own dialect refuses that: it takes only what it has signed itself.
"""

from typing import Any

import msgspec

from dwctl.dialects import signatures
from dwctl.dialects.names import DialectName
from dwctl.dialects.raw_request import ModelRequest

_TURNS: dict[DialectName, str] = {"anthropic": "messages", "openai-responses": "input"}
"""Where the dialects that hand thoughts back have them."""
_CARRIERS = ("signature", "data", "encrypted_content")


def without(request: ModelRequest) -> tuple[ModelRequest, int]:
    """The request without them, and how many there were; all its other fields are as they came."""
    name = _TURNS.get(request.dialect, "")
    raw = request.fields.get(name)
    if raw is None or not signatures.occurs_in(bytes(raw)):
        return request, 0
    try:
        turns = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return request, 0  # the provider says what is wrong with it
    kept = _kept(turns)
    left_out = _count(turns) - _count(kept)
    if not left_out:
        return request, 0
    fields = {**request.fields, name: msgspec.Raw(msgspec.json.encode(kept))}
    if request.dialect == "anthropic" and _is_loop_without_thought(kept, fields.get("thinking")):
        del fields["thinking"]
    return ModelRequest(fields, request.model, request.dialect), left_out


def _kept(entries: Any) -> Any:
    """Messages, items or blocks that are no such thought, and that held more than such thoughts."""
    if not isinstance(entries, list):
        return entries
    kept = []
    for entry in entries:
        if not isinstance(entry, dict):
            kept.append(entry)
        elif not any(isinstance(value := entry.get(name), str) and signatures.is_wrapped(value) for name in _CARRIERS):
            content = _kept(entry.get("content"))
            if content or not entry.get("content"):
                kept.append({**entry, "content": content} if "content" in entry else entry)
    return kept


def _count(entries: Any) -> int:
    if not isinstance(entries, list):
        return 0
    return sum(_count(entry["content"]) if isinstance(entry.get("content"), list) else 1 for entry in entries if isinstance(entry, dict))


def _is_loop_without_thought(messages: list[Any], thinking: msgspec.Raw | None) -> bool:
    """Whether results of calls go back to a turn that has lost its thought, which thinking with a budget does not take."""
    asked = msgspec.json.decode(thinking) if thinking is not None else None
    if not (isinstance(asked, dict) and asked.get("type") == "enabled"):
        return False
    said = next(
        (entry.get("content") for entry in reversed(messages) if isinstance(entry, dict) and entry.get("role") == "assistant"), None
    )
    kinds = [block.get("type") for block in said if isinstance(block, dict)] if isinstance(said, list) else []
    return "tool_use" in kinds and kinds[0] not in ("thinking", "redacted_thinking")
