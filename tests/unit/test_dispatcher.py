"""The channel: putting never waits, what does not fit is counted, one thread publishes in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from worker_process import wait_until

from celery_tasker_events.dispatcher import Dispatcher
from celery_tasker_events.durable.confirmation import Confirmation
from celery_tasker_events.pipeline import Publication
from celery_tasker_events.telemetry.counters import Counters, Series

from .making import make_bound, make_outcome

LONG = 30.0

Threads = Callable[[], set[str]]


def publication(step: str = "task-1", *names: str) -> Publication:
    return Publication(make_outcome(step_uuid=step), tuple(make_bound(name) for name in names or ("payment.processed",)))


class Bench:
    """A dispatcher whose publishing waits at a gate, open at first, and keeps what it is given."""

    def __init__(self, **options: Any) -> None:
        self.published: list[str | None] = []
        self.entered, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        self.counters = Counters()
        self.dispatcher = Dispatcher(self.publish, counters=self.counters, **{"buffer_size": 100, "log_dropped": True, **options})

    def publish(self, item: Publication) -> None:
        self.entered.set()
        assert self.gate.wait(LONG)
        self.published.append(item.outcome.step_uuid)

    def stop_at_the_gate(self) -> None:
        self.gate.clear()
        assert self.dispatcher.put(publication("first"))
        assert self.entered.wait(LONG)


NewBench = Callable[..., Bench]


@pytest.fixture
def new_bench() -> Iterator[NewBench]:
    benches: list[Bench] = []

    def create(**options: Any) -> Bench:
        benches.append(Bench(**options))
        return benches[-1]

    yield create
    for bench in benches:
        bench.gate.set()
        bench.dispatcher.close(5)


@pytest.fixture
def bench(new_bench: NewBench) -> Bench:
    return new_bench()


def test_what_is_put_is_published_in_order_on_one_thread_of_its_own(bench: Bench, our_threads: Threads) -> None:
    for number in range(50):
        assert bench.dispatcher.put(publication(str(number)))

    assert our_threads() == {"tasker-events-dispatcher"}
    assert bench.dispatcher.drain(LONG)
    assert bench.published == [str(number) for number in range(50)]


def test_nothing_is_started_before_something_is_put(bench: Bench, our_threads: Threads) -> None:
    assert bench.dispatcher.drain(0) is True
    assert our_threads() == set()


def test_putting_does_not_wait_for_publishing(bench: Bench) -> None:
    bench.stop_at_the_gate()

    for number in range(5):
        assert bench.dispatcher.put(publication(str(number)))

    assert bench.published == []
    assert bench.dispatcher.depth() == 5


def test_what_does_not_fit_is_dropped_counted_by_event_and_told_once(
    new_bench: NewBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = new_bench(buffer_size=2)
    bench.stop_at_the_gate()

    accepted = [bench.dispatcher.put(publication(str(number), "a.b", "a.c")) for number in range(5)]

    assert accepted == [True, True, False, False, False]
    assert bench.counters.snapshot() == {
        Series("dropped", "a.b", "payments", "channel full"): 3,
        Series("dropped", "a.c", "payments", "channel full"): 3,
    }
    assert [record.getMessage() for record in caplog.records] == ["1 outcomes dropped: channel full"]
    bench.gate.set()
    assert bench.dispatcher.drain(LONG)
    assert bench.published == ["first", "0", "1"]


def test_a_full_channel_is_counted_even_where_it_is_not_logged(new_bench: NewBench, caplog: pytest.LogCaptureFixture) -> None:
    bench = new_bench(buffer_size=1, log_dropped=False)
    bench.stop_at_the_gate()
    bench.dispatcher.put(publication())

    assert bench.dispatcher.put(publication()) is False

    assert bench.counters.total("dropped") == 1
    assert caplog.records == []


def test_room_that_becomes_free_is_used_again(new_bench: NewBench) -> None:
    bench = new_bench(buffer_size=1)
    for number in range(3):
        assert bench.dispatcher.put(publication(str(number)))
        assert bench.dispatcher.drain(LONG)

    assert bench.published == ["0", "1", "2"]


def test_draining_waits_no_longer_than_it_may(bench: Bench) -> None:
    bench.stop_at_the_gate()

    assert bench.dispatcher.drain(0.01) is False
    bench.gate.set()
    assert bench.dispatcher.drain(LONG) is True
    assert bench.published == ["first"]


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_no_error_ends_the_thread(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    published = []

    def publish(item: Publication) -> None:
        if item.outcome.step_uuid == "bad":
            raise error
        published.append(item.outcome.step_uuid)

    dispatcher = Dispatcher(publish, 10, Counters(), log_dropped=True)
    dispatcher.put(publication("bad"))
    dispatcher.put(publication("good"))

    assert dispatcher.close(LONG)
    assert published == ["good"]
    assert "The dispatcher failed on the events of step bad" in caplog.text


def test_many_threads_may_put_at_once(bench: Bench) -> None:
    threads = [
        threading.Thread(target=lambda: [bench.dispatcher.put(publication("x")) for _ in range(10)], name=f"putter-{number}")
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)

    assert bench.dispatcher.drain(LONG)
    assert len(bench.published) + bench.counters.total("dropped") == 80
    assert len(bench.published) >= 1


def test_closing_publishes_what_waits_and_ends_the_thread() -> None:
    bench = Bench()
    before = set(threading.enumerate())
    for number in range(10):
        bench.dispatcher.put(publication(str(number)))
    [thread] = set(threading.enumerate()) - before

    assert bench.dispatcher.close(LONG) is True

    assert len(bench.published) == 10
    thread.join(LONG)
    assert not thread.is_alive()


def test_what_comes_after_closing_is_refused_and_not_lost_for_its_owner_may_open_another() -> None:
    bench = Bench()
    bench.dispatcher.put(publication())
    assert bench.dispatcher.close(LONG)

    assert bench.dispatcher.put(publication("late", "a.late")) is False
    assert bench.dispatcher.closed
    assert bench.counters.snapshot() == {}


def test_all_that_is_accepted_while_another_thread_closes_is_published() -> None:
    for _ in range(50):
        bench = Bench()
        barrier = threading.Barrier(3)
        accepted: list[int] = []

        def put(bench: Bench = bench, barrier: threading.Barrier = barrier, accepted: list[int] = accepted) -> None:
            barrier.wait(LONG)
            accepted.append(sum(bench.dispatcher.put(publication(str(number))) for number in range(100)))

        threads = [threading.Thread(target=put) for _ in range(2)]
        for thread in threads:
            thread.start()
        barrier.wait(LONG)
        assert bench.dispatcher.close(LONG)
        for thread in threads:
            thread.join(LONG)

        assert len(bench.published) == sum(accepted)


def test_every_change_of_the_depth_is_told_and_none_is_left_at_the_end() -> None:
    depths: list[int] = []
    bench = Bench(on_depth=lambda: depths.append(bench.dispatcher.depth()))
    bench.stop_at_the_gate()
    for number in range(3):
        bench.dispatcher.put(publication(str(number)))
    assert depths[-1] == 3

    bench.gate.set()
    assert bench.dispatcher.close(LONG)

    wait_until(lambda: depths[-1] == 0, "nothing waits")


def test_what_is_watched_is_looked_after_when_it_is_time_to_and_not_after_each_publication(new_bench: NewBench) -> None:
    looks: list[None] = []

    def watch() -> float:
        looks.append(None)
        return 100 * LONG

    bench = new_bench(watch=watch)

    for number in range(20):
        assert bench.dispatcher.put(publication(str(number)))
        assert bench.dispatcher.drain(LONG)

    assert len(looks) <= 1


def test_what_is_watched_is_looked_after_again_though_nothing_comes(new_bench: NewBench) -> None:
    waits = iter([0.01, 0.01])
    looks: list[float | None] = []

    def watch() -> float | None:
        looks.append(next(waits, None))
        return looks[-1]

    bench = new_bench(watch=watch)

    assert bench.dispatcher.put(publication())

    wait_until(lambda: None in looks, "it was looked after until there was nothing to wait for")


class Lingering(Bench):
    """A dispatcher that rests longer than any test, from its first publication on."""

    def __init__(self, **options: Any) -> None:
        self.rests = threading.Event()
        super().__init__(linger=100 * LONG, watch=lambda: self.rests.set() if self.published else None, **options)

    def rest(self) -> None:
        """It looks after what is watched when nothing waits, and rests then whatever comes."""
        assert self.dispatcher.put(publication("first"))
        wait_until(lambda: self.published == ["first"], "what comes first is published at once")
        assert self.rests.wait(LONG)


@pytest.fixture
def lingering() -> Iterator[Lingering]:
    bench = Lingering(buffer_size=10)
    yield bench
    if not bench.dispatcher.closed:
        bench.dispatcher.close(5)


def test_what_comes_soon_after_another_waits_for_company(lingering: Lingering) -> None:
    lingering.rest()
    lingering.entered.clear()

    assert lingering.dispatcher.put(publication("second"))

    assert not lingering.entered.wait(0.2)
    assert lingering.dispatcher.depth() == 1


@pytest.mark.parametrize("hurry", ["drain", "close"])
def test_who_waits_for_it_ends_the_rest(lingering: Lingering, hurry: str) -> None:
    lingering.rest()
    assert lingering.dispatcher.put(publication("second"))

    assert getattr(lingering.dispatcher, hurry)(LONG)

    assert lingering.published == ["first", "second"]


def test_an_event_that_is_to_be_confirmed_ends_the_rest(lingering: Lingering) -> None:
    lingering.rest()
    assert lingering.dispatcher.put(publication("second"))

    assert lingering.dispatcher.put(publication("third")._replace(confirmation=Confirmation(1)))

    wait_until(lambda: lingering.published == ["first", "second", "third"], "all are published, in order")


def test_a_channel_that_fills_up_ends_the_rest(lingering: Lingering) -> None:
    lingering.rest()

    for number in range(6):
        assert lingering.dispatcher.put(publication(str(number)))

    wait_until(lambda: len(lingering.published) == 7, "half a channel is not left to wait")
