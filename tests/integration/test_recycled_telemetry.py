"""A prefork child that is recycled loses no span and no metric: they are flushed within the drain's deadline."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from queues import messages
from worker_process import wait_until

TASKS = 11


def run(shop, dsn, tmp_path, task, *arguments, pool="prefork", exporter="", **settings):
    exports = tmp_path / "exports.jsonl"
    environment = {"TRACED_EXPORTS": str(exports), "RECYCLED_EXPORTER": exporter}
    worker = shop.start("--max-tasks-per-child", "1", app="recycled", environment=environment, dsn=dsn, pool=pool, **settings)
    for result in [shop.send(task, *arguments) for _ in range(TASKS)]:
        result.get(timeout=120)
    assert worker.stop() == 0
    lines = [json.loads(line) for line in exports.read_text().splitlines()] if exports.exists() else []
    return worker, [line for line in lines if "kind" in line], [line for line in lines if "resource_metrics" in line]


def test_every_span_of_children_that_do_one_task_each_is_exported(shop, dsn, tmp_path):
    _, spans, _ = run(shop, dsn, tmp_path, "pay", 1)

    assert Counter(span["name"] for span in spans) == {"run/shop.pay": TASKS, "publish payment.processed": TASKS}
    published = {span["parent_id"] for span in spans if span["name"].startswith("publish")}
    assert published == {span["context"]["span_id"] for span in spans if span["name"].startswith("run")}
    assert len({span["context"]["trace_id"] for span in spans}) == TASKS


def test_every_count_of_such_children_is_exported(shop, dsn, tmp_path):
    _, _, metrics = run(shop, dsn, tmp_path, "pay", 1)

    published = [
        point["value"]
        for line in metrics
        for scope in line["resource_metrics"][0]["scope_metrics"]
        for metric in scope["metrics"]
        if metric["name"] == "tasker.domain_events.published.total"
        for point in metric["data"]["data_points"]
    ]
    assert published == [1] * TASKS


def test_the_spans_of_tasks_without_events_are_exported_too(shop, dsn, tmp_path):
    _, spans, _ = run(shop, dsn, tmp_path, "silent")

    assert Counter(span["name"] for span in spans) == {"run/shop.silent": TASKS}


@pytest.mark.parametrize(
    ("exporter", "told"),
    [
        ("hanging", "could not be flushed, spans or metrics may be lost: TimeoutError"),
        ("raising", "ConnectionError: no collector"),
    ],
)
def test_an_exporter_that_is_broken_costs_no_event_and_holds_no_child_for_longer_than_the_drain(
    shop, dsn, tmp_path, exporter, told
):
    worker, spans, _ = run(shop, dsn, tmp_path, "pay", 1, exporter=exporter, shutdown_drain_timeout_ms=500)

    assert spans == []
    assert told in worker.log
    wait_until(lambda: len(messages(dsn, "payments")) == TASKS, "all are published")
