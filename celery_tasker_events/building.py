"""From an outcome and a declaration to an event: the publisher's hooks, the schema, the metadata."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple

from celery_tasker_events import values
from celery_tasker_events.binding import BoundEvent
from celery_tasker_events.durable.confirmation import Confirmation
from celery_tasker_events.errors import NotSerialisable
from celery_tasker_events.event import DomainEvent, EventMetadata, ExecutionResult, new_event_id, queue_name
from celery_tasker_events.outcome import Snapshot, StepOutcome, idempotency_key
from celery_tasker_events.publisher import BasePublisher, GenericPublisher, StepContext, StepResult, default_payload
from celery_tasker_events.telemetry.trail import Trail

__all__ = ["Draft", "Publication"]


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


class Draft:
    """One event while it is made.

    Attributes:
        stage: Where on its way it is, for what is told if it fails there.
        payload_text: As much of the payload as there is, as JSON text.
        event: Set once it is built.
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

    def build(self) -> DomainEvent | None:
        """Return the event, or None if a hook of its publisher decided against it: ``stage`` tells which.

        Raises:
            NotSerialisable: if a part of it has no JSON form.
            SchemaViolation: if the payload does not match the declared schema.
            BaseException: whatever a hook raises.
        """
        publisher = self.bound.publisher
        self.payload_text = self.outcome.result.json.decode()
        asked = self._ask(publisher)
        if asked is None:
            return None
        payload, extra = asked
        if self.bound.validator is not None:
            self.stage = "schema"
            self.bound.validator.check(payload)
        self.stage = "before_publish"
        self.event = self._event(payload, extra)
        return None if publisher.before_publish(self.event) is False else self.event

    def _ask(self, publisher: BasePublisher) -> tuple[Any, Mapping[str, Any]] | None:
        """What the publisher makes of the step's result: the payload, and additional metadata; None: no event."""
        outcome, declaration = self.outcome, self.bound.declaration
        value = _value(outcome.result)
        if type(publisher) is GenericPublisher:
            # Most events have this one, and to make what its hooks would be told is a third of the work.
            return default_payload(value, outcome.error, outcome.error_code), {}
        result = StepResult(**_execution(outcome), result=value, error_code=outcome.error_code)
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
        return {
            "event_id": self.event.event_id if self.event else self._publication.event_id or new_event_id(),
            "event_name": self.bound.declaration.name,
            "queue_name": queue_name(self.bound.namespace),
            "task_uuid": self.outcome.task_uuid,
            "step_uuid": self.outcome.step_uuid,
            "correlation_id": self.outcome.correlation_id,
            "namespace": self.bound.namespace,
        }

    def _event(self, payload: Any, extra: Mapping[str, Any]) -> DomainEvent:
        outcome, bound, publication = self.outcome, self.bound, self._publication
        name = bound.declaration.name
        return DomainEvent(
            event_id=publication.event_id or new_event_id(),
            event_name=name,
            event_version=bound.declaration.version,
            payload=payload,
            execution_result=ExecutionResult(**_execution(outcome)),
            metadata=EventMetadata(
                task_uuid=outcome.task_uuid,
                step_uuid=outcome.step_uuid,
                step_name=bound.step_name,
                namespace=bound.namespace,
                correlation_id=outcome.correlation_id,
                fired_at=_fired_at(outcome),
                fired_by=outcome.fired_by,
                idempotency_key=self.idempotency_key,
                extra=extra,
            ),
        )


def _value(snapshot: Snapshot) -> Any:
    if snapshot.error is not None:
        raise NotSerialisable(snapshot.error)
    return values.decode(snapshot.json)


def _execution(outcome: StepOutcome) -> dict[str, Any]:
    return {
        "success": outcome.error is None,
        "status": outcome.kind.value,
        "error": outcome.error,
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
