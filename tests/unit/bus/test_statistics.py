"""Statistics of a registry whose events come by several buses, at once and one after the other."""

from __future__ import annotations

import datetime
import gc
import threading
import weakref

from celery_tasker_events.bus.bus import InProcessBus
from celery_tasker_events.bus.registry import SubscriberRegistry
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.telemetry.counters import CALL, Counters
from celery_tasker_events.telemetry.sheet import Sheet

from ..making import make_event
from .bench import LONG, Bench


def make_bus(registry: SubscriberRegistry, sheet: Sheet | None = None) -> InProcessBus:
    return InProcessBus(
        registry,
        Counters(sheet),
        buffer_size=10_000,
        timeout=LONG,
        deduplication_size=0,
        log_errors=True,
        log_dropped=True,
    )


def test_calls_by_several_buses_at_once_add_up_and_each_bus_counts_its_own() -> None:
    registry = SubscriberRegistry()
    registry.add("*", lambda event: None)
    sheets = [Sheet() for _ in range(3)]
    buses = [make_bus(registry, sheet) for sheet in sheets]

    def publish(bus: InProcessBus) -> None:
        for _ in range(1000):
            bus.publish(make_event())

    threads = [threading.Thread(target=publish, args=[bus]) for bus in buses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)

    assert [bus.close(LONG) for bus in buses] == [True] * 3
    [statistics] = registry.statistics()
    assert (statistics.received, statistics.handled) == (3000, 3000)
    assert [[count for key, count in sheet.values().items() if key[0] == CALL] for sheet in sheets] == [[1000]] * 3


def test_buses_that_follow_each_other_go_on_counting_and_leave_nothing_behind() -> None:
    registry = SubscriberRegistry()
    registry.add("*", lambda event: None)
    sheet = Sheet()

    for number in range(1, 6):
        bus = make_bus(registry, sheet)
        bus.publish(make_event())
        assert bus.close(LONG)
        [statistics] = registry.statistics()
        assert (statistics.received, statistics.handled) == (number, number)

    assert len(registry.book._pages) == 1
    assert [count for key, count in sheet.values().items() if key[0] == CALL] == [5]


def test_the_time_of_the_last_call_is_that_of_the_wall_clock_from_the_first_call_on(bench: Bench) -> None:
    bench.registry.add("*", lambda event: None)
    bench.registry.add("*", lambda event: None)
    before = datetime.datetime.now(datetime.timezone.utc)

    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    times = [statistics.last_event_at for statistics in bench.registry.statistics()]
    assert all(time is not None and abs(time - before) < datetime.timedelta(seconds=LONG) for time in times)


def test_who_looks_while_calls_go_on_never_sees_more_ends_than_beginnings(bench: Bench) -> None:
    bench.registry.add("*", lambda event: None)
    done = threading.Event()
    seen: list[tuple[int, int]] = []

    def look() -> None:
        while not done.is_set():
            [statistics] = bench.registry.statistics()
            seen.append((statistics.received, statistics.handled))

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(50):
        for _ in range(50):
            bench.bus.publish(make_event())
        assert bench.bus.drain(LONG)
    done.set()
    thread.join(LONG)

    assert all(received >= handled for received, handled in seen)
    assert seen == sorted(seen)


class Subscriber:
    def __call__(self, event: DomainEvent) -> None: ...


def test_a_subscriber_that_is_gone_is_forgotten_with_all_that_was_counted_for_it(bench: Bench) -> None:
    gone, stays = Subscriber(), Subscriber()
    bench.registry.add("a.*", gone)
    bench.registry.add("*", stays)
    for name in ("a.b", "c.d"):
        bench.bus.publish(make_event(name))
    assert bench.bus.drain(LONG)
    [subscription, _] = bench.registry.all()
    subscription, gone = weakref.ref(subscription), weakref.ref(gone)

    bench.registry.remove(gone())
    bench.bus.publish(make_event("c.d"))
    assert bench.bus.drain(LONG)
    gc.collect()

    assert (subscription(), gone()) == (None, None)


def test_any_number_of_names_takes_a_bounded_memory(bench: Bench) -> None:
    bench.registry.add("*", lambda event: None)

    for number in range(3000):
        bench.bus.publish(make_event(f"a.n{number}"))
        if number % 50 == 0:
            assert bench.bus.drain(LONG)

    assert bench.bus.drain(LONG)
    assert len(bench.bus._crew._walk._audiences) <= 1000
    [statistics] = bench.registry.statistics()
    assert statistics.handled == bench.counters.total("dispatched") == 3000
