"""What a provider wants back with a thought, carried through a client of another dialect and back unchanged.

Anthropic signs its thinking and OpenAI encrypts its reasoning; both refuse a thought without that, and neither takes the other's.
The client sees one opaque text, which says whose it is.
"""

import base64
import binascii

import msgspec

from dwctl.dialects.canonical import Reasoning
from dwctl.dialects.json_text import encode
from dwctl.dialects.names import DialectName

_PREFIX = "dwctl."
_MARK = b'"' + _PREFIX.encode()


class _Sealed(msgspec.Struct, array_like=True):
    origin: DialectName
    signature: str | None
    id: str | None
    redacted: bool
    summary: bool
    thought: str | None = None


_DECODER = msgspec.json.Decoder(_Sealed)


def wrap(
    origin: DialectName | None,
    signature: str | None,
    *,
    id: str | None = None,
    redacted: bool = False,
    summary: bool = False,
    thought: str | None = None,
) -> str:
    """The text that a client keeps with a thought; with the ``thought`` itself for a client that brings back nothing else."""
    sealed = [origin or "openai-chat", signature, id, redacted, summary, thought]  # as `_Sealed` has them
    return _PREFIX + base64.urlsafe_b64encode(encode(sealed)).decode()


def is_wrapped(carried: str) -> bool:
    """Whether it is ours, and not a provider's own."""
    return carried.startswith(_PREFIX)


def occurs_in(body: bytes) -> bool:
    """Whether JSON text may hold something of ours."""
    return _MARK in body


def unwrap(thought: str, carried: str | None, client: DialectName) -> Reasoning:
    """The thought that a client of dialect ``client`` brings back; ``carried`` is what `wrap` gave it, or a provider's own."""
    if carried is not None and is_wrapped(carried):
        try:
            sealed = _DECODER.decode(base64.urlsafe_b64decode(carried[len(_PREFIX) :]))
        except (binascii.Error, msgspec.DecodeError, UnicodeError, ValueError):
            return Reasoning(thought, origin=client)
        known = thought if sealed.thought is None else sealed.thought
        return Reasoning(known, sealed.summary, sealed.signature, sealed.origin, sealed.id, sealed.redacted)
    return Reasoning(thought, signature=carried, origin=client)
