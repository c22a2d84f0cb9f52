"""How each subscriber of one process fares: how many events it got, and what became of them."""

from __future__ import annotations

import datetime
import weakref
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery_tasker_events.bus.registry import Subscription

__all__ = ["CallResult", "CallTally", "StatisticsBook", "SubscriberStatistics", "TallyPage"]


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
    """What one subscriber's calls by one bus have come to. Any thread may read it; only one changes it."""

    __slots__ = ("handled", "last_at", "otherwise", "received", "seconds", "written")

    def __init__(self) -> None:
        self.received = 0
        self.handled = 0
        # By name: an enum's hash is computed in Python each time.
        self.otherwise = {result.value: 0 for result in CallResult if result is not CallResult.HANDLED}
        self.last_at: float | None = None
        self.seconds = 0.0
        self.written = 0

    def take_unwritten(self) -> int:
        """How many calls were handled since this was asked last."""
        unwritten = self.handled - self.written
        self.written = self.handled
        return unwritten


class TallyPage:
    """The tallies of one bus, by subscription; that of a removed one goes with it."""

    def __init__(self) -> None:
        self._tallies: weakref.WeakKeyDictionary[Subscription, CallTally] = weakref.WeakKeyDictionary()

    def tally_of(self, subscription: Subscription) -> CallTally:
        return self._tallies.setdefault(subscription, CallTally())

    def find(self, subscription: Subscription) -> CallTally | None:
        return self._tallies.get(subscription)


class StatisticsBook:
    """All tallies of a registry in this process. Thread-safe without a lock: each bus writes on a page of its own."""

    def __init__(self) -> None:
        self._pages: list[TallyPage] = []
        self._free: list[TallyPage] = []

    def take_page(self) -> TallyPage:
        """Return a page that nobody else uses until it is given back. What is on it stays there, and counts."""
        try:
            return self._free.pop()
        except IndexError:
            page = TallyPage()
            self._pages.append(page)
            return page

    def give_back(self, page: TallyPage) -> None:
        self._free.append(page)

    def of(self, subscription: Subscription) -> SubscriberStatistics:
        tallies = [tally for page in list(self._pages) if (tally := page.find(subscription)) is not None]
        # How calls ended is read before how many began, so that they are never more.
        handled = sum(tally.handled for tally in tallies)
        otherwise = {result: sum(tally.otherwise[result] for tally in tallies) for result in CallTally().otherwise}
        last_at = max((tally.last_at for tally in tallies if tally.last_at is not None), default=None)
        return SubscriberStatistics(
            name=subscription.name,
            patterns=tuple(pattern.text for pattern in subscription.patterns),
            received=sum(tally.received for tally in tallies),
            handled=handled,
            last_event_at=None if last_at is None else datetime.datetime.fromtimestamp(last_at, datetime.timezone.utc),
            total_time_ms=sum(tally.seconds for tally in tallies) * 1000,
            **otherwise,
        )
