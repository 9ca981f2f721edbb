"""Taking secrets out of what is logged: by the name of a field, and by the look of a value.

The look: keys that begin with ``sk-`` (dwctl's own and most providers'), ``Bearer`` and ``Basic`` credentials, and the
password in a URL. Names catch what has no look of its own.
"""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "[hidden]"

_SECRET_NAMES = re.compile(
    r"(?:^|[_\-.])(?:password|passwd|passphrase|secret|credentials?|authorization|cookie|token|api[_\-]?key|secret[_\-]?key|private[_\-]?key|session[_\-]?id)$",
    re.IGNORECASE,
)
_LOOKS = re.compile(
    r"\bsk-[A-Za-z0-9_\-]{6,}"
    r"|(?P<scheme>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=\-]{4,}"
    r"|(?P<user>\b[a-z][a-z0-9+.\-]*://[^\s/:@]*:)[^\s/@]+(?=@)",
    re.IGNORECASE,
)


def _hide(match: re.Match[str]) -> str:
    return (match["scheme"] or match["user"] or "") + HIDDEN


def redact_text(text: str) -> str:
    """``text`` with everything that looks like a secret replaced."""
    return _LOOKS.sub(_hide, text)


def redact(value: Any, name: str = "") -> Any:
    """``value`` as it may be logged under ``name``: containers are walked, objects become their text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if name and _SECRET_NAMES.search(name):
        return HIDDEN
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return redact_text(bytes(value).decode("utf-8", "backslashreplace"))
    if isinstance(value, Mapping):
        return {redact_text(str(key)): redact(item, str(key)) for key, item in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        return [redact_text(value[0]), redact(value[1], value[0])]
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item) for item in value]
    return redact_text(str(value))
