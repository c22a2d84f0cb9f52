"""Publishing inside the user's own transaction: on the caller's thread, and whatever goes wrong is raised."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from celery_tasker_events.building import Draft, Publication
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.durable.transaction import AsyncAdapter, SyncAdapter, explanation_of
from celery_tasker_events.envelope import Envelope
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.reporting import Reporter
from celery_tasker_events.router import durable_message
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.log import event_fields, logger
from celery_tasker_events.telemetry.telemetry import Telemetry

__all__ = ["MODE", "TransactionalPublisher"]

#: What counters and log lines call the way of these events.
MODE = "transaction"


class TransactionalPublisher:
    """Writes events with connections of the user's.

    All that can be wrong with an event is found before anything is sent: an error of a statement would end the user's
    transaction, and an error that was swallowed would let it commit without its event.
    """

    def __init__(self, envelope: Envelope, counters: Counters, telemetry: Telemetry, max_event_bytes: int | None = None) -> None:
        self._max_event_bytes = max_event_bytes
        self._envelope = envelope
        self._counters = counters
        self._telemetry = telemetry
        self._reporter = Reporter(counters, telemetry, survived=Exception)

    def publish(self, publication: Publication, adapter: SyncAdapter) -> str | None:
        """Write the event of a publication.

        Returns:
            Its id, or None if a hook of its publisher decided against it.

        Raises:
            PublishingError: if the event can't be written as it is, or its queue is missing.
            PgmqMissing: if the connection's database has no PGMQ.
            Exception: whatever a publisher's hook or the connection raises.
        """
        draft = self._draft(publication)
        with self._raising(draft):
            built = self._build(draft)
            if built is None:
                return None
            event, message = built
            started = time.perf_counter()
            message_id = adapter.send(message)
        self._written(draft, event, message_id, started)
        return event.event_id

    async def publish_async(self, publication: Publication, adapter: AsyncAdapter) -> str | None:
        """As :meth:`publish`."""
        draft = self._draft(publication)
        with self._raising(draft):
            built = self._build(draft)
            if built is None:
                return None
            event, message = built
            started = time.perf_counter()
            message_id = await adapter.send(message)
        self._written(draft, event, message_id, started)
        return event.event_id

    def _draft(self, publication: Publication) -> Draft:
        self._telemetry.attach()
        (bound,) = publication.events
        return Draft(publication, bound)

    def _build(self, draft: Draft) -> tuple[DomainEvent, DurableMessage] | None:
        if not draft.build():
            self._reporter.skipped(draft)
            return None
        draft.stage, event = "serialise", draft.shown()
        fields = {**draft.fields(), "delivery_mode": MODE}
        trail = self._reporter.follow(draft, fields)
        message = durable_message(draft, self._envelope, fields, trail, max_bytes=self._max_event_bytes)
        message.check_storable()
        draft.stage = MODE
        return event, message

    @contextlib.contextmanager
    def _raising(self, draft: Draft) -> Iterator[None]:
        """Tell of an error, and raise it, or one that says what to do."""
        try:
            yield
        except BaseException as error:  # a cancelled coroutine is told of, too
            explained = explanation_of(error, draft.bound.queue_name, draft.bound.namespace) if draft.stage == MODE else None
            fields = {**draft.failure_fields(), "delivery_mode": MODE}
            self._reporter.failed(draft, explained or error, fields)
            self._reporter.on_publish_error(draft, explained or error, fields)
            if explained is not None:
                raise explained from error
            raise

    def _written(self, draft: Draft, event: DomainEvent, message_id: int, started: float) -> None:
        self._counters.add("published", event.event_name, event.metadata.namespace, MODE)
        if draft.trail is not None:
            draft.trail.published(message_id)
        duration_ms = (time.perf_counter() - started) * 1000
        told = {"delivery_mode": MODE, "message_id": message_id, "duration_ms": duration_ms}
        logger.info(
            "Domain event written in its caller's transaction: %s", event.event_name, extra={**event_fields(event), **told}
        )
        self._reporter.after_publish(draft, event)
