"""What is understood of a model's answer, whatever it holds, and what an answer took."""

import json

import pytest

from dwctl.accounts.principals import NIL, Keyring, Person
from dwctl.config.schema import RateLimit, RateLimits
from dwctl.operations.calls import Answer, Piece, _of_body, _of_event, similarity


def answer() -> Answer:
    return Answer(request_id="1", model="m", outcome="interrupted")


def event(body: object) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def test_text_and_thoughts_are_told_apart() -> None:
    ending = answer()
    pieces = _of_event(event({"choices": [{"delta": {"reasoning_content": "hm"}}]}), ending)
    pieces += _of_event(event({"choices": [{"delta": {"reasoning": "so", "content": "Hello"}}]}), ending)
    assert pieces == [Piece("hm", True), Piece("so", True), Piece("Hello")]
    assert (ending.thought, ending.text, ending.error) == ("hmso", "Hello", None)


@pytest.mark.parametrize(
    "raw",
    [
        b": ping\n\n",
        b"data: [DONE]\n\n",
        b"data: {\n\n",
        b"data: \xff\n\n",
        b"data: 1\n\n",
        event({"choices": None}),
        event({"choices": [1, {"delta": []}, {"delta": {"content": 5}}, {}]}),
    ],
)
def test_what_is_not_text_is_passed_over(raw: bytes) -> None:
    ending = answer()
    assert _of_event(raw, ending) == []
    assert ending.error is None


@pytest.mark.parametrize(("error", "said"), [({"message": "no"}, "no"), ("plain", "plain"), ({"code": 1}, "without a message")])
def test_an_error_is_said_wherever_it_stands(error: object, said: str) -> None:
    streamed, whole = answer(), answer()
    _of_event(event({"error": error}), streamed)
    _of_body(json.dumps({"error": error}).encode(), whole)
    assert streamed.error is not None
    assert said in streamed.error
    assert streamed.error == whole.error


def test_vectors_that_are_none_are_an_error() -> None:
    ending = answer()
    _of_body(json.dumps({"data": [{"embedding": [1, 0.5]}]}).encode(), ending)
    assert ending.vectors == [[1, 0.5]]
    _of_body(json.dumps({"data": [{"embedding": "AAAA"}]}).encode(), ending)
    assert ending.error is not None


def test_similarity() -> None:
    assert similarity([1, 0], [2, 0]) == pytest.approx(1)
    assert similarity([1, 0], [0, 3]) == 0
    assert similarity([1, 1], [-1, -1]) == pytest.approx(-1)
    assert similarity([0, 0], [1, 1]) == 0


def test_speed_is_measured_after_the_first_token_if_it_can_be() -> None:
    took = answer()
    assert took.tokens_per_second is None
    took.output_tokens, took.first_byte_us, took.duration_us = 11, 100_000, 600_000
    assert took.tokens_per_second == pytest.approx(20)
    took.duration_us = 100_001
    assert took.tokens_per_second is None


def test_who_calls_without_a_key_has_the_limits_of_keys_without_any_of_their_own() -> None:
    keyring = Keyring(RateLimits(verified=RateLimit(requests_per_second=5, burst_size=9)))
    keyring._people = {
        "v": Person("v@example.com", False, frozenset({"StandardUser"}), frozenset({"g", NIL}), True, False),
        "u": Person("u@example.com", False, frozenset(), frozenset({NIL}), False, True),
    }
    verified, unverified = keyring.principal_of_person("v", "playground"), keyring.principal_of_person("u", "playground")
    assert verified is not None
    assert (verified.key_id, verified.account_id, verified.purpose, verified.rps, verified.burst) == (None, "v", "playground", 5, 9)
    assert verified.groups == {"g", NIL}
    assert unverified is not None
    assert (unverified.rps, unverified.zero_data_retention) == (None, True)
    assert keyring.principal_of_person("nobody", "playground") is None
    assert keyring.principal_of_key("none") is None
