"""Draws one workflow's events as a timeline: when each fired, and a bar for the time that its step took."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from celery_tasker_events.cli.table import as_table
from celery_tasker_events.consumer.entry import Entry, span_of
from celery_tasker_events.consumer.printable import NONE, event_name_of, shown, utc

__all__ = ["as_timeline"]

#: Columns of the widest and the narrowest drawing beside the table.
WIDEST, NARROWEST = 40, 12

#: Characters of an error that are shown; ``show`` and JSON have all.
ERROR_LENGTH = 60


def as_timeline(entries: Sequence[Entry], width: int | None) -> str:
    """Lay out entries below a headline: one line each, with a bar beside it, or below it where there is no room.

    Args:
        width: Columns of the terminal; None: no limit.
    """
    rows = [_row(entry, span_of(entries)[0]) for entry in entries]
    if all(row["ERROR"] == NONE for row in rows):
        for row in rows:
            del row["ERROR"]
    return f"{_headline(entries)}\n{_drawn(entries, rows, width)}"


def _drawn(entries: Sequence[Entry], rows: Sequence[dict[str, str]], width: int | None) -> str:
    table = as_table(rows, None)
    table_width = max(map(len, table.splitlines()))
    room = WIDEST if width is None else min(WIDEST, width - table_width - 2)
    if room >= NARROWEST:
        # A heading as wide as the drawing keeps the column of the errors, which comes last, in its place.
        heading = f"{'TIMELINE':<{room}}"
        return as_table([_beside(row, heading, bar) for row, bar in zip(rows, _bars(entries, room), strict=True)], width)
    assert width is not None
    if table_width <= width:
        heading, *lines = table.splitlines()
        below = (f"{line}\n{bar}" for line, bar in zip(lines, _bars(entries, width), strict=True))
        return "\n".join([heading, *below])
    room = max(width - len("NAMESPACE") - 2, NARROWEST)
    return as_table([_beside(row, "TIMELINE", bar) for row, bar in zip(rows, _bars(entries, room), strict=True)], width)


def _beside(row: dict[str, str], heading: str, bar: str) -> dict[str, str]:
    error = {key: value for key, value in row.items() if key == "ERROR"}
    return {**{key: value for key, value in row.items() if key != "ERROR"}, heading: bar, **error}


def _headline(entries: Sequence[Entry]) -> str:
    start, end = span_of(entries)
    steps = {entry.outline.step_uuid for entry in entries if entry.outline.step_uuid is not None}
    namespaces = {entry.outline.namespace or entry.queue for entry in entries}
    counts = ((len(entries), "event"), (len(steps), "step"), (len(namespaces), "namespace"))
    events, steps_, namespaces_ = (f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)
    return f"{events} of {steps_} in {namespaces_}, {(end - start).total_seconds():.3f} s from {utc(start)}"


def _row(entry: Entry, start: datetime.datetime) -> dict[str, str]:
    outline = entry.outline
    duration = outline.execution_time_ms
    outcome = outline.outcome if outline.failed_stage is None else f"{outline.outcome}: {outline.failed_stage}"
    return {
        "AT": f"+{(entry.moment - start).total_seconds():.3f} s",
        "NAMESPACE": shown(outline.namespace or entry.queue),
        "STEP": shown(outline.step_name),
        "EVENT": event_name_of(entry),
        "OUTCOME": shown(outcome),
        "TRY": shown(outline.attempt),
        "TOOK": NONE if duration is None else f"{duration:.0f} ms",
        "ERROR": _error(entry),
    }


def _error(entry: Entry) -> str:
    outline = entry.outline
    parts = [part for part in (outline.error_type, outline.error, entry.problem) if part is not None]
    text = shown(": ".join(parts) or None)
    return text if len(text) <= ERROR_LENGTH else f"{text[: ERROR_LENGTH - 1]}…"


def _bars(entries: Sequence[Entry], width: int) -> list[str]:
    start, end = span_of(entries)
    span = (end - start) or datetime.timedelta(seconds=1)
    bars = []
    for entry in entries:
        first, last = (min((moment - start) * width // span, width - 1) for moment in (entry.started_at, entry.moment))
        bars.append(" " * first + "█" * (last - first + 1))
    return bars
