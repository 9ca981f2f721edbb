"""CSV as spreadsheets read it (RFC 4180), with texts that would be taken for formulas defused by an apostrophe."""

import csv
import io
from collections.abc import Iterable

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Exact:
    """A number that is written digit by digit, and is no formula whatever it begins with."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


def csv_line(cells: Iterable[object]) -> str:
    """One line with its end. None is an empty cell, booleans are ``yes`` and ``no``; numbers are never touched."""
    out = io.StringIO()
    csv.writer(out).writerow([_cell(cell) for cell in cells])
    return out.getvalue()


def _cell(cell: object) -> object:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, str) and cell.startswith(_FORMULA):
        return f"'{cell}"
    return cell
