"""Code to copy: the same call as curl, Python and JavaScript, ready to run.

A secret is written out only on the page that shows it for the only time; elsewhere the code reads it from the environment.
"""

import json
import shlex
from typing import Literal

import msgspec

Kind = Literal["chat", "stream", "embeddings"]
KINDS: tuple[Kind, ...] = ("chat", "stream", "embeddings")
KEY_VARIABLE = "DWCTL_API_KEY"

_QUESTION = "Say hello in one sentence."


class Snippet(msgspec.Struct, frozen=True):
    """``language`` is for highlighting (bash, python, javascript), ``title`` for the tab, ``needs`` what to install first."""

    title: str
    language: str
    needs: str | None
    code: str


def snippets(base_url: str, model: str, kind: Kind = "chat", *, secret: str | None = None) -> list[Snippet]:
    """The call of ``model`` in each language. ``base_url`` is the gateway's, with ``/v1`` (e.g. ``https://host/ai/v1``); without
    ``secret`` the key is taken from the environment variable ``DWCTL_API_KEY``."""
    url = base_url.rstrip("/")
    return [
        Snippet("curl", "bash", None, _curl(url, model, kind, secret)),
        Snippet("Python", "python", "pip install openai", _python(url, model, kind, secret)),
        Snippet("JavaScript", "javascript", "npm install openai", _javascript(url, model, kind, secret)),
    ]


def replay(base_url: str, path: str, body: str | None, model: str) -> str:
    """A recorded request as curl, with its own body if there is one, else with a new one for its model."""
    if body is None:
        return _curl(base_url.rstrip("/"), model, "embeddings" if path.endswith("/embeddings") else "chat", None)
    return _call(base_url.rstrip("/") + path, body, None, streams=False)


def model_kind(model_type: str) -> Kind:
    """What a model of this type is first tried with."""
    return "embeddings" if model_type == "EMBEDDINGS" else "chat"


def _curl(url: str, model: str, kind: Kind, secret: str | None) -> str:
    body: dict[str, object] = {"model": model}
    if kind == "embeddings":
        path = "/embeddings"
        body["input"] = "hello"
    else:
        path = "/chat/completions"
        body["messages"] = [{"role": "user", "content": _QUESTION}]
        if kind == "stream":
            body["stream"] = True
    return _call(url + path, json.dumps(body, indent=2, ensure_ascii=False), secret, streams=kind == "stream")


def _call(url: str, body: str, secret: str | None, *, streams: bool) -> str:
    authorization = f'"Authorization: Bearer ${KEY_VARIABLE}"' if secret is None else shlex.quote(f"Authorization: Bearer {secret}")
    return "\n".join(
        (
            f"curl{' -N' if streams else ''} {shlex.quote(url)} \\",
            f"  -H {authorization} \\",
            '  -H "Content-Type: application/json" \\',
            f"  -d {shlex.quote(body)}",
            "",
        )
    )


def _python(url: str, model: str, kind: Kind, secret: str | None) -> str:
    key = f'os.environ["{KEY_VARIABLE}"]' if secret is None else json.dumps(secret)
    head = ["import os", ""] if secret is None else []
    head += ["from openai import OpenAI", "", f"client = OpenAI(base_url={json.dumps(url)}, api_key={key})"]
    if kind == "embeddings":
        call = [
            f'answer = client.embeddings.create(model={json.dumps(model)}, input="hello")',
            "print(len(answer.data[0].embedding))",
        ]
    else:
        call = [
            f"{'stream' if kind == 'stream' else 'answer'} = client.chat.completions.create(",
            f"    model={json.dumps(model)},",
            f'    messages=[{{"role": "user", "content": {json.dumps(_QUESTION)}}}],',
            *(["    stream=True,"] if kind == "stream" else []),
            ")",
        ]
        if kind == "stream":
            call += [
                "for chunk in stream:",
                "    for choice in chunk.choices:",
                '        print(choice.delta.content or "", end="", flush=True)',
                "print()",
            ]
        else:
            call.append("print(answer.choices[0].message.content)")
    return "\n".join((*head, *call, ""))


def _javascript(url: str, model: str, kind: Kind, secret: str | None) -> str:
    key = f"process.env.{KEY_VARIABLE}" if secret is None else json.dumps(secret)
    head = ['import OpenAI from "openai";', "", f"const client = new OpenAI({{ baseURL: {json.dumps(url)}, apiKey: {key} }});"]
    if kind == "embeddings":
        call = [
            f'const answer = await client.embeddings.create({{ model: {json.dumps(model)}, input: "hello" }});',
            "console.log(answer.data[0].embedding.length);",
        ]
    else:
        call = [
            f"const {'stream' if kind == 'stream' else 'answer'} = await client.chat.completions.create({{",
            f"  model: {json.dumps(model)},",
            f'  messages: [{{ role: "user", content: {json.dumps(_QUESTION)} }}],',
            *(["  stream: true,"] if kind == "stream" else []),
            "});",
        ]
        if kind == "stream":
            call += ["for await (const chunk of stream) {", '  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");', "}"]
        else:
            call.append("console.log(answer.choices[0].message.content);")
    return "\n".join((*head, *call, ""))
