"""Bodies and queries to structs. Syntax errors are 400, other media types 415, wrong types 422; each names the field.

Text with U+0000 or lone surrogates is refused: no database column and no UTF-8 output can hold it.
"""

import json
import re
from typing import Any

import msgspec
from sanic.request import Request

from dwctl.errors import INVALID, GatewayError, bad_request
from dwctl.texts import UNSTORABLE

_AT = re.compile(r" - at `([^`]*)`$")
_FIELD = re.compile(r"`([^`]+)`")
_MAX_DEPTH = 64


def decode_body(request: Request, type_: Any) -> Any:
    """The JSON body as ``type_``. Raises GatewayError 400, 415 or 422."""
    media_type = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if media_type != "application/json" and not (media_type.startswith("application/") and media_type.endswith("+json")):
        raise GatewayError(415, INVALID, "unsupported_media_type", "Expected request with `Content-Type: application/json`")
    value = _parse(request.body)
    _check_text(value, "", 0)
    try:
        # From the bytes: a number that becomes a Decimal is read digit by digit, not by way of a float.
        return msgspec.json.decode(request.body, type=type_)
    except msgspec.ValidationError as error:
        raise _invalid(error) from error


def decode_query(request: Request, type_: type[msgspec.Struct]) -> msgspec.Struct:
    """The query as ``type_``; the last value of a repeated name counts, an empty one is as good as none. Raises GatewayError 400."""
    values = {name: given[-1] for name, given in request.args.items() if given and given[-1] != ""}
    _check_text(values, "", 0)
    try:
        return msgspec.convert(values, type_, strict=False)
    except msgspec.ValidationError as error:
        refusal = _invalid(error)
        refusal.status = 400
        raise refusal from error


def _parse(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # A lone surrogate is a syntax error to msgspec; the standard decoder lets it pass, so that the field can be named.
        try:
            _check_text(json.loads(raw), "", 0)
        except (ValueError, RecursionError):
            pass
        raise bad_request("The body is not valid JSON", code="invalid_json") from error


def _check_text(value: Any, path: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise bad_request("The body is nested too deeply", code="invalid_json")
    if isinstance(value, str):
        if UNSTORABLE.search(value):
            raise bad_request(f"{path or 'The body'} contains a character that cannot be stored", code="invalid_string", param=path or None)
    elif isinstance(value, dict):
        for name, item in value.items():
            shown = UNSTORABLE.sub("\ufffd", name)
            inner = f"{path}.{shown}" if path else shown
            if shown != name:
                _check_text(name, inner, depth)
            _check_text(item, inner, depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_text(item, f"{path}[{index}]", depth + 1)


def _invalid(error: msgspec.ValidationError) -> GatewayError:
    message = str(error)
    return GatewayError(422, INVALID, "invalid_field", message, param=_field_of(message))


def _field_of(message: str) -> str | None:
    """``Object missing required field `name` - at `$.prices[0]``` -> ``prices[0].name``."""
    found = _AT.search(message)
    path = found.group(1).removeprefix("$").removeprefix(".") if found else ""
    if "field" in message:
        named = _FIELD.search(message)
        if named:
            return f"{path}.{named.group(1)}" if path else named.group(1)
    return path or None
