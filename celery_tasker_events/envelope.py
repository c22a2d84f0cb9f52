"""DomainEvent to bytes on the wire, and back: the native envelope."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from celery_tasker_events import values
from celery_tasker_events.event import DomainEvent, EventMetadata, ExecutionResult, StepError

__all__ = ["from_message", "headers", "to_message"]

_METADATA_FIELDS = (
    "task_uuid",
    "step_uuid",
    "step_name",
    "namespace",
    "correlation_id",
    "fired_at",
    "fired_by",
    "idempotency_key",
)


def to_message(event: DomainEvent) -> bytes:
    """Return the event as one JSON object in UTF-8.

    Raises:
        NotSerialisable: if its payload or extra metadata is not JSON data.
    """
    metadata, result = event.metadata, event.execution_result
    error = result.error
    return values.encode(
        {
            "event_id": event.event_id,
            "event_name": event.event_name,
            "event_version": event.event_version,
            "payload": event.payload,
            "execution_result": {
                "success": result.success,
                "status": result.status,
                "error": error and {"type": error.type, "message": error.message, "retryable": error.retryable},
                "metadata": result.metadata,
            },
            "metadata": {
                **metadata.extra,
                "task_uuid": metadata.task_uuid,
                "step_uuid": metadata.step_uuid,
                "step_name": metadata.step_name,
                "namespace": metadata.namespace,
                "correlation_id": metadata.correlation_id,
                "fired_at": metadata.fired_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
                "fired_by": metadata.fired_by,
                "idempotency_key": metadata.idempotency_key,
            },
        }
    )


def headers(event: DomainEvent) -> bytes:
    """Return the PGMQ headers of the event: ``x-pgmq-group`` lets grouped reads give each workflow in order."""
    return values.encode(
        {
            "idempotency_key": event.metadata.idempotency_key,
            "x-pgmq-group": event.metadata.task_uuid or event.metadata.correlation_id,
        }
    )


def from_message(message: Mapping[str, Any]) -> DomainEvent:
    """Read a message of the native envelope, as a PGMQ client decodes it.

    Raises:
        KeyError, TypeError or ValueError: if it is not one.
    """
    metadata, result = dict(message["metadata"]), message["execution_result"]
    fields = {name: metadata.pop(name) for name in _METADATA_FIELDS}
    fields["fired_at"] = datetime.datetime.fromisoformat(fields["fired_at"].replace("Z", "+00:00"))
    error = result["error"]
    return DomainEvent(
        event_id=message["event_id"],
        event_name=message["event_name"],
        event_version=message["event_version"],
        payload=message["payload"],
        metadata=EventMetadata(**fields, extra=metadata),
        execution_result=ExecutionResult(
            success=result["success"],
            status=result["status"],
            error=error and StepError(**error),
            metadata=result["metadata"],
        ),
    )
