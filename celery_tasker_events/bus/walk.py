"""The walk of an event from subscriber to subscriber, and the counts of the calls."""

from __future__ import annotations

import operator
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

from celery_tasker_events.bus.registry import Subscription
from celery_tasker_events.bus.statistics import CallResult, CallTally, StatisticsBook, TallyPage
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.telemetry.counters import Counters

__all__ = ["Listener", "Walk"]

#: Seconds after which the calls that were handled are counted, in one go: to count each by itself takes longer than a call.
_WRITE_AFTER = 0.01

#: Names whose audience is remembered. Events that are published by hand may have any number of names.
_LIMIT = 1000


class Listener:
    """A subscription, as one bus calls it."""

    __slots__ = ("call", "subscription", "tally")

    def __init__(self, subscription: Subscription, tally: CallTally) -> None:
        self.subscription = subscription
        self.call = subscription.call
        self.tally = tally


class _Audience:
    """All who want the events of one name, in order."""

    __slots__ = ("event_name", "listeners", "subscriptions")

    def __init__(self, event_name: str, subscriptions: Sequence[Subscription], listeners: tuple[Listener, ...]) -> None:
        self.event_name = event_name
        self.subscriptions = subscriptions
        self.listeners = listeners


class Walk:
    """Takes one event after the other to its listeners. Not thread-safe: see :class:`~celery_tasker_events.bus.shift.Shift`.

    Attributes:
        event: None between two events.
        remaining: Who has not been called for it.
        offset: Makes a POSIX timestamp of the monotonic clock.
        write_at: When it is time for :meth:`write_down`, on the monotonic clock.
    """

    def __init__(self, counters: Counters) -> None:
        self.event: DomainEvent | None = None
        self.remaining: Iterator[Listener] = iter(())
        self.offset = 0.0
        self.write_at = 0.0
        self._counters = counters
        self._mode = ""
        self._audience = _Audience("", (), ())
        # How many of the listeners were counted, or need not be.
        self._settled = 0
        self._handled: defaultdict[tuple[_Audience, str, str], int] = defaultdict(int)
        self._audiences: dict[str, _Audience] = {}
        self._book = StatisticsBook()
        self._page = TallyPage()

    def start(self, book: StatisticsBook) -> None:
        """Keep statistics there from now on."""
        self._book = book
        self._page = book.take_page()
        self.set_clocks()

    def stop(self) -> None:
        """There will be no more events."""
        self.write_down()
        self.event = None
        self._book.give_back(self._page)

    def set_clocks(self) -> None:
        """Begin to count time, after a wait."""
        now = time.monotonic()
        self.offset = time.time() - now
        self.write_at = now + _WRITE_AFTER

    def begin(self, event: DomainEvent, subscriptions: Sequence[Subscription], mode: str) -> None:
        """Take the next event.

        Args:
            mode: Its delivery mode.
        """
        audience = self._audiences.get(event.event_name)
        if audience is None or audience.subscriptions is not subscriptions:
            audience = self._gather(event.event_name, subscriptions)
        self.event = event
        self.remaining = iter(audience.listeners)
        self._mode = mode
        self._audience = audience
        self._settled = 0

    def end(self) -> None:
        """The event has been everywhere; it is forgotten, as it may be large."""
        self._add_handled(len(self._audience.listeners) - self._settled)
        self.event = None

    def current(self) -> Listener:
        """Who was called last."""
        return self._audience.listeners[self._begun() - 1]

    def miss(self, name: str, reason: str) -> None:
        """Count that the listener that is next does not get the event."""
        assert self.event is not None
        self._settled += 1
        self._counters.add(name, self.event.event_name, self.event.metadata.namespace, reason, mode=self._mode)

    def break_off(self) -> None:
        """Nobody is called any more, the listener that is next neither."""
        if self._begun() == 1:
            # Nobody has had the event: it is one of those that still wait.
            self.miss("dropped", "shutdown")
        else:
            self._settled += 1

    def settle(self, listener: Listener, result: str) -> None:
        """Count a call that was not handled.

        Args:
            result: The value of its CallResult.
        """
        listener.tally.otherwise[result] += 1
        self._counters.add_call(listener.subscription.name, result)
        self.miss(*_COUNTED[result])

    def write_down(self, going_on: int = 0) -> None:
        """Count what was handled since the last time. Statistics have it already.

        Args:
            going_on: How many calls have begun and not ended.
        """
        if self.event is not None:
            handled = self._begun() - going_on - self._settled
            self._settled += handled
            self._add_handled(handled)
        for (audience, namespace, mode), handled in self._handled.items():
            self._counters.add("dispatched", audience.event_name, namespace, amount=handled, mode=mode)
        for audience in {audience for audience, _, _ in self._handled}:
            for listener in audience.listeners:
                if unwritten := listener.tally.take_unwritten():
                    self._counters.add_call(listener.subscription.name, CallResult.HANDLED.value, unwritten)
        self._handled.clear()
        self.set_clocks()

    def _begun(self) -> int:
        return len(self._audience.listeners) - operator.length_hint(self.remaining)

    def _add_handled(self, calls: int) -> None:
        if calls:
            assert self.event is not None
            self._handled[self._audience, self.event.metadata.namespace, self._mode] += calls

    def _gather(self, event_name: str, subscriptions: Sequence[Subscription]) -> _Audience:
        if event_name in self._audiences or len(self._audiences) >= _LIMIT:
            # Somebody came or went. Who went may be known by other names, too, and is to be forgotten.
            self._audiences.clear()
        listeners = tuple(Listener(subscription, self._page.tally_of(subscription)) for subscription in subscriptions)
        audience = self._audiences[event_name] = _Audience(event_name, subscriptions, listeners)
        return audience


#: Counter and reason of each way in which a call can end that is not HANDLED.
_COUNTED = {
    CallResult.SKIPPED.value: ("skipped", "before_handle"),
    CallResult.FAILED.value: ("failed", "subscriber error"),
    CallResult.TIMED_OUT.value: ("failed", "subscriber timeout"),
}
