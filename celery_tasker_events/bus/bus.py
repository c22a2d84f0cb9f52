"""The bus of one process: streams get an event at once, subscribers from a bounded buffer, on a thread of the bus."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from celery_tasker_events.bus.calling import GRACE, Caller, SubscriberTimeout
from celery_tasker_events.bus.deduplication import SeenEvents
from celery_tasker_events.bus.registry import SubscriberRegistry, Subscription
from celery_tasker_events.bus.statistics import CallResult, CallTally
from celery_tasker_events.bus.streams import OpenStreams
from celery_tasker_events.bus.subscriber import steps_of
from celery_tasker_events.bus.suspension import MAX_TIMEOUTS, Suspensions
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.log import (
    RateLimitedWarning,
    dropped_fields,
    error_fields,
    event_fields,
    failure_fields,
    logger,
)
from celery_tasker_events.threads import start_thread

__all__ = ["InProcessBus"]


@dataclass
class _Shift:
    """One thread's turn at the work. A thread whose subscriber outstays its timeout is relieved: another takes over.

    ``due`` is when that happens, on the monotonic clock; None while there is nothing to wait for.
    """

    calling: Subscription | None = None
    tally: CallTally | None = None
    event: DomainEvent | None = None
    mode: str = ""
    remaining: deque[Subscription] = field(default_factory=deque)
    started: float = 0.0
    due: float | None = None
    relieved: bool = False
    caller: Caller = field(default_factory=Caller)
    thread: threading.Thread | None = None
    pid: int = field(default_factory=os.getpid)


class InProcessBus:
    """Calls every matching subscriber for every event; one that raises or hangs does not keep it from the others.

    Args:
        buffer_size: How many events may wait for the subscribers; what comes beyond is dropped, counted and logged. Each
            stream has as large a buffer of its own, unless it asks for another.
        timeout: Seconds that one subscriber may take for one event.
        deduplication_size: How many events are remembered, so that a redelivered one is not handed on again; 0: none.
        on_depth: Called whenever :meth:`depth` has changed, on any thread; it may not wait.
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
        self._timeout = timeout
        self._on_depth = on_depth
        self._log_errors = log_errors
        self._dropped = RateLimitedWarning("%d fast events dropped: the buffer of the bus is full") if log_dropped else None
        # Two memories: what the full buffer for subscribers dropped may have reached a stream, and comes again for them.
        self._seen = SeenEvents(deduplication_size)
        self._seen_by_streams = SeenEvents(deduplication_size)
        self._suspensions = Suspensions()
        self._waiting: deque[tuple[DomainEvent, Sequence[Subscription], str]] = deque()
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._idle = threading.Condition(self._lock)
        self._busy = threading.Condition(self._lock)
        self._watch_wakes = 0.0
        self._looked = 0.0
        self._watch_thread: threading.Thread | None = None
        self._shift: _Shift | None = None
        self._closing = False

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
        with self._lock:
            repeated = bool(buffers) and self._seen_by_streams.has(event)
            if buffers and not repeated:
                self._seen_by_streams.add(event)
                lost = self.streams.offer(event, buffers, mode)
            accepted = True
            if subscriptions:
                if self._seen.has(event):
                    repeated = True
                else:
                    accepted = self._queue(event, subscriptions, mode)
        # Logged without the lock, here and elsewhere: a log handler that hangs must hold nobody up.
        self.streams.tell_lost(lost)
        if repeated:
            self._count("skipped", event, "duplicate", mode)
        if not accepted:
            self._count("dropped", event, "bus buffer full", mode)
            if self._dropped:
                self._dropped.add(fields=lambda: dropped_fields(event_fields(event), "bus buffer full"))

    def prepare(self, event_name: str) -> None:
        """Start the threads if a subscriber wants such an event: Python 3.12 starts none any more once the interpreter ends."""
        if self._shift is None and self._registry.matching(event_name):
            with self._lock:
                self._start_threads()

    def runs_here(self) -> bool:
        """Whether this is the thread that calls the subscribers: one of them calls back."""
        shift = self._shift
        return shift is not None and shift.thread is threading.current_thread()

    def depth(self) -> int:
        """How many events wait for the subscribers."""
        return len(self._waiting)

    def drain(self, timeout: float) -> bool:
        """Wait up to that many seconds until every subscriber has had every event; return whether it has.

        A subscriber that asks is told False at once: it is busy with an event itself.
        """
        if self.runs_here():
            return False
        with self._lock:
            return self._idle.wait_for(self._is_idle, timeout)

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
            left = [(event, mode) for event, _, mode in self._waiting]
            self._waiting.clear()
            self._on_depth()
            shift = self._shift
            self._arrived.notify_all()
            self._busy.notify_all()
        for event, mode in left:
            self._count("dropped", event, "shutdown", mode)
        self.streams.end()
        if shift is not None:
            ends = shift.caller.cancel() or drained
            # What is left for the threads takes a moment: to close an event loop, to log a timeout.
            for thread in (shift.thread if ends else None, self._watch_thread):
                if thread is not None and thread is not threading.current_thread():
                    thread.join(GRACE)
        return drained

    def _queue(self, event: DomainEvent, subscriptions: Sequence[Subscription], mode: str) -> bool:
        if len(self._waiting) >= self._buffer_size or self._closing:
            return False
        self._seen.add(event)
        self._waiting.append((event, subscriptions, mode))
        self._on_depth()
        self._start_threads()
        self._arrived.notify()
        return True

    def _start_threads(self) -> None:
        if self._shift is None and not self._closing:
            self._start_shift(_Shift())
            self._watch_thread = start_thread(self._watch, "tasker-events-bus-watch")

    def _is_idle(self) -> bool:
        shift = self._shift
        return not self._waiting and (shift is None or (shift.calling is None and not shift.remaining))

    def _start_shift(self, shift: _Shift) -> None:
        shift.thread = start_thread(lambda: self._work(shift), "tasker-events-bus")
        self._shift = shift

    def _work(self, shift: _Shift) -> None:
        try:
            # What a call was about is forgotten before the next one is waited for: an event may be large.
            while self._call_next(shift):
                pass
        finally:
            shift.caller.close()

    def _call_next(self, shift: _Shift) -> bool:
        call = self._next_call(shift)
        if call is not None:
            self._call(shift, *call)
        return call is not None

    def _next_call(self, shift: _Shift) -> tuple[Subscription, DomainEvent] | None:
        with self._lock:
            shift.calling = None
            while True:
                if not shift.relieved and not shift.remaining:
                    self._wait_for_event(shift)
                if shift.relieved or self._closing or shift.event is None:
                    return None
                subscription = shift.remaining.popleft()
                if not (subscription.active and self._registry.running):
                    self._count("skipped", shift.event, "unsubscribed", shift.mode)
                elif not self._suspensions.allows(subscription):
                    self._count("dropped", shift.event, "subscriber suspended", shift.mode)
                else:
                    break
            shift.calling = subscription
            shift.started = time.monotonic()
            shift.due = shift.started + self._timeout
            shift.tally = self._registry.book.begin(subscription)
            if shift.due < self._watch_wakes:
                # Told once: until it has the lock again, the calls that follow would tell it the same.
                self._watch_wakes = 0.0
                self._busy.notify()
            return subscription, shift.event

    def _wait_for_event(self, shift: _Shift) -> None:
        if not self._waiting:
            shift.event = None
            self._idle.notify_all()
            self._arrived.wait_for(lambda: self._waiting or self._closing)
        if self._waiting:
            shift.event, subscriptions, shift.mode = self._waiting.popleft()
            self._on_depth()
            shift.remaining.extend(subscriptions)

    def _call(self, shift: _Shift, subscription: Subscription, event: DomainEvent) -> None:
        result, error = self._result(shift, subscription, event)
        if os.getpid() != shift.pid:
            # The subscriber has forked, and this is the child: what waits is the parent's to deliver.
            os._exit(0)
        counted, changed = self._end_call(shift, result)
        if error is not None and result is CallResult.FAILED:
            self._tell_failure(subscription, event, error)
        elif result is CallResult.TIMED_OUT and counted:
            self._tell_timeout(subscription, event, "it is cancelled")
        if changed:
            self._tell_suspension(subscription, suspended=result is CallResult.TIMED_OUT)

    def _result(self, shift: _Shift, subscription: Subscription, event: DomainEvent) -> tuple[CallResult, BaseException | None]:
        try:
            handled = shift.caller.call(steps_of(subscription.handler, event), self._timeout, lambda: self._postpone(shift))
        except SubscriberTimeout:
            return CallResult.TIMED_OUT, None
        except BaseException as error:  # the thread must outlive whatever a subscriber raises, SystemExit included
            return CallResult.FAILED, error
        return CallResult.HANDLED if handled else CallResult.SKIPPED, None

    def _postpone(self, shift: _Shift) -> None:
        # A coroutine is cancelled in time; its thread is relieved only where it does not let itself be cancelled.
        with self._lock:
            shift.due = shift.started + self._timeout + GRACE

    def _end_call(self, shift: _Shift, result: CallResult) -> tuple[bool, bool]:
        """Count how a call ended, unless it is counted as too long already.

        Returns:
            Whether it was counted, and whether its subscriber is suspended for it, or was until now.
        """
        assert shift.calling is not None
        with self._lock:
            shift.due = None
            if shift.relieved:
                self._suspensions.returned(shift.calling)
                return False, False
            self._count_call(shift, result)
            if result is CallResult.TIMED_OUT:
                return True, self._suspensions.timed_out(shift.calling, hangs=False)
            return True, self._suspensions.in_time(shift.calling)

    def _count_call(self, shift: _Shift, result: CallResult) -> None:
        assert shift.calling is not None
        assert shift.event is not None
        assert shift.tally is not None
        value = result.value
        self._registry.book.end(shift.tally, value, time.monotonic() - shift.started)
        self._counters.add_call(shift.calling.name, value)
        name, reason = _COUNTED[value]
        self._count(name, shift.event, reason, shift.mode)

    def _watch(self) -> None:
        while self._watch_next():
            pass

    def _watch_next(self) -> bool:
        late = self._next_late_call()
        if late is not None:
            subscription, event, suspended = late
            self._tell_timeout(subscription, event, "it is left behind")
            if suspended:
                self._tell_suspension(subscription, suspended=True)
        return late is not None

    def _next_late_call(self) -> tuple[Subscription, DomainEvent, bool] | None:
        with self._lock:
            while not self._closing:
                shift, now = self._shift, time.monotonic()
                if shift is not None and shift.due is not None and shift.due <= now:
                    return self._relieve(shift)
                self._watch_wakes = self._next_look(shift, now)
                self._looked = now
                self._busy.wait(None if self._watch_wakes == math.inf else self._watch_wakes - now)
                self._watch_wakes = 0.0
        return None

    def _next_look(self, shift: _Shift | None, now: float) -> float:
        """When a call can be late at the earliest. While calls follow each other, none of them has to wake the watch."""
        if shift is not None and shift.due is not None:
            return shift.due
        return now + self._timeout if shift is not None and shift.started > self._looked else math.inf

    def _relieve(self, shift: _Shift) -> tuple[Subscription, DomainEvent, bool]:
        assert shift.calling is not None
        assert shift.event is not None
        shift.relieved = True
        self._count_call(shift, CallResult.TIMED_OUT)
        suspended = self._suspensions.timed_out(shift.calling, hangs=True)
        self._start_shift(_Shift(event=shift.event, mode=shift.mode, remaining=shift.remaining))
        return shift.calling, shift.event, suspended

    def _tell_timeout(self, subscription: Subscription, event: DomainEvent, consequence: str) -> None:
        logger.warning(
            "Subscriber %s has not returned within %g s: %s, the others get the event",
            subscription.name,
            self._timeout,
            consequence,
            extra=failure_fields(event_fields(event), SubscriberTimeout(f"not returned within {self._timeout:g} s")),
        )

    def _tell_suspension(self, subscription: Subscription, *, suspended: bool) -> None:
        if suspended:
            told = "Subscriber %s has not returned in time %d times: it gets no events until it is tried again"
            logger.warning(told, subscription.name, MAX_TIMEOUTS)
        else:
            logger.warning("Subscriber %s has returned in time: it gets events again", subscription.name)

    def _tell_failure(self, subscription: Subscription, event: DomainEvent, error: BaseException) -> None:
        if self._log_errors:
            told = error_fields(error)
            logger.warning(
                "Subscriber %s failed: %s: %s",
                subscription.name,
                told["error_type"],
                told["error"],
                exc_info=error,
                extra=failure_fields(event_fields(event), error),
            )

    def _count(self, name: str, event: DomainEvent, reason: str, mode: str) -> None:
        self._counters.add(name, event.event_name, event.metadata.namespace, reason, mode=mode)


#: Counter and reason of each way in which a call can end.
_COUNTED = {
    CallResult.HANDLED.value: ("dispatched", ""),
    CallResult.SKIPPED.value: ("skipped", "before_handle"),
    CallResult.FAILED.value: ("failed", "subscriber error"),
    CallResult.TIMED_OUT.value: ("failed", "subscriber timeout"),
}
