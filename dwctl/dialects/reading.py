"""Reading a client's body field by field, with errors that name the field as the client's API would.

A path is a string that is extended on the way down; the dialect's spelling (``messages[0].content`` or ``messages.0.content``)
is that of whoever extends it.
"""

from typing import Any

from dwctl.errors import GatewayError, bad_request

_NAMES = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "an integer", float: "a number", type(None): "null"}


def wrong_type(path: str, expected: str, value: Any) -> GatewayError:
    return bad_request(
        f"Invalid type for '{path}': expected {expected}, but got {_NAMES.get(type(value), 'something else')}.",
        code="invalid_type",
        param=path,
    )


def wrong_value(path: str, expected: str) -> GatewayError:
    return bad_request(f"Invalid value for '{path}': expected {expected}.", code="invalid_value", param=path)


def missing(path: str) -> GatewayError:
    return bad_request(f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path)


def empty_array(path: str) -> GatewayError:
    return bad_request(f"Invalid '{path}': expected at least one element, but got an empty array.", code="empty_array", param=path)


def silent(path: str) -> GatewayError:
    """There is a conversation, and nothing in it to answer (`canonical.is_silent`)."""
    return bad_request(f"Invalid value for '{path}': nothing is said in it.", code="invalid_value", param=path)


def refused(path: str, reason: str) -> GatewayError:
    """A field that the model's provider has no word for, and without which the answer would be a different one."""
    return bad_request(f"'{path}' cannot be used with this model: {reason}.", code="unsupported_parameter", param=path)


def required(value: dict[str, Any], name: str, path: str) -> Any:
    """Raises GatewayError 400 if the field is not there. ``path`` is that of the field itself."""
    if name not in value:
        raise missing(path)
    return value[name]


def an_object(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong_type(path, "an object", value)
    return value


def an_array(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise wrong_type(path, "an array", value)
    return value


def a_string(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(path, "a string", value)
    return value


def string(value: dict[str, Any], name: str, path: str) -> str:
    return a_string(required(value, name, path), path)


def optional_string(value: dict[str, Any], name: str, path: str) -> str | None:
    found = value.get(name)
    return None if found is None else a_string(found, path)


def optional_object(value: dict[str, Any], name: str, path: str) -> dict[str, Any] | None:
    found = value.get(name)
    return None if found is None else an_object(found, path)


def optional_array(value: dict[str, Any], name: str, path: str) -> list[Any] | None:
    found = value.get(name)
    return None if found is None else an_array(found, path)


def optional_boolean(value: dict[str, Any], name: str, path: str) -> bool | None:
    found = value.get(name)
    if found is not None and not isinstance(found, bool):
        raise wrong_type(path, "a boolean", found)
    return found


def optional_integer(value: dict[str, Any], name: str, path: str, *, least: int | None = None) -> int | None:
    found = value.get(name)
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if found is None:
        return None
    if not isinstance(found, int) or isinstance(found, bool):
        raise wrong_type(path, "an integer", found)
    if least is not None and found < least:
        raise wrong_value(path, f"an integer of at least {least}")
    return found


def optional_number(value: dict[str, Any], name: str, path: str) -> float | None:
    found = value.get(name)
    if found is not None and (not isinstance(found, int | float) or isinstance(found, bool)):
        raise wrong_type(path, "a number", found)
    return found
