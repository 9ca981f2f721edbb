"""What the simulator answers on each path, and how each fault breaks the answer.

| path (with or without /v1) | answer |
| --- | --- |
| POST /chat/completions, /completions | JSON, or server-sent events when ``stream`` is true |
| POST /embeddings | floats or base64, ``dimensions`` (16) |
| POST /rerank | documents with falling scores |
| POST /images/... | pictures of one pixel, base64; JSON or multipart request |
| POST /audio/speech | 4,106 bytes of every value as audio/mpeg |
| POST /audio/... | a transcription as JSON, or text with ``response_format=text`` |
| any other POST | what arrived: path, content type, number of bytes, SHA-256 |
| GET /models, /models/{id} | the models that answer properly |
| GET /_served, POST /_reset | the account of what was served (`served`), and how to clear it |
| GET /healthz | 200 |
"""

import base64
import hashlib
import hmac
import re
import zlib
from collections.abc import Iterator
from functools import partial
from urllib.parse import parse_qs, unquote

import msgspec

from dwctl.simulator import answers
from dwctl.simulator.answers import Events, Query
from dwctl.simulator.behaviour import LISTED, Behaviour, UnknownOption, parse
from dwctl.simulator.connection import Connection, Pump, Request, pieces
from dwctl.simulator.served import Entry, Served, Usage

JSON = b"application/json"
SSE = b"text/event-stream; charset=utf-8"
MAX_CHOICES = 128
COOKIES = (
    b"server: simulated\r\nset-cookie: provider=1; Path=/; HttpOnly\r\nset-cookie: __cf_bm=abc; Secure\r\n"
    b"openai-organization: org-simulated\r\nopenai-processing-ms: 7\r\nopenai-version: 2020-10-01\r\n"
    b'x-request-id: req_of_the_provider\r\nx-powered-by: simulation\r\nalt-svc: h3=":443"\r\n'
)
MODEL_PART = re.compile(rb'name="model"(?:\r\n[^\r\n]+)*\r\n\r\n([^\r\n]*)\r\n')
FORMAT_PART = re.compile(rb'name="response_format"(?:\r\n[^\r\n]+)*\r\n\r\n([^\r\n]*)\r\n')
CUT_SHORT = frozenset({"sim-cut", "sim-stall", "sim-error-event", "sim-nofinish"})
"""Streams that end after ``after`` tokens."""
WHOLE = frozenset({"sim-gzip", "sim-short-length", "sim-long-length"})
"""Streams that are put together and sent in one piece, since their fault lies in the framing."""


class OnlyModel(msgspec.Struct):
    """All that a path without a wire format of its own needs to know."""

    model: str


class Refusal(Exception):
    """The request is answered with an error. ``args``: status, message, type, code."""


class Provider:
    """The simulated provider: a callable that answers one request on its connection."""

    def __init__(self, served: Served, api_key: str | None, latency: float, token_rate: float) -> None:
        """``latency`` in milliseconds and ``token_rate`` in tokens per second are for models without such an option."""
        self.served = served
        self._authorization = None if api_key is None else f"Bearer {api_key}".encode()
        self._latency, self._rate = latency, token_rate

    def __call__(self, connection: Connection, request: Request) -> None:
        path = request.path.removeprefix("/v1")
        try:
            if path in ("/_served", "/_reset", "/healthz"):
                self._own(connection, request, path)
                return
            self._authenticate(request)
            if request.method == "POST":
                self._post(connection, request, path)
            elif request.method in ("GET", "HEAD"):
                self._get(connection, request, path)
            else:
                raise Refusal(405, f"Not allowed to {request.method} on {request.path}.", "invalid_request_error", "method_not_supported")
        except Refusal as refusal:
            status, message, kind, code = refusal.args
            connection.respond(status, JSON, answers.error_body(message, kind, code))

    def _own(self, connection: Connection, request: Request, path: str) -> None:
        if path == "/_served":
            wanted = parse_qs(request.query).get("id")
            connection.respond(200, JSON, msgspec.json.encode(self.served.report(wanted[0] if wanted else None)))
            return
        if path == "/_reset":
            self.served.reset()
        connection.respond(200, JSON, b"{}")

    def _authenticate(self, request: Request) -> None:
        if self._authorization is None:
            return
        given = request.header(b"authorization")
        if given is None:
            raise Refusal(401, "You didn't provide an API key.", "invalid_request_error", None)
        if not hmac.compare_digest(given, self._authorization):
            raise Refusal(
                401, f"Incorrect API key provided: ****{given[-4:].decode('latin-1')}.", "invalid_request_error", "invalid_api_key"
            )

    def _get(self, connection: Connection, request: Request, path: str) -> None:
        name = unquote(path.removeprefix("/models/"))
        if path == "/models":
            connection.respond(200, JSON, answers.models_body())
        elif path.startswith("/models/") and name in LISTED:
            connection.respond(200, JSON, msgspec.json.encode(answers.model_object(name)))
        elif path.startswith("/models/"):
            raise Refusal(404, f"The model '{name}' does not exist", "invalid_request_error", "model_not_found")
        else:
            raise Refusal(404, f"Unknown request URL: {request.method} {request.path}.", "invalid_request_error", "unknown_url")

    def _post(self, connection: Connection, request: Request, path: str) -> None:
        query = _query(request, path)
        try:
            behaviour = parse(query.model)
        except UnknownOption as error:
            raise Refusal(400, str(error), "invalid_request_error", None) from None
        if behaviour is None:
            raise Refusal(
                404,
                f"The model `{query.model}` does not exist or you do not have access to it.",
                "invalid_request_error",
                "model_not_found",
            )
        if not 1 <= answers.choices(query) <= MAX_CHOICES or answers.completion_tokens(query, behaviour) < 1:
            raise Refusal(400, "n and max_tokens must be at least 1", "invalid_request_error", "invalid_value")
        generates = path in ("/chat/completions", "/completions")
        request_id = request.header(b"x-request-id")
        entry = self.served.open(None if request_id is None else request_id.decode("latin-1"), query.model, path, bool(query.stream))
        connection.entry = entry
        exchange = Exchange(self.served, connection, request, query, behaviour, entry, path)
        latency = (self._latency if behaviour.latency is None else behaviour.latency) / 1000
        rate = self._rate if behaviour.rate is None else behaviour.rate
        if exchange.broken_from_the_start():
            connection.later(latency, exchange.break_from_the_start)
        elif generates and query.stream and behaviour.base != "sim-json-stream":
            connection.later(latency, partial(exchange.stream, 1 / rate if rate > 0 else 0.0))
        else:
            thinking = answers.completion_tokens(query, behaviour) / rate if generates and rate > 0 else 0.0
            connection.later(latency + thinking, exchange.whole)


def _query(request: Request, path: str) -> Query:
    content_type = (request.header(b"content-type") or b"").split(b";")[0].strip().lower()
    if content_type == b"multipart/form-data":
        found = MODEL_PART.search(request.body)
        if found is None:
            raise Refusal(400, "you must provide a model parameter", "invalid_request_error", None)
        return Query(found[1].decode("utf-8", "replace"))
    known = path in ("/chat/completions", "/completions", "/embeddings", "/rerank") or path.startswith("/images/")
    if not known and content_type != JSON:
        return Query("sim-echo")
    try:
        return answers.decode_query(request.body) if known else Query(msgspec.json.decode(request.body, type=OnlyModel).model)
    except msgspec.ValidationError as error:
        raise Refusal(400, str(error), "invalid_request_error", None) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        message = (
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly.)"
        )
        raise Refusal(400, message, "invalid_request_error", None) from None


class Exchange:
    """One request that named a model, on its way to its answer."""

    def __init__(
        self, served: Served, connection: Connection, request: Request, query: Query, behaviour: Behaviour, entry: Entry, path: str
    ) -> None:
        self._served, self._connection, self._request, self._query = served, connection, request, query
        self._behaviour, self._entry, self._path = behaviour, entry, path
        self._base = behaviour.base
        self._headers = COOKIES if self._base == "sim-cookie" else b""

    # answers that are wrong before they begin ------------------------------------------------------------------------------------

    def broken_from_the_start(self) -> bool:
        return self._behaviour.status >= 400 or self._base in (
            "sim-reset", "sim-close", "sim-stall-headers", "sim-html", "sim-garbage", "sim-redirect"
        )  # fmt: skip

    def break_from_the_start(self) -> None:
        connection, base, status = self._connection, self._base, self._behaviour.status
        if status >= 400:
            self._refuse(status)
        elif base in ("sim-reset", "sim-close"):
            self._close_entry("fault")
            connection.hang_up(reset=base == "sim-reset")
        elif base == "sim-html":
            self._close_entry("refused", 502)
            connection.respond(502, b"text/html", b"<html><head><title>502 Bad Gateway</title></head><body><h1>502</h1></body></html>\n")
        elif base == "sim-garbage":
            self._close_entry("fault")
            connection.transport.write(b"\x00\x01\x02 this is not HTTP \xff\r\n\r\n")
            connection.hang_up(reset=False)
        elif base == "sim-redirect":
            self._close_entry("refused", 302)
            connection.respond(302, b"text/plain", b"", b"location: http://127.0.0.1:1/\r\n")
        else:
            self._close_entry("fault")  # sim-stall-headers: silence; the client's leaving ends it

    def _refuse(self, status: int) -> None:
        words = {
            401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
            429: ("Rate limit reached for requests.", "requests", "rate_limit_exceeded"),
        }
        kind = "server_error" if status >= 500 else "invalid_request_error"
        message, kind, code = words.get(status, (f"The simulated provider answers {status}.", kind, None))
        seconds = self._behaviour.retry_after
        if seconds is None and status in (429, 503):
            seconds = 1
        headers = (
            b""
            if seconds is None
            else b"retry-after: %d\r\n" % seconds
            if seconds == int(seconds)
            else f"retry-after: {seconds}\r\n".encode()
        )
        if status == 429:
            headers += b"x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 1s\r\n"
        self._close_entry("refused", status)
        self._connection.respond(status, JSON, answers.error_body(message, kind, code), headers)

    # whole answers ---------------------------------------------------------------------------------------------------------------

    def whole(self) -> None:
        """An answer in one piece."""
        connection, base = self._connection, self._base
        if base == "sim-error-event":
            self._refuse(500)
            return
        content_type, body, usage, reported = self._ordinary()
        self._served.usage(self._entry, usage, reported and base not in ("sim-badjson", "sim-empty", "sim-short-length"))
        self._entry.sent = usage.completion
        if base == "sim-stall":
            self._entry.sent = 0
            self._close_entry("fault")
            connection.transport.write(connection.head(200, content_type, len(body)))
            return
        if base == "sim-cut":
            self._close_entry("fault")
            connection.transport.write(connection.head(200, content_type, len(body)) + body[: len(body) // 2])
            connection.hang_up(reset=bool(self._behaviour.reset))
            return
        if base == "sim-badjson":
            body = body[: len(body) // 2] + b"}}"
        elif base == "sim-badutf8":
            body = _spoil(body)
        elif base == "sim-empty":
            body = b""
        self._send_whole(content_type, body)

    def _send_whole(self, content_type: bytes, body: bytes) -> None:
        connection, headers, length = self._connection, self._headers, len(body)
        if self._base == "sim-gzip":
            packer = zlib.compressobj(wbits=31)
            body = packer.compress(body) + packer.flush()
            headers, length = headers + b"content-encoding: gzip\r\n", len(body)
        elif self._base == "sim-short-length":
            length -= 10
        elif self._base == "sim-long-length":
            length += 10
        elif self._base == "sim-no-length":
            length = -1
        if self._base in ("sim-long-length", "sim-no-length"):
            connection.will_close()
        self._close_entry("fault" if self._base in ("sim-long-length", "sim-empty") else "complete")
        data = connection.head(200, content_type, length, headers) + body
        if self._behaviour.split:
            self._split(data)
        else:
            connection.transport.write(data)
            connection.finish()

    def _split(self, data: bytes) -> None:
        Pump(self._connection, pieces(data, self._behaviour.split), 1e-5, bytes).start()

    def _ordinary(self) -> tuple[bytes, bytes, Usage, bool]:
        """Content type, body and usage of the answer that the path gives, and whether the body reports that usage."""
        query, behaviour, path = self._query, self._behaviour, self._path
        if path in ("/chat/completions", "/completions"):
            usage = answers.usage_of(query, behaviour)
            told = None if self._base == "sim-nousage" else usage
            return JSON, answers.text_body(query, behaviour, path == "/chat/completions", told, self._echo()), usage, told is not None
        if path == "/embeddings":
            body, usage = answers.embeddings_body(query, behaviour)
            return JSON, body, usage, self._base != "sim-nousage"
        if path == "/rerank":
            return JSON, *answers.rerank_body(query, behaviour), True
        if path.startswith("/images/"):
            return JSON, *answers.image_body(query, behaviour), True
        if path == "/audio/speech":
            return b"audio/mpeg", answers.SPEECH, Usage(0, 0), False
        if path.startswith("/audio/"):
            usage = answers.usage_of(query, behaviour)
            transcript = answers.text(0, behaviour.tokens)
            wanted = FORMAT_PART.search(self._request.body)
            if wanted is not None and wanted[1] == b"text":
                return b"text/plain; charset=utf-8", transcript.encode() + b"\n", usage, False
            counted = {
                "type": "tokens",
                "input_tokens": usage.prompt,
                "output_tokens": usage.completion,
                "total_tokens": usage.prompt + usage.completion,
            }
            return JSON, msgspec.json.encode({"text": transcript, "usage": counted}), usage, True
        request = self._request
        seen = {
            "object": "echo",
            "model": query.model,
            "path": request.path,
            "content_type": (request.header(b"content-type") or b"").decode("latin-1"),
            "bytes": len(request.body),
            "sha256": hashlib.sha256(request.body).hexdigest(),
        }
        body = msgspec.json.encode(seen)
        return JSON, body[:-1] + self._echo() + b"}", Usage(0, 0), False

    def _echo(self) -> bytes:
        if self._base != "sim-echo":
            return b""
        request = self._request
        return b',"echo":' + msgspec.json.encode(
            {
                "method": request.method,
                "target": request.target.decode("latin-1"),
                "version": request.version,
                "headers": [[key.decode("latin-1"), value.decode("latin-1")] for key, value in request.headers],
                "bytes": len(request.body),
                "sha256": hashlib.sha256(request.body).hexdigest(),
                "body_base64": base64.b64encode(request.body[:65_536]).decode(),
            }
        )

    # streams ---------------------------------------------------------------------------------------------------------------------

    def stream(self, interval: float) -> None:
        """Server-sent events, a token every ``interval`` seconds; 0 is as fast as the socket takes them."""
        connection, behaviour, base = self._connection, self._behaviour, self._base
        usage = answers.usage_of(self._query, behaviour)
        told = usage if self._query.include_usage() and base != "sim-nousage" else None
        events = Events(self._query, behaviour, self._path == "/chat/completions", told, self._echo())
        self._served.usage(self._entry, usage, told is not None and base not in CUT_SHORT)
        if base in WHOLE:
            payloads = [*events.lead(), *(payload for step in events.body() for payload in step), *events.tail(), b"[DONE]"]
            self._entry.sent = usage.completion
            self._send_whole(SSE, b"".join(_event(payload, base) for payload in payloads))
            return
        if base == "sim-empty":
            self._send_whole(SSE, b"")
            return
        bare = base == "sim-no-length" or self._request.version == "1.0"
        if bare:
            connection.will_close()
        head = connection.head(200, SSE, -1 if bare else None, self._headers)
        blocks = self._blocks(events, head, bare)
        pump = Pump(connection, blocks, interval, partial(self._stream_end, events, bare))
        if base == "sim-cut":
            pump.after = partial(connection.hang_up, bool(behaviour.reset))
        elif base in ("sim-stall", "sim-hang-open"):
            pump.after = _nothing
        if behaviour.split:
            rest = b"".join(blocks) + self._stream_end(events, bare)
            after, pump = pump.after, Pump(connection, pieces(rest, behaviour.split), 1e-5, bytes)
            pump.after = after
        pump.start()

    def _blocks(self, events: Events, head: bytes, bare: bool) -> Iterator[bytes]:
        base, after, entry = self._base, self._behaviour.after, self._entry
        yield head + _framed([_event(payload, base) for payload in events.lead()], bare)
        for position, payloads in enumerate(events.body()):
            if position == after:
                if base in CUT_SHORT:
                    return
                if base == "sim-badjson":
                    yield _framed([b'data: {"id":"chatcmpl-0","choices":[{"index":0,"delta":{"content":}\n\n'], bare)
                elif base == "sim-badutf8":
                    payloads = [_spoil(payload) for payload in payloads]
            entry.sent += events.choices
            yield _framed([_event(payload, base) for payload in payloads], bare)

    def _stream_end(self, events: Events, bare: bool) -> bytes:
        base = self._base
        closing = b"" if bare else b"0\r\n\r\n"
        if base == "sim-cut":
            self._close_entry("fault")
            half = _event(events.tail()[0], base)
            return _framed([half[: len(half) // 2]], bare)
        if base == "sim-stall":
            self._close_entry("fault")
            return b""
        if base == "sim-nofinish":
            self._close_entry("fault")
            return closing
        if base == "sim-error-event":
            self._close_entry("fault")
            error = answers.error_body("The server had an error while processing your request.", "server_error", "server_error")
            return _framed([_event(error, base), _event(b"[DONE]", base)], bare) + closing
        tail = [_event(payload, base) for payload in events.tail()]
        if base != "sim-nodone":
            tail.append(_event(b"[DONE]", base))
        self._close_entry("complete")
        return _framed(tail, bare) + (b"" if base == "sim-hang-open" else closing)

    def _close_entry(self, outcome: str, status: int = 200) -> None:
        self._entry.status = status
        self._served.close(self._entry, outcome)


def _nothing() -> None:
    """Say no more, and wait for the client to leave."""


def _event(payload: bytes, base: str) -> bytes:
    if base == "sim-crlf":
        return b": a comment\r\nevent: message\r\nid: 7\r\ndata:" + payload + b"\r\n\r\n"
    if base == "sim-multiline" and b"," in payload:
        first, _, second = payload.partition(b",")
        return b"data: " + first + b",\ndata: " + second + b"\n\n"
    return b"data: " + payload + b"\n\n"


def _framed(events: list[bytes], bare: bool) -> bytes:
    """Each event as an HTTP chunk of its own, or as it is."""
    if bare:
        return b"".join(events)
    return b"".join([b"%x\r\n%b\r\n" % (len(event), event) for event in events])


def _spoil(payload: bytes) -> bytes:
    """Put bytes that are no UTF-8 into the first text of an answer, or into a member of their own."""
    for opening in (b'"content":"', b'"text":"'):
        if opening in payload:
            return payload.replace(opening, opening + b"\xff\xc3(", 1)
    return payload[:1] + b'"spoiled":"\xff\xc3(",' + payload[1:]
