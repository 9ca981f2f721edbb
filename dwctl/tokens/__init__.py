"""Token counts: exact for the encodings whose ranks are on board, and a bound or an estimate where exactness costs too much.

In: text and the name of a tokenizer. Out: a number of tokens, never an error: a name that is not on board counts by the
default, since a provider that keeps its tokenizer to itself can only be approximated. Special tokens in a text count as
the ordinary text that they are to a provider.

The rank files are tiktoken's own (`build/vendor.json` says from where), so nothing is fetched. An encoding is loaded at
its first use, which takes a quarter of a second and 50 to 80 MB; `load` does it beforehand.
"""

from dwctl.threads import in_thread
from dwctl.tokens.encodings import DEFAULT, TOKENIZERS, is_loaded, load

ESTIMATE_ABOVE = 65_536
"""Bytes of UTF-8 above which `estimate` divides instead of counting."""
THREAD_ABOVE = 50_000
"""Characters above which `count_in_thread` leaves the event loop."""
COUNTED_UP_TO = 1_000_000
"""Characters above which `count_in_thread` estimates: they would take up to seconds, in which others wait to be counted."""
_AT_ONCE = 100_000
"""Characters that are encoded in one piece: a run of a million blanks makes tiktoken panic, and the time that a word takes grows faster
than the word."""


def count(text: str, tokenizer: str | None = None) -> int:
    """Number of tokens of ``text``; about 0.3 microseconds a token. None and unknown names are `DEFAULT`.

    Exact up to 100,000 characters; beyond, a token that spans the end of such a piece counts as the two that it is cut into.
    """
    encode = load(tokenizer).encode_ordinary
    if len(text) <= _AT_ONCE:
        return len(encode(text))
    return sum(len(encode(text[at : at + _AT_ONCE])) for at in range(0, len(text), _AT_ONCE))


async def count_in_thread(text: str, tokenizer: str | None = None) -> int:
    """`count`, for a long text in a thread (the counting itself lets the event loop run); beyond `COUNTED_UP_TO`, `estimate`."""
    if len(text) <= THREAD_ABOVE and is_loaded(tokenizer):
        return count(text, tokenizer)
    if len(text) > COUNTED_UP_TO:
        return estimate(text, tokenizer)
    return await in_thread(count, text, tokenizer)


async def prepare(tokenizer: str | None = None) -> None:
    """Load an encoding in a thread, so that counting by it does not keep the event loop waiting."""
    if not is_loaded(tokenizer):
        await in_thread(load, tokenizer)


def bound(text: str) -> int:
    """The most tokens that ``text`` can be, by any tokenizer that works on bytes: its bytes in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def estimate(text: str, tokenizer: str | None = None) -> int:
    """What is billed where the provider reported nothing: the count, and above 64 kB a quarter of the bytes, rounded up."""
    size = bound(text)
    if size > ESTIMATE_ABOVE:
        return -(-size // 4)
    return count(text, tokenizer) if size else 0


__all__ = [
    "COUNTED_UP_TO",
    "DEFAULT",
    "ESTIMATE_ABOVE",
    "THREAD_ABOVE",
    "TOKENIZERS",
    "bound",
    "count",
    "count_in_thread",
    "estimate",
    "load",
    "prepare",
]
