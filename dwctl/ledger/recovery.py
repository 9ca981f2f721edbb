"""What a journal says after a stop of any kind: which requests are open, which charges the database does not have yet.

Torn tails are normal (the process was killed while it wrote) and are cut off. Bytes that are no record but have records
after them are left in place for the recorder, which sets them aside and reports them.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog

from dwctl.ledger.framing import scan
from dwctl.ledger.journal import Position, Segment, segment_files
from dwctl.ledger.records import Begin, Record

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Recovered:
    segments: list[Segment] = field(default_factory=list)
    """The segments that hold records, from the oldest."""
    next_number: int = 1
    open: dict[str, tuple[Begin, int]] = field(default_factory=dict)
    """Begins without an end, by request id, with the number of their segment."""
    begun: dict[str, int] = field(default_factory=dict)
    """Segment of every begin before the mark whose end is not before the mark."""
    pending: list[tuple[str, int]] = field(default_factory=list)
    """Charges (account, nano-credits) after the mark."""
    records: int = 0
    """Ends after the mark."""


def recover(directory: Path, mark: Position | None) -> Recovered:
    """Read the whole journal. ``mark`` is how far the database has it. Blocking: runs in a thread."""
    found = Recovered()
    decoder = msgspec.msgpack.Decoder(Begin | Record)
    for number, path in segment_files(directory):
        data = path.read_bytes()
        end = 0
        for _, stop, payload in scan(data):
            end = stop
            if payload is None:
                continue
            try:
                entry = decoder.decode(payload)
            except msgspec.MsgspecError:
                continue
            recorded = mark is not None and (number, stop) <= mark
            if isinstance(entry, Begin):
                found.open[entry.id] = (entry, number)
                if recorded:
                    found.begun[entry.id] = number
                continue
            found.open.pop(entry.id, None)
            if recorded:
                found.begun.pop(entry.id, None)
                continue
            found.records += 1
            if entry.charge is not None and entry.account_id is not None:
                found.pending.append((entry.account_id, entry.charge.amount_nano))
        found.next_number = number + 1
        if end == 0 and not any(data):
            path.unlink()
            continue
        if end < len(data):
            torn = len(data[end:].rstrip(b"\0"))
            if torn:
                log.warning("journal.torn_tail", segment=number, bytes=torn)
            os.truncate(path, end)
        if end == 0:
            path.unlink()
            continue
        found.segments.append(Segment(number, path, end, end))
    if mark is not None:
        found.next_number = max(found.next_number, mark.segment + 1)
    return found
