// The AI SDK: `ai_sdk.mjs URL KEY PROVIDER` does for its four models what cases.py says.
import { generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false; // they go where the answers go
const [url, apiKey, provider] = process.argv.slice(2);
const baseURL = `${url}/v1`;
const openai = createOpenAI({ baseURL, apiKey });
const compatible = createOpenAICompatible({ name: "gateway", baseURL, apiKey, includeUsage: true, supportsStructuredOutputs: true });
const anthropic = createAnthropic({ baseURL, apiKey });
const apis = { responses: openai, chat: openai.chat, compatible, messages: anthropic };

const providerOptions = { openai: { store: false }, anthropic: { structuredOutputMode: "outputFormat" } };
const asked = { system: "Be brief.", prompt: "What is it like outside?", maxRetries: 0, providerOptions };
const schema = z.object({ city: z.string(), degrees: z.number().int() });
let calls = [];
const weather = tool({
    description: "Tell the weather.",
    inputSchema: z.object({ city: z.string(), days: z.number().int() }),
    execute: async ({ city, days }) => {
        calls.push([city, days]);
        return "Rain all day";
    },
});

// A stream's errors reach nobody but the one who asks for them.
const failed = [];
const onError = ({ error }) => failed.push(error);

async function ask(model, kind, streamed) {
    if (kind === "structured") {
        const result = streamed ? streamObject({ ...asked, model, schema, onError }) : await generateObject({ ...asked, model, schema });
        if (streamed) for await (const _ of result.partialObjectStream);
        return [await result.object, await result.usage];
    }
    const options = { ...asked, model, ...(kind === "tool" ? { tools: { weather }, stopWhen: stepCountIs(3) } : {}) };
    const result = streamed ? streamText({ ...options, onError }) : await generateText(options);
    if (streamed) for await (const _ of result.fullStream);
    return [await result.text, await result.totalUsage];
}

const told = {};
for (const [api, models] of Object.entries(apis)) {
    for (const [kind, alias] of Object.entries({ text: "plain", tool: "agent", structured: "plain" })) {
        for (const mode of ["whole", "streamed"]) {
            calls = [];
            failed.length = 0;
            try {
                const [said, usage] = await ask(models(`${alias}.${provider}`), kind, mode === "streamed");
                if (failed.length) throw failed[0];
                told[`${api} ${kind} ${mode}`] = { said, calls, tokens: [usage.inputTokens, usage.outputTokens] };
            } catch (error) {
                told[`${api} ${kind} ${mode}`] = { error: `${error.stack}\n${error.responseBody ?? ""}` };
            }
        }
    }
}
console.log(JSON.stringify(told));
