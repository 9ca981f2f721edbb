"""Reads the journal in order, behind its writer: the recorder's side of the journal."""

import os
from dataclasses import dataclass, field

import msgspec
import structlog

from dwctl.ledger.framing import HEADER_BYTES, MAX_PAYLOAD, scan
from dwctl.ledger.journal import Journal, Position
from dwctl.ledger.records import Begin, Record

log = structlog.get_logger(__name__)

CHUNK_BYTES = 128 * 1024
assert CHUNK_BYTES > MAX_PAYLOAD + HEADER_BYTES


@dataclass(slots=True)
class Damage:
    """Bytes of the journal that are no record, or a record that this program does not understand."""

    segment: int
    offset: int
    content: bytes


@dataclass(slots=True)
class Group:
    """What was read: records up to ``end``."""

    end: Position
    records: list[Record] = field(default_factory=list)
    places: list[Position] = field(default_factory=list)
    """Where each record ends."""
    damage: list[Damage] = field(default_factory=list)


class Reader:
    """Follows a journal from ``position``. ``begun`` maps the ids of open requests to their segments."""

    def __init__(self, journal: Journal, position: Position, begun: dict[str, int]) -> None:
        self.position = position
        self._journal = journal
        self._begun = begun
        self._begins_in: dict[int, set[str]] = {}
        for request_id, number in begun.items():
            self._begins_in.setdefault(number, set()).add(request_id)
        self._decoder = msgspec.msgpack.Decoder(Begin | Record)
        self._fd: int | None = None
        self._fd_number = -1

    def has_open(self, segment: int) -> bool:
        """Whether a begin in this segment has no end among what was read."""
        return segment in self._begins_in

    def carry(self) -> bool:
        """If the journal is crowded, have the begins written again that alone keep a segment before the position; whether that was
        done. The segment may go when they are on the disk."""
        for number in sorted(self._begins_in) if self._journal.is_crowded and not self._journal.sync_failed else ():
            if number >= self.position.segment:
                break
            carried = tuple(self._begins_in[number])
            if self._journal.begin_again(number, carried):
                for request_id in carried:
                    self._forget(request_id)  # until its new begin is read
                return True
        return False

    def _forget(self, request_id: str) -> None:
        began_in = self._begun.pop(request_id, None)
        if began_in is not None:
            self._begins_in[began_in].discard(request_id)
            if not self._begins_in[began_in]:
                del self._begins_in[began_in]

    def read(self, most: int) -> Group:
        """The next records, ``most`` at most; none if the writer has written none. Raises OSError if the first cannot be read."""
        group = Group(self.position)
        while len(group.records) < most:
            number, offset = self.position
            end = self._journal.end_of(number)
            if end is None or offset >= end:
                following = self._journal.following(number)
                if following is None:
                    break
                self.position = Position(following, 0)
                continue
            try:
                self._read_segment(group, end, most)
            except OSError:
                if not group.records:
                    raise
                break
        group.end = self.position
        return group

    def _read_segment(self, group: Group, end: int, most: int) -> None:
        number, offset = self.position
        size = CHUNK_BYTES
        while True:
            data = os.pread(self._open(number), min(size, end - offset), offset)
            consumed = self._take(group, data, most)
            if consumed:
                self.position = Position(number, offset + consumed)
                return
            if len(data) < size:
                # The rest of the segment cannot be read: it was cut or overwritten since it was scanned.
                group.damage.append(Damage(number, offset, data))
                self.position = Position(number, end)
                return
            size *= 4

    def _take(self, group: Group, data: bytes, most: int) -> int:
        number, offset = self.position
        consumed = 0
        for start, stop, payload in scan(data):
            consumed = stop
            if payload is None:
                group.damage.append(Damage(number, offset + start, data[start:stop]))
                continue
            try:
                entry = self._decoder.decode(payload)
            except msgspec.MsgspecError:
                group.damage.append(Damage(number, offset + start, payload))
                continue
            if isinstance(entry, Begin):
                self._forget(entry.id)
                self._begun[entry.id] = number
                self._begins_in.setdefault(number, set()).add(entry.id)
                continue
            self._forget(entry.id)
            group.records.append(entry)
            group.places.append(Position(number, offset + stop))
            if len(group.records) >= most:
                break
        return consumed

    def _open(self, number: int) -> int:
        if self._fd is None or self._fd_number != number:
            self.close()
            self._fd = os.open(self._journal.segments[number].path, os.O_RDONLY | os.O_CLOEXEC)
            self._fd_number = number
        return self._fd

    def skip_segment(self) -> int:
        """Give up on what is left of the segment at hand; its number."""
        number, offset = self.position
        self.position = Position(number, max(offset, self._journal.end_of(number) or 0))
        return number

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
