"""From an outcome and a declaration to an event: the publisher's hooks, the schema, the metadata."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from celery_tasker_events import values
from celery_tasker_events.binding import BoundEvent
from celery_tasker_events.durable.confirmation import Confirmation
from celery_tasker_events.envelope import Envelope
from celery_tasker_events.envelope.base import headers_of, timestamp, workflow_group
from celery_tasker_events.envelope.native import error_data
from celery_tasker_events.errors import NotSerialisable
from celery_tasker_events.event import DomainEvent, EventMetadata, ExecutionResult, new_event_id
from celery_tasker_events.outcome import Snapshot, StepOutcome, idempotency_key
from celery_tasker_events.publisher import BasePublisher, GenericPublisher, StepContext, StepResult, default_payload
from celery_tasker_events.telemetry.trail import Trail

__all__ = ["Draft", "Publication"]

T = TypeVar("T")


class Publication(NamedTuple):
    """What travels through the channel: an outcome and the events that are due on it.

    ``event_id`` and ``idempotency_key`` are set where the caller of ``events.publish`` was told them already.
    ``confirmation`` is set where the task's thread waits for those of the events that are to be confirmed.
    """

    outcome: StepOutcome
    events: tuple[BoundEvent, ...]
    event_id: str | None = None
    idempotency_key: str | None = None
    confirmation: Confirmation | None = None

    def fields(self, bound: BoundEvent) -> dict[str, Any]:
        """The fields of a log line about one of its events, before that is made."""
        outcome = self.outcome
        return {
            "event_id": self.event_id,
            "event_name": bound.declaration.name,
            "queue_name": bound.queue_name,
            "task_uuid": outcome.task_uuid,
            "correlation_id": outcome.correlation_id,
            "namespace": bound.namespace,
        }


class Draft:
    """One event while it is made.

    It is plain data until somebody has to be shown it: most events never are, and the objects take as long to make as the
    message.

    Attributes:
        stage: Where on its way it is, for what is told if it fails there.
        payload_text: As much of the payload as there is, as JSON text.
        event: Set once somebody was shown it.
        trail: Set once it is followed.
    """

    def __init__(self, publication: Publication, bound: BoundEvent) -> None:
        self.outcome = publication.outcome
        self.bound = bound
        self.confirmation = publication.confirmation if bound.confirm else None
        self.stage = "snapshot"
        self.payload_text: str | None = None
        self.event: DomainEvent | None = None
        self.trail: Trail | None = None
        self._publication = publication
        # As the native envelope has it, but for what a publisher adds to the metadata.
        self._data: dict[str, Any] = {}
        self._extra: Mapping[str, Any] = {}

    def build(self) -> bool:
        """Return whether there is to be an event; if not, a hook of its publisher decided so, and ``stage`` tells which.

        Raises:
            NotSerialisable: if a part of it has no JSON form.
            SchemaViolation: if the payload does not match the declared schema.
            BaseException: whatever a hook raises.
        """
        publisher = self.bound.publisher
        self.payload_text = self.outcome.result.json.decode()
        asked = self._ask(publisher)
        if asked is None:
            return False
        payload, self._extra = asked
        if self.bound.validator is not None:
            self.stage = "schema"
            self.bound.validator.check(payload)
        self.stage = "before_publish"
        self._data = self._as_data(payload)
        return type(publisher) is GenericPublisher or publisher.before_publish(self.shown()) is not False

    def shown(self) -> DomainEvent:
        """Return the event for code that may look at it. What that changes in it is in its message, if that is made later."""
        if self.event is None:
            data, fired_at = self._data, _fired_at(self.outcome)
            metadata = _frozen(EventMetadata, {**data["metadata"], "fired_at": fired_at, "extra": self._extra})
            result = _frozen(ExecutionResult, {**data["execution_result"], "error": self.outcome.error})
            self.event = _frozen(DomainEvent, {**data, "metadata": metadata, "execution_result": result})
        return self.event

    def message(self, envelope: Envelope, traceparent: str | None) -> tuple[bytes, bytes]:
        """Return the event's message and its headers.

        Raises:
            NotSerialisable: if a part of the event is not JSON data.
        """
        if self.event is None:
            body, metadata = envelope.message_of_data(self._data), self._data["metadata"]
            if body is not None:
                group = workflow_group(metadata["task_uuid"], metadata["correlation_id"])
                return body, headers_of(metadata["idempotency_key"], group, traceparent)
        event = self.shown()
        return envelope.to_message(event, traceparent), envelope.headers(event, traceparent)

    def _ask(self, publisher: BasePublisher) -> tuple[Any, Mapping[str, Any]] | None:
        """What the publisher makes of the step's result: the payload, and additional metadata; None: no event."""
        outcome, declaration = self.outcome, self.bound.declaration
        value = _value(outcome.result)
        if type(publisher) is GenericPublisher:
            # Most events have this one, and to make what its hooks would be told is a third of the work.
            return default_payload(value, outcome.error, outcome.error_code), {}
        result = StepResult(**_execution(outcome, outcome.error), result=value, error_code=outcome.error_code)
        context = _step_context(outcome, self.bound)
        self.stage = "should_publish"
        if not publisher.should_publish(result, declaration, context):
            return None
        self.stage = "transform_payload"
        payload = publisher.transform_payload(result, declaration, context)
        if type(publisher).transform_payload is not BasePublisher.transform_payload:
            # What a hook made, or changed in place, is brought into its JSON form: both paths carry the same data.
            snapshot = Snapshot.of(payload)
            self.stage, self.payload_text = "serialise", snapshot.json.decode()
            payload = _value(snapshot)
        self.stage = "additional_metadata"
        extra = publisher.additional_metadata(result, declaration, context) or {}
        if extra:
            extra = _value(Snapshot.of(extra))
        return payload, extra

    @property
    def idempotency_key(self) -> str:
        """The key that a redelivery of the attempt repeats, or what the caller of ``events.publish`` chose."""
        name, namespace = self.bound.declaration.name, self.bound.namespace
        return self._publication.idempotency_key or idempotency_key(self.outcome, namespace, name)

    def fields(self) -> dict[str, Any]:
        """The fields of a log line about the event, as far as it is made."""
        fields = self._publication.fields(self.bound)
        fields["event_id"] = self._data.get("event_id") or fields["event_id"] or new_event_id()
        return fields

    def failure_fields(self) -> dict[str, Any]:
        """The same of an event that could not be made or handed on."""
        return {**self.fields(), "step_uuid": self.outcome.step_uuid}

    def _as_data(self, payload: Any) -> dict[str, Any]:
        outcome, bound = self.outcome, self.bound
        return {
            "event_id": self._publication.event_id or new_event_id(),
            "event_name": bound.declaration.name,
            "event_version": bound.declaration.version,
            "payload": payload,
            "execution_result": _execution(outcome, error_data(outcome.error)),
            "metadata": {
                "task_uuid": outcome.task_uuid,
                "step_uuid": outcome.step_uuid,
                "step_name": bound.step_name,
                "namespace": bound.namespace,
                "correlation_id": outcome.correlation_id,
                "fired_at": timestamp(_fired_at(outcome)),
                "fired_by": outcome.fired_by,
                "idempotency_key": self.idempotency_key,
            },
        }


def _frozen(kind: type[T], fields: dict[str, Any]) -> T:
    """Return a frozen dataclass with these fields, which are all it has: its own ``__init__`` takes three times as long."""
    made = object.__new__(kind)
    object.__setattr__(made, "__dict__", fields)
    return made


def _value(snapshot: Snapshot) -> Any:
    if snapshot.error is not None:
        raise NotSerialisable(snapshot.error)
    return values.decode(snapshot.json)


def _execution(outcome: StepOutcome, error: object) -> dict[str, Any]:
    return {
        "success": outcome.error is None,
        "status": outcome.kind._value_,  # ``value`` is the same by a call of a Python function
        "error": error,
        "metadata": {
            "execution_time_ms": outcome.execution_time_ms,
            "attempt": outcome.attempt,
            "redelivered": outcome.redelivered,
        },
    }


def _fired_at(outcome: StepOutcome) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(outcome.fired_at, datetime.timezone.utc)


def _step_context(outcome: StepOutcome, bound: BoundEvent) -> StepContext:
    args, kwargs = _value(outcome.inputs) if outcome.inputs and not outcome.inputs.error else ((), {})
    return StepContext(
        task_uuid=outcome.task_uuid,
        step_uuid=outcome.step_uuid,
        step_name=bound.step_name,
        task_name=outcome.task_name,
        namespace=bound.namespace,
        correlation_id=outcome.correlation_id,
        attempt=outcome.attempt,
        redelivered=outcome.redelivered,
        fired_at=_fired_at(outcome),
        fired_by=outcome.fired_by,
        args=args,
        kwargs=kwargs,
    )
