"""The native envelope: the wire format that consumers in every language rely on."""

from __future__ import annotations

import dataclasses
import datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_tasker_events import envelope
from celery_tasker_events.errors import NotSerialisable
from celery_tasker_events.event import DomainEvent, EventMetadata, ExecutionResult, StepError, new_event_id

from .making import CARD_DECLINED, make_event, make_metadata
from .test_values import JSON

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

    assert envelope.to_message(event) == orjson.dumps(GOLDEN_SUCCESS)


def test_a_failure_has_exactly_this_error() -> None:
    event = make_event(execution_result=ExecutionResult(False, "failed", CARD_DECLINED, {"attempt": 2}))

    assert orjson.loads(envelope.to_message(event))["execution_result"] == {
        "success": False,
        "status": "failed",
        "error": {"type": "CardDeclined", "message": "no funds", "retryable": False},
        "metadata": {"attempt": 2},
    }


def test_a_whole_second_still_has_its_microseconds() -> None:
    event = make_event(metadata=make_metadata(fired_at=datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc)))

    assert orjson.loads(envelope.to_message(event))["metadata"]["fired_at"] == "2025-01-01T00:00:00.000000Z"


def test_extra_metadata_stands_beside_the_standard_fields_and_never_replaces_one() -> None:
    event = make_event(metadata=make_metadata(extra={"tenant": "acme", "namespace": "forged", "step_uuid": "forged"}))

    metadata = orjson.loads(envelope.to_message(event))["metadata"]

    assert metadata == {**GOLDEN_SUCCESS["metadata"], "tenant": "acme"}  # type: ignore[dict-item]


def test_the_headers_group_a_workflow_and_carry_the_key() -> None:
    event = make_event(metadata=make_metadata(task_uuid="root-9", idempotency_key="key-9"))

    assert orjson.loads(envelope.headers(event)) == {"idempotency_key": "key-9", "x-pgmq-group": "root-9"}


def test_an_event_outside_of_any_workflow_is_grouped_by_its_correlation_id() -> None:
    event = make_event(metadata=make_metadata(task_uuid=None, correlation_id="caller-1"))

    assert orjson.loads(envelope.headers(event))["x-pgmq-group"] == "caller-1"


@pytest.mark.parametrize("part", ["payload", "extra"])
def test_what_is_no_json_data_has_no_message(part: str) -> None:
    event = make_event(payload=object()) if part == "payload" else make_event(metadata=make_metadata(extra={"a": object()}))

    with pytest.raises(NotSerialisable):
        envelope.to_message(event)


TEXT = st.text(max_size=20)
STANDARD_FIELDS = {field.name for field in dataclasses.fields(EventMetadata)} - {"extra"}
EVENTS = st.builds(
    DomainEvent,
    event_id=st.builds(new_event_id),
    event_name=st.from_regex(r"[a-z0-9_]+(\.[a-z0-9_]+)+", fullmatch=True),
    payload=JSON,
    event_version=TEXT,
    execution_result=st.builds(
        ExecutionResult,
        success=st.booleans(),
        status=TEXT,
        error=st.none() | st.builds(StepError, type=TEXT, message=TEXT, retryable=st.booleans()),
        metadata=st.dictionaries(TEXT, JSON, max_size=3),
    ),
    metadata=st.builds(
        EventMetadata,
        task_uuid=st.none() | TEXT,
        step_uuid=st.none() | TEXT,
        step_name=st.none() | TEXT,
        namespace=st.from_regex(r"[a-z0-9_]+", fullmatch=True),
        correlation_id=TEXT,
        fired_at=st.datetimes(timezones=st.just(datetime.timezone.utc)),
        fired_by=TEXT,
        idempotency_key=TEXT,
        extra=st.dictionaries(TEXT.filter(lambda key: key not in STANDARD_FIELDS), JSON, max_size=3),
    ),
)


@given(EVENTS)
def test_any_event_comes_back_from_its_message_as_it_was(event: DomainEvent) -> None:
    assert envelope.from_message(orjson.loads(envelope.to_message(event))) == event


@pytest.mark.parametrize("path", [("metadata",), ("metadata", "fired_at"), ("execution_result", "error"), ("event_id",)])
def test_a_message_that_lacks_something_is_not_taken_for_an_event(path: tuple[str, ...]) -> None:
    message = orjson.loads(orjson.dumps(GOLDEN_SUCCESS))
    owner = message
    for key in path[:-1]:
        owner = owner[key]
    del owner[path[-1]]

    with pytest.raises(KeyError):
        envelope.from_message(message)


def test_event_ids_are_version_7_and_in_order_of_time() -> None:
    ids = [new_event_id() for _ in range(200)]

    assert {event_id[14] for event_id in ids} == {"7"}
    assert ids == sorted(set(ids))
