"""The tasker envelope: a message as tasker-core's typed consumers read it.

Their types ask for more than Celery knows. A field that may be absent there is null here; one that may not has the empty
value of its type: the nil UUID, an empty string, 0, false, the Unix epoch.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from celery_tasker_events import values
from celery_tasker_events.envelope.base import Envelope, metadata_of, metadata_schema, object_schema, read_metadata
from celery_tasker_events.event import DomainEvent, ExecutionResult, StepError

__all__ = ["TaskerEnvelope"]

_NIL_UUID = str(uuid.UUID(int=0))

# The rows of an orchestrator's database have times without a zone.
_EPOCH = "1970-01-01T00:00:00"


class TaskerEnvelope(Envelope):
    name = "tasker"

    def to_message(self, event: DomainEvent, traceparent: str | None = None) -> bytes:
        metadata = metadata_of(event)
        return values.encode(
            {
                "event_id": event.event_id,
                "event_name": event.event_name,
                "event_version": event.event_version,
                "payload": {
                    "task_sequence_step": _task_sequence_step(event),
                    "execution_result": _execution_result(event, metadata["fired_at"]),
                    "payload": event.payload,
                },
                "metadata": metadata,
            }
        )

    def from_message(self, message: Mapping[str, Any]) -> DomainEvent:
        payload = message["payload"]
        result = payload["execution_result"]
        error = result["error"]
        return DomainEvent(
            event_id=message["event_id"],
            event_name=message["event_name"],
            event_version=message["event_version"],
            payload=payload["payload"],
            metadata=read_metadata(message["metadata"]),
            execution_result=ExecutionResult(
                success=result["success"],
                status=result["status"],
                error=error and StepError(error["error_type"], error["message"], error["retryable"]),
                metadata=result["metadata"]["custom"],
            ),
        )

    def recognises(self, message: Mapping[str, Any]) -> bool:
        payload = message.get("payload")
        return (
            "event_id" in message
            and "execution_result" not in message
            and isinstance(payload, Mapping)
            and payload.keys() >= {"task_sequence_step", "execution_result", "payload"}
        )

    def json_schema(self, name: str, version: str, namespace: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        return object_schema(
            {
                "event_id": {"type": "string", "description": "UUIDv7, unique for each event."},
                "event_name": {"enum": [name]},
                "event_version": {"enum": [version]},
                "payload": object_schema(
                    {
                        "task_sequence_step": {"type": "object", "description": "The step, as tasker-core's types describe it."},
                        "execution_result": _EXECUTION_SCHEMA,
                        "payload": payload,
                    }
                ),
                "metadata": metadata_schema(namespace),
            }
        )


_ERROR = {"message": {"type": "string"}, "error_type": {"type": "string"}, "retryable": {"type": "boolean"}}

_EXECUTION_SCHEMA = object_schema(
    {
        "step_uuid": {"type": "string"},
        "success": {"type": "boolean"},
        "status": {"type": "string", "description": "completed, retrying, failed, or published for an event published by hand."},
        "error": object_schema(_ERROR) | {"type": ["object", "null"]},
        "metadata": object_schema({"execution_time_ms": {"type": "integer"}, "custom": {"type": "object"}}),
    }
)


def _task_sequence_step(event: DomainEvent) -> dict[str, Any]:
    task_uuid = event.metadata.task_uuid or _NIL_UUID
    step_name = event.metadata.step_name or ""
    return {
        "task": {
            "task": _task(task_uuid, event.metadata.correlation_id),
            "task_name": "",
            "task_version": "",
            "namespace_name": event.metadata.namespace,
        },
        "workflow_step": _workflow_step(event, task_uuid, step_name),
        "dependency_results": {},
        "step_definition": {
            "name": step_name,
            "description": None,
            "handler": {"callable": "", "initialization": {}},
            "type": "standard",
            "system_dependency": None,
            "dependencies": [],
            "timeout_seconds": None,
            "publishes_events": [],
            "batch_config": None,
        },
    }


def _task(task_uuid: str, correlation_id: str) -> dict[str, Any]:
    return {
        "task_uuid": task_uuid,
        "named_task_uuid": _NIL_UUID,
        "complete": False,
        "requested_at": _EPOCH,
        "initiator": None,
        "source_system": None,
        "reason": None,
        "bypass_steps": None,
        "tags": None,
        "context": None,
        "identity_hash": "",
        "priority": 0,
        "created_at": _EPOCH,
        "updated_at": _EPOCH,
        "correlation_id": correlation_id,
        "parent_correlation_id": None,
    }


def _workflow_step(event: DomainEvent, task_uuid: str, step_name: str) -> dict[str, Any]:
    result = event.execution_result
    return {
        "workflow_step_uuid": event.metadata.step_uuid or _NIL_UUID,
        "task_uuid": task_uuid,
        "named_step_uuid": _NIL_UUID,
        "name": step_name,
        "template_step_name": step_name,
        "retryable": result.error is not None and result.error.retryable,
        "max_attempts": None,
        "in_process": False,
        "processed": result.success,
        "processed_at": None,
        "attempts": _whole_number(result.metadata.get("attempt"), bits=31) or None,
        "last_attempted_at": None,
        "backoff_request_seconds": None,
        "inputs": None,
        "results": None,
        "checkpoint": None,
        "skippable": False,
        "created_at": _EPOCH,
        "updated_at": _EPOCH,
    }


def _execution_result(event: DomainEvent, completed_at: str) -> dict[str, Any]:
    metadata, result = event.metadata, event.execution_result
    error = result.error
    return {
        "step_uuid": metadata.step_uuid or _NIL_UUID,
        "success": result.success,
        "result": None,
        "metadata": {
            "execution_time_ms": _whole_number(result.metadata.get("execution_time_ms"), bits=63),
            "handler_version": None,
            "retryable": error is not None and error.retryable,
            "completed_at": completed_at,
            "worker_id": metadata.fired_by,
            "worker_hostname": metadata.fired_by.rpartition("@")[2],
            "started_at": None,
            "custom": result.metadata,
            "error_code": None,
            "error_type": error and error.type,
            "context": {},
        },
        "status": result.status,
        "error": error and {"message": error.message, "error_type": error.type, "backtrace": None, "retryable": error.retryable},
        "orchestration_metadata": None,
    }


def _whole_number(value: Any, *, bits: int) -> int:
    """Return a number without its fraction, or 0 if it is none or too great for a signed integer with that many bits."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**bits:
        return int(value)
    return 0
