"""Server-sent events on the wire (WHATWG HTML, 9.2.6), cut into events without changing a byte.

A stream may be cut anywhere between two reads. ``EventSplitter`` returns whole events, terminator included, so that what it
returned, joined, plus ``rest`` is always exactly what it was fed.
"""

import re

MAX_EVENT = 8 * 1024 * 1024
"""Bytes; an event that grows beyond it is a fault of the provider."""

_EVENT_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class EventTooLarge(Exception):
    """An event grew beyond ``MAX_EVENT`` bytes."""


class EventSplitter:
    """Cuts a byte stream into events; ``rest`` is the event that has begun and not ended."""

    __slots__ = ("_searched", "rest")

    def __init__(self) -> None:
        self.rest = b""
        self._searched = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that are complete now, each with its terminator. Raises EventTooLarge."""
        if not self.rest:
            if chunk.endswith(b"\n\n") and b"\r" not in chunk:
                if chunk.find(b"\n\n") == len(chunk) - 2:
                    return [chunk]
                return [event + b"\n\n" for event in chunk[:-2].split(b"\n\n")]
            data = chunk
        else:
            data = self.rest + chunk
        events = []
        start = 0
        for match in _EVENT_END.finditer(data, self._searched):
            if match.end() == len(data) and match.group() == b"\r\n\r":
                break  # half a blank line; its other half comes with the next read
            events.append(data[start : match.end()])
            start = match.end()
        self.rest = data[start:] if start else data
        # An end may straddle the next read by at most three bytes of line ends.
        self._searched = max(0, len(self.rest) - 3)
        if len(self.rest) > MAX_EVENT:
            raise EventTooLarge
        return events


def data_of(event: bytes) -> bytes | None:
    """The event's data, several ``data`` lines joined by a line feed; None for an event without any (a comment)."""
    if event.startswith(b"data: ") and event.endswith(b"\n\n") and b"\r" not in event and event.find(b"\n") == len(event) - 2:
        return event[6:-2]
    lines = []
    for line in _LINE_END.split(event.removeprefix(_BOM)):
        if line.startswith(b"data:"):
            value = line[5:]
            lines.append(value[1:] if value.startswith(b" ") else value)
        elif line == b"data":
            lines.append(b"")
    return b"\n".join(lines) if lines else None


def encode(data: bytes, event: str | None = None) -> bytes:
    """One event with ``data`` on a single line."""
    if event is None:
        return b"data: " + data + b"\n\n"
    return b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"


PING = b": ping\n\n"
"""A comment that keeps an idle connection open."""
