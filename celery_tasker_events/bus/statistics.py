"""How each subscriber of one process fares: how many events it got, and what became of them."""

from __future__ import annotations

import datetime
import threading
import time
import weakref
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery_tasker_events.bus.registry import Subscription

__all__ = ["CallResult", "CallTally", "StatisticsBook", "SubscriberStatistics"]


class CallResult(Enum):
    """How one call of a subscriber ended."""

    HANDLED = "handled"
    SKIPPED = "skipped"
    FAILED = "failed"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True)
class SubscriberStatistics:
    """What one subscriber did in this process so far.

    Attributes:
        name: Module and qualified name of the function or class.
        patterns: What it subscribes to.
        received: Events that it was called for; those that it is still busy with included.
        handled: Calls that returned.
        skipped: Calls whose ``before_handle`` returned False.
        failed: Calls that raised.
        timed_out: Calls that outstayed ``dispatch_timeout_ms``.
        last_event_at: When it was called last, UTC; None if never.
        total_time_ms: Milliseconds that all its calls took together.
    """

    name: str
    patterns: tuple[str, ...]
    received: int = 0
    handled: int = 0
    skipped: int = 0
    failed: int = 0
    timed_out: int = 0
    last_event_at: datetime.datetime | None = None
    total_time_ms: float = 0.0


class CallTally:
    """What one subscriber's calls have come to; the book that it is in changes it."""

    def __init__(self) -> None:
        self.received = 0
        # By name: an enum's hash is computed in Python each time.
        self.ended = dict.fromkeys((result.value for result in CallResult), 0)
        self.last_at: float | None = None
        self.seconds = 0.0


class StatisticsBook:
    """Thread-safe tallies by subscription; that of a removed one goes with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tallies: weakref.WeakKeyDictionary[Subscription, CallTally] = weakref.WeakKeyDictionary()

    def begin(self, subscription: Subscription) -> CallTally:
        """Note that a call begins; return where its end is to be noted."""
        with self._lock:
            tally = self._tallies.get(subscription)
            if tally is None:
                tally = self._tallies[subscription] = CallTally()
            tally.received += 1
            tally.last_at = time.time()
            return tally

    def end(self, tally: CallTally, result: str, seconds: float) -> None:
        """Note that a call has ended.

        Args:
            result: The value of its CallResult.
        """
        with self._lock:
            tally.ended[result] += 1
            tally.seconds += seconds

    def of(self, subscription: Subscription) -> SubscriberStatistics:
        with self._lock:
            tally = self._tallies.get(subscription, CallTally())
            return SubscriberStatistics(
                name=subscription.name,
                patterns=tuple(pattern.text for pattern in subscription.patterns),
                received=tally.received,
                last_event_at=None
                if tally.last_at is None
                else datetime.datetime.fromtimestamp(tally.last_at, datetime.timezone.utc),
                total_time_ms=tally.seconds * 1000,
                **tally.ended,
            )
