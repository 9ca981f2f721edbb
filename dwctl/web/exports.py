"""Downloads of lists as CSV, sent as they are read. How a line is written is ``operations.csv_text``'s."""

import re
from collections.abc import AsyncIterator, Iterable
from typing import Any

from sanic.response import ResponseStream

from dwctl.operations.csv_text import csv_line

_BYTES_AT_ONCE = 32 * 1024


def csv_download(name: str, head: Iterable[str], rows: AsyncIterator[Iterable[object]]) -> ResponseStream:
    """A download named ``name``.csv: a line of heads, then a line a row."""

    async def lines() -> AsyncIterator[str]:
        yield csv_line(head)
        async for row in rows:
            yield csv_line(row)

    return csv_stream(name, lines())


def csv_stream(name: str, lines: AsyncIterator[str]) -> ResponseStream:
    """A download named ``name``.csv of what is CSV already."""

    async def stream(response: Any) -> None:
        waiting = ""
        async for line in lines:
            waiting += line
            if len(waiting) >= _BYTES_AT_ONCE:
                await response.write(waiting)
                waiting = ""
        if waiting:
            await response.write(waiting)

    return ResponseStream(stream, headers=attached(f"{name}.csv"), content_type="text/csv; charset=utf-8")


def attached(name: str) -> dict[str, str]:
    """The headers of a file to keep, never to show."""
    return {
        "content-disposition": f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]+", "-", name)}"',
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }
