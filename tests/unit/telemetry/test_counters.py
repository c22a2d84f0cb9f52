"""Counters of one process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from celery_tasker_events.telemetry.counters import Counters, Series


def test_each_series_is_counted_on_its_own() -> None:
    counters = Counters()

    counters.add("published", "a.b", "shop", "durable")
    counters.add("published", "a.b", "shop", "durable", amount=2)
    counters.add("published", "a.b", "other", "durable")
    counters.add("failed", "a.b", "shop", "schema")

    assert counters.snapshot() == {
        Series("published", "a.b", "shop", "durable"): 3,
        Series("published", "a.b", "other", "durable"): 1,
        Series("failed", "a.b", "shop", "schema"): 1,
    }
    assert counters.total("published") == 4
    assert counters.total("dropped") == 0


def test_a_snapshot_does_not_change_any_more() -> None:
    counters = Counters()
    snapshot = counters.snapshot()

    counters.add("failed", "a.b", "shop")

    assert snapshot == {}


def test_no_count_is_lost_between_threads() -> None:
    counters = Counters()

    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(lambda: [counters.add("published", "a.b", "shop") for _ in range(1000)])

    assert counters.total("published") == 8000
