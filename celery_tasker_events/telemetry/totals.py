"""The sums over all processes of a worker: what its processes wrote on their sheets, in the words of telemetry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from celery_tasker_events.telemetry.board import Reading
from celery_tasker_events.telemetry.counters import BY_MODE, CALL, EVENT
from celery_tasker_events.telemetry.durations import Durations, DurationSeries, durations_of
from celery_tasker_events.telemetry.gauge import ConnectionState
from celery_tasker_events.telemetry.sheet import Key

__all__ = ["CHANNELS", "CONNECTION", "DEPTH", "EventSeries", "Totals"]

#: Keys of gauges: that of a buffer's depth goes on with the buffer's name.
DEPTH = "depth"
CONNECTION = "connection"

#: The buffers of a process, in the order in which an event passes through them.
CHANNELS = ("command", "durable", "broadcast")


class EventSeries(NamedTuple):
    """A counter and what tells its series apart.

    Attributes:
        name: As in :class:`~celery_tasker_events.telemetry.counters.Series`.
        delivery_mode: Empty where the counting part did not know it.
        reason: Why it failed, was dropped or skipped; empty for the others.
    """

    name: str
    event_name: str
    namespace: str
    delivery_mode: str
    reason: str


@dataclass(frozen=True)
class Totals:
    """Sums over all processes of a worker.

    Attributes:
        events: How often each thing happened to each event, in processes that have ended too.
        calls: How many calls of each subscriber ended how, by its name and ``CallResult``; likewise.
        depths: How many items wait in the buffers of the processes that live, by channel.
        durations: How long published events took, in processes that have ended too; only where metrics are served.
        connections: How many of the processes that live reached Postgres last time, did not, or had no need to.
        is_complete: False if this is one process alone: outside a worker, or where its processes have no place in common.
    """

    events: Mapping[EventSeries, int]
    calls: Mapping[tuple[str, str], int]
    depths: Mapping[str, int]
    connections: Mapping[ConnectionState, int]
    is_complete: bool
    durations: Mapping[DurationSeries, Durations] = field(default_factory=dict)

    @classmethod
    def of(cls, reading: Reading, *, is_complete: bool) -> Totals:
        events: Counter[EventSeries] = Counter()
        calls: Counter[tuple[str, str]] = Counter()
        for key, count in reading.counts.items():
            if key[0] == EVENT:
                events[_event_series(key)] += count
            elif key[0] == CALL:
                _, subscriber, result = key
                calls[subscriber, result] += count
        depths, connections = _gauges(reading.gauges)
        return cls(events, calls, depths, connections, is_complete, durations_of(reading.counts))

    @property
    def processes(self) -> int:
        """How many processes live that have had an event."""
        return sum(self.connections.values())


def _event_series(key: Key) -> EventSeries:
    _, name, event_name, namespace, reason, mode = key
    if name in BY_MODE:
        return EventSeries(name, event_name, namespace, mode or reason, "")
    return EventSeries(name, event_name, namespace, mode, reason)


def _gauges(processes: Iterable[Mapping[Key, int]]) -> tuple[dict[str, int], dict[ConnectionState, int]]:
    depths = dict.fromkeys(CHANNELS, 0)
    connections = dict.fromkeys(ConnectionState, 0)
    for gauges in processes:
        connection = ConnectionState.UNUSED
        for (_, kind, *rest), value in gauges.items():
            if kind == DEPTH:
                depths[rest[0]] = depths.get(rest[0], 0) + value
            elif kind == CONNECTION:
                connection = ConnectionState(value)
        connections[connection] += 1
    return depths, connections
