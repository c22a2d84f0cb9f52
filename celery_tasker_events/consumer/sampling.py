"""Sampler: what the queues hold, look after look, and how fast events come; for those who watch."""

from __future__ import annotations

import datetime
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from celery_tasker_events.consumer.entry import Entry
from celery_tasker_events.consumer.looking import QueueState, find_queues, last_events, queue_states
from celery_tasker_events.durable.queues import Connection
from celery_tasker_events.envelope.base import timestamp

__all__ = ["QueueSample", "Sample", "Sampler"]


@dataclass(frozen=True)
class QueueSample:
    """One queue at one look.

    Attributes:
        oldest_age: Seconds since the oldest message was enqueued; None if there is none.
        rate: Messages that were sent to it since the look before, per second; None at the first look.
        last: Its last event, in the queue or its archive; None if there is none.
    """

    state: QueueState
    oldest_age: float | None
    rate: float | None
    last: Entry | None

    def as_json(self) -> dict[str, Any]:
        """The sample as JSON data: that of the state, and what it adds."""
        return {
            **self.state.as_json(),
            "oldest_age_seconds": self.oldest_age,
            "publish_rate": self.rate,
            "last_event": self.last and self.last.outline.event_name,
            "last_event_at": self.last and timestamp(self.last.enqueued_at),
        }


@dataclass(frozen=True)
class Sample:
    """All queues at one look."""

    at: datetime.datetime
    queues: tuple[QueueSample, ...]


class Sampler:
    """Looks at queues; keeps only what it needs for the rates.

    Args:
        names: Namespaces or PGMQ queues; none: all queues of domain events, also those that are made later.
    """

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = names
        self._totals: dict[str, int] = {}
        self._looked_at: float | None = None

    def sample(self, connection: Connection) -> Sample:
        """Look once. However long the queues are, a bounded number of rows is read.

        Raises:
            PgmqMissing: if the database has no PGMQ.
            UnknownQueue: if there is no queue of a name.
        """
        states = queue_states(connection, find_queues(connection, self._names))
        now, clock = datetime.datetime.now(datetime.timezone.utc), time.monotonic()
        passed = None if self._looked_at is None else clock - self._looked_at
        queues = tuple(
            QueueSample(state, _age(state, now), self._rate(state, passed), _last(connection, state)) for state in states
        )
        self._totals = {state.queue.name: state.total for state in states}
        self._looked_at = clock
        return Sample(now, queues)

    def _rate(self, state: QueueState, passed: float | None) -> float | None:
        before = self._totals.get(state.queue.name)
        # One that was dropped and made again counts anew.
        if before is None or not passed or state.total < before:
            return None
        return (state.total - before) / passed


def _age(state: QueueState, now: datetime.datetime) -> float | None:
    # The server's clock may be a little ahead.
    return None if state.oldest is None else max((now - state.oldest).total_seconds(), 0.0)


def _last(connection: Connection, state: QueueState) -> Entry | None:
    return next(iter(last_events(connection, state.queue, 1, depth=1)), None)
