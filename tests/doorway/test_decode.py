"""Bodies and queries: what is refused names its field, and nothing unstorable gets through."""

import json
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.doorway import decode_body, decode_query
from dwctl.errors import GatewayError


class Inner(msgspec.Struct):
    name: str
    count: int = 0


class Outer(msgspec.Struct):
    title: str
    parts: list[Inner] = []
    more: dict[str, str] = {}


def request(body: bytes, content_type: str | None = "application/json", **args: list[str]) -> Any:
    headers = {} if content_type is None else {"content-type": content_type}
    return SimpleNamespace(body=body, headers=headers, args=args)


def refusal(body: bytes, content_type: str | None = "application/json") -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        decode_body(request(body, content_type), Outer)
    return caught.value


def test_good_body() -> None:
    body = decode_body(request(b'{"title":"x","parts":[{"name":"a"}],"unknown":1}', "application/json; charset=utf-8"), Outer)
    assert body == Outer("x", [Inner("a")])
    assert decode_body(request(b'{"title":"x"}', "application/merge-patch+json"), Outer).title == "x"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b"\xff", 400, None),
        (b'{"title":"\xff"}', 400, None),
        (b'{"title":NaN}', 400, None),
        (b"[" * 100_000, 400, None),
        (b'{"title":' + b"[" * 500 + b"]" * 500 + b"}", 400, None),
        (b"[]", 422, None),
        (b"{}", 422, "title"),
        (b'{"title":null}', 422, "title"),
        (b'{"title":"x","parts":[{"name":"a"},{"count":1}]}', 422, "parts[1].name"),
        (b'{"title":"x","parts":[{"name":"a","count":"b"}]}', 422, "parts[0].count"),
        (b'{"title":"a\\u0000b"}', 400, "title"),
        (b'{"title":"a\\ud800b"}', 400, "title"),
        (b'{"title":"a\\udfffb"}', 400, "title"),
        (b'{"title":"x","parts":[{"name":"\\udc00\\ud800"}]}', 400, "parts[0].name"),
        (b'{"title":"x","more":{"k":"\\u0000"}}', 400, "more.k"),
        (b'{"title":"x","unknown":["\\u0000"]}', 400, "unknown[0]"),
        (b'{"title":"x","k\\u0000":1}', 400, "k\ufffd"),
    ],
)
def test_bad_body(body: bytes, status: int, param: str | None) -> None:
    error = refusal(body)
    assert (error.status, error.param) == (status, param)


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"]
)
def test_other_media_types(content_type: str | None) -> None:
    assert refusal(b'{"title":"x"}', content_type).status == 415


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_any_json_is_decoded_or_refused(value: Any) -> None:
    """Text with NUL is always refused, other values pass unchanged; nothing else is ever raised."""
    text = json.dumps(value)
    try:
        decoded = decode_body(request(text.encode()), Any)
    except GatewayError as error:
        assert error.status == 400
        assert "\\u0000" in text or "\\ud" in text
    else:
        assert "\\u0000" not in text.replace("\\\\", "")
        assert decoded == value


@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    try:
        decode_body(request(body), Outer)
    except GatewayError as error:
        assert error.status in (400, 422)


class Query(msgspec.Struct):
    skip: int = 0
    deleted: bool = False
    search: str | None = None


def test_query() -> None:
    assert decode_query(request(b"", skip=["1", "5"], deleted=["true"], search=[""], other=["x"]), Query) == Query(5, True, None)
    for name, value in (("skip", "x"), ("deleted", "perhaps"), ("search", "a\0b"), ("search", "a\udcffb")):
        with pytest.raises(GatewayError) as caught:
            decode_query(request(b"", **{name: [value]}), Query)
        assert (caught.value.status, caught.value.param) == (400, name)
