"""The ledger as the rest of the house sees it: begin and end of requests, holds, balances, and whether all is well."""

import asyncio
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from dwctl.errors import unavailable
from dwctl.ledger.anonymous import Anonymous
from dwctl.ledger.balances import Balances, Hold
from dwctl.ledger.cleaning import clean, clean_begin, clean_deeply, reduced
from dwctl.ledger.framing import MAX_PAYLOAD
from dwctl.ledger.journal import Journal, Position, Sync
from dwctl.ledger.metrics import HELD, JOURNAL_BYTES, JOURNAL_DROPPED, JOURNAL_OPEN, JOURNAL_REFUSED
from dwctl.ledger.quarantine import count, is_empty, set_aside
from dwctl.ledger.reading import Reader
from dwctl.ledger.recorder import Recorder
from dwctl.ledger.records import Begin, Record
from dwctl.ledger.recovery import recover, tidy
from dwctl.ledger.rows import NIL
from dwctl.store import Store
from dwctl.telemetry.alarms import alarm

log = structlog.get_logger(__name__)

LAGGING_S = 10.0
_encode = msgspec.msgpack.Encoder().encode


class LedgerState(msgspec.Struct, frozen=True, kw_only=True):
    """How recording does: ``lag_s`` seconds for which there has been something to record; sizes in bytes; ``held_nano`` is what running
    requests hold of balances."""

    node: str
    database_available: bool
    lag_s: float
    sync: str
    sync_failed: bool
    segments: int
    allocated_bytes: int
    max_bytes: int
    open_requests: int
    quarantined: int
    held_nano: int


class Ledger:
    """Records of one node. ``holds`` as ``billing.holds``; sizes in bytes. All calls come from the loop thread."""

    def __init__(
        self,
        store: Store,
        data_dir: Path,
        node: str,
        *,
        sync: Sync = "interval",
        max_bytes: int = 1 << 30,
        segment_bytes: int = 16 << 20,
        anonymous_per_second: float = 10,
        holds: Literal["expected", "strict", "off"] = "expected",
    ) -> None:
        self.balances = Balances(holds=holds != "off")
        self._store = store
        self._directory = data_dir / "journal"
        self._quarantine = self._directory / "quarantine"
        self._node = node
        self._sync: Sync = sync
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._anonymous = Anonymous(anonymous_per_second)
        self._is_closed = False
        self._journal: Journal
        self._recorder: Recorder

    async def start(self) -> None:
        """Read balances and journal, so that every charge ever promised counts, then start recording what is left.

        Requests that were open when the last run stopped become interrupted ones, without a charge. Raises
        StoreUnavailable, and OSError if the journal cannot be read.
        """
        self._quarantine.mkdir(mode=0o700, parents=True, exist_ok=True)
        marks = await self._store.fetch('SELECT segment, "offset" FROM journal_marks WHERE node = ?', (self._node,))
        mark = Position(marks[0]["segment"], marks[0]["offset"]) if marks else None
        recovered = await asyncio.to_thread(recover, self._directory, mark)
        balances = await self._store.fetch("SELECT account_id, balance_nano FROM account_balances")
        self.balances.load({row["account_id"]: row["balance_nano"] for row in balances})
        for account, amount in recovered.pending:
            self.balances.add_pending(account, amount)
        for damage in recovered.damage:
            set_aside(self._quarantine, damage)
        await asyncio.to_thread(tidy, recovered)
        self._journal = Journal(
            self._directory,
            recovered.segments,
            recovered.next_number,
            sync=self._sync,
            max_bytes=self._max_bytes,
            segment_bytes=self._segment_bytes,
        )
        self._journal.reserve(list(recovered.open))
        self._journal.start()
        for begin in recovered.open.values():
            orphan = _orphan(begin, self._node)
            if not self._journal.end(begin.id, _encode(orphan)):
                orphan.tags = ()  # the room that is kept for an end is not for these
                self._journal.insist(begin.id, _encode(orphan))
        if recovered.records or recovered.open:
            log.info("ledger.recovered", to_record=recovered.records, interrupted=len(recovered.open))
        reader = Reader(self._journal, mark or Position(0, 0), recovered.begun)
        self._recorder = Recorder(self._store, self._node, self._journal, reader, self.balances, self._anonymous, self._quarantine)
        self._recorder.start()
        JOURNAL_BYTES.set_function(lambda: self._journal.allocated_bytes)
        JOURNAL_OPEN.set_function(lambda: self._journal.open_count)
        HELD.set_function(self.balances.total_held)

    def begin(self, entry: Begin, priced: bool) -> None:
        """Write that a request goes to the provider now.

        Raises GatewayError 503 ``recording_unavailable`` for a priced request if the journal has no room for it; one that
        costs nothing goes on without an entry.
        """
        try:
            payload = _encode(entry if len(entry.path) <= 512 else clean_begin(entry))
        except (UnicodeEncodeError, OverflowError):
            payload = _encode(clean_begin(entry))
        if self._journal.begin(entry.id, payload):
            return
        if priced:
            JOURNAL_REFUSED.inc()
            raise unavailable(
                "recording_unavailable",
                "Requests cannot be recorded at the moment, so that nothing was sent to the provider. Try again later.",
            )

    def end(self, record: Record, hold: Hold | None = None) -> None:
        """Write how a request ended, with its charge, and release its hold. Never raises."""
        try:
            self._end(record)
        except Exception:
            alarm("ledger", "end_failed", "critical", request_id=record.id, exc_info=True)
        finally:
            if hold is not None:
                hold.release()

    def _end(self, record: Record) -> None:
        record.node = self._node
        charge, account = record.charge, record.account_id
        if charge is not None and (account is None or account == NIL):
            record.charge = charge = None
        if not clean(record):
            alarm("ledger", "implausible", "critical", request_id=record.id, note="usage or charge was cut to the largest that is believed")
            charge = record.charge
        try:
            payload = _encode(record)
        except (UnicodeEncodeError, OverflowError):
            clean_deeply(record)
            payload = _encode(record)
        if len(payload) > MAX_PAYLOAD or not self._journal.end(record.id, payload):
            if charge is None and not self._journal.has_begun(record.id):
                JOURNAL_DROPPED.inc()
                return
            self._journal.insist(record.id, _encode(reduced(record)))
        if charge is not None and account is not None:
            self.balances.add_pending(account, charge.amount_nano)
        self._recorder.wake()

    def note_anonymous(self, record: Record) -> None:
        """Keep a refusal of a caller without a known key: as a row, or in a count if there are too many."""
        record.node = self._node
        self._anonymous.note(record)
        self._recorder.wake_later()

    async def synced(self) -> None:
        """With ``sync: always``: wait until everything written so far is on the disk. Otherwise return at once."""
        await self._journal.synced()

    async def reload_balance(self, account_id: str) -> None:
        """Take over an account's balance after a grant, here or elsewhere. Raises StoreUnavailable."""
        await self._recorder.reload_balance(account_id)

    async def recorded(self, patience: float | None = None) -> bool:
        """Wait until everything that ended before the call is in the database, for at most ``patience`` seconds; whether it is."""
        try:
            async with asyncio.timeout(patience):
                await self._recorder.recorded()
        except TimeoutError:
            return False
        return True

    def degraded(self) -> list[str]:
        """What is not well, for /readyz: database_unavailable, recorder_lagging, journal_full, journal_sync_failed, quarantine."""
        reasons = []
        if not self._recorder.database_available:
            reasons.append("database_unavailable")
        if self._recorder.lag() > LAGGING_S:
            reasons.append("recorder_lagging")
        if not self._journal.has_room():
            reasons.append("journal_full")
        if self._journal.sync_failed:
            reasons.append("journal_sync_failed")
        if not is_empty(self._quarantine):
            reasons.append("quarantine")
        return reasons

    def state(self) -> LedgerState:
        """How recording does, for people."""
        return LedgerState(
            node=self._node,
            database_available=self._recorder.database_available,
            lag_s=self._recorder.lag(),
            sync=self._sync,
            sync_failed=self._journal.sync_failed,
            segments=len(self._journal.segments),
            allocated_bytes=self._journal.allocated_bytes,
            max_bytes=self._max_bytes,
            open_requests=self._journal.open_count,
            quarantined=count(self._quarantine),
            held_nano=self.balances.total_held(),
        )

    def can_admit(self) -> bool:
        """Whether a priced request can be recorded, and so be admitted."""
        return self._journal.has_room()

    async def close(self, timeout: float) -> None:
        """Record what is left for at most ``timeout`` seconds (the rest waits in the journal), then stop everything."""
        if self._is_closed:
            return
        self._is_closed = True
        if not await self.recorded(timeout):
            log.warning("ledger.not_all_recorded", note="the rest is in the journal, and is recorded after the next start")
        await self._recorder.close()
        await self._journal.close()


def _orphan(begin: Begin, node: str) -> Record:
    return Record(
        id=begin.id,
        started_us=begin.started_us,
        node=node,
        path=begin.path[:64],
        operation=begin.operation,
        model_id=begin.model_id,
        alias=begin.alias,
        endpoint_id=begin.endpoint_id,
        endpoint_name=begin.endpoint_name,
        account_id=begin.account_id,
        holder_id=begin.holder_id,
        key_id=begin.key_id,
        purpose=begin.purpose,
        status=500,
        outcome="interrupted",
        error_code="gateway_crash",
        error_message="dwctl stopped while this request was running.",
        hold_nano=begin.hold_nano,
        explanation=["dwctl stopped while this request was running, so nothing was charged."],
        tags=begin.tags,
    )
