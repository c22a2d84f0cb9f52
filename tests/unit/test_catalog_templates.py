"""Templates bound to tasks, and events that are published by hand: which task a step is, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_tasker_events import BasePublisher, DomainEvents, publishes_events
from celery_tasker_events.catalog import Catalog
from celery_tasker_events.errors import ConfigurationError

Shop = tuple[Celery, DomainEvents]


def make_function() -> Callable[[], None]:
    def step() -> None: ...

    return step


# Templates


def template(steps: str, *, head: str = "") -> str:
    return f"name: checkout\nnamespace_name: payments\n{head}steps:\n{steps}"


STEP = "  - name: {name}\n    publishes_events: [{{name: payment.processed}}]\n"


@pytest.fixture
def catalog_of(shop: Shop, write_template: Callable[[str], Path]) -> Callable[[str], Catalog]:
    def compile_with(text: str) -> Catalog:
        app, events = shop
        app.conf.tasker_events_templates = [str(write_template(text))]
        return events.catalog

    return compile_with


def bound_to(catalog: Catalog) -> dict[str, list[tuple[str, str, str | None]]]:
    return {
        task: [(bound.declaration.name, bound.namespace, bound.step_name) for bound in step.events]
        for task, step in catalog.steps().items()
    }


@pytest.mark.parametrize(
    ("task_name", "step"),
    [
        ("process_payment", STEP.format(name="process_payment")),
        ("shop.tasks.process_payment", STEP.format(name="process_payment")),
        ("shop.pay", STEP.format(name="process_payment") + "    handler: {task: shop.pay}\n"),
        ("shop.pay", STEP.format(name="process_payment") + "    handler: {task: pay}\n"),
        ("shop.pay", STEP.format(name="process_payment") + "    handler: {callable: shop.pay}\n"),
        ("shop.process_payment", STEP.format(name="process_payment") + "    handler: {callable: no.such.thing}\n"),
    ],
    ids=["step is the name", "step is its last part", "handler.task", "its last part", "handler.callable", "callable unknown"],
)
def test_a_step_finds_its_task(shop: Shop, catalog_of: Callable[[str], Catalog], task_name: str, step: str) -> None:
    app, _ = shop
    app.task(name=task_name)(make_function())

    catalog = catalog_of(template(step))

    assert (catalog.problems, catalog.unbound) == ([], [])
    assert bound_to(catalog) == {task_name: [("payment.processed", "payments", "process_payment")]}


def test_a_step_finds_its_task_by_where_the_function_is_imported_from(shop: Shop, catalog_of: Any, monkeypatch: Any) -> None:
    app, _ = shop
    monkeypatch.setitem(globals(), "charge", app.task(name="other.name")(make_function()))

    catalog = catalog_of(template(STEP.format(name="pay") + f"    handler: {{callable: '{__name__}:charge'}}\n"))

    assert bound_to(catalog).keys() == {"other.name"}


def test_a_step_that_names_no_task_is_told_with_its_line_and_the_closest_task(shop: Shop, catalog_of: Any) -> None:
    app, _ = shop
    app.task(name="process_payment")(make_function())

    catalog = catalog_of(template(STEP.format(name="process_paiment")))

    [problem] = catalog.unbound
    assert problem.line == 4
    assert problem.message == "step 'process_paiment' names no Celery task (process_paiment). Did you mean 'process_payment'?"
    assert bound_to(catalog) == {}


def test_a_step_without_events_needs_no_task(catalog_of: Callable[[str], Catalog]) -> None:
    catalog = catalog_of(template("  - name: nobody\n"))

    assert (catalog.problems, catalog.unbound) == ([], [])


def test_a_step_that_could_be_two_tasks_is_told(shop: Shop, catalog_of: Any) -> None:
    app, _ = shop
    app.task(name="shop.pay")(make_function())
    app.task(name="refunds.pay")(make_function())

    catalog = catalog_of(template(STEP.format(name="pay")))

    [problem] = catalog.problems
    assert (problem.line, problem.message) == (4, "step 'pay' could be any of refunds.pay, shop.pay: name one in handler.task")
    assert bound_to(catalog) == {}


def test_a_full_name_is_not_ambiguous(shop: Shop, catalog_of: Any) -> None:
    app, _ = shop
    app.task(name="shop.pay")(make_function())
    app.task(name="refunds.pay")(make_function())

    catalog = catalog_of(template(STEP.format(name="pay") + "    handler: {task: refunds.pay}\n"))

    assert bound_to(catalog).keys() == {"refunds.pay"}


def test_templates_and_decorators_add_up(shop: Shop, catalog_of: Any) -> None:
    app, _ = shop
    app.task(name="pay")(publishes_events("payment.seen", condition="always")(make_function()))

    catalog = catalog_of(template(STEP.format(name="pay")))

    assert bound_to(catalog) == {"pay": [("payment.processed", "payments", "pay"), ("payment.seen", "default", "pay")]}


def test_what_is_wrong_with_an_event_is_told_with_its_line_and_the_others_are_bound(shop: Shop, catalog_of: Any) -> None:
    app, _ = shop
    app.task(name="pay")(make_function())

    catalog = catalog_of(
        template(
            "  - name: pay\n    publishes_events:\n"
            "      - name: payment.one\n        publisher: Nobody\n"
            "      - name: payment.two\n        schema: {type: strin}\n"
            "      - name: payment.three\n"
        )
    )

    assert [(problem.line, problem.message[:40]) for problem in catalog.problems] == [
        (7, "event 'payment.one': unknown publisher '"),
        (9, "event 'payment.two': invalid JSON Schema"),
    ]
    assert [name for name, *_ in bound_to(catalog)["pay"]] == ["payment.three"]


def test_a_broken_template_is_among_the_problems_and_the_decorators_still_count(shop: Shop, catalog_of: Any) -> None:
    app, _ = shop
    app.task(name="pay")(publishes_events("a.b")(make_function()))

    catalog = catalog_of("name: [")

    assert len(catalog.problems) == 1
    assert bound_to(catalog).keys() == {"pay"}


BY_HAND = "domain_events:\n  - {name: payment.flagged, delivery_mode: fast, namespace: risk}\n"


def test_a_task_level_event_is_found_by_its_name(catalog_of: Callable[[str], Catalog]) -> None:
    catalog = catalog_of(template("", head=BY_HAND))

    bound = catalog.declared_by_hand("payment.flagged")

    assert bound is not None
    assert (bound.namespace, bound.step_name) == ("risk", None)
    assert catalog.declared_by_hand("payment.other") is None
    assert list(catalog.events()) == [bound]


def test_a_task_level_event_that_is_declared_twice_is_told(catalog_of: Callable[[str], Catalog]) -> None:
    catalog = catalog_of(template("", head=BY_HAND + "  - name: payment.flagged\n"))

    [problem] = catalog.problems
    assert (problem.line, problem.message) == (5, "event 'payment.flagged': is declared as a task-level event twice")


def test_an_event_that_nobody_declared_is_bound_as_it_is_told(shop: Shop) -> None:
    _, events = shop

    bound = events.catalog.bind_by_hand("a.b", "risk", "pay", delivery_mode="fast")

    assert (bound.declaration.name, bound.namespace, bound.step_name) == ("a.b", "risk", "pay")
    assert bound.declaration.delivery_mode == "fast"


@pytest.mark.parametrize(
    ("name", "namespace", "fields"), [("bad", "risk", {}), ("a.b", "Risk", {}), ("a.b", "risk", {"delivery_mode": "x"})]
)
def test_an_event_by_hand_is_checked_like_a_declared_one(shop: Shop, name: str, namespace: str, fields: dict[str, Any]) -> None:
    _, events = shop

    with pytest.raises(ConfigurationError):
        events.catalog.bind_by_hand(name, namespace, None, **fields)


class RiskPublisher(BasePublisher): ...


def test_a_declarations_publisher_is_found_when_the_catalog_is_compiled(shop: Shop) -> None:
    app, events = shop
    events.register_publisher(RiskPublisher)

    @app.task
    @publishes_events("a.b", publisher="RiskPublisher", schema={"type": "object"})
    @publishes_events("a.c")
    def pay() -> None: ...

    first, second = events.step(pay).events

    assert type(first.publisher) is RiskPublisher
    assert first.validator is not None
    assert type(second.publisher).__name__ == "GenericPublisher"
    assert second.validator is None
