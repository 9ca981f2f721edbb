"""pydantic-ai: an agent by OpenAI's chat and Responses and by Anthropic's Messages."""

from typing import Any

import cases
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

openai = OpenAIProvider(base_url=f"{cases.URL}/v1", api_key=cases.KEY)
anthropic = AnthropicProvider(base_url=cases.URL, api_key=cases.KEY)
MODELS: dict[str, Any] = {
    "chat": lambda name: OpenAIChatModel(name, provider=openai),
    "responses": lambda name: OpenAIResponsesModel(name, provider=openai),
    "messages": lambda name: AnthropicModel(name, provider=anthropic, profile=ModelProfile(supports_json_schema_output=True)),
}


async def ask(api: str, kind: str, model: str, streamed: bool) -> dict[str, Any]:
    output: Any = NativeOutput(cases.Weather) if kind == "structured" else str
    agent: Any = Agent(MODELS[api](model), instructions="Be brief.", retries=0, output_type=output)
    if kind == "tool":
        agent.tool_plain(cases.weather)
    if streamed:
        async with agent.run_stream(cases.ASK) as result:
            said = await result.get_output()
    else:
        result = await agent.run(cases.ASK)
        said = result.output
    return cases.told(said, (result.usage.input_tokens, result.usage.output_tokens))


cases.run(MODELS, ask)
