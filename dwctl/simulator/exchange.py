"""One request that named a model, on its way to its answer, in order or broken. The faults are the same in every dialect."""

import zlib
from collections.abc import Iterator
from functools import partial

from dwctl.simulator.behaviour import Behaviour
from dwctl.simulator.connection import Connection, Pump, Request, pieces
from dwctl.simulator.served import Entry, Served
from dwctl.simulator.wire import Answer, Dialect

COOKIES = (
    b"server: simulated\r\nset-cookie: provider=1; Path=/; HttpOnly\r\nset-cookie: __cf_bm=abc; Secure\r\n"
    b"openai-organization: org-simulated\r\nopenai-processing-ms: 7\r\nopenai-version: 2020-10-01\r\n"
    b'x-request-id: req_of_the_provider\r\nx-powered-by: simulation\r\nalt-svc: h3=":443"\r\n'
)
CUT_SHORT = frozenset({"sim-cut", "sim-stall", "sim-error-event", "sim-failed", "sim-nofinish"})
"""Streams that end after ``after`` tokens."""
WHOLE = frozenset({"sim-gzip", "sim-short-length", "sim-long-length"})
"""Streams that are put together and sent in one piece, since their fault lies in the framing."""
UNREPORTED = frozenset({"sim-badjson", "sim-empty", "sim-short-length", "sim-error-200"})
"""Faults that leave no usage to be read in an answer of one piece."""
FAULTY = frozenset({"sim-long-length", "sim-empty", "sim-error-200"})
TEXTS = (b'"content":"', b'"text":"', b'"delta":"', b'"response":"', b'"thinking":"', b'"partial_json":"', b'"arguments":"')


class Exchange:
    """One exchange."""

    def __init__(
        self,
        served: Served,
        connection: Connection,
        request: Request,
        behaviour: Behaviour,
        entry: Entry,
        dialect: Dialect,
        answer: Answer,
        echo: bytes = b"",
    ) -> None:
        """``echo``: a member to be added to the answer, begun by a comma."""
        self._served, self._connection, self._request = served, connection, request
        self._behaviour, self._entry, self._dialect, self._answer, self._echo = behaviour, entry, dialect, answer, echo
        self._base = behaviour.base
        self._event = self._odd_event if self._base in ("sim-crlf", "sim-multiline") else dialect.event
        self._headers = dialect.headers(200) + (COOKIES if self._base == "sim-cookie" else b"")

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
        seconds = self._behaviour.retry_after
        if seconds is None and status in (429, 503):
            seconds = 1
        after = b"" if seconds is None else f"retry-after: {seconds:g}\r\n".encode()
        self._close_entry("refused", status)
        body = self._dialect.error(self._dialect.failure(status))
        self._connection.respond(status, b"application/json", body, after + self._dialect.headers(status))

    # whole answers ---------------------------------------------------------------------------------------------------------------

    def whole(self) -> None:
        """An answer in one piece."""
        connection, base, answer = self._connection, self._base, self._answer
        content_type, body = answer.whole()
        if base == "sim-error-event" or (base == "sim-failed" and b'"status":"failed"' not in body):
            self._refuse(500)
            return
        reported = answer.reported and base not in UNREPORTED and base != "sim-failed"
        self._served.usage(self._entry, answer.usage, reported)
        self._entry.sent = answer.usage.completion
        if content_type == b"application/json" and self._echo:
            body = body[:-1] + self._echo + b"}"
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
        elif base == "sim-error-200":
            body = self._error()
        elif base == "sim-error-inside":
            body = self._with_error(body)
        self._send_whole(content_type, body)

    def _error(self) -> bytes:
        return self._dialect.error(self._dialect.failure(500))

    def _with_error(self, payload: bytes) -> bytes:
        return payload[:-1] + b',"error":{"type":"server_error","code":"server_error","message":"The simulated provider failed."}}'

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
        self._close_entry("fault" if self._base in FAULTY or self._base == "sim-failed" else "complete")
        data = connection.head(200, content_type, length, headers) + body
        if self._behaviour.split:
            Pump(connection, pieces(data, self._behaviour.split), 1e-5, bytes).start()
        else:
            connection.transport.write(data)
            connection.finish()

    # streams ---------------------------------------------------------------------------------------------------------------------

    def stream(self, interval: float) -> None:
        """Events, a token every ``interval`` seconds; 0 is as fast as the socket takes them."""
        connection, behaviour, base, answer = self._connection, self._behaviour, self._base, self._answer
        self._served.usage(self._entry, answer.usage, answer.reported and base not in CUT_SHORT and base != "sim-error-200")
        if base in WHOLE:
            events = [*self._lead(), *(payload for step in answer.body() for payload in step), *answer.tail(), *self._end()]
            self._entry.sent = answer.usage.completion
            self._send_whole(answer.content_type, b"".join(map(self._event, events)))
            return
        if base in ("sim-empty", "sim-error-200"):
            self._send_whole(answer.content_type, self._event(self._error()) if base == "sim-error-200" else b"")
            return
        bare = base == "sim-no-length" or self._request.version == "1.0"
        if bare:
            connection.will_close()
        head = connection.head(200, answer.content_type, -1 if bare else None, self._headers)
        blocks = self._blocks(head, bare)
        pump = Pump(connection, blocks, interval, partial(self._stream_end, bare))
        if base == "sim-cut":
            pump.after = partial(connection.hang_up, bool(behaviour.reset))
        elif base in ("sim-stall", "sim-hang-open"):
            pump.after = _nothing
        if behaviour.split:
            rest = b"".join(blocks) + self._stream_end(bare)
            after, pump = pump.after, Pump(connection, pieces(rest, behaviour.split), 1e-5, bytes)
            pump.after = after
        pump.start()

    def _lead(self) -> list[bytes]:
        payloads = self._answer.lead()
        if self._echo and payloads:
            payloads[0] = payloads[0][:-1] + self._echo + b"}"
        return payloads

    def _end(self) -> list[bytes]:
        return [] if self._dialect.end is None else [self._dialect.end]

    def _blocks(self, head: bytes, bare: bool) -> Iterator[bytes]:
        base, after, entry, answer, event = self._base, self._behaviour.after, self._entry, self._answer, self._event
        choices, completion = answer.choices, answer.usage.completion
        yield head + _framed([event(payload) for payload in self._lead()], bare)
        for position, payloads in enumerate(answer.body()):
            if position == after:
                if base in CUT_SHORT:
                    return
                if base == "sim-badjson":
                    yield _framed([event(_unfinished(payloads))], bare)
                elif base == "sim-badutf8":
                    payloads = [_spoil(payload) for payload in payloads]
            entry.sent += choices
            if entry.sent > completion:  # pieces of a call's arguments are no tokens
                entry.sent = completion
            yield _framed([event(payload) for payload in payloads], bare)

    def _stream_end(self, bare: bool) -> bytes:
        base, answer = self._base, self._answer
        closing = b"" if bare else b"0\r\n\r\n"
        if base == "sim-cut":
            self._close_entry("fault")
            half = self._event(answer.tail()[0])
            return _framed([half[: len(half) // 2]], bare)
        if base == "sim-stall":
            self._close_entry("fault")
            return b""
        if base == "sim-nofinish":
            self._close_entry("fault")
            return closing
        if base in ("sim-error-event", "sim-failed"):
            self._close_entry("fault")
            return _framed([self._event(payload) for payload in [*answer.broken(base == "sim-failed"), *self._end()]], bare) + closing
        payloads = answer.tail()
        if base == "sim-error-inside":
            payloads[-1] = self._with_error(payloads[-1])
        if base != "sim-nodone":
            payloads += self._end()
        elif not self._end() and len(payloads) > 1:
            payloads.pop()
        self._close_entry("complete")
        return _framed([self._event(payload) for payload in payloads], bare) + (b"" if base == "sim-hang-open" else closing)

    def _odd_event(self, payload: bytes) -> bytes:
        """An event with what the format allows beside the usual: CRLF and comments, or two data lines; JSON lines with CRLF."""
        event, crlf = self._dialect.event(payload), self._base == "sim-crlf"
        if not event.endswith(b"\n\n"):
            return event[:-1] + b"\r\n\r\n" if crlf else event
        name, _, _ = event.rpartition(b"data: " + payload)
        if crlf:
            return b": a comment\r\n" + (name.replace(b"\n", b"\r\n") or b"event: message\r\n") + b"id: 7\r\ndata:" + payload + b"\r\n\r\n"
        first, comma, second = payload.partition(b",")
        return name + b"data: " + first + b",\ndata: " + second + b"\n\n" if comma else event

    def _close_entry(self, outcome: str, status: int = 200) -> None:
        self._entry.status = status
        self._served.close(self._entry, outcome)


def _nothing() -> None:
    """Say no more, and wait for the client to leave."""


def _framed(events: list[bytes], bare: bool) -> bytes:
    """Each event as an HTTP chunk of its own, or as it is."""
    if bare:
        return b"".join(events)
    return b"".join([b"%x\r\n%b\r\n" % (len(event), event) for event in events])


def _unfinished(payloads: list[bytes]) -> bytes:
    """An event that begins as the next one does, and is not JSON."""
    return (payloads[-1] if payloads else b'{"type":"x","choices":[]}')[:-1] + b',"delta":}'


def _spoil(payload: bytes) -> bytes:
    """Put bytes that are no UTF-8 into the first text of an answer, or into a member of their own."""
    for opening in TEXTS:
        if opening in payload:
            return payload.replace(opening, opening + b"\xff\xc3(", 1)
    return payload[:1] + b'"spoiled":"\xff\xc3(",' + payload[1:]
