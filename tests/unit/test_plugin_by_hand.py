"""events.publish without a connection: which step an event belongs to, and that nothing is raised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celery_tasker_events import DeliveryMode
from celery_tasker_events.telemetry.counters import Series

from .conftest import NewShop
from .listening import LONG, Shop, fast, listen


def test_an_event_by_hand_belongs_to_the_running_task(shop: Shop) -> None:
    app, events = shop
    got = listen(events, "payment.flagged")
    ids: list[str | None] = []

    @app.task(name="shop.pay")
    @fast("payment.processed", namespace="payments")
    def pay() -> None:
        ids.append(events.publish("payment.flagged", {"score": 0.97}, delivery_mode="fast"))

    pay.apply(task_id="task-1")

    assert events.drain(LONG)
    [event] = got
    assert [event.event_id] == ids
    assert event.payload == {"score": 0.97}
    assert event.execution_result.status == "published"
    metadata = event.metadata
    assert (metadata.step_uuid, metadata.step_name, metadata.namespace) == ("task-1", "pay", "payments")


def test_the_same_event_by_hand_twice_in_one_try_has_two_keys_that_the_next_run_repeats(new_shop: NewShop) -> None:
    app, events = new_shop(tasker_events_deduplication_cache_size=0)
    got = listen(events)

    @app.task
    def pay() -> None:
        for score in (1, 2):
            events.publish("payment.flagged", score, delivery_mode="fast")

    for _ in range(2):
        pay.apply(task_id="task-1")

    assert events.drain(LONG)
    keys = [event.metadata.idempotency_key for event in got]
    assert keys[:2] == keys[2:]
    assert len(set(keys)) == 2


def test_events_by_hand_of_two_direct_calls_have_two_keys(shop: Shop) -> None:
    app, events = shop
    got = listen(events)

    @app.task
    def pay() -> None:
        events.publish("payment.flagged", 1, delivery_mode="fast")

    pay()
    pay()

    assert events.drain(LONG)
    assert len({event.metadata.idempotency_key for event in got}) == 2


def test_an_event_outside_of_any_task_belongs_to_none(new_shop: Callable[..., Shop]) -> None:
    _, events = new_shop(tasker_events_namespace="risk")
    got = listen(events)

    event_id = events.publish(
        "payment.flagged", 1, delivery_mode=DeliveryMode.FAST, correlation_id="caller-1", idempotency_key="k"
    )

    assert events.drain(LONG)
    [event] = got
    assert event.event_id == event_id
    metadata = event.metadata
    assert (metadata.task_uuid, metadata.step_uuid, metadata.step_name) == (None, None, None)
    assert (metadata.namespace, metadata.correlation_id, metadata.idempotency_key) == ("risk", "caller-1", "k")


def test_an_event_that_a_template_declares_is_published_as_declared(
    new_shop: Callable[..., Shop], write_template: Callable[[str], Path]
) -> None:
    path = write_template(
        "name: checkout\nnamespace_name: payments\ndomain_events:\n"
        "  - {name: payment.flagged, delivery_mode: fast, namespace: risk, schema: {required: [score]}}\n"
    )
    _, events = new_shop(tasker_events_templates=[str(path)])
    got = listen(events)

    assert events.publish("payment.flagged", {"score": 1})
    assert events.publish("payment.flagged", {"wrong": 1})

    assert events.drain(LONG)
    assert [(event.payload, event.metadata.namespace) for event in got] == [({"score": 1}, "risk")]
    assert events.counters()[Series("failed", "payment.flagged", "risk", "schema")] == 1


@pytest.mark.parametrize("fields", [{"event_name": "bad"}, {"namespace": "No"}, {"delivery_mode": "slow"}])
def test_a_bad_event_by_hand_is_logged_and_raises_nothing(
    shop: Shop, fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    _, events = shop

    event_id = events.publish(**{"event_name": "a.b", "payload": 1, **fields})

    assert event_id is None
    assert "was not published by hand" in caplog.text


# Starting
