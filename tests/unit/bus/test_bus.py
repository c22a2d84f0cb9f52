"""The in-process bus: every matching subscriber gets every event, whatever the others do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from celery_tasker_events.event import DomainEvent

from ..making import make_event
from .bench import LONG, Bench, Gate, StuckLog
from .conftest import NewBench

Threads = Callable[[], set[str]]


def test_every_matching_subscriber_gets_the_very_event(bench: Bench) -> None:
    got: list[tuple[str, DomainEvent]] = []
    bench.registry.add("payment.*", lambda event: got.append(("first", event)))
    bench.registry.add("order.*", lambda event: got.append(("wrong", event)))
    bench.registry.add("*", lambda event: got.append(("second", event)))
    event = make_event()

    bench.bus.publish(event)

    assert bench.bus.drain(LONG)
    assert [name for name, _ in got] == ["first", "second"]
    assert all(received is event for _, received in got)
    assert bench.count("dispatched") == 2


def test_events_come_in_the_order_in_which_they_were_published(bench: Bench) -> None:
    got: list[Any] = []
    bench.registry.add("*", lambda event: got.append(event.payload))

    for number in range(50):
        bench.bus.publish(make_event(payload=number))

    assert bench.bus.drain(LONG)
    assert got == list(range(50))


def test_subscribers_run_on_a_thread_of_their_own(bench: Bench) -> None:
    got: list[str] = []
    bench.registry.add("*", lambda _: got.append(threading.current_thread().name))

    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert got == ["tasker-events-bus"]


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "error", [ValueError("boom"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), Speechless()], ids=repr
)
def test_a_subscriber_that_raises_does_not_keep_the_event_from_the_others(
    bench: Bench, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: DomainEvent) -> None:
        raise error

    got: list[DomainEvent] = []
    bench.registry.add("*", fail)
    bench.registry.add("*", got.append)

    bench.bus.publish(make_event())
    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert len(got) == 2
    assert (bench.count("failed", "subscriber error"), bench.count("dispatched")) == (2, 2)
    [record, _] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"Subscriber {__name__}.")
    assert record.__dict__["error_type"] == type(error).__name__
    assert record.__dict__["event_id"] == make_event().event_id


def test_errors_of_subscribers_are_counted_even_where_they_are_not_logged(
    new_bench: NewBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = new_bench(log_errors=False)
    bench.registry.add("*", lambda event: event.no_such_attribute)

    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert bench.count("failed", "subscriber error") == 1
    assert caplog.records == []


def test_a_subscriber_that_hangs_is_left_behind_and_the_others_get_the_event(
    new_bench: NewBench, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    bench = new_bench(timeout=0.05)
    got: list[Any] = []
    all_got = threading.Event()

    def keep(event: DomainEvent) -> None:
        got.append(event.payload)
        if len(got) == 2:
            all_got.set()

    bench.registry.add("payment.processed", gate)
    bench.registry.add("*", keep)

    bench.bus.publish(make_event(payload=1))
    bench.bus.publish(make_event("order.placed", payload=2))

    assert all_got.wait(LONG)
    assert bench.bus.drain(LONG)
    assert got == [1, 2]
    assert not gate.open.is_set()
    assert bench.count("failed", "subscriber timeout") == 1
    assert bench.bus.close(LONG)
    assert "has not returned within 0.05 s: it is left behind" in caplog.text


def test_a_subscriber_that_returns_after_its_timeout_disturbs_nobody(
    new_bench: NewBench, gate: Gate, our_threads: Threads
) -> None:
    bench = new_bench(timeout=0.05)
    got: list[DomainEvent] = []
    bench.registry.add("payment.processed", gate)
    bench.registry.add("*", got.append)
    bench.bus.publish(make_event())
    assert gate.entered.wait(LONG)
    assert bench.bus.drain(LONG)

    gate.open.set()
    bench.bus.publish(make_event("order.placed"))

    assert bench.bus.drain(LONG)
    assert [event.event_name for event in got] == ["payment.processed", "order.placed"]
    assert bench.count("dispatched") == 1


def test_many_hanging_subscribers_are_each_left_behind(new_bench: NewBench, gate: Gate) -> None:
    bench = new_bench(timeout=0.02)
    got: list[DomainEvent] = []
    for _ in range(3):
        bench.registry.add("*", lambda event: gate(event))
    bench.registry.add("*", got.append)

    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert len(got) == 1
    assert bench.count("failed", "subscriber timeout") == 3


def test_a_log_that_is_stuck_over_a_timeout_holds_nobody_up(new_bench: NewBench, gate: Gate, stuck_log: StuckLog) -> None:
    bench = new_bench(timeout=0.05)
    got: list[str] = []
    bench.registry.add("payment.processed", gate)
    bench.registry.add("*", lambda event: got.append(event.event_name))
    bench.bus.publish(make_event())
    assert stuck_log.entered.wait(LONG)

    bench.bus.publish(make_event("order.placed"))

    assert bench.bus.drain(LONG)
    assert got == ["payment.processed", "order.placed"]
    assert stuck_log.written == []


def test_calls_that_follow_each_other_do_not_wake_the_watch_each_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[None] = []
    called = bench.bus._crew._called
    notify = called.notify
    monkeypatch.setattr(called, "notify", lambda: (woken.append(None), notify()))
    bench.registry.add("*", lambda event: None)

    for _ in range(50):
        bench.bus.publish(make_event())
        assert bench.bus.drain(LONG)

    assert len(woken) <= 1


def test_what_does_not_fit_into_the_buffer_is_counted_and_logged(
    new_bench: NewBench, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    bench = new_bench(buffer_size=2)
    bench.registry.add("*", gate)
    bench.bus.publish(make_event())
    assert gate.entered.wait(LONG)

    for _ in range(5):
        bench.bus.publish(make_event())

    assert bench.count("dropped", "bus buffer full") == 3
    assert [record.getMessage() for record in caplog.records] == ["1 fast events dropped: the buffer of the bus is full"]
    gate.open.set()
    assert bench.bus.drain(LONG)
    assert bench.count("dispatched") == 3


def test_a_subscriber_that_came_after_an_event_does_not_get_it(bench: Bench, gate: Gate) -> None:
    got: list[Any] = []
    bench.registry.add("*", gate)
    bench.bus.publish(make_event(payload="before"))
    assert gate.entered.wait(LONG)
    bench.registry.add("*", lambda event: got.append(event.payload))

    gate.open.set()
    bench.bus.publish(make_event(payload="after"))

    assert bench.bus.drain(LONG)
    assert got == ["after"]


def test_draining_waits_no_longer_than_it_may(bench: Bench, gate: Gate) -> None:
    bench.registry.add("*", gate)
    bench.bus.publish(make_event())
    assert gate.entered.wait(LONG)

    assert bench.bus.drain(0.01) is False
    gate.open.set()
    assert bench.bus.drain(LONG) is True


def test_a_subscriber_may_publish_an_event_itself(bench: Bench) -> None:
    got: list[str] = []
    bench.registry.add("order.placed", lambda _: bench.bus.publish(make_event("payment.processed")))
    bench.registry.add("*", lambda event: got.append(event.event_name))

    bench.bus.publish(make_event("order.placed"))

    assert bench.bus.drain(LONG)
    assert got == ["order.placed", "payment.processed"]


def test_without_a_subscriber_no_thread_is_started(bench: Bench, our_threads: Threads) -> None:
    bench.registry.add("order.*", lambda event: None)

    bench.bus.publish(make_event())

    assert our_threads() == set()
    assert bench.bus.drain(0) is True
    assert bench.counters.snapshot() == {}


def test_closing_drains_first_and_ends_the_threads(new_bench: NewBench) -> None:
    bench = new_bench()
    before = set(threading.enumerate())
    got: list[DomainEvent] = []
    bench.registry.add("*", got.append)
    for _ in range(20):
        bench.bus.publish(make_event())
    started = [thread for thread in threading.enumerate() if thread not in before]
    assert started

    assert bench.bus.close(LONG) is True

    assert len(got) == 20
    for thread in started:
        thread.join(LONG)
        assert not thread.is_alive()


def test_after_closing_an_event_is_counted_as_dropped(bench: Bench) -> None:
    bench.registry.add("*", lambda event: None)
    bench.bus.close(LONG)

    bench.bus.publish(make_event())

    assert bench.count("dropped", "bus buffer full") == 1


def test_closing_leaves_a_subscriber_that_hangs_behind(bench: Bench, gate: Gate) -> None:
    bench.registry.add("*", gate)
    bench.bus.publish(make_event())
    assert gate.entered.wait(LONG)
    bench.bus.publish(make_event())

    assert bench.bus.close(0.01) is False
    assert bench.count("dropped", "shutdown") == 1
