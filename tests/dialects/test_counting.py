"""What a request comes to in tokens, where its provider cannot be asked."""

from typing import Any

import pytest

from dwctl.dialects import anthropic
from dwctl.dialects.counting import TOKENS_PER_DOCUMENT, TOKENS_PER_PICTURE, text_and_media

PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO" * 9999}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE" * 9999}}
NOTES = {"type": "document", "title": "notes", "source": {"type": "text", "media_type": "text/plain", "data": "Bring umbrellas"}}


def counted(*content: dict[str, Any], role: str = "user", **fields: Any) -> tuple[str, int]:
    body = {"model": "m", "messages": [{"role": role, "content": list(content)}], **fields}
    return text_and_media(anthropic.parse_count_request(body))


@pytest.mark.parametrize(("block", "tokens"), [(PICTURE, TOKENS_PER_PICTURE), (PDF, TOKENS_PER_DOCUMENT), (NOTES, 0)])
def test_pictures_and_documents(block: dict[str, Any], tokens: int) -> None:
    for shown in (block, {"type": "tool_result", "tool_use_id": "t", "content": [block]}):
        text, media = counted(shown, {"type": "text", "text": "Hi"})
        assert media == tokens
        assert len(text) < 30
        assert ("umbrellas" in text) == (block is NOTES)


def test_all_that_a_model_reads_is_counted() -> None:
    thought = {"type": "thinking", "thinking": "a thought", "signature": ""}
    call = {"type": "tool_use", "id": "t", "name": "clock", "input": {"zone": "Paris"}}
    tool = {"name": "clock", "description": "the time", "input_schema": {"type": "object", "properties": {"zone": {}}}}
    form = {"format": {"type": "json_schema", "schema": {"type": "object", "title": "shape"}}}
    text, _ = counted(thought, call, role="assistant", system="Be brief.", tools=[tool], output_config=form)
    for said in ("Be brief.", "a thought", "clock", '{"zone":"Paris"}', "the time", '"properties"', "shape"):
        assert said in text


def test_what_nobody_reads_is_not() -> None:
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}

    def said(signature: str, call_id: str, **more: Any) -> tuple[str, int]:
        thought = {"type": "thinking", "thinking": "a thought", "signature": signature}
        call = {"type": "tool_use", "id": call_id, "name": "clock", "input": {}, **more}
        hidden = {"type": "redacted_thinking", "data": signature}
        return counted(thought, hidden, {"type": "text", "text": "Hi", **more}, call, role="assistant")

    assert said("s" * 9999, "toolu_" + "1" * 99, **mark) == said("s", "t")
