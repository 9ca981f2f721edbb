"""Downloads of lists as CSV, sent as they are read. How a line is written is ``operations.csv_text``'s."""

import re
from collections.abc import AsyncIterator, Iterable
from typing import Any

from sanic.response import ResponseStream

from dwctl.operations.csv_text import csv_line

_BYTES_AT_ONCE = 32 * 1024


def csv_download(name: str, head: Iterable[str], rows: AsyncIterator[Iterable[object]]) -> ResponseStream:
    """A download named ``name``.csv: a line of heads, then a line a row."""

    async def stream(response: Any) -> None:
        waiting = csv_line(head)
        async for row in rows:
            waiting += csv_line(row)
            if len(waiting) >= _BYTES_AT_ONCE:
                await response.write(waiting)
                waiting = ""
        if waiting:
            await response.write(waiting)

    headers = {
        "content-disposition": f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]+", "-", name)}.csv"',
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }
    return ResponseStream(stream, headers=headers, content_type="text/csv; charset=utf-8")
