"""The tasker envelope: every field that tasker-core's types ask for is there, with a value that they can read.

The tables below are the fields of tasker-core's messages with their types.
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_tasker_events import envelope
from celery_tasker_events.event import DomainEvent, ExecutionResult, StepError

from .making import make_event, make_metadata
from .wire import EVENTS

TASKER = envelope.by_name("tasker")
NIL = "00000000-0000-0000-0000-000000000000"


class Optional(NamedTuple):
    """A field that may be null or missing."""

    kind: Any


def uuid_(value: Any) -> None:
    assert str(uuid.UUID(value)) == value


def string(value: Any) -> None:
    assert isinstance(value, str)


def boolean(value: Any) -> None:
    assert isinstance(value, bool)


def whole(bits: int) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        assert type(value) is int
        assert -(2**bits) <= value < 2**bits

    return check


def instant(value: Any) -> None:
    assert value.endswith("Z")
    assert datetime.datetime.fromisoformat(value[:-1])


def zoneless(value: Any) -> None:
    assert datetime.datetime.fromisoformat(value).tzinfo is None


def anything(value: Any) -> None:
    pass


def strings(value: Any) -> None:
    assert all(isinstance(item, str) for item in value)


def mapping(value: Any) -> None:
    assert isinstance(value, dict)


def array(value: Any) -> None:
    assert isinstance(value, list)


TASK = {
    "task_uuid": uuid_,
    "named_task_uuid": uuid_,
    "complete": boolean,
    "requested_at": zoneless,
    "initiator": Optional(string),
    "source_system": Optional(string),
    "reason": Optional(string),
    "bypass_steps": Optional(anything),
    "tags": Optional(anything),
    "context": Optional(anything),
    "identity_hash": string,
    "priority": whole(31),
    "created_at": zoneless,
    "updated_at": zoneless,
    "correlation_id": uuid_,
    "parent_correlation_id": Optional(uuid_),
}
WORKFLOW_STEP = {
    "workflow_step_uuid": uuid_,
    "task_uuid": uuid_,
    "named_step_uuid": uuid_,
    "name": string,
    "template_step_name": string,
    "retryable": boolean,
    "max_attempts": Optional(whole(31)),
    "in_process": boolean,
    "processed": boolean,
    "processed_at": Optional(zoneless),
    "attempts": Optional(whole(31)),
    "last_attempted_at": Optional(zoneless),
    "backoff_request_seconds": Optional(whole(31)),
    "inputs": Optional(anything),
    "results": Optional(anything),
    "checkpoint": Optional(anything),
    "skippable": boolean,
    "created_at": zoneless,
    "updated_at": zoneless,
}
STEP_DEFINITION = {
    "name": string,
    "description": Optional(string),
    "handler": {"callable": string, "initialization": mapping},
    "type": string,
    "system_dependency": Optional(string),
    "dependencies": strings,
    "timeout_seconds": Optional(whole(32)),
    "publishes_events": array,
    "batch_config": Optional(anything),
}
EXECUTION_METADATA = {
    "execution_time_ms": whole(63),
    "handler_version": Optional(string),
    "retryable": boolean,
    "completed_at": instant,
    "worker_id": Optional(string),
    "worker_hostname": Optional(string),
    "started_at": Optional(instant),
    "custom": mapping,
    "error_code": Optional(string),
    "error_type": Optional(string),
    "context": mapping,
}
DOMAIN_EVENT = {
    "event_id": uuid_,
    "event_name": string,
    "event_version": string,
    "payload": {
        "task_sequence_step": {
            "task": {"task": TASK, "task_name": string, "task_version": string, "namespace_name": string},
            "workflow_step": WORKFLOW_STEP,
            "dependency_results": mapping,
            "step_definition": STEP_DEFINITION,
        },
        "execution_result": {
            "step_uuid": uuid_,
            "success": boolean,
            "result": anything,
            "metadata": EXECUTION_METADATA,
            "status": string,
            "error": Optional(
                {"message": string, "error_type": Optional(string), "backtrace": Optional(strings), "retryable": boolean}
            ),
            "orchestration_metadata": Optional(mapping),
        },
        "payload": anything,
    },
    "metadata": {
        "task_uuid": uuid_,
        "step_uuid": Optional(uuid_),
        "step_name": Optional(string),
        "namespace": string,
        "correlation_id": uuid_,
        "fired_at": instant,
        "fired_by": string,
    },
}


def check(kind: Any, value: Any, path: str = "") -> None:
    """Fail where the value is not of the kind; what is more in an object is ignored, as tasker-core ignores it."""
    if isinstance(kind, Optional):
        if value is not None:
            check(kind.kind, value, path)
    elif isinstance(kind, Mapping):
        assert isinstance(value, dict), path
        for name, field in kind.items():
            assert name in value, f"{path}.{name} is missing"
            check(field, value[name], f"{path}.{name}")
    else:
        try:
            kind(value)
        except Exception as error:
            raise AssertionError(f"{path}: {value!r} is no {kind.__name__}") from error


def message_of(event: DomainEvent) -> Any:
    return orjson.loads(TASKER.to_message(event))


UUIDS = st.uuids().map(str)


@given(EVENTS, UUIDS, UUIDS, UUIDS)
def test_any_event_of_a_celery_step_can_be_read_by_taskers_types(
    event: DomainEvent, task: str, step: str, correlation: str
) -> None:
    # Celery's own ids are UUIDs; a caller may set others, which only an envelope without types can carry.
    metadata = dataclasses.replace(event.metadata, task_uuid=task, step_uuid=step, correlation_id=correlation)

    check(DOMAIN_EVENT, message_of(dataclasses.replace(event, metadata=metadata)))


def test_the_check_itself_finds_what_tasker_could_not_read() -> None:
    task, step = str(uuid.uuid4()), str(uuid.uuid4())
    message = message_of(make_event(metadata=make_metadata(task_uuid=task, step_uuid=step, correlation_id=task)))
    check(DOMAIN_EVENT, message)

    message["payload"]["execution_result"]["metadata"]["execution_time_ms"] = 12.5

    with pytest.raises(AssertionError, match=r"\.payload\.execution_result\.metadata\.execution_time_ms: 12\.5 is no"):
        check(DOMAIN_EVENT, message)


def test_what_celery_knows_stands_where_a_tasker_consumer_looks_for_it() -> None:
    failed = ExecutionResult(
        False, "retrying", StepError("Timeout", "gateway", retryable=True), {"execution_time_ms": 12.6, "attempt": 3}
    )

    message = message_of(make_event(payload={"amount": 1}, execution_result=failed))

    payload = message["payload"]
    assert payload["payload"] == {"amount": 1}
    step = payload["task_sequence_step"]
    assert step["task"]["task"]["task_uuid"] == step["workflow_step"]["task_uuid"] == "root-1"
    assert step["task"]["task"]["correlation_id"] == "root-1"
    assert step["task"]["namespace_name"] == "payments"
    assert step["workflow_step"]["workflow_step_uuid"] == "task-1"
    assert step["workflow_step"]["name"] == step["step_definition"]["name"] == "process_payment"
    assert step["workflow_step"]["attempts"] == 3
    assert (step["workflow_step"]["processed"], step["workflow_step"]["retryable"]) == (False, True)
    result = payload["execution_result"]
    assert (result["step_uuid"], result["success"], result["status"]) == ("task-1", False, "retrying")
    assert result["error"] == {"message": "gateway", "error_type": "Timeout", "backtrace": None, "retryable": True}
    assert result["metadata"]["execution_time_ms"] == 12
    assert result["metadata"]["custom"] == {"execution_time_ms": 12.6, "attempt": 3}
    assert result["metadata"]["completed_at"] == message["metadata"]["fired_at"] == "2025-12-01T10:00:00.123456Z"
    assert (result["metadata"]["worker_id"], result["metadata"]["worker_hostname"]) == ("worker@host", "host")


def test_what_only_an_orchestrator_knows_has_the_empty_value_of_its_type() -> None:
    message = message_of(make_event(metadata=make_metadata(task_uuid=None, step_uuid=None, step_name=None)))

    step = message["payload"]["task_sequence_step"]
    assert step["task"]["task"]["task_uuid"] == step["task"]["task"]["named_task_uuid"] == NIL
    assert step["workflow_step"]["workflow_step_uuid"] == message["payload"]["execution_result"]["step_uuid"] == NIL
    assert step["task"]["task"]["created_at"] == "1970-01-01T00:00:00"
    assert (step["task"]["task_name"], step["task"]["task_version"], step["workflow_step"]["name"]) == ("", "", "")
    assert step["dependency_results"] == {}
    assert step["task"]["task"]["context"] is None


@pytest.mark.parametrize(
    ("given_time", "told"), [(None, 0), ("slow", 0), (True, 0), (12.9, 12), (10**18, 10**18), (1e300, 0)], ids=repr
)
def test_a_time_that_is_no_whole_number_is_told_as_one_and_kept_as_it_is(given_time: Any, told: int) -> None:
    metadata = {"execution_time_ms": given_time}

    result = message_of(make_event(execution_result=ExecutionResult(True, "completed", None, metadata)))["payload"][
        "execution_result"
    ]

    assert result["metadata"]["execution_time_ms"] == told
    assert result["metadata"]["custom"] == metadata
