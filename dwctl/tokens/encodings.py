"""The encodings on board, built from their rank files beside this module.

A rank file holds a token a line: base64 of its bytes, a space, its rank. The patterns that cut a text into pieces before
the merging are those of tiktoken (`tiktoken_ext/openai_public.py`); the tests hold both against tiktoken itself.
"""

import base64
import hashlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import tiktoken

RANKS = Path(__file__).resolve().parent / "ranks"
DEFAULT = "o200k_base"


class Definition(msgspec.Struct, frozen=True):
    """One encoding: its file's checksum and how it cuts texts."""

    sha256: str
    pattern: str


_DEFINITIONS = {
    "o200k_base": Definition(
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        "|".join(
            (
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                r"\p{N}{1,3}",
                r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
                r"\s*[\r\n]+",
                r"\s+(?!\S)",
                r"\s+",
            )
        ),
    ),
    "cl100k_base": Definition(
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s""",
    ),
}
TOKENIZERS = tuple(sorted(_DEFINITIONS))
"""The tokenizers that count exactly."""

_loaded: "dict[str, tiktoken.Encoding]" = {}
_lock = threading.Lock()


class DamagedRanks(Exception):
    """A rank file is not the one that was vendored."""


def load(tokenizer: str | None = None) -> "tiktoken.Encoding":
    """The encoding of a name; None and unknown names are `DEFAULT`. May be called from any thread.

    Raises `DamagedRanks`, and OSError if the file is gone: a broken installation, since the files come with the program.
    """
    name = tokenizer if tokenizer in _DEFINITIONS else DEFAULT
    found = _loaded.get(name)
    if found is not None:
        return found
    with _lock:
        if name not in _loaded:
            _loaded[name] = _build(name)
        return _loaded[name]


def is_loaded(tokenizer: str | None = None) -> bool:
    """Whether `load` would return at once."""
    return (tokenizer if tokenizer in _DEFINITIONS else DEFAULT) in _loaded


def _build(name: str) -> "tiktoken.Encoding":
    import tiktoken  # 3 MB, which a server whose providers count for themselves never needs

    definition = _DEFINITIONS[name]
    content = (RANKS / f"{name}.tiktoken").read_bytes()
    if hashlib.sha256(content).hexdigest() != definition.sha256:
        raise DamagedRanks(f"{RANKS / name}.tiktoken does not have the expected SHA-256")
    ranks = {}
    for line in content.splitlines():
        token, _, rank = line.partition(b" ")
        ranks[base64.b64decode(token)] = int(rank)
    return tiktoken.Encoding(name, pat_str=definition.pattern, mergeable_ranks=ranks, special_tokens={})
