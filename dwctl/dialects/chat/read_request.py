"""Requests of clients: what they mean, whatever of the dialect's many spellings they use."""

from typing import Any

from dwctl.dialects import efforts, reading
from dwctl.dialects.canonical import Message, OutputFormat, Request, Role, Tool, ToolChoice, is_silent
from dwctl.dialects.chat.read_parts import Calls, assistant_parts, content_parts, tool_result
from dwctl.dialects.fields import CHAT, FIELDS

_TOP_LEVEL = frozenset(
    [
        "model",
        "messages",
        "stream",
        "stream_options",
        "functions",
        "function_call",
        "max_tokens",
        *(f.says[CHAT] for f in FIELDS if CHAT in f.says),
    ]
)
_MESSAGE = frozenset(
    [
        "role",
        "content",
        "name",
        "tool_calls",
        "tool_call_id",
        "function_call",
        "refusal",
        "annotations",
        "audio",
        "reasoning",
        "reasoning_content",
        "reasoning_details",
        "cache_control",
    ]
)
_ROLES: dict[str, Role] = {"system": "system", "developer": "developer", "user": "user"}
_CHOICES = {"auto", "none", "required"}
_ALLOWED_MODES = {"auto", "required"}


def parse_request(body: dict[str, Any]) -> Request:
    others: dict[str, Any] = {}
    _note(others, body, _TOP_LEVEL, "")
    if others.get("modalities") == ["text"]:
        del others["modalities"]  # what everybody does
    options = reading.optional_object(body, "stream_options", "stream_options") or {}
    _note(others, options, frozenset({"include_usage"}), "stream_options.")
    effort = reading.optional_string(body, "reasoning_effort", "reasoning_effort")
    if effort is not None and effort not in efforts.WORDS:
        raise reading.wrong_value("reasoning_effort", f"one of {', '.join(efforts.WORDS)}")
    tools = _tools(body, others)
    old_functions = bool(body.get("functions")) and not body.get("tools")
    parallel = reading.optional_boolean(body, "parallel_tool_calls", "parallel_tool_calls")
    limit = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    return Request(
        model=reading.string(body, "model", "model"),
        messages=_messages(reading.an_array(reading.required(body, "messages", "messages"), "messages"), others),
        stream=reading.optional_boolean(body, "stream", "stream") or False,
        include_usage=reading.optional_boolean(options, "include_usage", "stream_options.include_usage") or False,
        tools=tools,
        old_functions=old_functions,
        tool_choice=_tool_choice(body),
        parallel_tool_calls=False if old_functions else parallel,
        max_output=reading.optional_integer(body, limit, limit, least=1),
        temperature=reading.optional_number(body, "temperature", "temperature"),
        top_p=reading.optional_number(body, "top_p", "top_p"),
        top_k=reading.optional_integer(body, "top_k", "top_k"),
        min_p=reading.optional_number(body, "min_p", "min_p"),
        presence_penalty=reading.optional_number(body, "presence_penalty", "presence_penalty"),
        frequency_penalty=reading.optional_number(body, "frequency_penalty", "frequency_penalty"),
        seed=reading.optional_integer(body, "seed", "seed"),
        stop=_stop(body.get("stop")),
        n=reading.optional_integer(body, "n", "n", least=1),
        logprobs=reading.optional_boolean(body, "logprobs", "logprobs"),
        top_logprobs=reading.optional_integer(body, "top_logprobs", "top_logprobs", least=0),
        logit_bias=reading.optional_object(body, "logit_bias", "logit_bias"),
        effort=effort,
        output_format=_output_format(body, others),
        verbosity=reading.optional_string(body, "verbosity", "verbosity"),
        user=reading.optional_string(body, "user", "user"),
        metadata=reading.optional_object(body, "metadata", "metadata"),
        service_tier=reading.optional_string(body, "service_tier", "service_tier"),
        prompt_cache_key=reading.optional_string(body, "prompt_cache_key", "prompt_cache_key"),
        prompt_cache_retention=reading.optional_string(body, "prompt_cache_retention", "prompt_cache_retention"),
        safety_identifier=reading.optional_string(body, "safety_identifier", "safety_identifier"),
        others=others,
    )


def _note(others: dict[str, Any], value: dict[str, Any], known: frozenset[str], path: str) -> None:
    others.update({path + name: found for name, found in value.items() if name not in known and found is not None})


def _stop(value: Any) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return [value]
    return [reading.a_string(word, f"stop[{index}]") for index, word in enumerate(reading.an_array(value, "stop"))]


def _messages(messages: list[Any], others: dict[str, Any]) -> list[Message]:
    if not messages:
        raise reading.empty_array("messages")
    read: list[Message] = []
    calls = Calls()
    for index, item in enumerate(messages):
        path = f"messages[{index}]"
        message = reading.an_object(item, path)
        # One note for a field of all messages: a long conversation would say the same of each.
        _note(others, message, _MESSAGE, "messages[].")
        role = reading.string(message, "role", f"{path}.role")
        name = reading.optional_string(message, "name", f"{path}.name")
        if role in _ROLES:
            read.append(Message(_ROLES[role], content_parts(message, path), name))
        elif role == "assistant":
            read.append(Message("assistant", assistant_parts(message, path, calls), name))
        elif role in ("tool", "function"):
            parts = tool_result(message, path, calls)
            if read and read[-1].role == "tool":
                read[-1].parts += parts
            else:
                read.append(Message("tool", parts))
        else:
            raise reading.wrong_value(f"{path}.role", "system, developer, user, assistant, tool or function")
    if is_silent(read):
        raise reading.silent("messages")
    return read


def _tools(body: dict[str, Any], others: dict[str, Any]) -> list[Tool]:
    tools = [
        _tool(reading.an_object(item, f"tools[{index}]"), f"tools[{index}]", others)
        for index, item in enumerate(reading.optional_array(body, "tools", "tools") or [])
    ]
    for index, item in enumerate(reading.optional_array(body, "functions", "functions") or []):
        tools.append(_function(reading.an_object(item, f"functions[{index}]"), f"functions[{index}]", f"functions[{index}]", others))
    return tools


def _tool(tool: dict[str, Any], path: str, others: dict[str, Any]) -> Tool:
    kind = reading.string(tool, "type", f"{path}.type")
    if kind == "function":
        inner = f"{path}.function"
        read = _function(reading.an_object(reading.required(tool, "function", inner), inner), inner, path, others)
    elif kind == "custom":
        inner = f"{path}.custom"
        custom = reading.an_object(reading.required(tool, "custom", inner), inner)
        read = Tool(
            path,
            reading.string(custom, "name", f"{inner}.name"),
            reading.optional_string(custom, "description", f"{inner}.description"),
            custom=True,
            grammar=_grammar(custom, f"{inner}.format"),
        )
    else:
        return Tool(path, "", hosted=kind)
    read.cache = reading.optional_object(tool, "cache_control", f"{path}.cache_control")
    return read


def _function(function: dict[str, Any], path: str, place: str, others: dict[str, Any]) -> Tool:
    _note(
        others,
        function,
        frozenset({"name", "description", "parameters", "strict"}),
        "functions[]." if path == place else "tools[].function.",
    )
    return Tool(
        place,
        reading.string(function, "name", f"{path}.name"),
        reading.optional_string(function, "description", f"{path}.description"),
        reading.optional_object(function, "parameters", f"{path}.parameters"),
        reading.optional_boolean(function, "strict", f"{path}.strict"),
    )


def _grammar(custom: dict[str, Any], path: str) -> dict[str, Any] | None:
    form = reading.optional_object(custom, "format", path) or {}
    if form.get("type", "text") == "text":
        return None
    if form["type"] != "grammar":
        raise reading.wrong_value(f"{path}.type", "text or grammar")
    grammar = reading.an_object(reading.required(form, "grammar", f"{path}.grammar"), f"{path}.grammar")
    return {
        "syntax": reading.string(grammar, "syntax", f"{path}.grammar.syntax"),
        "definition": reading.string(grammar, "definition", f"{path}.grammar.definition"),
    }


def _tool_choice(body: dict[str, Any]) -> ToolChoice | None:
    choice = body.get("tool_choice")
    if choice is None:
        return _function_call(body.get("function_call"))
    if isinstance(choice, str):
        if choice not in _CHOICES:
            raise reading.wrong_value("tool_choice", "none, auto, required or an object")
        return ToolChoice(choice)  # type: ignore[arg-type]
    kind = reading.string(reading.an_object(choice, "tool_choice"), "type", "tool_choice.type")
    if kind in ("function", "custom"):
        return ToolChoice("named", [_named(choice, kind, "tool_choice")])
    if kind != "allowed_tools":
        raise reading.wrong_value("tool_choice.type", "function, custom or allowed_tools")
    path = "tool_choice.allowed_tools"
    allowed = reading.an_object(reading.required(choice, "allowed_tools", path), path)
    mode = reading.string(allowed, "mode", f"{path}.mode")
    if mode not in _ALLOWED_MODES:
        raise reading.wrong_value(f"{path}.mode", "auto or required")
    names = []
    for index, item in enumerate(reading.an_array(reading.required(allowed, "tools", f"{path}.tools"), f"{path}.tools")):
        place = f"{path}.tools[{index}]"
        tool = reading.an_object(item, place)
        names.append(_named(tool, reading.string(tool, "type", f"{place}.type"), place))
    return ToolChoice("allowed", names, must=mode == "required")


def _named(tool: dict[str, Any], kind: str, path: str) -> str:
    named = reading.an_object(reading.required(tool, kind, f"{path}.{kind}"), f"{path}.{kind}")
    return reading.string(named, "name", f"{path}.{kind}.name")


def _function_call(choice: Any) -> ToolChoice | None:
    """The choice of the old ``functions``."""
    if choice is None:
        return None
    if choice in ("auto", "none"):
        return ToolChoice(choice, path="function_call")
    if isinstance(choice, str):
        raise reading.wrong_value("function_call", "none, auto or an object")
    name = reading.string(reading.an_object(choice, "function_call"), "name", "function_call.name")
    return ToolChoice("named", [name], path="function_call")


def _output_format(body: dict[str, Any], others: dict[str, Any]) -> OutputFormat | None:
    form = reading.optional_object(body, "response_format", "response_format")
    if form is None:
        return None
    kind = reading.string(form, "type", "response_format.type")
    if kind == "text":
        return None
    if kind == "json_object":
        return OutputFormat()
    if kind != "json_schema":
        raise reading.wrong_value("response_format.type", "text, json_object or json_schema")
    path = "response_format.json_schema"
    wanted = reading.an_object(reading.required(form, "json_schema", path), path)
    _note(others, wanted, frozenset({"schema", "name", "description", "strict"}), f"{path}.")
    return OutputFormat(
        # A name alone is allowed, and means any object.
        schema=reading.optional_object(wanted, "schema", f"{path}.schema") or {"type": "object"},
        name=reading.optional_string(wanted, "name", f"{path}.name"),
        description=reading.optional_string(wanted, "description", f"{path}.description"),
        strict=reading.optional_boolean(wanted, "strict", f"{path}.strict"),
    )
