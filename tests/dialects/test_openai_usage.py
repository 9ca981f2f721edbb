"""Usage normalised into classes that add up."""

from hypothesis import given
from hypothesis import strategies as st

from dwctl.dialects.openai_usage import normalise

numbers = st.integers(-5, 10**6) | st.none() | st.text(max_size=3) | st.floats(0, 100) | st.booleans()
details = st.none() | st.dictionaries(st.sampled_from(["cached_tokens", "cache_write_tokens", "reasoning_tokens"]), numbers)


@given(st.integers(0, 10**6), st.integers(0, 10**6), details, details)
def test_classes_add_up_to_the_totals(prompt: int, completion: int, read: object, written: object) -> None:
    usage = normalise(
        {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": read, "completion_tokens_details": written}
    )
    assert usage.input == prompt
    assert usage.output == completion
    assert min(usage.uncached_input, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, usage.reasoning) >= 0
    assert usage.reasoning <= usage.output


@given(st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "input_tokens", "total_tokens"]), numbers))
def test_nonsense_never_fails(usage: dict[str, object]) -> None:
    assert normalise(usage).total >= 0


def test_names_of_both_interfaces() -> None:
    assert normalise({"input_tokens": 4, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 3}}).uncached_input == 1
