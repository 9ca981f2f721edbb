"""What the connection form makes of what is left open in it."""

import pytest

from dwctl.web.endpoint_forms import ConnectionForm


@pytest.mark.parametrize(
    ("url", "chosen", "dialect"),
    [
        ("https://api.anthropic.com", None, "anthropic"),
        ("http://10.0.0.5:11434/v1", None, "ollama"),
        ("https://api.example.com/v1", None, "openai-chat"),
        ("https://api.anthropic.com/v1", "openai-chat", "openai-chat"),
    ],
)
def test_an_address_that_is_known_chooses_the_dialect_unless_somebody_did(url: str, chosen: str | None, dialect: str) -> None:
    assert ConnectionForm(name="x", url=url, dialect=chosen).creation().dialect == dialect


@pytest.mark.parametrize(
    ("header", "word", "sent"),
    [
        (None, None, (None, None)),
        (None, "Token", (None, "Token ")),
        ("api-key", None, ("api-key", "")),
        ("X-Auth", "Key", ("X-Auth", "Key ")),
    ],
)
def test_a_header_that_is_named_has_no_word_but_its_own(header: str | None, word: str | None, sent: tuple[str | None, str | None]) -> None:
    made = ConnectionForm(name="x", url="http://h", auth_header_name=header, auth_header_prefix=word).creation()
    assert (made.auth_header_name, made.auth_header_prefix) == sent
