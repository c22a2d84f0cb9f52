"""Dead letters as a writer leaves them."""

from __future__ import annotations

import json

from sending import send_raw

from celery_tasker_events import envelope
from celery_tasker_events.durable.letter import refused_letter
from celery_tasker_events.event import DomainEvent


def park(dsn: str, event: DomainEvent, reason: str = "no debts") -> int:
    """Commit a dead letter that keeps the whole message of an event, as if Postgres had refused it; return its id."""
    wire = envelope.by_name("native")
    fields = {"event_id": event.event_id, "event_name": event.event_name, "namespace": event.metadata.namespace}
    fields["correlation_id"] = event.metadata.correlation_id
    letter = refused_letter(fields, ValueError(reason), wire.to_message(event), wire.headers(event))
    return send_raw(dsn, json.dumps(letter), f"{event.queue_name}_dlq")
