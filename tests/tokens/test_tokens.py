"""Counts are tiktoken's own, need no network, and stay below the bound."""

import asyncio
import random
import shutil
import string
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from dwctl import tokens
from dwctl.tokens import encodings

CACHE_KEYS = {"o200k_base": "fb374d419588a4632f3f557e76b4b70aebbca790", "cl100k_base": "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"}
"""How tiktoken names the two files in its cache: SHA-1 of their addresses."""

TEXTS = [
    "",
    "Hello, world!",
    "The quick brown fox jumps over the lazy dog.",
    "naïve café 東京 Привет 🙂",
    "def f(x):\n    return {'a': [1, 22, 333, 4444]}\n\n\n",
    "<|endoftext|> as text, don't you'll WE'VE",
    "\x00\x01 a\ud800b",
    " " * 300 + "x" * 300 + "\n" * 300,
]
KNOWN = {
    "Hello, world!": (4, 4),
    "The quick brown fox jumps over the lazy dog.": (10, 10),
    "antidisestablishmentarianism": (6, 6),
    "東京": (1, 3),
}
"""Counts by o200k_base and cl100k_base, from OpenAI's own page and tiktoken."""


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tiktoken.Encoding]]:
    """tiktoken's own encodings, with its cache filled so that it fetches nothing."""
    cache = tmp_path_factory.mktemp("tiktoken")
    for name, key in CACHE_KEYS.items():
        shutil.copyfile(encodings.RANKS / f"{name}.tiktoken", cache / key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(cache))
        yield {name: tiktoken.get_encoding(name) for name in CACHE_KEYS}


@pytest.mark.parametrize("name", tokens.TOKENIZERS)
def test_counts_equal_tiktokens_own(official: dict[str, tiktoken.Encoding], name: str) -> None:
    for text in TEXTS:
        assert tokens.load(name).encode_ordinary(text) == official[name].encode(text, disallowed_special=())
        assert tokens.count(text, name) == len(official[name].encode(text, disallowed_special=()))


@pytest.mark.parametrize("name", tokens.TOKENIZERS)
@settings(max_examples=300, deadline=None)
@given(text=st.text())
def test_any_text_counts_as_tiktoken_and_within_the_bound(official: dict[str, tiktoken.Encoding], name: str, text: str) -> None:
    counted = tokens.count(text, name)
    assert counted == len(official[name].encode_ordinary(text))
    assert counted <= tokens.bound(text)
    assert tokens.estimate(text, name) == counted


def test_known_counts() -> None:
    found = {text: (tokens.count(text, "o200k_base"), tokens.count(text, "cl100k_base")) for text in KNOWN}
    assert found == KNOWN


def test_unknown_names_count_by_the_default() -> None:
    text = "東京 antidisestablishmentarianism"
    assert tokens.count(text, "nobody's") == tokens.count(text) == tokens.count(text, tokens.DEFAULT)
    assert tokens.count(text, "cl100k_base") != tokens.count(text)


def test_a_long_text_is_estimated_by_its_bytes() -> None:
    assert tokens.estimate("a b " * 16_384) == tokens.count("a b " * 16_384)
    assert tokens.estimate("é" * 32_769) == (2 * 32_769 + 3) // 4
    assert tokens.estimate("") == 0


async def test_counting_in_a_thread_gives_the_same() -> None:
    text = "Counted elsewhere, é. " * 5_000
    assert await tokens.count_in_thread(text) == tokens.count(text)
    assert await tokens.count_in_thread("short") == 1


@pytest.mark.parametrize("text", ["^" * 500_000, "a" * 500_000, " " * 500_000, "\n" * 500_000, "東" * 200_000, (" " * 5_000 + "x") * 100])
def test_awkward_long_texts_end(text: str) -> None:
    began = time.process_time()
    assert 0 < tokens.count(text) <= len(text)
    assert time.process_time() - began < 10


@pytest.mark.parametrize("name", tokens.TOKENIZERS)
@pytest.mark.parametrize("blank", [" ", "\t", "\n", "\u3000"])
def test_a_long_run_of_blanks_is_counted(name: str, blank: str) -> None:
    assert 0 < tokens.count(blank * 1_100_000 + "x", name) < 1_100_000


def test_a_long_text_is_counted_in_pieces_that_change_next_to_nothing(official: dict[str, tiktoken.Encoding]) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 20_000
    whole = len(official[tokens.DEFAULT].encode_ordinary(text))
    assert whole <= tokens.count(text) <= whole + 20


async def test_counting_holds_up_nobody_who_needs_a_thread() -> None:
    """Passwords are hashed and names looked up in the event loop's own threads."""
    letters = random.Random(1)
    words = "".join(letters.choice(string.ascii_lowercase) for _ in range(800_000))
    counts = [asyncio.create_task(tokens.count_in_thread(words)) for _ in range(40)]
    await asyncio.sleep(0)
    await asyncio.to_thread(lambda: None)
    assert not any(count.done() for count in counts)
    for count in counts:
        count.cancel()
    await asyncio.wait(counts)


async def test_what_takes_too_long_to_count_is_estimated() -> None:
    text = "é" * 1_000_001
    assert await tokens.count_in_thread(text) == tokens.estimate(text) == (2 * len(text) + 3) // 4


def test_no_network_and_nothing_loaded_until_it_is_needed() -> None:
    program = """
import socket
def refuse(*_, **__): raise AssertionError("no network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from dwctl import tokens
from dwctl.tokens import encodings
assert not encodings._loaded
assert tokens.count("Hello, world!", "cl100k_base") == 4
assert list(encodings._loaded) == ["cl100k_base"]
"""
    root = Path(__file__).resolve().parents[2]
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root, env=environment)


def test_a_damaged_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (encodings.RANKS / "cl100k_base.tiktoken").read_bytes()
    (tmp_path / "cl100k_base.tiktoken").write_bytes(content.replace(b"\n", b"\r\n", 1))
    monkeypatch.setattr(encodings, "RANKS", tmp_path)
    monkeypatch.setattr(encodings, "_loaded", {})
    with pytest.raises(encodings.DamagedRanks):
        tokens.count("x", "cl100k_base")
