"""What becomes of each field and each kind of content when client and provider speak different dialects.

The table is the rule and its documentation: ``settle`` obeys it, and docs/dialects.md is generated from it. A field is translated;
or dropped with a note, where the answer is the same without it; or refused by the client's name for it, where it would not be.
"""

from typing import Any, Literal, NamedTuple

import msgspec

from dwctl.dialects.canonical import Audio, File, Foreign, Image, Part, Request, ToolResult
from dwctl.dialects.names import DIALECTS, DialectName
from dwctl.dialects.reading import refused

Fate = Literal["translated", "dropped", "refused"]

CHAT: DialectName = "openai-chat"
RESPONSES: DialectName = "openai-responses"
ANTHROPIC: DialectName = "anthropic"
OLLAMA: DialectName = "ollama"


class Field(NamedTuple):
    """One field of `Request`: how each client says it, and what becomes of it on the way to a provider that is not like the client."""

    name: str
    says: dict[DialectName, str]
    dropped: frozenset[DialectName] = frozenset()
    refused: frozenset[DialectName] = frozenset()
    note: str = ""

    def fate(self, provider: DialectName) -> Fate:
        return "refused" if provider in self.refused else "dropped" if provider in self.dropped else "translated"


def _says(chat: str = "", responses: str = "", anthropic: str = "", ollama: str = "") -> dict[DialectName, str]:
    given = {CHAT: chat, RESPONSES: responses, ANTHROPIC: anthropic, OLLAMA: ollama}
    return {dialect: path for dialect, path in given.items() if path}


def _all_but(*dialects: DialectName) -> frozenset[DialectName]:
    return frozenset(DIALECTS) - set(dialects)


FIELDS: tuple[Field, ...] = (
    Field(
        "max_output",
        _says("max_completion_tokens", "max_output_tokens", "max_tokens", "options.num_predict"),
        note="Anthropic demands one: without it, the model's limit, or 32,000. The least sent to Responses is 16, to chat and Ollama 1.",
    ),
    Field(
        "temperature",
        _says("temperature", "temperature", "temperature", "options.temperature"),
        note="Anthropic's scale ends at 1: a higher one is sent as 1; none is sent with thinking, nor to models from Claude 4.7 on.",
    ),
    Field(
        "top_p",
        _says("top_p", "top_p", "top_p", "options.top_p"),
        note="To Anthropic under the same conditions as `temperature`, and not beside it.",
    ),
    Field(
        "top_k",
        _says("top_k", "top_k", "top_k", "options.top_k"),
        dropped=frozenset({RESPONSES}),
        note="To Anthropic under the same conditions as `temperature`.",
    ),
    Field("min_p", _says("min_p", ollama="options.min_p"), dropped=frozenset({RESPONSES, ANTHROPIC})),
    Field(
        "presence_penalty",
        _says("presence_penalty", "presence_penalty", ollama="options.presence_penalty"),
        dropped=frozenset({RESPONSES, ANTHROPIC}),
    ),
    Field(
        "frequency_penalty",
        _says("frequency_penalty", "frequency_penalty", ollama="options.frequency_penalty"),
        dropped=frozenset({RESPONSES, ANTHROPIC}),
    ),
    Field("seed", _says("seed", "seed", ollama="options.seed"), dropped=frozenset({RESPONSES, ANTHROPIC})),
    Field(
        "stop",
        _says("stop", "stop", "stop_sequences", "options.stop"),
        refused=frozenset({RESPONSES}),
        note="Anthropic takes none of white space alone.",
    ),
    Field("n", _says("n"), refused=_all_but(CHAT), note="1 is the same as nothing."),
    Field("logprobs", _says("logprobs", "include", ollama="logprobs"), refused=frozenset({ANTHROPIC})),
    Field("top_logprobs", _says("top_logprobs", "top_logprobs", ollama="top_logprobs"), refused=frozenset({ANTHROPIC})),
    Field("logit_bias", _says("logit_bias"), refused=_all_but(CHAT)),
    Field(
        "tools",
        _says("tools", "tools", "tools", "tools"),
        note="Tools that a provider would run itself are refused. "
        "Who says `functions`, as chat once did, is answered with `function_call`, one at a time.",
    ),
    Field(
        "tool_choice",
        _says("tool_choice", "tool_choice", "tool_choice"),
        note="Ollama has no such choice: `none` leaves the tools out, and one that demands a call is refused. "
        "With `functions` it is called `function_call`.",
    ),
    Field(
        "parallel_tool_calls",
        _says("parallel_tool_calls", "parallel_tool_calls", "tool_choice.disable_parallel_tool_use"),
        dropped=frozenset({OLLAMA}),
    ),
    Field(
        "effort",
        _says("reasoning_effort", "reasoning.effort", "output_config.effort", "think"),
        note="To the nearest word that the provider knows; up to Claude 4.5 as a budget. A tool that must be called goes before thinking.",
    ),
    Field(
        "thinking",
        _says(anthropic="thinking.type", ollama="think"),
        note="Without an effort of its own it becomes one. For Ollama `adaptive` is left out: a model that cannot think would refuse it.",
    ),
    Field("thinking_budget", _says(anthropic="thinking.budget_tokens"), note="Up to 2,048 tokens are low effort, up to 8,192 medium."),
    Field("reasoning_summary", _says(responses="reasoning.summary", anthropic="thinking.display"), dropped=frozenset({CHAT, OLLAMA})),
    Field(
        "output_format",
        _says("response_format", "text.format", "output_config.format", "format"),
        note="Anthropic knows schemas only: a wish for any JSON object is dropped.",
    ),
    Field("verbosity", _says("verbosity", "text.verbosity"), dropped=frozenset({ANTHROPIC, OLLAMA})),
    Field("user", _says("user", "user", "metadata.user_id"), dropped=frozenset({OLLAMA})),
    Field(
        "metadata",
        _says("metadata", "metadata"),
        dropped=frozenset({CHAT, ANTHROPIC, OLLAMA}),
        note="It marks what the provider stores; OpenAI's chat refuses it where nothing is.",
    ),
    Field(
        "service_tier",
        _says("service_tier", "service_tier", "service_tier"),
        dropped=frozenset({OLLAMA}),
        note="OpenAI's `default` is Anthropic's `standard_only`; `flex` and `priority` are OpenAI's alone.",
    ),
    Field("prompt_cache_key", _says("prompt_cache_key", "prompt_cache_key"), dropped=frozenset({ANTHROPIC, OLLAMA})),
    Field("prompt_cache_retention", _says("prompt_cache_retention", "prompt_cache_retention"), dropped=frozenset({ANTHROPIC, OLLAMA})),
    Field("safety_identifier", _says("safety_identifier", "safety_identifier"), dropped=frozenset({ANTHROPIC, OLLAMA})),
    Field(
        "encrypted_reasoning", _says(responses="include"), note="Thoughts come back in an envelope of the gateway, whoever the provider is."
    ),
)

LEAST_OUTPUT: dict[DialectName, int] = {CHAT: 1, RESPONSES: 16, ANTHROPIC: 0, OLLAMA: 1}
"""Tokens; the lowest bound on the output that bounds it. OpenAI refuses lower ones, and 0 is no bound at all to Ollama."""

NO_EQUIVALENT = "the model's provider has nothing like it"

OTHERS: dict[DialectName, dict[str, tuple[Fate, str]]] = {
    CHAT: {
        "audio": ("refused", "the model's provider does not speak"),
        "modalities": ("refused", "the model's provider answers with text only"),
        "web_search_options": ("refused", NO_EQUIVALENT),
        "prediction": ("dropped", "it only makes an answer faster"),
        "store": ("dropped", "nothing is stored at the provider"),
    },
    RESPONSES: {
        "previous_response_id": ("refused", "answers are not kept here; send the conversation in 'input'"),
        "conversation": ("refused", "conversations are not kept here; send them in 'input'"),
        "prompt": ("refused", NO_EQUIVALENT),
        "background": ("refused", "it has to be answered at once"),
        "truncation": ("dropped", "the provider decides what fits"),
        "store": ("dropped", "nothing is stored at the provider"),
        "max_tool_calls": ("dropped", "it bounds tools that the provider would run"),
        "context_management": ("dropped", NO_EQUIVALENT),
        "client_metadata": ("dropped", NO_EQUIVALENT),
        "stream_options": ("dropped", NO_EQUIVALENT),
    },
    ANTHROPIC: {
        "container": ("refused", NO_EQUIVALENT),
        "mcp_servers": ("refused", NO_EQUIVALENT),
        "context_management": ("dropped", NO_EQUIVALENT),
        "cache_control": ("dropped", "the provider caches in its own way"),
    },
    OLLAMA: {
        "raw": ("refused", "the prompt has to pass through the model's own template"),
        "template": ("refused", "the model's provider has its own"),
        "suffix": ("refused", NO_EQUIVALENT),
        "context": ("refused", "send the conversation to /api/chat"),
        "keep_alive": ("dropped", "the provider decides which models are loaded"),
        "options.num_ctx": ("dropped", "the provider decides how models are loaded"),
        "truncate": ("dropped", "the provider decides what fits"),
        "shift": ("dropped", "the provider decides what fits"),
    },
}
"""Fields that only one dialect has. Every field that is in no table is dropped with a note."""


class Content(NamedTuple):
    """One kind of content, and which providers cannot be sent it. ``reason``: what a client is told that is refused it."""

    name: str
    refused: frozenset[DialectName] = frozenset()
    dropped: frozenset[DialectName] = frozenset()
    note: str = ""
    reason: str = ""

    def fate(self, provider: DialectName) -> Fate:
        return "refused" if provider in self.refused else "dropped" if provider in self.dropped else "translated"


_EVERYBODY = frozenset(DIALECTS)
_ELSEWHERE = "a file is known to the provider alone that keeps it; send what is in it"

CONTENT: dict[str, Content] = {
    content.name: content
    for content in (
        Content("text"),
        Content("image (base64)"),
        Content("image (URL)", refused=frozenset({OLLAMA}), reason="its provider takes pictures as base64 only"),
        Content("image (file id)", refused=_EVERYBODY, reason=_ELSEWHERE),
        Content("audio", refused=frozenset({RESPONSES, ANTHROPIC, OLLAMA}), reason="its provider takes no audio"),
        Content(
            "document (base64)",
            refused=frozenset({OLLAMA}),
            note="Plain text is sent as text; Anthropic takes PDF otherwise.",
            reason="its provider takes no documents but plain text",
        ),
        Content("document (text)", note="As a document to Anthropic, as text to the others."),
        Content("document (URL)", refused=frozenset({CHAT, OLLAMA}), reason="its provider fetches no documents"),
        Content("document (file id)", refused=_EVERYBODY, reason=_ELSEWHERE),
        Content("function call and its result", note="Pictures in results reach chat and Ollama in a user message that follows."),
        Content("custom tool", note="Anthropic and Ollama get a function with one argument, `input`; the answer is turned back."),
        Content("tool in a namespace", note="By the names of the two, joined by `__`; the answer calls it by both."),
        Content("tool result that is an error", note="Anthropic's `is_error`; for the others the text begins with `Error: `."),
        Content(
            "reasoning of earlier turns",
            note="As `reasoning_content` to chat and `thinking` to Ollama; Anthropic and Responses get back only what they signed.",
        ),
        Content("refusal of an earlier turn", note="As text where there is no such part."),
        Content("prompt-cache marker", dropped=frozenset({CHAT, RESPONSES, OLLAMA})),
        Content(
            "item_reference",
            refused=_EVERYBODY,
            reason="answers are not kept here; send the items themselves, as the AI SDK does with `store: false`",
        ),
        Content("anything else", refused=_EVERYBODY),
    )
}


def settle(request: Request, client: DialectName, provider: DialectName) -> tuple[Request, list[str]]:
    """The request with what ``provider`` can be told, and its ``notes`` on what was changed. Raises GatewayError 400 that names a field.

    ``client`` and ``provider`` are different.
    """
    changed: dict[str, Any] = {}
    notes = []
    for field in FIELDS:
        if (path := field.says.get(client)) is None:
            continue
        value = getattr(request, field.name)
        if value is None:
            continue
        match field.fate(provider):
            case "refused":
                if value and not (field.name == "n" and value == 1):  # `logprobs: false` wishes for nothing
                    raise refused(path, NO_EQUIVALENT)
            case "dropped":
                changed[field.name] = None
                notes.append(f"'{path}' was dropped: {NO_EQUIVALENT}")
    known = OTHERS[client]
    for path, value in request.others.items():
        fate, reason = known.get(path, ("dropped", "it is not known here"))
        if value in (None, "", [], {}):
            continue  # some clients write all the fields they know
        if fate == "refused":
            if not value:
                continue  # what is not wanted need not be there
            raise refused(path, reason)
        notes.append(f"'{path}' was dropped: {reason}")
    for tool in request.tools:
        if tool.hosted is not None:
            raise refused(f"{tool.path}.type", f"a tool of type '{tool.hosted}' is one that its provider runs itself")
    for message in request.messages:
        for part in message.parts:
            _check(part, provider)
    if request.max_output is not None and request.max_output < (least := LEAST_OUTPUT[provider]):
        changed["max_output"] = least
        notes.append(f"the limit on the output was raised to {least}: the model's provider takes none below that")
    return msgspec.structs.replace(request, notes=notes, **changed), notes


def _check(part: Part, provider: DialectName) -> None:
    kind, path = "text", ""
    match part:
        case Image():
            kind = "image (base64)" if part.data is not None else "image (URL)" if part.url is not None else "image (file id)"
            path = part.path
        case Audio():
            kind, path = "audio", part.path
        case File():
            path = part.path
            kind = (
                "document (text)"
                if part.text is not None
                else "document (base64)"
                if part.data is not None
                else "document (URL)"
                if part.url is not None
                else "document (file id)"
            )
        case Foreign(kind="item_reference"):
            kind, path = part.kind, part.path
        case Foreign():
            raise refused(part.path, f"the model's provider has nothing like '{part.kind}'")
        case ToolResult():
            for inner in part.parts:
                _check(inner, provider)
    content = CONTENT[kind]
    if content.fate(provider) == "refused":
        raise refused(path, content.reason)
