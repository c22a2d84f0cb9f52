"""events.publish without a connection: which step an event belongs to, and that nothing is raised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celery_tasker_events import DeliveryMode
from celery_tasker_events.telemetry.counters import Series
from celery_tasker_events.testing.recorded_events import RecordedEvents

from .listening import Shop, fast


def test_an_event_by_hand_belongs_to_the_running_task(shop: Shop, domain_events: RecordedEvents) -> None:
    app, events = shop
    ids: list[str | None] = []

    @app.task(name="shop.pay")
    @fast("payment.processed", namespace="payments")
    def pay() -> None:
        ids.append(events.publish("payment.flagged", {"score": 0.97}, delivery_mode="fast"))

    pay.apply(task_id="task-1")

    event = domain_events.assert_published("payment.flagged", score=0.97)
    assert [event.event_id] == ids
    assert event.execution_result.status == "published"
    metadata = event.metadata
    assert (metadata.step_uuid, metadata.step_name, metadata.namespace) == ("task-1", "pay", "payments")


def test_the_same_event_by_hand_twice_in_one_try_has_two_keys_that_the_next_run_repeats(
    shop: Shop, domain_events: RecordedEvents
) -> None:
    app, events = shop

    @app.task
    def pay() -> None:
        for score in (1, 2):
            events.publish("payment.flagged", score)

    for _ in range(2):
        pay.apply(task_id="task-1")

    keys = [event.metadata.idempotency_key for event in domain_events]
    assert keys[:2] == keys[2:]
    assert len(set(keys)) == 2


def test_events_by_hand_of_two_direct_calls_have_two_keys(shop: Shop, domain_events: RecordedEvents) -> None:
    app, events = shop

    @app.task
    def pay() -> None:
        events.publish("payment.flagged", 1)

    pay()
    pay()

    assert len({event.metadata.idempotency_key for event in domain_events}) == 2


def test_an_event_outside_of_any_task_belongs_to_none(new_shop: Callable[..., Shop], domain_events: RecordedEvents) -> None:
    _, events = new_shop(tasker_events_namespace="risk")

    event_id = events.publish(
        "payment.flagged", 1, delivery_mode=DeliveryMode.FAST, correlation_id="caller-1", idempotency_key="k"
    )

    event = domain_events.assert_published("payment.flagged")
    assert event.event_id == event_id
    metadata = event.metadata
    assert (metadata.task_uuid, metadata.step_uuid, metadata.step_name) == (None, None, None)
    assert (metadata.namespace, metadata.correlation_id, metadata.idempotency_key) == ("risk", "caller-1", "k")


def test_an_event_that_a_template_declares_is_published_as_declared(
    new_shop: Callable[..., Shop], write_template: Callable[[str], Path], domain_events: RecordedEvents
) -> None:
    path = write_template(
        "name: checkout\nnamespace_name: payments\ndomain_events:\n"
        "  - {name: payment.flagged, delivery_mode: fast, namespace: risk, schema: {required: [score]}}\n"
    )
    _, events = new_shop(tasker_events_templates=[str(path)])

    assert events.publish("payment.flagged", {"score": 1})
    with domain_events.expect_dead_letter("payment.flagged", stage="schema"):
        assert events.publish("payment.flagged", {"wrong": 1})

    [event] = domain_events
    assert (event.payload, event.metadata.namespace) == ({"score": 1}, "risk")
    assert events.counters()[Series("failed", "payment.flagged", "risk", "schema")] == 1


@pytest.mark.parametrize("fields", [{"event_name": "bad"}, {"namespace": "No"}, {"delivery_mode": "slow"}])
def test_a_bad_event_by_hand_is_logged_and_raises_nothing(
    shop: Shop, fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    _, events = shop

    event_id = events.publish(**{"event_name": "a.b", "payload": 1, **fields})

    assert event_id is None
    assert "was not published by hand" in caplog.text
