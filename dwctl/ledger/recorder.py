"""Follows the journal and brings it into the database, in groups, each with the journal's mark in one transaction.

There is one path: also in normal running the records come from the journal, so that memory does not grow however long the
database is away, and recovery is what happens all the time. A group that the database refuses (and not because it is away)
is applied record by record; a record that still fails keeps its charge with an empty row and goes to ``quarantine``. If even
that is refused it is tried again: as long as the database takes no charges at all, like in an outage, and for minutes if it
takes others. The recorder never stops.

Until a commit is answered it is not known whether it happened. Nobody waits for that: a balance is read less the charges of the
group at hand that the database has already, since they count as pending until they are settled.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import structlog

from dwctl import ids
from dwctl.clock import MICROSECONDS, monotonic, now_us
from dwctl.ledger.anonymous import Anonymous, apply_anonymous
from dwctl.ledger.balances import Balances
from dwctl.ledger.journal import Journal, Position
from dwctl.ledger.metrics import (
    BATCH_DURATION,
    BATCH_RETRIES,
    BATCHED_RECORDS,
    CREDITS_DEDUCTED,
    CREDITS_DUPLICATES,
    LAG,
    QUARANTINED,
)
from dwctl.ledger.quarantine import set_aside, set_aside_record, take_back_record
from dwctl.ledger.reading import Group, Reader
from dwctl.ledger.records import Charge, Record
from dwctl.ledger.rows import NIL, Applied, apply, balances_of
from dwctl.store import Store, StoreUnavailable, Tx
from dwctl.telemetry.alarms import alarm

log = structlog.get_logger(__name__)

GROUP_RECORDS = 500
LINGER_S = 0.1
"""Nobody waits for a row, so that a group may gather for this long."""
FIRST_BACKOFF_S = 0.05
LONGEST_BACKOFF_S = 2.0
ANONYMOUS_S = 0.5
READ_ATTEMPTS = 5
DATABASE_AT_FAULT_S = 300.0
"""For how long a group waits for charges that the database refuses while it takes others: somebody may see to it."""

T = TypeVar("T")


class Recorder:
    """The task that drains the journal of ``node``, and what it knows about the database."""

    def __init__(
        self,
        store: Store,
        node: str,
        journal: Journal,
        reader: Reader,
        balances: Balances,
        anonymous: Anonymous,
        quarantine: Path,
    ) -> None:
        self.database_available = True
        self._store = store
        self._node = node
        self._journal = journal
        self._reader = reader
        self._balances = balances
        self._anonymous = anonymous
        self._quarantine = quarantine
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._barriers: list[tuple[Position, int, asyncio.Future[None]]] = []
        """Who waits, for what of the journal and for which flush of refusals."""
        self._flushes = 0
        self._reloading = asyncio.Lock()
        self._reloaded: set[str] = set()
        """Accounts whose balance was reloaded since the transaction at hand began."""
        self._unsettled: dict[str, str | None] = {}
        """Charges of the group at hand: the request's id and its account. They are pending here; the database may have them."""
        self._moves = 0
        """Changes of ``_unsettled``."""
        self._behind_since: float | None = None
        self._anonymous_due = False
        self._anonymous_timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._wake.set()
        self._task = asyncio.create_task(self._run())

    def wake(self) -> None:
        """Something was written to the journal, or noted."""
        self._wake.set()
        if self._behind_since is None:
            self._behind_since = monotonic()

    def wake_later(self) -> None:
        """An anonymous refusal was noted: see to it soon, together with those that follow."""
        if self._anonymous_timer is None:
            self._anonymous_timer = asyncio.get_running_loop().call_later(ANONYMOUS_S, self._anonymous_now)

    def _anonymous_now(self) -> None:
        self._anonymous_timer = None
        self._anonymous_due = True
        self._wake.set()

    def lag(self) -> float:
        """Seconds for which there has been something to record."""
        return 0.0 if self._behind_since is None else monotonic() - self._behind_since

    async def recorded(self) -> None:
        """Wait until everything written to the journal, or noted, before the call is in the database.

        Raises RuntimeError once closed.
        """
        if self._task is None or self._task.done():
            raise RuntimeError("the recorder has stopped")
        future = asyncio.get_running_loop().create_future()
        # What strangers send meanwhile, however much, is for the flush after that one.
        self._barriers.append((self._journal.position, self._flushes + bool(self._anonymous), future))
        self._hurry.set()
        self._wake.set()
        await future

    async def reload_balance(self, account_id: str) -> None:
        """Take over the database's balance of an account that somebody else has changed. Raises StoreUnavailable."""
        async with self._reloading:
            while True:
                moves = self._moves
                unsettled = [request for request, account in self._unsettled.items() if account == account_id]
                found = await balances_of(self._store.fetch, {account_id}, unsettled)
                if moves == self._moves:
                    break
                # The answer may or may not know of a group that began or was settled meanwhile.
            self._balances.set_committed(account_id, found[account_id])
            self._reloaded.add(account_id)

    async def close(self) -> None:
        """Stop, wherever it is; what is not recorded yet stays in the journal."""
        if self._anonymous_timer is not None:
            self._anonymous_timer.cancel()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._reader.close()
        for _, _, future in self._barriers:
            future.cancel()

    async def _run(self) -> None:
        backoff = FIRST_BACKOFF_S
        while True:
            await self._wake.wait()
            if not self._hurry.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LINGER_S):
                        await self._hurry.wait()
            self._wake.clear()
            self._hurry.clear()
            try:
                await self._drain()
                backoff = FIRST_BACKOFF_S
            except Exception:
                alarm("recorder", "failed", exc_info=True, note="trying again")
                self._wake.set()
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, LONGEST_BACKOFF_S)

    async def _drain(self) -> None:
        """Record what was written, until a group is not full; what is written meanwhile makes the next group."""
        if self._anonymous and (self._anonymous_due or self._barriers):
            await self._flush_anonymous()
        while True:
            before = self._reader.position
            group = await self._read()
            for damage in group.damage:
                set_aside(self._quarantine, damage)
            if group.records:
                try:
                    await self._record(group)
                except BaseException:
                    self._reader.position = before
                    raise
            await self._progress(group.end)
            if len(group.records) < GROUP_RECORDS:
                break
        if group.end >= self._journal.position:
            self._behind_since = None
            return
        self._behind_since = monotonic()
        self._wake.set()
        if self._barriers:
            self._hurry.set()

    async def _read(self) -> Group:
        for attempt in range(READ_ATTEMPTS):
            try:
                return self._reader.read(GROUP_RECORDS)
            except OSError as error:
                alarm("recorder", "read_failed", error=str(error))
                await asyncio.sleep(FIRST_BACKOFF_S * 2**attempt)
        skipped = self._reader.skip_segment()
        alarm("recorder", "segment_unreadable", "critical", segment=skipped, note="what it held is not in the database")
        QUARANTINED.labels("damage").inc()
        return Group(self._reader.position)

    async def _record(self, group: Group) -> None:
        records = group.records
        started = monotonic()
        self._unsettled |= {record.id: record.account_id for record in records if record.charge is not None}
        self._moves += 1
        applied = await self._write(records, group.end)
        if applied is None:
            BATCH_RETRIES.labels("isolated").inc()
            until = monotonic() + DATABASE_AT_FAULT_S
            for record, place in zip(records, group.places, strict=True):
                self._settle([record], await self._record_alone(record, place, until))
        else:
            self._settle(records, applied)
        BATCH_DURATION.observe(monotonic() - started)
        BATCHED_RECORDS.inc(len(records))
        oldest = min(record.started_us + record.duration_us for record in records)
        LAG.set(max(0.0, (now_us() - oldest) / MICROSECONDS))

    async def _write(self, records: list[Record], mark: Position) -> Applied | None:
        """Apply records in one transaction; None if the database refuses them."""
        try:
            return await self._persist(lambda tx: self._apply(tx, records, mark))
        except Exception as error:
            alarm("recorder", "refused", records=len(records), first=records[0].id if records else None, error=str(error)[:500])
            return None

    async def _apply(self, tx: Tx, records: list[Record], mark: Position) -> Applied:
        self._reloaded.clear()
        applied = await apply(tx, records, now_us(), self._node, mark)
        if applied.balances and (others := self._unsettled.keys() - {record.id for record in records}):
            # A commit of the whole group that nobody answered may have brought them.
            applied.balances = await balances_of(tx.fetch, set(applied.balances), others)
        return applied

    async def _persist(self, operation: Callable[[Tx], Awaitable[T]]) -> T:
        """``Store.write``, however long the database is away."""
        backoff = FIRST_BACKOFF_S
        while True:
            try:
                result = await self._store.write(operation, alone=False)
            except StoreUnavailable as error:
                if self.database_available:
                    log.warning("recorder.database_unavailable", error=str(error))
                self.database_available = False
                BATCH_RETRIES.labels("unavailable").inc()
                await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
                backoff = min(2 * backoff, LONGEST_BACKOFF_S)
                continue
            if not self.database_available:
                log.info("recorder.database_available")
                self.database_available = True
            return result

    async def _record_alone(self, record: Record, place: Position, until: float) -> Applied:
        """Apply a record of a group that was refused. One that is refused alone too keeps its charge with an empty row; if the
        database refuses even that, it is tried again, so that there is time for somebody to see to it. It is given up after
        ``until`` (monotonic seconds), but not while the database takes no charges at all."""
        kept = False
        backoff = FIRST_BACKOFF_S
        while True:
            applied = await self._write([record], place)
            if applied is not None:
                if kept:
                    take_back_record(self._quarantine, place)
                return applied
            if not kept:
                set_aside_record(self._quarantine, record, place)
                kept = True
            bare = _bare(record)
            applied = await self._write([bare], place)
            if applied is not None:
                return applied
            if monotonic() >= until and await self._takes_others(bare):
                break
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, LONGEST_BACKOFF_S)
        alarm("recorder", "charge_not_recorded", "critical", request_id=record.id, account_id=record.account_id)
        return await self._write([], place) or Applied()

    async def _takes_others(self, refused: Record) -> bool:
        """Whether the database takes a charge from anybody else: a small one is made, and undone."""
        other = Record(
            id=ids.new_text(),
            started_us=now_us(),
            node=refused.node,
            account_id=ids.new_text(),
            key_id=ids.new_text(),
            charge=Charge(1, NIL, 0, 0),
            status=200,
            outcome="complete",
        )

        async def attempt(tx: Tx) -> None:
            await apply(tx, [other], now_us())
            raise _Taken

        try:
            await self._persist(attempt)
        except _Taken:
            return True
        except Exception as error:
            alarm("recorder", "takes_no_charges", "critical", error=str(error)[:500], note="they wait in the journal")
        return False

    def _settle(self, records: list[Record], applied: Applied) -> None:
        charges = [
            (record.account_id, record.charge.amount_nano)
            for record in records
            if record.charge is not None and record.account_id is not None
        ]
        for account in self._reloaded & applied.balances.keys():
            # What was read meanwhile may be newer than what the transaction saw.
            settled = sum(amount for owner, amount in charges if owner == account)
            applied.balances[account] = self._balances.committed(account) - settled
        self._balances.settle(charges, applied.balances)
        for record in records:
            self._unsettled.pop(record.id, None)
        self._moves += 1
        if applied.duplicates:
            CREDITS_DUPLICATES.inc(applied.duplicates)
        deducted: dict[tuple[str, str, str], int] = {}
        for record in applied.charged:
            assert record.charge is not None
            labels = (record.account_id or "", record.alias or "", record.endpoint_name or "")
            deducted[labels] = deducted.get(labels, 0) + record.charge.amount_nano
        for labels, amount in deducted.items():
            CREDITS_DEDUCTED.labels(*labels).inc(amount)

    async def _progress(self, position: Position) -> None:
        """Everything before ``position`` is in the database: let segments go that nobody needs, and tell who waits."""
        if self._reader.carry():
            await self._journal.on_disk()
        for number in [number for number in self._journal.segments if number < position.segment]:
            if not self._reader.has_open(number):
                self._journal.delete(number)
        if self._barriers:
            waiting = []
            for target, flush, future in self._barriers:
                if target > position or flush > self._flushes:
                    waiting.append((target, flush, future))
                elif not future.done():
                    future.set_result(None)
            self._barriers = waiting

    async def _flush_anonymous(self) -> None:
        self._anonymous_due = False
        self._flushes += 1
        rows, counts = self._anonymous.take()
        try:
            await self._persist(lambda tx: apply_anonymous(tx, rows, counts, now_us()))
        except Exception as error:
            alarm("recorder", "anonymous_refused", rows=len(rows), counts=len(counts), error=str(error)[:500])


class _Taken(Exception):
    """Undoes a transaction that the database would have committed."""


def _bare(record: Record) -> Record:
    """What a quarantined request keeps in the database: its place and its charge."""
    return Record(
        id=record.id,
        started_us=record.started_us,
        node=record.node,
        account_id=record.account_id,
        key_id=record.key_id,
        charge=record.charge,
        status=record.status,
        outcome=record.outcome,
        error_code="quarantined",
        duration_us=record.duration_us,
    )
