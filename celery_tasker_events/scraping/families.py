"""The sums over a worker as Prometheus metrics. Nothing imports this file unless a port is set."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from celery_tasker_events.durable.spool.report import SpoolTotals
from celery_tasker_events.forking import ForkLock
from celery_tasker_events.telemetry.counters import COUNTERS
from celery_tasker_events.telemetry.durations import BOUNDS_MS, Durations
from celery_tasker_events.telemetry.gauge import ConnectionState
from celery_tasker_events.telemetry.totals import EventSeries, Totals

__all__ = ["Spools", "WorkerCollector"]

_PREFIX = "tasker_domain_events"

#: The counters whose series tell a reason.
_WITH_REASON = frozenset({"failed", "dropped", "skipped"})

#: Reads the spool of each database, by its DSN without secrets; None for one that can't be read now.
Spools = Callable[[], Iterable[tuple[str, SpoolTotals | None]]]


class WorkerCollector(Collector):
    """Collects what all processes of a worker have counted, anew for each scrape.

    Args:
        totals: Returns the sums. It may raise OSError: then the scrape fails, as zeros would be taken for a restart.
        declared: Series that are told before their first event, so that this is seen as an increase.
    """

    def __init__(self, totals: Callable[[], Totals], spools: Spools, declared: Sequence[EventSeries] = ()) -> None:
        self._totals = totals
        self._spools = spools
        self._declared = declared
        # SQLite's own locks must be whole in a child that is forked meanwhile.
        self._lock = ForkLock()

    def freeze(self) -> None:
        """Tell from now on what is counted by now: a scrape that has begun may outlive the place where it is counted."""
        with self._lock:
            try:
                last = self._totals()
            except OSError as error:
                self._totals = functools.partial(_refuse, error)
            else:
                self._totals = lambda: last

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            totals = self._totals()
            spools = list(self._spools())
        return [*self._counters(totals), _durations(totals), _calls(totals), *_gauges(totals), *_spool_gauges(spools)]

    def _counters(self, totals: Totals) -> Iterator[Metric]:
        counts = {**dict.fromkeys(self._declared, 0), **totals.events}
        for name, description in COUNTERS.items():
            has_reason = name in _WITH_REASON
            labels = ["event_name", "namespace", "delivery_mode", *(["reason"] if has_reason else [])]
            family = CounterMetricFamily(f"{_PREFIX}_{name}", description, labels=labels)
            for series, count in sorted(counts.items()):
                if series.name == name:
                    values = [series.event_name, series.namespace, series.delivery_mode]
                    family.add_metric([*values, series.reason] if has_reason else values, count)
            yield family


def _durations(totals: Totals) -> Metric:
    family = HistogramMetricFamily(
        "tasker_domain_event_publish_duration_milliseconds",
        "Time from a step's outcome to the commit of its event",
        labels=["event_name", "namespace", "delivery_mode"],
    )
    for series, durations in sorted(totals.durations.items()):
        family.add_metric(series, buckets=_buckets(durations), sum_value=durations.sum_ms)
    return family


def _buckets(durations: Durations) -> list[tuple[str, float]]:
    bounds = ["+Inf" if math.isinf(bound) else str(float(bound)) for bound in BOUNDS_MS]
    return list(zip(bounds, map(float, itertools.accumulate(durations.counts)), strict=True))


def _calls(totals: Totals) -> Metric:
    family = CounterMetricFamily(
        f"{_PREFIX}_subscriber_calls", "Calls of in-process subscribers", labels=["subscriber", "result"]
    )
    for (subscriber, result), count in sorted(totals.calls.items()):
        family.add_metric([subscriber, result], count)
    return family


def _gauges(totals: Totals) -> Iterator[Metric]:
    depth = GaugeMetricFamily(f"{_PREFIX}_channel_depth", "Items that wait in the buffers of a worker", labels=["channel"])
    for channel, count in totals.depths.items():
        depth.add_metric([channel], count)
    yield depth
    connections = GaugeMetricFamily(
        f"{_PREFIX}_connections", "Processes by how their last attempt to reach Postgres went", labels=["state"]
    )
    for state in ConnectionState:
        connections.add_metric([state.name.lower()], totals.connections[state])
    yield connections
    yield GaugeMetricFamily(f"{_PREFIX}_processes", "Processes of the worker that have had an event", totals.processes)
    yield GaugeMetricFamily(
        f"{_PREFIX}_counts_complete", "1 if the counts are those of all processes of the worker", int(totals.is_complete)
    )


def _refuse(error: OSError) -> Totals:
    raise error


class _SpoolGauge(NamedTuple):
    name: str
    description: str
    read: Callable[[SpoolTotals], float]


_SPOOL_GAUGES = (
    _SpoolGauge("spool_events", "Durable events of this host that wait on disk", lambda spool: spool.events),
    _SpoolGauge("spool_bytes", "Size of the durable events of this host that wait on disk", lambda spool: spool.bytes or 0),
    _SpoolGauge(
        "spool_oldest_age_seconds",
        "How long the oldest durable event of this host has waited on disk; 0 if none waits",
        lambda spool: 0.0 if spool.oldest is None else max(0.0, time.time() - spool.oldest),
    ),
)


def _spool_gauges(spools: Sequence[tuple[str, SpoolTotals | None]]) -> Iterator[Metric]:
    for gauge in _SPOOL_GAUGES:
        family = GaugeMetricFamily(f"{_PREFIX}_{gauge.name}", gauge.description, labels=["database"])
        for database, spool in spools:
            if spool is not None:
                family.add_metric([database], gauge.read(spool))
        yield family
