"""No client path leaves the provider's host; no base URL points where it must not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from dwctl.outbound import check_url, join


@pytest.mark.parametrize(
    ("base", "path", "query", "url"),
    [
        ("https://h/v1", "/v1/chat/completions", "x=1", "https://h/v1/chat/completions?x=1"),
        ("https://h/v1/", "/v1/chat/completions", "x=1", "https://h/v1/chat/completions?x=1"),
        ("https://h/v1", "/chat/completions", "", "https://h/v1/chat/completions"),
        ("https://h", "/v1/x", "y=1", "https://h/v1/x?y=1"),
        ("https://h/v1beta", "/v1/x", "", "https://h/v1beta/v1/x"),
        ("https://h:8443/v1beta/openai", "/chat/completions", "", "https://h:8443/v1beta/openai/chat/completions"),
        ("https://h/v1", "/v12/x", "", "https://h/v1/v12/x"),
    ],
)
def test_join(base: str, path: str, query: str, url: str) -> None:
    assert str(join(URL(base), path, query)) == url


@pytest.mark.parametrize(
    "path",
    [
        "/https://evil.example/x",
        "//evil/x",
        "/..%2f..",
        "/../x",
        "/a/../b",
        "/%2e%2e/x",
        "/a/./b",
        "/a\\b",
        "/a%5cb",
        "x",
        "/a b",
        "/a\x00",
    ],
)
def test_paths_that_could_leave_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="the path holds"):
        join(URL("https://h/v1"), path)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30))
def test_the_host_never_changes(tail: str) -> None:
    try:
        url = join(URL("https://h:99/v1"), "/" + tail)
    except ValueError:
        return
    assert (url.scheme, url.host, url.port) == ("https", "h", 99)
    assert url.raw_path.startswith("/v1")


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "http://127.0.0.1:11434/v1", "http://10.0.0.8/v1", "http://[::1]:8000"])
def test_usable_bases(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h",
        "https://",
        "https://user:pw@h/v1",
        "https://h/v1?key=x",
        "https://h/v1#f",
        "http://169.254.169.254/latest",
        "http://[fe80::1]/",
        "http://0.0.0.0",
        "http://169.254.169.254./",
        "http://\u2460\u2465\u2468.254.169.254/",
        "http://\uff11\uff16\uff19\u3002254.169.254/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[::169.254.169.254]/",
        "http://[::ffff:169.254.169.254]/",
        "http://[fd00:ec2::254]/",
        "http://a..b/",
        "http://xn--/",
        "http://h\\x/",
        "http://h x/",
        "http://h\n/",
        "http://h:99999",
        "nonsense",
    ],
)
def test_unusable_bases(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|allowed"):
        check_url(url)
