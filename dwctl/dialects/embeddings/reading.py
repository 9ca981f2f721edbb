"""What the dialects' embeddings have in common."""

from collections.abc import Iterable
from typing import Any

import msgspec

from dwctl.dialects.answers import MalformedAnswer
from dwctl.dialects.embeddings import EmbedRequest, EmbedResponse


def others(body: dict[str, Any], known: Iterable[str]) -> dict[str, Any]:
    return {name: body[name] for name in body if name not in known and body[name] is not None}


def vector(value: Any) -> list[float]:
    """Raises MalformedAnswer."""
    try:
        return msgspec.convert(value, list[float])
    except (msgspec.ValidationError, UnicodeEncodeError):  # the latter quotes text
        raise MalformedAnswer("an embedding that is no list of numbers") from None


def matched(response: EmbedResponse, request: EmbedRequest) -> list[list[float]]:
    """The vectors. Raises MalformedAnswer if there is not one for each input."""
    if len(response.vectors) != len(request.inputs):
        raise MalformedAnswer(f"{len(response.vectors)} embeddings for {len(request.inputs)} inputs")
    return response.vectors
