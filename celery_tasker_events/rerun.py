"""Makes an event's message again, from the outcome that its dead letter keeps, with the publishers and schemas of now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery_tasker_events import values
from celery_tasker_events.binding import BoundEvent
from celery_tasker_events.building import Draft
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.envelope import Envelope
from celery_tasker_events.errors import ConfigurationError, NotPublishable
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.pipeline import Pipeline, Publication
from celery_tasker_events.record import EventReference, Record
from celery_tasker_events.router import Router
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.telemetry import Telemetry
from celery_tasker_events.telemetry.trail import Trail

__all__ = ["Rerun"]


class Rerun:
    """Publishes nothing by itself: it only makes the message. Subscribers do not hear of it.

    Args:
        find: Finds an event again; raises ConfigurationError if the app declares it no more.
        max_event_bytes: How large the message may be.
    """

    def __init__(self, find: Callable[[EventReference], BoundEvent], envelope: Envelope, max_event_bytes: int) -> None:
        self._find = find
        self._envelope = envelope
        self._max_event_bytes = max_event_bytes

    def message_of(self, outcome_text: object) -> DurableMessage:
        """Return the message of the event, with the event id, the idempotency key and the time that it had.

        Raises:
            NotPublishable: with the reason.
        """
        try:
            text = str(outcome_text)
            record = Record.of(text)
            traceparent = values.decode(text)["outcome"]["trace"]
        except (ValueError, KeyError, TypeError) as error:
            raise NotPublishable("the letter keeps no outcome that this version can read") from error
        try:
            bound = self._find(record.event)
        except ConfigurationError as error:
            raise NotPublishable(str(error)) from error
        if not bound.declaration.delivery_mode.reaches_pgmq:
            raise NotPublishable(f"{record.event.event_name} is fast by now: nothing of it goes to Postgres")
        return self._run(record, bound, traceparent)

    def _run(self, record: Record, bound: BoundEvent, traceparent: str | None) -> DurableMessage:
        path = _OnePlace()
        counters = Counters()
        router = Router(_NoBus(), path, self._envelope, counters, self._max_event_bytes)
        pipeline = _Strict(router, path, counters, _KeptTrace(counters, traceparent))
        pipeline.publish(Publication(record.outcome, (bound,), record.event_id, record.idempotency_key))
        if path.message is None:
            raise NotPublishable("its publisher does not want it published any more")
        return path.message


class _Strict(Pipeline):
    """Lets an error out, instead of making another dead letter of it."""

    def _fail(self, draft: Draft, error: BaseException) -> None:
        raise NotPublishable(f"{draft.stage}: {type(error).__name__}: {error}") from error


class _OnePlace:
    """A durable path that keeps what it is given."""

    message: DurableMessage | None = None

    def send(self, message: DurableMessage) -> None:
        self.message = message


class _NoBus:
    def publish(self, event: DomainEvent, mode: str) -> None:
        """Subscribers are in the workers, and an event that comes again is none of theirs."""


class _KeptTrace(Telemetry):
    """Hands on the trace context that the event was to have, and tells nobody of the event."""

    def __init__(self, counters: Counters, traceparent: str | None) -> None:
        super().__init__(counters)
        self._traceparent = traceparent

    def attach(self) -> None:
        pass

    def trail(self, fields: Mapping[str, Any], fired_at: float, span_context: Any) -> Trail:
        trail = Trail()
        trail.traceparent = self._traceparent
        return trail
