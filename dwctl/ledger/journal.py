"""The journal: an append-only sequence of segment files, written by the loop thread with one ``os.pwrite`` a record.

Segments have the numbers of their order and are allocated whole before they are written, one ahead (the spare), so that a
disk which fills up does not stop a record that was promised a place. Every ``begin`` reserves a slot of ``END_RESERVE``
bytes; its ``end`` is written whole if the other slots stay free, else reduced to what fits into its slot. ``begin`` is
refused when there is no slot: at ``max_bytes``, or when the disk has no room for another segment. A stop of any kind and a
failed write give slots back that are still promised. Those are owed: where a whole segment is not to be had they get one of
their own size, even at ``max_bytes``, since it was counted there before.

A segment goes when the database has its ends, and the ends of its begins. So that a long request does not keep a whole one, the
begins that alone keep a segment are written again behind everything else once the journal is half full, and the segment goes as
soon as they are on the disk. Of several begins of a request the last counts; they have one slot, and all lie before its end. A crash
between the two steps leaves both, which say the same.

A short write is undone with ``ftruncate``, and that segment takes no more. fsync runs in a thread: every ``SYNC_INTERVAL_S``,
or at once when the mode is ``always`` and somebody waits.
"""

import asyncio
import contextlib
import errno
import os
from collections import deque
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from dwctl.clock import monotonic
from dwctl.ledger.framing import frame
from dwctl.telemetry.alarms import alarm

Sync = Literal["interval", "always"]

END_RESERVE = 3072
"""Bytes that a reduced end needs at most, frame included: most of them two names of 255 characters."""
SYNC_INTERVAL_S = 0.1
TICK_S = 0.25
CROWDED = 0.5
"""The share of ``max_bytes`` beyond which begins are written again, so that segments can go."""
SMALLEST_SEGMENT = 4 * END_RESERVE
SUFFIX = ".segment"


class Position(NamedTuple):
    """A place in the journal."""

    segment: int
    offset: int


@dataclass(slots=True)
class Segment:
    """A file of the journal: its records end at ``end``; it takes ``allocated`` bytes of the disk."""

    number: int
    path: Path
    end: int
    allocated: int


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"{number:016d}{SUFFIX}"


def segment_files(directory: Path) -> list[tuple[int, Path]]:
    """The segments in a directory, in order."""
    found = []
    for path in directory.glob(f"*{SUFFIX}"):
        with contextlib.suppress(ValueError):
            found.append((int(path.name.removesuffix(SUFFIX)), path))
    return sorted(found)


def _allocate(fd: int, size: int) -> None:
    try:
        os.posix_fallocate(fd, 0, size)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        zeros = bytes(min(size, 1 << 20))
        done = 0
        while done < size:
            done += os.pwrite(fd, zeros[: size - done], done)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync(sealed: list[int], fd: int | None) -> None:
    """In the thread: bring written records to the disk, and close sealed segments."""
    for old in sealed:
        try:
            os.fsync(old)
        finally:
            os.close(old)
    if fd is not None:
        os.fdatasync(fd)


class Journal:
    """Writes records and knows where they lie. All calls come from the loop thread.

    ``segments`` are the files that hold records, from the oldest, the one being written last; ``first_number`` is the number
    for the next new file. Sizes are bytes.
    """

    def __init__(
        self, directory: Path, segments: list[Segment], first_number: int, *, sync: Sync, max_bytes: int, segment_bytes: int
    ) -> None:
        self.directory = directory
        self.segments = {segment.number: segment for segment in segments}
        self.sync_failed = False
        self._always = sync == "always"
        self._segment_bytes = max(SMALLEST_SEGMENT, min(segment_bytes, max_bytes // 2))
        self._max_bytes = max(max_bytes, 2 * self._segment_bytes)
        self._allocated = sum(segment.allocated for segment in segments)
        self._next_number = first_number
        self._number = max(first_number - 1, 0)
        self._fd: int | None = None
        self._offset = 0
        self._limit = 0
        self._spares: deque[tuple[Segment, int]] = deque()
        self._spare_slots = 0
        self._open: dict[str, bytes] = {}
        """The begins, framed, of requests that have not ended; empty if an earlier run wrote it."""
        self._unwritten: deque[tuple[str, bytes]] = deque()
        """Ends for which room was reserved and that could not be written (the disk fails); they are tried again."""
        self._preparing: asyncio.Future[tuple[Segment, int]] | None = None
        self._no_room_until = 0.0
        self._written = 0
        self._synced = 0
        self._sealed: list[int] = []
        self._is_dirty = False
        self._dirty = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._executor: ThreadPoolExecutor | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Open the first segment (as far as the disk permits) and start the fsync thread."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="journal")
        if self._add_spare():
            self._rotate()
        self._tasks = [asyncio.create_task(self._sync_loop()), asyncio.create_task(self._tick_loop())]

    @property
    def position(self) -> Position:
        """Where the next record will lie: everything written lies before it."""
        if self._fd is None and self.segments:
            newest = max(self.segments)
            return Position(newest, self.segments[newest].end)
        return Position(self._number, self._offset)

    @property
    def open_count(self) -> int:
        """Requests that began here and have not ended."""
        return len(self._open)

    @property
    def allocated_bytes(self) -> int:
        return self._allocated

    @property
    def is_crowded(self) -> bool:
        """Whether it takes much of what it may, or all that the disk has."""
        return self._allocated > CROWDED * self._max_bytes or self._no_room_until > 0

    def end_of(self, number: int) -> int | None:
        """Where the records of a segment end; None if there is no such segment."""
        if number == self._number and self._fd is not None:
            return self._offset
        segment = self.segments.get(number)
        return None if segment is None else segment.end

    def following(self, number: int) -> int | None:
        """The number of the segment after ``number``; None if that is the last."""
        later = [other for other in self.segments if other > number]
        return min(later) if later else None

    def reserve(self, ids: list[str]) -> None:
        """Requests that began in an earlier run and whose ends will be written now."""
        self._open.update(dict.fromkeys(ids, b""))

    def has_room(self) -> bool:
        """Whether a request may begin."""
        return not self._unwritten and self._room(END_RESERVE, len(self._open) + 1)

    def begin(self, request_id: str, payload: bytes) -> bool:
        """Write a begin and reserve room for its end. False, with nothing written, if there is none."""
        data = frame(payload)
        if self._unwritten or not self._write(data, len(self._open) + 1):
            return False
        self._open[request_id] = data
        return True

    def begin_again(self, number: int, request_ids: Collection[str]) -> bool:
        """Write the begins of requests once more, all those for which segment ``number`` is needed.

        False, with nothing written, if one of the requests has ended, if the segment is mostly these begins, so that little room would
        be won (and that again and again), or if there is no room.
        """
        begins = [self._open.get(request_id, b"") for request_id in request_ids]
        if self._unwritten or not all(begins) or 2 * sum(map(len, begins)) > self.segments[number].end:
            return False
        return self._write(b"".join(begins), len(self._open))

    def has_begun(self, request_id: str) -> bool:
        return request_id in self._open

    def end(self, request_id: str, payload: bytes) -> bool:
        """Write an end. False, with nothing written, if that would take room that is promised to others."""
        data = frame(payload)
        if request_id in self._open:
            if self._write(data, len(self._open) - 1):
                del self._open[request_id]
                return True
            return False
        # Like a begin it leaves room: the last is for begins that are written again.
        return self._write(data, len(self._open) + 1)

    def insist(self, request_id: str, payload: bytes) -> None:
        """Write a reduced end now, or as soon as the disk takes it again."""
        if not self.end(request_id, payload):
            alarm("journal", "unwritten", "critical", request_id=request_id, note="kept in memory and tried again")
            self._unwritten.append((request_id, payload))

    def _room(self, size: int, open_after: int) -> bool:
        """Whether ``size`` bytes can be written so that ``open_after`` slots stay free."""
        if size > self._segment_bytes:
            return False
        left = self._limit - self._offset
        if size <= left:
            if (left - size) // END_RESERVE + self._spare_slots >= open_after:
                return True
        elif self._spares:
            first = self._spares[0][0].allocated
            if size > first:
                return False  # it has the slots that were owed, and comes first
            if (first - size) // END_RESERVE + self._spare_slots - first // END_RESERVE >= open_after:
                return True
        return self._add_spare() and self._room(size, open_after)

    def _write(self, data: bytes, open_after: int) -> bool:
        size = len(data)
        if not self._room(size, open_after):
            return False
        if size > self._limit - self._offset:
            self._rotate()
        assert self._fd is not None
        offset = self._offset
        try:
            written = os.pwrite(self._fd, data, offset)
        except OSError as error:
            alarm("journal", "write_failed", error=str(error))
            written = -1
        if written != size:
            self._undo()
            return False
        self._offset = offset + size
        self._written += size
        if not self._is_dirty:
            self._is_dirty = True
            self._dirty.set()
        return True

    def _undo(self) -> None:
        """A write was cut short: cut it off, and write no more into this segment."""
        self._give_back()
        self._limit = self._offset

    def _give_back(self) -> None:
        """Cut the segment off behind its last record."""
        assert self._fd is not None
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._offset)
        current = self.segments[self._number]
        current.end = self._offset
        self._allocated -= current.allocated - self._offset
        current.allocated = self._offset

    def _rotate(self) -> None:
        """Go on in the first spare."""
        self._seal()
        segment, fd = self._spares.popleft()
        self._spare_slots -= segment.allocated // END_RESERVE
        self.segments[segment.number] = segment
        self._fd, self._number, self._offset, self._limit = fd, segment.number, 0, segment.allocated
        if not self._spares:
            self._prepare_spare()

    def _seal(self) -> None:
        if self._fd is None:
            return
        self._give_back()
        self._sealed.append(self._fd)
        self._fd = None
        self._is_dirty = True
        self._dirty.set()

    def _may_allocate(self) -> bool:
        preparing = 0 if self._preparing is None else self._segment_bytes
        return self._allocated + preparing + self._segment_bytes <= self._max_bytes

    def _owed(self) -> int:
        """Bytes of slots that are promised and not there."""
        slots = (self._limit - self._offset) // END_RESERVE + self._spare_slots
        return max(0, len(self._open) - slots) * END_RESERVE

    def _create(self, number: int, size: int) -> tuple[Segment, int]:
        path = segment_path(self.directory, number)
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            _allocate(fd, size)
            _sync_directory(self.directory)
        except BaseException:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return Segment(number, path, 0, size), fd

    def _take_number(self) -> int:
        number = self._next_number
        self._next_number += 1
        return number

    def _add_spare(self) -> bool:
        """Allocate a segment here and now, a whole one or one of owed slots; False at ``max_bytes`` or when the disk has no room."""
        if monotonic() < self._no_room_until:
            return False
        if self._may_allocate() and self._allocate_now(self._segment_bytes):
            self._no_room_until = 0.0
            return True
        owed = self._owed()
        return owed > 0 and self._allocate_now(owed)

    def _allocate_now(self, size: int) -> bool:
        try:
            segment, fd = self._create(self._take_number(), size)
        except OSError as error:
            self._no_room(error)
            return False
        self._keep_spare(segment, fd)
        return True

    def _no_room(self, error: OSError) -> None:
        if not self._no_room_until:
            alarm("journal", "no_room", error=str(error))
        self._no_room_until = monotonic() + TICK_S

    def _keep_spare(self, segment: Segment, fd: int) -> None:
        self._allocated += segment.allocated
        self._spares.append((segment, fd))
        self._spare_slots += segment.allocated // END_RESERVE

    def _accept_spare(self, segment: Segment, fd: int) -> None:
        newest = self._spares[-1][0].number if self._spares else self._number
        if segment.number < newest or not self._may_allocate():
            # The loop could not wait for the thread and has allocated a later one meanwhile.
            os.close(fd)
            segment.path.unlink(missing_ok=True)
            return
        self._no_room_until = 0.0
        self._keep_spare(segment, fd)

    def _prepare_spare(self) -> None:
        """Have the thread allocate the next segment."""
        if self._executor is None or self._preparing is not None or not self._may_allocate():
            return
        loop = asyncio.get_running_loop()
        self._preparing = loop.run_in_executor(self._executor, self._create, self._take_number(), self._segment_bytes)
        self._preparing.add_done_callback(self._spare_prepared)

    def _spare_prepared(self, future: "asyncio.Future[tuple[Segment, int]]") -> None:
        self._preparing = None
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._accept_spare(*future.result())
        elif isinstance(error, OSError):
            self._no_room(error)
        else:
            alarm("journal", "allocation_failed", exc_info=error)

    def delete(self, number: int) -> None:
        """Remove a segment that nobody needs."""
        segment = self.segments.pop(number)
        try:
            segment.path.unlink(missing_ok=True)
        except OSError as error:
            alarm("journal", "delete_failed", segment=number, error=str(error))
            self.segments[number] = segment
            return
        self._allocated -= segment.allocated
        if not self._spares:
            self._prepare_spare()

    def _retry(self) -> None:
        while self._unwritten:
            request_id, payload = self._unwritten[0]
            if not self.end(request_id, payload):
                return
            self._unwritten.popleft()

    async def _tick_loop(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._retry()
            if not self._spares and monotonic() >= self._no_room_until:
                self._prepare_spare()

    async def synced(self) -> None:
        """In mode ``always``: wait until everything written so far is on the disk. Otherwise return at once."""
        if self._always:
            await self.on_disk()

    async def on_disk(self) -> None:
        """Wait until everything written so far is on the disk."""
        written = self._written
        while self._synced < written:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            self._dirty.set()
            await waiter

    async def _sync_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._dirty.wait()
            if not self._always:
                await asyncio.sleep(SYNC_INTERVAL_S)
            self._dirty.clear()
            self._is_dirty = False
            written, sealed, self._sealed = self._written, self._sealed, []
            try:
                await loop.run_in_executor(self._executor, _sync, sealed, self._fd)
            except OSError as error:
                # The kernel may have dropped what it could not write; what comes now goes to another file.
                alarm("journal", "sync_failed", "critical", error=str(error))
                self.sync_failed = True
                self._limit = self._offset
            else:
                self.sync_failed = False
            self._synced = written
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def close(self) -> None:
        """Bring everything to the disk; leave neither a thread nor a spare behind."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._retry()
        executor, self._executor = self._executor, None
        if executor is None:
            return
        self._seal()
        sealed, self._sealed = self._sealed, []
        try:
            await asyncio.get_running_loop().run_in_executor(executor, _sync, sealed, None)
        except OSError as error:
            alarm("journal", "sync_failed", "critical", error=str(error))
        if self._preparing is not None:
            await asyncio.wait([self._preparing])
        executor.shutdown(wait=True)
        self._synced = self._written
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        while self._spares:
            segment, fd = self._spares.popleft()
            os.close(fd)
            segment.path.unlink(missing_ok=True)
