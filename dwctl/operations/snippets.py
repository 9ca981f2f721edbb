"""Code to copy: the same call as curl, with OpenAI's SDKs for Python and JavaScript, and with Anthropic's, ready to run.

A secret is written out only on the page that shows it for the only time; elsewhere the code reads it from the environment.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Literal

import msgspec

Kind = Literal["chat", "stream", "embeddings"]
KINDS: tuple[Kind, ...] = ("chat", "stream", "embeddings")
KEY_VARIABLE = "DWCTL_API_KEY"

QUESTION = "Say hello in one sentence."


class Snippet(msgspec.Struct, frozen=True):
    """``language`` is for highlighting (bash, python, javascript), ``title`` for the tab, ``needs`` what to do first."""

    title: str
    language: str
    needs: str | None
    code: str


def snippets(
    base_url: str, model: str, kind: Kind = "chat", *, secret: str | None = None, request: Mapping[str, object] | None = None
) -> list[Snippet]:
    """The call of ``model`` in each language. ``base_url`` is the gateway's, with ``/v1`` (e.g. ``https://host/ai/v1``); without
    ``secret`` the key is taken from the environment variable ``DWCTL_API_KEY``. ``request``: what is sent beside the model."""
    url = base_url.rstrip("/")
    # What a playground asks with is in OpenAI's words; the first hello is the same in anybody's.
    greets = request is None and kind != "embeddings"
    if request is None:
        request = {"input": "hello"} if kind == "embeddings" else {"messages": [{"role": "user", "content": QUESTION}]}
    body = {"model": model, **request} | ({"stream": True} if kind == "stream" else {})
    anthropic = Snippet("Anthropic", "python", "pip install anthropic", _anthropic(url, body, kind, secret))
    return [
        Snippet("curl", "bash", None, _curl(url, body, kind, secret)),
        Snippet("Python", "python", "pip install openai", _python(url, body, kind, secret)),
        Snippet("JavaScript", "javascript", "npm install openai, and save this as hello.mjs", _javascript(url, body, kind, secret)),
        *([anthropic] if greets else []),
    ]


def administration_snippet(root_url: str, *, secret: str | None = None) -> Snippet:
    """A first call of the administration's API with a platform key. ``root_url`` is the server's."""
    head = f"curl {shlex.quote(root_url.rstrip('/') + '/admin/api/v1/users/current')} \\\n  -H {_authorization(secret)}\n"
    return Snippet("curl", "bash", None, head)


def replay(base_url: str, path: str, body: str | None, model: str) -> str:
    """A recorded request as curl, with its own body if there is one, else with a new one for its model."""
    if body is None:
        return snippets(base_url, model, "embeddings" if path.endswith("/embeddings") else "chat")[0].code
    root = base_url.rstrip("/")
    if path.startswith("/api/"):
        root = root.removesuffix("/v1")  # Ollama's paths are beside it
    return _call(root + path, body, None, streams=False)


def model_kind(model_type: str) -> Kind:
    """What a model of this type is first tried with."""
    return "embeddings" if model_type == "EMBEDDINGS" else "chat"


def _authorization(secret: str | None) -> str:
    return f'"Authorization: Bearer ${KEY_VARIABLE}"' if secret is None else shlex.quote(f"Authorization: Bearer {secret}")


def _curl(url: str, body: Mapping[str, object], kind: Kind, secret: str | None) -> str:
    path = "/embeddings" if kind == "embeddings" else "/chat/completions"
    return _call(url + path, json.dumps(body, indent=2, ensure_ascii=False), secret, streams=kind == "stream")


def _call(url: str, body: str, secret: str | None, *, streams: bool) -> str:
    return "\n".join(
        (
            f"curl{' -N' if streams else ''} {shlex.quote(url)} \\",
            f"  -H {_authorization(secret)} \\",
            '  -H "Content-Type: application/json" \\',
            f"  -d {shlex.quote(body)}",
            "",
        )
    )


def _python(url: str, body: Mapping[str, object], kind: Kind, secret: str | None) -> str:
    key = f'os.environ["{KEY_VARIABLE}"]' if secret is None else json.dumps(secret)
    head = ["import os", ""] if secret is None else []
    head += ["from openai import OpenAI", "", f"client = OpenAI(base_url={json.dumps(url)}, api_key={key})"]
    call = [
        f"{'stream' if kind == 'stream' else 'answer'} = client.{_METHODS[kind]}(",
        *(f"    {name}={value if isinstance(value, bool) else json.dumps(value)}," for name, value in body.items()),
        ")",
    ]
    return "\n".join((*head, *call, *_PYTHON_ENDS[kind], ""))


def _anthropic(url: str, body: Mapping[str, object], kind: Kind, secret: str | None) -> str:
    key = f'os.environ["{KEY_VARIABLE}"]' if secret is None else json.dumps(secret)
    head = ["import os", ""] if secret is None else []
    head += ["from anthropic import Anthropic", "", f"client = Anthropic(base_url={json.dumps(url.removesuffix('/v1'))}, api_key={key})"]
    arguments = [f"    {name}={json.dumps(value)}," for name, value in body.items() if name != "stream"]
    arguments.insert(1, "    max_tokens=1000,")
    if kind == "stream":
        call = ["with client.messages.stream(", *arguments, ") as stream:", "    for text in stream.text_stream:"]
        end = ['        print(text, end="", flush=True)', "print()"]
    else:
        call = ["answer = client.messages.create(", *arguments, ")"]
        end = ['print("".join(block.text for block in answer.content if block.type == "text"))']
    return "\n".join((*head, *call, *end, ""))


def _javascript(url: str, body: Mapping[str, object], kind: Kind, secret: str | None) -> str:
    key = f"process.env.{KEY_VARIABLE}" if secret is None else json.dumps(secret)
    head = ['import OpenAI from "openai";', "", f"const client = new OpenAI({{ baseURL: {json.dumps(url)}, apiKey: {key} }});"]
    call = [
        f"const {'stream' if kind == 'stream' else 'answer'} = await client.{_METHODS[kind]}({{",
        *(f"  {name}: {json.dumps(value)}," for name, value in body.items()),
        "});",
    ]
    return "\n".join((*head, *call, *_JAVASCRIPT_ENDS[kind], ""))


_METHODS: dict[Kind, str] = {"chat": "chat.completions.create", "stream": "chat.completions.create", "embeddings": "embeddings.create"}
_PYTHON_ENDS: dict[Kind, tuple[str, ...]] = {
    "chat": ("print(answer.choices[0].message.content)",),
    "stream": (
        "for chunk in stream:",
        "    for choice in chunk.choices:",
        '        print(choice.delta.content or "", end="", flush=True)',
        "print()",
    ),
    "embeddings": ("print(len(answer.data[0].embedding))",),
}
_JAVASCRIPT_ENDS: dict[Kind, tuple[str, ...]] = {
    "chat": ("console.log(answer.choices[0].message.content);",),
    "stream": ("for await (const chunk of stream) {", '  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");', "}"),
    "embeddings": ("console.log(answer.data[0].embedding.length);",),
}
