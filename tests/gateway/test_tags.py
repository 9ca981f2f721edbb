"""What the header of tags may hold, and what is said of the rest."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.errors import GatewayError
from dwctl.gateway.tags import parse
from dwctl.ledger.cleaning import MAX_TAG, MAX_TAGS

ALPHABET = "ABCXYZabcxyz0189._:=/-"
tags = st.text(ALPHABET, min_size=1, max_size=MAX_TAG)
spaces = st.text(" \t", max_size=2)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([""], ()),
        ([" , ,\t,"], ()),
        (["checkout"], ("checkout",)),
        (["checkout, beta"], ("checkout", "beta")),
        (["beta,checkout,beta,Beta"], ("beta", "checkout", "Beta")),
        (["team=search, a.b_c:d/e-f"], ("team=search", "a.b_c:d/e-f")),
        (["a, b", "", "c, a"], ("a", "b", "c")),
        (["x" * 64], ("x" * 64,)),
        ([",".join(map(str, range(16)))], tuple(map(str, range(16)))),
        ([",".join(["a", "b"] * 500)], ("a", "b")),
    ],
)
def test_what_the_header_says(lines: list[str], found: tuple[str, ...]) -> None:
    assert parse(lines) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("two words", "tag 1 is not"),
        ("a, b, <b>", "tag 3 is not"),
        ("a;b", "tag 1 is not"),
        ("caf\u00e9", "tag 1 is not"),
        ("\u0660", "tag 1 is not"),  # a digit, of another script
        ("a\n", "tag 1 is not"),
        ("a\0", "tag 1 is not"),
        ("\udcff\udcfe", "tag 1 is not"),
        ('"quoted"', "tag 1 is not"),
        ("x" * 65, "tag 1 is not made of 1 to 64 of"),
        (",".join(map(str, range(17))), "at most 16 tags"),
    ],
)
def test_what_is_wrong_is_refused_with_the_remedy(text: str, said: str) -> None:
    with pytest.raises(GatewayError) as caught:
        parse([text])
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "invalid_tags", "x-dwctl-tags")
    assert error.message.startswith("x-dwctl-tags: ")
    assert said in error.message


@given(st.lists(st.lists(st.tuples(spaces, tags | st.just(""), spaces), max_size=8), max_size=3))
def test_tags_are_found_each_once_in_order_however_they_are_spread_over_lines(given_lines: list[list[tuple[str, str, str]]]) -> None:
    lines = [",".join("".join(element) for element in line) for line in given_lines]
    wanted = tuple(dict.fromkeys(tag for line in given_lines for _, tag, _ in line if tag))
    if len(wanted) > MAX_TAGS:
        with pytest.raises(GatewayError):
            parse(lines)
    else:
        assert parse(lines) == wanted


@given(st.lists(st.text(), max_size=3))
def test_whatever_comes_is_refused_or_made_of_tags(lines: list[str]) -> None:
    try:
        found = parse(lines)
    except GatewayError as error:
        assert error.code == "invalid_tags"
        error.message.encode("ascii")
        return
    assert len(set(found)) == len(found) <= MAX_TAGS
    assert all(re.fullmatch(r"[A-Za-z0-9._:=/-]{1,64}", tag, re.ASCII) for tag in found)
    assert parse([", ".join(found)]) == found
