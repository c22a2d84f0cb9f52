"""Subscribers that hurt: they publish, close, fork, drain, keep references, raise what ends threads. The others go on."""

from __future__ import annotations

import gc
import os
import signal
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from worker_process import wait_until

from celery_tasker_events.event import DomainEvent

from ..making import make_event, make_metadata
from .bench import LONG, Bench, exit_code_of_a_forked_child


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(), MemoryError()], ids=repr)
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_whatever_it_raises_the_others_get_the_event_and_the_next_one(
    bench: Bench, error: BaseException, *, is_async: bool
) -> None:
    heard: list[str] = []

    def fail(event: DomainEvent) -> None:
        raise error

    async def fail_async(event: DomainEvent) -> None:
        raise error

    bench.registry.add("*", fail_async if is_async else fail)
    bench.registry.add("*", lambda event: heard.append(event.event_name))

    for _ in range(3):
        bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert len(heard) == 3
    assert bench.count("failed", "subscriber error") == 3


def test_one_that_publishes_what_it_hears_does_not_keep_other_events_from_anybody(bench: Bench) -> None:
    stop, rounds, heard = threading.Event(), [], []

    def echo(event: DomainEvent) -> None:
        rounds.append(1)
        if not stop.is_set():
            bench.bus.publish(event)

    bench.registry.add("a.loop", echo)
    bench.registry.add("payment.*", lambda event: heard.append(event.event_id))
    bench.bus.publish(make_event("a.loop"))
    wait_until(lambda: len(rounds) > 10, "the loop runs")

    for number in range(50):
        bench.bus.publish(make_event(event_id=str(number)))
    wait_until(lambda: len(heard) == 50, "the others get their events")

    assert heard == [str(number) for number in range(50)]
    assert bench.bus.depth() <= 1
    stop.set()
    assert bench.bus.drain(LONG)


def test_one_that_closes_the_bus_keeps_no_event_from_the_others(bench: Bench) -> None:
    closed: list[bool] = []
    heard: list[str] = []
    all_there = threading.Event()

    def close(event: DomainEvent) -> None:
        assert all_there.wait(LONG)
        closed.append(bench.bus.close(LONG))

    bench.registry.add("*", close)
    bench.registry.add("*", lambda event: heard.append(event.event_id))
    for number in range(5):
        bench.bus.publish(make_event(event_id=str(number)))
    all_there.set()

    wait_until(lambda: len(heard) == 5, "all events are delivered")
    wait_until(lambda: bench.bus._closing, "the bus is closed")
    assert closed[0] is False
    assert bench.count("dropped", "shutdown") == 0


def test_one_that_drains_the_bus_does_not_wait_for_itself(bench: Bench) -> None:
    drained: list[bool] = []
    bench.registry.add("*", lambda event: drained.append(bench.bus.drain(LONG * 100)))

    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert drained == [False]


@pytest.mark.parametrize("comes_back", ["returns", "raises", "returns a value"])
def test_a_child_that_comes_back_into_the_bus_ends_and_delivers_nothing(bench: Bench, tmp_path: Any, comes_back: str) -> None:
    heard = tmp_path / "heard"

    def fork(event: DomainEvent) -> Any:
        bench.child = os.fork()
        if comes_back == "raises" and bench.child == 0:
            raise ValueError
        return None if comes_back == "returns" else "a value"

    def hear(event: DomainEvent) -> None:
        with heard.open("a") as file:
            file.write(f"{event.event_id} in {os.getpid()}\n")

    bench.registry.add("a.fork", fork)
    bench.registry.add("*", hear)

    def in_a_process_of_its_own() -> int:
        bench.bus.publish(make_event("a.fork", event_id="1"))
        bench.bus.publish(make_event("a.b", event_id="2"))
        drained = bench.bus.drain(LONG)
        child = bench.child
        try:
            _, status = wait_until(lambda: (found := os.waitpid(child, os.WNOHANG))[0] and found, "the forked child ends", 10)
        except AssertionError:
            os.kill(child, signal.SIGKILL)
            raise
        return int(not drained) + os.waitstatus_to_exitcode(status)

    assert exit_code_of_a_forked_child(in_a_process_of_its_own) == 0
    lines = heard.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2"]
    assert len({line.split()[-1] for line in lines}) == 1


def test_the_bus_keeps_no_event_that_was_delivered(bench: Bench) -> None:
    bench.registry.add("*", lambda event: None)
    event = make_event(payload={"a": "b"})
    reference = weakref.ref(event)

    bench.bus.publish(event)
    assert bench.bus.drain(LONG)
    del event
    gc.collect()

    assert reference() is None


def test_memory_does_not_grow_with_the_events(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench(deduplication_size=500, buffer_size=10_000, log_errors=False)
    bench.registry.add("*", lambda event: None)
    bench.registry.add("*", _fail)

    def run(start: int, number: int) -> None:
        for n in range(start, start + number):
            bench.bus.publish(
                make_event(event_id=str(n), payload="x" * 100 + str(n), metadata=make_metadata(idempotency_key=str(n)))
            )
        assert bench.bus.drain(LONG)

    run(0, 2000)
    gc.collect()
    tracemalloc.start()
    try:
        run(2000, 1000)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        run(3000, 8000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # Every event has more than 100 bytes of its own: had the bus kept one in ten, this would be 80 kB.
    assert after - before < 80_000


def _fail(event: DomainEvent) -> None:
    raise ValueError(event.payload)


def test_a_thread_that_could_not_be_started_is_started_for_the_next_event(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[str] = []
    bench.registry.add("*", lambda event: got.append(event.event_name))

    def cannot(target: object, name: str) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("celery_tasker_events.bus.crew.start_thread", cannot)
        with pytest.raises(RuntimeError):
            bench.bus.publish(make_event("a.b"))
    bench.bus.publish(make_event("c.d"))

    assert bench.bus.drain(LONG)
    assert got == ["a.b", "c.d"]
