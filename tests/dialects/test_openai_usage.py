"""Usage normalised into classes that add up."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.dialects.openai_usage import normalise, read
from dwctl.dialects.usage import Usage

numbers = st.integers(-5, 10**6) | st.none() | st.text(max_size=3) | st.floats(0, 100) | st.booleans()
details = st.none() | st.dictionaries(st.sampled_from(["cached_tokens", "cache_write_tokens", "reasoning_tokens"]), numbers)


@given(st.integers(0, 10**6), st.integers(0, 10**6), details, details)
def test_classes_add_up_to_the_totals(prompt: int, completion: int, read: object, written: object) -> None:
    usage = normalise(
        {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": read, "completion_tokens_details": written}
    )
    assert usage is not None
    assert usage.input == prompt
    assert usage.output == completion
    assert min(usage.uncached_input, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, usage.reasoning) >= 0
    assert usage.reasoning <= usage.output


@given(st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "input_tokens", "total_tokens"]), numbers))
def test_nonsense_never_fails(usage: dict[str, object]) -> None:
    counted = normalise(usage)
    assert counted is None or counted.total >= 0


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        ({"input_tokens": 4, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 3}}, Usage(1, 3, output=2)),
        ({"prompt_tokens": None, "input_tokens": 4, "output_tokens": 2}, Usage(4, output=2)),
        ({"prompt_tokens": 4.0, "completion_tokens": 2.0}, Usage(4, output=2)),
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8)),
        ({"prompt_tokens": 8, "completion_tokens": 2, "prompt_tokens_details": None}, Usage(8, output=2)),
        # DeepSeek, Moonshot
        ({"prompt_tokens": 100, "completion_tokens": 4, "prompt_cache_hit_tokens": 80}, Usage(20, 80, output=4)),
        ({"prompt_tokens": 100, "completion_tokens": 4, "cached_tokens": 80}, Usage(20, 80, output=4)),
        ({"prompt_tokens": 100, "completion_tokens": 4, "cached_tokens": 180}, Usage(0, 100, output=4)),
        # A part that cannot be read leaves the whole as it is.
        ({"prompt_tokens": 100, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": -1}}, Usage(100, output=4)),
    ],
)
def test_what_providers_say(said: dict[str, Any], usage: Usage) -> None:
    assert read(json.dumps(said).encode()) == usage


@pytest.mark.parametrize(
    ("completion", "reasoning", "total", "output"),
    [(9, 300, 341, 309), (400, 300, 732, 700), (309, 300, 341, 309), (9, 0, 41, 9), (300, 9, None, 300), (9, 300, 40, 9)],
)
def test_reasoning_that_is_counted_beside_the_output_is_output(completion: int, reasoning: int, total: int | None, output: int) -> None:
    said = {"prompt_tokens": 32, "completion_tokens": completion, "completion_tokens_details": {"reasoning_tokens": reasoning}}
    usage = read(json.dumps(said | ({"total_tokens": total} if total else {})).encode())
    assert usage == Usage(32, output=output, reasoning=min(reasoning, output))


@pytest.mark.parametrize("count", [None, "12", 12.5, -12, True, 10**30, 10**9, [], {}])
@pytest.mark.parametrize("names", [("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")])
def test_usage_with_a_count_that_is_none_is_no_usage(names: tuple[str, str], count: object) -> None:
    for said in ({names[0]: 10, names[1]: count}, {names[0]: count, names[1]: 10}, {names[0]: count}):
        assert read(json.dumps(said).encode()) is None


@pytest.mark.parametrize("odd", [b'"\xff"', b"1e999", b'"\\ud83d"', b'{"\xff":[1e999]}'])
@pytest.mark.parametrize(
    ("beside", "usage"),
    [
        (b"", Usage(5, output=5)),
        (b'"cached_tokens":2,', Usage(3, 2, output=5)),
        (b'"cache_creation_input_tokens":2,', Usage(3, cache_write_5m=2, output=5)),
        (b'"completion_tokens_details":{"reasoning_tokens":1},', Usage(5, output=5, reasoning=1)),
    ],
)
def test_what_else_a_usage_object_says_does_not_matter(odd: bytes, beside: bytes, usage: Usage) -> None:
    assert read(b'{"prompt_tokens":5,"completion_tokens":5,' + beside + b'"x":' + odd + b"}") == usage


@pytest.mark.parametrize("odd", [b"1" * 5_000, b"[" * 100_000 + b"]" * 100_000, b"[", b"nothing"])
@pytest.mark.parametrize("beside", [b"", b'"cached_tokens":2,'])
def test_a_usage_object_that_cannot_be_read_never_fails(odd: bytes, beside: bytes) -> None:
    usage = read(b'{"prompt_tokens":5,"completion_tokens":5,' + beside + b'"x":' + odd + b"}")
    assert usage is None or usage.total == 10
