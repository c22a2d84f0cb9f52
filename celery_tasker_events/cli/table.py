"""A plain text table that never cuts a value: where a terminal is too narrow for it, it becomes a list."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence

__all__ = ["as_table", "terminal_width"]


def terminal_width() -> int | None:
    """Columns of the terminal that standard output goes to; None where it goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def as_table(rows: Sequence[Mapping[str, str]], width: int | None) -> str:
    """Lay out rows that all have the same keys, which become the headings.

    Args:
        width: Columns of the terminal; None: no limit.
    """
    if not rows:
        return ""
    headings = list(rows[0])
    widths = [max(_width(heading), *(_width(row[heading]) for row in rows)) for heading in headings]
    if width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
        return _as_list(rows, headings)
    lines = [headings, *([row[heading] for heading in headings] for row in rows)]
    return "\n".join("  ".join(map(_padded, line, widths)).rstrip() for line in lines)


def _as_list(rows: Sequence[Mapping[str, str]], headings: Sequence[str]) -> str:
    widest = max(map(_width, headings))
    return "\n\n".join("\n".join(f"{_padded(heading, widest)}  {row[heading]}" for heading in headings) for row in rows)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Columns that a terminal needs: two for a wide character, none for one that is drawn over another."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)
