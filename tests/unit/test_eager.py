"""Tasks that run eagerly, as in users' own tests: their outcomes, retries, and what flows from one to the next."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery, Task, chain, chord, signals
from celery.exceptions import Retry, TimeLimitExceeded

from celery_tasker_events import DomainEvent, DomainEvents, publishes_events

from .conftest import NewShop

LONG = 30.0

Shop = tuple[Celery, DomainEvents]

EVERY_END = [
    {"name": f"step.{condition}", "condition": condition, "delivery_mode": "fast"}
    for condition in ("success", "retryable_failure", "permanent_failure")
]


class Heard:
    """What an app's subscribers heard."""

    def __init__(self, events: DomainEvents) -> None:
        self._events = events
        self._got: list[DomainEvent] = []
        events.subscribe("*")(self._got.append)

    @property
    def events(self) -> list[DomainEvent]:
        assert self._events.drain(LONG)
        return self._got

    @property
    def ends(self) -> list[str]:
        return [event.event_name.removeprefix("step.") for event in self.events]

    def of(self, field: str) -> set[str]:
        return {getattr(event.metadata, field) for event in self.events}


def identity(number: int) -> int:
    return number


def told(app: Celery, function: Callable[..., Any], **options: Any) -> Task:
    return app.task(shared=False, **options)(publishes_events(EVERY_END)(function))


@pytest.mark.parametrize("call", ["delay", "apply"])
@pytest.mark.parametrize("stores", [True, False])
def test_an_eager_task_tells_its_outcome(new_shop: NewShop, call: str, *, stores: bool) -> None:
    app, events = new_shop(task_always_eager=True, task_store_eager_result=stores)
    heard = Heard(events)

    def pay() -> int:
        return 1

    def fail() -> None:
        raise KeyError("gone")

    for function in (pay, fail):
        getattr(told(app, function), call)()

    assert heard.ends == ["success", "permanent_failure"]


def test_a_failure_that_an_eager_task_passes_on_to_its_caller_is_told(new_shop: NewShop) -> None:
    app, events = new_shop(task_always_eager=True, task_eager_propagates=True)
    heard = Heard(events)

    def fail() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError):
        told(app, fail).apply_async(task_id="task-1")

    assert heard.ends == ["permanent_failure"]
    [event] = heard.events
    assert event.metadata.step_uuid == "task-1"
    assert event.payload == {"error_code": "KeyError", "reason": "'gone'"}


def test_a_retry_that_an_eager_task_passes_on_to_its_caller_is_told(new_shop: NewShop) -> None:
    app, events = new_shop()
    heard = Heard(events)

    def again(self: Task) -> None:
        raise self.retry(exc=KeyError("gone"), countdown=0)

    with contextlib.suppress(Retry, KeyError):
        told(app, again, bind=True).apply(throw=True)

    assert heard.ends == ["retryable_failure"]


def test_every_eager_attempt_tells_its_outcome_once(shop: Shop) -> None:
    app, events = shop
    heard = Heard(events)

    def again(self: Task) -> None:
        raise self.retry(exc=KeyError("gone"), countdown=0)

    told(app, again, bind=True, max_retries=2).apply()

    assert heard.ends == ["retryable_failure", "retryable_failure", "permanent_failure"]


def test_a_step_that_a_step_runs_eagerly_has_its_root_and_correlation_id(new_shop: NewShop) -> None:
    app, events = new_shop(task_always_eager=True)
    heard = Heard(events)

    def last() -> None: ...

    leaf = told(app, last)

    @app.task(shared=False)
    def without_events() -> None:
        leaf.delay()

    def first() -> None:
        without_events.delay()
        chain(leaf.si(), leaf.si()).delay()

    told(app, first).apply_async(task_id="root-1")
    assert heard.ends == ["success"] * 4
    assert heard.of("task_uuid") == heard.of("correlation_id") == {"root-1"}

    heard.events.clear()
    told(app, first).apply_async(headers={"tasker_correlation_id": "order-7"}, task_id="root-2")
    assert heard.of("correlation_id") == {"order-7"}
    assert heard.of("task_uuid") == {"root-2"}


def test_an_eager_canvas_has_the_correlation_id_of_the_block_it_is_sent_in(new_shop: NewShop) -> None:
    app, events = new_shop(task_always_eager=True)
    heard = Heard(events)

    def step(*_: Any) -> int:
        return 1

    task = told(app, step)

    with events.correlation("order-7"):
        chain(task.s(), task.s()).delay()
        chord([task.s(), task.s()], task.s()).delay()

    assert heard.ends == ["success"] * 5
    assert heard.of("correlation_id") == {"order-7"}


def test_what_the_caller_set_on_an_eager_call_is_neither_changed_nor_overruled(shop: Shop) -> None:
    app, events = shop
    heard = Heard(events)

    def step() -> None: ...

    headers = {"tasker_correlation_id": "mine", "other": 1}
    with events.correlation("order-7"):
        told(app, step).apply(headers=headers)

    assert headers == {"tasker_correlation_id": "mine", "other": 1}
    assert heard.of("correlation_id") == {"mine"}


def test_a_step_that_fails_again_under_the_same_id_is_told_again(new_shop: NewShop) -> None:
    app, events = new_shop(tasker_events_deduplication_cache_size=0)
    heard = Heard(events)

    def fail() -> None:
        raise KeyError("gone")

    for _ in range(2):
        told(app, fail).apply(task_id="invoice-17")

    assert heard.ends == ["permanent_failure"] * 2
    assert len(heard.of("idempotency_key")) == 1


def test_a_task_that_calls_itself_like_a_function_is_one_step(shop: Shop) -> None:
    app, events = shop
    heard = Heard(events)

    @app.task(name="shop.factorial", shared=False)
    def factorial(number: int) -> int:
        events.publish("step.noted", number, delivery_mode="fast")
        result = number * int(factorial(number - 1)) if number else 1
        events.publish("step.noted", -number, delivery_mode="fast")
        events.publish("step.solved", result, delivery_mode="fast")
        return result

    factorial.apply(args=[2], task_id="task-1")

    assert [event.payload for event in heard.events if event.event_name == "step.solved"] == [1, 1, 2]
    assert heard.of("step_uuid") == {"task-1"}
    assert len(heard.of("idempotency_key")) == 9


@pytest.mark.parametrize("throw", [False, True])
def test_a_failing_step_inside_of_another_belongs_to_its_workflow(shop: Shop, *, throw: bool) -> None:
    app, events = shop
    heard = Heard(events)

    def fail() -> None:
        raise KeyError("gone")

    inner = told(app, fail, name="shop.inner")

    @app.task(name="shop.outer", shared=False)
    def outer() -> None:
        with contextlib.suppress(KeyError):
            inner.apply(throw=throw)

    outer.apply(task_id="outer-1", headers={"tasker_correlation_id": "order-1"})

    assert heard.ends == ["permanent_failure"]
    assert (heard.of("correlation_id"), heard.of("task_uuid")) == ({"order-1"}, {"outer-1"})


def test_what_map_calls_has_no_outcome_and_a_warning_says_so(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    app, events = shop
    heard = Heard(events)

    assert told(app, identity, name="shop.step").map([1, 2]).apply().get() == [1, 2]

    assert heard.ends == []
    assert "celery.map called task shop.step, which has events" in caplog.text


def test_a_map_that_fails_is_told_of_too(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    app, _ = shop

    def fail(number: int) -> None:
        raise KeyError(number)

    told(app, fail, name="shop.step").map([1, 2]).apply()

    assert "celery.map called task shop.step, which has events" in caplog.text


def test_a_map_that_its_time_limit_ended_is_no_error_of_ours(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    app, _ = shop
    step = told(app, identity, name="shop.step")
    app.finalize()
    arguments = {"task": dict(step.s(1)), "it": [[1]]}

    # As the worker's main process tells it, where no request is the current one.
    for kwargs in (arguments, {}):
        task, error = app.tasks["celery.starmap"], TimeLimitExceeded(3)
        signals.task_failure.send(sender=task, task_id="map-1", exception=error, args=[], kwargs=kwargs, einfo=None)

    assert "could not be published" not in caplog.text
    assert "celery.starmap called task shop.step" in caplog.text


def test_a_map_over_another_apps_task_is_not_ours_to_look_at(new_shop: NewShop) -> None:
    app, events = new_shop()
    heard = Heard(events)
    other = Celery("other", broker="memory://", set_as_current=False)
    others = other.task(name="shop.late", shared=False)(identity)
    told(app, identity, name="shop.first").apply(args=[1])
    other.finalize()
    other.tasks["celery.map"].apply(kwargs={"task": dict(others.s()), "it": [1]})

    told(app, identity, name="shop.late").apply(args=[1])

    assert heard.ends == ["success", "success"]
