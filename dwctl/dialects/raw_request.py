"""Requests of any dialect, read once and passed on byte for byte to a provider that speaks as the client does.

The top level is decoded into raw values; ``model`` and, for streams of chat chunks, ``stream_options.include_usage`` are replaced and
the rest is joined as it came, spelling of numbers and escapes included. A foreign body is never refused for a field that is not known here;
it is for a further model, and for what servers may read differently and is decided by: whether events are wanted, how many answers.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

import msgspec

from dwctl.dialects import openai_errors
from dwctl.dialects.names import DEFAULT, DialectName
from dwctl.dialects.reading import wrong_value
from dwctl.errors import GatewayError, bad_request

_TOP_LEVEL = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_ANY = msgspec.json.Decoder()
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_CLIENT_IDS = frozenset({"id", "completion_id", "completionId", "response_id", "responseId"})
"""Ids are ours to give; a client cannot choose them."""
_LEFT_OUT_OF_ANTHROPIC = _CLIENT_IDS | {"fallbacks"}
TOKENS_PER_MEDIA_PART = 16_384
"""Bound on what one image, audio or file part can cost in input tokens."""
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7][0-9a-fA-F]")
"""ASCII spelt as an escape: nobody needs it, and it could hide a word."""
_HALF_OF_A_PAIR = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")
"""The first half of a surrogate pair, without the second."""
_MEDIA = ("image", "audio", "file", "video", "document")
_PAYLOADS = frozenset({"data", "file_data", "url", "image_url", "b64_json"})
"""Where a media part has its medium, or the address of it."""
_INLINE = frozenset({"image", "video", "audio_url", "video_url"})
"""Where some have it as a ``data:`` URL, or as a list of them."""
_SCHEMAS = frozenset({"tools", "functions", "response_format", "text", "output_config", "format"})
_NO_TEXT = frozenset(
    (
        *("model", "metadata", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
        *("stream_options", "options", "stop", "stop_sequences", "logit_bias", "tool_choice", "service_tier", "truncation"),
        *("reasoning", "reasoning_effort", "thinking", "think", "verbosity", "modalities", "audio", "include", "encoding_format"),
        *("previous_response_id", "conversation", "keep_alive", *_LEFT_OUT_OF_ANTHROPIC),
    )
)
"""The fields that no model reads. Any other one may be read, the names that are not known here included."""
_LIMITS: dict[DialectName, tuple[str, ...]] = {
    "openai-chat": ("n_predict", "max_completion_tokens", "max_tokens"),
    "openai-responses": ("max_output_tokens",),
    "anthropic": ("max_tokens",),
    "ollama": ("num_predict",),
}
"""How a dialect bounds the output, the word that no server ignores last. Ollama's is one of its ``options``; ``n_predict`` is what
llama.cpp takes before OpenAI's words.
"""
_ASKS_USAGE = b'{"include_usage":true}'
"""And nothing beside it, which some server may take for the same word."""
_BLANKS = re.compile(rb"[ \t\r\n]*")
_OPENAI_MODEL = re.compile(r"(?:^|[/:])(?:o\d|gpt-\d|chatgpt)")
_CHOICES = ("n", "best_of", "n_cmpl")
"""How many answers are wanted, or made to choose from; the last is llama.cpp's own word."""
_MOST = 2**40
"""More tokens than any answer has that can be counted: a number above it says no more."""
_DECIDING = frozenset({"model", "stream", "stream_options", "options", "background", *_CHOICES}.union(*_LIMITS.values()))
"""The fields that the gateway decides by. In another case they would say something to some providers, and nothing here."""
FURTHER_MODELS = frozenset(
    {"models", "fallbacks", "fallback_models", "context_window_fallbacks", "context_window_fallback_dict", "content_policy_fallbacks"}
)
"""Where routers, OpenRouter and LiteLLM among them, take models that may answer in the place of the one whose access and price count."""
_BETWEEN_PARAMETERS = re.compile("[&;]")
_WORD = re.compile(r"\W*(\w+)(?![\w-])")
"""What some servers make of a name: ``model`` of ``model[]`` and of ``model.x``, but not of ``model-version``."""


class _Tool(msgspec.Struct):
    model: msgspec.Raw = msgspec.Raw(b"")


_TOOL = msgspec.json.Decoder(_Tool)


class ModelRequest:
    """The facts of one request that the gateway decides by.

    ``fields`` raw JSON values of the top level; ``stream`` the client wants events; ``wants_usage`` it asked for the usage
    chunk; ``choices`` the number of answers; ``max_output`` bound on output tokens per choice that it named, or None, also where one
    of its names says what is none; ``is_bounded`` every server obeys such a bound, whichever of the names it knows; ``body`` what
    it was read from, if it was not changed since.
    """

    __slots__ = ("body", "choices", "dialect", "fields", "is_bounded", "max_output", "model", "stream", "wants_usage")

    def __init__(self, fields: dict[str, msgspec.Raw], model: str, dialect: DialectName = DEFAULT, body: bytes = b"") -> None:
        self.fields = fields
        self.body = body
        self.model = model
        self.dialect = dialect
        self.stream = flag(fields, "stream", default=dialect == "ollama")
        if not FURTHER_MODELS.isdisjoint(map(str.casefold, fields)):
            _check_further_models(fields, dialect)
        if "tools" in fields:
            _check_models_of_tools(fields["tools"])
        self.wants_usage = False
        if self.stream and (options := fields.get("stream_options")) is not None:
            decoded = _lenient(options)
            self.wants_usage = isinstance(decoded, dict) and decoded.get("include_usage") is True
        self.choices = 1
        for name in _CHOICES:
            if name in fields:
                self.choices = max(self.choices, _number_of_choices(fields[name], name))
        bounds = fields if dialect != "ollama" else _members(fields.get("options"))
        self.max_output: int | None = None
        is_certain, limit = True, None
        for name in _LIMITS[dialect]:
            limit = None
            if name not in bounds:
                continue
            if (limit := _integer(bounds[name])) is None or (limit == 0 and dialect == "ollama"):
                if _is_null(bounds[name]):
                    continue
                self.max_output, is_certain = None, False
                break
            is_certain = is_certain and limit > 0  # zero binds some servers, and others not
            if self.max_output is None or limit > self.max_output:  # a server obeys any of them
                self.max_output = limit
        self.is_bounded = is_certain and limit is not None


def _lenient(raw: msgspec.Raw) -> Any:
    try:
        return _ANY.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_null(raw: msgspec.Raw) -> bool:
    return bytes(raw) == b"null"


def flag(fields: Mapping[str, msgspec.Raw], name: str, *, default: bool = False) -> bool:
    """What a field says, of which null says nothing. Raises GatewayError 400 for what is true to some servers, and not to others."""
    said = bytes(fields.get(name, b"null"))
    if said == b"null":
        return default
    if said not in (b"true", b"false"):
        raise wrong_value(name, "true or false")
    return said == b"true"


def _check_further_models(fields: Mapping[str, msgspec.Raw], dialect: DialectName) -> None:
    for name, raw in fields.items():
        if name.casefold() in FURTHER_MODELS and bytes(raw) not in (b"null", b"[]") and name not in left_out(dialect):
            raise _further_model(name)


def _check_models_of_tools(tools: msgspec.Raw) -> None:
    """Raises GatewayError 400 for a tool that is a model, such as an advisor: it would answer in part, and nobody would pay for it."""
    try:
        items = _ITEMS.decode(tools)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    for index, item in enumerate(items):
        try:
            named = bytes(_TOOL.decode(item).model)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue  # no tool that a provider takes
        if named:
            raise _further_model(f"tools[{index}].model")


def left_out(dialect: DialectName) -> frozenset[str]:
    """Fields that no provider is sent. Anthropic's clients send ``fallbacks`` of themselves, and are served without."""
    return _LEFT_OUT_OF_ANTHROPIC if dialect == "anthropic" else _CLIENT_IDS


def check_form_field(name: str) -> None:
    """Raises GatewayError 400 for a field that names further models."""
    if _word(name) in FURTHER_MODELS:
        raise _further_model(name)


def _further_model(name: str) -> GatewayError:
    return bad_request(
        f"'{name}' is not supported: a request is answered by the one model that 'model' names. Leave it out, and ask for another model by"
        " its name.",
        code="unsupported_parameter",
        param=name,
    )


def check_query(query: str) -> None:
    """Raises ValueError for a query that says what is decided by the body: some servers go by the query first."""
    for parameter in _BETWEEN_PARAMETERS.split(query):
        if (name := _word(unquote_plus(parameter.partition("=")[0]))) in _DECIDING or name in FURTHER_MODELS:
            raise ValueError(f"its query has '{name}', which belongs in the body")


def _word(name: str) -> str:
    found = _WORD.match(name)
    return found[1].casefold() if found is not None else ""


def _integer(raw: msgspec.Raw) -> int | None:
    """A number from 0 to `_MOST`; None for what not every server would read as the same one."""
    value = _lenient(raw)
    if isinstance(value, str):
        return digits(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return None
    return value if value < _MOST else _MOST


def digits(text: str) -> int | None:
    """The number that plain digits say, at most `_MOST`; None for any other text."""
    if not (text.isascii() and text.isdigit()):
        return None
    return int(text) if len(text) < 13 else _MOST


def _number_of_choices(raw: msgspec.Raw, name: str) -> int:
    """Raises GatewayError 400 for what some server may take for another number than is held for."""
    if (number := _integer(raw)) is None and not _is_null(raw):
        raise no_number(name)
    return number or 1


def no_number(name: str) -> GatewayError:
    """What a client is told of a number of answers that cannot be read."""
    return wrong_value(name, "a whole number")


def _members(raw: msgspec.Raw | None) -> Mapping[str, msgspec.Raw]:
    """The fields of an object inside the request; none if it is not an object."""
    if raw is None:
        return {}
    try:
        return _TOP_LEVEL.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def parse(body: bytes, override: str | None = None, dialect: DialectName = DEFAULT) -> ModelRequest:
    """Read a JSON body; ``override`` is the model that a header names, which wins. Raises GatewayError 400."""
    try:
        fields = _TOP_LEVEL.decode(body)
    except msgspec.ValidationError:
        raise bad_request("Request body must be a JSON object.") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        if "surrogate" in str(error) or _HALF_OF_A_PAIR.search(body):  # at the end of a string the decoder says something else
            raise bad_request("Request body holds half of a surrogate pair (\\ud800 to \\udfff), which is not text.") from None
        raise openai_errors.not_json() from None
    if override is not None:
        return ModelRequest(fields, override, dialect, body)
    try:
        model = _TEXT.decode(fields["model"])
    except KeyError:
        raise openai_errors.no_model() from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise bad_request("'model' must be a string of valid text.", param="model") from None
    if not model:
        raise openai_errors.no_model()
    return ModelRequest(fields, model, dialect, body)


def outgoing(request: ModelRequest, upstream_model: bytes, *, ask_usage: bool, max_tokens: int | None = None) -> bytes:
    """The body for the provider: ``model`` (JSON text) replaced, client ids dropped, usage asked for in streams of chat chunks.

    ``max_tokens`` is written in place of every bound that the request names. Where nothing is to be changed, it is the body that came.
    """
    if ask_usage and request.wants_usage and bytes(request.fields["stream_options"]).translate(None, b" \t\r\n") == _ASKS_USAGE:
        ask_usage = False
    parts, dropped = [], left_out(request.dialect)
    within_options = max_tokens is not None and request.dialect == "ollama"
    written = {"stream_options"} if ask_usage else set()
    if max_tokens is not None:
        written.update(("options",) if within_options else _LIMITS[request.dialect])
    for name, raw in request.fields.items():
        if name == "model":
            parts.append(b'"model":' + upstream_model)
        elif name not in written and name not in dropped and not _hides(name):
            parts.append(msgspec.json.encode(name) + b":" + bytes(raw))
    if (
        len(parts) == len(request.fields)
        and not written
        and bytes(request.fields.get("model", b"")) == upstream_model
        and _is_said_by(request.body, request.fields)
    ):
        return request.body
    if "model" not in request.fields:
        parts.append(b'"model":' + upstream_model)  # a header named it
    if ask_usage:
        parts.append(b'"stream_options":' + _with(request.fields.get("stream_options"), "include_usage", b"true"))
    if max_tokens is not None:
        name, bound = _limit_name(request, upstream_model), b"%d" % max_tokens
        parts.append(
            b'"options":' + _with(request.fields.get("options"), name, bound) if within_options else b'"%b":%b' % (name.encode(), bound)
        )
    return b"{" + b",".join(parts) + b"}"


def _is_said_by(body: bytes, fields: Mapping[str, msgspec.Raw]) -> bool:
    """Whether a body is these fields, each once and in this order, with nothing but blanks between them.

    Of a name that comes twice a provider may take the other value than the one that was decided by.
    """
    at, before = 0, b"{"
    for name, raw in fields.items():
        for part in (before, msgspec.json.encode(name), b":", bytes(raw)):
            at = _blanks_end(body, at)
            if not body.startswith(part, at):
                return False
            at += len(part)
        before = b","
    at = _blanks_end(body, at)
    return body.startswith(b"}", at) and _blanks_end(body, at + 1) == len(body)


def _blanks_end(body: bytes, at: int) -> int:
    found = _BLANKS.match(body, at)
    assert found is not None
    return found.end()


def _limit_name(request: ModelRequest, upstream_model: bytes) -> str:
    if request.dialect == "openai-chat" and "messages" in request.fields:
        return limit_name(_TEXT.decode(upstream_model))
    return _LIMITS[request.dialect][-1]


def limit_name(model: str) -> str:
    """What a provider of chat completions has as the limit on the output of a model.

    No one name will do. OpenAI's newer models refuse ``max_tokens``; Mistral refuses ``max_completion_tokens``, and, which is worse,
    many servers ignore it, so that nothing bounds the answer. Everybody but OpenAI knows the older name.
    """
    return "max_completion_tokens" if _OPENAI_MODEL.search(model) else "max_tokens"


def _hides(name: str) -> bool:
    """Whether a server that is written in Go, as Ollama is, takes a name for one that was decided by here: case is nothing to it."""
    return name not in _DECIDING and name.casefold() in _DECIDING


def _with(raw: msgspec.Raw | None, name: str, value: bytes) -> bytes:
    """An object with one member set, the others as they came."""
    kept = [msgspec.json.encode(key) + b":" + bytes(member) for key, member in _members(raw).items() if key != name]
    return b"{" + b",".join([*kept, msgspec.json.encode(name) + b":" + value]) + b"}"


def input_bound(body: bytes) -> int | None:
    """Bound on the input tokens by size alone: a token is at least a byte. None if the body may hold media, whose cost is not its size."""
    if b"image" in body or b"audio" in body or b"file" in body or b"video" in body or b'"document"' in body or _ESCAPED_LETTER.search(body):
        return None
    return len(body)


def prompts(request: ModelRequest) -> int:
    """How many prompts a text completion holds, each of which is answered ``choices`` times; a list of token ids is one."""
    raw = request.fields.get("prompt")
    if raw is None or not bytes(raw).startswith(b"["):
        return 1
    prompt = _lenient(raw) or _ITEMS.decode(raw)  # what is in it need not be text to be counted
    return max(1, len(prompt)) if not all(isinstance(item, int) for item in prompt) else 1


def input_text(request: ModelRequest) -> tuple[str, int]:
    """All text that a model may read (messages, tools, schemas, prompt, input), and the number of media parts beside it."""
    texts: list[str] = []
    media = 0
    for name, raw in request.fields.items():
        if name in _NO_TEXT:
            continue
        value = _lenient(raw) if name not in _SCHEMAS else None
        if isinstance(value, str | list | dict):
            media += _collect({name: value}, texts)
        elif value is None and (said := bytes(raw)) != b"null":  # a schema, or what others may be able to decode
            texts.append(said.decode("utf-8", "replace"))
    return "\n".join(texts), media


def _is_text(source: Any) -> bool:
    """Whether that is where a document of Anthropic's has its text."""
    return isinstance(source, dict) and source.get("type") in ("text", "content")


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
            if isinstance(kind, str) and any(word in kind for word in _MEDIA) and not _is_text(item.get("source")):
                media += 1
                item = _beside_the_medium(item)
            for key, part in item.items():
                if key == "images" and isinstance(part, list):
                    media += len(part)
                elif key != "type":
                    pending.append(part)
    return media


def _beside_the_medium(part: dict[str, Any]) -> dict[str, Any]:
    """What else a media part holds. Anything can call itself one, and a provider that does not look reads its text all the same."""
    beside: dict[str, Any] = {}
    for key, value in part.items():
        if isinstance(value, dict):  # which has the medium in it: it is not one part more
            beside[key] = [inner for name, inner in value.items() if name != "type" and not _is_payload(name, inner)]
        elif not _is_payload(key, value) and not (key == "result" and part["type"] == "image_generation_call"):
            beside[key] = value
    return beside


def _is_payload(name: str, value: Any) -> bool:
    if name in _INLINE:
        return all(isinstance(inner, str) and inner.startswith("data:") for inner in (value if isinstance(value, list) else [value]))
    return name in _PAYLOADS and isinstance(value, str)
