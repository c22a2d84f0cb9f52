"""The native envelope: the event's own fields, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery_tasker_events import values
from celery_tasker_events.envelope.base import Envelope, metadata_of, metadata_schema, object_schema, read_metadata
from celery_tasker_events.event import DomainEvent, ExecutionResult, StepError

__all__ = ["NativeEnvelope", "error_data", "execution_of", "read_execution"]


class NativeEnvelope(Envelope):
    name = "native"

    def to_message(self, event: DomainEvent, traceparent: str | None = None) -> bytes:
        return values.encode(
            {
                "event_id": event.event_id,
                "event_name": event.event_name,
                "event_version": event.event_version,
                "payload": event.payload,
                "execution_result": execution_of(event),
                "metadata": metadata_of(event),
            }
        )

    def message_of_data(self, data: Mapping[str, Any]) -> bytes:
        return values.encode(data)

    def from_message(self, message: Mapping[str, Any]) -> DomainEvent:
        return DomainEvent(
            event_id=message["event_id"],
            event_name=message["event_name"],
            event_version=message["event_version"],
            payload=message["payload"],
            metadata=read_metadata(message["metadata"]),
            execution_result=read_execution(message["execution_result"]),
        )

    def recognises(self, message: Mapping[str, Any]) -> bool:
        return "execution_result" in message and "event_id" in message

    def json_schema(self, name: str, version: str, namespace: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        return object_schema(
            {
                "event_id": {"type": "string", "description": "UUIDv7, unique for each event."},
                "event_name": {"enum": [name]},
                "event_version": {"enum": [version]},
                "payload": payload,
                "execution_result": _EXECUTION_SCHEMA,
                "metadata": metadata_schema(namespace),
            }
        )


_ERROR = {"type": {"type": "string"}, "message": {"type": "string"}, "retryable": {"type": "boolean"}}

_EXECUTION_SCHEMA = object_schema(
    {
        "success": {"type": "boolean"},
        "status": {"type": "string", "description": "completed, retrying, failed, or published for an event published by hand."},
        "error": object_schema(_ERROR) | {"type": ["object", "null"]},
        "metadata": {"type": "object", "description": "execution_time_ms (milliseconds), attempt (1 is the first), redelivered."},
    }
)


def execution_of(event: DomainEvent) -> dict[str, Any]:
    """Return how the step ended, as an object."""
    result = event.execution_result
    return {
        "success": result.success,
        "status": result.status,
        "error": error_data(result.error),
        "metadata": result.metadata,
    }


def error_data(error: StepError | None) -> dict[str, Any] | None:
    """Return why a step failed, as an object."""
    return None if error is None else {"type": error.type, "message": error.message, "retryable": error.retryable}


def read_execution(execution: Mapping[str, Any]) -> ExecutionResult:
    """Read what :func:`execution_of` wrote."""
    error = execution["error"]
    return ExecutionResult(
        success=execution["success"],
        status=execution["status"],
        error=error and StepError(**error),
        metadata=execution["metadata"],
    )
