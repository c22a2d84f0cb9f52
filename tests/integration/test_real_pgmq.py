"""The fixture real_pgmq: what a worker in this process publishes is in a real queue, beside what a consumer reads."""

from __future__ import annotations

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker

from celery_tasker_events import DomainEvents, publishes_events
from celery_tasker_events.consumer import Consumer
from celery_tasker_events.testing.recorded_events import recorded


@pytest.fixture
def shop():
    app = Celery("shop", broker="memory://", backend="cache+memory://")
    app.conf.tasker_events_dsn = "postgresql://nobody@127.0.0.1:1/nowhere"
    events = DomainEvents(app)

    @app.task(name="shop.pay", shared=False)
    @publishes_events("payment.processed", namespace="payments", schema={"required": ["amount"]})
    @publishes_events("payment.heard", namespace="payments", delivery_mode="broadcast")
    def pay(payload):
        return payload

    yield pay, events
    events.close(5)


def test_what_a_worker_publishes_is_in_the_queue(shop, real_pgmq):
    pay, events = shop
    heard = []
    events.subscribe("*")(heard.append)

    with start_worker(pay.app, perform_ping_check=False):
        pay.delay({"amount": 1}).get(timeout=30)

        processed, both = real_pgmq.events("payments")
        assert (processed.event_name, processed.payload) == ("payment.processed", {"amount": 1})
        assert heard == [both]

        pay.delay({}).get(timeout=30)
        (letter,) = real_pgmq.dead_letters("payments")
        assert letter["failed_stage"] == "schema"

    read = [found.event.event_name for found in Consumer(real_pgmq.dsn, "payments").deliveries(until_empty=True)]
    assert read == ["payment.processed", "payment.heard", "payment.heard"]


def test_each_test_has_a_database_of_its_own(shop, real_pgmq):
    assert real_pgmq.messages("payments") == []

    pay, _ = shop
    pay.apply([{"amount": 2}])

    assert [message["payload"] for message in real_pgmq.messages("payments")] == [{"amount": 2}] * 2


def test_a_worker_in_this_process_is_recorded_as_well(shop):
    pay, _ = shop
    with recorded() as domain_events, start_worker(pay.app, perform_ping_check=False):
        for amount in range(10):
            pay.delay({"amount": amount}).get(timeout=30)
            domain_events.assert_published("payment.processed", amount=amount)
