"""What a queue hands over: the raw message, and the event that is read from it. A message is untrusted until then."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from celery_tasker_events import envelope, values
from celery_tasker_events.event import DomainEvent

__all__ = ["Delivery", "Message", "Unreadable", "open_message"]

#: What is told of why a message is unreadable, in characters: it may quote much of the message.
LONGEST_REASON = 2000


class Unreadable(ValueError):
    """A message is no domain event of ours, or a broken one."""


class Message(NamedTuple):
    """A message as it was read, not looked into yet.

    Attributes:
        read_count: How often it was read, this time included: PGMQ's ``read_ct``.
        body: JSON text.
        headers: JSON text, or None if it has none.
    """

    queue: str
    message_id: int
    read_count: int
    enqueued_at: datetime.datetime
    body: str
    headers: str | None

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from all other messages of the database."""
        return self.queue, self.message_id


@dataclass(frozen=True)
class Delivery:
    """An event with the message that brought it.

    Attributes:
        event: The event.
        queue: Name of the PGMQ queue.
        message_id: PGMQ's ``msg_id``.
        attempt: How often the message was read, this time included; 1 at first.
        enqueued_at: When it was committed to the queue.
        body: The message as JSON text, in the envelope in which it was published.
        headers: PGMQ's headers, such as ``traceparent``.
    """

    event: DomainEvent
    queue: str
    message_id: int
    attempt: int
    enqueued_at: datetime.datetime
    body: str
    headers: Mapping[str, Any]

    @property
    def replay_id(self) -> str | None:
        """Id of the replay that sent the event once more; None for the event itself."""
        replay_id = self.headers.get("replay_id")
        return replay_id if isinstance(replay_id, str) else None


def open_message(message: Message) -> Delivery:
    """Read the event of a message.

    Raises:
        Unreadable: if there is none in it.
    """
    try:
        event = envelope.read(values.decode(message.body))
        headers = None if message.headers is None else values.decode(message.headers)
    except Exception as error:  # whatever somebody has put into the queue, it must not end the consumer
        raise Unreadable(str(error)[:LONGEST_REASON] or type(error).__name__) from error
    return Delivery(
        event,
        message.queue,
        message.message_id,
        message.read_count,
        message.enqueued_at,
        message.body,
        headers if isinstance(headers, Mapping) else {},
    )
