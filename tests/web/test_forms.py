"""Fields of a form to a struct, and what a person is told."""

from decimal import Decimal
from typing import Annotated, Literal

import msgspec
import pytest

from dwctl.errors import GatewayError, bad_request, conflict
from dwctl.web.forms import FormError, decode_fields, state_of, wrong


class Form(msgspec.Struct, kw_only=True):
    name: Annotated[str, msgspec.Meta(min_length=2, max_length=5)]
    note: str | None = None
    count: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1
    price: Decimal | None = None
    kind: Literal["a", "b"] = "a"
    active: bool = False
    groups: list[str] = []


def test_what_a_browser_sends() -> None:
    fields = {
        "name": ["abc"],
        "note": [""],
        "count": [" 3 "],
        "price": ["0.1"],
        "kind": ["b"],
        "active": ["true"],
        "groups": ["x", "", "y"],
    }
    assert decode_fields(fields, Form) == Form(name="abc", count=3, price=Decimal("0.1"), kind="b", active=True, groups=["x", "y"])
    assert decode_fields({"name": ["abc"], "more": ["ignored"]}, Form) == Form(name="abc")


def test_all_mistakes_are_told_at_once_and_say_what_to_do() -> None:
    fields = {"name": [" "], "count": ["many"], "price": ["1,5"], "kind": ["c"], "note": ["a\0b"]}
    with pytest.raises(FormError) as caught:
        decode_fields(fields, Form)
    assert caught.value.errors == {
        "name": "Fill this in.",
        "note": "This contains a character that cannot be stored. Remove it.",
        "count": "Write a whole number, without spaces or unit.",
        "price": "Write a number, such as 12 or 0.5.",
        "kind": "Choose one of: a, b.",
    }


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": ["a"]}, "Write at least 2 characters."),
        ({"name": ["abcdef"]}, "Write at most 5 characters."),
        ({"name": ["abc"], "count": ["0"]}, "Must be at least 1."),
        ({"name": ["abc"], "count": ["10"]}, "Must be at most 9."),
    ],
)
def test_bounds_in_words(fields: dict[str, list[str]], sentence: str) -> None:
    with pytest.raises(FormError) as caught:
        decode_fields(fields, Form)
    assert list(caught.value.errors.values()) == [sentence]


@pytest.mark.parametrize(
    ("error", "errors", "message", "is_conflict"),
    [
        (wrong("name", "Taken."), {"name": "Taken."}, None, False),
        (bad_request("is too long", param="name"), {"name": "is too long"}, None, False),
        (conflict("The name is already in use"), {}, "The name is already in use", False),
        (GatewayError(412, "invalid_request_error", "stale_revision", "changed"), {}, "changed", True),
    ],
)
def test_what_is_shown_again(error: GatewayError, errors: dict[str, str], message: str | None, is_conflict: bool) -> None:
    fields = {"name": ["typed"], "password": ["secret"], "api_key": ["secret"], "_csrf": ["token"]}
    state = state_of("/form", fields, error)
    assert (state.errors, state.message, state.conflict) == (errors, message, is_conflict)
    assert state.value("name", "stored") == "typed"
    assert state.clash("name", "stored") == ("stored" if is_conflict else None)
    assert "secret" not in str(state.values)
    assert "token" not in str(state.values)
