"""The bus of one process: streams get an event at once, subscribers from a bounded buffer, on a thread of the bus."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from celery_tasker_events.bus.crew import Crew, Waiting
from celery_tasker_events.bus.deduplication import SeenEvents
from celery_tasker_events.bus.registry import SubscriberRegistry
from celery_tasker_events.bus.streams import OpenStreams
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.gauge import is_worth_telling
from celery_tasker_events.telemetry.log import RateLimitedWarning, dropped_fields, event_fields
from celery_tasker_events.threads import start_thread

__all__ = ["InProcessBus"]


class InProcessBus:
    """Calls every matching subscriber for every event; one that raises or hangs does not keep it from the others.

    Args:
        buffer_size: How many events may wait for the subscribers; what comes beyond is dropped, counted and logged. Each
            stream has as large a buffer of its own, unless it asks for another.
        timeout: Seconds that one subscriber may take for one event.
        deduplication_size: How many events are remembered, so that a redelivered one is not handed on again; 0: none.
        on_depth: Called when :meth:`depth` has changed and is worth telling, on any thread; it may not wait.
    """

    def __init__(
        self,
        registry: SubscriberRegistry,
        counters: Counters,
        *,
        buffer_size: int,
        timeout: float,
        deduplication_size: int,
        log_errors: bool,
        log_dropped: bool,
        on_depth: Callable[[], None] = lambda: None,
    ) -> None:
        self.streams = OpenStreams(counters, buffer_size=buffer_size, log_dropped=log_dropped)
        self._registry = registry
        self._counters = counters
        self._buffer_size = buffer_size
        self._on_depth = on_depth
        self._dropped = RateLimitedWarning("%d fast events dropped: the buffer of the bus is full") if log_dropped else None
        # Two memories: what the full buffer for subscribers dropped may have reached a stream, and comes again for them.
        self._seen = SeenEvents(deduplication_size)
        self._seen_by_streams = SeenEvents(deduplication_size)
        self._waiting: Waiting = deque()
        self._closing = False
        self._lock = threading.Lock()
        self._crew = Crew(
            registry, counters, self._waiting, self._lock, timeout=timeout, log_errors=log_errors, on_depth=on_depth
        )

    def publish(self, event: DomainEvent, mode: str = "") -> None:
        """Hand the event to streams and queue it for subscribers; without any, nothing happens and no thread is started.

        Args:
            mode: Its delivery mode, for the counters.
        """
        subscriptions = self._registry.matching(event.event_name)
        buffers = self.streams.matching(event.event_name)
        if not subscriptions and not buffers:
            return
        lost: Sequence[tuple[DomainEvent, str]] = ()
        repeated, accepted = False, True
        with self._lock:
            if buffers:
                if self._seen_by_streams.add(event):
                    lost = self.streams.offer(event, buffers, mode)
                else:
                    repeated = True
            if subscriptions:
                if len(self._waiting) < self._buffer_size and not self._closing:
                    if self._seen.add(event):
                        self._waiting.append((event, subscriptions, mode))
                        if is_worth_telling(len(self._waiting)):
                            self._on_depth()
                        self._crew.wake()
                    else:
                        repeated = True
                elif self._seen.has(event):
                    repeated = True
                else:  # and it is not remembered: it may come again for those who do not get it now
                    accepted = False
        # Logged without the lock, here and elsewhere: a log handler that hangs must hold nobody up.
        if lost:
            self.streams.tell_lost(lost)
        if repeated:
            self._count("skipped", event, "duplicate", mode)
        if not accepted:
            self._count("dropped", event, "bus buffer full", mode)
            if self._dropped:
                self._dropped.add(fields=lambda: dropped_fields(event_fields(event), "bus buffer full"))

    @property
    def started(self) -> bool:
        """Whether its threads run: they start with the first event that a subscriber wants."""
        return self._crew.started

    def prepare(self, event_name: str) -> None:
        """Start the threads if a subscriber wants such an event: Python 3.12 starts none any more once the interpreter ends."""
        if not self._crew.started and self._registry.matching(event_name):
            with self._lock:
                self._crew.start()

    def runs_here(self) -> bool:
        """Whether this is the thread that calls the subscribers: one of them calls back."""
        return self._crew.runs_here()

    def depth(self) -> int:
        """How many events wait for the subscribers."""
        return len(self._waiting)

    def drain(self, timeout: float) -> bool:
        """Wait up to that many seconds until every subscriber has had every event; return whether it has.

        A subscriber that asks is told False at once: it is busy with an event itself.
        """
        return not self.runs_here() and self._crew.drain(timeout)

    def close(self, timeout: float) -> bool:
        """Drain, then end the streams and the threads; return whether it drained.

        A subscriber that still hangs is left behind, and a coroutine is cancelled. If it is a subscriber that closes the bus,
        it is closed by another thread, when it has returned and the others have had what waits for them.
        """
        if self.runs_here():
            start_thread(lambda: self.close(timeout), "tasker-events-bus-close")
            return False
        drained = self.drain(timeout)
        with self._lock:
            self._closing = True
            self._crew.close()
            left = self._take_all()
            self._on_depth()
        for event, mode in left:
            self._count("dropped", event, "shutdown", mode)
        self.streams.end()
        self._crew.join()
        return drained

    def _take_all(self) -> list[tuple[DomainEvent, str]]:
        taken = []
        # One by one: a thread of the crew takes them without the lock.
        while self._waiting:
            try:
                event, _, mode = self._waiting.popleft()
            except IndexError:
                break
            taken.append((event, mode))
        return taken

    def _count(self, name: str, event: DomainEvent, reason: str, mode: str) -> None:
        self._counters.add(name, event.event_name, event.metadata.namespace, reason, mode=mode)
