"""The threads of a bus: one calls the subscribers, and another one watches that no call keeps it from the next."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from celery_tasker_events.bus.calling import GRACE
from celery_tasker_events.bus.delivery import Delivery
from celery_tasker_events.bus.notices import Notices
from celery_tasker_events.bus.registry import SubscriberRegistry, Subscription
from celery_tasker_events.bus.shift import Shift
from celery_tasker_events.bus.statistics import CallResult
from celery_tasker_events.bus.walk import Walk
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.gauge import is_worth_telling
from celery_tasker_events.threads import join_thread, start_thread

__all__ = ["Crew", "Waiting"]

#: An event, its subscribers and its delivery mode.
Waiting = deque[tuple[DomainEvent, Sequence[Subscription], str]]


class Crew:
    """Delivers the events that wait, in their order. A thread whose subscriber outstays the timeout is relieved by another.

    Args:
        waiting: Others put events there, with the lock held, and call :meth:`wake`.
        lock: Guards who is at work, and what everybody here waits for.
        timeout: Seconds that one subscriber may take for one event.
        on_depth: Called when an event has been taken from those that wait and it is worth telling how many are left.
    """

    def __init__(
        self,
        registry: SubscriberRegistry,
        counters: Counters,
        waiting: Waiting,
        lock: threading.Lock,
        *,
        timeout: float,
        log_errors: bool,
        on_depth: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._waiting = waiting
        self._lock = lock
        self._timeout = timeout
        self._on_depth = on_depth
        self._notices = Notices(timeout, log_errors=log_errors)
        self._walk = Walk(counters)
        self._delivery = Delivery(registry, self._walk, lock, self._notices, timeout=timeout)
        # From the first event that wakes the crew until the last one has been everywhere.
        self._busy = False
        self._arrived = threading.Condition(lock)
        self._idle = threading.Condition(lock)
        self._called = threading.Condition(lock)
        self._watch_wakes = 0.0
        self._woken = False
        self._watch_thread: threading.Thread | None = None
        self._shift: Shift | None = None
        self._left_calling = False

    @property
    def started(self) -> bool:
        return self._shift is not None

    def start(self) -> None:
        """Start the threads, if they are not there; with the lock held."""
        if self._shift is None and not self._delivery.closing:
            self._start_shift()
            self._walk.start(self._registry.book)
            self._watch_thread = start_thread(self._watch, "tasker-events-bus-watch")

    def wake(self) -> None:
        """An event waits; with the lock held."""
        if self._busy:
            return
        self.start()
        self._busy = self._woken = True
        self._arrived.notify()
        if self._watch_wakes == math.inf:
            # Told once: until it has the lock again, the calls that follow would tell it the same.
            self._watch_wakes = 0.0
            self._called.notify()

    def runs_here(self) -> bool:
        """Whether this is the thread that calls the subscribers."""
        shift = self._shift
        return shift is not None and shift.thread is threading.current_thread()

    def drain(self, timeout: float) -> bool:
        """Wait up to that many seconds until every event has been everywhere; return whether it has."""
        with self._lock:
            return self._idle.wait_for(lambda: not self._busy, timeout)

    def close(self) -> None:
        """Call nobody any more; with the lock held."""
        self._delivery.closing = True
        self._arrived.notify_all()
        self._called.notify_all()
        shift = self._shift
        mark = shift.began() if shift is not None else None
        if shift is not None and mark is not None and shift.take(mark):
            # If this call hangs, nobody else will write down what came before it.
            self._walk.write_down(going_on=1)
            shift.marks.append(mark)
            self._left_calling = True

    def join(self) -> None:
        """Cancel a coroutine that still runs, and wait a moment for the threads, but not for a function that does."""
        shift = self._shift
        if shift is None:
            return
        ends = shift.caller.cancel() or not self._left_calling
        # What is left for the threads takes a moment: to close an event loop, to log a timeout.
        for thread in (shift.thread if ends else None, self._watch_thread):
            if thread is not None and thread is not threading.current_thread():
                join_thread(thread, GRACE)

    def _start_shift(self) -> None:
        shift = Shift()
        shift.thread = start_thread(lambda: self._work(shift), "tasker-events-bus")
        # Only now: where no thread can be started, the next event tries again.
        self._shift = shift

    def _work(self, shift: Shift) -> None:
        # Who has started this thread holds it until all know which thread it is.
        with self._lock:
            pass
        try:
            while self._walk.event is not None or self._next_event():
                if not self._delivery.deliver(shift):
                    break
            if not shift.relieved:
                self._walk.stop()
        finally:
            shift.caller.close()

    def _next_event(self) -> bool:
        while True:
            try:
                event, subscriptions, mode = self._waiting.popleft()
            except IndexError:
                # What a call was about is forgotten by now: an event may be large.
                if not self._wait():
                    return False
            else:
                if is_worth_telling(len(self._waiting)):
                    self._on_depth()
                self._walk.begin(event, subscriptions, mode)
                return True

    def _wait(self) -> bool:
        """Wait for an event; return False if the bus is closed and none waits."""
        self._walk.write_down()
        with self._lock:
            if not self._waiting:
                self._busy = False
                self._idle.notify_all()
                self._arrived.wait_for(lambda: self._busy or self._delivery.closing)
                self._walk.set_clocks()
            return len(self._waiting) > 0

    def _watch(self) -> None:
        # Each in a call of its own: what it was about is forgotten before the next one is waited for.
        while self._relieve_next():
            pass

    def _relieve_next(self) -> bool:
        late = self._next_late_call()
        if late is None:
            return False
        subscription, event, suspended = late
        self._notices.timed_out(subscription, event, "it is left behind")
        if suspended:
            self._notices.suspended(subscription)
        return True

    def _next_late_call(self) -> tuple[Subscription, DomainEvent, bool] | None:
        with self._lock:
            while not self._delivery.closing:
                shift, now = self._shift, time.monotonic()
                mark = shift.began() if shift is not None else None
                if shift is not None and mark is not None:
                    due = mark + shift.allowance(mark, self._timeout)
                    if due <= now and shift.take(mark):
                        return self._relieve(shift, now - mark)
                    # The next call may have to end before one with a coroutine.
                    self._watch_wakes = min(due, now + self._timeout)
                elif self._busy or self._woken:
                    # While calls follow each other, none of them has to wake the watch.
                    self._watch_wakes = now + self._timeout
                else:
                    self._watch_wakes = math.inf
                self._woken = False
                self._called.wait(None if self._watch_wakes == math.inf else self._watch_wakes - now)
                self._watch_wakes = 0.0
        return None

    def _relieve(self, shift: Shift, seconds: float) -> tuple[Subscription, DomainEvent, bool]:
        shift.relieved = True
        walk = self._walk
        listener, event = walk.current(), walk.event
        assert event is not None
        listener.tally.seconds += seconds
        walk.settle(listener, CallResult.TIMED_OUT.value)
        suspended = self._delivery.suspensions.timed_out(listener.subscription, hangs=True)
        walk.write_down()
        self._start_shift()
        return listener.subscription, event, suspended
