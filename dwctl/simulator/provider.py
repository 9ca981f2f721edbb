"""What the simulator answers on each path.

| path (with or without /v1) | answer |
| --- | --- |
| POST /chat/completions, /completions | JSON, or server-sent events when ``stream`` is true |
| POST /responses | OpenAI's Responses: JSON, or the event stream |
| POST /messages, /messages/count_tokens | Anthropic's Messages: JSON, or the event stream; the number of input tokens |
| POST /api/chat, /api/generate | Ollama's: JSON lines, or JSON when ``stream`` is false |
| POST /api/embed, /api/show; GET /api/tags, /api/version | Ollama's embeddings, a model, the models, the version |
| POST /embeddings | floats or base64, ``dimensions`` (16) |
| POST /rerank | documents with falling scores |
| POST /images/... | pictures of one pixel, base64; JSON or multipart request |
| POST /audio/speech | 4,106 bytes of every value as audio/mpeg |
| POST /audio/... | a transcription as JSON, or text with ``response_format=text`` |
| any other POST | what arrived: path, content type, number of bytes, SHA-256 |
| GET /models, /models/{id} | the models that answer properly; in Anthropic's form with the header ``anthropic-version`` |
| GET /_served, POST /_reset | the account of what was served (`served`), and how to clear it and what was recorded |
| GET /_requests | the last requests as they arrived (`recorded`) |
| GET /healthz | 200 |

A request that the real provider would refuse is refused in its words (`chat`, `responses_request`, `anthropic_request`,
`ollama`), so that a wrong translation shows.
"""

import hmac
from functools import partial
from urllib.parse import parse_qs, unquote

import msgspec

from dwctl.simulator import answers, anthropic, anthropic_request, ollama, openai_request, responses_request
from dwctl.simulator.behaviour import LISTED, Behaviour, UnknownOption, parse
from dwctl.simulator.connection import Connection, Request
from dwctl.simulator.exchange import Exchange
from dwctl.simulator.openai import OPENAI, RESPONSES
from dwctl.simulator.recorded import Recorded
from dwctl.simulator.served import Served
from dwctl.simulator.wire import JSON, Answer, Dialect, Question, Refused


class Provider:
    """The simulated provider: a callable that answers one request on its connection."""

    def __init__(self, served: Served, api_key: str | None, latency: float, token_rate: float) -> None:
        """``latency`` in milliseconds and ``token_rate`` in tokens per second are for models without such an option."""
        self.served, self.recorded = served, Recorded()
        self._authorization = None if api_key is None else f"Bearer {api_key}".encode()
        self._latency, self._rate = latency, token_rate

    def __call__(self, connection: Connection, request: Request) -> None:
        path = request.path.removeprefix("/v1")
        dialect = _dialect(request, path)
        try:
            if path in ("/_served", "/_reset", "/_requests", "/healthz"):
                self._own(connection, request, path)
                return
            if request.method == "POST":
                self.recorded.add(request)
            self._authenticate(request, dialect)
            if request.method == "POST":
                self._post(connection, request, path, dialect)
            elif request.method in ("GET", "HEAD"):
                self._get(connection, request, path)
            else:
                raise Refused(405, f"Not allowed to {request.method} on {request.path}.", code="method_not_supported")
        except (Refused, RecursionError) as error:
            refused = error if isinstance(error, Refused) else Refused(400, "The body is nested too deeply.")
            connection.respond(refused.status, JSON, dialect.error(refused), dialect.headers(refused.status))

    def _own(self, connection: Connection, request: Request, path: str) -> None:
        wanted = parse_qs(request.query).get("id", [None])[0]
        if path == "/_served":
            connection.respond(200, JSON, msgspec.json.encode(self.served.report(wanted)))
            return
        if path == "/_requests":
            connection.respond(200, JSON, msgspec.json.encode(self.recorded.report(wanted)))
            return
        if path == "/_reset":
            self.served.reset()
            self.recorded.reset()
        connection.respond(200, JSON, b"{}")

    def _authenticate(self, request: Request, dialect: Dialect) -> None:
        if self._authorization is None:
            return
        given = dialect.authorization(request)
        if given is None or not hmac.compare_digest(given, self._authorization):
            raise dialect.no_key(given)

    def _get(self, connection: Connection, request: Request, path: str) -> None:
        name = unquote(path.removeprefix("/models/"))
        shape = anthropic if _dialect(request, path) is anthropic.DIALECT else answers
        if path == "/api/tags":
            body = ollama.tags_body()
        elif path == "/api/version":
            body = ollama.VERSION
        elif path == "/models":
            body = anthropic.models_body(request.query) if shape is anthropic else answers.models_body()
        elif path.startswith("/models/") and name in LISTED:
            body = msgspec.json.encode(shape.model_object(name))
        elif path.startswith("/models/"):
            raise _no_model(name, _dialect(request, path))
        else:
            raise Refused(404, f"Unknown request URL: {request.method} {request.path}.", code="unknown_url")
        connection.respond(200, JSON, body, _dialect(request, path).headers(200))

    def _post(self, connection: Connection, request: Request, path: str, dialect: Dialect) -> None:
        if path == "/api/show":
            connection.respond(200, JSON, ollama.show_body(request))
            return
        question = _question(request, path)
        try:
            behaviour = parse(question.model)
        except UnknownOption as error:
            raise Refused(400, str(error)) from None
        if behaviour is None:
            raise _no_model(question.model, dialect)
        question.check(behaviour)
        answer = question.answer(behaviour, behaviour.base != "sim-nousage")
        request_id = request.header(b"x-request-id")
        identity = None if request_id is None else request_id.decode("latin-1")
        entry = self.served.open(identity, question.model, path, question.stream)
        connection.entry = entry
        echo = openai_request.echo(request) if behaviour.base == "sim-echo" else b""
        if behaviour.base == "sim-wrong-dialect" and question.generates:
            dialect, answer = _another(request, dialect, question, behaviour)
        exchange = Exchange(self.served, connection, request, behaviour, entry, dialect, answer, echo)
        latency = (self._latency if behaviour.latency is None else behaviour.latency) / 1000
        rate = self._rate if behaviour.rate is None else behaviour.rate
        if exchange.broken_from_the_start():
            connection.later(latency, exchange.break_from_the_start)
        elif question.stream and behaviour.base != "sim-json-stream":
            connection.later(latency, partial(exchange.stream, 1 / rate if rate > 0 else 0.0))
        else:
            thinking = question.tokens(behaviour) / rate if question.generates and rate > 0 else 0.0
            connection.later(latency + thinking, exchange.whole)


def _dialect(request: Request, path: str) -> Dialect:
    if path == "/chat/completions":
        return OPENAI
    if path == "/responses":
        return RESPONSES
    if path.startswith("/messages") or (path.startswith("/models") and request.header(b"anthropic-version") is not None):
        return anthropic.DIALECT
    return ollama.DIALECT if path.startswith("/api/") else OPENAI


def _question(request: Request, path: str) -> Question:
    """The request, read strictly; raises `Refused`."""
    if path == "/responses":
        return responses_request.Asking(request, path)
    if path in ("/messages", "/messages/count_tokens"):
        return anthropic_request.Asking(request, path)
    if path in ("/api/chat", "/api/generate", "/api/embed"):
        return ollama.Asking(request, path)
    if path.startswith(("/messages/", "/api/")):
        raise Refused(404, "404 page not found" if path.startswith("/api/") else "Not Found")
    return openai_request.Asking(request, path)


def _no_model(name: str, dialect: Dialect) -> Refused:
    if dialect is anthropic.DIALECT:
        return Refused(404, f"model: {name}")
    if dialect is ollama.DIALECT:
        return Refused(404, f"model '{name}' not found")
    if dialect is RESPONSES:
        return Refused(400, f"The requested model '{name}' does not exist.", code="model_not_found", param="model")
    return Refused(404, f"The model `{name}` does not exist or you do not have access to it.", code="model_not_found")


def _another(request: Request, dialect: Dialect, question: Question, behaviour: Behaviour) -> tuple[Dialect, Answer]:
    """An answer in a dialect that was not asked: Anthropic's to a chat, a chat's to every other request."""
    body = {"model": question.model, "messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": question.tokens(behaviour)}
    if dialect is OPENAI:
        other, path, headers = anthropic.DIALECT, "/messages", [(b"anthropic-version", b"2023-06-01")]
        asking = anthropic_request.Asking(_made(headers, body), path)
        return other, asking.answer(behaviour, True)
    chat = openai_request.Asking(_made([(b"content-type", JSON)], body), "/chat/completions")
    chat.check(behaviour)
    return OPENAI, chat.answer(behaviour, True)


def _made(headers: list[tuple[bytes, bytes]], body: object) -> Request:
    return Request("POST", b"/", "1.1", headers, msgspec.json.encode(body), True)
