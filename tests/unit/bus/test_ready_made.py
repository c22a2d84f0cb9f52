"""The subscribers that come with the package: one logs, one counts."""

from __future__ import annotations

import datetime
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from celery_tasker_events.bus.logging_subscriber import LoggingSubscriber
from celery_tasker_events.bus.metrics_subscriber import EventMetrics, MetricsSubscriber
from celery_tasker_events.event import ExecutionResult

from ..making import CARD_DECLINED, make_event, make_metadata
from .bench import LONG, Bench, exit_code_of_a_forked_child

FAILED = ExecutionResult(success=False, status="failed", error=CARD_DECLINED)

FIELDS = {
    "event_name": "payment.processed",
    "event_id": make_event().event_id,
    "task_uuid": "root-1",
    "step_name": "process_payment",
    "namespace": "payments",
    "correlation_id": "root-1",
}


def test_the_logging_subscriber_tells_what_came_in_text_and_fields(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.registry.register(LoggingSubscriber)

    with caplog.at_level(logging.INFO):
        bench.bus.publish(make_event())
        assert bench.bus.drain(LONG)

    [record] = caplog.records
    assert (record.name, record.levelno) == ("celery_tasker_events.subscriber", logging.INFO)
    assert record.getMessage() == "Domain event received: " + " ".join(f"{name}={value}" for name, value in FIELDS.items())
    assert {name: record.__dict__[name] for name in FIELDS} == FIELDS


def test_logger_level_prefix_and_patterns_are_the_users(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.registry.register(LoggingSubscriber(logger="shop", level="warning", prefix="[PAYMENT]", subscribes_to="payment.*"))
    bench.registry.register(LoggingSubscriber(logger=logging.getLogger("orders"), level=35, subscribes_to=["order.*"]))

    bench.bus.publish(make_event())
    bench.bus.publish(make_event("order.placed"))

    assert bench.bus.drain(LONG)
    payment, order = caplog.records
    assert (payment.name, payment.levelno, order.name, order.levelno) == ("shop", logging.WARNING, "orders", 35)
    assert payment.getMessage().startswith("[PAYMENT] Domain event received: event_name=payment.processed ")
    assert order.getMessage().startswith("Domain event received: event_name=order.placed ")


@pytest.mark.parametrize("level", ["LOUD", None, 1.5])
def test_an_unknown_level_is_refused(level: Any) -> None:
    with pytest.raises(ValueError, match=f"level must be a number or a name such as 'INFO', not {level!r}"):
        LoggingSubscriber(level=level)


def test_the_metrics_subscriber_counts_by_outcome_namespace_and_event(bench: Bench) -> None:
    metrics = MetricsSubscriber()
    bench.registry.register(metrics)
    assert metrics.snapshot() == EventMetrics()
    before = datetime.datetime.now(datetime.timezone.utc)

    bench.bus.publish(make_event())
    bench.bus.publish(make_event())
    bench.bus.publish(make_event("order.failed", metadata=make_metadata(namespace="orders"), execution_result=FAILED))

    assert bench.bus.drain(LONG)
    counted = metrics.snapshot()
    assert (counted.received, counted.success, counted.failure) == (3, 2, 1)
    assert counted.by_namespace == {"payments": 2, "orders": 1}
    assert counted.by_event == {"payment.processed": 2, "order.failed": 1}
    assert counted.last_event_at is not None
    assert before <= counted.last_event_at <= datetime.datetime.now(datetime.timezone.utc)


def test_a_reset_begins_at_zero_and_leaves_earlier_snapshots_alone() -> None:
    metrics = MetricsSubscriber()
    metrics.handle(make_event())
    counted = metrics.snapshot()

    metrics.reset()

    assert metrics.snapshot() == EventMetrics()
    assert counted.by_event == {"payment.processed": 1}


def test_no_count_is_lost_between_threads() -> None:
    metrics = MetricsSubscriber()

    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(lambda: [metrics.handle(make_event()) for _ in range(1000)])

    assert metrics.snapshot().by_event == {"payment.processed": 8000}


def test_a_forked_child_counts_for_itself_even_if_the_parent_was_counting_just_then() -> None:
    metrics = MetricsSubscriber()
    metrics.handle(make_event())

    def in_child() -> int:
        metrics.handle(make_event())
        return metrics.snapshot().received

    with metrics._lock:  # as a thread of the bus may hold it in the moment of a fork
        assert exit_code_of_a_forked_child(in_child) == 1
    assert metrics.snapshot().received == 1
