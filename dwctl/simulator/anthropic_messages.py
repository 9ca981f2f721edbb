"""The messages of a request to Anthropic: their blocks by themselves, and in what order they may come."""

import re
from typing import Any

from dwctl.simulator.signing import opened, signed
from dwctl.simulator.wire import Refused

BLOCKS: dict[str, tuple[set[str], set[str]]] = {
    "text": ({"text"}, {"cache_control", "citations"}),
    "image": ({"source"}, {"cache_control", "transformations"}),
    "document": ({"source"}, {"cache_control", "citations", "context", "title"}),
    "search_result": ({"source", "title", "content"}, {"cache_control", "citations"}),
    "thinking": ({"thinking", "signature"}, set()),
    "redacted_thinking": ({"data"}, set()),
    "tool_use": ({"id", "name", "input"}, {"cache_control", "caller", "toolset_name"}),
    "tool_result": ({"tool_use_id"}, {"cache_control", "content", "is_error", "toolset_name"}),
}
"""The content blocks that are checked: members that must be there, and that may."""
SERVER = {
    "server_tool_use", "web_search_tool_result", "web_fetch_tool_result", "code_execution_tool_result", "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result", "tool_search_tool_result", "container_upload", "mcp_tool_use", "mcp_tool_result",
}  # fmt: skip
"""The blocks of tools that run at the provider: known, and not looked into."""
SOURCES = {
    "image": {"base64": {"media_type", "data"}, "url": {"url"}, "file": {"file_id"}},
    "document": {
        "base64": {"media_type", "data"}, "text": {"media_type", "data"}, "content": {"content"}, "url": {"url"}, "file": {"file_id"},
    },
}  # fmt: skip
IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
CALL_ID = re.compile(r"[a-zA-Z0-9_-]+")
THOUGHTS = ("thinking", "redacted_thinking")


def must(good: bool, message: str) -> None:
    """Raises `Refused` with this message unless all is good."""
    if not good:
        raise Refused(400, message)


def only(holder: dict[str, Any], known: set[str], at: str) -> None:
    """Raises `Refused` for a member that is not known; ``at`` is what stands before its name."""
    for name in holder:
        must(name in known, f"{at}{name}: Extra inputs are not permitted")


def check_block(block: Any, at: str) -> None:
    """One content block by itself."""
    must(isinstance(block, dict), f"{at[:-1]}: Input should be an object")
    kind = block.get("type")
    if kind in SERVER:
        return
    tags = ", ".join(f"'{name}'" for name in sorted({*BLOCKS, *SERVER}))
    must(kind is not None, f"{at}type: Field required")
    must(kind in BLOCKS, f"{at[:-1]}: Input tag '{kind}' found using 'type' does not match any of the expected tags: {tags}")
    needed, allowed = BLOCKS[kind]
    for name in sorted(needed):
        must(name in block, f"{at}{kind}.{name}: Field required")
    only(block, {"type", *needed, *allowed}, f"{at}{kind}.")
    for name in ("text", "thinking", "signature", "data", "id", "name", "tool_use_id"):
        must(isinstance(block.get(name, ""), str), f"{at}{kind}.{name}: Input should be a valid string")
    if kind == "text":
        where = at.split(".")[0]
        must(bool(block["text"]), f"{where}: text content blocks must be non-empty")
        must(bool(block["text"].strip()), f"{where}: text content blocks must contain non-whitespace text")
    elif kind in SOURCES:
        _source(block["source"], kind, f"{at}{kind}.source.")
    elif kind == "tool_use":
        must(bool(CALL_ID.fullmatch(block["id"])), f"{at}tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
        must(bool(TOOL_NAME.fullmatch(block["name"])), f"{at}tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        must(isinstance(block["input"], dict), f"{at}tool_use.input: Input should be an object")
    elif kind == "thinking":
        must(signed(block["thinking"], block["signature"]), f"{at[:-1]}: Invalid `signature` in `thinking` block")
    elif kind == "redacted_thinking":
        must(opened(block["data"]) is not None, f"{at[:-1]}: Invalid `data` in `redacted_thinking` block")
    elif kind == "tool_result" and not isinstance(block.get("content", ""), str):
        must(isinstance(block["content"], list), f"{at}tool_result.content: Input should be a valid list")
        for index, inner in enumerate(block["content"]):
            found = inner.get("type") if isinstance(inner, dict) else None
            tags = "'document', 'image', 'search_result', 'text', 'tool_reference'"
            must(
                found in ("text", "image", "document", "search_result"),
                f"{at}tool_result.content.{index}: Input tag '{found}' found using 'type' does not match any of the expected tags: {tags}",
            )
            check_block(inner, f"{at}tool_result.content.{index}.")


def _source(source: Any, kind: str, at: str) -> None:
    must(isinstance(source, dict), f"{at[:-1]}: Input should be an object")
    known = SOURCES[kind]
    tag = source.get("type")
    tags = ", ".join(f"'{name}'" for name in known)
    must(tag in known, f"{at[:-1]}: Input tag '{tag}' found using 'type' does not match any of the expected tags: {tags}")
    for name in known[tag]:
        must(name in source, f"{at}{tag}.{name}: Field required")
    only(source, {"type", *known[tag]}, f"{at}{tag}.")
    if kind == "image" and tag == "base64":
        must(
            source["media_type"] in IMAGES, f"{at}base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"
        )


def read_messages(messages: Any, thinking: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages as they are; raises `Refused` for what Anthropic refuses. ``thinking`` is the request's setting."""
    must(isinstance(messages, list), "messages: Input should be a valid list")
    must(bool(messages), "messages: at least one message is required")
    for index, message in enumerate(messages):
        at = f"messages.{index}."
        must(isinstance(message, dict), f"messages.{index}: Input should be an object")
        for name in ("role", "content"):
            must(name in message, f"{at}{name}: Field required")
        only(message, {"role", "content"}, at)
        role, content = message["role"], message["content"]
        must(role in ("user", "assistant", "system"), f"{at}role: Input should be 'user', 'assistant' or 'system'")
        final = role == "assistant" and index == len(messages) - 1
        must(isinstance(content, str | list), f"{at}content: Input should be a valid list")
        must(
            bool(content) or final,
            f"messages.{index}: all messages must have non-empty content except for the optional final assistant message",
        )
        for number, block in enumerate(content if isinstance(content, list) else []):
            check_block(block, f"{at}content.{number}.")
            kind = block["type"]
            must(role == "user" or kind != "tool_result", f"{at}content.{number}: `tool_result` blocks can only be in `user` messages")
            must(
                role == "assistant" or kind not in ("tool_use", *THOUGHTS),
                f"{at}content.{number}: `{kind}` blocks can only be in `assistant` messages",
            )
            must(role != "system" or kind == "text", f"{at}content.{number}.type: Input should be 'text'")
        if final and isinstance(content, str):
            must(content == content.rstrip(), "messages: final assistant content cannot end with trailing whitespace")
    _order(messages, thinking)
    return list(messages)


def check_newest(messages: list[dict[str, Any]]) -> None:
    """What the version of October 2026 no longer takes."""
    for index, message in enumerate(messages):
        for number, block in enumerate(message["content"] if isinstance(message["content"], list) else []):
            at = f"messages.{index}.content.{number}"
            must(
                message["role"] != "assistant" or block["type"] != "document",
                f"{at}: `document` blocks are not permitted in `assistant` messages",
            )
            must(
                message["role"] != "user" or not block.get("citations") or block["type"] != "text",
                f"{at}.text.citations: Extra inputs are not permitted",
            )


def _order(messages: list[dict[str, Any]], thinking: dict[str, Any]) -> None:
    """Calls and their results, thoughts and what follows them. Consecutive messages of one role are one turn."""
    turns: list[tuple[int, str, list[Any]]] = []
    for index, message in enumerate(messages):
        if message["role"] == "system":
            continue
        blocks = message["content"] if isinstance(message["content"], list) else [{"type": "text"}]
        if turns and turns[-1][1] == message["role"]:
            turns[-1][2].extend(blocks)
        else:
            turns.append((index, message["role"], list(blocks)))
    called: list[str] = []
    seen: set[str] = set()
    for place, (index, role, blocks) in enumerate(turns):
        kinds = [block["type"] for block in blocks]
        if role == "assistant":
            if any(kind in THOUGHTS for kind in kinds):
                must(
                    kinds[0] in THOUGHTS,
                    f"messages.{index}.content: If an assistant message contains any thinking blocks, the first block must be "
                    f"`thinking` or `redacted_thinking`. Found `{kinds[0]}`.",
                )
                must(kinds[-1] not in THOUGHTS, f"messages.{index}: The final block in an assistant message cannot be `thinking`.")
            elif thinking.get("type") == "enabled" and "tool_use" in kinds and place >= len(turns) - 2:
                raise Refused(
                    400,
                    f"messages.{index}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{kinds[0]}`. When "
                    "`thinking` is enabled, "
                    "a final `assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use` and "
                    "`tool_result` blocks).",
                )
            called = [block["id"] for block in blocks if block["type"] == "tool_use"]
            for name in called:
                must(name not in seen, "messages: `tool_use` ids must be unique")
                seen.add(name)
            if called and place + 1 == len(turns):
                raise _unanswered(index, called)
            continue
        answered: list[str] = []
        for number, block in enumerate(blocks):
            if block["type"] != "tool_result":
                continue
            name = block["tool_use_id"]
            must(
                name in called,
                f"messages.{index}.content.{number}: unexpected `tool_use_id` found in `tool_result` blocks: {name}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous message.",
            )
            must(
                name not in answered,
                f"messages.{index}.content.{number}: each tool_use must have a single result. Found multiple "
                f"`tool_result` blocks with id: {name}",
            )
            if all(kind == "tool_result" for kind in kinds[:number]):
                answered.append(name)
        if missing := [name for name in called if name not in answered]:
            raise _unanswered(index - 1, missing)
        called = []


def _unanswered(index: int, names: list[str]) -> Refused:
    return Refused(
        400,
        f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: {', '.join(names)}. "
        "Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
    )
