"""Counters of one process."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import celery_tasker_events
from celery_tasker_events.telemetry.counters import NAMES, Counters, Series


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


def test_every_counter_that_the_package_adds_to_is_a_metric_and_in_a_workers_answer() -> None:
    package = Path(celery_tasker_events.__file__).parent
    text = "".join(path.read_text() for path in package.rglob("*.py"))
    counted = set(re.findall(r"(?:counters\.add|_count)\(\s*\"(\w+)\"", text))

    assert counted >= {"dropped", "failed", "skipped", "spooled"}
    assert counted <= set(NAMES)
