"""Calls of models from pages: the playground, and the trial of a key. They run in the gateway like every other call.

What a model says comes as pieces of text, and at the end as an ``Answer`` with what it took: the record of the request.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from dwctl import clock
from dwctl.accounts import Actor, policy
from dwctl.accounts.principals import Principal
from dwctl.dialects.sse import EventSplitter, data_of
from dwctl.errors import bad_request, forbidden
from dwctl.gateway import InsideCall
from dwctl.gateway.admit import accessible
from dwctl.ledger import Record, prices
from dwctl.ledger.records import ERRORS, token_interval_us
from dwctl.operations.key_list import ListedKey
from dwctl.operations.loose_json import decoded, objects
from dwctl.operations.services import Services
from dwctl.operations.snippets import QUESTION, Kind, model_kind

PATHS: dict[Kind, str] = {"chat": "/chat/completions", "stream": "/chat/completions", "embeddings": "/embeddings"}
MOST_TEXTS = 16
_MOMENT = 0.04
"""Seconds: a page is not told more often."""


class CallableModel(msgspec.Struct, frozen=True):
    """A model that somebody may call; ``kind`` is what it is called with. ``unpaid``: it costs something, and nothing is left to pay."""

    alias: str
    kind: Kind
    unpaid: bool = False


class Answer(msgspec.Struct, kw_only=True):
    """How a call ended. ``error`` says why there is no (whole) answer; what is None is not known."""

    request_id: str
    model: str
    outcome: str
    text: str = ""
    thought: str = ""
    """What a reasoning model wrote before its answer."""
    error: str | None = None
    vectors: list[list[float]] = []
    status: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    charge_nano: int | None = None
    first_byte_us: int | None = None
    duration_us: int | None = None
    finish_reason: str | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Output tokens after the first, by the time since the first; None where that is too short to measure."""
        interval = token_interval_us(self.output_tokens or 0, self.first_byte_us, self.duration_us or 0)
        return None if interval is None else clock.MICROSECONDS / interval


class Piece(msgspec.Struct, frozen=True):
    """Some text of an answer; ``thought`` if it is not the answer itself."""

    text: str
    thought: bool = False


class Run:
    """Several calls at once, and what comes of them, each piece with the number of its call."""

    def __init__(self, services: Services, actor: Actor, client_ip: str | None, bodies: Sequence[dict[str, Any]]) -> None:
        principal = session_principal(services, actor)
        self._models = [str(body["model"]) for body in bodies]
        self._calls = [services.call(principal, PATHS["stream"], msgspec.json.encode(body), client_ip) for body in bodies]
        self._running = services.runs
        self._owner = actor.user_id
        self.id = self._calls[0].id
        self._running[self.id] = self

    async def follow(self) -> AsyncIterator[list[tuple[int, Piece | Answer]]]:
        """Everything as it comes, until all have ended; what comes within a moment comes together. Whoever stops listening stops the
        calls."""
        arrived: asyncio.Queue[tuple[int, Piece | Answer]] = asyncio.Queue(64)

        async def pump(number: int, call: InsideCall) -> None:
            async for piece in _pieces(call, self._models[number]):
                await arrived.put((number, piece))

        pumps = [asyncio.create_task(pump(number, call)) for number, call in enumerate(self._calls)]
        going = len(pumps)
        try:
            while going:
                together = [await arrived.get()]
                if isinstance(together[0][1], Piece):
                    await asyncio.sleep(_MOMENT)
                while not arrived.empty():
                    together.append(arrived.get_nowait())
                going -= sum(isinstance(piece, Answer) for _, piece in together)
                yield together
        finally:
            self._running.pop(self.id, None)
            self.stop()
            for task in pumps:
                task.cancel()

    def stop(self) -> None:
        """Leave all calls that have not ended."""
        for call in self._calls:
            call.stop()

    def belongs_to(self, actor: Actor) -> bool:
        return self._owner == actor.user_id


def stop_run(services: Services, actor: Actor, run_id: str) -> None:
    """Stop a run of one's own; nothing happens if it has ended."""
    run: Run | None = services.runs.get(run_id)
    if run is not None and run.belongs_to(actor):
        run.stop()


def session_principal(services: Services, actor: Actor) -> Principal:
    """On whose behalf the playground calls models: the person's own. Raises GatewayError 403."""
    policy.require(actor, "Models", "read_own")
    principal = services.keyring.principal_of_person(actor.user_id, "playground")
    if principal is None:
        raise forbidden("This account is not known to the gateway. Sign in again.")
    return principal


async def models_for(services: Services, principal: Principal | None) -> list[CallableModel]:
    """The models that somebody may call, by alias; those that pages know how to try."""
    rows = await services.store.fetch(
        "SELECT alias, model_type FROM deployed_models WHERE deleted_at IS NULL AND status = 'active' AND model_type <> 'RERANKER'"
        " ORDER BY alias"
    )
    if principal is None:
        return []
    served = services.snapshot().models
    broke = services.ledger.balances.balance(principal.account_id) <= 0

    def costs(alias: str) -> bool:
        price = prices.select(served[alias].prices, principal.purpose)
        return price is not None and not price.is_free

    return [
        CallableModel(row["alias"], model_kind(row["model_type"]), broke and costs(row["alias"]))
        for row in rows
        if row["alias"] in served and accessible(principal, served[row["alias"]])
    ]


def first_model(models: Sequence[CallableModel]) -> CallableModel | None:
    """The one to begin with: one to talk to, if there is one."""
    return next((model for model in models if model.kind == "chat"), models[0] if models else None)


async def embed(services: Services, actor: Actor, client_ip: str | None, model: str, texts: Sequence[str]) -> Answer:
    """The vectors of some texts. Raises GatewayError 400, 403."""
    if not 2 <= len(texts) <= MOST_TEXTS:
        raise bad_request(f"Write 2 to {MOST_TEXTS} texts, each on a line of its own.", param="texts")
    principal = session_principal(services, actor)
    return await _whole(services.call(principal, PATHS["embeddings"], _embedding(model, list(texts)), client_ip), model)


async def try_key(services: Services, actor: Actor, client_ip: str | None, key: ListedKey, model: CallableModel) -> Answer:
    """A first request with a key, as its holder would send it. Raises GatewayError 400, 403."""
    policy.require_for(actor, "ApiKeys", "update_all", key.owner_id)
    principal = services.keyring.principal_of_key(key.id)
    if principal is None:
        raise bad_request("The gateway does not know this key any more.")
    if model.kind == "embeddings":
        body = _embedding(model.alias, "hello")
    else:
        body = msgspec.json.encode({"model": model.alias, "messages": [{"role": "user", "content": QUESTION}]})
    return await _whole(services.call(principal, PATHS[model.kind], body, client_ip), model.alias)


def similarity(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of the angle between two vectors; 0 if one has no length."""
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=False)) / lengths if lengths else 0.0


def _embedding(model: str, texts: str | list[str]) -> bytes:
    return msgspec.json.encode({"model": model, "input": texts})


async def _whole(call: InsideCall, model: str) -> Answer:
    try:
        return [piece async for piece in _pieces(call, model) if isinstance(piece, Answer)][-1]
    finally:
        call.stop()


async def _pieces(call: InsideCall, model: str) -> AsyncIterator[Piece | Answer]:
    """What a call says, at last its end."""
    splitter, ending = EventSplitter(), Answer(request_id=call.id, model=model, outcome="interrupted")
    body = b""
    async for data in call.chunks():
        if call.is_json:
            body += data
            continue
        for event in splitter.feed(data):
            for piece in _of_event(event, ending):
                yield piece
    if body:
        _of_body(body, ending)
    record = await call.record()
    if record is not None:
        _conclude(ending, record)
    yield ending


def _of_event(event: bytes, ending: Answer) -> list[Piece]:
    body = decoded(data_of(event) or b"")
    _learn_error(body, ending)
    pieces = []
    for choice in objects(body.get("choices")):
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            continue
        thought, text = delta.get("reasoning_content") or delta.get("reasoning"), delta.get("content")
        if isinstance(thought, str) and thought:
            ending.thought += thought
            pieces.append(Piece(thought, True))
        if isinstance(text, str) and text:
            ending.text += text
            pieces.append(Piece(text))
    return pieces


def _of_body(body: bytes, ending: Answer) -> None:
    whole = decoded(body)
    _learn_error(whole, ending)
    for choice in objects(whole.get("choices")):
        message = choice.get("message")
        if isinstance(message, dict) and isinstance(text := message.get("content"), str):
            ending.text += text
    vectors = [entry.get("embedding") for entry in objects(whole.get("data"))]
    try:
        ending.vectors = msgspec.convert(vectors, list[list[float]])
    except msgspec.ValidationError:
        ending.error = "The provider's answer holds no vectors of numbers."


def _learn_error(body: dict[str, Any], ending: Answer) -> None:
    error = body.get("error")
    if error:
        message = error.get("message") if isinstance(error, dict) else error
        ending.error = str(message or "The provider sent an error without a message.")


def _conclude(ending: Answer, record: Record) -> None:
    usage = record.usage
    ending.outcome, ending.status = record.outcome, record.status
    ending.charge_nano = record.charge.amount_nano if record.charge is not None else 0
    ending.first_byte_us, ending.duration_us = record.first_byte_us, record.duration_us
    ending.finish_reason = record.finish_reason
    if usage is not None:
        ending.input_tokens, ending.output_tokens = usage.input, usage.output
    if ending.error is None and record.outcome in ERRORS:
        ending.error = record.error_message or "The answer broke off."
