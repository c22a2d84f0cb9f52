"""The native envelope: the wire format that consumers in every language rely on."""

from __future__ import annotations

import datetime

import orjson

from celery_tasker_events import envelope
from celery_tasker_events.event import ExecutionResult

from .making import CARD_DECLINED, make_event, make_metadata

NATIVE = envelope.by_name("native")

GOLDEN_SUCCESS = {
    "event_id": "0199c3e0-d123-7000-8000-000000000001",
    "event_name": "payment.processed",
    "event_version": "1.0",
    "payload": {"transaction_id": "TXN-123", "amount": 99.99},
    "execution_result": {
        "success": True,
        "status": "completed",
        "error": None,
        "metadata": {"execution_time_ms": 12.4, "attempt": 1},
    },
    "metadata": {
        "task_uuid": "root-1",
        "step_uuid": "task-1",
        "step_name": "process_payment",
        "namespace": "payments",
        "correlation_id": "root-1",
        "fired_at": "2025-12-01T10:00:00.123456Z",
        "fired_by": "worker@host",
        "idempotency_key": "key-1",
    },
}


def test_a_success_has_exactly_this_form() -> None:
    event = make_event(
        payload={"transaction_id": "TXN-123", "amount": 99.99},
        execution_result=ExecutionResult(True, "completed", None, {"execution_time_ms": 12.4, "attempt": 1}),
    )

    assert NATIVE.to_message(event) == orjson.dumps(GOLDEN_SUCCESS)


def test_a_failure_has_exactly_this_error() -> None:
    event = make_event(execution_result=ExecutionResult(False, "failed", CARD_DECLINED, {"attempt": 2}))

    assert orjson.loads(NATIVE.to_message(event))["execution_result"] == {
        "success": False,
        "status": "failed",
        "error": {"type": "CardDeclined", "message": "no funds", "retryable": False},
        "metadata": {"attempt": 2},
    }


def test_a_whole_second_still_has_its_microseconds() -> None:
    event = make_event(metadata=make_metadata(fired_at=datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc)))

    assert orjson.loads(NATIVE.to_message(event))["metadata"]["fired_at"] == "2025-01-01T00:00:00.000000Z"
