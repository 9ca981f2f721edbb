"""The story of one call of a model.

``run`` walks the stages: receive, admit, decide, dispatch, relay, settle. Whatever happens on the way (a refusal, a provider that
breaks off, a client that leaves, a deadline), the exchange is settled once, and nothing stays behind.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from dwctl import errors, ids
from dwctl.clock import monotonic, now_us
from dwctl.dialects.openai_stream import KEPT_BYTES
from dwctl.dialects.surfaces import native, surface_of
from dwctl.errors import ClientStalled, GatewayError
from dwctl.gateway.admit import admit
from dwctl.gateway.deadlines import NO_LIMIT, disconnected, overstayed
from dwctl.gateway.decide import decide
from dwctl.gateway.dispatch import dispatch
from dwctl.gateway.receive import receive
from dwctl.gateway.relay import relay
from dwctl.gateway.settle import prepare, settle
from dwctl.gateway.sink import Sink
from dwctl.gateway.translate import answered_here
from dwctl.telemetry.alarms import alarm

if TYPE_CHECKING:
    from multidict import MultiMapping

    from dwctl.accounts.principals import Principal
    from dwctl.dialects.answers import Response
    from dwctl.dialects.canonical import Request
    from dwctl.dialects.multipart import Form
    from dwctl.dialects.openai_stream import CompletionStream
    from dwctl.dialects.raw_request import ModelRequest
    from dwctl.dialects.streams import TranslatedStream, WatchedStream
    from dwctl.dialects.usage import Usage
    from dwctl.gateway.gateway import Gateway
    from dwctl.gateway.translate import EmbedTranslation, Translation
    from dwctl.ledger import Hold
    from dwctl.ledger.prices import Price
    from dwctl.ledger.records import Attempt
    from dwctl.outbound import OutboundResponse
    from dwctl.routing import Candidate, ModelEntry, Slot

HEARTBEAT_SECONDS = 15.0


class Exchange:
    """One call of a model and everything that happens to it. Times named ``*_at`` are monotonic seconds."""

    __slots__ = (
        "access_source",
        "admitted_at",
        "alias",
        "answer",
        "answered_at",
        "attempts",
        "beforehand",
        "begun",
        "body",
        "candidate",
        "candidates",
        "canonical",
        "client_ip",
        "decided_at",
        "dispatched_at",
        "error",
        "expired",
        "explanation",
        "finish_reason",
        "first_byte_at",
        "form",
        "gateway",
        "headers",
        "hold",
        "id",
        "input_estimate",
        "last_write_at",
        "limit_headers",
        "model",
        "operation",
        "origin",
        "outcome",
        "path",
        "phase",
        "phase_limit",
        "phase_since",
        "price",
        "principal",
        "query",
        "rates",
        "raw_usage",
        "read_body",
        "received_at",
        "request",
        "response",
        "response_bytes",
        "response_model",
        "settled",
        "sink",
        "slots",
        "started_at",
        "started_us",
        "status",
        "stream",
        "strict_max_tokens",
        "surface",
        "tags",
        "task",
        "total_limit",
        "translation",
        "upstream",
        "usage",
    )

    def __init__(
        self,
        gateway: "Gateway",
        sink: Sink,
        read_body: Callable[[int], Awaitable[bytes]],
        *,
        path: str,
        query: str,
        headers: "MultiMapping[str]",
        client_ip: str | None,
        principal: "Principal | None" = None,
    ) -> None:
        """``principal``: who calls, where that is known already; else the headers' key says it."""
        self.gateway = gateway
        self.sink = sink
        self.read_body = read_body
        self.path = path
        """Below the API's root: ``/chat/completions``."""
        self.query = query
        self.headers = headers
        self.client_ip = client_ip
        self.id = ids.new_text()
        self.started_us = now_us()
        self.started_at = monotonic()
        self.received_at: float | None = None
        self.admitted_at: float | None = None
        self.decided_at: float | None = None
        self.dispatched_at: float | None = None
        self.answered_at: float | None = None
        self.first_byte_at: float | None = None
        self.last_write_at = self.started_at
        self.task = asyncio.current_task()
        self.phase = "request_read"
        self.phase_since = self.started_at
        self.phase_limit = gateway.config.timeouts.request_read
        self.total_limit = NO_LIMIT
        self.expired: str | None = None
        self.surface = surface_of(path)
        self.operation = self.surface.operation
        self.principal = principal
        self.access_source = "unauthenticated"
        self.origin = "api"
        self.body = b""
        self.request: ModelRequest | None = None
        """None for a body that is not JSON."""
        self.canonical: Request | None = None
        """The request as every dialect could say it; read when a provider speaks another dialect than the client."""
        self.translation: Translation | EmbedTranslation | None = None
        """None where the provider's answer is passed on as it comes."""
        self.form: Form | None = None
        """The body, if it is multipart."""
        self.alias: str | None = None
        self.tags: tuple[str, ...] = ()
        self.model: ModelEntry | None = None
        self.price: Price | None = None
        """None: nothing to pay."""
        self.hold: Hold | None = None
        self.input_estimate: int | None = None
        """Of a large body that has its price: settling cannot wait until it is read."""
        self.slots: list[Slot] = []
        self.rates: list[tuple[str, float, int | None, str]] = []
        """Those that bind it: scope, requests a second, burst, and what has it."""
        self.limit_headers: dict[str, str] = {}
        self.candidates: tuple[Candidate, ...] = ()
        self.candidate: Candidate | None = None
        self.strict_max_tokens: int | None = None
        self.upstream: OutboundResponse | None = None
        self.attempts: list[Attempt] = []
        self.stream: CompletionStream | WatchedStream | TranslatedStream | None = None
        self.answer: bytes | None = None
        """The body that the client is given, when it is one JSON text."""
        self.response: Response | None = None
        """What that says, where it had to be read."""
        self.usage: Usage | None = None
        self.beforehand: Usage | None = None
        """What the provider had reported before it began to write: its input, and hardly any of its output."""
        self.raw_usage: bytes | None = None
        self.response_model: str | None = None
        self.finish_reason: str | None = None
        self.status = 0
        self.outcome = "refused"
        self.error: GatewayError | None = None
        self.response_bytes = 0
        self.explanation: list[str] = []
        self.begun = False
        self.settled = False

    async def run(self) -> None:
        """From the first byte to the record. Raises CancelledError when the client has left."""
        self.gateway.enter(self)
        try:
            await receive(self)
            await admit(self)
            decide(self)
            if not native(self.surface, self.candidates[0].endpoint.dialect) and await answered_here(self):
                return
            await dispatch(self)
            await relay(self)
        except GatewayError as error:
            await self.fail(error)
        except ClientStalled:
            self.leave("cancelled", 499, overstayed("client_write"))
            raise
        except asyncio.CancelledError:
            if self.expired is None:
                self.leave("cancelled", 499, disconnected())
                raise
            if self.task is not None:
                self.task.uncancel()
            if self.expired == "client_write":
                self.leave("cancelled", 499, overstayed(self.expired))
                self.sink.abort()
            else:
                await self.fail(overstayed(self.expired))
        except Exception as error:
            alarm("gateway", "exchange_failed", request_id=self.id, exc_info=error)
            await self.fail(errors.internal_error())
        finally:
            try:
                self.leave("interrupted" if self.begun else "refused", 500)
            finally:
                if self.upstream is not None:
                    self.upstream.close()
                self.gateway.leave(self)

    def leave(self, outcome: str, status: int, error: GatewayError | None = None) -> None:
        """Settle with an end that nobody is told about, unless already settled."""
        if not self.settled:
            self.outcome = outcome
            self.status = status
            self.error = self.error or error
            settle(self)

    async def fail(self, error: GatewayError) -> None:
        """Tell the client in its dialect what went wrong; the record is written first."""
        if self.settled:
            self.sink.abort()
            return
        self.error = error
        told = error.told or error
        # First, so that the phase that has overstayed does not break the connection while the tokenizer is loaded.
        self.enter_phase("client_write", self.gateway.config.timeouts.client_write)
        await prepare(self)
        started = self.sink.started
        if started:
            self.outcome = "interrupted"
        else:
            self.outcome = "failed" if self.begun else "refused"
            self.status = error.status
        settle(self)
        self.phase_limit = NO_LIMIT
        if not started:
            headers = {"content-type": "application/json", **self.own_headers(), **told.headers}
            if told.retry_after is not None:
                headers["retry-after"] = str(max(1, -int(-told.retry_after // 1)))
            self.sink.head(error.status, headers)
            await self.sink.send(self.surface.codec.render_error(told, self.id), last=True)
        elif self.stream is not None:
            await self.sink.send(self.stream.fail(told), last=True)
        else:
            self.sink.abort()

    async def write(self, data: bytes) -> None:
        """Release bytes of the answer that do not complete it."""
        now = monotonic()
        if self.first_byte_at is None:
            self.first_byte_at = now
        self.phase = "client_write"
        self.phase_limit = NO_LIMIT
        self.response_bytes += len(data)
        await self.sink.send(data, last=False)
        assert self.candidate is not None
        self.last_write_at = self.phase_since = monotonic()
        self.phase = "idle"
        self.phase_limit = self.candidate.endpoint.idle_timeout

    async def complete(self, data: bytes) -> None:
        """Settle, then release the bytes that complete the answer."""
        if self.first_byte_at is None:
            self.first_byte_at = monotonic()
        self.response_bytes += len(data)
        # First, so that the provider is not blamed for the time in which the tokenizer is loaded.
        self.enter_phase("client_write", self.gateway.config.timeouts.client_write)
        await prepare(self)
        settle(self)
        if self.gateway.waits_for_sync:
            await self.gateway.ledger.synced()
        self.phase_limit = NO_LIMIT
        await asyncio.sleep(0)  # at the end of the turn, as requests are (`dwctl.outbound.client`)
        await self.sink.send(data, last=True)

    @property
    def kept_bytes(self) -> int:
        """How much of each of its texts may be kept, request, answer or a provider's complaint; 0: nothing."""
        principal, model, config = self.principal, self.model, self.gateway.config.bodies
        if principal is None or model is None or principal.zero_data_retention:
            return 0
        mode = principal.bodies or model.bodies or config.mode
        return 0 if mode == "none" else config.preview_bytes if mode == "preview" else KEPT_BYTES

    def own_headers(self) -> dict[str, str]:
        """The headers that every answer has."""
        headers = {"x-request-id": self.id, **self.limit_headers}
        if self.surface.dialect == "anthropic":
            headers["request-id"] = f"req_{self.id}"
        return headers

    def enter_phase(self, phase: str, limit: float) -> None:
        """From now on this may take ``limit`` seconds."""
        self.phase = phase
        self.phase_since = monotonic()
        self.phase_limit = limit

    def connected(self) -> None:
        """There is a connection to the provider, on which the request is sent."""
        assert self.candidate is not None
        self.enter_phase("first_byte", self.candidate.endpoint.first_byte_timeout)

    def heard(self) -> None:
        """The provider has sent something."""
        self.phase_since = monotonic()

    def check_deadlines(self, now: float) -> None:
        """Called by the sweep: end an exchange that overstays, keep an idle stream alive."""
        if now - self.phase_since > self.phase_limit:
            if self.expired is not None:
                self.sink.abort()
            else:
                self.expire(self.phase)
        elif self.dispatched_at is not None and now - self.dispatched_at > self.total_limit and not self.settled:
            self.expire("total")
        elif self.stream is not None and self.phase == "idle" and now - self.last_write_at >= HEARTBEAT_SECONDS:
            self.last_write_at = now
            if self.stream.ping:
                self.sink.offer(self.stream.ping)

    def expire(self, phase: str) -> None:
        """Interrupt whatever the exchange is waiting for; what is settled already breaks off."""
        if self.settled:
            self.sink.abort()
        elif self.expired is None and self.error is None:
            self.expired = phase
            if self.task is not None:
                self.task.cancel()
