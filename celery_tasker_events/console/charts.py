"""Charts: a series over time as the parts of a small SVG, with what it says in words."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from celery_tasker_events.consumer import quantities
from celery_tasker_events.consumer.sampling import QueueSample, Sample

__all__ = ["CHARTS", "Chart", "QueueCharts", "charts_of", "line_chart"]

#: The drawing's size, in the units of its view box, and the room for the labels in it.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 320, 132, 44, 8, 8, 20

#: Points of a line, and rows of its table, at most.
POINTS, ROWS = 160, 12

#: Round times, in seconds, for the top of an axis.
_TIMES = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18_000, 43_200, 86_400)

Point = tuple[datetime.datetime, float | None]


@dataclass(frozen=True)
class Chart:
    """One line.

    Attributes:
        lines: Points of polylines; more than one where samples are missing in between.
        areas: The same, closed along the axis.
        grid: Heights of the grid's lines, each with its label, which may be empty.
        times: Places of the labels along the axis of time.
        now: The last value as text.
        description: What the line does, in words.
        rows: Moments and values as text, for a table.
    """

    name: str
    title: str
    now: str
    description: str
    lines: tuple[str, ...]
    areas: tuple[str, ...]
    grid: tuple[tuple[float, str], ...]
    times: tuple[tuple[float, str, str], ...]
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class QueueCharts:
    """A queue as it is now, and its charts."""

    sample: QueueSample
    charts: tuple[Chart, ...]


#: What is drawn of each queue: a name, a title, how the value is had, and how it is told.
CHARTS: tuple[tuple[str, str, Callable[[QueueSample], float | None], Callable[[float | None], str]], ...] = (
    ("depth", "Queue depth", lambda queue: queue.state.length.number, quantities.quantity),
    ("age", "Age of the oldest", lambda queue: queue.oldest_age or 0.0, quantities.duration),
    ("rate", "Publish rate", lambda queue: queue.rate, quantities.rate),
    (
        "dead",
        "Dead letters",
        lambda queue: queue.state.dead_letters.number if queue.state.dead_letters else 0,
        quantities.quantity,
    ),
)


def charts_of(samples: Sequence[Sample]) -> list[QueueCharts]:
    """Return the queues of the last sample, each with its charts over all samples."""
    if not samples:
        return []
    by_time = [(sample.at, {queue.state.queue.name: queue for queue in sample.queues}) for sample in samples]
    found = []
    for now in samples[-1].queues:
        history = [(at, queues.get(now.state.queue.name)) for at, queues in by_time]
        charts = tuple(
            line_chart(name, title, [(at, None if queue is None else value(queue)) for at, queue in history], told)
            for name, title, value, told in CHARTS
        )
        found.append(QueueCharts(now, charts))
    return found


def line_chart(name: str, title: str, points: Sequence[Point], told: Callable[[float | None], str]) -> Chart:
    """Draw points, of which there is at least one, the oldest first.

    Args:
        told: Makes text of a value.
    """
    known = [value for _, value in points if value is not None]
    top = (_nice_time if told is quantities.duration else _nice)(max(known, default=0.0))
    start, end = points[0][0], points[-1][0]
    span = (end - start).total_seconds() or 1.0

    def place(point: tuple[datetime.datetime, float]) -> str:
        x = LEFT + (point[0] - start).total_seconds() / span * (WIDTH - LEFT - RIGHT)
        y = TOP + (1 - point[1] / top) * (HEIGHT - TOP - BOTTOM)
        return f"{x:.1f},{y:.1f}"

    runs = _runs(_thinned(points))
    floor = HEIGHT - BOTTOM
    lines = tuple(" ".join(map(place, run)) for run in runs)
    areas = tuple(
        f"{places.split(',')[0]},{floor} {places} {places.split(' ')[-1].split(',')[0]},{floor}"
        for places, run in zip(lines, runs, strict=True)
        if len(run) > 1
    )
    last = points[-1][1]
    return Chart(
        name,
        title,
        told(last),
        _described(title, known, last, end - start, told),
        lines,
        areas,
        ((floor, told(0.0)), ((TOP + floor) / 2, ""), (TOP, told(top))),
        ((LEFT, "start", f"{start:%H:%M:%S}"), (WIDTH - RIGHT, "end", f"{end:%H:%M:%S}")),
        tuple((f"{at:%H:%M:%S}", told(value)) for at, value in points[:: -max(1, math.ceil(len(points) / ROWS))]),
    )


def _described(
    title: str, known: Sequence[float], last: float | None, span: datetime.timedelta, told: Callable[[float | None], str]
) -> str:
    if not known:
        return f"{title}: nothing is known yet."
    over = quantities.duration(span.total_seconds())
    return f"{title} over {over}: now {told(last)}, lowest {told(min(known))}, highest {told(max(known))}."


def _nice(value: float) -> float:
    """The next round number, for the top of an axis."""
    if value <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(value))
    return next(step * size for step in (1, 2, 4, 5, 10) if step * size >= value * (1 - 1e-9))


def _nice_time(seconds: float) -> float:
    days = 86_400.0 * _nice(seconds / 86_400)
    return next((float(time) for time in _TIMES if time >= seconds), days)


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """No more points than can be told apart: of each bundle the highest, so that no peak is lost; the last as it is."""
    if len(points) <= POINTS:
        return points
    size = math.ceil(len(points) / POINTS)
    bundles = [points[at : at + size] for at in range(0, len(points) - 1, size)]
    return [*(max(bundle, key=lambda point: -1.0 if point[1] is None else point[1]) for bundle in bundles), points[-1]]


def _runs(points: Sequence[Point]) -> list[list[tuple[datetime.datetime, float]]]:
    """The stretches without a gap."""
    runs: list[list[tuple[datetime.datetime, float]]] = [[]]
    for at, value in points:
        if value is not None:
            runs[-1].append((at, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
