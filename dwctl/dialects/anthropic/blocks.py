"""The content blocks of an answer, and what ends it, between Anthropic's words and the canonical ones."""

from typing import Any

from dwctl.dialects.answers import Finish
from dwctl.dialects.names import DialectName
from dwctl.dialects.signatures import wrap

STOPS: dict[str, Finish] = {
    "end_turn": "stop",
    "max_tokens": "length",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "refusal",
    "model_context_window_exceeded": "context_overflow",
}
_REASONS = {finish: reason for reason, finish in STOPS.items()}


def stop_reason(finish: Finish | None, *, called: bool, refused: bool) -> str:
    """Why the answer ended: ``called`` and ``refused`` say what was in it, which some providers' words do not."""
    if finish in (None, "stop", "tool_calls"):
        return "tool_use" if called else "refusal" if refused else "end_turn"
    return _REASONS.get(finish, "end_turn")


def ending(reason: str | None, sequence: str | None) -> dict[str, Any]:
    """The fields that say so."""
    details = {"type": "refusal", "category": None, "explanation": None} if reason == "refusal" else None
    return {"stop_reason": reason, "stop_sequence": sequence if reason == "stop_sequence" else None, "stop_details": details}


def explanation(details: Any) -> str:
    """Why the model refused, in words, if it said so."""
    found = details.get("explanation") if isinstance(details, dict) else None
    return found if isinstance(found, str) else ""


def signature(origin: DialectName | None, signed: str | None, id: str | None, redacted: bool, summary: bool) -> str:
    """What the client is to bring back: Anthropic's own signature, or another provider's in an envelope."""
    if origin == "anthropic" and signed:
        return signed
    return wrap(origin, signed, id=id, redacted=redacted, summary=summary)


def citations_of(annotations: list[Any] | None) -> list[dict[str, Any]]:
    """Pages that a text cites, from OpenAI's shape."""
    found = []
    for annotation in annotations or []:
        cited = annotation.get("url_citation", annotation) if isinstance(annotation, dict) else None
        if isinstance(cited, dict) and isinstance(url := cited.get("url"), str):
            title = cited.get("title")
            found.append(
                {
                    "type": "web_search_result_location",
                    "url": url,
                    "title": title if isinstance(title, str) else None,
                    "cited_text": "",
                    "encrypted_index": "",
                }
            )
    return found


def annotations_of(citations: Any, end: int) -> list[Any]:
    """The other way round; ``end`` is the length of the text that cites. A place in a document has no such annotation."""
    return [
        {
            "type": "url_citation",
            "url_citation": {"url": citation["url"], "title": citation.get("title") or "", "start_index": 0, "end_index": end},
        }
        for citation in (citations if isinstance(citations, list) else [])
        if isinstance(citation, dict) and isinstance(citation.get("url"), str)
    ]
