"""Bodies of each dialect with nearly everything that providers of others can be told: requests by path, answers and streams by dialect."""

from typing import Any

from dwctl.dialects.names import DialectName

Json = dict[str, Any]

# fmt: off
SCHEMA: Json = {
    "type": "object", "properties": {"a": {"type": "string", "$ref": "#/x"}}, "required": ["a"], "additionalProperties": False,
    "format": "date", "minItems": 1, "items": {"type": "array", "anyOf": [{"type": "string", "enum": ["a"]}]}, "const": 1,
    "default": 2, "maximum": 3, "$defs": {"x": {"type": "string"}},
}

REQUESTS: dict[str, Json] = {
    "/chat/completions": {
        "model": "m", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 5, "max_completion_tokens": 9,
        "temperature": 1, "top_p": 0.5, "top_k": 3, "seed": 1, "n": 1, "reasoning_effort": "low",
        "reasoning": {"effort": "high"}, "thinking": {"type": "enabled"}, "verbosity": "low", "user": "u",
        "metadata": {"a": "b"}, "service_tier": "auto",
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}},
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}},
            {
                "type": "custom",
                "custom": {"name": "c", "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "x"}}},
            },
        ],
        "tool_choice": "auto", "parallel_tool_calls": False, "functions": [{"name": "g", "parameters": {}}],
        "function_call": {"name": "g"},
        "messages": [
            {"role": "system", "content": "s"}, {"role": "developer", "content": [{"type": "text", "text": "s"}]},
            {
                "role": "user", "name": "bob",
                "content": [
                    {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
                    {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,aGk="}},
                ],
            },
            {
                "role": "assistant", "content": None, "refusal": "no", "reasoning_content": "t",
                "reasoning_details": [{"type": "reasoning.text", "text": "t", "signature": "s"}],
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "2", "type": "custom", "custom": {"name": "c", "input": "x"}},
                ],
                "function_call": {"name": "g", "arguments": "{}"},
            },
            {"role": "tool", "tool_call_id": "1", "content": "r"},
            {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "r"}]},
            {"role": "function", "name": "g", "content": "r"},
        ],
    },
    "/responses": {
        "model": "m",
        "input": [
            {"role": "user", "content": "x"},
            {
                "type": "message", "role": "user",
                "content": [
                    {"type": "input_text", "text": "x"},
                    {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"},
                ],
            },
            {
                "type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "s"}],
                "content": [{"type": "reasoning_text", "text": "t"}], "encrypted_content": "x",
            },
            {
                "type": "message", "role": "assistant",
                "content": [
                    {
                        "type": "output_text", "text": "x",
                        "annotations": [{"type": "url_citation", "url": "h", "title": "t", "start_index": 0, "end_index": 1}],
                    },
                    {"type": "refusal", "refusal": "no"},
                ],
            },
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "x"}]},
            {"type": "custom_tool_call", "call_id": "2", "name": "c", "input": "i"},
            {"type": "custom_tool_call_output", "call_id": "2", "output": "o"},
        ],
        "instructions": "i", "max_output_tokens": 30, "temperature": 1, "top_p": 1,
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}, "verbosity": "low"},
        "tools": [
            {"type": "function", "name": "f", "parameters": SCHEMA, "strict": True},
            {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
        ],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        "include": ["reasoning.encrypted_content"], "metadata": {"a": "b"}, "store": False, "stream": True,
        "parallel_tool_calls": True,
    },
    "/messages": {
        "model": "m", "max_tokens": 4000, "stream": True,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "5m"}}], "temperature": 0.5,
        "top_k": 3, "top_p": 0.4, "thinking": {"type": "enabled", "budget_tokens": 2000, "display": "omitted"},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}, "metadata": {"user_id": "u"},
        "service_tier": "auto",
        "tools": [
            {"name": "f", "description": "d", "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}},
            {"type": "custom", "name": "g", "input_schema": {}},
        ],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
                    {
                        "type": "document", "title": "t", "context": "c",
                        "source": {"type": "text", "media_type": "text/plain", "data": "d"}, "citations": {"enabled": True},
                    },
                    {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
                    {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "redacted_thinking", "data": "d"},
                    {"type": "text", "text": "x", "citations": [{"type": "char_location"}]},
                    {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result", "tool_use_id": "1", "is_error": True,
                        "content": [
                            {"type": "text", "text": "x"},
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
                        ],
                    },
                ],
            },
        ],
    },
    "/api/chat": {
        "model": "m", "stream": True,
        "messages": [
            {"role": "system", "content": "s"}, {"role": "user", "content": "u", "images": ["iVBORw0KGgo="]},
            {
                "role": "assistant", "content": "", "thinking": "t",
                "tool_calls": [{"id": "1", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}],
            },
            {"role": "tool", "content": "r", "tool_name": "f", "tool_call_id": "1"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}], "format": SCHEMA,
        "think": "low",
        "options": {
            "num_predict": 5, "temperature": 1, "top_p": 1, "top_k": 3, "min_p": 0.1, "seed": 1, "presence_penalty": 1,
            "frequency_penalty": 1, "num_ctx": 1,
        },
        "keep_alive": "5m",
    },
    "/api/generate": {
        "model": "m", "prompt": "p", "system": "s", "images": ["iVBORw0KGgo="], "format": "json", "think": True,
        "options": {"num_predict": -1}, "stream": False, "suffix": "",
    },
}

EMBEDDINGS: dict[str, Json] = {
    "/embeddings": {"model": "m", "input": ["a", [1, 2]], "dimensions": 3, "encoding_format": "base64", "user": "u"},
    "/api/embed": {"model": "m", "input": ["a"], "truncate": True, "dimensions": 3, "options": {}, "keep_alive": 1},
    "/api/embeddings": {"model": "m", "prompt": "p"},
}

ANSWERS: dict[DialectName, Json] = {
    "openai-chat": {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m", "service_tier": "default",
        "choices": [
            {
                "index": 0, "finish_reason": "tool_calls", "stop_reason": None,
                "logprobs": {
                    "content": [
                        {
                            "token": "a", "logprob": -1, "bytes": [1],
                            "top_logprobs": [{"token": "a", "logprob": -1, "bytes": None}],
                        },
                    ],
                },
                "message": {
                    "role": "assistant",
                    "content": [{"type": "text", "text": "x"}, {"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}],
                    "refusal": "no", "reasoning_content": "t", "reasoning": "u",
                    "reasoning_details": [
                        {
                            "type": "reasoning.text", "text": "t", "signature": "s", "id": "i",
                            "format": "anthropic-claude-v1", "index": 0,
                        },
                        {"type": "reasoning.encrypted", "data": "d"}, {"type": "reasoning.summary", "summary": "s"},
                    ],
                    "annotations": [{"type": "url_citation", "url_citation": {"url": "h", "title": "t", "start_index": 0, "end_index": 1}}],
                    "tool_calls": [
                        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                        {"id": "2", "type": "custom", "custom": {"name": "c", "input": "x"}},
                    ],
                    "function_call": {"name": "f", "arguments": "{}"},
                },
            },
        ],
        "usage": {
            "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 1}, "cache_creation_input_tokens": 1,
            "cache_creation": {"ephemeral_1h_input_tokens": 1},
        },
        "error": None,
    },
    "openai-responses": {
        "id": "r", "object": "response", "status": "incomplete", "model": "m",
        "incomplete_details": {"reason": "max_output_tokens"}, "service_tier": "default", "error": None,
        "output": [
            {
                "type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "s"}],
                "content": [{"type": "reasoning_text", "text": "t"}], "encrypted_content": "x",
            },
            {
                "type": "message", "id": "m", "role": "assistant", "status": "completed",
                "content": [
                    {
                        "type": "output_text", "text": "x",
                        "annotations": [{"type": "url_citation", "url": "h", "title": "t", "start_index": 0, "end_index": 1}],
                        "logprobs": [
                            {
                                "token": "a", "logprob": -1, "bytes": [1],
                                "top_logprobs": [{"token": "a", "logprob": -1, "bytes": [1]}],
                            },
                        ],
                    },
                    {"type": "refusal", "refusal": "n"},
                ],
            },
            {"type": "function_call", "call_id": "1", "id": "x", "name": "f", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "2", "name": "c", "input": "i"},
        ],
        "usage": {
            "input_tokens": 3, "output_tokens": 3, "total_tokens": 6, "input_tokens_details": {"cached_tokens": 1},
            "output_tokens_details": {"reasoning_tokens": 1},
        },
    },
    "anthropic": {
        "id": "m", "type": "message", "role": "assistant", "model": "m",
        "content": [
            {"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "redacted_thinking", "data": "d"},
            {
                "type": "text", "text": "x",
                "citations": [{"type": "web_search_result_location", "url": "u", "title": "t", "cited_text": "c", "encrypted_index": "e"}],
            },
            {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
            {"type": "server_tool_use", "id": "2", "name": "w", "input": {}},
        ],
        "stop_reason": "refusal", "stop_sequence": None,
        "stop_details": {"type": "refusal", "category": "c", "explanation": "e"},
        "usage": {
            "input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 1, "cache_read_input_tokens": 1,
            "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 0},
            "output_tokens_details": {"thinking_tokens": 1}, "service_tier": "standard",
        },
    },
    "ollama": {
        "model": "m", "created_at": "2020-01-01T00:00:00Z",
        "message": {
            "role": "assistant", "content": "x", "thinking": "t",
            "tool_calls": [{"id": "1", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}],
        },
        "logprobs": [{"token": "a", "logprob": -1, "bytes": [1], "top_logprobs": [{"token": "a", "logprob": -1}]}],
        "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 4, "error": None,
    },
}

STREAMS: dict[DialectName, list[Json]] = {
    "openai-chat": [
        {
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}],
        },
        {
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": {"reasoning_content": "t"}, "finish_reason": None}],
        },
        {
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [
                {
                    "index": 0,
                    "delta": {"reasoning_details": [{"type": "reasoning.text", "text": "t", "signature": "s", "index": 0}]},
                    "finish_reason": None,
                },
            ],
        },
        {
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [
                {
                    "index": 0,
                    "delta": {
                        "content": "a",
                        "annotations": [
                            {
                                "type": "url_citation",
                                "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1},
                            },
                        ],
                    },
                    "finish_reason": None,
                },
            ],
        },
        {
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [
                {
                    "index": 0, "delta": {"content": "x"},
                    "logprobs": {
                        "content": [{"token": "a", "logprob": -1, "bytes": None, "top_logprobs": [{"token": "a", "logprob": -1}]}],
                    },
                },
            ],
        },
        {
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [
                {
                    "index": 0,
                    "delta": {"tool_calls": [{"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
                    "finish_reason": None,
                },
            ],
        },
        {
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}, "finish_reason": None}],
        },
        {
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [
                {
                    "index": 0,
                    "delta": {"tool_calls": [{"index": 1, "id": "2", "type": "custom", "custom": {"name": "c", "input": "x"}}]},
                    "finish_reason": None,
                },
            ],
        },
        {
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": {"function_call": {"name": "f", "arguments": "{}"}}, "finish_reason": None}],
        },
        {
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": {"refusal": "n"}, "finish_reason": None}],
        },
        {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
        {
            "id": "c", "choices": [],
            "usage": {
                "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7,
                "prompt_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 1}, "cache_creation_input_tokens": 1,
                "cache_creation": {"ephemeral_1h_input_tokens": 1},
            },
        },
    ],
    "openai-responses": [
        {"type": "response.created", "response": {"id": "r", "model": "m", "service_tier": "auto"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs", "summary": []}},
        {"type": "response.reasoning_summary_part.added", "output_index": 0, "item_id": "rs"},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "t"},
        {"type": "response.reasoning_text.delta", "output_index": 0, "delta": "t"},
        {
            "type": "response.output_item.done", "output_index": 0,
            "item": {
                "type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "s"}],
                "content": [{"type": "reasoning_text", "text": "t"}], "encrypted_content": "x",
            },
        },
        {
            "type": "response.output_text.delta", "output_index": 1, "delta": "x",
            "logprobs": [{"token": "a", "logprob": -1, "top_logprobs": []}],
        },
        {
            "type": "response.output_text.annotation.added",
            "annotation": {"type": "url_citation", "url": "h", "title": "t", "start_index": 0, "end_index": 1},
        },
        {
            "type": "response.output_item.done", "output_index": 1,
            "item": {
                "type": "message", "id": "m", "role": "assistant", "status": "completed",
                "content": [
                    {
                        "type": "output_text", "text": "x",
                        "annotations": [{"type": "url_citation", "url": "h", "title": "t", "start_index": 0, "end_index": 1}],
                        "logprobs": [
                            {
                                "token": "a", "logprob": -1, "bytes": [1],
                                "top_logprobs": [{"token": "a", "logprob": -1, "bytes": [1]}],
                            },
                        ],
                    },
                    {"type": "refusal", "refusal": "n"},
                ],
            },
        },
        {"type": "response.refusal.delta", "output_index": 1, "delta": "n"},
        {
            "type": "response.output_item.added", "output_index": 2,
            "item": {"type": "function_call", "call_id": "1", "name": "f", "arguments": ""},
        },
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{}"},
        {"type": "response.function_call_arguments.done", "output_index": 2, "arguments": "{}"},
        {
            "type": "response.output_item.added", "output_index": 3,
            "item": {"type": "custom_tool_call", "call_id": "1", "name": "c", "input": ""},
        },
        {"type": "response.custom_tool_call_input.delta", "output_index": 3, "delta": "{}"},
        {
            "type": "response.incomplete",
            "response": {
                "id": "r", "object": "response", "status": "incomplete", "model": "m",
                "incomplete_details": {"reason": "max_output_tokens"}, "service_tier": "default", "error": None,
                "output": [
                    {
                        "type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "s"}],
                        "content": [{"type": "reasoning_text", "text": "t"}], "encrypted_content": "x",
                    },
                    {
                        "type": "message", "id": "m", "role": "assistant", "status": "completed",
                        "content": [
                            {
                                "type": "output_text", "text": "x",
                                "annotations": [{"type": "url_citation", "url": "h", "title": "t", "start_index": 0, "end_index": 1}],
                                "logprobs": [
                                    {
                                        "token": "a", "logprob": -1, "bytes": [1],
                                        "top_logprobs": [{"token": "a", "logprob": -1, "bytes": [1]}],
                                    },
                                ],
                            },
                            {"type": "refusal", "refusal": "n"},
                        ],
                    },
                    {"type": "function_call", "call_id": "1", "id": "x", "name": "f", "arguments": "{}"},
                    {"type": "custom_tool_call", "call_id": "2", "name": "c", "input": "i"},
                ],
                "usage": {
                    "input_tokens": 3, "output_tokens": 3, "total_tokens": 6, "input_tokens_details": {"cached_tokens": 1},
                    "output_tokens_details": {"reasoning_tokens": 1},
                },
            },
        },
    ],
    "anthropic": [
        {
            "type": "message_start",
            "message": {
                "id": "m", "type": "message", "role": "assistant", "model": "m",
                "content": [
                    {"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "redacted_thinking", "data": "d"},
                    {
                        "type": "text", "text": "x",
                        "citations": [
                            {
                                "type": "web_search_result_location", "url": "u", "title": "t", "cited_text": "c",
                                "encrypted_index": "e",
                            },
                        ],
                    },
                    {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
                    {"type": "server_tool_use", "id": "2", "name": "w", "input": {}},
                ],
                "stop_reason": "refusal", "stop_sequence": None,
                "stop_details": {"type": "refusal", "category": "c", "explanation": "e"},
                "usage": {
                    "input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 1, "cache_read_input_tokens": 1,
                    "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 0},
                    "output_tokens_details": {"thinking_tokens": 1}, "service_tier": "standard",
                },
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "t"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "t"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "", "citations": []}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "t"}},
        {
            "type": "content_block_delta", "index": 1,
            "delta": {"type": "citations_delta", "citation": {"type": "web_search_result_location", "url": "u", "title": "t"}},
        },
        {
            "type": "content_block_start", "index": 2,
            "content_block": {"type": "tool_use", "id": "1", "name": "f", "input": {}},
        },
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "ping"}, {"type": "content_block_stop", "index": 2},
        {"type": "content_block_start", "index": 3, "content_block": {"type": "redacted_thinking", "data": "d"}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "refusal", "stop_sequence": None, "stop_details": {"explanation": "x"}},
            "usage": {"output_tokens": 4},
        },
        {"type": "message_stop"},
    ],
    "ollama": [
        {
            "model": "m", "created_at": "2020-01-01T00:00:00Z",
            "message": {
                "role": "assistant", "content": "x", "thinking": "t",
                "tool_calls": [{"id": "1", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}],
            },
            "logprobs": [{"token": "a", "logprob": -1, "bytes": [1], "top_logprobs": [{"token": "a", "logprob": -1}]}],
            "done": False, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 4, "error": None,
        },
        {
            "model": "m", "created_at": "2020-01-01T00:00:00Z",
            "message": {
                "role": "assistant", "content": "x", "thinking": "t",
                "tool_calls": [{"id": "1", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}],
            },
            "logprobs": [{"token": "a", "logprob": -1, "bytes": [1], "top_logprobs": [{"token": "a", "logprob": -1}]}],
            "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 4, "error": None,
        },
    ],
}

EMBEDDED: dict[DialectName, Json] = {
    "openai-chat": {
        "object": "list", "model": "m",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.1, 0.2]},
            {"object": "embedding", "index": 1, "embedding": "AAAAAA=="},
        ],
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    },
    "ollama": {"model": "m", "embeddings": [[0.1, 0.2], [0.3, 0.4]], "prompt_eval_count": 3},
}

ERRORS: list[Json] = [
    {"error": {"message": "m", "type": "rate_limit_error", "code": "429", "param": "p"}},
    {"type": "error", "error": {"type": "overloaded_error", "message": "m"}, "request_id": "r"}, {"error": "words"},
    {
        "type": "response.failed",
        "response": {"error": {"code": "rate_limit_exceeded", "message": "m"}, "usage": {"input_tokens": 1}},
    },
]
