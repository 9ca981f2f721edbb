"""What is found in a journal that was torn, cut or damaged anywhere."""

import shutil
from pathlib import Path

import msgspec
import pytest

from dwctl.ledger import Begin, Record
from dwctl.ledger.framing import frame
from dwctl.ledger.journal import Position, segment_path
from dwctl.ledger.recovery import recover, tidy
from tests.ledger.making import ACCOUNT, make_begin, make_record

encode = msgspec.msgpack.encode


def write(directory: Path, number: int, entries: list[Begin | Record], tail: bytes = b"") -> list[int]:
    """A segment file; where its entries end."""
    frames = [frame(encode(entry)) for entry in entries]
    segment_path(directory, number).write_bytes(b"".join(frames) + tail)
    return [sum(map(len, frames[: count + 1])) for count in range(len(frames))]


def test_a_journal_torn_at_every_byte(tmp_path: Path) -> None:
    requests = [(make_begin(str(number)), make_record(str(number), amount=10 + number)) for number in range(3)]
    entries: list[Begin | Record] = [requests[0][0], requests[1][0], requests[0][1], requests[2][0], requests[2][1], requests[1][1]]
    ends = write(tmp_path, 1, entries)
    whole = segment_path(tmp_path, 1).read_bytes()
    for cut in range(len(whole) + 1):
        for tail in (b"", bytes(5_000)):
            segment_path(tmp_path, 1).write_bytes(whole[:cut] + tail)
            found = recover(tmp_path, None)
            tidy(found)
            there = entries[: sum(end <= cut for end in ends)]
            records = [entry for entry in there if isinstance(entry, Record)]
            begun = [entry.id for entry in there if isinstance(entry, Begin)]
            assert found.pending == [(ACCOUNT, record.charge.amount_nano) for record in records if record.charge]
            assert set(found.open) == set(begun) - {record.id for record in records}
            assert not found.damage
            assert found.next_number == 2
            if there:
                assert segment_path(tmp_path, 1).stat().st_size == found.segments[0].end == max(end for end in ends if end <= cut)
            else:
                assert not segment_path(tmp_path, 1).exists()


@pytest.mark.parametrize("mark", range(5))
def test_charges_count_from_the_mark_and_open_requests_from_the_beginning(tmp_path: Path, mark: int) -> None:
    entries: list[Begin | Record] = [make_begin("a"), make_begin("b"), make_record("a", amount=5), make_record("c", amount=7)]
    ends = write(tmp_path, 3, entries)
    write(tmp_path, 4, [make_record("d", amount=11)])
    found = recover(tmp_path, Position(3, [0, *ends][mark]))
    tidy(found)
    assert [amount for _, amount in found.pending] == ([5, 7] if mark < 3 else [7] if mark < 4 else []) + [11]
    assert set(found.open) == {"b"}
    assert set(found.begun) == {id_ for id_, place in (("a", 1), ("b", 2)) if place <= mark and not (id_ == "a" and mark >= 3)}
    assert found.next_number == 5


@pytest.mark.parametrize(("mark", "known"), [(Position(3, 0), {}), (Position(4, 0), {"a": 3}), (Position(5, 0), {"a": 4})])
def test_a_begin_that_was_written_again_counts_where_it_is_last(tmp_path: Path, mark: Position, known: dict[str, int]) -> None:
    for number in (3, 4):
        write(tmp_path, number, [make_begin("a"), make_begin("b"), make_begin("a")])
    write(tmp_path, 5, [make_record("b", amount=7)])
    found = recover(tmp_path, mark)
    assert {id_: number for id_, number in found.begun.items() if id_ == "a"} == known
    assert (set(found.open), found.pending) == ({"a"}, [(ACCOUNT, 7)])


def test_a_damaged_end_of_a_segment_is_damage_when_others_follow(tmp_path: Path) -> None:
    write(tmp_path, 1, [make_record("a")], tail=b"not a record\0\0\0")
    write(tmp_path, 2, [], tail=b"nothing here is one\0")
    write(tmp_path, 3, [make_record("b")], tail=b"torn")
    found = recover(tmp_path, None)
    assert [(damage.segment, damage.content) for damage in found.damage] == [(1, b"not a record"), (2, b"nothing here is one")]
    tidy(found)
    assert [segment.number for segment in found.segments] == [1, 3]
    again = recover(tmp_path, None)
    assert not again.damage
    assert found.pending == again.pending


def test_numbers_go_on_behind_the_mark_when_the_files_are_gone(tmp_path: Path) -> None:
    assert recover(tmp_path, Position(41, 7)).next_number == 42
    assert recover(tmp_path, None).next_number == 1


def test_entries_of_other_versions_are_read_as_far_as_they_are_understood(tmp_path: Path) -> None:
    older = msgspec.msgpack.decode(encode(make_record("a")))[:5]
    newer = [*msgspec.msgpack.decode(encode(make_begin("b"))), "a field of the future"]
    foreign = ["x", "unknown kind"]
    segment_path(tmp_path, 1).write_bytes(b"".join(frame(encode(entry)) for entry in (older, newer, foreign)))
    found = recover(tmp_path, None)
    assert found.records == 1
    assert set(found.open) == {"b"}


def test_entries_from_before_there_were_tags_have_none(tmp_path: Path) -> None:
    begin, record = (msgspec.msgpack.decode(encode(entry))[:-1] for entry in (make_begin("a"), make_record("b", amount=5)))
    segment_path(tmp_path, 1).write_bytes(b"".join(frame(encode(entry)) for entry in (begin, record)))
    found = recover(tmp_path, None)
    assert found.open == {"a": make_begin("a")}
    assert found.pending == [(ACCOUNT, 5)]
    assert msgspec.msgpack.decode(encode(record), type=Record) == make_record("b", amount=5)


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.segment").write_text("mine")
    (tmp_path / "quarantine").mkdir()
    tidy(recover(tmp_path, None))
    assert (tmp_path / "notes.segment").read_text() == "mine"
    shutil.rmtree(tmp_path)
