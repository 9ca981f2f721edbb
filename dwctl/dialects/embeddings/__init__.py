"""Embeddings: one model of requests and answers between the dialects that have them. Each codec is a module of this package."""

from typing import Any, Protocol

import msgspec

from dwctl.dialects.fields import NO_EQUIVALENT
from dwctl.dialects.reading import refused
from dwctl.dialects.usage import Usage


class EmbedRequest(msgspec.Struct, kw_only=True):
    """``inputs``: texts, or lists of token ids. ``base64``: the client wants its vectors as base64 of little-endian 32-bit floats.

    ``others``: fields of the client's dialect alone, and those nobody knows.
    """

    model: str
    inputs: "list[str | list[int]]"
    dimensions: int | None = None
    base64: bool = False
    others: dict[str, Any] = {}


class EmbedResponse(msgspec.Struct, kw_only=True):
    """One vector for each input, in its order."""

    vectors: list[list[float]]
    model: str | None = None
    usage: Usage | None = None


class EmbedCodec(Protocol):
    """One dialect's embeddings (a module is one)."""

    @property
    def PATH(self) -> str:
        """Where a provider takes such requests, below its base URL."""

    @property
    def TAKES_TOKENS(self) -> bool:
        """Whether inputs may be token ids."""

    def parse_request(self, body: dict[str, Any]) -> EmbedRequest:
        """Raises GatewayError 400 that names the field."""

    def render_request(self, request: EmbedRequest, model: str) -> dict[str, Any]:
        """The body for a provider that calls the model ``model``. Raises GatewayError 400 for what cannot be said."""

    def parse_response(self, body: dict[str, Any]) -> EmbedResponse:
        """Raises MalformedAnswer."""

    def render_response(self, response: EmbedResponse, request: EmbedRequest) -> dict[str, Any]:
        """Raises MalformedAnswer if the inputs have not one vector each."""


_REASONS = {
    "truncate": "the provider decides what fits",
    "keep_alive": "the provider decides which models are loaded",
    "user": NO_EQUIVALENT,
}


def settle(request: EmbedRequest, provider: EmbedCodec) -> list[str]:
    """Notes on what a provider of another dialect is not told. Raises GatewayError 400 for token ids where it takes texts only."""
    if not provider.TAKES_TOKENS and any(not isinstance(item, str) for item in request.inputs):
        raise refused("input", "its provider takes texts, and no token ids")
    return [f"'{path}' was dropped: {_REASONS.get(path, 'it is not known here')}" for path in request.others]
