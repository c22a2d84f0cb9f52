"""Subscribers and streams as a user meets them: through DomainEvents, with tasks that run in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from celery_tasker_events import (
    BaseSubscriber,
    ConfigurationError,
    DomainEvent,
    DomainEvents,
    MetricsSubscriber,
    publishes_events,
)

from .bench import LONG

NewShop = Callable[..., tuple[Celery, DomainEvents]]


def make_pay(app: Celery) -> Any:
    @app.task(name="shop.pay")
    @publishes_events("payment.processed", namespace="payments", delivery_mode="fast")
    def pay(order: int) -> dict[str, int]:
        return {"order": order}

    return pay


@pytest.mark.parametrize("workers", [0, 2], ids=["always eager", "in threads"])
def test_a_thread_reads_a_stream_while_tasks_run(new_shop: NewShop, workers: int) -> None:
    app, events = new_shop(task_always_eager=True)
    pay = make_pay(app)
    got: list[Any] = []

    def read() -> None:
        for event in stream:
            got.append(event.payload["order"])

    stream = events.stream("payment.*")
    reader = threading.Thread(target=read)
    reader.start()
    if workers:
        threads = [threading.Thread(target=lambda: [pay.delay(order) for order in range(10)]) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
    else:
        for order in range(10):
            pay.delay(order)
    assert events.close(LONG)

    reader.join(LONG)
    assert not reader.is_alive()
    assert sorted(got) == sorted([*range(10)] * max(1, workers))


def test_a_web_process_reads_a_stream_asynchronously(new_shop: NewShop) -> None:
    app, events = new_shop(task_always_eager=True)
    pay = make_pay(app)

    async def main() -> list[Any]:
        got = []
        async with events.stream("payment.processed") as stream:
            pay.delay(1)
            events.publish("payment.flagged", {}, delivery_mode="fast")
            events.publish("payment.processed", {"order": 2}, delivery_mode="fast")
            async for event in stream:
                got.append(event.payload["order"])
                if len(got) == 2:
                    break
        return got

    assert asyncio.run(main()) == [1, 2]


def test_without_a_pattern_a_stream_has_every_event(new_shop: NewShop) -> None:
    _, events = new_shop()
    stream = events.stream()

    events.publish("a.b", 1, delivery_mode="fast")

    assert stream.get(timeout=LONG).event_name == "a.b"


def test_the_settings_reach_streams_and_subscribers(new_shop: NewShop) -> None:
    _, events = new_shop(tasker_events_broadcast_buffer_size=2, tasker_events_dispatch_timeout_ms=50)
    stream, large = events.stream("order.*"), events.stream("order.*", buffer_size=9)

    @events.subscribe("payment.*")
    async def hang(event: DomainEvent) -> None:
        await asyncio.sleep(LONG)

    for number in range(5):
        events.publish("order.placed", number, delivery_mode="fast")
    events.publish("payment.processed", {}, delivery_mode="fast")

    assert events.drain(LONG)
    assert (stream.lagged, large.lagged) == (3, 0)
    assert {(s.name, s.reason): n for s, n in events.counters().items()} == {
        ("dropped", "stream lagged"): 3,
        ("failed", "subscriber timeout"): 1,
    }


def test_streams_are_refused_where_they_are_switched_off(new_shop: NewShop) -> None:
    _, events = new_shop(tasker_events_ffi_integration_enabled=False)

    with pytest.raises(ConfigurationError, match="tasker_events_ffi_integration_enabled: event streams are switched off: set it"):
        events.stream("payment.*")


@pytest.mark.parametrize(("size", "times"), [(10, 1), (0, 2)])
def test_a_redelivered_task_reaches_a_subscriber_once(new_shop: NewShop, size: int, times: int) -> None:
    app, events = new_shop(tasker_events_deduplication_cache_size=size)
    pay = make_pay(app)
    got: list[DomainEvent] = []
    events.subscribe("*")(got.append)

    for _ in range(2):
        pay.apply(args=[1], task_id="task-1")
    pay.apply(args=[2], task_id="task-2")

    assert events.drain(LONG)
    assert [event.payload["order"] for event in got] == [1] * times + [2]


class Counting(BaseSubscriber):
    subscribes_to = ("payment.*", "order.*")

    def __init__(self) -> None:
        self.count = 0

    def handle(self, event: DomainEvent) -> None:
        self.count += 1


def test_a_class_is_registered_stopped_started_and_unsubscribed_while_tasks_run(new_shop: NewShop) -> None:
    app, events = new_shop()
    pay = make_pay(app)
    metrics = MetricsSubscriber()
    events.register_subscriber(metrics)

    def count_after_one_more() -> tuple[int, int]:
        pay.apply(args=[1])
        assert events.drain(LONG)
        return counting.count, metrics.snapshot().received

    counting = events.register_subscriber(Counting)
    assert isinstance(counting, Counting)
    assert count_after_one_more() == (1, 1)
    events.subscribers.stop_all()
    assert count_after_one_more() == (1, 1)
    events.subscribers.start_all()
    assert count_after_one_more() == (2, 2)
    assert events.unsubscribe(Counting) is True
    assert count_after_one_more() == (2, 3)
    assert events.unsubscribe(Counting) is False
    [statistics] = [s for s in events.subscribers.statistics() if s.name.endswith("MetricsSubscriber")]
    assert (statistics.received, statistics.handled) == (3, 3)


def test_a_function_is_unsubscribed_by_itself(new_shop: NewShop) -> None:
    _, events = new_shop()
    got: list[DomainEvent] = []
    events.subscribe("*")(got.append)

    assert events.unsubscribe(got.append) is True
    events.publish("a.b", 1, delivery_mode="fast")

    assert events.drain(LONG)
    assert got == []
