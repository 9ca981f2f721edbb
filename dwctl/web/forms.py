"""Forms: fields as a browser sends them to structs, and what is shown again when they cannot be accepted.

Every field is converted by itself, so that a person is told of all mistakes at once, each in a sentence that says what to do. An
empty text is as good as none for a field that may be absent; a checkbox that is not ticked is sent by no browser, and is False.
"""

import types
import typing
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from dwctl.errors import INVALID, GatewayError
from dwctl.texts import UNSTORABLE

Fields = Mapping[str, Sequence[str]]

_KEPT_FROM_PAGES = ("password", "secret", "api_key", "token", "csrf")
"""Fields whose name has one of these as a whole word are never written back into a page; counts of tokens are."""


class FormState(msgspec.Struct):
    """A form as it was sent and could not be accepted."""

    action: str = ""
    values: dict[str, list[str]] = {}
    errors: dict[str, str] = {}
    """Field -> what is wrong with it and how to mend it."""
    message: str | None = None
    """About the form as a whole."""
    conflict: bool = False
    """Somebody else has changed the same thing in the meantime."""

    @property
    def sent(self) -> bool:
        return bool(self.action)

    def value(self, name: str, stored: Any = "") -> str:
        """What the field shows: what was typed, else what is stored."""
        if self.sent:
            typed = self.values.get(name)
            return typed[-1] if typed else ""
        return "" if stored is None or stored is UNSET else str(stored)

    def chosen(self, name: str, stored: Sequence[Any] = ()) -> list[str]:
        """As ``value``, of a field with several values."""
        return self.values.get(name, []) if self.sent else [str(item) for item in stored]

    def ticked(self, name: str, stored: bool = False) -> bool:
        return bool(self.values.get(name)) if self.sent else stored

    def error(self, name: str) -> str | None:
        return self.errors.get(name)

    def first(self, name: str) -> bool:
        """Whether this is the field to begin with: the first one with a mistake."""
        return next(iter(self.errors), None) == name

    def clash(self, name: str, stored: Any) -> str | None:
        """What is stored now, where that is not what was typed and somebody else may have stored it."""
        now = "" if stored is None or stored is UNSET else str(stored)
        # A browser sends a line end as two characters.
        return now if self.conflict and now != self.value(name).replace("\r\n", "\n") else None


class FormError(GatewayError):
    """A form with mistakes: field -> sentence."""

    def __init__(self, errors: dict[str, str], message: str | None = None) -> None:
        super().__init__(422, INVALID, "invalid_form", message or next(iter(errors.values())), param=next(iter(errors), None))
        self.errors = errors
        self.form_message = message


def wrong(field: str, sentence: str) -> FormError:
    """The error of one field."""
    return FormError({field: sentence})


def state_of(action: str, fields: Fields, error: GatewayError) -> FormState:
    """What to show again after ``error``."""
    values = {name: list(given) for name, given in fields.items() if not any(f"_{word}_" in f"_{name}_" for word in _KEPT_FROM_PAGES)}
    if isinstance(error, FormError):
        return FormState(action, values, error.errors, error.form_message)
    if error.param is not None and error.param in fields:
        return FormState(action, values, {error.param: error.message})
    return FormState(action, values, {}, error.message, conflict=error.status == 412)


def decode_fields(fields: Fields, type_: type[msgspec.Struct]) -> Any:
    """A struct from a form's or a query's fields. Raises FormError naming every field that is wrong."""
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    hints = _hints(type_)
    for field in msgspec.structs.fields(type_):
        try:
            value = _value(fields.get(field.encode_name), hints[field.name])
            if value is UNSET:
                if field.required:
                    errors[field.encode_name] = "Fill this in."
                continue
            values[field.name] = value
        except ValueError as error:
            errors[field.encode_name] = str(error)
    if errors:
        raise FormError(errors)
    return type_(**values)


@cache
def _hints(type_: type[msgspec.Struct]) -> dict[str, Any]:
    return typing.get_type_hints(type_, include_extras=True)


def _value(given: Sequence[str] | None, hint: Any) -> Any:
    """One field's value; UNSET if there is none. Raises ValueError with a sentence for the person."""
    bare, optional = _bare(hint)
    if bare is bool:
        return bool(given) and given is not None and given[-1] not in ("", "false", "0", "off")
    if typing.get_origin(bare) in (list, tuple, set, frozenset):
        return _convert([item for item in given or () if item != ""], hint, bare)
    text = given[-1] if given else None
    if text is None:
        return UNSET
    if UNSTORABLE.search(text):
        raise ValueError("This contains a character that cannot be stored. Remove it.")
    if text.strip() == "":
        return None if optional else UNSET
    return _convert(text if bare is str else text.strip(), hint, bare)


def _convert(value: Any, hint: Any, bare: Any) -> Any:
    try:
        return msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(_sentence(bare, str(error))) from None


def _bare(hint: Any) -> tuple[Any, bool]:
    """The type without Annotated, None and UNSET; and whether None is allowed."""
    if typing.get_origin(hint) is Annotated:
        return _bare(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(hint) if option not in (types.NoneType, UnsetType)]
        inner = _bare(options[0])[0] if options else str
        return inner, types.NoneType in typing.get_args(hint)
    return hint, False


def _sentence(bare: Any, problem: str) -> str:
    problem = problem.split(" - at ")[0]
    if problem.startswith("Expected `str` of length >= "):
        return f"Write at least {problem.rsplit(' ', 1)[1]} characters."
    if problem.startswith("Expected `str` of length <= "):
        return f"Write at most {problem.rsplit(' ', 1)[1]} characters."
    for sign, words in ((" >= ", "at least"), (" <= ", "at most"), (" > ", "more than"), (" < ", "less than")):
        if problem.startswith(("Expected `int`", "Expected `float`", "Expected `decimal`")) and sign in problem:
            return f"Must be {words} {problem.rsplit(' ', 1)[1]}."
    if typing.get_origin(bare) is Literal:
        return f"Choose one of: {', '.join(map(str, typing.get_args(bare)))}."
    if bare is int:
        return "Write a whole number, without spaces or unit."
    if bare in (float, Decimal):
        return "Write a number, such as 12 or 0.5."
    return f"{problem}."
