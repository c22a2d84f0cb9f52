"""Timeline: one workflow's events as bars along one axis of time, over all namespaces."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from celery_tasker_events.console.rows import row_of
from celery_tasker_events.consumer import quantities
from celery_tasker_events.consumer.entry import Entry, span_of

__all__ = ["Bar", "Timeline", "timeline_of"]

#: The least width of a bar, in per mille of the axis.
LEAST = 6.0


@dataclass(frozen=True)
class Bar:
    """One event.

    Attributes:
        row: As in a list.
        offset: When it fired, after the workflow's start.
        took: How long its step took.
        left: Where the bar begins, in per mille of the axis.
        width: The same of its length.
    """

    row: dict[str, str]
    offset: str
    took: str
    attempt: int | None
    place: str
    left: float
    width: float


@dataclass(frozen=True)
class Timeline:
    """The whole story.

    Attributes:
        ticks: Labels along the axis, at equal distances, both ends included.
        failures: How many of its events tell of a failure, dead letters included.
    """

    bars: tuple[Bar, ...]
    start: datetime.datetime
    took: str
    steps: int
    namespaces: tuple[str, ...]
    failures: int
    ticks: tuple[str, ...]
    has_archived: bool


def timeline_of(entries: Sequence[Entry]) -> Timeline:
    """Lay out entries, of which there is at least one, in the order in which they fired."""
    start, end = span_of(entries)
    span = (end - start).total_seconds()
    bars = tuple(_bar(entry, start, span) for entry in entries)
    return Timeline(
        bars,
        start,
        quantities.precise(span),
        len({entry.outline.step_uuid for entry in entries if entry.outline.step_uuid is not None}),
        tuple(dict.fromkeys(bar.row["namespace"] for bar in bars)),
        sum(bar.row["tone"] in ("bad", "warn") for bar in bars),
        tuple(quantities.precise(span * part / 4) for part in range(5)),
        any(entry.archived_at is not None for entry in entries),
    )


def _bar(entry: Entry, start: datetime.datetime, span: float) -> Bar:
    first, last = ((moment - start).total_seconds() / (span or 1.0) * 1000 for moment in (entry.started_at, entry.moment))
    width = max(last - first, LEAST)
    duration = entry.outline.execution_time_ms
    return Bar(
        row_of(entry),
        f"+{quantities.precise((entry.moment - start).total_seconds())}",
        quantities.precise(None if duration is None else duration / 1000),
        entry.outline.attempt,
        entry.queue if entry.archived_at is None else f"{entry.queue}, archived",
        round(min(first, 1000 - width), 1),
        round(min(width, 1000), 1),
    )
