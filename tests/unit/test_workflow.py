"""events.workflow and events.correlation, seen in the messages that are sent and in the events of eager tasks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_tasker_events import DomainEvents, publishes_events
from celery_tasker_events.testing.recorded_events import RecordedEvents

from .conftest import NewShop

TEMPLATE = """\
name: {name}
namespace_name: payments
steps:
  - name: {step}
    handler: {{task: pay}}
    publishes_events:
      - {{name: payment.{step}, delivery_mode: fast}}
"""

Made = tuple[Celery, DomainEvents]


@pytest.fixture
def make_shared(new_shop: NewShop, tmp_path: Path) -> Callable[..., Made]:
    """Makes an app whose task ``pay`` serves the templates payments/card and payments/invoice."""

    def make(**conf: Any) -> Made:
        for name in ("card", "invoice"):
            (tmp_path / f"{name}.yaml").write_text(TEMPLATE.format(name=name, step=f"by_{name}"))
        app, events = new_shop(tasker_events_templates=[str(tmp_path / "*.yaml")], **conf)

        @app.task(name="pay", shared=False)
        @publishes_events("payment.made", delivery_mode="fast")
        def pay() -> None: ...

        return app, events

    return make


def names(domain_events: RecordedEvents) -> list[str]:
    return sorted(event.event_name for event in domain_events)


def headers_of_next_message(app: Celery) -> dict[str, Any]:
    with app.connection_for_read() as connection:
        message = connection.default_channel.basic_get(app.conf.task_default_queue, no_ack=True)
    assert message is not None
    return dict(message.headers)


def test_a_message_sent_inside_the_block_carries_workflow_and_correlation_id(make_shared: Callable[..., Made]) -> None:
    app, events = make_shared(task_always_eager=False)

    with events.workflow("payments/card", correlation_id="order-7"):
        app.tasks["pay"].delay()

    headers = headers_of_next_message(app)
    assert (headers["tasker_workflow"], headers["tasker_correlation_id"]) == ("payments/card", "order-7")


def test_a_message_sent_after_the_block_carries_neither(make_shared: Callable[..., Made]) -> None:
    app, events = make_shared(task_always_eager=False)

    with events.correlation("order-7"):
        pass
    app.tasks["pay"].delay()

    assert not {"tasker_workflow", "tasker_correlation_id"} & headers_of_next_message(app).keys()


@pytest.mark.parametrize("name", ["card", "invoice"])
def test_the_workflow_picks_the_template_of_a_shared_task(
    make_shared: Callable[..., Made], domain_events: RecordedEvents, name: str
) -> None:
    app, events = make_shared()

    with events.workflow(f"payments/{name}", correlation_id="order-7"):
        app.tasks["pay"].apply()

    assert names(domain_events) == [f"payment.by_{name}", "payment.made"]
    assert {event.metadata.correlation_id for event in domain_events} == {"order-7"}


def test_without_a_workflow_only_the_decorators_events_are_published(
    make_shared: Callable[..., Made], domain_events: RecordedEvents, caplog: pytest.LogCaptureFixture
) -> None:
    app, _ = make_shared()

    app.tasks["pay"].apply()

    assert names(domain_events) == ["payment.made"]
    assert "Send it inside events.workflow(...) with payments/card or payments/invoice" in caplog.text


def test_an_unknown_workflow_is_told_with_what_was_probably_meant(
    make_shared: Callable[..., Made], caplog: pytest.LogCaptureFixture
) -> None:
    _, events = make_shared()

    with caplog.at_level(logging.WARNING), events.workflow("payments/crad"):
        pass

    assert "No task template is named 'payments/crad'. Did you mean 'payments/card'?" in caplog.text


def test_an_event_by_hand_outside_of_a_task_takes_the_blocks_correlation_id(
    make_shared: Callable[..., Made], domain_events: RecordedEvents
) -> None:
    _, events = make_shared()

    with events.correlation("order-7"):
        events.publish("payment.flagged", {}, delivery_mode="fast")

    domain_events.assert_published("payment.flagged", metadata={"correlation_id": "order-7"})


def test_two_versions_of_one_template_are_refused(new_shop: NewShop, tmp_path: Path) -> None:
    for name in ("1.0.0", "1.1.0"):
        (tmp_path / f"{name}.yaml").write_text(TEMPLATE.format(name="card", step="by_card"))
    _, events = new_shop(tasker_events_templates=[str(tmp_path / "*.yaml")])

    (problem,) = events.catalog.problems

    assert "template 'payments/card' is loaded already from" in problem.message
    assert "1.0.0.yaml" in problem.message


def test_a_retryable_class_that_can_not_be_imported_is_a_problem(new_shop: NewShop) -> None:
    _, events = new_shop(tasker_events_retryable=["no.such.Error", "builtins.int", "builtins.TimeoutError"])

    assert [str(problem) for problem in events.catalog.problems] == [
        "tasker_events_retryable: 'no.such.Error' is no exception class, nor the import path of one",
        "tasker_events_retryable: 'builtins.int' is no exception class, nor the import path of one",
    ]


def test_a_step_whose_task_is_defined_late_is_bound_when_it_first_ends(
    new_shop: NewShop, tmp_path: Path, domain_events: RecordedEvents
) -> None:
    (tmp_path / "card.yaml").write_text(TEMPLATE.format(name="card", step="by_card"))
    app, events = new_shop(tasker_events_templates=[str(tmp_path / "*.yaml")])
    assert [problem.line for problem in events.catalog.unbound] == [4]

    @app.task(name="pay", shared=False)
    def pay() -> None: ...

    app.tasks["pay"].apply()

    assert names(domain_events) == ["payment.by_card"]
