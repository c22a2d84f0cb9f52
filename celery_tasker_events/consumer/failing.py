"""Failing: how long to wait before the next attempt, when to give up, and what a dead letter says."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from celery_tasker_events import chance
from celery_tasker_events.consumer.delivery import Message
from celery_tasker_events.envelope.base import timestamp
from celery_tasker_events.errors import ConfigurationError, TaskerEventsError
from celery_tasker_events.telemetry.log import error_fields

__all__ = ["Backoff", "Exhausted", "ExponentialBackoff", "Rejected", "RetryLater", "dead_letter", "seconds_to_wait"]

#: A year: more would not fit into what PGMQ takes, and nobody waits for it.
LONGEST = 366 * 24 * 3600

#: Seconds to wait after an attempt, by its number; 1 is the first.
Backoff = Callable[[int], float]


class RetryLater(TaskerEventsError):
    """A handler raises it to be called again after a time of its own choice.

    Args:
        seconds: How long to wait. The number of attempts is limited all the same.
    """

    def __init__(self, seconds: float, reason: str = "the handler asked for a later attempt") -> None:
        super().__init__(reason)
        self.seconds = seconds


class Rejected(TaskerEventsError):
    """A handler raises it where trying again can't help: the event becomes a dead letter at once."""


class Exhausted(TaskerEventsError):
    """A message was read again and again, and no consumer has ever settled it."""


@dataclass(frozen=True)
class ExponentialBackoff:
    """Waits longer after each attempt, less up to half at random, so that what failed together is not tried together.

    Attributes:
        first: Seconds after the first attempt.
        factor: By which each wait is longer than the one before.
        longest: Seconds, however many attempts there were.
    """

    first: float = 1.0
    factor: float = 2.0
    longest: float = 300.0

    def __post_init__(self) -> None:
        if not (self.first >= 0 and self.factor >= 1 and self.longest >= 0):
            raise ConfigurationError(f"{self}: first and longest must not be below 0, nor factor below 1")

    def __call__(self, attempt: int) -> float:
        # No float is great enough for every attempt.
        wait = self.longest if attempt > 1000 else min(self.longest, self.first * self.factor ** (attempt - 1))
        return wait * chance.between(0.5, 1.0)


def seconds_to_wait(error: BaseException, attempt: int, backoff: Backoff) -> int:
    """Return how many whole seconds to wait after an attempt that failed with that error."""
    wait = error.seconds if isinstance(error, RetryLater) else backoff(attempt)
    return 0 if not wait > 0 else math.ceil(min(wait, LONGEST))


def dead_letter(message: Message, stage: str, error: BaseException, consumer: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dead letter of a message: why nobody has handled it, and all of it as it was.

    It is kept as text, and under the same names as in the letter of a message that could not be published, so that
    it can be sent again in the same way.

    Args:
        stage: ``"read"``: it is no event, ``"handler"``: its handler failed, ``"attempts"``: nobody has ever settled it,
            ``"unmatched"``: it has no handler.
        consumer: Who gave up.
        fields: The event's log fields, as far as it has any.
    """
    told = error_fields(error)
    return {
        **fields,
        "failed_stage": stage,
        # What jsonb refuses is escaped: a dead letter must never be refused itself.
        "error": {key: text.replace("\0", "\\u0000") for key, text in told.items()},
        "attempts": message.read_count,
        "queue_name": message.queue,
        "message_id": message.message_id,
        "enqueued_at": timestamp(message.enqueued_at.astimezone(datetime.timezone.utc)),
        "failed_at": timestamp(datetime.datetime.now(datetime.timezone.utc)),
        "consumer": consumer,
        "kept": "message",
        "message_text": message.body,
        "headers_text": message.headers or "{}",
    }
