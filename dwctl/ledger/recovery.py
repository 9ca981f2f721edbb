"""What a journal says after a stop of any kind: which requests are open, which charges the database does not have yet.

A torn tail at the very end is normal (the process was killed while it wrote) and is cut off. Bytes that are no record but
have records after them are damage: within a segment they are left in place for the recorder, which meets them on its way;
at the end of a segment that has others after it they are returned here, and then cut off.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog

from dwctl.ledger.framing import scan
from dwctl.ledger.journal import Position, Segment, segment_files
from dwctl.ledger.reading import Damage
from dwctl.ledger.records import Begin, Record

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Recovered:
    segments: list[Segment] = field(default_factory=list)
    """The segments that hold records, from the oldest."""
    next_number: int = 1
    open: dict[str, Begin] = field(default_factory=dict)
    """Begins without an end, by request id."""
    begun: dict[str, int] = field(default_factory=dict)
    """Segment of the last begin before the mark of each request whose end is not before the mark."""
    pending: list[tuple[str, int]] = field(default_factory=list)
    """Charges (account, nano-credits) after the mark."""
    records: int = 0
    """Ends after the mark."""
    damage: list[Damage] = field(default_factory=list)
    """Ends of segments that are no records, although other segments follow."""


def recover(directory: Path, mark: Position | None) -> Recovered:
    """Read the whole journal. ``mark`` is how far the database has it. Blocking: runs in a thread."""
    found = Recovered()
    tails: list[Damage] = []
    for number, path in segment_files(directory):
        data = path.read_bytes()
        end = _read(found, data, number, mark)
        found.next_number = number + 1
        if tail := data[end:].rstrip(b"\0"):
            tails.append(Damage(number, end, tail))
        found.segments.append(Segment(number, path, end, end))
    newest = max((segment.number for segment in found.segments if segment.end), default=0)
    for torn in tails:
        if torn.segment < newest:
            found.damage.append(torn)
        else:
            log.warning("journal.torn_tail", segment=torn.segment, bytes=len(torn.content))
    if mark is not None:
        found.next_number = max(found.next_number, mark.segment + 1)
    return found


def tidy(found: Recovered) -> None:
    """Cut off what is no record, and remove segments without any. Blocking."""
    for segment in found.segments:
        if segment.end:
            os.truncate(segment.path, segment.end)
        else:
            segment.path.unlink()
    found.segments = [segment for segment in found.segments if segment.end]


def _read(found: Recovered, data: bytes, number: int, mark: Position | None) -> int:
    """Take in one segment; where its last record ends."""
    decoder = msgspec.msgpack.Decoder(Begin | Record)
    end = 0
    for _, end, payload in scan(data):
        if payload is None:
            continue
        try:
            entry = decoder.decode(payload)
        except msgspec.MsgspecError:
            continue
        recorded = mark is not None and (number, end) <= mark
        if isinstance(entry, Begin):
            found.open[entry.id] = entry
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
    return end
