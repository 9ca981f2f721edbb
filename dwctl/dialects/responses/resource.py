"""The response object: every field is there, at every moment, with what the client asked for repeated."""

from typing import Any

from dwctl.dialects.answers import Answering
from dwctl.dialects.canonical import Request
from dwctl.dialects.json_text import objects
from dwctl.dialects.usage import Usage

Item = dict[str, Any]

SERVICE_TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast", "ultrafast"})


def response_id(answering: Answering) -> str:
    return f"resp_{answering.digits}"


def resource(
    request: Request,
    answering: Answering,
    status: str,
    output: list[Item],
    *,
    usage: Usage | None = None,
    reason: str | None = None,
    error: Item | None = None,
    service_tier: str | None = None,
) -> Item:
    """``reason``: why the answer is incomplete; ``error``: ``code`` and ``message`` of one that failed."""
    said = request.echo
    return {
        "id": response_id(answering),
        "object": "response",
        "created_at": answering.created,
        "completed_at": answering.created if status == "completed" else None,
        "status": status,
        "background": said.get("background", False),
        "error": error,
        "incomplete_details": None if reason is None else {"reason": reason},
        "instructions": said.get("instructions"),
        "max_output_tokens": said.get("max_output_tokens"),
        "max_tool_calls": said.get("max_tool_calls"),
        "metadata": said.get("metadata", {}),
        "model": answering.model,
        "output": output,
        "parallel_tool_calls": said.get("parallel_tool_calls", True),
        "previous_response_id": said.get("previous_response_id"),
        "prompt_cache_key": said.get("prompt_cache_key"),
        "prompt_cache_retention": said.get("prompt_cache_retention"),
        "presence_penalty": said.get("presence_penalty", 0.0),
        "frequency_penalty": said.get("frequency_penalty", 0.0),
        "reasoning": {"effort": None, "summary": None, **said.get("reasoning", {})},
        "safety_identifier": said.get("safety_identifier"),
        "service_tier": service_tier if service_tier in SERVICE_TIERS else "default",
        "store": said.get("store", False),
        "temperature": said.get("temperature", 1.0),
        "text": _text(said.get("text", {})),
        "tool_choice": said.get("tool_choice", "auto"),
        "tools": [_tool(tool) for tool in said.get("tools", [])],
        "top_logprobs": said.get("top_logprobs", 0),
        "top_p": said.get("top_p", 1.0),
        "truncation": said.get("truncation", "disabled"),
        "usage": None if usage is None else usage_object(usage),
        "user": said.get("user"),
    }


def usage_object(usage: Usage) -> Item:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }


def _text(said: Item) -> Item:
    wanted = said.get("format") or {"type": "text"}
    if wanted.get("type") == "json_schema":
        wanted = {"description": None, **wanted, "strict": wanted.get("strict") or False}
    return {**said, "format": wanted}


def _tool(said: Item) -> Item:
    return {"description": None, "parameters": None, "strict": None, **said} if said.get("type") == "function" else said


def annotation_object(said: Any) -> Item | None:
    """A citation, flat as this dialect has it; None for one that says too little."""
    if not isinstance(said, dict):
        return None
    cited = {**said, **said["url_citation"]} if isinstance(said.get("url_citation"), dict) else said
    url, start, end = cited.get("url"), cited.get("start_index"), cited.get("end_index")
    if cited.get("type") != "url_citation" or not isinstance(url, str) or not isinstance(start, int) or not isinstance(end, int):
        return None
    title = cited.get("title")
    return {"type": "url_citation", "url": url, "title": title if isinstance(title, str) else "", "start_index": start, "end_index": end}


def logprob_objects(said: Any) -> list[Item]:
    """The probabilities of an answer's tokens, from chat's ``{"content": [...]}``."""
    tokens = objects(said, "content") if isinstance(said, dict) else []
    return [{**_logprob(token), "top_logprobs": [_logprob(other) for other in objects(token, "top_logprobs")]} for token in tokens]


def _logprob(token: Item) -> Item:
    text = str(token.get("token", ""))
    spelt = token.get("bytes")
    return {
        "token": text,
        "logprob": token.get("logprob", 0.0),
        "bytes": spelt if isinstance(spelt, list) else list(text.encode("utf-8", "replace")),
    }
