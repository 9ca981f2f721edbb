"""A client's request, read into the one model (API reference: responses, create)."""

from typing import Any

from dwctl.dialects import efforts
from dwctl.dialects.canonical import Message, OutputFormat, Request, Text, Tool, ToolChoice, is_silent
from dwctl.dialects.reading import (
    a_string,
    an_array,
    an_object,
    empty_array,
    missing,
    optional_array,
    optional_boolean,
    optional_integer,
    optional_number,
    optional_object,
    optional_string,
    required,
    silent,
    string,
    wrong_type,
    wrong_value,
)
from dwctl.dialects.responses import input_items
from dwctl.dialects.responses.namespaces import NAMESPACE, joined

ENCRYPTED_REASONING = "reasoning.encrypted_content"
LOGPROBS = "message.output_text.logprobs"
_SUMMARIES = ("auto", "concise", "detailed")
_VERBOSITIES = ("low", "medium", "high")
MAX_TOP_LOGPROBS = 20

_READ = frozenset(
    {
        "model",
        "input",
        "instructions",
        "stream",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "max_output_tokens",
        "temperature",
        "top_p",
        "top_k",
        "presence_penalty",
        "frequency_penalty",
        "seed",
        "stop",
        "include",
        "top_logprobs",
        "reasoning",
        "text",
        "user",
        "metadata",
        "service_tier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
    }
)
_ECHOED = (
    "background",
    "frequency_penalty",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "presence_penalty",
    "previous_response_id",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
)
"""What the response object repeats."""


def parse_request(body: dict[str, Any]) -> Request:
    """Raises GatewayError 400 that names the field."""
    request = Request(
        model=string(body, "model", "model"),
        messages=_messages(body),
        stream=optional_boolean(body, "stream", "stream") or False,
        tools=_tools(body),
        parallel_tool_calls=optional_boolean(body, "parallel_tool_calls", "parallel_tool_calls"),
        max_output=optional_integer(body, "max_output_tokens", "max_output_tokens", least=1),
        temperature=optional_number(body, "temperature", "temperature"),
        top_p=optional_number(body, "top_p", "top_p"),
        top_k=optional_integer(body, "top_k", "top_k"),
        presence_penalty=optional_number(body, "presence_penalty", "presence_penalty"),
        frequency_penalty=optional_number(body, "frequency_penalty", "frequency_penalty"),
        seed=optional_integer(body, "seed", "seed"),
        stop=_stop(body),
        top_logprobs=_top_logprobs(body),
        user=optional_string(body, "user", "user"),
        metadata=_metadata(body),
        service_tier=optional_string(body, "service_tier", "service_tier"),
        prompt_cache_key=optional_string(body, "prompt_cache_key", "prompt_cache_key"),
        prompt_cache_retention=optional_string(body, "prompt_cache_retention", "prompt_cache_retention"),
        safety_identifier=optional_string(body, "safety_identifier", "safety_identifier"),
        others={name: value for name, value in body.items() if name not in _READ and value is not None},
        echo={name: body[name] for name in _ECHOED if body.get(name) is not None},
    )
    _read_tool_choice(body, request)
    _read_include(body, request)
    _read_reasoning(body, request)
    _read_text(body, request)
    return request


def _messages(body: dict[str, Any]) -> list[Message]:
    elsewhere = any(body.get(name) is not None for name in ("previous_response_id", "conversation", "prompt"))
    value = body.get("input")
    if value is None:
        if not elsewhere:
            raise missing("input")
        value = []
    elif value == [] and not elsewhere:
        raise empty_array("input")
    messages = input_items.read(value, whole=not elsewhere)
    if instructions := optional_string(body, "instructions", "instructions"):
        messages.insert(0, Message("system", [Text(instructions)]))
    if is_silent(messages) and not elsewhere:
        raise silent("input")
    return messages


def _tools(body: dict[str, Any]) -> list[Tool]:
    given = optional_array(body, "tools", "tools") or []
    return [tool for index, value in enumerate(given) for tool in _tool(value, f"tools[{index}]")]


def _tool(value: Any, path: str, namespace: str | None = None, about: str | None = None) -> list[Tool]:
    """A tool, or those of a namespace; what is said about that is said about each of them."""
    tool = an_object(value, path)
    kind = string(tool, "type", f"{path}.type")
    name = tool.get("name")
    if kind not in (("function", "custom", NAMESPACE) if namespace is None else ("function", "custom")):
        return [Tool(path, name if isinstance(name, str) else kind, hosted=kind)]
    name = string(tool, "name", f"{path}.name")
    description = optional_string(tool, "description", f"{path}.description")
    if kind == NAMESPACE:
        members = an_array(required(tool, "tools", f"{path}.tools"), f"{path}.tools")
        return [one for index, member in enumerate(members) for one in _tool(member, f"{path}.tools[{index}]", name, description)]
    return [
        Tool(
            path,
            joined(namespace, name),
            "\n\n".join(text for text in (about, description) if text) or None,
            optional_object(tool, "parameters", f"{path}.parameters") if kind == "function" else None,
            optional_boolean(tool, "strict", f"{path}.strict") if kind == "function" else None,
            custom=kind == "custom",
            grammar=_grammar(tool, path) if kind == "custom" else None,
        )
    ]


def _grammar(tool: dict[str, Any], path: str) -> dict[str, Any] | None:
    path = f"{path}.format"
    bounds = optional_object(tool, "format", path)
    if bounds is None:
        return None
    match string(bounds, "type", f"{path}.type"):
        case "text":
            return None
        case "grammar":
            return {name: string(bounds, name, f"{path}.{name}") for name in ("syntax", "definition")}
    raise wrong_value(f"{path}.type", "one of 'text', 'grammar'")


def _read_tool_choice(body: dict[str, Any], request: Request) -> None:
    match body.get("tool_choice"):
        case None:
            return
        case "auto" | "none" | "required" as mode:
            request.tool_choice = ToolChoice(mode)
        case str():
            raise wrong_value("tool_choice", "one of 'auto', 'none', 'required', or an object")
        case dict() as choice:
            match string(choice, "type", "tool_choice.type"):
                case "function" | "custom":
                    request.tool_choice = ToolChoice("named", [string(choice, "name", "tool_choice.name")])
                case "allowed_tools":
                    request.tool_choice = _allowed(choice)
                case _:
                    request.others["tool_choice"] = choice
        case other:
            raise wrong_type("tool_choice", "a string or an object", other)


def _allowed(choice: dict[str, Any]) -> ToolChoice:
    names = []
    for index, value in enumerate(an_array(required(choice, "tools", "tool_choice.tools"), "tool_choice.tools")):
        path = f"tool_choice.tools[{index}]"
        if string(an_object(value, path), "type", f"{path}.type") in ("function", "custom"):
            names.append(string(value, "name", f"{path}.name"))
    mode = optional_string(choice, "mode", "tool_choice.mode") or "auto"
    if mode not in ("auto", "required"):
        raise wrong_value("tool_choice.mode", "one of 'auto', 'required'")
    return ToolChoice("allowed", names, must=mode == "required")


def _read_include(body: dict[str, Any], request: Request) -> None:
    for index, value in enumerate(optional_array(body, "include", "include") or []):
        path = f"include[{index}]"
        wish = a_string(value, path)
        if wish == ENCRYPTED_REASONING:
            request.encrypted_reasoning = True
        elif wish == LOGPROBS:
            request.logprobs = True
        else:
            request.others[path] = wish


def _read_reasoning(body: dict[str, Any], request: Request) -> None:
    reasoning = optional_object(body, "reasoning", "reasoning") or {}
    request.effort = _one_of(reasoning, "effort", "reasoning.effort", efforts.WORDS)
    request.reasoning_summary = _one_of(reasoning, "summary", "reasoning.summary", _SUMMARIES)
    if request.reasoning_summary is None:
        request.reasoning_summary = _one_of(reasoning, "generate_summary", "reasoning.generate_summary", _SUMMARIES)
    _keep_rest(reasoning, "reasoning", ("effort", "summary", "generate_summary"), request)


def _read_text(body: dict[str, Any], request: Request) -> None:
    text = optional_object(body, "text", "text") or {}
    request.verbosity = _one_of(text, "verbosity", "text.verbosity", _VERBOSITIES)
    _keep_rest(text, "text", ("format", "verbosity"), request)
    wanted = optional_object(text, "format", "text.format")
    if wanted is None:
        return
    match string(wanted, "type", "text.format.type"):
        case "text":
            pass
        case "json_object":
            request.output_format = OutputFormat()
        case "json_schema":
            request.output_format = OutputFormat(
                an_object(required(wanted, "schema", "text.format.schema"), "text.format.schema"),
                string(wanted, "name", "text.format.name"),
                optional_string(wanted, "description", "text.format.description"),
                optional_boolean(wanted, "strict", "text.format.strict"),
            )
        case _:
            raise wrong_value("text.format.type", "one of 'text', 'json_object', 'json_schema'")


def _one_of(value: dict[str, Any], name: str, path: str, words: tuple[str, ...]) -> str | None:
    found = optional_string(value, name, path)
    if found is not None and found not in words:
        raise wrong_value(path, "one of " + ", ".join(f"'{word}'" for word in words))
    return found


def _keep_rest(value: dict[str, Any], path: str, read: tuple[str, ...], request: Request) -> None:
    for name, found in value.items():
        if name not in read and found is not None:
            request.others[f"{path}.{name}"] = found


def _stop(body: dict[str, Any]) -> list[str] | None:
    stop = body.get("stop")
    if stop is None or isinstance(stop, str):
        return [stop] if stop else None
    return [a_string(word, f"stop[{index}]") for index, word in enumerate(an_array(stop, "stop"))] or None


def _top_logprobs(body: dict[str, Any]) -> int | None:
    count = optional_integer(body, "top_logprobs", "top_logprobs", least=0)
    if count is not None and count > MAX_TOP_LOGPROBS:
        raise wrong_value("top_logprobs", f"an integer of at most {MAX_TOP_LOGPROBS}")
    return count or None


def _metadata(body: dict[str, Any]) -> dict[str, Any] | None:
    metadata = optional_object(body, "metadata", "metadata")
    if metadata is not None and (
        len(metadata) > 16 or any(len(key) > 64 or not isinstance(value, str) or len(value) > 512 for key, value in metadata.items())
    ):
        raise wrong_value("metadata", "at most 16 strings of up to 512 characters, with keys of up to 64")
    return metadata
