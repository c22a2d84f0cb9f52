"""Where a replay's events go: back to their queues, to a forward target, or to the subscribers of this process."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import ClassVar

from celery_tasker_events import values
from celery_tasker_events.bus.bus import InProcessBus
from celery_tasker_events.bus.registry import SubscriberRegistry
from celery_tasker_events.consumer.delivery import Delivery
from celery_tasker_events.consumer.failing import Rejected
from celery_tasker_events.consumer.marking import MarkedEvent
from celery_tasker_events.consumer.targets.base import Target
from celery_tasker_events.durable import sql
from celery_tasker_events.durable.queues import Connection, send_statement
from celery_tasker_events.errors import HeadersMissing
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.log import logger

__all__ = ["BusDestination", "Destination", "QueueDestination", "TargetDestination"]


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

    @property
    def what_failed(self) -> str:
        """The same for people, who find in the log which."""
        return ""

    def close(self) -> None:  # noqa: B027  # as above
        """Let go of what it has opened."""


class QueueDestination(Destination):
    """Sends each event to the queue that it came from, with its group, so that consumers get each workflow in order."""

    name = "queue"

    def write(self, connection: Connection, batch: Sequence[MarkedEvent]) -> None:
        if send_statement(connection) != sql.SEND:
            raise HeadersMissing  # a replay could not be told from the events
        bodies = ",".join(marked.body for marked in batch)
        headers = ",".join(marked.headers_text for marked in batch)
        queue = values.encode(batch[0].queue).decode()
        connection.execute(sql.SEND, [f'[{{"queue":{queue},"messages":[{bodies}],"headers":[{headers}]}}]'])


class TargetDestination(Destination):
    """Publishes the events as a forwarder does, in order, and waits until the target has confirmed them.

    What the target will never take is logged and counted. What it can't take now ends the replay, which can be resumed.

    Args:
        target: Not opened yet.
    """

    name = "target"

    def __init__(self, target: Target) -> None:
        self._target = target
        self._is_open = False
        self._refused = 0

    def deliver(self, batch: Sequence[MarkedEvent]) -> None:
        if not self._is_open:
            self._target.open()
            self._is_open = True
        size = self._target.batch_size
        for start in range(0, len(batch), size):
            portion = batch[start : start + size]
            for marked, outcome in zip(portion, self._target.publish([_delivery(each) for each in portion]), strict=True):
                if isinstance(outcome, Rejected):
                    self._refused += 1
                    logger.warning("%s refused event %s: %s", self._target.shown, marked.event.event_id, outcome)
                elif outcome is not None:
                    raise outcome

    @property
    def failed(self) -> int:
        return self._refused

    @property
    def what_failed(self) -> str:
        return f"{self._target.shown} refused {self.failed} events"

    def close(self) -> None:
        self._target.close()


def _delivery(marked: MarkedEvent) -> Delivery:
    fired_at = marked.event.metadata.fired_at
    return Delivery(marked.event, marked.queue, marked.message_id, 1, fired_at, marked.body, marked.headers)


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
    def failed(self) -> int:
        return self._counters.total("failed")

    @property
    def what_failed(self) -> str:
        return f"{self.failed} calls of subscribers failed"

    def close(self) -> None:
        self._bus.close(1.0)
