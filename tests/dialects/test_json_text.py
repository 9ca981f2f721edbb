"""Reading and writing JSON that others have made, however odd."""

import json

from dwctl.dialects.json_text import encode, objects


def test_half_of_a_surrogate_pair_is_escaped_again() -> None:
    half = json.loads('{"a":"\\ud83d"}')
    assert encode(half) == b'{"a":"\\ud83d"}'


def test_whole_text_is_written_as_it_is() -> None:
    assert encode({"a": "😀"}) == '{"a":"😀"}'.encode()


def test_of_a_list_only_objects_are_taken() -> None:
    assert objects({"a": [{"b": 1}, 2, None, []]}, "a") == [{"b": 1}]
    for nothing in ({}, {"a": None}, {"a": True}, {"a": {"b": 1}}):
        assert objects(nothing, "a") == []
