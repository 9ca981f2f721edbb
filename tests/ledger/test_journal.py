"""The journal under small bounds and failing disks: every begin has room for its end."""

import asyncio
import errno
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dwctl import ids
from dwctl.ledger import Begin, Record
from dwctl.ledger import journal as journal_module
from dwctl.ledger.cleaning import reduced
from dwctl.ledger.framing import frame, scan
from dwctl.ledger.journal import END_RESERVE, Journal, Position, segment_files, segment_path
from dwctl.ledger.reading import Reader
from dwctl.ledger.recovery import recover, tidy
from tests.ledger.making import kill_journal, make_begin, make_record, until

encode = msgspec.msgpack.encode
OpenJournal = Callable[..., Journal]


@pytest.fixture
async def open_journal(tmp_path: Path) -> AsyncIterator[OpenJournal]:
    opened: list[Journal] = []

    def open_(directory: Path = tmp_path, **options: Any) -> Journal:
        directory.mkdir(exist_ok=True)
        found = recover(directory, None)
        tidy(found)
        options = {"sync": "interval", "max_bytes": 1 << 20, "segment_bytes": 1 << 14} | options
        journal = Journal(directory, found.segments, found.next_number, **options)
        journal.start()
        opened.append(journal)
        return journal

    yield open_
    for journal in opened:
        await journal.close()


def entries(directory: Path) -> list[Begin | Record]:
    decoder = msgspec.msgpack.Decoder(Begin | Record)
    return [
        decoder.decode(payload) for _, path in segment_files(directory) for _, _, payload in scan(path.read_bytes()) if payload is not None
    ]


def fill(journal: Journal) -> list[str]:
    """Begin requests until the journal refuses one."""
    begun = []
    while journal.begin(request_id := ids.new_text(), encode(make_begin(request_id))):
        begun.append(request_id)
        assert len(begun) < 100_000
    return begun


async def test_entries_lie_in_the_order_in_which_they_were_written(open_journal: OpenJournal, tmp_path: Path) -> None:
    journal = open_journal()
    written = []
    for number in range(200):
        request_id = ids.new_text()
        assert journal.begin(request_id, encode(make_begin(request_id, hold_nano=number)))
        assert journal.end(request_id, encode(make_record(request_id)))
        written += [("Begin", request_id), ("Record", request_id)]
    assert [(type(entry).__name__, entry.id) for entry in entries(tmp_path)] == written
    assert len(journal.segments) > 3
    assert journal.open_count == 0


async def test_the_bound_is_kept_and_every_begin_can_end(open_journal: OpenJournal, tmp_path: Path) -> None:
    journal = open_journal(max_bytes=3 << 16)
    begun = fill(journal)
    assert not journal.has_room()
    assert len(begun) > 20
    for request_id in begun:
        record = make_record(request_id, explanation=["x" * 240] * 20)
        if not journal.end(request_id, encode(record)):
            journal.insist(request_id, encode(reduced(record)))
    assert journal.open_count == 0
    assert sum(path.stat().st_size for _, path in segment_files(tmp_path)) <= 3 << 16
    records = [entry for entry in entries(tmp_path) if isinstance(entry, Record)]
    assert [record.id for record in records] == begun
    assert all(record.charge == make_record().charge for record in records)


async def test_entries_without_a_begin_take_no_room_that_was_promised(open_journal: OpenJournal) -> None:
    journal = open_journal(max_bytes=1 << 16)
    begun = [ids.new_text() for _ in range(10)]
    assert all(journal.begin(request_id, encode(make_begin(request_id))) for request_id in begun)
    refused = 0
    while journal.end(ids.new_text(), encode(make_record(amount=None))):
        refused += 1
    assert refused > 10
    for request_id in begun:
        journal.insist(request_id, encode(reduced(make_record(request_id))))
    assert journal.open_count == 0


def outlived(journal: Journal, count: int) -> tuple[list[str], Reader]:
    """Requests that are open, ``count`` of them since before a segment was full, in a journal that is read to its end."""
    begun = [ids.new_text() for _ in range(count)]
    assert all(journal.begin(request_id, encode(make_begin(request_id))) for request_id in begun)
    first = journal.position.segment
    while journal.position.segment == first:
        assert journal.end(ids.new_text(), encode(make_record()))
    begun += fill(journal)
    reader = Reader(journal, Position(0, 0), {})
    reader.read(500)
    return begun, reader


async def test_begins_that_are_written_again_take_no_room_that_was_promised(open_journal: OpenJournal, tmp_path: Path) -> None:
    padding = END_RESERVE - len(frame(encode(make_record(error_message="x" * 2_000)))) + 2_000
    carried = 0
    for count in range(1, 12):
        journal = open_journal(tmp_path / str(count), max_bytes=5 << 14)
        begun, reader = outlived(journal, count)
        full = journal.allocated_bytes
        carried += reader.carry()
        for request_id in begun:
            assert journal.end(request_id, encode(make_record(request_id, error_message="x" * padding)))
            assert journal.allocated_bytes <= full
        reader.close()
    assert carried


async def test_begins_are_written_again_as_long_as_that_wins_room_and_no_longer(open_journal: OpenJournal) -> None:
    journal = open_journal(max_bytes=1 << 18)
    reader = Reader(journal, Position(0, 0), {})
    for count in (5, 52):
        # A segment with few begins, and one of nothing else.
        assert all(journal.begin(request_id, encode(make_begin(request_id))) for request_id in [ids.new_text() for _ in range(count)])
        first = journal.position.segment
        while journal.position.segment == first:
            assert journal.end(ids.new_text(), encode(make_record()))
    written = 0
    reader.read(500)
    while reader.carry():
        written += 1
        assert written < 20, "there is no end to it"
        for number in [number for number in journal.segments if number < reader.position.segment and not reader.has_open(number)]:
            journal.delete(number)
        reader.read(500)
    assert written
    reader.close()


async def test_begins_are_written_again_where_the_disk_is_smaller_than_the_journal_may_be(
    open_journal: OpenJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocate_really = journal_module._allocate

    def allocate(fd: int, size: int) -> None:
        if sum(path.stat().st_size for _, path in segment_files(tmp_path)) + size > 8 << 14:
            raise OSError(errno.ENOSPC, "No space left on device")
        allocate_really(fd, size)

    monkeypatch.setattr(journal_module, "_allocate", allocate)
    monkeypatch.setattr(journal_module, "TICK_S", 0.01)
    journal = open_journal(max_bytes=1 << 30)
    reader = Reader(journal, Position(0, 0), {})

    def relieved() -> bool:
        while reader.read(500).records:
            pass
        reader.carry()
        for number in [number for number in journal.segments if number < reader.position.segment and not reader.has_open(number)]:
            journal.delete(number)
        return True

    def passed(first: int) -> bool:
        while journal.position.segment == first and journal.end(ids.new_text(), encode(make_record())):
            pass
        return journal.position.segment > first

    for _ in range(12):
        # Each keeps a segment that holds nothing else by now.
        long = ids.new_text()
        await until(lambda long=long: relieved() and journal.begin(long, encode(make_begin(long))))
        await until(lambda first=journal.position.segment: relieved() and passed(first))
    assert journal.open_count == 12
    reader.close()


async def test_the_begin_of_a_request_that_has_ended_is_not_written_again(open_journal: OpenJournal) -> None:
    journal = open_journal(max_bytes=5 << 14)
    begun, reader = outlived(journal, 2)
    assert journal.end(begun[0], encode(make_record(begun[0])))
    assert not reader.carry(), "its end lies before what would be written"
    reader.read(500)
    assert reader.carry()
    reader.close()


async def test_deleting_what_was_recorded_makes_room(open_journal: OpenJournal) -> None:
    journal = open_journal(max_bytes=1 << 16)
    begun = fill(journal)
    for request_id in begun:
        journal.insist(request_id, encode(reduced(make_record(request_id))))
    for number in list(journal.segments)[:-1]:
        journal.delete(number)
    assert journal.has_room()
    assert journal.begin("again", encode(make_begin("again")))


async def test_more_requests_than_a_segment_has_slots(open_journal: OpenJournal) -> None:
    journal = open_journal(segment_bytes=1 << 14, max_bytes=1 << 22)
    begun = [ids.new_text() for _ in range(300)]
    assert all(journal.begin(request_id, encode(make_begin(request_id))) for request_id in begun)
    for request_id in begun:
        journal.insist(request_id, encode(reduced(make_record(request_id))))
    assert journal.open_count == 0


async def test_a_closed_journal_leaves_neither_spare_nor_thread_and_is_continued_behind(open_journal: OpenJournal, tmp_path: Path) -> None:
    threads = threading.active_count()
    journal = open_journal()
    journal.begin("one", encode(make_begin("one")))
    await journal.close()
    assert threading.active_count() == threads
    [(number, path)] = segment_files(tmp_path)
    assert path.stat().st_size < 1_000, "what was not used is given back"
    again = open_journal()
    again.begin("two", encode(make_begin("two")))
    assert again.position.segment > number
    assert [entry.id for entry in entries(tmp_path)] == ["one", "two"]


async def test_synced_waits_for_the_disk_only_when_asked_to(
    open_journal: OpenJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, proceed = threading.Event(), threading.Event()
    real = os.fdatasync
    lazy, strict = open_journal(tmp_path / "lazy"), open_journal(tmp_path / "strict", sync="always")
    lazy.begin("one", encode(make_begin("one")))
    await asyncio.wait_for(lazy.synced(), 1)
    await lazy.close()

    def slow(fd: int) -> None:
        started.set()
        proceed.wait(10)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    strict.begin("two", encode(make_begin("two")))
    waiting = asyncio.create_task(strict.synced())
    await asyncio.to_thread(started.wait, 10)
    assert not waiting.done()
    proceed.set()
    await asyncio.wait_for(waiting, 10)


async def test_a_failing_fsync_is_reported_and_its_segment_left(open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(sync="always")
    before = journal.position.segment

    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        journal.begin("one", encode(make_begin("one")))
        await asyncio.wait_for(journal.synced(), 5)
    assert journal.sync_failed
    journal.begin("two", encode(make_begin("two")))
    assert journal.position.segment > before
    await asyncio.wait_for(journal.synced(), 5)
    assert not journal.sync_failed


async def test_a_failed_write_is_undone_and_the_next_goes_elsewhere(
    open_journal: OpenJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal()
    journal.begin("one", encode(make_begin("one")))
    real = os.pwrite

    def short(fd: int, data: bytes, offset: int) -> int:
        return real(fd, data[:10], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", short)
        assert not journal.begin("two", encode(make_begin("two")))
        journal.insist("one", encode(reduced(make_record("one"))))
        assert journal.open_count == 1
        assert not journal.has_room()
        assert not journal.begin("three", encode(make_begin("three")))
    await until(lambda: journal.open_count == 0)
    assert journal.begin("four", encode(make_begin("four")))
    assert [entry.id for entry in entries(tmp_path)] == ["one", "one", "four"]
    assert recover(tmp_path, None).open.keys() == {"four"}


async def test_the_reader_follows_the_writer_across_segments(open_journal: OpenJournal) -> None:
    journal = open_journal()
    begun: dict[str, int] = {}
    reader = Reader(journal, Position(0, 0), begun)
    written: list[str] = []
    seen: list[str] = []
    for round_ in range(60):
        for _ in range(round_ % 7):
            request_id = ids.new_text()
            journal.begin(request_id, encode(make_begin(request_id)))
            journal.end(request_id, encode(make_record(request_id, explanation=["x" * 240] * (round_ % 20))))
            written.append(request_id)
        group = reader.read(5)
        seen += [record.id for record in group.records]
        assert group.end == reader.position
    while group := reader.read(5).records:
        seen += [record.id for record in group]
    assert seen == written
    assert not begun
    assert reader.position == journal.position
    reader.close()


# The limit on file sizes makes writes fail as a full disk does, for root too: short first, then not at all.
FULL_DISK = """
import asyncio, resource, signal, sys
from pathlib import Path
import msgspec
from dwctl.ledger.journal import Journal
from dwctl.ledger.cleaning import reduced
from tests.ledger.making import make_begin, make_record
from tests.waiting import until
from dwctl import ids
encode = msgspec.msgpack.encode

async def main(directory, limit_before, limit_after):
    if limit_before:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_before, resource.RLIM_INFINITY))
    journal = Journal(directory, [], 1, sync="interval", max_bytes=1 << 22, segment_bytes=1 << 16)
    journal.start()
    await until(lambda: journal._preparing is None)
    if limit_after:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_after, resource.RLIM_INFINITY))
    begun = []
    while journal.begin(request_id := ids.new_text(), encode(make_begin(request_id))):
        begun.append(request_id)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for request_id in begun:
        journal.insist(request_id, encode(reduced(make_record(request_id))))
    await until(journal.has_room)
    assert journal.open_count == 0
    await journal.close()
    print(len(begun))

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
"""


@pytest.mark.parametrize(("before", "after", "admitted"), [(1 << 14, 0, 0), (0, 5_000, 16), (0, 30_001, 100)])
def test_a_full_disk_refuses_begins_and_takes_ends_once_it_has_room(tmp_path: Path, before: int, after: int, admitted: int) -> None:
    program = textwrap.dedent(FULL_DISK)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path, str(before), str(after)], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    begun = int(done.stdout.splitlines()[-1])
    assert (begun == 0) == (admitted == 0)
    assert begun <= admitted
    found = entries(tmp_path)
    assert len(found) == 2 * begun
    assert not recover(tmp_path, None).open


# A journal that was killed with open requests is started while a file may not be larger than ``limit``.
RESTART = """
import asyncio, resource, sys
from pathlib import Path
import msgspec
from dwctl.ledger.journal import Journal
from dwctl.ledger.cleaning import reduced
from dwctl.ledger.recovery import recover, tidy
from tests.ledger.making import make_record
from tests.waiting import until

async def main(directory, limit, max_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    found = recover(directory, None)
    tidy(found)
    journal = Journal(directory, found.segments, found.next_number, sync="interval", max_bytes=max_bytes, segment_bytes=1 << 15)
    journal.reserve(list(found.open))
    journal.start()
    for request_id in found.open:
        journal.insist(request_id, msgspec.msgpack.encode(reduced(make_record(request_id))))
    print(journal.open_count)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await until(lambda: journal.open_count == 0)
    assert journal.allocated_bytes <= max_bytes
    await journal.close()

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
"""


@pytest.mark.parametrize("max_bytes", [1 << 22, 1 << 16], ids=["room", "full"])
@pytest.mark.parametrize(("slots", "left_open"), [(2, 3), (3, 0)])
def test_a_start_on_a_full_disk_ends_what_was_open_as_soon_as_there_is_room(
    tmp_path: Path, slots: int, left_open: int, max_bytes: int
) -> None:
    begun = [make_begin(str(number)) for number in range(3)]
    frames = [frame(encode(entry)) for entry in begun]
    while sum(map(len, frames)) < (1 << 16) - 4 * END_RESERVE:
        frames.append(frame(encode(make_record())))
    segment_path(tmp_path, 1).write_bytes(b"".join(frames))
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", RESTART, tmp_path, str(slots * END_RESERVE), str(max_bytes)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(left_open)
    assert not recover(tmp_path, None).open
    assert len(entries(tmp_path)) == len(frames) + 3


class Life:
    """A journal with little room, read behind as a recorder does, that is killed and started again."""

    def __init__(self, directory: Path, segments: int) -> None:
        self.directory = directory
        self.max_bytes = self.most = segments << 14
        self.recorded = Position(0, 0)
        self.open: list[str] = []
        self.ended: list[str] = []
        self.seen: list[str] = []
        self.start()

    def start(self) -> None:
        found = recover(self.directory, self.recorded)
        tidy(found)
        assert set(self.open) <= found.open.keys(), "what is open is known, wherever its begin lies now"
        again = found.open.keys() - set(self.open)
        assert again <= set(self.seen), "they ended in a segment that is gone, and the database has them"
        self.most += len(again) * END_RESERVE
        self.open = list(found.open)
        self.journal = Journal(
            self.directory, found.segments, found.next_number, sync="interval", max_bytes=self.max_bytes, segment_bytes=1 << 14
        )
        self.journal.reserve(self.open)
        self.journal.start()
        self.reader = Reader(self.journal, self.recorded, found.begun)
        while self.open:
            self.end()

    async def kill(self) -> None:
        self.reader.close()
        await kill_journal(self.journal)
        self.start()

    def begin(self) -> None:
        request_id = ids.new_text()
        if self.journal.begin(request_id, encode(make_begin(request_id))):
            self.open.append(request_id)

    def end(self, sentences: int = 0) -> None:
        if not self.open:
            return
        record = make_record(self.open.pop(0), explanation=["x" * 240] * sentences)
        if not self.journal.end(record.id, encode(record)):
            self.journal.insist(record.id, encode(reduced(record)))
        self.ended.append(record.id)
        assert self.journal.open_count == len(self.open), "its room was there"

    def record(self) -> None:
        while records := self.reader.read(50).records:
            self.seen += [record.id for record in records]
        self.recorded = self.reader.position
        self.reader.carry()
        for number in [number for number in self.journal.segments if number < self.recorded.segment]:
            if not self.reader.has_open(number):
                self.journal.delete(number)

    def fail(self) -> None:
        """The disk takes only a part of the next entries."""
        real = os.pwrite
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:10], offset))
            self.begin()
            assert not self.open or not self.journal.end(self.open[0], encode(make_record(self.open[0])))


@settings(max_examples=200)
@given(steps=st.lists(st.sampled_from(["begin", "many", "end", "long", "record", "fail", "kill"]), max_size=40), segments=st.integers(2, 5))
@example(steps=["many"] * 9 + ["kill"], segments=2)
@example(steps=["begin"] + ["many", "end"] * 40 + ["fail", "end", "end"], segments=2)
def test_room_for_ends_outlives_kills_and_failed_writes(steps: list[str], segments: int) -> None:
    async def live(directory: Path) -> None:
        life = Life(directory, segments)
        for step in steps:
            match step:
                case "many":
                    for _ in range(9):
                        life.begin()
                        life.end()
                        life.begin()
                case "long":
                    life.end(20)
                case "kill":
                    await life.kill()
                case _:
                    getattr(life, step)()
            assert life.journal.allocated_bytes <= life.most
        await life.kill()
        life.record()
        assert life.seen == life.ended, "each once, in their order"
        await until(life.journal.has_room)
        life.reader.close()
        await life.journal.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(live(Path(directory)))


async def test_the_reserve_is_what_a_reduced_end_needs() -> None:
    assert len(encode(reduced(make_record()))) < END_RESERVE
