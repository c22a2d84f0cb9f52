"""A subscriber that keeps hanging is suspended: threads stay bounded, and the others get their events without waiting for it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from worker_process import wait_until

from celery_tasker_events.bus.suspension import MAX_TIMEOUTS, Suspensions
from celery_tasker_events.event import DomainEvent

from ..making import make_event
from .bench import LONG, Bench

SUSPENDED = "it gets no events until it is tried again"
RESUMED = "it gets events again"


class Hanging:
    """A plain function that hangs on every event until it is let go."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.threads: list[threading.Thread] = []

    def __call__(self, event: DomainEvent) -> None:
        self.threads.append(threading.current_thread())
        assert self.open.wait(LONG)

    @property
    def calls(self) -> int:
        return len(self.threads)


@pytest.fixture
def impatient(new_bench: Callable[..., Bench]) -> Bench:
    return new_bench(timeout=0.05)


def publish(bench: Bench, number: int) -> None:
    for _ in range(number):
        bench.bus.publish(make_event())
    assert bench.bus.drain(LONG)


def told(caplog: pytest.LogCaptureFixture, what: str) -> int:
    return sum(what in record.getMessage() for record in caplog.records)


def test_one_that_hangs_for_ever_keeps_three_threads_and_the_others_get_every_event(
    impatient: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    hanging, heard, threads = Hanging(), [], set()
    impatient.registry.add("*", hanging)
    impatient.registry.add("*", lambda event: threads.add(threading.current_thread()) or heard.append(event))

    publish(impatient, 50)

    assert len(heard) == 50
    assert hanging.calls == len(set(hanging.threads)) == MAX_TIMEOUTS
    assert len(threads - set(hanging.threads)) == 1
    assert impatient.count("failed", "subscriber timeout") == MAX_TIMEOUTS
    assert impatient.count("dropped", "subscriber suspended") == 50 - MAX_TIMEOUTS
    # The watch logs it on a thread of its own.
    wait_until(lambda: told(caplog, SUSPENDED) == 1, "the suspension is told")
    hanging.open.set()


def test_it_gets_events_again_when_a_call_has_returned_and_it_is_quick_again(
    impatient: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    impatient.bus._crew._delivery.suspensions = Suspensions(pause=0)
    hanging = Hanging()
    impatient.registry.add("*", hanging)
    publish(impatient, 10)
    assert hanging.calls == MAX_TIMEOUTS

    hanging.open.set()
    wait_until(lambda: not any(thread.is_alive() for thread in hanging.threads), "the hanging calls end")
    publish(impatient, 10)

    assert hanging.calls == MAX_TIMEOUTS + 10
    wait_until(lambda: (told(caplog, SUSPENDED), told(caplog, RESUMED)) == (1, 1), "both are told, once each")
    assert impatient.count("dispatched") == 10


def test_a_coroutine_that_keeps_being_cancelled_is_suspended_too(impatient: Bench, caplog: pytest.LogCaptureFixture) -> None:
    calls, heard = [], []

    async def hang(event: DomainEvent) -> None:
        calls.append(event)
        await asyncio.sleep(LONG)

    impatient.registry.add("*", hang)
    impatient.registry.add("*", lambda event: heard.append(event))

    publish(impatient, 20)

    assert (len(calls), len(heard)) == (MAX_TIMEOUTS, 20)
    assert told(caplog, SUSPENDED) == 1


def test_after_the_pause_it_is_tried_with_one_event(impatient: Bench, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Any] = []

    async def hang(event: DomainEvent) -> None:
        calls.append(event)
        await asyncio.sleep(LONG)

    impatient.registry.add("*", hang)
    publish(impatient, 10)
    [record] = impatient.bus._crew._delivery.suspensions._records.values()

    record.next_try = 0.0
    publish(impatient, 10)

    assert len(calls) == MAX_TIMEOUTS + 1
    assert told(caplog, SUSPENDED) == 1


def test_one_that_is_late_now_and_then_is_never_suspended(impatient: Bench) -> None:
    calls: list[int] = []

    async def late_every_other_time(event: DomainEvent) -> None:
        calls.append(1)
        if len(calls) % 2:
            await asyncio.sleep(LONG)

    impatient.registry.add("*", late_every_other_time)

    publish(impatient, 12)

    assert len(calls) == 12


def test_one_that_raises_every_time_is_never_suspended(bench: Bench) -> None:
    def fail(event: DomainEvent) -> None:
        raise ValueError("no luck")

    bench.registry.add("*", fail)

    publish(bench, 20)

    assert bench.count("failed", "subscriber error") == 20


def test_hanging_calls_count_even_if_others_return_between_them() -> None:
    suspensions, subscription = Suspensions(pause=0), _subscription()

    news = []
    for _ in range(MAX_TIMEOUTS):
        suspensions.in_time(subscription)
        news.append(suspensions.timed_out(subscription, hangs=True))

    assert news == [False] * (MAX_TIMEOUTS - 1) + [True]
    assert not suspensions.allows(subscription)
    suspensions.returned(subscription)
    assert suspensions.allows(subscription)


def test_one_that_has_recovered_costs_the_others_no_look_up() -> None:
    suspensions, subscription = Suspensions(), _subscription()

    suspensions.timed_out(subscription, hangs=True)
    suspensions.in_time(subscription)
    assert suspensions.in_force  # that call hangs still
    suspensions.returned(subscription)
    suspensions.in_time(subscription)

    assert not suspensions.in_force


def _subscription() -> Any:
    bench = Bench()
    bench.registry.add("*", logging.debug)
    return bench.registry.all()[0]
