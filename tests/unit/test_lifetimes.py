"""How long a plugin, an app and what they started live: closing in odd places and moments, several apps, modules loaded anew."""

from __future__ import annotations

import gc
import importlib
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, signals

from celery_tasker_events import BasePublisher, DomainEvent, DomainEvents, publishes_events

from .conftest import NewShop

LONG = 30.0

Shop = tuple[Celery, DomainEvents]


def publish(events: DomainEvents, payload: Any = None, **options: Any) -> str | None:
    return events.publish("a.b", payload, **{"delivery_mode": "fast", **options})


# Closing


def test_what_is_accepted_while_another_thread_closes_again_and_again_arrives_once(new_shop: NewShop) -> None:
    _, events = new_shop(tasker_events_command_buffer_size=10_000, tasker_events_broadcast_buffer_size=10_000)
    got: list[str] = []
    events.subscribe("*")(lambda event: got.append(event.event_id))
    accepted: list[str | None] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait(LONG)
        for number in range(300):
            accepted.append(publish(events, number))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    barrier.wait(LONG)
    while any(thread.is_alive() for thread in threads):
        assert events.close(LONG)
    assert events.close(LONG)

    assert None not in accepted
    assert sorted(got) == sorted(map(str, accepted))
    assert len(got) == 900


def test_all_who_close_at_once_wait_for_the_same_end(shop: Shop) -> None:
    _, events = shop
    gate, entered = threading.Event(), threading.Event()

    @events.subscribe("*")
    def wait(_: DomainEvent) -> None:
        entered.set()
        gate.wait(LONG)

    publish(events)
    assert entered.wait(LONG)
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(events.close(LONG))) for _ in range(3)]
    for thread in threads:
        thread.start()

    assert events.close(0.01) is False
    assert answers == []
    gate.set()
    for thread in threads:
        thread.join(LONG)
    assert answers == [True] * 3


def test_a_subscriber_that_closes_or_drains_is_not_waited_for_by_itself_and_nothing_is_lost(shop: Shop) -> None:
    _, events = shop
    got: list[Any] = []
    answers: list[bool] = []

    @events.subscribe("*")
    def end(event: DomainEvent) -> None:
        got.append(event.payload)
        if event.payload == 0:
            answers.extend([events.drain(LONG), events.close(LONG)])

    for number in range(10):
        publish(events, number)

    assert events.close(LONG)
    assert answers == [False, False]
    assert got == list(range(10))


def test_a_publishers_hook_that_closes_is_not_waited_for_by_itself_and_nothing_is_lost(shop: Shop) -> None:
    app, events = shop
    got: list[Any] = []
    events.subscribe("*")(lambda event: got.append(event.payload))

    class Closing(BasePublisher):
        def should_publish(self, *_: Any) -> bool:
            return events.close(LONG) is False

    events.register_publisher(Closing)

    def step() -> int:
        return 1

    app.task(shared=False)(publishes_events("a.b", delivery_mode="fast", publisher="Closing")(step)).apply()
    publish(events, 2)

    assert events.close(LONG)
    assert sorted(got) == [1, 2]


# Apps


def test_two_apps_publish_with_their_own_settings_and_one_ends_without_the_other(new_shop: NewShop) -> None:
    shops = {name: new_shop(name, tasker_events_namespace=name) for name in ("one", "two")}
    got: dict[str, list[DomainEvent]] = {name: [] for name in shops}
    for name, (_, events) in shops.items():
        events.subscribe("*")(got[name].append)
        publish(events, name)
    assert shops["one"][1].close(LONG)

    publish(shops["two"][1], "again")

    assert shops["two"][1].drain(LONG)
    told = {name: [(event.payload, event.metadata.namespace) for event in heard] for name, heard in got.items()}
    assert told == {"one": [("one", "one")], "two": [("two", "two"), ("again", "two")]}


def test_a_step_of_one_app_that_publishes_with_another_ones_plugin_leaves_that_ones_tasks_alone(new_shop: NewShop) -> None:
    (one, _), (two, events) = new_shop("one"), new_shop("two")
    got: list[DomainEvent] = []
    events.subscribe("*")(got.append)

    @one.task(name="pay", shared=False)
    @publishes_events("payment.processed", namespace="of_one", delivery_mode="fast")
    def pay() -> None:
        publish(events)

    pay.apply(task_id="task-1")

    @two.task(name="pay", shared=False)
    def other() -> None: ...

    other.apply()
    assert events.drain(LONG)
    [event] = got
    assert (event.metadata.step_uuid, event.metadata.namespace) == ("task-1", "default")


def test_an_app_that_nobody_has_finalized_publishes(shop: Shop) -> None:
    app, events = shop
    assert not app.finalized

    assert publish(events) is not None


def test_an_app_that_must_not_finalize_itself_is_told_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    app = Celery("strict", autofinalize=False, set_as_current=False)
    events = DomainEvents(app)

    assert publish(events) is None
    assert "call app.finalize()" in caplog.text
    app.finalize()
    assert publish(events) is not None
    assert events.close(LONG)


def test_nothing_is_left_of_an_app_whose_tasks_have_run_when_nobody_uses_it_any_more() -> None:
    def use() -> weakref.ref[DomainEvents]:
        app = Celery("used", broker="memory://", set_as_current=False)
        events = DomainEvents(app)

        class Own(BasePublisher):
            def before_publish(self, event: DomainEvent) -> bool:
                return events.app is app

        def step() -> None: ...

        events.register_publisher(Own)
        app.task(name="pay", shared=False)(publishes_events("a.b", delivery_mode="fast", publisher="Own")(step)).apply()
        app.task(name="idle", shared=False)(step).apply()
        assert events.close(LONG)
        return weakref.ref(events)

    used = use()
    gc.collect()

    assert used() is None


# Modules that are loaded anew

#: Celery tells that the function of a shared task stays the first one.
reloading = pytest.mark.filterwarnings("ignore:Task name .* is already registered")

MODULE = """
from celery import Celery, shared_task
from celery_tasker_events import DomainEvents, publishes_events, subscribe

app = Celery("reloaded", broker="memory://", backend="cache+memory://")
events = DomainEvents(app)
heard = globals().get("heard", [])

@app.task(name="reloaded.below")
@publishes_events("task.below", delivery_mode="fast")
def below(): ...

@publishes_events("task.above", delivery_mode="fast")
@app.task(name="reloaded.above")
def above(): ...

@publishes_events("task.shared", delivery_mode="fast")
@shared_task(name="reloaded.shared")
def shared(): ...

@events.subscribe("*")
def hear_own(event):
    heard.append(("own", event.event_name))

@subscribe("*")
def hear_all(event):
    heard.append(("all", event.event_name))
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "reloaded_shop.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("reloaded_shop")
    sys.modules.pop("reloaded_shop").events.close(LONG)


def call_all(module: Any) -> None:
    for task in (module.below, module.above, module.shared):
        task.apply()


def count_receivers() -> int:
    """How many of those that Celery holds weakly are left."""
    return sum(receiver() is not None for _, receiver in signals.task_success.receivers)


EACH_ONCE = sorted((who, f"task.{task}") for who in ("own", "all") for task in ("above", "below", "shared"))


@reloading
def test_after_a_reload_every_event_is_published_and_heard_once(module: Any) -> None:
    call_all(module)
    assert module.events.drain(LONG)
    assert sorted(module.heard) == EACH_ONCE

    for _ in range(2):
        module.heard.clear()
        importlib.reload(module)
        call_all(module)
        assert module.events.drain(LONG)
        assert sorted(module.heard) == EACH_ONCE


@reloading
def test_a_notebooks_cell_may_be_run_twice() -> None:
    heard: list[str] = []
    cell = MODULE.replace("reloaded.", "notebook.")
    names: dict[str, Any] = {"__name__": "__main__", "heard": heard}
    for _ in range(2):
        heard.clear()
        exec(cell, names)
        for task in ("below", "above", "shared"):
            names[task].apply()
        assert names["events"].drain(LONG)
        assert sorted(heard) == EACH_ONCE
    assert names["events"].close(LONG)


@reloading
def test_nothing_is_left_of_a_plugin_that_a_reload_has_replaced_and_what_it_accepted_arrives(
    module: Any, our_threads: Callable[[], set[str]]
) -> None:
    gate = threading.Event()
    module.events.subscribe("slow.*")(lambda _: gate.wait(LONG))
    for number in range(3):
        module.events.publish("slow.event", number, delivery_mode="fast")
    module.events.publish("last.event", 0, delivery_mode="fast")
    old, receivers = weakref.ref(module.events), count_receivers()

    importlib.reload(module)
    gc.collect()
    assert old() is None
    assert count_receivers() == receivers
    gate.set()
    module.events.publish("new.event", 0, delivery_mode="fast")
    assert module.events.close(LONG)

    for thread in threading.enumerate():
        if thread.name.startswith("tasker-events"):
            thread.join(LONG)
    assert our_threads() == set()
    assert {("own", "last.event"), ("own", "new.event")} <= set(module.heard)


def test_a_function_that_is_defined_anew_takes_the_place_of_the_one_before(shop: Shop) -> None:
    _, events = shop
    heard: list[str] = []
    names: dict[str, Any] = {"__name__": "somewhere", "events": events, "heard": heard}
    for version in ("first", "second"):
        exec(f"@events.subscribe('*')\ndef hear(event): heard.append({version!r})", names)
        # As these names are no names, each stands for a function of its own.
        exec(f"@events.subscribe('*')\ndef _(event): heard.append('_' + {version!r})", names)
        exec(f"events.subscribe('*')(lambda event: heard.append('lambda ' + {version!r}))", names)

    publish(events)

    assert events.drain(LONG)
    assert sorted(heard) == ["_first", "_second", "lambda first", "lambda second", "second"]
