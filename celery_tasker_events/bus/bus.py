"""The bus of one process: a bounded buffer, and a thread that calls the subscribers one after the other."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from celery_tasker_events.bus.registry import SubscriberRegistry, Subscription
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.log import RateLimitedWarning, error_fields, event_fields, logger

__all__ = ["InProcessBus"]


@dataclass
class _Shift:
    """One thread's turn at the work. A thread whose subscriber outstays its timeout is relieved: another takes over."""

    calling: Subscription | None = None
    event: DomainEvent | None = None
    remaining: deque[Subscription] = field(default_factory=deque)
    deadline: float = 0.0
    relieved: bool = False


class InProcessBus:
    """Calls every matching subscriber for every event; one that raises or hangs does not keep it from the others.

    Args:
        buffer_size: How many events may wait; what comes beyond is dropped, counted and logged.
        timeout: Seconds that one subscriber may take for one event.
    """

    def __init__(
        self,
        registry: SubscriberRegistry,
        counters: Counters,
        *,
        buffer_size: int,
        timeout: float,
        log_errors: bool,
        log_dropped: bool,
    ) -> None:
        self._registry = registry
        self._counters = counters
        self._buffer_size = buffer_size
        self._timeout = timeout
        self._log_errors = log_errors
        self._dropped = RateLimitedWarning("%d fast events dropped: the buffer of the bus is full") if log_dropped else None
        self._waiting: deque[tuple[DomainEvent, Sequence[Subscription]]] = deque()
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._idle = threading.Condition(self._lock)
        self._busy = threading.Condition(self._lock)
        self._watch_asleep = False
        self._shift: _Shift | None = None
        self._closing = False

    def publish(self, event: DomainEvent) -> None:
        """Queue the event for its subscribers; without any, nothing happens and no thread is started."""
        subscriptions = self._registry.matching(event.event_name)
        if not subscriptions:
            return
        with self._lock:
            if len(self._waiting) < self._buffer_size and not self._closing:
                self._waiting.append((event, subscriptions))
                if self._shift is None:
                    self._start_shift(_Shift())
                    self._start(self._watch, "tasker-events-bus-watch")
                self._arrived.notify()
                return
        self._count("dropped", event, "bus buffer full")
        if self._dropped:
            self._dropped.add()

    def drain(self, timeout: float) -> bool:
        """Wait up to that many seconds until every subscriber has had every event; return whether it has."""
        with self._lock:
            return self._idle.wait_for(self._is_idle, timeout)

    def close(self, timeout: float) -> bool:
        """Drain, then end the threads; a subscriber that still hangs is left behind. Return whether it drained."""
        drained = self.drain(timeout)
        with self._lock:
            self._closing = True
            self._arrived.notify_all()
            self._busy.notify_all()
        return drained

    def _is_idle(self) -> bool:
        shift = self._shift
        return not self._waiting and (shift is None or (shift.calling is None and not shift.remaining))

    def _start_shift(self, shift: _Shift) -> None:
        self._shift = shift
        self._start(lambda: self._work(shift), "tasker-events-bus")

    def _start(self, target: object, name: str) -> None:
        threading.Thread(target=target, name=name, daemon=True).start()  # type: ignore[arg-type]

    def _work(self, shift: _Shift) -> None:
        while (call := self._next_call(shift)) is not None:
            subscription, event = call
            try:
                subscription.handler(event)
            except BaseException as error:  # the thread must outlive whatever a subscriber raises, SystemExit included
                self._tell_failure(subscription, event, error)
            else:
                if not shift.relieved:
                    self._count("dispatched", event, "")

    def _next_call(self, shift: _Shift) -> tuple[Subscription, DomainEvent] | None:
        with self._lock:
            shift.calling = None
            if not shift.relieved and not shift.remaining:
                self._wait_for_event(shift)
            if shift.relieved or self._closing or shift.event is None:
                return None
            shift.calling = shift.remaining.popleft()
            shift.deadline = time.monotonic() + self._timeout
            if self._watch_asleep:
                self._busy.notify()
            return shift.calling, shift.event

    def _wait_for_event(self, shift: _Shift) -> None:
        if not self._waiting:
            self._idle.notify_all()
            self._arrived.wait_for(lambda: self._waiting or self._closing)
        if self._waiting:
            shift.event, subscriptions = self._waiting.popleft()
            shift.remaining.extend(subscriptions)

    def _watch(self) -> None:
        with self._lock:
            while not self._closing:
                shift = self._shift
                if shift is None or shift.calling is None:
                    self._watch_asleep = True
                    self._busy.wait()
                    self._watch_asleep = False
                elif (left := shift.deadline - time.monotonic()) > 0:
                    self._busy.wait(left)
                else:
                    self._relieve(shift)

    def _relieve(self, shift: _Shift) -> None:
        assert shift.calling is not None
        assert shift.event is not None
        shift.relieved = True
        self._count("failed", shift.event, "subscriber timeout")
        logger.warning(
            "Subscriber %s has not returned within %g s: it is left behind, the others get the event",
            shift.calling.name,
            self._timeout,
            extra=event_fields(shift.event),
        )
        self._start_shift(_Shift(event=shift.event, remaining=shift.remaining))

    def _tell_failure(self, subscription: Subscription, event: DomainEvent, error: BaseException) -> None:
        self._count("failed", event, "subscriber error")
        if self._log_errors:
            told = error_fields(error)
            logger.warning(
                "Subscriber %s failed: %s: %s",
                subscription.name,
                told["error_type"],
                told["error"],
                exc_info=error,
                extra={**event_fields(event), **told},
            )

    def _count(self, name: str, event: DomainEvent, reason: str) -> None:
        self._counters.add(name, event.event_name, event.metadata.namespace, reason)
