"""openai-agents: an agent by chat and by Responses."""

from typing import Any

import cases
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

set_tracing_disabled(True)
client = AsyncOpenAI(base_url=f"{cases.URL}/v1", api_key=cases.KEY, max_retries=0)
MODELS = {"chat": OpenAIChatCompletionsModel, "responses": OpenAIResponsesModel}
KINDS: dict[str, dict[str, Any]] = {
    "text": {},
    "tool": {"tools": [function_tool(cases.weather)]},
    "structured": {"output_type": cases.Weather},
}


async def ask(api: str, kind: str, model: str, streamed: bool) -> dict[str, Any]:
    settings = ModelSettings(include_usage=True)
    agent: Agent[None] = Agent("one", instructions="Be brief.", model=MODELS[api](model, client), model_settings=settings, **KINDS[kind])
    if streamed:
        result: Any = Runner.run_streamed(agent, cases.ASK)
        async for _ in result.stream_events():
            pass
    else:
        result = await Runner.run(agent, cases.ASK)
    usage = result.context_wrapper.usage
    return cases.told(result.final_output, (usage.input_tokens, usage.output_tokens))


cases.run(MODELS, ask)
