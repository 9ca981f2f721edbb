"""From whichever base URL somebody copies, the dialect's paths are found; and nothing leads to another host."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.dialects.conventions import base_of, guess_dialect, key_header
from dwctl.dialects.names import DIALECTS, DialectName
from dwctl.outbound import join


@pytest.mark.parametrize(
    ("dialect", "url", "path", "called"),
    [
        ("openai-chat", "https://api.openai.com/v1", "/chat/completions", "https://api.openai.com/v1/chat/completions"),
        ("openai-chat", "https://h", "/chat/completions", "https://h/chat/completions"),
        ("openai-responses", "https://h:8443/v1/", "/responses", "https://h:8443/v1/responses"),
        ("anthropic", "https://api.anthropic.com", "/messages", "https://api.anthropic.com/v1/messages"),
        ("anthropic", "https://api.anthropic.com/", "/messages", "https://api.anthropic.com/v1/messages"),
        ("anthropic", "https://api.anthropic.com/v1", "/messages", "https://api.anthropic.com/v1/messages"),
        ("anthropic", "https://api.anthropic.com/v1/", "/v1/messages", "https://api.anthropic.com/v1/messages"),
        ("anthropic", "https://h/api/anthropic", "/messages", "https://h/api/anthropic/v1/messages"),
        ("anthropic", "https://h/a%2Fb/v1", "/messages", "https://h/a%2Fb/v1/messages"),
        ("ollama", "http://host:11434", "/api/chat", "http://host:11434/api/chat"),
        ("ollama", "http://host:11434/", "/api/chat", "http://host:11434/api/chat"),
        ("ollama", "http://host:11434/v1", "/api/chat", "http://host:11434/api/chat"),
        ("ollama", "http://host:11434/v1/", "/api/embed", "http://host:11434/api/embed"),
        ("ollama", "http://host:11434/api", "/api/chat", "http://host:11434/api/chat"),
        ("ollama", "https://h/ollama/api/", "/api/chat", "https://h/ollama/api/chat"),
        ("ollama", "http://[::1]:11434", "/api/tags", "http://[::1]:11434/api/tags"),
        ("ollama", "http://host/myapi", "/api/chat", "http://host/myapi/api/chat"),
    ],
)
def test_paths_are_found_from_what_people_paste(dialect: DialectName, url: str, path: str, called: str) -> None:
    assert str(join(base_of(url, dialect), path)) == called


@given(
    st.sampled_from(DIALECTS),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30),
    st.sampled_from(["", "/", "/v1", "/api", "/v1/", "/p/v1"]),
)
def test_the_host_never_changes(dialect: DialectName, tail: str, end: str) -> None:
    try:
        url = join(base_of(f"https://h:99{end}", dialect), "/" + tail)
    except ValueError:
        return
    assert (url.scheme, url.host, url.port) == ("https", "h", 99)


def test_a_key_is_sent_as_the_dialect_has_it_unless_another_header_is_wished_for() -> None:
    assert key_header("anthropic") == ("x-api-key", "")
    assert key_header("anthropic", "X-Api-Key") == ("X-Api-Key", "")
    assert key_header("anthropic", "Authorization") == ("Authorization", "Bearer ")
    assert key_header("ollama") == key_header("openai-responses") == ("Authorization", "Bearer ")


@pytest.mark.parametrize(
    ("url", "dialect"),
    [
        (" https://API.anthropic.com/v1 ", "anthropic"),
        ("http://10.0.0.5:11434/v1", "ollama"),
        ("https://api.openai.com/v1", None),
        ("https://api.anthropic.com.evil.example", None),
        ("http://h:99999", None),
        ("", None),
    ],
)
def test_a_guess_is_made_for_places_that_are_known(url: str, dialect: DialectName | None) -> None:
    assert guess_dialect(url) == dialect
