"""What a request's input comes to in tokens, where its provider cannot be asked: its text, and typical figures for all else.

Signatures, ids and prompt-cache markers are nothing that a model reads.
"""

from typing import Any

from dwctl.dialects.canonical import File, Image, Part, Reasoning, Refusal, Request, Text, ToolCall, ToolResult
from dwctl.dialects.json_text import encode

TOKENS_PER_PICTURE = 1_600
"""What Anthropic's models take a picture for that is as large as they look at."""
TOKENS_PER_DOCUMENT = 3_000
"""A page or two of PDF, which is read as text and as a picture."""


def text_and_media(request: Request) -> tuple[str, int]:
    """All text that the model reads, and what the pictures and documents beside it come to in tokens."""
    texts: list[str] = []
    media = sum(_read(part, texts) for message in request.messages for part in message.parts)
    for tool in request.tools:
        said: dict[str, Any] = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
        texts.append(encode(said).decode())
    if request.output_format is not None:
        texts.append(encode(request.output_format.schema).decode())
    return "\n".join(texts), media


def _read(part: Part, texts: list[str]) -> int:
    match part:
        case Text() | Refusal() | Reasoning():
            texts.append(part.text)
        case ToolCall():
            texts += (part.name, part.arguments)
        case ToolResult():
            return sum(_read(inner, texts) for inner in part.parts)
        case Image():
            return TOKENS_PER_PICTURE
        case File():
            texts += (said for said in (part.name, part.context, part.text) if said)
            return TOKENS_PER_DOCUMENT if part.text is None else 0
    return 0
