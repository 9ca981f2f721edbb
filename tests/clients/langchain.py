"""langchain-openai: a chat model by chat and by Responses; its tool loop is written out."""

import operator
from functools import reduce
from typing import Any

import cases
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import AddableDict, Runnable
from langchain_openai import ChatOpenAI

APIS = {"chat": False, "responses": True}


async def answer(model: Runnable[Any, Any], messages: list[BaseMessage], streamed: bool) -> Any:
    """The message; of a structured answer the message and what was made of it."""
    if not streamed:
        return await model.ainvoke(messages)
    pieces = [piece async for piece in model.astream(messages)]
    return reduce(operator.add, map(AddableDict, pieces) if isinstance(pieces[0], dict) else pieces)


async def ask(api: str, kind: str, model: str, streamed: bool) -> dict[str, Any]:
    chat = ChatOpenAI(
        model=model,
        base_url=f"{cases.URL}/v1",
        api_key=cases.KEY,
        max_retries=0,
        use_responses_api=APIS[api],
        stream_usage=True,
    )
    messages: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage(cases.ASK)]
    if kind == "structured":
        both = await answer(chat.with_structured_output(cases.Weather, strict=True, include_raw=True), messages, streamed)
        return cases.told(both["parsed"], _tokens(both["raw"]))
    one = chat.bind_tools([cases.weather]) if kind == "tool" else chat
    answers: list[AIMessage] = []
    while not answers or answers[-1].tool_calls:
        for call in answers[-1].tool_calls if answers else []:
            messages.append(ToolMessage(cases.weather(**call["args"]), tool_call_id=call["id"]))
        answers.append(await answer(one, messages, streamed))
        messages.append(answers[-1])
    counted = [_tokens(message) for message in answers]
    return cases.told(answers[-1].text, (sum(tokens[0] for tokens in counted), sum(tokens[1] for tokens in counted)))


def _tokens(message: Any) -> tuple[int, int]:
    return message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]


cases.run(APIS, ask)
