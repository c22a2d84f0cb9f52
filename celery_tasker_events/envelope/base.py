"""What every envelope does, and the parts of the wire format that more than one of them has."""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import orjson

from celery_tasker_events import values
from celery_tasker_events.event import DomainEvent, EventMetadata

__all__ = [
    "METADATA_FIELDS",
    "Envelope",
    "headers_of",
    "metadata_of",
    "metadata_schema",
    "object_schema",
    "read_metadata",
    "read_timestamp",
    "timestamp",
    "workflow_group",
]

#: What every event tells of its origin, in the order in which it stands on the wire.
METADATA_FIELDS = (
    "task_uuid",
    "step_uuid",
    "step_name",
    "namespace",
    "correlation_id",
    "fired_at",
    "fired_by",
    "idempotency_key",
)


class Envelope(ABC):
    """One way in which a domain event looks on the wire, there and back. It has no state: one serves all threads."""

    #: The value of ``tasker_events_envelope``.
    name: ClassVar[str]
    #: Media type of a message.
    content_type: ClassVar[str] = "application/json"
    #: Where the correlation id is in a message, as a JSON pointer.
    correlation_id: ClassVar[str] = "/metadata/correlation_id"

    @abstractmethod
    def to_message(self, event: DomainEvent, traceparent: str | None = None) -> bytes:
        """Return the event as one JSON object in UTF-8.

        Args:
            traceparent: W3C trace context, for an envelope whose own standard has a place for it.

        Raises:
            NotSerialisable: if a part of the event is not JSON data.
        """

    def message_of_data(self, data: Mapping[str, Any]) -> bytes | None:
        """Return the message of an event that is plain data still, or None where it is made of the object alone.

        Args:
            data: What a message in the native envelope holds.
        """
        return None

    @abstractmethod
    def from_message(self, message: Mapping[str, Any]) -> DomainEvent:
        """Read a message of this envelope, as a PGMQ client decodes it.

        Raises:
            AttributeError, KeyError, TypeError or ValueError: if it is not one.
        """

    @abstractmethod
    def recognises(self, message: Mapping[str, Any]) -> bool:
        """Return whether the message is in this envelope; a message is in one at most."""

    @abstractmethod
    def json_schema(self, name: str, version: str, namespace: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON Schema of the messages of one event, in keywords that mean the same from draft 4 on.

        Args:
            name: The event's name.
            version: The event's version.
            payload: JSON Schema of its payload.
        """

    def amended(self, message: Mapping[str, Any], idempotency_key: str, more: Mapping[str, str]) -> dict[str, Any]:
        """Return a copy of a message of this envelope with another idempotency key and with more in its metadata.

        All else stays as it is, also what only others know.
        """
        return {**message, "metadata": {**message["metadata"], **more, "idempotency_key": idempotency_key}}

    def headers(self, event: DomainEvent, traceparent: str | None = None) -> bytes:
        """Return the PGMQ headers of the event: ``x-pgmq-group`` lets grouped reads give each workflow in order.

        Args:
            traceparent: W3C trace context of the step, if it has one.
        """
        metadata = event.metadata
        group = workflow_group(metadata.task_uuid, metadata.correlation_id)
        return headers_of(metadata.idempotency_key, group, traceparent)


def headers_of(idempotency_key: str, group: str, traceparent: str | None) -> bytes:
    headers = {"idempotency_key": idempotency_key, "x-pgmq-group": group}
    if traceparent is not None:
        headers["traceparent"] = traceparent
    return values.encode(headers)


def workflow_group(task_uuid: str | None, correlation_id: str) -> str:
    """Return what the events of one workflow have in common, and those of another have not."""
    return task_uuid or correlation_id


def timestamp(moment: datetime.datetime) -> str:
    """Return a UTC datetime as RFC 3339 with microseconds."""
    if moment.microsecond and moment.tzinfo is datetime.timezone.utc:
        # The same in a quarter of the time; a fraction that is zero it would leave out.
        return orjson.dumps(moment, None, orjson.OPT_UTC_Z)[1:-1].decode()
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def read_timestamp(text: str) -> datetime.datetime:
    # Python 3.10 reads no "Z".
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def metadata_of(event: DomainEvent) -> dict[str, Any]:
    """Return the metadata as an object, what a publisher added beside the standard fields, which it can't replace."""
    metadata = event.metadata
    return {
        **metadata.extra,
        "task_uuid": metadata.task_uuid,
        "step_uuid": metadata.step_uuid,
        "step_name": metadata.step_name,
        "namespace": metadata.namespace,
        "correlation_id": metadata.correlation_id,
        "fired_at": timestamp(metadata.fired_at),
        "fired_by": metadata.fired_by,
        "idempotency_key": metadata.idempotency_key,
    }


def object_schema(properties: Mapping[str, Any], optional: Collection[str] = ()) -> dict[str, Any]:
    """Return the JSON Schema of an object that may have more fields than these, and has all that are not optional."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": dict(properties)}


def metadata_schema(namespace: str) -> dict[str, Any]:
    """Return the JSON Schema of what :func:`metadata_of` returns."""
    text: dict[str, Any] = {"type": "string"}
    text_or_null: dict[str, Any] = {"type": ["string", "null"]}
    properties = {
        "task_uuid": text_or_null | {"description": "Id of the workflow: Celery's root id."},
        "step_uuid": text_or_null | {"description": "Id of the step: the Celery task's id."},
        "step_name": text_or_null | {"description": "Name of the step."},
        "namespace": {"enum": [namespace]},
        "correlation_id": text | {"description": "Ties together all that one workflow, or one caller, set off."},
        "fired_at": text | {"format": "date-time", "description": "When the outcome was known, UTC."},
        "fired_by": text | {"description": "The worker's node name, or the host's name."},
        "idempotency_key": text | {"description": "The same for the same event of the same attempt of the same step."},
    }
    return object_schema(properties)


def read_metadata(message_metadata: Mapping[str, Any]) -> EventMetadata:
    """Read what :func:`metadata_of` wrote."""
    extra = dict(message_metadata)
    fields = {name: extra.pop(name) for name in METADATA_FIELDS}
    fields["fired_at"] = read_timestamp(fields["fired_at"])
    return EventMetadata(**fields, extra=extra)
