"""Pictures and documents inside a request, as OpenAI's dialects write them."""

import base64
import binascii
import re

from dwctl.dialects.reading import wrong_value

_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*?;base64,", re.IGNORECASE)


def is_data_url(url: str) -> bool:
    return url[:5].lower() == "data:"


def split_data_url(url: str, path: str) -> tuple[str, str]:
    """The media type, "" if none is said, and the base64 text. Raises GatewayError 400."""
    found = _DATA_URL.match(url)
    if found is None:
        raise wrong_value(path, "a URL, or base64 data as 'data:<media type>;base64,<data>'")
    return found[1].lower(), url[found.end() :]


def plain_text(media_type: str, data: str) -> str | None:
    """What a document of plain text says; None for one that is not, or not in UTF-8."""
    if not media_type.startswith("text/"):
        return None
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
