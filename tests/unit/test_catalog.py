"""Declarations bound to Celery tasks, wherever the decorator stands and whenever the task is defined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery, Task, current_app, shared_task

from celery_tasker_events import DomainEvents, publishes_events
from celery_tasker_events.binding import EMPTY
from celery_tasker_events.outcome import OutcomeKind

Shop = tuple[Celery, DomainEvents]


def make_function() -> Callable[[], None]:
    def step() -> None: ...

    return step


def names_of(events: DomainEvents, task: Any) -> list[str]:
    """Names of the events that are bound to a task, found as a signal finds them."""
    return [bound.declaration.name for bound in events.step(task).events]


# Where the decorator may stand


def test_a_decorator_below_app_task_declares(shop: Shop) -> None:
    app, events = shop

    @app.task
    @publishes_events("payment.processed", delivery_mode="fast")
    def pay() -> None: ...

    assert names_of(events, pay) == ["payment.processed"]


def test_a_decorator_above_app_task_declares(shop: Shop) -> None:
    app, events = shop

    @publishes_events("payment.processed")
    @app.task
    def pay() -> None: ...

    assert names_of(events, pay) == ["payment.processed"]


def test_a_decorator_above_app_task_does_not_configure_the_app_too_early(shop: Shop) -> None:
    app = Celery("lazy", broker="memory://")
    events = DomainEvents(app)

    @publishes_events("payment.processed")
    @publishes_events("payment.seen", condition="always")
    @app.task
    def pay() -> None: ...

    assert app.configured is False
    app.config_from_object({"task_serializer": "pickle", "tasker_events_namespace": "late"})
    assert pay.serializer == "pickle"
    assert names_of(events, pay) == ["payment.processed", "payment.seen"]
    assert [bound.namespace for bound in events.step(pay).events] == ["late", "late"]


def test_attaching_to_an_app_does_not_configure_or_finalize_it() -> None:
    app = Celery("lazy", broker="memory://")

    DomainEvents(app)

    assert (app.configured, app.finalized) == (False, False)


def test_decorators_above_and_below_add_up_topmost_first(shop: Shop) -> None:
    app, events = shop

    @publishes_events("a.first")
    @app.task
    @publishes_events("a.second")
    @publishes_events([{"name": "a.third"}, {"name": "a.fourth", "condition": "failure"}])
    def pay() -> None: ...

    assert names_of(events, pay) == ["a.first", "a.second", "a.third", "a.fourth"]


@pytest.mark.parametrize(
    "options",
    [{"bind": True}, {"autoretry_for": (ValueError,)}, {"bind": True, "autoretry_for": (ValueError,)}, {"lazy": False}],
    ids=str,
)
@pytest.mark.parametrize("above", [True, False])
def test_the_options_of_app_task_make_no_difference(shop: Shop, options: dict[str, Any], *, above: bool) -> None:
    app, events = shop
    declare, register = publishes_events("payment.processed"), app.task(**options)

    def pay(*args: Any) -> None: ...

    task = declare(register(pay)) if above else register(declare(pay))

    assert names_of(events, task) == ["payment.processed"]


@pytest.mark.parametrize("above", [True, False])
def test_a_shared_task_declares_in_every_app(new_shop: Callable[..., Shop], *, above: bool) -> None:
    def pay() -> None: ...

    # As in a module that is imported before any app is made.
    if above:
        pay = publishes_events("payment.processed")(shared_task(pay))
    else:
        pay = shared_task(publishes_events("payment.processed")(pay))

    for name in ("one", "two"):
        app, events = new_shop(name)
        app.finalize()
        task = app.tasks[f"{__name__}.pay"]
        assert task.app is app
        assert names_of(events, task) == ["payment.processed"]


def test_a_declaration_on_one_shared_task_is_none_on_another(shop: Shop) -> None:
    app, events = shop

    @publishes_events("a.b")
    @shared_task
    def one() -> None: ...

    @publishes_events("a.c")
    @shared_task
    def other() -> None: ...

    assert names_of(events, app.tasks[f"{__name__}.one"]) == ["a.b"]
    assert names_of(events, app.tasks[f"{__name__}.other"]) == ["a.c"]


def test_looking_for_shared_tasks_leaves_the_current_app_as_it_was(new_shop: Callable[..., Shop]) -> None:
    @publishes_events("a.b")
    @shared_task
    def one() -> None: ...

    _, events = new_shop("first")
    current, _ = new_shop("second")
    current.set_current()

    assert events.catalog.steps()
    assert current_app._get_current_object() is current


def test_a_task_class_may_be_decorated(shop: Shop) -> None:
    app, events = shop

    @publishes_events("payment.processed")
    class Pay(Task):
        name = "shop.pay"

        def run(self) -> None: ...

    task = app.register_task(Pay())

    assert names_of(events, task) == ["payment.processed"]


def test_the_run_method_of_a_task_class_may_be_decorated(shop: Shop) -> None:
    app, events = shop

    class Pay(Task):
        name = "shop.pay"

        @publishes_events("payment.processed")
        def run(self) -> None: ...

    task = app.register_task(Pay())

    assert names_of(events, task) == ["payment.processed"]


def test_a_base_class_declares_for_all_of_its_tasks_besides_their_own(shop: Shop) -> None:
    app, events = shop

    @publishes_events("step.ended", condition="always")
    class Base(Task):
        abstract = True

    @app.task(base=Base)
    @publishes_events("payment.processed")
    def pay() -> None: ...

    @app.task(base=Base)
    def refund() -> None: ...

    assert names_of(events, pay) == ["step.ended", "payment.processed"]
    assert names_of(events, refund) == ["step.ended"]


def test_a_decorated_subclass_adds_to_its_base_and_not_to_it(shop: Shop) -> None:
    app, events = shop

    @publishes_events("a.base")
    class Base(Task):
        name = "shop.base"

        def run(self) -> None: ...

    @publishes_events("a.derived")
    class Derived(Base):
        name = "shop.derived"

    base, derived = app.register_task(Base()), app.register_task(Derived())

    assert names_of(events, base) == ["a.base"]
    assert names_of(events, derived) == ["a.derived", "a.base"]


def test_a_task_that_is_defined_after_the_app_was_finalized_declares_too(shop: Shop) -> None:
    app, events = shop
    app.finalize()
    assert events.catalog.steps() == {}

    @app.task
    @publishes_events("a.below")
    def below() -> None: ...

    @publishes_events("a.above")
    @app.task
    def above() -> None: ...

    assert names_of(events, below) == ["a.below"]
    assert names_of(events, above) == ["a.above"]


def test_what_is_wrong_with_a_late_task_is_logged(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    app, events = shop
    assert events.catalog.steps() == {}

    @app.task
    @publishes_events("a.b", publisher="Nobody")
    @publishes_events("a.good")
    def late() -> None: ...

    assert names_of(events, late) == ["a.good"]
    assert "event 'a.b': unknown publisher 'Nobody'" in caplog.text


# The look-up


def test_a_tasks_events_are_worked_out_once_by_outcome(shop: Shop) -> None:
    app, events = shop

    @app.task
    @publishes_events("a.done")
    @publishes_events("a.always", condition="always")
    @publishes_events("a.failed", condition="permanent_failure")
    def pay() -> None: ...

    step = events.step(pay)

    assert events.step(pay) is step
    assert [bound.declaration.name for bound in step.due(OutcomeKind.SUCCESS, None)] == ["a.done", "a.always"]
    assert [bound.declaration.name for bound in step.due(OutcomeKind.RETRYABLE_FAILURE, None)] == ["a.always"]
    assert [bound.declaration.name for bound in step.due(OutcomeKind.PERMANENT_FAILURE, None)] == ["a.always", "a.failed"]


def test_the_look_up_needs_nothing_of_a_task_but_its_name(shop: Shop) -> None:
    app, events = shop

    @app.task(name="shop.pay")
    @publishes_events("a.b")
    def pay() -> None: ...

    assert events.catalog.steps().keys() == {"shop.pay"}

    class NameOnly:
        name = "shop.pay"

    assert events.step(NameOnly()) is events.step(pay)


def test_a_task_without_declarations_shares_one_empty_step(shop: Shop) -> None:
    app, events = shop

    @app.task
    def plain() -> None: ...

    assert events.step(plain) is EMPTY
    assert events.step(app.tasks["celery.chord"]) is EMPTY


def test_a_decorators_event_is_named_after_the_function_and_has_the_settings_namespace(new_shop: Callable[..., Shop]) -> None:
    app, events = new_shop(tasker_events_namespace="payments")

    @app.task(name="shop.tasks.process_payment")
    @publishes_events("a.b")
    @publishes_events("a.c", namespace="refunds", delivery_mode="fast")
    def pay() -> None: ...

    assert [(b.step_name, b.namespace) for b in events.step(pay).events] == [
        ("process_payment", "payments"),
        ("process_payment", "refunds"),
    ]
    assert events.catalog.durable_namespaces() == {"payments"}


# What would be taken for a repetition


@pytest.mark.parametrize(
    ("first", "second"),
    [({}, {"condition": "always"}), ({"condition": "failure"}, {"condition": "permanent_failure"}), ({}, {"version": "2.0"})],
)
def test_two_events_of_one_name_on_one_outcome_are_told(shop: Shop, first: dict[str, Any], second: dict[str, Any]) -> None:
    app, events = shop

    @app.task(name="shop.pay")
    @publishes_events("payment.processed", **first)
    @publishes_events("payment.processed", **second)
    def pay() -> None: ...

    [problem] = events.catalog.problems
    assert str(problem) == (
        "task shop.pay: event 'payment.processed' is due twice on one outcome, in namespace 'default': who gets both takes the "
        "second for a repetition of the first. Give one of them another name, or conditions of which only one is met"
    )


def test_one_name_is_right_where_nobody_gets_it_twice(shop: Shop) -> None:
    app, events = shop

    @app.task(name="shop.pay")
    @publishes_events("payment.ended")
    @publishes_events("payment.ended", condition="permanent_failure", version="2.0")
    @publishes_events("payment.ended", namespace="audit")
    @publishes_events("payment.ended", delivery_mode="fast")
    @publishes_events("payment.ended", publisher="celery_tasker_events.BasePublisher")
    def pay() -> None: ...

    assert events.catalog.problems == []
