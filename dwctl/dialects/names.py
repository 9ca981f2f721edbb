"""The dialects that a client or a provider may speak, by the names that configuration and pages use."""

from typing import Literal

DialectName = Literal["openai-chat", "openai-responses", "anthropic", "ollama"]

DIALECTS: tuple[DialectName, ...] = ("openai-chat", "openai-responses", "anthropic", "ollama")
DEFAULT: DialectName = "openai-chat"
