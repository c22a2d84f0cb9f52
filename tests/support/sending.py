"""Puts events into PGMQ queues as a worker would, without one."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import psycopg

from celery_tasker_events import envelope
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import create_queues
from celery_tasker_events.event import DomainEvent, EventMetadata, ExecutionResult, StepError, new_event_id, queue_name
from celery_tasker_events.telemetry.log import event_fields

BEGAN = datetime.datetime(2026, 1, 1, 10, 0, 0, tzinfo=datetime.timezone.utc)


def event(
    name: str = "payment.processed",
    payload: Any = None,
    *,
    namespace: str = "payments",
    correlation_id: str = "order-1",
    step_name: str | None = "process_payment",
    status: str = "completed",
    error: StepError | None = None,
    after_ms: float = 0,
    took_ms: float = 12.4,
    **more: Any,
) -> DomainEvent:
    """An event, right in every field. ``after_ms``: when it fired, after ``BEGAN``."""
    event_id = more.pop("event_id", None) or new_event_id()
    metadata = EventMetadata(
        task_uuid=correlation_id,
        step_uuid=f"step-of-{event_id}",
        step_name=step_name,
        namespace=namespace,
        correlation_id=correlation_id,
        fired_at=BEGAN + datetime.timedelta(milliseconds=after_ms),
        fired_by="celery@host",
        idempotency_key=event_id,
    )
    details = {"execution_time_ms": took_ms, "attempt": 1, "redelivered": False}
    result = ExecutionResult(success=error is None, status=status, error=error, metadata=details)
    return DomainEvent(event_id, name, payload, metadata, result, **more)


def send(dsn: str, *events: DomainEvent, envelope_name: str = "native", archive: bool = False) -> list[int]:
    """Commit the events to the queues of their namespaces, made where they are missing; return the message ids."""
    with connect(dsn) as connection:
        create_queues(connection, {event.queue_name for event in events})
        wire = envelope.by_name(envelope_name)
        ids = [
            put(connection, event.queue_name, wire.to_message(event).decode(), wire.headers(event).decode()) for event in events
        ]
        if archive:
            for event_, msg_id in zip(events, ids, strict=True):
                connection.execute("select pgmq.archive(%s, %s::bigint)", [event_.queue_name, msg_id])
    return ids


def message_of(event: DomainEvent, wire: envelope.Envelope, traceparent: str | None = None) -> DurableMessage:
    """What the durable path sends of an event."""
    body, headers = wire.to_message(event, traceparent), wire.headers(event, traceparent)
    return DurableMessage(event.queue_name, body, headers, event_fields(event))


def send_raw(dsn: str, message: str | None, queue: str = queue_name("payments")) -> int:
    """Commit a message of any JSON to any queue, made if it is missing; return its id."""
    with connect(dsn) as connection:
        create_queues(connection, {queue})
        return put(connection, queue, message, "{}")


def put(connection: psycopg.Connection[Any], queue: str, message: str | None, headers: str | None = "{}") -> int:
    """Send one message in the connection's transaction; return its id."""
    row = connection.execute("select pgmq.send(%s, %s::jsonb, %s::jsonb)", [queue, message, headers]).fetchone()
    assert row is not None
    return int(row[0])


def untouched(dsn: str, queue: str = queue_name("payments")) -> list[Mapping[str, Any]]:
    """What a consumer would notice: of each message, when it can be read and how often it was."""
    with psycopg.connect(dsn) as connection:
        return connection.execute(f"select msg_id, vt, read_ct from pgmq.q_{queue} order by msg_id").fetchall()
