"""Writes the reference pages of docs/ that are made from the code: configuration, command line, errors, metrics, dialects, simulator.

usage: python -m build.reference [--check]        --check: exit 1 if a page is not what it would be written as
"""

import importlib
import io
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args, get_origin

import click

from build.raised_errors import Raised, raised
from dwctl import config, money
from dwctl.cli import program
from dwctl.dialects import fields, raw_request
from dwctl.dialects.names import DIALECTS, DialectName
from dwctl.simulator.behaviour import BASES, LISTED, OPTIONS
from dwctl.telemetry import metrics

ROOT = Path(__file__).resolve().parents[1]
MADE = "<!-- Made from the code by `make docs`; edit build/reference.py or the code instead. -->\n"
INFERENCE = ("gateway", "dialects", "ledger.facade", "ledger.balances", "routing", "outbound", "api.inference", "server", "doorway.bodies")
SHARED = ("server", "doorway.bodies")


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    out = io.StringIO()
    columns = list(head)
    out.write(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}\n")
    for row in rows:
        out.write(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n")
    return out.getvalue()


def _type_of(key: config.Key) -> str:
    words = {"duration": "duration", "size": "size", "credits": "credits", "cidrs": "list of networks", "path": "path"}
    if key.kind in words:
        return words[key.kind]
    if get_origin(key.type) is tuple:
        return "list"
    if key.type in (int, float, bool, str):
        return {int: "whole number", float: "number", bool: "true or false", str: "text"}[key.type]
    return ", ".join(f"`{choice}`" for choice in get_args(key.type))


def _default_of(key: config.Key) -> str:
    value: Any = key.default
    if key.required:
        return "must be given"
    if value is None or value == ():
        return "none"
    if key.kind == "duration":
        for unit, seconds in (("d", 86400), ("h", 3600), ("m", 60)):
            if value >= 2 * seconds and value % seconds == 0:
                return f"`{value / seconds:g}{unit}`"
        return f"`{value:g}s`"
    if key.kind == "size":
        for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
            if value and value % factor == 0:
                return f"`{value // factor}{unit}`"
    if key.kind == "credits":
        return f"`{money.format_amount(value)}`"
    return f"`{', '.join(value) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else value}`"


def configuration() -> str:
    head = """# Configuration

Every setting has a default, so that `dwctl serve` needs none. A setting can stand in three places; the later wins:

1. the file `dwctl.yaml` in the working directory, or the one named by `--config FILE` or `DWCTL_CONFIG`;
2. an environment variable: `DWCTL_`, then the key in capitals, `__` between levels (`DWCTL_LOG__LEVEL=debug`);
3. a flag of the command (`dwctl serve --help` lists them).

`DATABASE_URL` sets `database.url` and goes before `DWCTL_DATABASE__URL`. An empty variable counts as not set. Lists are
written as YAML lists in the file and separated by commas in a variable. Durations are seconds, or `250ms`, `30s`, `10m`,
`24h`, `7d`, also together (`1h 30m`); sizes are bytes, or `64KiB`, `10MiB`, `1GiB`.

A key that does not exist is an error that names the file, the line and the nearest key that does:

    $ dwctl check-config
    Error: dwctl.yaml:2: unknown key `limits.request`; the nearest key is `limits.requests`

`dwctl check-config --show` prints every value and where it comes from.

```yaml
host: 0.0.0.0
data_dir: /var/lib/dwctl
tls:
  certificate: /etc/dwctl/chain.pem
  key: /etc/dwctl/key.pem
timeouts:
  first_byte: 5m
```
"""
    out = io.StringIO()
    out.write(MADE + head)
    groups: dict[str, list[list[str]]] = {}
    for key in config.keys().values():
        row = [f"`{key.path}`", _type_of(key), _default_of(key), key.description]
        groups.setdefault(key.path.rpartition(".")[0], []).append(row)
    for group, rows in groups.items():
        out.write(f"\n## {f'`{group}`' if group else 'Server'}\n\n")
        out.write(_table(["Key", "Type", "Default", "What it does"], rows))
    return out.getvalue()


def command_line() -> str:
    out = io.StringIO()
    out.write(MADE)
    out.write(
        "# Command line\n\nExit codes: 0 done; 1 the command failed; 2 wrong usage or configuration; 3 the database cannot be reached.\n"
    )

    def describe(command: click.Command, name: str, parent: click.Context | None) -> None:
        context = click.Context(command, info_name=name, parent=parent, max_content_width=100, terminal_width=100)
        out.write(f"\n## `{context.command_path}`\n\n```\n{command.get_help(context)}\n```\n")
        if isinstance(command, click.Group):
            for inner in command.list_commands(context):
                found = command.get_command(context, inner)
                assert found is not None
                describe(found, inner, context)

    describe(program, "dwctl", None)
    return out.getvalue()


def _error_rows(found: Iterable[Raised]) -> list[list[str]]:
    by_code: dict[str, list[Raised]] = {}
    for error in found:
        by_code.setdefault(error.code, []).append(error)
    rows = []
    for code, errors in sorted(by_code.items(), key=lambda item: (min(error.status or 999 for error in item[1]), item[0])):
        statuses = sorted({error.status for error in errors if error.status})
        messages = sorted({error.message for error in errors if error.message})
        rows.append(
            [", ".join(map(str, statuses)) or "varies", f"`{code}`", "<br>".join(messages) or "(what is wrong, and in which field)"]
        )
    return rows


def errors() -> str:
    head = """# Errors

The inference API (`/ai/v1`, `/v1`) answers errors in the words of the API that was called. For OpenAI's:

```json
{"error": {"message": "...", "type": "...", "code": "...", "param": null}}
```

`/admin/api/v1` and `/authentication` answer `{"message": "...", "error": {"type", "code", "message", "param"}}`. Further
fields of `error` give amounts (`balance` and `hold`, decimal texts in credits). A refusal that passes has a `Retry-After`
header; refusals by a rate limit have `x-ratelimit-*` headers. Names in braces stand for values.

Every answer of the inference API has `x-request-id`. With a known key, every call of a model and whatever else was refused is
found under it in the list of requests; lists of models that were given are only in the log. Without a known key, so many
refusals a second as `records.anonymous_per_second` allows are kept; the rest is counted by minute, reason and path. Codes with
status 499 are in records alone: their client has left.

## Errors of providers

- 401, 402, 403, 407 and 451 speak of the account that dwctl has at the provider, also as the code of an error in an answer or a stream.
  The client is told 502 `provider_refused_gateway`, and nothing of what the provider said.
- Any other status from 400 to 599 with an error in JSON, of at most 16 KiB, is passed on: as it came if client and provider speak the
  same dialect, else with the provider's message and code in the client's dialect.
- Such a status with anything else is told in dwctl's words: 429 `rate_limit`, 504 `gateway_timeout` for 408, otherwise the same
  status and `upstream_error`.
- An error with status 200 in the place of an answer is a 502 with the provider's message and code; 429, 503 and 529 stay what they are.
- An error in a stream is an event of the client's stream; if nothing was sent yet and the dialects differ, it is told as one in the
  place of an answer.
- What is no answer of the provider's dialect is a 502 `upstream_malformed`.

Clients of other dialects than Anthropic's are told 503 for an Anthropic provider's 529 (overloaded). Wherever an error repeats the key
that dwctl sent to the provider, it says `[hidden]`.

A provider's code is for its client alone: records, the log and metrics have dwctl's own, such as `upstream_error`. What the provider
complained of, or how an answer begins that cannot be used, is quoted in the request's explanation, up to 240 characters. Of requests
whose bodies are not kept the explanation gives only the size.

## Inference

"""
    found = raised()
    inference = [error for error in found if error.room.startswith(INFERENCE)]
    administration = [error for error in found if error.room.startswith(SHARED) or not error.room.startswith(INFERENCE)]
    columns = ["Status", "Code", "Message"]
    return MADE + head + _table(columns, _error_rows(inference)) + "\n## Administration\n\n" + _table(columns, _error_rows(administration))


def metric_list() -> str:
    head = """# Metrics

`GET /internal/metrics` gives prometheus' text format to this machine, to the networks of `metrics.allow`, and to whoever
brings the token of `metrics.token` as a bearer token. Label values come from the configuration, the catalog and the program itself,
never from callers or providers, so that their number is bounded. Counters end in `_total`; histograms have `_bucket`, `_sum` and
`_count`.

"""
    importlib.import_module("dwctl.server")
    rows = {}
    for collector in list(metrics.REGISTRY._collector_to_names):
        for family in collector.describe() if hasattr(collector, "describe") else collector.collect():
            labels = getattr(collector, "_labelnames", ()) or getattr(family, "_labelnames", ())
            name = f"{family.name}_total" if family.type == "counter" else family.name
            rows[name] = [f"`{name}`", family.type, ", ".join(f"`{label}`" for label in labels), family.documentation]
    ours = [row for name, row in sorted(rows.items()) if not name.startswith(("process_", "python_"))]
    runtime = [row for name, row in sorted(rows.items()) if name.startswith(("process_", "python_"))]
    columns = ["Metric", "Type", "Labels", "Meaning"]
    return MADE + head + _table(columns, ours) + "\n## The process\n\n" + _table(columns, runtime)


_DIALECT_WORDS: dict[DialectName, str] = {
    "openai-chat": "OpenAI Chat",
    "openai-responses": "OpenAI Responses",
    "anthropic": "Anthropic Messages",
    "ollama": "Ollama",
}


def dialects() -> str:
    head = """# Dialects

A client speaks the dialect it knows, an endpoint the dialect of its provider. Where they are the same, the request and the answer
pass byte for byte (only `model` is replaced, and usage asked for in streams of chat chunks). Where they differ, the request is
read once and written in the provider's words, and the answer comes back in the client's, streamed or not.

| A client of | calls | with its key in | and its base URL is |
| --- | --- | --- | --- |
| OpenAI Chat | `POST /ai/v1/chat/completions`, `/embeddings` | `Authorization: Bearer` | `https://HOST/ai/v1` |
| OpenAI Responses | `POST /ai/v1/responses` | `Authorization: Bearer` | `https://HOST/ai/v1` |
| Anthropic Messages | `POST /ai/v1/messages`, `/messages/count_tokens`, `GET /models` | `x-api-key`, or as OpenAI's | `https://HOST/ai` |
| Ollama | `POST /ai/api/chat`, `/api/generate`, `/api/embed`, `/api/show`, `GET /api/tags` | `Authorization: Bearer` | `https://HOST/ai` |

`/v1` and `/api` at the root of the host are the same as those under `/ai`. Errors have the shape of the client's dialect, before the
answer and within a stream. Token counts of `/messages/count_tokens` are the provider's if it speaks Anthropic's dialect, and otherwise
counted by the model's tokenizer (above a million characters: bytes / 4), with 1,600 tokens for a picture and 3,000 for a document that
is not text.

A client of Ollama's that asks nothing has its model loaded or unloaded (`keep_alive: 0`). To that, before a provider of another
dialect, the gateway itself says `done`; nobody is asked, and nothing is charged.

In every dialect the header `x-dwctl-tags` gives a request [tags](requests.md#tags), and the header `Model-Override` names the model in
place of the body's `model`, which may be missing then: for clients whose model cannot be set, and for a proxy that chooses.

A form (`multipart/form-data`: audio, image edits) passes with another `model`, every other part byte for byte. One that some server may
read otherwise is refused with 400. Libraries send what is taken: a plain boundary that stands nowhere else, lines that end with CRLF,
nothing around the parts, of which there are up to 1000, names of letters, digits or any of `_.-[]`; `model` and `n` once, and not as files.

Neither the path nor the query may name a model (400 `invalid_path`). Any other query is passed on (`?beta=true`), unless it has a name
that the body decides by, such as `stream`.

Pages of other sites call models from a browser if `auth.security.cors` names their origins ([configuration](configuration.md)).

Each field and each kind of content is **translated**; or **dropped** with a note in the request's record, where the answer is the same
without it; or **refused** with a 400 that names the field, where it would not be. The columns say what becomes of it on the way to
a provider *of another dialect* than the client's.

"""
    columns = ["Said by clients as", *(f"to {_DIALECT_WORDS[dialect]}" for dialect in DIALECTS), "Note"]
    out = io.StringIO()
    out.write(MADE + head + "## Fields\n\n")
    rows = []
    for field in fields.FIELDS:
        said = dict.fromkeys(field.says.values())
        fates = ["" if set(field.says) == {dialect} else field.fate(dialect) for dialect in DIALECTS]
        rows.append([", ".join(f"`{path}`" for path in said), *fates, field.note])
    out.write(_table(columns, rows))
    out.write("\n## Content\n\n")
    out.write(
        _table(
            ["Content", *columns[1:]],
            [
                [content.name, *(content.fate(dialect) for dialect in DIALECTS), content.note or _sentence(content.reason)]
                for content in fields.CONTENT.values()
            ],
        )
    )
    for dialect, others in fields.OTHERS.items():
        out.write(f"\n## Fields of {_DIALECT_WORDS[dialect]} alone\n\n")
        out.write(_table(["Field", "Fate", "Why"], [[f"`{path}`", fate, reason] for path, (fate, reason) in others.items()]))
    further = ", ".join(f"`{name}`" for name in sorted(raw_request.FURTHER_MODELS))
    out.write(
        "\nEvery other field is dropped with a note. Where client and provider speak the same dialect all pass untouched, also those by"
        " which some servers schedule (`priority`, `nvext`). These are excepted:\n\n"
        "- `background: true` is refused there, too.\n"
        f"- {further} are refused on every path, and in forms: a request is answered by the one model that"
        " `model` names, whose access and price were looked at. `null` and `[]` pass there, and Anthropic's `fallbacks` are left"
        " out, with a note: its clients send them of themselves. Tools with a `model` of their own are refused, too. What else a provider"
        " does with other models, by hosted tools, plugins or options of its own (OpenRouter's `plugins`, Vercel's `providerOptions`), is"
        " passed on, and charged as far as the answer's usage tells.\n"
        "- `stream`, and `background` of Responses, are true, false or null, and numbers of answers (`n`, `best_of`) whole: some servers"
        ' read `1` or `"yes"` as true, and others do not.\n'
        "- Ids are not a client's to give, so that `id`, `completion_id`, `completionId`, `response_id` and `responseId` are left out.\n\n"
        "JSON is sent on as `Content-Type: application/json`, without a `charset`; an `Idempotency-Key` as a hash of account and key, so"
        " that the same key of two accounts is not the same to the provider.\n"
    )
    return out.getvalue()


def _sentence(reason: str) -> str:
    return f"{reason[0].upper()}{reason[1:]}." if reason else ""


def simulator() -> str:
    head = f"""# The simulated provider

`dwctl simulate` runs a provider whose answers are known beforehand: to try dwctl, to test programs against it, and to see what they make
of a provider's faults. It speaks OpenAI's chat, Responses, completions, embeddings and models, Anthropic's Messages and Ollama's API, and
prints its base URL. It is an [endpoint](endpoints.md) like any other; `dwctl serve --demo` brings one along.

    dwctl simulate --port 8090

What it does with a request follows from the name of the model: one of the names below, then options in the form of a query.

    sim-chat                                an ordinary answer
    sim-chat?latency=200&tokens=50&rate=100 50 tokens, 100 a second, the first after 200 milliseconds
    sim-503?retry_after=7                   an error, as every status from 400 to 599

The list of models has {", ".join(f"`{name}`" for name in LISTED)}. The others
are written by hand where an endpoint's models are chosen; a name with options is the provider's name of a model (*Identity*), or its
`model_name` in a file for [`dwctl apply`](apply.md).

## Models

"""
    models = _table(["Name", "What is answered"], [[f"`{name}`", said] for name, said in BASES.items()])
    options = _table(["Option", "Meaning", "Default"], [[f"`{name}`", *said] for name, said in OPTIONS.items()])
    return MADE + head + models + "\n## Options\n\nThey mean the same on every model.\n\n" + options


PAGES: dict[str, Callable[[], str]] = {
    "configuration.md": configuration,
    "cli.md": command_line,
    "errors.md": errors,
    "metrics.md": metric_list,
    "dialects.md": dialects,
    "simulator.md": simulator,
}


def main() -> None:
    stale = []
    for name, page in PAGES.items():
        path, text = ROOT / "docs" / name, page()
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(text)
    if "--check" in sys.argv and stale:
        raise SystemExit(f"docs/ is not what the code says: {', '.join(stale)}; run make docs")


if __name__ == "__main__":
    main()
