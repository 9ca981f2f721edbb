"""Requests as they begin and end: what is in flight now, and a feed that can be taken up again where it was lost.

Whoever may read everybody's requests follows all of them, everyone else those of their own account. On one node: what others serve is
in the log a moment later.
"""

from collections.abc import AsyncIterator
from typing import Literal

import msgspec

from dwctl.accounts import Actor
from dwctl.ledger import Begin, Record
from dwctl.ledger.rows import as_row
from dwctl.operations.request_log import RequestFilter, outcomes
from dwctl.operations.request_search import LoggedRequest, scoped
from dwctl.operations.requests import entry
from dwctl.operations.services import Services
from dwctl.telemetry.events import Missed

HEARTBEAT_SECONDS = 15.0


class InFlight(msgspec.Struct, kw_only=True):
    """A request that a provider is answering."""

    id: str
    started_us: int
    user_id: str
    user_email: str | None
    api_key_id: str | None
    api_key_name: str | None
    model: str
    served_by: str
    uri: str
    tags: tuple[str, ...]


class Live(msgspec.Struct, kw_only=True):
    """One message of the feed.

    ``start``: ``began`` is in flight. ``end``: ``ended`` is over (also a request that was refused and never began); its ``seq`` is 0,
    since the log has it a moment later. ``skip``: events were lost, ``missed`` of them or (None) nobody knows how many: read the list
    anew. ``idle``: nothing happened for ``HEARTBEAT_SECONDS``. ``event_id`` is what to come back with.
    """

    kind: Literal["start", "end", "skip", "idle"]
    event_id: str | None = None
    began: InFlight | None = None
    ended: LoggedRequest | None = None
    missed: int | None = None


async def in_flight(services: Services, actor: Actor, chosen: RequestFilter) -> list[InFlight]:
    """What is in flight on this node, the oldest first. Raises GatewayError 400, 403."""
    chosen = scoped(actor, chosen)
    names: dict[str, str | None] = {}
    return [await _in_flight(services, begin, names) for begin in services.in_flight() if _matches(begin, chosen)]


async def follow(services: Services, actor: Actor, chosen: RequestFilter, last_event_id: str | None = None) -> AsyncIterator[Live]:
    """Requests as they begin and end, until the caller stops. Of the filter count account, key, model, endpoint, tag, status and
    outcome; one that asks for an end (status or outcome) is told of no beginnings. Raises GatewayError 400, 403."""
    chosen = scoped(actor, chosen)
    names: dict[str, str | None] = {}
    with services.events.subscribe(lambda payload: _matches(payload, chosen), last_event_id) as subscription:
        while True:
            event = await subscription.next(HEARTBEAT_SECONDS)
            if event is None:
                yield Live(kind="idle")
            elif isinstance(event, Missed):
                yield Live(kind="skip", missed=event.count)
            elif isinstance(event.payload, Begin):
                yield Live(kind="start", event_id=event.id, began=await _in_flight(services, event.payload, names))
            elif isinstance(event.payload, Record):
                yield Live(kind="end", event_id=event.id, ended=await _ended(services, event.payload, names))


def _matches(payload: object, chosen: RequestFilter) -> bool:
    if not isinstance(payload, Begin | Record):
        return False
    for wanted, value in (
        (chosen.user_id, payload.account_id),
        (chosen.key_id, payload.key_id),
        (chosen.model, payload.alias),
        (chosen.endpoint, payload.endpoint_name),
    ):
        if wanted is not None and wanted != value:
            return False
    if chosen.tag is not None and chosen.tag not in payload.tags:
        return False
    lowest, highest = chosen.status_code_min or 0, 999 if chosen.status_code_max is None else chosen.status_code_max
    if isinstance(payload, Begin):
        return chosen.outcome is None and chosen.status_code is None and (lowest, highest) == (0, 999)
    if chosen.outcome is not None and payload.outcome not in outcomes(chosen.outcome):
        return False
    return chosen.status_code in (None, payload.status) and lowest <= payload.status <= highest


async def _in_flight(services: Services, begin: Begin, names: dict[str, str | None]) -> InFlight:
    return InFlight(
        id=begin.id,
        started_us=begin.started_us,
        user_id=begin.account_id,
        user_email=_email(services, begin.account_id),
        api_key_id=begin.key_id,
        api_key_name=await _key_name(services, begin.key_id, names),
        model=begin.alias,
        served_by=begin.endpoint_name,
        uri=begin.path[:512],
        tags=begin.tags,
    )


async def _ended(services: Services, record: Record, names: dict[str, str | None]) -> LoggedRequest:
    row = as_row(record)
    email = _email(services, record.account_id)
    return LoggedRequest(
        **entry(row, {} if email is None or record.account_id is None else {record.account_id: email}),
        seq=0,
        started_us=record.started_us,
        duration_us=record.duration_us,
        first_byte_us=record.first_byte_us,
        charge_nano=row["charge_nano"],
        api_key_name=await _key_name(services, record.key_id, names),
        upstream_model=row["upstream_model"],
        tariff_id=row["tariff_id"],
    )


def _email(services: Services, account_id: str | None) -> str | None:
    person = services.keyring.person(account_id) if account_id is not None else None
    return person.email if person is not None else None


async def _key_name(services: Services, key_id: str | None, names: dict[str, str | None]) -> str | None:
    """The key's name, read once a feed."""
    if key_id is None:
        return None
    if key_id not in names:
        rows = await services.store.fetch("SELECT name FROM api_keys WHERE id = ?", (key_id,))
        names[key_id] = rows[0]["name"] if rows else None
    return names[key_id]
