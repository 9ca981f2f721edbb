"""What OpenAI's two dialects share: errors, headers, keys. Both are `OpenAI`; only chat ends its streams with [DONE]."""

from dwctl.simulator.connection import Request
from dwctl.simulator.wire import Refused, encode, named_event


class OpenAI:
    """The dialect of chat and of everything else at OpenAI but Responses."""

    end: bytes | None = b"[DONE]"

    def authorization(self, request: Request) -> bytes | None:
        return request.header(b"authorization")

    def no_key(self, given: bytes | None) -> Refused:
        if given is None:
            return Refused(401, "You didn't provide an API key.")
        return Refused(401, f"Incorrect API key provided: ****{given[-4:].decode('latin-1')}.", code="invalid_api_key")

    def failure(self, status: int) -> Refused:
        if status == 401:
            return Refused(401, "Incorrect API key provided.", code="invalid_api_key")
        if status == 429:
            return Refused(429, "Rate limit reached for requests.", "requests", "rate_limit_exceeded")
        return Refused(status, f"The simulated provider answers {status}.")

    def error(self, refused: Refused) -> bytes:
        kind = refused.kind or ("server_error" if refused.status >= 500 else "invalid_request_error")
        return encode({"error": {"message": refused.message, "type": kind, "param": refused.param, "code": refused.code}})

    def headers(self, status: int) -> bytes:
        if status != 429:
            return b""
        return b"x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 1s\r\n"

    def event(self, payload: bytes) -> bytes:
        return b"data: " + payload + b"\n\n"


class Responses(OpenAI):
    """The dialect of Responses."""

    end = None

    def event(self, payload: bytes) -> bytes:
        return named_event(payload)


OPENAI, RESPONSES = OpenAI(), Responses()
BROKEN = "The server had an error while processing your request."


def missing(name: str) -> Refused:
    return Refused(400, f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name)


def empty(name: str) -> Refused:
    message = f"Invalid '{name}': empty array. Expected an array with minimum length 1, but got an empty array instead."
    return Refused(400, message, code="empty_array", param=name)


def invalid(name: str, value: object, supported: list[str]) -> Refused:
    *most, last = [f"'{one}'" for one in supported]
    message = f"Invalid value: '{value}'. Supported values are: {', '.join(most)}, and {last}."
    return Refused(400, message, code="invalid_value", param=name)


def wrong_type(name: str, value: object, wanted: str) -> Refused:
    kinds = {str: "a string", list: "an array", dict: "an object", bool: "a boolean", int: "an integer", float: "a decimal"}
    found = kinds.get(type(value), "null")
    return Refused(400, f"Invalid type for '{name}': expected {wanted}, but got {found} instead.", code="invalid_type", param=name)


def unknown(name: str) -> Refused:
    return Refused(400, f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)


def closed(schema: object, name: str, param: str, path: tuple[str, ...] = ()) -> None:
    """What a strict schema demands of each object: no other members, all of them required. Raises `Refused`."""
    if not isinstance(schema, dict):
        return
    where = f"Invalid schema for {name}: In context=({', '.join(repr(part) for part in path)}), "
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            message = where + "'additionalProperties' is required to be supplied and to be false."
            raise Refused(400, message, code="invalid_json_schema", param=param)
        properties = schema.get("properties") or {}
        if set(schema.get("required") or []) != set(properties):
            message = where + "'required' is required to be supplied and to be an array including every key in properties."
            raise Refused(400, message, code="invalid_json_schema", param=param)
        for key, inner in properties.items():
            closed(inner, name, param, (*path, "properties", key))
    closed(schema.get("items"), name, param, (*path, "items"))
    for index, inner in enumerate(schema.get("anyOf") or []):
        closed(inner, name, param, (*path, "anyOf", str(index)))
