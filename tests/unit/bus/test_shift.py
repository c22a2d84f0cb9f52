"""A call belongs to one thread, and is counted once, however close its end and its timeout are."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from typing import Any

import pytest

from celery_tasker_events.bus.registry import SubscriberRegistry, Subscription
from celery_tasker_events.bus.shift import Shift
from celery_tasker_events.bus.suspension import Suspensions
from celery_tasker_events.event import DomainEvent

from ..making import make_event
from .bench import LONG, Bench, Gate
from .conftest import NewBench


def shift_of(bench: Bench) -> Shift:
    shift = bench.bus._crew._shift
    assert shift is not None
    return shift


def mark_of(bench: Bench) -> float:
    """The mark of the call that goes on."""
    mark = shift_of(bench).began()
    assert mark is not None
    return mark


def ends(registry: SubscriberRegistry) -> list[tuple[int, int, int]]:
    return [(s.received, s.handled, s.timed_out) for s in registry.statistics()]


def test_a_call_that_returns_in_the_moment_in_which_it_is_relieved_is_counted_once(bench: Bench) -> None:
    heard: list[tuple[str, threading.Thread]] = []

    def relieved(event: DomainEvent) -> None:
        heard.append(("relieved", threading.current_thread()))
        # What the watch does with a call that is late.
        with bench.bus._lock:
            assert shift_of(bench).take(mark_of(bench))
            bench.bus._crew._relieve(shift_of(bench), 0.0)

    bench.registry.add("a.b", relieved)
    bench.registry.add("*", lambda event: heard.append((event.event_name, threading.current_thread())))
    bench.bus.publish(make_event("a.b"))
    bench.bus.publish(make_event("c.d"))

    assert bench.bus.drain(LONG)
    by_name = dict(heard)
    by_name["relieved"].join(LONG)
    assert sorted(name for name, _ in heard) == ["a.b", "c.d", "relieved"]
    assert by_name["a.b"] is by_name["c.d"] is not by_name["relieved"]
    assert ends(bench.registry) == [(1, 0, 1), (2, 2, 0)]
    assert bench.count("failed", "subscriber timeout", "a.b") == 1
    assert bench.counters.total("dispatched") == 2


def test_the_mark_of_a_call_that_has_just_ended_relieves_nobody_of_the_next_one(bench: Bench) -> None:
    marks: list[float] = []

    def first(event: DomainEvent) -> None:
        marks.append(mark_of(bench))

    def second(event: DomainEvent) -> None:
        with bench.bus._lock:
            assert not shift_of(bench).take(marks[0])

    bench.registry.add("*", first)
    bench.registry.add("*", second)
    bench.bus.publish(make_event())
    shift = shift_of(bench)

    assert bench.bus.drain(LONG)
    with bench.bus._lock:
        assert not shift.take(marks[0])
    assert shift_of(bench) is shift
    assert ends(bench.registry) == [(1, 1, 0), (1, 1, 0)]
    assert bench.counters.total("failed") == 0


@pytest.mark.parametrize("how", ["returns", "returns a value", "raises"])
def test_a_call_that_ends_while_somebody_has_its_mark_is_counted_when_that_is_put_back(
    bench: Bench, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, missed = threading.Event(), threading.Event()
    # The thread asks for that when it has found no mark.
    monkeypatch.setattr(Shift, "end_if_forked", lambda shift: missed.set())

    def take_and_put_back() -> None:
        with bench.bus._lock:
            mark, shift = mark_of(bench), shift_of(bench)
            assert shift.take(mark)
            taken.set()
            assert missed.wait(LONG)
            assert ends(bench.registry) == [(1, 0, 0), (0, 0, 0)]
            shift.marks.append(mark)

    other = threading.Thread(target=take_and_put_back)

    def call(event: DomainEvent) -> Any:
        other.start()
        assert taken.wait(LONG)
        if how == "raises":
            raise ValueError
        return None if how == "returns" else 1

    bench.registry.add("*", call)
    bench.registry.add("*", lambda event: None)
    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    other.join(LONG)
    assert missed.is_set()
    assert ends(bench.registry) == [(1, int(how != "raises"), 0), (1, 1, 0)]
    assert bench.count("failed", "subscriber error") == int(how == "raises")


class Unforgiving(Suspensions):
    """Knows who has taken too long, and suspends nobody."""

    def allows(self, subscription: Subscription) -> bool:
        return True


class Forgetful(Suspensions):
    """Knows nobody who has taken too long."""

    def timed_out(self, subscription: Subscription, *, hangs: bool) -> bool:
        return False

    def returned(self, subscription: Subscription) -> None: ...


@pytest.mark.parametrize("suspensions", [Unforgiving, Forgetful])
def test_calls_about_as_long_as_their_timeout_are_counted_once_each(new_bench: NewBench, suspensions: type[Suspensions]) -> None:
    bench = new_bench(timeout=0.002, buffer_size=1000, log_errors=False)
    bench.bus._crew._delivery.suspensions = suspensions()
    made: list[str] = []

    def about_two_milliseconds(event: DomainEvent) -> None:
        made.append("about two milliseconds")
        time.sleep(0.0015 + 0.0001 * (event.payload % 10))

    def quick(event: DomainEvent) -> None:
        made.append("quick")

    async def coroutine(event: DomainEvent) -> None:
        made.append("coroutine")

    for subscriber in (about_two_milliseconds, quick, coroutine):
        bench.registry.add("*", subscriber)
    for number in range(300):
        bench.bus.publish(make_event(payload=number))

    assert bench.bus.close(LONG)
    for thread in threading.enumerate():
        if thread.name == "tasker-events-bus":  # relieved
            thread.join(LONG)
    statistics = bench.registry.statistics()
    assert Counter(made) == dict.fromkeys(("about two milliseconds", "quick", "coroutine"), 300)
    assert [s.received for s in statistics] == [300] * 3
    assert [s.handled + s.timed_out for s in statistics] == [300] * 3
    assert bench.count("failed", "subscriber timeout") == sum(s.timed_out for s in statistics)
    assert bench.count("dispatched") == sum(s.handled for s in statistics)


def test_what_was_handled_before_a_call_that_hangs_is_counted_when_the_bus_is_closed(bench: Bench, gate: Gate) -> None:
    bench.registry.add("*", lambda event: None)
    bench.registry.add("*", gate)
    bench.bus.publish(make_event())
    bench.bus.publish(make_event())
    assert gate.entered.wait(LONG)

    assert bench.bus.close(0.01) is False

    assert bench.count("dispatched") == 1
    assert bench.count("dropped", "shutdown") == 1
    thread = shift_of(bench).thread
    assert thread is not None
    gate.open.set()
    thread.join(LONG)
    assert bench.count("dispatched") == 2
    assert ends(bench.registry) == [(1, 1, 0), (1, 1, 0)]


def test_what_was_handled_before_a_call_that_hangs_is_counted_when_its_thread_is_relieved(
    new_bench: NewBench, gate: Gate
) -> None:
    bench = new_bench(timeout=0.05)
    counted: list[int] = []
    bench.registry.add("*", lambda event: None)
    bench.registry.add("*", gate)
    bench.registry.add("*", lambda event: counted.append(bench.count("dispatched")))

    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert counted == [1]


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_calls_are_counted_also_while_others_follow_without_an_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, is_async: bool
) -> None:
    monkeypatch.setattr("celery_tasker_events.bus.walk._WRITE_AFTER", 0.0)
    counted: list[int] = []

    def count(event: DomainEvent) -> None:
        counted.append(bench.count("dispatched"))

    async def count_async(event: DomainEvent) -> None:
        count(event)

    for _ in range(4):
        bench.registry.add("*", functools.partial(count_async if is_async else count))

    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert counted == [0, 1, 2, 3]


def test_an_event_that_nobody_has_had_when_the_bus_closes_is_counted_like_those_that_wait() -> None:
    taken, closed = threading.Event(), threading.Event()
    got: list[DomainEvent] = []

    def on_depth() -> None:
        if bench.bus._closing:
            closed.set()
        elif threading.current_thread().name == "tasker-events-bus":
            taken.set()
            assert closed.wait(LONG)

    bench = Bench(on_depth=on_depth)
    bench.registry.add("*", got.append)
    bench.registry.add("*", got.append)
    for _ in range(3):
        bench.bus.publish(make_event())
    assert taken.wait(LONG)

    assert bench.bus.close(0) is False

    assert got == []
    assert bench.count("dropped", "shutdown") == 3
    assert bench.counters.total("dispatched") == 0
    assert ends(bench.registry) == [(0, 0, 0)]
