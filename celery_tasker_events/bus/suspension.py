"""Suspension: a subscriber that keeps outstaying its timeout gets no events for a while, so that the others get theirs."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery_tasker_events.bus.registry import Subscription

__all__ = ["MAX_TIMEOUTS", "PAUSE", "Suspensions"]

#: Timeouts in a row after which a subscriber is suspended, and calls of it that may hang at the same time. Each hanging call
#: of a plain function keeps a thread.
MAX_TIMEOUTS = 3

#: Seconds until a suspended subscriber is tried with one event again.
PAUSE = 60.0


class _Record:
    in_a_row = 0
    hanging = 0
    next_try = 0.0
    suspended = False


class Suspensions:
    """Which subscribers are suspended. Not thread-safe.

    Args:
        pause: Seconds until one is tried again. Never while :data:`MAX_TIMEOUTS` of its calls hang.

    Attributes:
        in_force: False while nobody has taken too long: then everybody may be called, and there is nothing to note in time.
    """

    def __init__(self, pause: float = PAUSE) -> None:
        self.in_force = False
        self._pause = pause
        self._records: weakref.WeakKeyDictionary[Subscription, _Record] = weakref.WeakKeyDictionary()

    def allows(self, subscription: Subscription) -> bool:
        """Whether the subscriber may be called now."""
        record = self._records.get(subscription)
        if record is None or not record.suspended:
            return True
        return record.hanging < MAX_TIMEOUTS and time.monotonic() >= record.next_try

    def timed_out(self, subscription: Subscription, *, hangs: bool) -> bool:
        """Note that a call took too long; return whether the subscriber is suspended for it now, and was not before.

        Args:
            hangs: Whether the call goes on: :meth:`returned` is told when it ends.
        """
        self.in_force = True
        record = self._records.setdefault(subscription, _Record())
        record.in_a_row += 1
        record.hanging += hangs
        record.next_try = time.monotonic() + self._pause
        before, record.suspended = record.suspended, record.suspended or MAX_TIMEOUTS in (record.in_a_row, record.hanging)
        return record.suspended and not before

    def returned(self, subscription: Subscription) -> None:
        """Note that a call that took too long has ended after all."""
        self._records.setdefault(subscription, _Record()).hanging -= 1

    def in_time(self, subscription: Subscription) -> bool:
        """Note that a call ended in time; return whether the subscriber was suspended before it."""
        record = self._records.get(subscription)
        before = record is not None and record.suspended
        if record is not None:
            record.suspended, record.in_a_row = False, 0
            if not record.hanging:
                del self._records[subscription]
        self.in_force = len(self._records) > 0
        return before
