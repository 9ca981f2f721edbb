"""What the simulator says on OpenAI's paths but Responses, in literal templates: an ordinary text and everything that is no text.

This is the fast way of an ordinary chat; what it takes to do more than say a text is `chat`. Two functions let a test know
every answer beforehand:

- `prompt_tokens`: the number of whitespace-separated words in all texts of the request (messages, prompt, input,
  query and documents; a token id counts one), and at least 1.
- `completion_tokens`: ``min(max_tokens, tokens option)`` for each of the ``n`` choices.

Sources: OpenAI API reference (chat, completions, embeddings, models, images, audio); rerank as Jina, Cohere and vLLM have it.
"""

import base64
import hashlib
import struct
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal

import msgspec

from dwctl.simulator.behaviour import LISTED, Behaviour
from dwctl.simulator.script import WORDS, last_text, text, token, words
from dwctl.simulator.script import seed as seed_of
from dwctl.simulator.served import Usage

EMBEDDING_DIMENSIONS = 16
SPEECH = b"ID3\x04\x00\x00\x00\x00\x00\x00" + bytes(range(256)) * 16
"""The audio of every /audio/speech answer: 4,106 bytes of every value."""
IMAGE = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
"""The picture of every /images answer: a PNG of one pixel."""


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class Message(msgspec.Struct):
    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: Any = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None


class Query(msgspec.Struct):
    """The members of any JSON request that the simulator looks at. A type that is not OpenAI's is a 400, as there."""

    model: str
    messages: list[Message] | None = None
    prompt: Any = None
    input: Any = None
    query: str | None = None
    documents: list[Any] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    encoding_format: str | None = None
    dimensions: int | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    response_format: Any = None
    stop: Any = None
    logprobs: Any = None
    top_logprobs: int | None = None
    service_tier: str | None = None
    reasoning_effort: str | None = None
    top_n: int | None = None

    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


decode_query = msgspec.json.Decoder(Query).decode


def prompt_tokens(query: Query) -> int:
    """Prompt tokens of a request, unless the model's `input` option says otherwise."""
    if query.messages is not None:
        total = 0
        for message in query.messages:
            content = message.content
            total += len(content.split()) if type(content) is str else words(content)
        return total or 1
    return words(query.prompt) + words(query.input) + words(query.query) + words(query.documents) or 1


def completion_tokens(query: Query, behaviour: Behaviour) -> int:
    """Completion tokens of one choice. Of them, ``reasoning`` at most are thought."""
    asked = query.max_completion_tokens if query.max_completion_tokens is not None else query.max_tokens
    return behaviour.tokens if asked is None else min(asked, behaviour.tokens)


def choices(query: Query) -> int:
    """Number of choices: ``n`` for each prompt (a list of texts or of token lists is several prompts)."""
    count = 1 if query.n is None else query.n
    if isinstance(query.prompt, list) and query.prompt and isinstance(query.prompt[0], str | list):
        count *= len(query.prompt)
    return count


def usage_of(query: Query, behaviour: Behaviour) -> Usage:
    """The usage that a generated text reports."""
    prompt = prompt_tokens(query) if behaviour.input is None else behaviour.input
    each = completion_tokens(query, behaviour)
    count = choices(query)
    cached = min(behaviour.cached, prompt)
    written = min(behaviour.cache_write, prompt - cached)
    long_written = min(behaviour.cache_write_1h, prompt - cached - written)
    return Usage(prompt, each * count, cached, min(behaviour.reasoning, each) * count, written, long_written)


def seed(query: Query) -> int:
    """Where in `WORDS` the answer begins: a checksum of the last text of the request."""
    return seed_of(last_text(query.messages[-1].content if query.messages else query.prompt))


@lru_cache(maxsize=1024)
def _text_json(start: int, count: int) -> bytes:
    return msgspec.json.encode(text(start, count))


_NEXT_JSON = [msgspec.json.encode(" " + word) for word in WORDS]


@lru_cache(maxsize=4096)
def _json_text(value: str) -> bytes:
    return msgspec.json.encode(value)


ids = iter(range(1, 1 << 62))
_USAGE = (
    b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,'
    b'"prompt_tokens_details":{"cached_tokens":%d%b},"completion_tokens_details":{"reasoning_tokens":%d}}'
)


def usage_json(usage: Usage) -> bytes:
    written = usage.cache_write + usage.cache_write_1h
    more = b',"cache_write_tokens":%d' % written if written else b""
    return _USAGE % (usage.prompt, usage.completion, usage.prompt + usage.completion, usage.cached, more, usage.reasoning)


def finish_reason(query: Query, behaviour: Behaviour) -> bytes:
    asked = query.max_completion_tokens if query.max_completion_tokens is not None else query.max_tokens
    return b"length" if asked is not None and asked < behaviour.tokens else b"stop"


def text_body(query: Query, behaviour: Behaviour, chat: bool, usage: Usage | None) -> bytes:
    """The JSON body of a chat completion or text completion; without usage where none is given."""
    shown = completion_tokens(query, behaviour) - min(behaviour.reasoning, completion_tokens(query, behaviour))
    start = seed(query)
    reason = finish_reason(query, behaviour)
    parts = []
    for index in range(choices(query)):
        if not chat:
            parts.append(b'{"index":%d,"text":%b,"logprobs":null,"finish_reason":"%b"}' % (index, _text_json(start + index, shown), reason))
        else:
            parts.append(
                b'{"index":%d,"message":{"role":"assistant","content":%b,"refusal":null},"logprobs":null,"finish_reason":"%b"}'
                % (index, _text_json(start + index, shown), reason)
            )
    return b'{"id":"%b-%d","object":"%b","created":%d,"model":%b,"choices":[%b]%b}' % (
        b"chatcmpl" if chat else b"cmpl",
        next(ids),
        b"chat.completion" if chat else b"text_completion",
        int(time.time()),
        _json_text(query.model),
        b",".join(parts),
        b"" if usage is None else b',"usage":' + usage_json(usage),
    )


class Events:
    """The JSON payloads of one stream, in order: `body` one by one, then `tail`, which holds the finish reasons on."""

    def __init__(self, query: Query, behaviour: Behaviour, chat: bool, usage: Usage | None) -> None:
        """``usage``: what the last chunk reports; None if it reports none."""
        self._query, self._behaviour, self._chat, self._usage = query, behaviour, chat, usage
        self.tokens = completion_tokens(query, behaviour)
        self.choices = choices(query)
        self._start = b'{"id":"%b-%d","object":"%b","created":%d,"model":%b,"choices":[' % (
            b"chatcmpl" if chat else b"cmpl",
            next(ids),
            b"chat.completion.chunk" if chat else b"text_completion",
            int(time.time()),
            _json_text(query.model),
        )
        # OpenAI writes "usage":null into every other chunk of a stream whose usage was asked for.
        self._end = b'],"usage":null' if usage is not None else b"]"

    def lead(self) -> list[bytes]:
        """The chunks before the first token: the role of each choice."""
        if not self._chat:
            return []
        return [
            b'%b{"index":%d,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}%b}'
            % (self._start, index, self._end)
            for index in range(self.choices)
        ]

    def body(self) -> Iterator[list[bytes]]:
        """For each token position the chunks of all choices; no chunk for a token of reasoning."""
        thought = min(self._behaviour.reasoning, self.tokens)
        before = b'"delta":{"content":' if self._chat else b'"text":'
        after = (b"}" if self._chat else b"") + b',"logprobs":null,"finish_reason":null}' + self._end + b"}"
        heads = [self._start + b'{"index":%d,' % index + before for index in range(self.choices)]
        start = seed(self._query)
        size = len(_NEXT_JSON)
        for position in range(self.tokens):
            if position < thought:
                yield []
            elif position == thought:
                yield [head + msgspec.json.encode(token(start + index, 0)) + after for index, head in enumerate(heads)]
            else:
                at = start + position - thought
                yield [head + _NEXT_JSON[(at + index) % size] + after for index, head in enumerate(heads)]

    def tail(self) -> list[bytes]:
        """The chunks after the last token: each choice's finish reason, then the usage chunk if it was asked for."""
        reason = finish_reason(self._query, self._behaviour)
        payload = b'"delta":{}' if self._chat else b'"text":""'
        chunks = [
            b'%b{"index":%d,%b,"logprobs":null,"finish_reason":"%b"}%b}' % (self._start, index, payload, reason, self._end)
            for index in range(self.choices)
        ]
        if self._usage is not None:
            chunks.append(b'%b],"usage":%b}' % (self._start, usage_json(self._usage)))
        return chunks


def vector(value: Any, dimensions: int) -> list[float]:
    """The embedding of one input: multiples of 1/128 in [-1, 1), so that JSON and base64 carry the same numbers."""
    digest = hashlib.shake_128(msgspec.json.encode(value)).digest(dimensions)
    return [(byte - 128) / 128 for byte in digest]


def embeddings_body(query: Query, behaviour: Behaviour) -> tuple[bytes, Usage]:
    """The body of /embeddings, one vector an input, as JSON numbers or base64 of little-endian float32."""
    inputs = query.input if isinstance(query.input, list) else [query.input]
    if inputs and isinstance(inputs[0], int):
        inputs = [inputs]
    dimensions = query.dimensions or EMBEDDING_DIMENSIONS
    parts = []
    for index, value in enumerate(inputs):
        numbers = vector(value, dimensions)
        if query.encoding_format == "base64":
            shown = b'"' + base64.b64encode(struct.pack(f"<{dimensions}f", *numbers)) + b'"'
        else:
            shown = msgspec.json.encode(numbers)
        parts.append(b'{"object":"embedding","index":%d,"embedding":%b}' % (index, shown))
    usage = Usage(prompt_tokens(query) if behaviour.input is None else behaviour.input, 0)
    reported = b"" if behaviour.base == "sim-nousage" else b',"usage":{"prompt_tokens":%d,"total_tokens":%d}' % (usage.prompt, usage.prompt)
    return b'{"object":"list","data":[%b],"model":%b%b}' % (b",".join(parts), _json_text(query.model), reported), usage


def rerank_body(query: Query, behaviour: Behaviour) -> tuple[bytes, Usage]:
    """The body of /rerank: the documents by falling score (their own order), at most ``top_n``."""
    documents = (query.documents or [])[: query.top_n]
    results = [
        {"index": index, "document": {"text": document} if isinstance(document, str) else document, "relevance_score": 1 / (index + 1)}
        for index, document in enumerate(documents)
    ]
    usage = Usage(prompt_tokens(query) if behaviour.input is None else behaviour.input, 0)
    told = {"prompt_tokens": usage.prompt, "total_tokens": usage.prompt}
    return msgspec.json.encode({"id": f"rerank-{next(ids)}", "model": query.model, "usage": told, "results": results}), usage


def image_body(query: Query, behaviour: Behaviour) -> tuple[bytes, Usage]:
    """The body of /images/*: ``n`` pictures of one pixel, and usage as the token-priced image models report it."""
    pictures = [{"b64_json": base64.b64encode(IMAGE).decode()}] * choices(query)
    usage = usage_of(query, behaviour)
    told = {"input_tokens": usage.prompt, "output_tokens": usage.completion, "total_tokens": usage.prompt + usage.completion}
    return msgspec.json.encode({"created": int(time.time()), "data": pictures, "usage": told}), usage


def models_body() -> bytes:
    """The body of GET /v1/models."""
    return msgspec.json.encode({"object": "list", "data": [model_object(name) for name in LISTED]})


def model_object(name: str) -> dict[str, Any]:
    """One model, as GET /v1/models/{id} shows it."""
    return {"id": name, "object": "model", "created": 1_767_225_600, "owned_by": "simulator"}
