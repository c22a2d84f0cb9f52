"""Subscribers that are ``async def``: they run on the thread of the bus, and are cancelled if they take too long."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from celery_tasker_events.bus.subscriber import BaseSubscriber
from celery_tasker_events.event import DomainEvent

from ..making import make_event
from .bench import LONG, Bench, Gate, exit_code_of_a_forked_child
from .conftest import NewBench


def test_a_coroutine_runs_to_its_end_on_the_thread_of_the_bus(bench: Bench) -> None:
    got: list[tuple[str, str]] = []

    async def slow(event: DomainEvent) -> None:
        await asyncio.sleep(0.01)
        got.append((event.event_name, threading.current_thread().name))

    bench.registry.add("*", slow)
    bench.registry.add("*", lambda event: got.append((event.event_name, "after it")))

    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert got == [("payment.processed", "tasker-events-bus"), ("payment.processed", "after it")]
    assert bench.count("dispatched") == 2


def test_the_event_loop_is_the_same_for_all_events(bench: Bench) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def keep_loop(event: DomainEvent) -> None:
        loops.append(asyncio.get_running_loop())

    bench.registry.add("*", keep_loop)
    for _ in range(3):
        bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert len(loops) == 3
    assert len(set(loops)) == 1
    assert bench.bus.close(LONG)
    assert loops[0].is_closed()


class Collector:
    def __init__(self) -> None:
        self.got: list[str] = []

    def method(self, event: DomainEvent) -> None:
        self.got.append("method")

    async def coroutine_method(self, event: DomainEvent) -> None:
        self.got.append("coroutine method")

    async def with_name(self, name: str, event: DomainEvent) -> None:
        self.got.append(name)

    async def __call__(self, event: DomainEvent) -> None:
        self.got.append("object")


def test_methods_objects_and_partials_are_subscribers_like_functions(bench: Bench) -> None:
    collector = Collector()
    handlers: list[Callable[[DomainEvent], Any]] = [
        collector.method,
        collector.coroutine_method,
        functools.partial(collector.with_name, "partial"),
        collector,
    ]
    for handler in handlers:
        bench.registry.add("*", handler)

    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert collector.got == ["method", "coroutine method", "partial", "object"]
    names = [statistics.name.rpartition(".test_coroutines.")[2] for statistics in bench.registry.statistics()]
    assert names == ["Collector.method", "Collector.coroutine_method", "Collector.with_name", "Collector"]


def test_a_coroutine_that_hangs_is_cancelled_and_its_thread_goes_on(
    new_bench: NewBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = new_bench(timeout=0.05)
    threads: list[int] = []
    cancelled = threading.Event()

    async def hang(event: DomainEvent) -> None:
        threads.append(threading.get_ident())
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    bench.registry.add("*", hang)
    bench.registry.add("*", lambda event: threads.append(threading.get_ident()))

    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert cancelled.is_set()
    assert len(threads) == 2
    assert threads[0] == threads[1]
    assert (bench.count("failed", "subscriber timeout"), bench.count("dispatched")) == (1, 1)
    [record] = caplog.records
    assert "has not returned within 0.05 s: it is cancelled" in record.getMessage()
    assert [s.timed_out for s in bench.registry.statistics()] == [1, 0]


def test_a_coroutine_that_swallows_its_cancellation_is_counted_as_too_long(new_bench: NewBench) -> None:
    bench = new_bench(timeout=0.05)

    async def swallow(event: DomainEvent) -> None:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            pass

    bench.registry.add("*", swallow)
    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert (bench.count("failed", "subscriber timeout"), bench.count("dispatched")) == (1, 0)


def test_a_coroutine_that_blocks_its_loop_is_left_behind(new_bench: NewBench, gate: Gate) -> None:
    bench = new_bench(timeout=0.05)
    got: list[DomainEvent] = []

    async def block(event: DomainEvent) -> None:
        gate(event)

    async def get(event: DomainEvent) -> None:
        got.append(event)

    bench.registry.add("*", block)
    bench.registry.add("*", get)
    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert len(got) == 1
    assert bench.count("failed", "subscriber timeout") == 1


def test_a_function_that_hangs_after_a_coroutine_is_left_behind_in_time(new_bench: NewBench, gate: Gate) -> None:
    bench = new_bench(timeout=0.1)

    async def beyond_the_timeout(event: DomainEvent) -> None:
        await asyncio.sleep(LONG)

    bench.registry.add("*", beyond_the_timeout)
    bench.registry.add("*", gate)
    bench.bus.publish(make_event())
    assert gate.entered.wait(LONG)
    started = time.monotonic()

    assert bench.bus.drain(LONG)
    # The coroutine's second of grace must not become the function's.
    assert time.monotonic() - started < 0.8
    assert bench.count("failed", "subscriber timeout") == 2


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr)
def test_a_coroutine_that_raises_does_not_keep_the_event_from_the_others(bench: Bench, error: BaseException) -> None:
    got: list[DomainEvent] = []

    async def fail(event: DomainEvent) -> None:
        await asyncio.sleep(0)
        raise error

    async def get(event: DomainEvent) -> None:
        await asyncio.sleep(0)
        got.append(event)

    bench.registry.add("*", fail)
    bench.registry.add("*", get)
    bench.bus.publish(make_event())
    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert len(got) == 2
    assert (bench.count("failed", "subscriber error"), bench.count("dispatched")) == (2, 2)


def test_asyncio_has_nothing_to_say_about_a_coroutine_that_ends_the_program(
    new_bench: NewBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = new_bench(log_errors=False)

    async def fail(event: DomainEvent) -> None:
        raise SystemExit(3)

    bench.registry.add("*", fail)
    bench.bus.publish(make_event())

    assert bench.bus.close(LONG)
    gc.collect()
    assert caplog.records == []


def test_a_timeout_that_the_coroutine_raises_itself_is_an_error_of_its_own(bench: Bench) -> None:
    async def fail(event: DomainEvent) -> None:
        raise TimeoutError("the gateway is slow")

    bench.registry.add("*", fail)
    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert (bench.count("failed", "subscriber error"), bench.count("failed", "subscriber timeout")) == (1, 0)


def test_closing_cancels_the_coroutine_that_still_runs_and_ends_the_thread(new_bench: NewBench) -> None:
    bench = new_bench()
    entered, ended = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    async def hang(event: DomainEvent) -> None:
        threads.append(threading.current_thread())
        entered.set()
        try:
            await asyncio.sleep(LONG)
        finally:
            ended.set()

    bench.registry.add("*", hang)
    bench.bus.publish(make_event())
    assert entered.wait(LONG)

    assert bench.bus.close(0.01) is False
    assert ended.wait(LONG)
    threads[0].join(LONG)
    assert not threads[0].is_alive()


def test_what_a_coroutine_has_left_running_is_cancelled_at_the_end(bench: Bench) -> None:
    left: list[asyncio.Task[bool]] = []

    async def leave(event: DomainEvent) -> None:
        left.append(asyncio.create_task(asyncio.Event().wait()))

    bench.registry.add("*", leave)
    bench.bus.publish(make_event())

    assert bench.bus.close(LONG)
    assert left[0].cancelled()


def test_a_forked_child_that_drops_the_loop_does_not_harm_the_parents(bench: Bench) -> None:
    got: list[str] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def work_in_a_thread(event: DomainEvent) -> None:
        loops.append(asyncio.get_running_loop())
        # Its result comes through the loop's wake-up pipe, which an epoll that both share would lose.
        got.append(await asyncio.to_thread(lambda: "done"))

    bench.registry.add("*", work_in_a_thread)
    bench.bus.publish(make_event())
    assert bench.bus.drain(LONG)

    def in_child() -> int:
        loops[0].close()
        return 7

    assert exit_code_of_a_forked_child(in_child) == 7
    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert got == ["done", "done"]


class AsyncSubscriber(BaseSubscriber):
    subscribes_to = "*"

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.told: list[str] = []

    async def before_handle(self, event: DomainEvent) -> bool:
        await asyncio.sleep(0)
        self.told.append("before")
        return self.answers.get("wanted", True)

    async def handle(self, event: DomainEvent) -> None:
        self.told.append("handle")
        await asyncio.sleep(self.answers.get("seconds", 0))
        if "error" in self.answers:
            raise self.answers["error"]

    async def after_handle(self, event: DomainEvent) -> None:
        await asyncio.sleep(0)
        self.told.append("after")

    async def on_handle_error(self, event: DomainEvent, error: BaseException) -> None:
        await asyncio.sleep(0)
        self.told.append(f"error {isinstance(error, TimeoutError)}")


@pytest.mark.parametrize(
    ("answers", "expected", "counted"),
    [
        ({}, ["before", "handle", "after"], ("dispatched", "")),
        ({"wanted": False}, ["before"], ("skipped", "before_handle")),
        ({"error": ValueError("boom")}, ["before", "handle", "error False"], ("failed", "subscriber error")),
        ({"seconds": LONG}, ["before", "handle", "error True"], ("failed", "subscriber timeout")),
    ],
    ids=["handled", "skipped", "raises", "hangs"],
)
def test_the_hooks_of_a_class_may_be_coroutines(
    new_bench: NewBench, answers: dict[str, Any], expected: list[str], counted: tuple[str, str]
) -> None:
    bench = new_bench(timeout=0.2)
    subscriber = AsyncSubscriber(**answers)
    bench.registry.register(subscriber)

    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert subscriber.told == expected
    assert bench.count(*counted) == 1
