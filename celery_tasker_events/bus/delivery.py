"""Calls the subscribers of one event, one after the other, on the thread whose shift it is."""

from __future__ import annotations

import functools
import threading
from time import monotonic
from typing import Any

from celery_tasker_events.bus.calling import SubscriberTimeout
from celery_tasker_events.bus.notices import Notices
from celery_tasker_events.bus.registry import SubscriberRegistry
from celery_tasker_events.bus.shift import Shift
from celery_tasker_events.bus.statistics import CallResult
from celery_tasker_events.bus.subscriber import BaseSubscriber
from celery_tasker_events.bus.suspension import Suspensions
from celery_tasker_events.bus.walk import Listener, Walk

__all__ = ["Delivery"]

_HANDLED, _SKIPPED, _FAILED, _TIMED_OUT = (result.value for result in CallResult)


class Delivery:
    """What the threads of a bus do for each event. For nearly all calls that takes no lock: see :class:`Shift`.

    Args:
        lock: That of the bus, with which marks are taken and suspensions are changed.
        timeout: Seconds that one subscriber may take for one event.

    Attributes:
        closing: Nobody is called any more.
    """

    def __init__(
        self, registry: SubscriberRegistry, walk: Walk, lock: threading.Lock, notices: Notices, *, timeout: float
    ) -> None:
        self.closing = False
        self.suspensions = Suspensions()
        self._registry = registry
        self._walk = walk
        self._lock = lock
        self._notices = notices
        self._timeout = timeout

    def deliver(self, shift: Shift) -> bool:
        """Take the event to all who have not had it; return False if the thread was relieved, or if the bus is closed."""
        walk, registry, suspensions, marks = self._walk, self._registry, self.suspensions, shift.marks
        event = walk.event
        assert event is not None
        began = monotonic()
        for listener in walk.remaining:
            if not listener.subscription.active or not registry.running or suspensions.in_force:
                allowed = self._may_have(listener)
                began = monotonic()
                if not allowed:
                    continue
            tally = listener.tally
            tally.received += 1
            tally.last_at = began + walk.offset
            marks.append(began)
            # Only now: whoever closes the bus finds the mark of this call, or this call is not made.
            if self.closing:
                return self._break_off(shift, listener)
            try:
                value = listener.call(event)
            except BaseException as error:  # the thread must outlive whatever a subscriber raises, SystemExit included
                goes_on = self._end(shift, listener, began, _FAILED, error)
            else:
                if value is None and not suspensions.in_force:
                    # What _end does, for nearly all calls.
                    ended = monotonic()
                    try:
                        marks.pop()
                    except IndexError:
                        if not self._gets_back(shift, listener):
                            return False
                    tally.handled += 1
                    tally.seconds += ended - began
                    began = ended
                    if ended > walk.write_at:
                        walk.write_down()
                        began = monotonic()
                    continue
                goes_on = self._finish(shift, listener, began, value)
            if not goes_on:
                return False
            began = monotonic()
        walk.end()
        return True

    def _may_have(self, listener: Listener) -> bool:
        """Whether the listener is still to be called; if not, that is counted."""
        if not (listener.subscription.active and self._registry.running):
            self._walk.miss("skipped", "unsubscribed")
            return False
        with self._lock:
            allowed = self.suspensions.allows(listener.subscription)
        if not allowed:
            self._walk.miss("dropped", "subscriber suspended")
        return allowed

    def _finish(self, shift: Shift, listener: Listener, began: float, value: Any) -> bool:
        """Do what is left to do of a call that has returned a value; return False if the thread was relieved of it."""
        try:
            handled = self._result(listener, value, shift, began)
        except SubscriberTimeout:
            return self._end(shift, listener, began, _TIMED_OUT)
        except BaseException as error:
            return self._end(shift, listener, began, _FAILED, error)
        return self._end(shift, listener, began, _HANDLED if handled else _SKIPPED)

    def _result(self, listener: Listener, value: Any, shift: Shift, began: float) -> bool:
        deadline, before_waiting = began + self._timeout, functools.partial(shift.waits, began)
        if isinstance(listener.subscription.handler, BaseSubscriber):
            return shift.caller.call(value, deadline, before_waiting)
        shift.caller.result_of(value, deadline, before_waiting)
        return True

    def _end(self, shift: Shift, listener: Listener, began: float, result: str, error: BaseException | None = None) -> bool:
        """Count how a call ended, and tell; return False if the thread was relieved of it."""
        ended = monotonic()
        try:
            shift.marks.pop()
        except IndexError:
            if not self._gets_back(shift, listener):
                return False
        walk, notices, subscription = self._walk, self._notices, listener.subscription
        listener.tally.seconds += ended - began
        if result == _HANDLED:
            listener.tally.handled += 1
        else:
            walk.settle(listener, result)
        changed = self._changes_suspension(listener, result)
        if error is not None:
            assert walk.event is not None
            notices.failed(subscription, walk.event, error)
        if result == _TIMED_OUT:
            assert walk.event is not None
            notices.timed_out(subscription, walk.event, "it is cancelled")
        if changed:
            (notices.suspended if result == _TIMED_OUT else notices.resumed)(subscription)
        if ended > walk.write_at:
            walk.write_down()
        return True

    def _changes_suspension(self, listener: Listener, result: str) -> bool:
        """Note how a call ended; return whether its subscriber is suspended for it, or was until now."""
        if result == _TIMED_OUT:
            with self._lock:
                return self.suspensions.timed_out(listener.subscription, hangs=False)
        if not self.suspensions.in_force:
            return False
        with self._lock:
            return self.suspensions.in_time(listener.subscription)

    def _gets_back(self, shift: Shift, listener: Listener) -> bool:
        shift.end_if_forked()
        with self._lock:
            if shift.gets_back():
                return True
            self.suspensions.returned(listener.subscription)
            return False

    def _break_off(self, shift: Shift, listener: Listener) -> bool:
        try:
            shift.marks.pop()
        except IndexError:
            self._gets_back(shift, listener)
        listener.tally.received -= 1
        self._walk.break_off()
        return False
