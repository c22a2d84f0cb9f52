"""What one process starts and ends, and what a forked child has of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

from celery_tasker_events import BasePublisher, DomainEvent

from .listening import LONG, Shop, fast, listen, make_plain


def test_a_process_that_publishes_nothing_starts_nothing(shop: Shop, our_threads: Callable[[], set[str]]) -> None:
    app, events = shop
    listen(events)
    plain = app.task(name="plain")(make_plain())
    not_due = app.task(name="not_due")(fast("a.b", condition="failure")(make_plain()))

    plain.apply()
    not_due.apply()

    assert our_threads() == set()
    assert events.drain(0) is True
    assert events.close(0) is True
    assert events.counters() == {}


def test_a_durable_event_starts_no_bus_and_a_fast_one_no_writer(shop: Shop, our_threads: Callable[[], set[str]]) -> None:
    app, events = shop
    listen(events)
    task = app.task(name="pay")(fast("a.b")(make_plain()))

    task.apply()

    assert events.drain(LONG)
    assert our_threads() == {"tasker-events-dispatcher", "tasker-events-bus", "tasker-events-bus-watch"}


def test_closing_delivers_what_was_accepted_ends_all_threads_and_a_later_event_starts_new_ones(shop: Shop) -> None:
    app, events = shop
    got = listen(events)
    task = app.task(name="pay")(fast("a.b")(make_plain()))
    before = set(threading.enumerate())
    for _ in range(20):
        task.apply()
    started = set(threading.enumerate()) - before

    assert events.close(LONG) is True

    assert len(got) == 20
    for thread in started:
        thread.join(LONG)
        assert not thread.is_alive()
    task.apply()
    assert events.drain(LONG)
    assert len(got) == 21


def test_what_an_event_needs_is_started_by_its_own_thread_though_the_step_has_had_events_before(
    shop: Shop, our_threads: Callable[[], set[str]]
) -> None:
    # Once the interpreter ends, a thread of the plugin's can't start another.
    app, events = shop
    gate = threading.Event()

    class Waiting(BasePublisher):
        def should_publish(self, *_: Any) -> bool:
            return gate.wait(LONG)

    events.register_publisher(Waiting)
    task = app.task(name="pay")(fast("a.b", publisher="Waiting")(make_plain()))
    task.apply()
    got = listen(events)
    assert our_threads() == {"tasker-events-dispatcher"}

    task.apply()

    assert our_threads() == {"tasker-events-dispatcher", "tasker-events-bus", "tasker-events-bus-watch"}
    gate.set()
    assert events.drain(LONG)
    assert got[-1].event_name == "a.b"


def _in_a_forked_child(work: Callable[[], Any]) -> Any:
    """Return what ``work`` returns in a forked child, by way of JSON."""
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        # Newer Pythons warn of a fork beside threads: that such a fork works is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        answer: Any = None
        try:
            answer = work()
        except BaseException as error:
            answer = repr(error)
        finally:
            os.write(write_end, json.dumps(answer).encode())
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        answer = json.loads(pipe.read())
    assert os.waitpid(pid, 0)[1] == 0
    return answer


def test_a_forked_child_has_its_own_channel_threads_and_counters(shop: Shop) -> None:
    app, events = shop
    got: list[int] = []
    events.subscribe("*")(lambda _: got.append(os.getpid()))
    task = app.task(name="pay")(fast("a.b")(make_plain()))
    task.apply()
    assert events.drain(LONG)

    def in_child() -> Any:
        before = dict(events.counters())
        task.apply()
        drained = events.drain(LONG)
        return [len(before), drained, got.count(os.getpid()), sum(events.counters().values())]

    assert _in_a_forked_child(in_child) == [0, True, 1, 1]
    task.apply()
    assert events.drain(LONG)
    assert got == [os.getpid()] * 2


def test_a_fork_while_the_parent_is_busy_harms_neither(shop: Shop) -> None:
    app, events = shop
    gate, entered = threading.Event(), threading.Event()
    parent = os.getpid()
    got: list[int] = []

    def hold(_: DomainEvent) -> None:
        if os.getpid() == parent:
            entered.set()
            gate.wait(LONG)
        got.append(os.getpid())

    events.subscribe("*")(hold)
    task = app.task(name="pay")(fast("a.b")(make_plain()))
    task.apply()
    task.apply()
    assert entered.wait(LONG)

    def in_child() -> Any:
        task.apply()
        return [events.close(LONG), got.count(os.getpid()), len(got)]

    assert _in_a_forked_child(in_child) == [True, 1, 1]
    gate.set()
    assert events.drain(LONG)
    assert got == [parent] * 2


def test_a_child_that_closes_what_it_inherited_does_not_close_its_parents(shop: Shop) -> None:
    app, events = shop
    got = listen(events)
    task = app.task(name="pay")(fast("a.b")(make_plain()))
    task.apply()
    assert events.drain(LONG)

    assert _in_a_forked_child(lambda: events.close(LONG)) is True

    task.apply()
    assert events.drain(LONG)
    assert len(got) == 2


def test_importing_the_package_starts_and_connects_nothing() -> None:
    code = (
        "import threading, sys; from celery_tasker_events import DomainEvents; from celery import signals;"
        "assert threading.active_count() == 1, threading.enumerate();"
        "assert not signals.task_success.receivers"
    )

    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_a_hook_that_hangs_does_not_keep_the_bus_from_being_closed(shop: Shop) -> None:
    app, events = shop
    listen(events)
    gate = threading.Event()

    class Hanging(BasePublisher):
        def should_publish(self, *_: Any) -> bool:
            return not gate.wait(LONG)

    events.register_publisher(Hanging)
    app.task(name="pay")(fast("a.b")(make_plain())).apply()
    assert events.drain(LONG)
    bus_threads = [thread for thread in threading.enumerate() if thread.name.startswith("tasker-events-bus")]
    app.task(name="hang")(fast("a.hang", publisher="Hanging")(make_plain())).apply()

    assert events.close(0.01) is False
    gate.set()

    for thread in bus_threads:
        thread.join(0.3)
    assert not any(thread.is_alive() for thread in bus_threads)
