"""Marks archived events as replays: the same event, which says that it comes once more."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_tasker_events import envelope
from celery_tasker_events.consumer.delivery import Unreadable
from celery_tasker_events.envelope.base import timestamp, workflow_group
from celery_tasker_events.event import DomainEvent

__all__ = ["Mark", "MarkedEvent"]


@dataclass(frozen=True)
class MarkedEvent:
    """An archived event as a replay sends it.

    Attributes:
        event: As a consumer reads it; ``metadata.extra`` has ``replay_id`` and ``replayed_at``.
        queue: The queue in whose archive it is.
        message_id: Of the archived message.
        body: JSON text, in the envelope in which it was published.
        headers: PGMQ's headers.
        headers_text: The same as JSON text.
    """

    event: DomainEvent
    queue: str
    message_id: int
    body: str
    headers: Mapping[str, Any]
    headers_text: str


@dataclass(frozen=True)
class Mark:
    """What tells a replay's events from the events themselves.

    The idempotency key has the replay's id in it. So a consumer that remembers what it has seen handles an event again, but
    once only for each replay, however often that is interrupted and resumed.
    """

    replay_id: str
    replayed_at: datetime.datetime

    def put_on(self, queue: str, message_id: int, body: str | None, headers: str | None) -> MarkedEvent:
        """Read an archived message, and return its event with the mark.

        Raises:
            Unreadable: if it is no domain event, or has a number that Python can't keep.
        """
        try:
            # Not with values.decode: it makes floats of integers beyond 64 bits.
            message: Any = None if body is None else json.loads(body)
            event = envelope.read(message)
            form = envelope.recognise(message)
            assert form is not None
            marks = {"replay_id": self.replay_id, "replayed_at": timestamp(self.replayed_at)}
            key = f"{event.metadata.idempotency_key or event.event_id}:{self.replay_id}"
            amended = form.amended(message, key, marks)
            said = None if headers is None else json.loads(headers)
            group = workflow_group(event.metadata.task_uuid, event.metadata.correlation_id)
            kept = {"x-pgmq-group": group, **(said if isinstance(said, dict) else {})}
            with_marks = {**kept, "idempotency_key": key, **marks}
            return MarkedEvent(envelope.read(amended), queue, message_id, _text(amended), with_marks, _text(with_marks))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Unreadable(str(error)) from error


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
