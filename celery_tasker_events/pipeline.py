"""From an outcome and a declaration to a published event: the publisher's hooks, the schema, the metadata, the router."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple

from celery_tasker_events import values
from celery_tasker_events.binding import BoundEvent
from celery_tasker_events.durable.confirmation import Confirmation
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.errors import NotSerialisable
from celery_tasker_events.event import DomainEvent, EventMetadata, ExecutionResult, new_event_id, queue_name
from celery_tasker_events.outcome import Snapshot, StepOutcome, idempotency_key
from celery_tasker_events.publisher import BasePublisher, StepContext, StepResult
from celery_tasker_events.router import DurablePath, Router
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.log import error_fields, event_fields, failure_fields, logger
from celery_tasker_events.telemetry.telemetry import Telemetry
from celery_tasker_events.telemetry.trail import Trail

__all__ = ["Pipeline", "Publication"]


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


class _Stage:
    """Where on its way an event is, for the log line and the dead letter if it fails there."""

    def __init__(self, confirmation: Confirmation | None) -> None:
        self.name = "snapshot"
        self.confirmation = confirmation
        self.payload_text: str | None = None
        self.event: DomainEvent | None = None
        self.trail: Trail | None = None


class Pipeline:
    """Publishes the events of an outcome one after the other; an error in one never reaches the next."""

    def __init__(self, router: Router, durable: DurablePath, counters: Counters, telemetry: Telemetry | None = None) -> None:
        self._router = router
        self._durable = durable
        self._counters = counters
        self._telemetry = telemetry or Telemetry(counters)

    def publish(self, publication: Publication) -> None:
        # An event that is skipped or fails is counted too, and may be the only one that this process ever has.
        self._telemetry.attach()
        for bound in publication.events:
            stage = _Stage(publication.confirmation if bound.confirm else None)
            try:
                self._publish_one(publication, bound, stage)
            except BaseException as error:  # hooks are the user's code, and this thread must outlive a SystemExit
                self._fail(publication, bound, stage, error)

    def _publish_one(self, publication: Publication, bound: BoundEvent, stage: _Stage) -> None:
        outcome, declaration, publisher = publication.outcome, bound.declaration, bound.publisher
        stage.payload_text = outcome.result.json.decode()
        result = StepResult(**_execution(outcome), result=_value(outcome.result), error_code=outcome.error_code)
        context = _step_context(outcome, bound)
        stage.name = "should_publish"
        if not publisher.should_publish(result, declaration, context):
            self._skip(bound, stage)
            return
        stage.name = "transform_payload"
        payload = publisher.transform_payload(result, declaration, context)
        if type(publisher).transform_payload is not BasePublisher.transform_payload:
            # What a hook made, or changed in place, is brought into its JSON form: both paths carry the same data.
            snapshot = Snapshot.of(payload)
            stage.name, stage.payload_text = "serialise", snapshot.json.decode()
            payload = _value(snapshot)
        stage.name = "additional_metadata"
        extra = publisher.additional_metadata(result, declaration, context) or {}
        if extra:
            extra = _value(Snapshot.of(extra))
        if bound.validator is not None:
            stage.name = "schema"
            bound.validator.check(payload)
        stage.name = "before_publish"
        event = stage.event = _event(publication, bound, context, payload, extra)
        if publisher.before_publish(event) is False:
            self._skip(bound, stage)
            return
        stage.name = "route"
        mode = declaration.delivery_mode
        fields = {**event_fields(event), "delivery_mode": mode.value}
        stage.trail = self._telemetry.trail(fields, outcome.fired_at, outcome.trace)
        self._router.route(event, mode, stage.confirmation, stage.trail)
        self._after_publish(publisher, event)

    def _after_publish(self, publisher: BasePublisher, event: DomainEvent) -> None:
        try:
            publisher.after_publish(event)
        except BaseException as error:  # the event is on its way already: this is no failure of it
            extra = failure_fields(event_fields(event), error)
            logger.warning("Hook after_publish of publisher %r failed", publisher.name, exc_info=error, extra=extra)

    def _skip(self, bound: BoundEvent, stage: _Stage) -> None:
        self._counters.add("skipped", bound.declaration.name, bound.namespace, stage.name)
        if stage.confirmation is not None:
            stage.confirmation.settle(kept=True)

    def _fail(self, publication: Publication, bound: BoundEvent, stage: _Stage, error: BaseException) -> None:
        declaration, outcome = bound.declaration, publication.outcome
        fields = {
            "event_id": stage.event.event_id if stage.event else publication.event_id or new_event_id(),
            "event_name": declaration.name,
            "queue_name": queue_name(bound.namespace),
            "task_uuid": outcome.task_uuid,
            "step_uuid": outcome.step_uuid,
            "correlation_id": outcome.correlation_id,
            "namespace": bound.namespace,
        }
        parked = declaration.delivery_mode.reaches_pgmq
        self._counters.add("failed", declaration.name, bound.namespace, stage.name)
        told = error_fields(error)
        log_fields = {**fields, "delivery_mode": declaration.delivery_mode.value}
        logger.warning(
            "Domain event %s not published: %s: %s: %s%s",
            declaration.name,
            stage.name,
            told["error_type"],
            told["error"],
            "; it is parked as a dead letter" if parked else "",
            extra=failure_fields(log_fields, error),
        )
        trail = stage.trail or self._telemetry.trail(log_fields, outcome.fired_at, outcome.trace)
        trail.failed(stage.name, error)
        if parked:
            letter = DurableMessage.dead_letter(declaration, bound.namespace, stage.name, error, stage.payload_text, fields)
            self._durable.send(letter._replace(confirmation=stage.confirmation, fields=log_fields))
        try:
            bound.publisher.on_publish_error(stage.event, declaration, error)
        except BaseException as hook_error:  # a hook about an error must not make a second one
            extra = failure_fields(log_fields, hook_error)
            logger.warning("Hook on_publish_error of publisher %r failed", bound.publisher.name, exc_info=hook_error, extra=extra)


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
        fired_at=datetime.datetime.fromtimestamp(outcome.fired_at, datetime.timezone.utc),
        fired_by=outcome.fired_by,
        args=args,
        kwargs=kwargs,
    )


def _event(
    publication: Publication, bound: BoundEvent, context: StepContext, payload: Any, extra: Mapping[str, Any]
) -> DomainEvent:
    outcome, declaration = publication.outcome, bound.declaration
    return DomainEvent(
        event_id=publication.event_id or new_event_id(),
        event_name=declaration.name,
        event_version=declaration.version,
        payload=payload,
        execution_result=ExecutionResult(**_execution(outcome)),
        metadata=EventMetadata(
            task_uuid=outcome.task_uuid,
            step_uuid=outcome.step_uuid,
            step_name=bound.step_name,
            namespace=bound.namespace,
            correlation_id=outcome.correlation_id,
            fired_at=context.fired_at,
            fired_by=outcome.fired_by,
            idempotency_key=publication.idempotency_key or idempotency_key(outcome, bound.namespace, declaration.name),
            extra=extra,
        ),
    )
