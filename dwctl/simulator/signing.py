"""Thoughts that come back: the simulator seals what it gives away and knows it again, as the providers do.

The key is no secret: all that it has to show is whether a block came back as it was given.
"""

import base64
import binascii
import hmac

_KEY = b"simulated provider"
_OMITTED = "\0"


def seal(thought: str) -> str:
    """A thought that its reader cannot use: what ``redacted_thinking`` and ``encrypted_content`` hold; base64."""
    text = thought.encode("utf-8", "surrogatepass")
    return base64.b64encode(hmac.digest(_KEY, text, "sha256") + text[::-1]).decode()


def opened(given: str) -> str | None:
    """The thought that `seal` made this of; None if it was something else."""
    try:
        data = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return None
    text = data[32:][::-1]
    return text.decode("utf-8", "surrogatepass") if hmac.compare_digest(data[:32], hmac.digest(_KEY, text, "sha256")) else None


def signature(thought: str, omitted: bool) -> str:
    """The signature of a thinking block; ``omitted``: the block has no text."""
    return seal(_OMITTED + thought if omitted else thought)


def signed(thought: str, given: str) -> bool:
    """Whether the block with this text was signed so."""
    found = opened(given)
    return found is not None and (found == thought or (not thought and found.startswith(_OMITTED)))
