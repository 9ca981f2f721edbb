"""OpenAI requests, read once and passed on byte for byte (API reference: chat completions, completions, embeddings).

The top level is decoded into raw values; ``model`` and, for streams, ``stream_options.include_usage`` are replaced and the rest is
joined as it came, spelling of numbers and escapes included. A foreign body is never refused for a field that is not known here.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from dwctl.dialects import openai_errors
from dwctl.errors import bad_request

_TOP_LEVEL = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_ANY = msgspec.json.Decoder()
_CLIENT_IDS = frozenset({"id", "completion_id", "completionId", "response_id", "responseId"})
"""Ids are ours to give; a client cannot choose them."""
TOKENS_PER_MEDIA_PART = 16_384
"""Bound on what one image, audio or file part can cost in input tokens."""
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7][0-9a-fA-F]")
"""ASCII spelt as an escape: nobody needs it, and it could hide a word."""
_MEDIA = ("image", "audio", "file", "video")


class ModelRequest:
    """The facts of one request that the gateway decides by.

    ``fields`` raw JSON values of the top level; ``stream`` the client wants events; ``wants_usage`` it asked for the usage
    chunk; ``choices`` the number of answers; ``max_output`` bound on output tokens per choice that it named, or None.
    """

    __slots__ = ("choices", "fields", "max_output", "model", "stream", "wants_usage")

    def __init__(self, fields: dict[str, msgspec.Raw], model: str) -> None:
        self.fields = fields
        self.model = model
        self.stream = bytes(fields["stream"]) == b"true" if "stream" in fields else False
        self.wants_usage = False
        if self.stream and (options := fields.get("stream_options")) is not None:
            decoded = _lenient(options)
            self.wants_usage = isinstance(decoded, dict) and decoded.get("include_usage") is True
        self.choices = max(1, _integer(fields.get("n")) or 1, _integer(fields.get("best_of")) or 1)
        limit = _integer(fields.get("max_completion_tokens"))
        self.max_output = limit if limit is not None else _integer(fields.get("max_tokens"))


def _lenient(raw: msgspec.Raw) -> Any:
    try:
        return _ANY.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def _integer(raw: msgspec.Raw | None) -> int | None:
    if raw is None:
        return None
    value = _lenient(raw)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 13:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40 else None


def parse(body: bytes, override: str | None = None) -> ModelRequest:
    """Read a JSON body; ``override`` is the model that a header names, which wins. Raises GatewayError 400."""
    try:
        fields = _TOP_LEVEL.decode(body)
    except msgspec.ValidationError:
        raise bad_request("Request body must be a JSON object.") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        if "surrogate" in str(error):
            raise bad_request("Request body holds half of a surrogate pair (\\ud800 to \\udfff), which is not text.") from None
        raise openai_errors.not_json() from None
    if override is not None:
        return ModelRequest(fields, override)
    try:
        model = _TEXT.decode(fields["model"])
    except KeyError:
        raise openai_errors.no_model() from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise bad_request("'model' must be a string of valid text.", param="model") from None
    if not model:
        raise openai_errors.no_model()
    return ModelRequest(fields, model)


def outgoing(request: ModelRequest, upstream_model: bytes, *, ask_usage: bool, max_tokens: int | None = None) -> bytes:
    """The body for the provider: ``model`` (JSON text) replaced, client ids dropped, usage asked for in streams.

    ``max_tokens`` is written only where the request has no bound of its own.
    """
    parts = []
    for name, raw in request.fields.items():
        if name == "model":
            parts.append(b'"model":' + upstream_model)
        elif name == "stream_options" and ask_usage:
            continue
        elif name not in _CLIENT_IDS:
            parts.append(msgspec.json.encode(name) + b":" + bytes(raw))
    if "model" not in request.fields:
        parts.append(b'"model":' + upstream_model)  # a header named it
    if ask_usage:
        parts.append(b'"stream_options":' + _with_usage(request.fields.get("stream_options")))
    if max_tokens is not None:
        parts.append(b'"max_tokens":%d' % max_tokens)
    return b"{" + b",".join(parts) + b"}"


def _with_usage(raw: msgspec.Raw | None) -> bytes:
    try:
        options: Mapping[str, msgspec.Raw] = _TOP_LEVEL.decode(raw) if raw is not None else {}
    except (msgspec.DecodeError, RecursionError):
        options = {}
    kept = [msgspec.json.encode(name) + b":" + bytes(value) for name, value in options.items() if name != "include_usage"]
    return b"{" + b",".join([*kept, b'"include_usage":true']) + b"}"


def input_bound(body: bytes) -> int | None:
    """Bound on the input tokens by size alone: a token is at least a byte. None if the body may hold media, whose cost is not its size."""
    if b"image" in body or b"audio" in body or b"file" in body or b"video" in body or _ESCAPED_LETTER.search(body):
        return None
    return len(body)


def prompts(request: ModelRequest) -> int:
    """How many prompts a text completion holds, each of which is answered ``choices`` times; a list of token ids is one."""
    raw = request.fields.get("prompt")
    if raw is None or not bytes(raw).startswith(b"["):
        return 1
    prompt = _lenient(raw)
    return max(1, len(prompt)) if isinstance(prompt, list) and not all(isinstance(item, int) for item in prompt) else 1


def input_text(request: ModelRequest) -> tuple[str, int]:
    """All text that a model reads (messages, tools, schemas, prompt, input), and the number of media parts beside it."""
    texts: list[str] = []
    media = 0
    for name in ("messages", "prompt", "input", "tools", "functions", "response_format", "query", "documents"):
        if (raw := request.fields.get(name)) is not None:
            if name in ("tools", "functions", "response_format"):
                texts.append(bytes(raw).decode("utf-8", "replace"))
            else:
                media += _collect(_lenient(raw), texts)
    return "\n".join(texts), media


def _collect(value: Any, texts: list[str]) -> int:
    media = 0
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, int) and not isinstance(item, bool):
            texts.append(" x")  # a token id counts as one token
        elif isinstance(item, list):
            pending.extend(reversed(item))
        elif isinstance(item, dict):
            kind = item.get("type")
            if isinstance(kind, str) and any(word in kind for word in _MEDIA):
                media += 1
            else:
                pending.extend(part for key, part in item.items() if key != "type")
    return media
