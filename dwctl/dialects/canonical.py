"""One model of a request, into which every client's dialect is read and from which every provider's is written.

Parts of messages and answers are small structs; what a dialect says in its own words (roles, ids, spellings) is gone, what it means
is here. A part's ``path`` is where the client wrote it, in the client's spelling, so that a refusal can name it; it is set
for the parts that some provider cannot take.
"""

from typing import Any, Literal

import msgspec

from dwctl.dialects.names import DialectName

Role = Literal["system", "developer", "user", "assistant", "tool"]
"""``tool`` messages hold nothing but `ToolResult` parts."""

CacheControl = dict[str, Any]
"""A prompt-cache marker as the client wrote it: ``{"type": "ephemeral", "ttl": "5m"}``."""


class Text(msgspec.Struct):
    text: str
    cache: CacheControl | None = None
    annotations: list[Any] | None = None
    """Citations of an answer, in OpenAI's shape (``url_citation``)."""


class Refusal(msgspec.Struct):
    """What a model says instead of an answer."""

    text: str


class Reasoning(msgspec.Struct):
    """What a model thought before it answered.

    ``summary``: the text is a summary and not the thoughts themselves. ``signature``: opaque proof or ciphertext, which only
    the dialect ``origin`` takes back; ``id`` the provider's name of the thought. ``redacted``: nothing but the signature is there.
    """

    text: str = ""
    summary: bool = False
    signature: str | None = None
    origin: DialectName | None = None
    id: str | None = None
    redacted: bool = False


class Image(msgspec.Struct):
    """A picture: base64 ``data`` of ``media_type``, or a ``url``, or a ``file_id`` of the provider. ``detail`` as OpenAI has it."""

    path: str
    data: str | None = None
    media_type: str | None = None
    url: str | None = None
    file_id: str | None = None
    detail: str | None = None
    cache: CacheControl | None = None


class Audio(msgspec.Struct):
    """Sound: base64 ``data`` in ``format`` (wav, mp3)."""

    path: str
    data: str
    format: str


class File(msgspec.Struct):
    """A document: base64 ``data`` of ``media_type``, plain ``text``, a ``url``, or a ``file_id`` of the provider."""

    path: str
    data: str | None = None
    media_type: str | None = None
    text: str | None = None
    url: str | None = None
    file_id: str | None = None
    name: str | None = None
    context: str | None = None
    """What the client says about the document."""
    cache: CacheControl | None = None


class ToolCall(msgspec.Struct):
    """The model's wish to call a tool. ``arguments`` is JSON text (of an object), or for a ``custom`` tool any text."""

    id: str
    name: str
    arguments: str
    custom: bool = False
    cache: CacheControl | None = None


class ToolResult(msgspec.Struct):
    """What a tool answered: texts, pictures and documents."""

    call_id: str
    parts: "list[Text | Image | File]"
    is_error: bool = False
    custom: bool = False
    cache: CacheControl | None = None


class Foreign(msgspec.Struct):
    """A part that has no meaning outside its dialect; it is refused by name when the dialects differ."""

    path: str
    kind: str


Part = Text | Refusal | Reasoning | Image | Audio | File | ToolCall | ToolResult | Foreign


class Message(msgspec.Struct):
    role: Role
    parts: list[Part]
    name: str | None = None


def is_silent(messages: list[Message]) -> bool:
    """Whether nobody says anything: no part is more than empty text, or white space."""
    return all(isinstance(part, Text | Refusal) and not part.text.strip() for message in messages for part in message.parts)


class Tool(msgspec.Struct):
    """A tool that the client runs. ``parameters`` is a JSON schema. ``custom`` tools take any text; ``grammar`` bounds it.

    ``hosted``: the type of a tool that the provider would run; such a tool has no meaning outside its dialect.
    """

    path: str
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    custom: bool = False
    grammar: dict[str, Any] | None = None
    hosted: str | None = None
    cache: CacheControl | None = None


class ToolChoice(msgspec.Struct):
    """``named``: exactly the tool ``names[0]``; ``allowed``: of the tools only ``names``, at will or (``must``) at least one.
    ``path`` is where the client says it."""

    mode: Literal["auto", "none", "required", "named", "allowed"]
    names: list[str] = []
    must: bool = False
    path: str = "tool_choice"


class OutputFormat(msgspec.Struct):
    """The answer is to be any JSON object (``schema`` None), or one that fits the JSON schema."""

    schema: dict[str, Any] | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class Request(msgspec.Struct, kw_only=True):
    """A request for text. Fields that are None were not said; `fields.FIELDS` says where each dialect says them."""

    model: str
    messages: list[Message]
    """System prompts are messages, too, wherever the dialect has them."""
    stream: bool = False
    include_usage: bool = True
    """In a stream of chat chunks: the client asked for the usage chunk."""
    tools: list[Tool] = []
    old_functions: bool = False
    """The client of chat says its tools as ``functions``, and knows no calls but ``function_call``, one in an answer."""
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_output: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: list[str] | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, Any] | None = None
    effort: str | None = None
    """How much the model is to think: none, minimal, low, medium, high, xhigh, max."""
    thinking: Literal["enabled", "adaptive", "disabled"] | None = None
    thinking_budget: int | None = None
    """Tokens to think with, at most."""
    reasoning_summary: str | None = None
    """auto, concise, detailed; ``omitted``: think, but do not show."""
    output_format: OutputFormat | None = None
    verbosity: str | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    encrypted_reasoning: bool | None = None
    """The client wants the reasoning in a form that it can hand back."""
    others: dict[str, Any] = {}
    """Fields, by their path, that have no meaning outside the client's dialect, and those nobody knows."""
    notes: list[str] = []
    """What was left out on the way to a provider; whoever writes for it may add to this."""
    echo: dict[str, Any] = {}
    """Fields as the client wrote them, for answers that repeat them (Responses)."""
