"""Errors of chat servers, read, and ours, written."""

import json
from typing import Any

import pytest

from dwctl.dialects import chat
from dwctl.dialects.codec import ProviderError
from dwctl.errors import GatewayError
from tests.dialects.chat.machine import Machine

ERROR = GatewayError(429, "rate_limit_error", "rate_limit", "Slow down.", param="model", fields={"limit": 5})


def test_an_error_is_written_in_openai_s_envelope() -> None:
    assert json.loads(chat.render_error(ERROR, "req-1")) == {
        "error": {"message": "Slow down.", "type": "rate_limit_error", "param": "model", "code": "rate_limit", "limit": 5}
    }


def test_an_error_ends_a_stream() -> None:
    machine = Machine()
    machine.feed(chat.stream_error(ERROR, "req-1"))
    machine.end()
    assert machine.error is not None
    assert machine.error["code"] == "rate_limit"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (
            {"error": {"message": "no", "type": "invalid_request_error", "param": "n", "code": "bad"}},
            ProviderError("no", "invalid_request_error", "bad", "n"),
        ),
        ({"error": {"message": "no", "code": 429}}, ProviderError("no", None, "429", None, 429)),
        ({"error": {"message": "no", "code": "rate_limit_exceeded"}}, ProviderError("no", None, "rate_limit_exceeded", None, 429)),
        ({"error": "no"}, ProviderError("no")),
        ({"error": {"code": 503}}, ProviderError("", None, "503", None, 503)),
        (
            {"object": "error", "message": "no", "type": "BadRequestError", "param": None, "code": 400},
            ProviderError("no", "BadRequestError", "400", None, 400),
        ),
        ({"detail": "no"}, ProviderError("no")),
        ({"detail": [{"msg": "no"}]}, ProviderError('[{"msg":"no"}]')),
        ({"choices": [], "error": {"message": "no"}}, ProviderError("no")),
        ({"choices": [], "error": None, "message": "hi"}, None),
        ({"error": {}}, None),
        ({"error": None}, None),
        ({}, None),
    ],
)
def test_errors_of_providers(body: dict[str, Any], error: ProviderError | None) -> None:
    assert chat.read_error(body) == error
