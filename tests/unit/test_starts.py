"""When a step begins is noted only where an event may need it: a success' duration Celery tells itself."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import celery
import pytest
from celery import Celery, Task, signals
from celery.app.trace import build_tracer

from celery_tasker_events import DomainEvent, DomainEvents, publishes_events

from .conftest import NewShop

LONG = 30.0

Shop = tuple[Celery, DomainEvents]

pytestmark = pytest.mark.skipif(celery.VERSION < (5, 7), reason="task_success does not tell how long the task ran")


@dataclass
class Note:
    text: str


def do_nothing() -> None: ...


def fail() -> None:
    raise ValueError("no")


class Received:
    """What Celery's main process keeps of a message, as far as it matters here."""

    id = "task-1"

    def __init__(self, task: Task) -> None:
        self.task = task


class Bench:
    """An app with a task that tells its success, and what was heard of it."""

    def __init__(self, shop: Shop) -> None:
        self.app, self.events = shop
        self.got: list[DomainEvent] = []
        self.events.subscribe("*")(self.got.append)
        declared = publishes_events("step.succeeded", delivery_mode="fast")
        self.app.task(name="shop.step", shared=False)(declared(do_nothing))

    def run(self, name: str = "shop.step", *args: Any) -> None:
        """Run a task as a worker does."""
        task_id = uuid.uuid4().hex
        build_tracer(name, self.app.tasks[name], app=self.app)(task_id, args, {}, {"id": task_id, "delivery_info": {}})

    def notes_starts(self) -> bool:
        """Whether Celery tells the plugin when a task begins."""
        ours = self.events._receiver
        return any(uid == (id(ours), "on_prerun") for (uid, _), _ in signals.task_prerun.receivers)

    def heard(self) -> dict[str, float | None]:
        """Of each event that was heard, how long its step had run, in milliseconds."""
        assert self.events.drain(LONG)
        return {event.event_name: event.execution_result.metadata["execution_time_ms"] for event in self.got}


@pytest.fixture
def bench(shop: Shop) -> Bench:
    return Bench(shop)


def test_where_all_events_are_on_success_no_start_is_noted(bench: Bench) -> None:
    assert bench.notes_starts()

    bench.run()

    assert not bench.notes_starts()
    bench.run()
    assert (bench.heard()["step.succeeded"] or 0) > 0


def test_an_undeclared_task_finds_out_too(bench: Bench) -> None:
    bench.app.task(name="shop.other", shared=False)(do_nothing)

    bench.run("shop.other")

    assert not bench.notes_starts()


def test_a_workers_main_process_leaves_the_question_to_its_children(bench: Bench) -> None:
    received = Received(bench.app.tasks["shop.step"])
    signals.task_received.send(sender=None, request=received)

    # Else no child would know how long its first step has run when that publishes by hand.
    assert list(bench.events._receiver._received.values()) == [received]
    assert bench.notes_starts()


@pytest.mark.parametrize("condition", ["failure", "retryable_failure", "permanent_failure", "always"])
def test_one_event_on_more_than_success_is_enough(bench: Bench, condition: str) -> None:
    declared = publishes_events("other.ended", condition=condition, delivery_mode="fast")
    bench.app.task(name="shop.other", shared=False)(declared(fail))

    bench.run()

    assert bench.notes_starts()


def test_a_template_needs_them_even_if_its_task_is_not_there_yet(
    new_shop: NewShop, write_template: Callable[[str], Path]
) -> None:
    path = write_template(
        "name: order\nnamespace_name: shop\nversion: '1.0'\nsteps:\n  - name: pay\n    handler: {callable: shop.pay}\n"
        "    publishes_events:\n      - {name: pay.failed, condition: failure, delivery_mode: fast}\n"
    )
    bench = Bench(new_shop(tasker_events_templates=[str(path)]))

    bench.run()

    assert bench.events.catalog.unbound
    assert bench.notes_starts()


def test_a_decorator_that_comes_late_is_in_time_for_its_first_failure(bench: Bench) -> None:
    bench.run()
    declared = publishes_events("late.failed", condition="failure", delivery_mode="fast")
    bench.app.task(name="shop.late", shared=False)(declared(fail))
    with pytest.raises(ValueError, match="no"):
        bench.app.tasks["shop.late"].apply(throw=True)

    assert (bench.heard()["late.failed"] or 0) > 0
    assert bench.notes_starts()


def test_a_task_that_is_made_late_of_what_was_decorated_early_is_in_time(bench: Bench) -> None:
    declared = publishes_events("late.failed", condition="failure", delivery_mode="fast")(fail)
    bench.run()
    bench.app.task(name="shop.late", shared=False)(declared)
    with pytest.raises(ValueError, match="no"):
        bench.app.tasks["shop.late"].apply(throw=True)

    assert (bench.heard()["late.failed"] or 0) > 0


def test_an_event_that_is_declared_to_be_published_by_hand_needs_them(bench: Bench) -> None:
    bench.run()
    noted = bench.events.declare("step.noted", Note, delivery_mode="fast")

    @bench.app.task(name="shop.noting", shared=False)
    @publishes_events("noting.done", delivery_mode="fast")
    def note() -> None:
        bench.events.publish(noted, Note("hello"))

    bench.run("shop.noting")

    assert (bench.heard()["step.noted"] or 0) > 0


def test_from_the_first_event_on_that_is_published_by_hand_they_are_noted(bench: Bench) -> None:
    @bench.app.task(name="shop.noting", shared=False)
    @publishes_events("noting.done", delivery_mode="fast")
    def note(event_name: str = "first.noted") -> None:
        bench.events.publish(event_name, {}, delivery_mode="fast")

    bench.run()
    bench.run("shop.noting")
    bench.run("shop.noting", "second.noted")

    heard = bench.heard()
    assert heard["first.noted"] is None
    assert (heard["second.noted"] or 0) > 0


def test_a_process_that_runs_tasks_eagerly_notes_their_starts(bench: Bench) -> None:
    bench.run()
    assert not bench.notes_starts()

    bench.app.tasks["shop.step"].apply()
    bench.run()

    assert bench.notes_starts()


@pytest.mark.parametrize("ignored", [False, True])
def test_what_flows_to_an_eager_step_flows_all_the_same(bench: Bench, *, ignored: bool) -> None:
    @bench.app.task(name="shop.inner", shared=False)
    @publishes_events("inner.done", delivery_mode="fast")
    def inner() -> None: ...

    @bench.app.task(name="shop.outer", shared=False)
    @publishes_events("outer.done", delivery_mode="fast")
    def outer() -> None:
        with bench.events.correlation("order-2"):
            inner.apply()
        inner.apply()

    @bench.app.task(name="shop.caller", shared=False)
    def call() -> None:
        with bench.events.correlation("order-1"):
            outer.apply()

    if ignored:
        bench.run()
    assert bench.notes_starts() is not ignored
    bench.run("shop.caller")

    assert bench.events.drain(LONG)
    flowed = [event.metadata.correlation_id for event in bench.got if event.event_name != "step.succeeded"]
    assert flowed == ["order-2", "order-1", "order-1"]
    assert len({event.metadata.task_uuid for event in bench.got if event.event_name != "step.succeeded"}) == 1
