"""A real worker announces what happened: every condition, every mode, the wire format, and queues made when needed."""

from __future__ import annotations

import re
from collections import Counter
from types import SimpleNamespace

import psycopg
import pytest
from queues import messages, names
from worker_process import wait_until

BURST = range(100, 150)


@pytest.fixture(scope="module")
def run(module_shop, new_database):
    """One worker's life: what it was sent, what it logged, what is in the queues afterwards."""
    dsn = new_database()
    worker = module_shop.start(dsn=dsn)
    results = SimpleNamespace(
        paid=module_shop.send("pay", 1, fail_attempts=2),
        spent=module_shop.send("pay", 2, fail_attempts=9),
        declined=module_shop.send("pay", 3, decline=True),
    )
    burst = [module_shop.send("pay", number) for number in BURST]
    assert results.paid.get(timeout=30) == {"order": 1, "transaction_id": "TXN-1"}
    for result in (results.spent, results.declined, *burst):
        result.get(timeout=60, propagate=False)
    exit_code = worker.stop()
    queued = messages(dsn, "payments") + messages(dsn, "audit")

    def of(result):
        return {event["event_name"]: event for event in queued if event["metadata"]["step_uuid"] == result.id}

    return SimpleNamespace(**vars(results), dsn=dsn, log=worker.log, exit_code=exit_code, queued=queued, of=of)


def test_each_outcome_publishes_exactly_the_events_whose_condition_it_meets(run):
    def published(result):
        return Counter(event["event_name"] for event in run.queued if event["metadata"]["step_uuid"] == result.id)

    two_retries = {"payment.retried": 2, "payment.troubled": 2}
    on_success = {"payment.processed": 1, "payment.enriched": 1, "payment.flagged": 1}
    assert published(run.paid) == two_retries | on_success | {"payment.tried": 3}
    assert published(run.spent) == {"payment.retried": 2, "payment.troubled": 3, "payment.failed": 1, "payment.tried": 3}
    assert published(run.declined) == {"payment.troubled": 1, "payment.failed": 1, "payment.tried": 1}


def test_fast_reaches_subscribers_only_and_broadcast_both_with_the_same_id(run):
    heard = set(re.findall(r"heard (\S+) (\S+)", run.log))
    queued = {(event["event_name"], event["event_id"]) for event in run.queued}

    by_name = Counter(name for name, _ in heard)
    assert by_name == {
        "payment.processed": 1 + len(BURST),
        "payment.counted": 1 + len(BURST),
        "payment.retried": 4,
    }
    assert heard & queued == {(name, id_) for name, id_ in heard if name != "payment.counted"}


def test_an_event_on_the_wire_tells_which_step_of_which_workflow_ended_how(run):
    event = run.of(run.declined)["payment.failed"]

    assert event["payload"] == {"error_code": "card_declined", "reason": "order 3 was declined"}
    assert event["event_version"] == "1.0"
    execution = event["execution_result"]
    assert execution["error"] == {
        "type": "CardDeclined",
        "message": "order 3 was declined",
        "retryable": False,
    }
    assert (execution["success"], execution["status"]) == (False, "failed")
    assert execution["metadata"]["attempt"] == 1
    assert execution["metadata"]["execution_time_ms"] >= 0
    metadata = event["metadata"]
    assert metadata["step_uuid"] == metadata["task_uuid"] == metadata["correlation_id"] == run.declined.id
    assert (metadata["step_name"], metadata["namespace"]) == ("pay", "payments")
    assert metadata["fired_by"].startswith("celery@")
    assert metadata["fired_at"].endswith("Z")


def test_plain_sql_finds_the_events_of_one_correlation_id(run):
    with psycopg.connect(run.dsn) as connection:
        rows = connection.execute(
            "select message->>'event_name', message->'metadata'->>'step_name' from pgmq.q_payments_domain_events"
            " where message->'metadata'->>'correlation_id' = %s order by msg_id",
            [run.declined.id],
        ).fetchall()

    assert sorted(rows) == [("payment.failed", "pay"), ("payment.troubled", "pay")]


def test_a_custom_publisher_sees_the_arguments_and_shapes_payload_and_metadata(run):
    event = run.of(run.paid)["payment.enriched"]

    assert event["payload"] == {"order": 1, "attempt": 3, "result": {"order": 1, "transaction_id": "TXN-1"}}
    assert event["metadata"]["payment_provider"] == "test"


def test_every_event_of_a_burst_arrives_exactly_once(run):
    processed = [event for event in run.queued if event["event_name"] == "payment.processed"]

    assert sorted(event["payload"]["order"] for event in processed) == [1, *BURST]
    assert len({event["event_id"] for event in run.queued}) == len(run.queued)


def test_each_attempt_has_a_key_of_its_own_for_each_event(run):
    keys = [event["metadata"]["idempotency_key"] for event in run.queued]

    assert len(set(keys)) == len(keys)


def test_the_worker_ends_well_and_logs_no_trouble(run):
    assert run.exit_code == 0
    assert "celery_tasker_events" not in "".join(re.findall(r"Traceback.*?(?=\n\[|\Z)", run.log, re.DOTALL))
    assert "not published" not in run.log
    assert "dropped" not in run.log


def test_an_event_is_in_the_queue_while_the_worker_goes_on(shop, dsn):
    shop.start(dsn=dsn)

    shop.send("pay", 1).get(timeout=30)

    wait_until(lambda: "payment.processed" in names(messages(dsn, "payments")), "the event is committed")
