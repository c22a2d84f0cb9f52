"""How long events take from their outcome to their commit: a histogram on the sheet, for the sums over all processes."""

from __future__ import annotations

import bisect
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from celery_tasker_events.telemetry.sheet import Key, Sheet
from celery_tasker_events.telemetry.trail import Trail

__all__ = ["BOUNDS_MS", "DURATION", "DurationSeries", "Durations", "TimedTrail", "durations_of"]

#: First part of a sheet's key. Then come event, namespace, delivery mode and the bucket's upper bound, or ``_SUM``.
DURATION = "duration"

#: Upper bounds of the buckets, inclusive, in milliseconds; one more has no bound.
BOUNDS_MS: tuple[float, ...] = (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000, float("inf"))

_BUCKETS = tuple(f"{bound:g}" for bound in BOUNDS_MS)
_SUM = "sum"


class DurationSeries(NamedTuple):
    event_name: str
    namespace: str
    delivery_mode: str


class Durations(NamedTuple):
    """A histogram.

    Attributes:
        counts: How many fell into each bucket, in the order of :data:`BOUNDS_MS`.
        sum_ms: All together, in milliseconds.
    """

    counts: tuple[int, ...]
    sum_ms: float


class TimedTrail(Trail):
    """Writes down how long an event took, and hands everything on to another trail.

    Args:
        fields: Its log fields.
        fired_at: POSIX timestamp in seconds of its outcome.
    """

    def __init__(self, trail: Trail, sheet: Sheet, fields: Mapping[str, Any], fired_at: float) -> None:
        self._trail = trail
        self._sheet = sheet
        self._fields = fields
        self._fired_at = fired_at
        self.traceparent = trail.traceparent

    def published(self, message_id: int | None = None) -> None:
        # A clock that was set back in the meantime makes no negative duration.
        milliseconds = max(0.0, (time.time() - self._fired_at) * 1000)
        series = (DURATION, self._fields["event_name"], self._fields["namespace"], self._fields["delivery_mode"])
        self._sheet.add((*series, _BUCKETS[bisect.bisect_left(BOUNDS_MS, milliseconds)]))
        self._sheet.add((*series, _SUM), round(milliseconds * 1000))
        self._trail.published(message_id)

    def spooled(self) -> None:
        self._trail.spooled()

    def failed(self, stage: str, error: BaseException | None = None) -> None:
        self._trail.failed(stage, error)


def durations_of(counts: Mapping[Key, int]) -> dict[DurationSeries, Durations]:
    """Return the histograms among the counts of sheets."""
    found: dict[DurationSeries, dict[str, int]] = {}
    for key, count in counts.items():
        if key[0] == DURATION:
            _, event_name, namespace, mode, part = key
            found.setdefault(DurationSeries(event_name, namespace, mode), {})[part] = count
    return {
        series: Durations(tuple(parts.get(bucket, 0) for bucket in _BUCKETS), parts.get(_SUM, 0) / 1000)
        for series, parts in found.items()
    }
