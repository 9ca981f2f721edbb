"""LangChain's own integration tests of a chat model, for pytest: ``URL``, ``KEY``, ``PROVIDER`` and ``API`` are in its environment."""

import os
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestChatModel(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": f"plain.{os.environ['PROVIDER']}",
            "base_url": os.environ["URL"] + "/v1",
            "api_key": os.environ["KEY"],
            "max_retries": 0,
            "use_responses_api": os.environ["API"] == "openai-responses",
            "stream_usage": True,
        }

    @property
    def model_override_value(self) -> str | None:
        """An answer has the alias as its model's name where it was translated, the provider's name where it passed as it came."""
        return None if os.environ["API"] == os.environ["PROVIDER"] else f"agent.{os.environ['PROVIDER']}"
