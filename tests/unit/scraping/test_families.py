"""Sums as Prometheus metrics: names, labels with any text in them, and a scrape that fails rather than tells zeros."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from celery_tasker_events.durable.spool.report import SpoolTotals
from celery_tasker_events.scraping.families import WorkerCollector
from celery_tasker_events.telemetry.board import Reading
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.durations import BOUNDS_MS, TimedTrail
from celery_tasker_events.telemetry.sheet import Sheet
from celery_tasker_events.telemetry.tally import Tally
from celery_tasker_events.telemetry.totals import EventSeries, Totals
from celery_tasker_events.telemetry.trail import NO_TRAIL

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def served(
    sheet: Sheet, spools: Iterable[tuple[str, SpoolTotals | None]] = (), declared: list[EventSeries] | None = None
) -> Samples:
    """All samples as a reader of the text finds them, by name and labels."""
    registry = CollectorRegistry()
    totals = Totals.of(Reading.of_one(sheet.values()), is_complete=True)
    registry.register(WorkerCollector(lambda: totals, lambda: spools, declared or []))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def labels(**values: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(values.items()))


@pytest.mark.parametrize("text", ['a "quoted" one', "back\\slash", "two\nlines", "späte Störung", ""])
def test_any_text_survives_in_a_label(text: str) -> None:
    sheet = Sheet()
    Counters(sheet).add("dropped", "a.b", "n", text, mode="durable")

    samples = served(sheet)

    key = labels(event_name="a.b", namespace="n", delivery_mode="durable", reason=text)
    assert samples["tasker_domain_events_dropped_total", key] == 1


def test_a_declared_event_is_zero_until_it_is_counted() -> None:
    sheet = Sheet()
    declared = [EventSeries("published", name, "n", "durable", "") for name in ("a.b", "c.d")]
    Counters(sheet).add("published", "a.b", "n", "durable", 5)

    samples = served(sheet, declared=declared)

    name = "tasker_domain_events_published_total"
    assert samples[name, labels(event_name="a.b", namespace="n", delivery_mode="durable")] == 5
    assert samples[name, labels(event_name="c.d", namespace="n", delivery_mode="durable")] == 0


def test_durations_fall_into_the_bucket_of_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = Sheet()
    monkeypatch.setattr("celery_tasker_events.telemetry.durations.time.time", lambda: 1000.0)
    fields = {"event_name": "a.b", "namespace": "n", "delivery_mode": "durable"}
    for milliseconds in (0.5, 1.5, 30, 30, 100_000):
        TimedTrail(NO_TRAIL, sheet, fields, 1000.0 - milliseconds / 1000).published(1)

    samples = served(sheet)

    name = "tasker_domain_event_publish_duration_milliseconds"
    buckets = {dict(key)["le"]: value for (sample, key), value in samples.items() if sample == f"{name}_bucket"}
    assert len(buckets) == len(BOUNDS_MS)
    assert (buckets["1.0"], buckets["2.5"], buckets["25.0"], buckets["50.0"]) == (1, 2, 2, 4)
    assert (buckets["60000.0"], buckets["+Inf"]) == (4, 5)
    assert samples[f"{name}_count", labels(**fields)] == 5
    assert samples[f"{name}_sum", labels(**fields)] == pytest.approx(100_062)


def test_a_clock_that_was_set_back_makes_no_negative_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = Sheet()
    monkeypatch.setattr("celery_tasker_events.telemetry.durations.time.time", lambda: 1000.0)
    fields = {"event_name": "a.b", "namespace": "n", "delivery_mode": "durable"}
    TimedTrail(NO_TRAIL, sheet, fields, 2000.0).published(1)

    assert served(sheet)["tasker_domain_event_publish_duration_milliseconds_sum", labels(**fields)] == 0


def test_a_spool_that_can_not_be_read_has_no_series_and_an_empty_one_has_zeros() -> None:
    samples = served(Sheet(), [("dbname=a", SpoolTotals(0, 0, None)), ("dbname=b", None)])

    for name in ("spool_events", "spool_bytes", "spool_oldest_age_seconds"):
        assert samples[f"tasker_domain_events_{name}", labels(database="dbname=a")] == 0
    assert not [key for key in samples if ("database", "dbname=b") in key[1]]


def test_a_scrape_fails_where_the_counts_can_not_be_read() -> None:
    def unreadable() -> Totals:
        raise BlockingIOError("the counts did not keep still")

    registry = CollectorRegistry()
    registry.register(WorkerCollector(unreadable, list))

    with pytest.raises(BlockingIOError):
        generate_latest(registry)


def test_what_is_counted_when_it_is_frozen_is_told_on() -> None:
    tally = Tally()
    Counters(tally.sheet).add("published", "a.b", "n", "durable", 5)
    registry = CollectorRegistry()
    collector = WorkerCollector(tally.totals, list)
    registry.register(collector)

    collector.freeze()
    tally.after_fork_in_child()  # where it counts is gone

    name, fields = "tasker_domain_events_published_total", {"event_name": "a.b", "namespace": "n", "delivery_mode": "durable"}
    assert [registry.get_sample_value(name, fields) for _ in range(2)] == [5, 5]


def test_what_can_not_be_read_when_it_is_frozen_is_no_zero_later() -> None:
    readings = iter([OSError("the counts did not keep still"), Totals.of(Reading({}, ()), is_complete=False)])

    def read() -> Totals:
        reading = next(readings)
        if isinstance(reading, OSError):
            raise reading
        return reading

    collector = WorkerCollector(read, list)
    collector.freeze()

    with pytest.raises(OSError, match="did not keep still"):
        collector.collect()
