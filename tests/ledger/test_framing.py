"""Frames read back from bytes that were torn, flipped, zeroed or forged."""

from hypothesis import given
from hypothesis import strategies as st

from dwctl.ledger.framing import HEADER, MARKER, frame, scan

payloads = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).map(str.encode), min_size=1, max_size=6)


def read(data: bytes) -> list[bytes]:
    return [payload for _, _, payload in scan(data) if payload is not None]


@given(payloads)
def test_what_was_framed_is_read(written: list[bytes]) -> None:
    data = b"".join(map(frame, written))
    assert read(data) == written
    assert read(data + bytes(100)) == written


@given(payloads)
def test_a_tail_torn_at_any_byte_loses_only_the_record_that_was_torn(written: list[bytes]) -> None:
    data = b"".join(map(frame, written))
    ends = [stop for _, stop, _ in scan(data)]
    for cut in range(len(data) + 1):
        for tail in (b"", bytes(64)):
            torn = data[:cut] + tail
            whole = sum(torn.startswith(data[:end]) for end in ends)  # a record that ends in zeros may be whole again
            found = list(scan(torn))
            assert [payload for _, _, payload in found] == written[:whole], "a torn tail is no damage"


@given(payloads, payloads, st.data())
def test_damage_costs_the_records_that_it_hit_and_is_reported(before: list[bytes], after: list[bytes], data: st.DataObject) -> None:
    victim = frame(b"the victim")
    head, tail = b"".join(map(frame, before)), b"".join(map(frame, after))
    place = data.draw(st.integers(0, len(victim) - 1))
    broken = bytearray(victim)
    broken[place] ^= data.draw(st.integers(1, 255))
    found = list(scan(head + bytes(broken) + tail))
    assert [payload for _, _, payload in found if payload is not None] == before + after
    assert [(start, stop) for start, stop, payload in found if payload is None] == [(len(head), len(head) + len(victim))]


@given(payloads, payloads, st.binary(min_size=1, max_size=200))
def test_foreign_bytes_between_records_are_passed_over(before: list[bytes], after: list[bytes], junk: bytes) -> None:
    data = b"".join(map(frame, before)) + junk + b"".join(map(frame, after))
    assert [payload for payload in read(data) if payload in before + after] == before + after


@given(payloads)
def test_pages_that_never_reached_the_disk_hide_nothing_behind_them(written: list[bytes]) -> None:
    lost = len(frame(b"x" * 100))
    found = list(scan(bytes(lost) + b"".join(map(frame, written))))
    assert [payload for _, _, payload in found] == [None, *written]


def test_text_cannot_look_like_a_record() -> None:
    forged = frame(b"a charge for somebody else")
    as_text = forged.decode("utf-8", "replace").encode()
    assert MARKER not in as_text
    torn = frame(b"user agent: " + as_text + b" and more")[:-3]
    assert list(scan(torn)) == []


def test_a_length_beyond_all_bounds_is_not_believed() -> None:
    good = frame(b"good")
    assert read(HEADER.pack(MARKER, 2**31, 0) + b"xyz" + good) == [b"good"]
