"""What a simulated model does, read from its name.

A model name is a base and, after ``?``, options in query form: ``sim-chat?latency=200&tokens=50&rate=100``. The base is
one of `BASES` (an ordinary answer, or one fault), or ``sim-`` and an HTTP error status (``sim-429``, ``sim-503``). The
`OPTIONS` mean the same on every base. docs/simulator.md is made from both.
"""

from functools import lru_cache
from urllib.parse import parse_qsl

import msgspec

BASES = {
    "sim-chat": "an ordinary answer",
    "sim-embed": "an ordinary answer; listed as the embedding model",
    "sim-rerank": "an ordinary answer; listed as the reranking model",
    "sim-image": "an ordinary answer; listed as the image model",
    "sim-speech": "an ordinary answer; listed as the text-to-speech model",
    "sim-transcribe": "an ordinary answer; listed as the transcription model",
    "sim-reset": "RST once the request has been read, before any header",
    "sim-close": "the connection is closed once the request has been read, before any header",
    "sim-stall": "headers (and `after` tokens of a stream), then silence until the client leaves",
    "sim-stall-headers": "silence, without any header",
    "sim-cut": "`after` tokens of a stream, half an event, then the connection breaks; half of a JSON body",
    "sim-badjson": "a JSON body, or one event of a stream, that is not JSON",
    "sim-badutf8": "text that is not UTF-8, in the JSON body or in one event of a stream",
    "sim-nousage": "no usage, not even when asked",
    "sim-nodone": "a stream without [DONE] or the dialect's last event, cleanly ended after the finish reasons",
    "sim-nofinish": "a stream that is ended cleanly after `after` tokens, without finish reason or [DONE]",
    "sim-hang-open": "[DONE], or the dialect's last event, is sent, and the HTTP message is never ended",
    "sim-crlf": "a stream with CRLF line ends, comments, `event:` and `id:` fields",
    "sim-multiline": "a stream whose every event is spread over two data lines",
    "sim-short-length": "content-length is 10 bytes less than the body; the rest follows all the same",
    "sim-long-length": "content-length is 10 bytes more than the body, then the connection closes",
    "sim-no-length": "neither content-length nor chunks: the body ends with the connection",
    "sim-cookie": "an ordinary answer with set-cookie, server and the headers that OpenAI adds",
    "sim-error-event": "`after` tokens of a stream, then an error object, then [DONE]; without a stream a 500",
    "sim-failed": "as sim-error-event, told as the state of the response where the dialect has one (Responses, also without a stream)",
    "sim-error-200": "200 whose body, or first event, is an error",
    "sim-error-inside": "an ordinary answer whose body, or last event, has an error in it",
    "sim-wrong-dialect": "an answer of another dialect: Anthropic's to a chat, a chat's to every other request",
    "sim-json-stream": "a JSON body though a stream was asked for",
    "sim-gzip": "an ordinary answer with content-encoding gzip, whatever accept-encoding says",
    "sim-html": "502 with a page of HTML, as a load balancer sends it",
    "sim-empty": "200 with an empty body",
    "sim-garbage": "bytes that are not HTTP",
    "sim-redirect": "302 to http://127.0.0.1:1/",
    "sim-echo": "an ordinary answer with a member `echo`: method, target, headers and body as they arrived",
    "sim-tool": "sim-chat?calls=1: a call of the request's first tool in place of text",
}
"""Every base name and what it does beside an ordinary answer."""

OPTIONS = {
    "latency": ("milliseconds before the first byte of the answer", "of the simulator (0)"),
    "rate": ("tokens per second of each choice; 0 is as fast as the socket takes them", "of the simulator (0)"),
    "tokens": ("completion tokens when the request allows as many", "16"),
    "input": ("prompt tokens, whatever the request holds", "words of the request"),
    "cached": ("of the prompt tokens, read from the provider's cache", "0"),
    "cache_write": ("of the prompt tokens, written to the provider's cache for the shorter time", "0"),
    "cache_write_1h": ("of the prompt tokens, written to the provider's cache for the longer time", "0"),
    "reasoning": ("of the completion tokens, thought and not shown (counted, and never in the text)", "0"),
    "thinking": ("of the completion tokens, thought and shown as the dialect shows thinking, unless the request forbids it", "0"),
    "redacted": ("1: the thinking is shown sealed: redacted_thinking, encrypted_content without a summary", "0"),
    "reasoning_as": (
        "the member that holds a chat's thinking: reasoning_content, reasoning, both, or reasoning_details",
        "reasoning_content",
    ),
    "calls": ("tools called in place of text, the request's own in turn; until the request ends in a tool's result", "0"),
    "preface": ("tokens of text before the calls", "0"),
    "interleaved": ("1: the arguments of a chat's calls arrive in turn (0, 1, 0, 1)", "0"),
    "unfinished": ("1: the last call's arguments end half way, and the answer ends as if they were whole", "0"),
    "refusal": ("1: the model refuses", "0"),
    "vllm": ("1: a chat's choices have the `stop_reason` that vLLM adds", "0"),
    "strict": ("1: a chat is refused for members that OpenAI does not know, as other servers do not", "0"),
    "after": ("tokens sent before a fault in a stream", "3"),
    "retry_after": ("seconds in the `retry-after` header of an error status", "1 for 429 and 503"),
    "split": ("bytes per write to the socket, to try every boundary; 0 is not to split", "0"),
    "reset": ("1: a broken connection ends with RST in place of FIN", "0"),
}
"""Every option: what it means, and its default."""

LISTED = ("sim-chat", "sim-embed", "sim-rerank", "sim-image", "sim-speech", "sim-transcribe")
"""What GET /v1/models lists: the models that answer properly."""

REASONING_AS = ("reasoning_content", "reasoning", "both", "reasoning_details")
"""Where a chat may have its thinking: DeepSeek's and vLLM's name, the newer one, both, and OpenRouter's list."""

DEFAULT_TOKENS = 16
DEFAULT_AFTER = 3


class UnknownOption(ValueError):
    """The model name carries an option that does not exist, or whose value is no number. The message names it."""


class Behaviour(msgspec.Struct, frozen=True):
    """The meaning of one model name. Times in milliseconds, rates in tokens per second."""

    base: str
    status: int = 200
    """The answer's status; 400 and above only for the bases that are an error status."""
    latency: float | None = None
    rate: float | None = None
    tokens: int = DEFAULT_TOKENS
    input: int | None = None
    cached: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0
    thinking: int = 0
    redacted: int = 0
    reasoning_as: str = "reasoning_content"
    calls: int = 0
    preface: int = 0
    interleaved: int = 0
    unfinished: int = 0
    refusal: int = 0
    vllm: int = 0
    strict: int = 0
    ordinary: bool = True
    """Whether the model says a text and nothing more."""
    after: int = DEFAULT_AFTER
    retry_after: float | None = None
    split: int = 0
    reset: int = 0


@lru_cache(maxsize=4096)
def parse(model: str) -> Behaviour | None:
    """The behaviour of a model name; None for a name that the simulator does not have. Raises `UnknownOption`."""
    base, _, query = model.partition("?")
    values: dict[str, float | int | str] = {"base": base}
    if base not in BASES:
        code = base.removeprefix("sim-")
        if not (base.startswith("sim-") and code.isascii() and code.isdigit() and 400 <= int(code) <= 599):
            return None
        values["status"] = int(code)
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "reasoning_as":
            if value not in REASONING_AS:
                raise UnknownOption(f"simulator option 'reasoning_as' wants one of {', '.join(REASONING_AS)}")
            values[name] = value
            continue
        if name not in _NUMBERS:
            raise UnknownOption(f"unknown simulator option '{name}' (known: {', '.join(sorted(OPTIONS))})")
        try:
            number = _NUMBERS[name](value)
        except ValueError:
            raise UnknownOption(f"simulator option '{name}' wants a number") from None
        if not 0 <= number < 1e9:
            raise UnknownOption(f"simulator option '{name}' is out of range")
        values[name] = number
    values["ordinary"] = base != "sim-tool" and not any(values.get(name) for name in _EXTRAORDINARY)
    return msgspec.convert(values, Behaviour)


_FRACTIONS = ("latency", "rate", "retry_after")
_NUMBERS: dict[str, type[int] | type[float]] = {name: float if name in _FRACTIONS else int for name in OPTIONS if name != "reasoning_as"}
_EXTRAORDINARY = ("thinking", "calls", "refusal", "vllm")
