"""Where a replay's events go: back to their queues, or to the subscribers of this process."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import ClassVar

from celery_tasker_events import values
from celery_tasker_events.bus.bus import InProcessBus
from celery_tasker_events.bus.registry import SubscriberRegistry
from celery_tasker_events.consumer.marking import MarkedEvent
from celery_tasker_events.durable import sql
from celery_tasker_events.durable.queues import Connection, send_statement
from celery_tasker_events.errors import DatabaseNotReady
from celery_tasker_events.telemetry.counters import Counters

__all__ = ["BusDestination", "Destination", "QueueDestination"]


class Destination(ABC):
    """Takes batches of one queue's events, in order. An error of either method ends the replay, which can be resumed."""

    #: What the replay's journal knows it by: a replay is resumed with the same.
    name: ClassVar[str]

    #: Events of a batch at most. An interruption may repeat what was delivered of one.
    batch_size: ClassVar[int] = 500

    def deliver(self, batch: Sequence[MarkedEvent]) -> None:  # noqa: B027  # each destination needs one of the two
        """Hand the batch over; return when that is done. It may come once more if the replay is interrupted afterwards."""

    def write(self, connection: Connection, batch: Sequence[MarkedEvent]) -> None:  # noqa: B027  # as above
        """Write the batch, in the transaction that notes how far the replay is."""

    @property
    def failed(self) -> int:
        """How many times something failed that did not end the replay."""
        return 0

    def close(self) -> None:  # noqa: B027  # as above
        """Let go of what it has opened."""


class QueueDestination(Destination):
    """Sends each event to the queue that it came from, with its group, so that consumers get each workflow in order."""

    name = "queue"

    def write(self, connection: Connection, batch: Sequence[MarkedEvent]) -> None:
        if send_statement(connection) != sql.SEND:
            raise DatabaseNotReady("PGMQ is older than 1.5 and knows no headers: a replay could not be told from the events")
        bodies = ",".join(marked.body for marked in batch)
        headers = ",".join(marked.headers_text for marked in batch)
        queue = values.encode(batch[0].queue).decode()
        connection.execute(sql.SEND, [f'[{{"queue":{queue},"messages":[{bodies}],"headers":[{headers}]}}]'])


class BusDestination(Destination):
    """Calls the subscribers of a registry, and waits for them; one that fails is logged and counted.

    Args:
        timeout: Seconds that one subscriber may take for one event.
    """

    name = "bus"
    batch_size = 20

    def __init__(self, subscribers: SubscriberRegistry, *, timeout: float) -> None:
        self._counters = Counters()
        self._bus = InProcessBus(
            subscribers,
            self._counters,
            buffer_size=1,
            timeout=timeout,
            deduplication_size=0,
            log_errors=True,
            log_dropped=True,
        )

    def deliver(self, batch: Sequence[MarkedEvent]) -> None:
        for marked in batch:
            self._bus.publish(marked.event, "replay")
            while not self._bus.drain(1.0):  # each subscriber has a timeout of its own
                pass

    @property
    def called(self) -> int:
        """How many calls of subscribers returned."""
        return self._counters.total("dispatched")

    @property
    def failed(self) -> int:
        return self._counters.total("failed")

    def close(self) -> None:
        self._bus.close(1.0)
