"""Does it work at all, in a real worker: each test has a worker, a broker and a database of its own."""

from __future__ import annotations

import pytest
from celery.result import AsyncResult
from pytest_celery import CeleryTestSetup

from .database import QUEUES, Database


def process_payment(setup: CeleryTestSetup, amount: int) -> AsyncResult:
    return setup.app.send_task("shop.process_payment", [amount], queue=setup.worker.worker_queue)


def test_worker_gets_ready(celery_setup: CeleryTestSetup) -> None:
    celery_setup.worker.assert_log_exists("ready.")

    assert celery_setup.ready(docker=True)


def test_task_publishes_its_durable_events(celery_setup: CeleryTestSetup, database: Database) -> None:
    result = process_payment(celery_setup, 42)

    by_name = {event["event_name"]: event for event in database.read(2)}

    assert by_name.keys() == {"payment.processed", "payment.announced"}
    event = by_name["payment.processed"]
    assert event["payload"] == {"amount": 42, "currency": "EUR"} == result.get(timeout=20)
    assert event["execution_result"]["success"]
    assert event["metadata"]["step_uuid"] == result.id
    assert event["metadata"]["namespace"] == "payments"


def test_failing_task_publishes_its_failure(celery_setup: CeleryTestSetup, database: Database) -> None:
    result = process_payment(celery_setup, 0)

    (event,) = database.read(1)

    assert event["event_name"] == "payment.failed"
    error = event["execution_result"]["error"]
    assert (error["type"], error["message"], error["retryable"]) == ("ValueError", "0 is no amount to pay", False)
    with pytest.raises(ValueError, match="0 is no amount to pay"):
        result.get(timeout=20)


def test_subscribers_in_the_worker_hear_fast_and_broadcast_events(celery_setup: CeleryTestSetup, database: Database) -> None:
    process_payment(celery_setup, 42)

    assert {event["event_name"] for event in database.read(2)} == {"payment.processed", "payment.announced"}
    celery_setup.worker.assert_log_exists("Heard payment.counted of 42")
    celery_setup.worker.assert_log_exists("Heard payment.announced of 42")
    # The fast event took no other path, and the durable one neither.
    assert [database.count(queue) for queue in QUEUES] == [2, 0]
    assert "Heard payment.processed" not in celery_setup.worker.logs()


def test_worker_publishes_again_after_it_was_killed(celery_setup: CeleryTestSetup, database: Database) -> None:
    process_payment(celery_setup, 1)
    assert {event["payload"]["amount"] for event in database.read(2)} == {1}

    celery_setup.worker.kill("SIGKILL")
    assert celery_setup.worker.container.status == "exited"
    process_payment(celery_setup, 2)
    celery_setup.worker.restart()

    assert [event["payload"]["amount"] for event in database.read(2)] == [2, 2]


def test_worker_with_wrong_declarations_refuses_to_start(celery_setup: CeleryTestSetup) -> None:
    exit_code, log = celery_setup.worker.container.exec_run("celery -A broken worker --concurrency=1")

    said = log.decode()
    assert exit_code == 1, said
    assert "celery_tasker_events can't start" in said
    # All that is wrong, in one go.
    assert "task shop.refund: event 'payment.refunded': " in said
    assert "no_such_publisher" in said
    assert "task shop.cancel: event 'payment.cancelled': " in said
    assert "no_such_type" in said
    assert "Traceback" not in said
    assert "ready." not in said
