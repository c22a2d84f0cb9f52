"""The channel and its thread: the task's thread puts and goes on, the dispatcher's thread does the work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from celery_tasker_events.pipeline import Publication
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.log import RateLimitedWarning, dropped_fields, error_fields, logger

__all__ = ["Dispatcher"]


class Dispatcher:
    """A bounded channel, drained by one thread that starts with the first put.

    Args:
        publish: Called on the thread for each publication, in order.
        buffer_size: How many publications may wait; what comes beyond is dropped, counted and logged.
    """

    def __init__(
        self, publish: Callable[[Publication], None], buffer_size: int, counters: Counters, *, log_dropped: bool
    ) -> None:
        self._publish = publish
        self._buffer_size = buffer_size
        self._counters = counters
        self._dropped = RateLimitedWarning("%d outcomes dropped: the channel to the dispatcher is full") if log_dropped else None
        # A SimpleQueue's put never waits and may even interrupt itself (a signal, the garbage collector).
        self._channel: SimpleQueue[Publication | threading.Event | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self._closed = False

    def put(self, publication: Publication) -> bool:
        """Hand over without waiting; return False if the channel is full or closed and the publication dropped.

        Threads that put at the same instant may exceed the buffer's size by one each.
        """
        if self._closed or self._channel.qsize() >= self._buffer_size:
            self._drop(publication)
            return False
        self._channel.put(publication)
        if self._thread is None:
            self._start()
        return True

    def depth(self) -> int:
        """How many publications wait."""
        return self._channel.qsize()

    def drain(self, timeout: float) -> bool:
        """Wait up to that many seconds until all that was put is published; return whether it is."""
        if self._thread is None:
            return True
        reached = threading.Event()
        self._channel.put(reached)
        return reached.wait(timeout)

    def close(self, timeout: float) -> bool:
        """Drain, then end the thread; return whether it drained."""
        drained = self.drain(timeout)
        self._closed = True
        self._channel.put(None)
        return drained

    def _start(self) -> None:
        with self._start_lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tasker-events-dispatcher", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while (item := self._channel.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
                continue
            try:
                self._publish(item)
            except BaseException as error:  # nothing may end this thread: later events would be lost
                extra = {**_fields(item), **error_fields(error)}
                logger.exception("The dispatcher failed on the events of step %s", item.outcome.step_uuid, extra=extra)

    def _drop(self, publication: Publication) -> None:
        for bound in publication.events:
            self._counters.add("dropped", bound.declaration.name, bound.namespace, "channel full")
        if self._dropped:
            self._dropped.add(fields=lambda: dropped_fields(_fields(publication), "channel full"))


def _fields(publication: Publication) -> dict[str, Any]:
    """What is known of a publication's events before they are made; of several, the last one's name."""
    bound, outcome = publication.events[-1], publication.outcome
    return {
        "event_id": publication.event_id,
        "event_name": bound.declaration.name,
        "queue_name": bound.queue_name,
        "task_uuid": outcome.task_uuid,
        "correlation_id": outcome.correlation_id,
        "namespace": bound.namespace,
    }
