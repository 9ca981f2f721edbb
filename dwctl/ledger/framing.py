"""How records lie in a journal segment: marker, length, CRC-32, payload; and how to read them back from damaged bytes.

The marker starts with 0xFF, a byte that never occurs in UTF-8. Payloads hold text, never raw bytes from outside, so a caller
cannot smuggle something that looks like a record into a record.
"""

import struct
import zlib
from collections.abc import Iterator

MARKER = b"\xffdwj"
HEADER = struct.Struct(">4sII")
HEADER_BYTES = HEADER.size
MAX_PAYLOAD = 64 * 1024


def frame(payload: bytes) -> bytes:
    """The bytes of one record."""
    length = len(payload)
    return HEADER.pack(MARKER, length, zlib.crc32(payload, length)) + payload


def _end_of_record(data: bytes, start: int) -> int:
    """Where the whole and sound record that starts here ends; 0 if there is none."""
    body = start + HEADER_BYTES
    if body > len(data):
        return 0
    marker, length, checksum = HEADER.unpack_from(data, start)
    end: int = body + length
    if marker != MARKER or not 0 < length <= MAX_PAYLOAD or end > len(data):
        return 0
    return end if zlib.crc32(data[body:end], length) == checksum else 0


def scan(data: bytes) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield (start, end, payload) of each record, in order.

    Bytes that are no record are yielded with payload None if a sound record follows them. What follows the last sound
    record (a torn tail, or space not written yet) is not yielded.
    """
    start, last = 0, len(data) - HEADER_BYTES
    while True:
        # The loop for sound records is written out: it runs for everything that is ever recorded.
        while start <= last:
            marker, length, checksum = HEADER.unpack_from(data, start)
            end = start + HEADER_BYTES + length
            payload = data[start + HEADER_BYTES : end]
            if marker != MARKER or not 0 < length <= MAX_PAYLOAD or len(payload) != length or zlib.crc32(payload, length) != checksum:
                break
            yield start, end, payload
            start = end
        following = data.find(MARKER, start + 1)
        while following >= 0 and not _end_of_record(data, following):
            following = data.find(MARKER, following + 1)
        if following < 0:
            return
        yield start, following, None
        start = following
